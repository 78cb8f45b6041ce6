//! The driver of `lvm`: one method for each thing that we ask of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hawser_command::{Command, CommandError, Lane, Output};

use crate::error::{LvmError, Refusal, recognise};
use crate::names::{check_device, check_lv, check_lv_uuid, check_pv_uuid, check_tag, check_vg};
use crate::options::Hints;
use crate::{Options, Outcome, Report, parse};

/// A logical volume to be made: linear, not zeroed, signatures in it left alone (what was there before was wiped on its removal;
/// what a foreign volume left there is not ours to judge before it is written).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateLv {
    pub vg: String,
    pub name: String,
    /// At least 1.
    pub extents: u64,
    pub tags: Vec<String>,
    /// Whether its device appears at once.
    pub activate: bool,
    /// Physical volumes to take extents from; empty: any.
    pub devices: Vec<PathBuf>,
}

/// Version of lvm2, as `(2, 3, 31)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub number: (u32, u32, u32),
    /// As the tool says it, with its date.
    pub text: String,
    /// Of the kernel's device-mapper; empty if the kernel has none.
    pub driver: String,
}

/// Drives the `lvm` program. Cheap to clone; of what there is it remembers nothing. LVM itself serialises changes of one volume group.
#[derive(Debug, Clone)]
pub struct Lvm {
    options: Arc<Options>,
    /// Reports read every disk, and hang with the first that does not answer.
    reports: Lane,
}

