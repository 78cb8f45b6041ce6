//! Driver of `dmsetup`: single device-mapper devices, such as the front device of a volume.
//!
//! A device whose UUID begins with `LVM-` and whose name has at least two hyphens (`GROUP-VOLUME-LAYER` to LVM's udev rules)
//! is taken by the host's rules for a hidden layer of a logical volume: no probing of its content, no links by UUID or label,
//! no auto-activation of what is inside, and systemd ignores it. LVM does not scan it either.

mod info;
mod table;

use std::sync::Arc;

use hawser_command::{Command, CommandError, Output};

pub use info::Device;
pub use table::{SECTOR, Table, Target};

use crate::error::{LvmError, Refusal};
use crate::names::{check_dm, check_dm_uuid};
use crate::{Options, Outcome, Udev};

/// How to suspend a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspend {
    /// Do not wait for requests that are under way (they are kept and go to the next table). For a device whose lower device
    /// no longer answers.
    pub no_flush: bool,
    /// Do not freeze the file system on it.
    pub no_lockfs: bool,
}

/// Drives the `dmsetup` program. Cheap to clone; keeps no state.
#[derive(Debug, Clone)]
pub struct Dm {
    options: Arc<Options>,
}

impl Dm {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
        }
    }

    fn reading(&self, verb: &str) -> Command {
        Command::new(&self.options.dmsetup)
            .arg(verb)
            .deadline(self.options.read_deadline)
    }

    /// For verbs that make udev act.
    fn changing(&self, verb: &str) -> Command {
        let command = self.reading(verb).deadline(self.options.change_deadline);
        match self.options.udev {
            Udev::Synchronise => command.arg("--verifyudev"),
            Udev::Bypass => command.args(["--noudevsync", "--noudevrules"]),
        }
    }

    async fn change(&self, name: &str, command: Command) -> Result<Output, LvmError> {
        tracing::info!(argv = ?command.argv(), "changing device-mapper");
        let object = name.to_owned();
        match tokio::spawn(async move { command.run().await }).await {
            Ok(result) => result.map_err(|e| LvmError::from_command(object, e)),
            Err(_cancelled) => Err(LvmError::Shutdown { object }),
        }
    }

    /// Makes a device with its table and resumes it; `/dev/mapper/NAME` exists afterwards.
    /// [`Refusal::Exists`] if the name or the UUID is taken: compare with [`Dm::info`] and [`Dm::table`].
    pub async fn create(&self, name: &str, uuid: &str, table: &Table) -> Result<(), LvmError> {
        check_dm(name)?;
        check_dm_uuid(uuid)?;
        let command = self
            .changing("create")
            .args(["--addnodeoncreate", "--uuid", uuid, "--", name])
            .stdin(table.to_string());
        match self.change(name, command).await {
            Ok(_) => Ok(()),
            // The kernel says "busy" for a name or UUID that is taken.
            Err(LvmError::Refused {
                object,
                refusal: Refusal::InUse,
                source,
            }) if taken(&source) => Err(LvmError::Refused {
                object,
                refusal: Refusal::Exists,
                source,
            }),
            Err(error) => Err(error),
        }
    }

    /// Puts a table into the inactive slot; [`Dm::resume`] makes it live.
    pub async fn load(&self, name: &str, table: &Table) -> Result<(), LvmError> {
        check_dm(name)?;
        let command = self
            .reading("load")
            .deadline(self.options.change_deadline)
            .args(["--", name])
            .stdin(table.to_string());
        self.change(name, command).await?;
        Ok(())
    }

    /// Empties the inactive slot. Repeatable.
    pub async fn clear(&self, name: &str) -> Result<(), LvmError> {
        check_dm(name)?;
        self.change(name, self.reading("clear").args(["--", name]))
            .await?;
        Ok(())
    }

    /// Holds all I/O. Repeatable. Whatever happens next, [`Dm::resume`] it.
    pub async fn suspend(&self, name: &str, how: Suspend) -> Result<(), LvmError> {
        check_dm(name)?;
        let mut command = self
            .reading("suspend")
            .deadline(self.options.change_deadline);
        if how.no_flush {
            command = command.arg("--noflush");
        }
        if how.no_lockfs {
            command = command.arg("--nolockfs");
        }
        self.change(name, command.args(["--", name])).await?;
        Ok(())
    }

    /// Makes a loaded table live, if there is one, and lets I/O go on. Repeatable.
    pub async fn resume(&self, name: &str) -> Result<(), LvmError> {
        check_dm(name)?;
        let command = self
            .changing("resume")
            .args(["--addnodeonresume", "--", name]);
        self.change(name, command).await?;
        Ok(())
    }

    /// Removes a device; [`Refusal::InUse`] while it is open (udev's short looks are waited for, up to 5 s).
    pub async fn remove(&self, name: &str) -> Result<Outcome, LvmError> {
        check_dm(name)?;
        let command = self.changing("remove").args(["--retry", "--", name]);
        match self.change(name, command).await {
            Ok(_) => Ok(Outcome::Changed),
            Err(error) if error.is(Refusal::NotFound) => Ok(Outcome::Already),
            Err(error) => Err(error),
        }
    }

    /// All devices of the machine.
    pub async fn list(&self) -> Result<Vec<Device>, LvmError> {
        let output = self
            .info_command()
            .run()
            .await
            .map_err(|e| LvmError::from_command("dmsetup info", e))?;
        info::parse(&output.stdout_text())
    }

    /// One device, or `None` if there is none of that name.
    pub async fn info(&self, name: &str) -> Result<Option<Device>, LvmError> {
        check_dm(name)?;
        // Asking for all and picking one tells "not there" from any other failure without reading messages.
        Ok(self.list().await?.into_iter().find(|d| d.name == name))
    }

    /// The live table, or `None` if there is no device of that name.
    pub async fn table(&self, name: &str) -> Result<Option<Table>, LvmError> {
        check_dm(name)?;
        match self.reading("table").args(["--", name]).run().await {
            Ok(output) => Ok(Some(output.stdout_text().parse()?)),
            Err(error) => {
                let error = LvmError::from_command(name, error);
                if error.is(Refusal::NotFound) {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    fn info_command(&self) -> Command {
        self.reading("info").args([
            "--columns",
            "--noheadings",
            "--separator",
            "|",
            "--options",
            info::COLUMNS,
        ])
    }
}

fn taken(error: &CommandError) -> bool {
    error
        .failed()
        .is_some_and(|output| output.stderr_text().contains("create ioctl on"))
}

#[cfg(test)]
#[path = "dm_tests.rs"]
mod tests;