impl Lvm {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            reports: Lane::default(),
        }
    }

    fn command(&self, verb: &str) -> Command {
        self.configured(verb, Hints::Leave)
    }

    fn configured(&self, verb: &str, hints: Hints) -> Command {
        Command::new(&self.options.lvm)
            .arg(verb)
            .args(["--config", &self.options.config(hints)])
            .deadline(self.options.read_deadline)
    }

    fn changing(&self, verb: &str) -> Command {
        self.command(verb).deadline(self.options.change_deadline)
    }

    /// As [`Self::changing`], for commands after which other devices are physical volumes, or of another group: the host's lvm must notice.
    fn changing_disks(&self, verb: &str) -> Command {
        self.configured(verb, Hints::Outdate)
            .deadline(self.options.change_deadline)
    }

    /// Runs a change in a task of its own: if the caller's future is dropped, the change still comes to its end.
    async fn change(&self, object: String, command: Command) -> Result<Output, LvmError> {
        tracing::info!(argv = ?without_config(&command.argv()), "changing LVM");
        let result = tokio::spawn(async move { command.run().await }).await;
        match result {
            Ok(result) => result.map_err(|e| LvmError::from_command(object, e)),
            Err(_cancelled) => Err(LvmError::Shutdown { object }),
        }
    }

    /// Version of the tool and of the kernel's driver. Fails if the tool is not installed.
    pub async fn version(&self) -> Result<Version, LvmError> {
        let output = self
            .command("version")
            .run()
            .await
            .map_err(|e| LvmError::from_command("lvm version", e))?;
        version(&output.stdout_text())
    }

    /// Everything there is, in one call. Complaints (missing or duplicate devices) do not make it fail: they come as
    /// [`Report::warnings`]. While an earlier one waits for a device and can't even be killed, this fails at once.
    pub async fn report(&self) -> Result<Report, LvmError> {
        let output = self
            .report_command()
            .lane(&self.reports)
            .output()
            .await
            .map_err(|e| LvmError::from_command("lvm fullreport", e))?;
        let stderr = output.stderr_text();
        match parse::report(&output.stdout, &stderr) {
            Ok(report) => Ok(report),
            Err(_) if !output.exit.success() => Err(LvmError::from_command(
                "lvm fullreport",
                CommandError::Failed(Box::new(output)),
            )),
            Err(error) => Err(error),
        }
    }

    fn report_command(&self) -> Command {
        let mut command = self.command("fullreport").args([
            "--reportformat",
            "json",
            "--units",
            "b",
            "--nosuffix",
            "--binary",
            "--all",
        ]);
        for (report, columns) in parse::COLUMNS {
            command = command.args(["--configreport", report, "-o", columns]);
        }
        command
    }

    /// Makes a device a physical volume. Refuses a device that carries any signature ([`Refusal::Signature`]): without `--yes`
    /// and without input, LVM takes its own question for answered with no. An orphan physical volume is made anew.
    ///
    /// A chosen `uuid` (see [`crate::names::check_pv_uuid`]) lets a later look tell our physical volume from another's.
    pub async fn pv_create(&self, device: &Path, uuid: Option<&str>) -> Result<(), LvmError> {
        check_device(device)?;
        let mut command = self.changing_disks("pvcreate");
        if let Some(uuid) = uuid {
            check_pv_uuid(uuid)?;
            command = command.args(["--uuid", uuid, "--norestorefile"]);
        }
        let command = command.arg("--").arg(device);
        self.change(device.display().to_string(), command).await?;
        Ok(())
    }

    /// Takes the physical volume's label off a device that is in no volume group.
    pub async fn pv_remove(&self, device: &Path) -> Result<(), LvmError> {
        check_device(device)?;
        let command = self.changing_disks("pvremove").arg("--").arg(device);
        self.change(device.display().to_string(), command).await?;
        Ok(())
    }

    /// Makes a physical volume as large as its device has become.
    pub async fn pv_resize(&self, device: &Path) -> Result<(), LvmError> {
        check_device(device)?;
        let command = self.changing("pvresize").arg("--").arg(device);
        self.change(device.display().to_string(), command).await?;
        Ok(())
    }

    /// Makes a volume group of devices that are orphan physical volumes.
    pub async fn vg_create(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
        check_vg(vg)?;
        check_devices(vg, devices)?;
        let command = self
            .changing_disks("vgcreate")
            .arg("--")
            .arg(vg)
            .args(devices);
        self.change(vg.to_owned(), command).await?;
        Ok(())
    }

    /// Adds orphan physical volumes to a volume group. Look first whether the group exists: for an unknown group LVM turns the
    /// devices into physical volumes before it fails.
    pub async fn vg_extend(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
        check_vg(vg)?;
        check_devices(vg, devices)?;
        let command = self
            .changing_disks("vgextend")
            .arg("--")
            .arg(vg)
            .args(devices);
        self.change(vg.to_owned(), command).await?;
        Ok(())
    }

    /// Takes an empty physical volume out of a volume group.
    pub async fn vg_reduce(&self, vg: &str, device: &Path) -> Result<(), LvmError> {
        check_vg(vg)?;
        check_device(device)?;
        let command = self
            .changing_disks("vgreduce")
            .arg("--")
            .arg(vg)
            .arg(device);
        self.change(vg.to_owned(), command).await?;
        Ok(())
    }

    /// Removes a volume group without logical volumes: LVM would have to ask otherwise, and takes no answer for no.
    pub async fn vg_remove(&self, vg: &str) -> Result<Outcome, LvmError> {
        check_vg(vg)?;
        let command = self.changing("vgremove").arg("--").arg(vg);
        already_if(self.change(vg.to_owned(), command).await, Refusal::NotFound)
    }

    /// Activates all logical volumes of a volume group. Repeatable.
    pub async fn vg_activate(&self, vg: &str) -> Result<(), LvmError> {
        check_vg(vg)?;
        let command = self.changing("vgchange").args(["-ay", "--", vg]);
        self.change(vg.to_owned(), command).await?;
        Ok(())
    }

    /// Makes a logical volume. [`Refusal::Exists`] if the name is taken: compare what is there with what was wanted.
    pub async fn lv_create(&self, create: &CreateLv) -> Result<(), LvmError> {
        let (object, command) = self.lv_create_command(create)?;
        self.change(object, command).await?;
        Ok(())
    }

    fn lv_create_command(&self, create: &CreateLv) -> Result<(String, Command), LvmError> {
        let object = lv_object(&create.vg, &create.name)?;
        for device in &create.devices {
            check_device(device)?;
        }
        if create.extents == 0 {
            return Err(LvmError::Request {
                object,
                problem: "0 extents asked, at least 1 is needed".to_owned(),
            });
        }
        let mut command = self
            .changing("lvcreate")
            .args(["--yes", "--type", "linear"])
            .args(["--wipesignatures", "n", "--zero", "n"])
            .args(["--activate", if create.activate { "y" } else { "n" }])
            .args(["--extents", &create.extents.to_string()])
            .args(["--name", &create.name]);
        for tag in &create.tags {
            check_tag(tag)?;
            command = command.args(["--addtag", tag]);
        }
        let command = command.arg("--").arg(&create.vg).args(&create.devices);
        Ok((object, command))
    }

    /// Grows a logical volume to `extents` in all. As large or larger already: [`Outcome::Already`]. Never shrinks. The file
    /// system in it stays as it is.
    pub async fn lv_extend(&self, vg: &str, lv: &str, extents: u64) -> Result<Outcome, LvmError> {
        let object = lv_object(vg, lv)?;
        let command =
            self.changing("lvextend")
                .args(["--extents", &extents.to_string(), "--", &object]);
        match self.change(object, command).await {
            Ok(_) => Ok(Outcome::Changed),
            Err(error) if large_enough(&error) => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    /// Removes the logical volume of this name and UUID and frees its extents; [`Refusal::InUse`] while it is open.
    ///
    /// LVM removes an origin's snapshots along with it, without asking if told `--yes`. So it is told to select by what is true
    /// under its own lock: another volume that got the name meanwhile, and one with snapshots, are [`LvmError::Spared`]. Selecting
    /// nothing is no error to LVM; that it removed something shows in what it says (2.03.16 and 2.03.31: `... successfully removed`).
    pub async fn lv_remove(&self, vg: &str, lv: &str, uuid: &str) -> Result<Outcome, LvmError> {
        let object = lv_object(vg, lv)?;
        check_lv_uuid(uuid)?;
        let select = format!("lv_uuid=\"{uuid}\" && lv_role!={{origin}}");
        let command = self
            .changing("lvremove")
            .args(["--yes", "--select", &select, "--", &object]);
        match self.change(object.clone(), command).await {
            Ok(output) if was_removed(&output.stdout_text()) => Ok(Outcome::Changed),
            Ok(_) => Err(LvmError::Spared { object }),
            Err(error) if error.is(Refusal::NotFound) => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    /// Adds and deletes tags in one change of the metadata. Repeatable.
    pub async fn lv_change_tags(
        &self,
        vg: &str,
        lv: &str,
        add: &[String],
        delete: &[String],
    ) -> Result<Outcome, LvmError> {
        let object = lv_object(vg, lv)?;
        if add.is_empty() && delete.is_empty() {
            return Ok(Outcome::Already);
        }
        let mut command = self.changing("lvchange");
        for (option, tags) in [("--addtag", add), ("--deltag", delete)] {
            for tag in tags {
                check_tag(tag)?;
                command = command.args([option, tag]);
            }
        }
        let command = command.args(["--", &object]);
        self.change(object, command).await?;
        Ok(Outcome::Changed)
    }

    /// Makes the logical volume's device appear. Repeatable.
    pub async fn lv_activate(&self, vg: &str, lv: &str) -> Result<(), LvmError> {
        let object = lv_object(vg, lv)?;
        // Snapshots and others may be marked to be skipped at activation; who calls this means it.
        let command =
            self.changing("lvchange")
                .args(["-ay", "--ignoreactivationskip", "--", &object]);
        self.change(object, command).await?;
        Ok(())
    }

    /// Makes the logical volume's device go; [`Refusal::InUse`] while it is open. Repeatable.
    pub async fn lv_deactivate(&self, vg: &str, lv: &str) -> Result<(), LvmError> {
        let object = lv_object(vg, lv)?;
        let command = self.changing("lvchange").args(["-an", "--", &object]);
        self.change(object, command).await?;
        Ok(())
    }
}

fn lv_object(vg: &str, lv: &str) -> Result<String, LvmError> {
    check_vg(vg)?;
    check_lv(lv)?;
    Ok(format!("{vg}/{lv}"))
}

fn check_devices(vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
    if devices.is_empty() {
        return Err(LvmError::Request {
            object: vg.to_owned(),
            problem: "no device given".to_owned(),
        });
    }
    Ok(devices.iter().try_for_each(|d| check_device(d))?)
}

fn already_if(result: Result<Output, LvmError>, refusal: Refusal) -> Result<Outcome, LvmError> {
    match result {
        Ok(_) => Ok(Outcome::Changed),
        Err(error) if error.is(refusal) => Ok(Outcome::Already),
        Err(error) => Err(error),
    }
}

fn was_removed(stdout: &str) -> bool {
    stdout.contains("successfully removed")
}

fn large_enough(error: &LvmError) -> bool {
    let LvmError::Command { source, .. } = error else {
        return false;
    };
    source.failed().is_some_and(|output| {
        let stderr = output.stderr_text();
        recognise(&stderr).is_none()
            && (stderr.contains("matches existing size")
                || stderr.contains("not larger than existing size"))
    })
}

fn without_config(argv: &[String]) -> Vec<&str> {
    let mut kept = Vec::with_capacity(argv.len());
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        if word == "--config" {
            words.next();
        } else {
            kept.push(word.as_str());
        }
    }
    kept
}

fn version(text: &str) -> Result<Version, LvmError> {
    let value = |key: &str| {
        text.lines()
            .find_map(|l| l.trim().strip_prefix(key))
            .map(|v| v.trim().to_owned())
    };
    let misunderstood = || LvmError::Answer {
        program: "lvm version".to_owned(),
        problem: format!(
            "no version in {:?}",
            text.lines().next().unwrap_or_default()
        ),
    };
    let whole = value("LVM version:").ok_or_else(misunderstood)?;
    let mut numbers = whole
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let mut next = || {
        numbers
            .next()
            .and_then(Result::ok)
            .ok_or_else(misunderstood)
    };
    Ok(Version {
        number: (next()?, next()?, next()?),
        driver: value("Driver version:").unwrap_or_default(),
        text: whole,
    })
}

#[cfg(test)]
#[path = "lvm_tests.rs"]
mod tests;
