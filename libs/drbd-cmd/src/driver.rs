//! Runs the tools. Each call is one command; deciding and waiting are the caller's.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hawser_command::Command;

use crate::{
    argv::{DiskOptions, Endpoint, Minor, NetOptions, ResourceName, Tools, check_device},
    error::{DrbdError, Refusal},
    metadata::{Format, Metadata, Placement, parse_dump},
    proc::{ProcDrbd, parse_proc},
    show::{ShownResource, parse_show},
    status::{Status, parse_events2},
    version::{Version, parse_drbdadm_version},
};

/// What an operation that may be repeated did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was so already.
    Already,
    /// It is so now.
    Changed,
}

/// The driver. Cheap to clone; holds no state but where the tools are.
#[derive(Clone, Debug)]
pub struct Drbd {
    tools: Tools,
    drbdadm: String,
    proc: PathBuf,
    deadline: Duration,
}

impl Default for Drbd {
    /// The tools by name, `/proc/drbd`, and 30 s for each command: a primary asks the fencing helper before it is one.
    fn default() -> Self {
        Self {
            tools: Tools {
                drbdsetup: "drbdsetup".to_owned(),
                drbdmeta: "drbdmeta".to_owned(),
            },
            drbdadm: "drbdadm".to_owned(),
            proc: PathBuf::from("/proc/drbd"),
            deadline: Duration::from_secs(30),
        }
    }
}

impl Drbd {
    /// The state of all minors and the module's version, without running a program.
    pub async fn proc(&self) -> Result<ProcDrbd, DrbdError> {
        let text = match tokio::fs::read_to_string(&self.proc).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DrbdError::NoModule(self.proc.clone()));
            }
            Err(source) => {
                return Err(DrbdError::Read {
                    path: self.proc.clone(),
                    source,
                });
            }
        };
        parse_proc(&text).ok_or(DrbdError::Output {
            what: "/proc/drbd",
            text,
        })
    }

    /// The version of drbd-utils.
    pub async fn utils_version(&self) -> Result<Version, DrbdError> {
        let command = Command::new(&self.drbdadm).arg("--version");
        let text = self
            .run("ask for the version of", "drbd-utils", command)
            .await?;
        parse_drbdadm_version(&text).ok_or(DrbdError::Output {
            what: "drbdadm --version",
            text,
        })
    }

    /// The state of all resources.
    pub async fn status(&self) -> Result<Status, DrbdError> {
        let command = self.tools.setup(&["events2", "--now", "--statistics"]);
        let text = self
            .run("read the state of", "all resources", command)
            .await?;
        parse_events2(&text).ok_or(DrbdError::Output {
            what: "drbdsetup events2",
            text,
        })
    }

    /// What all resources are made of.
    pub async fn show(&self) -> Result<Vec<ShownResource>, DrbdError> {
        let text = self
            .run(
                "read the configuration of",
                "all resources",
                self.tools.setup(&["show"]),
            )
            .await?;
        parse_show(&text).ok_or(DrbdError::Output {
            what: "drbdsetup show",
            text,
        })
    }

    /// The metadata on a device, of whatever format; `None` if there is none. Only reads.
    ///
    /// `minor` is any that is not attached to something else: drbdmeta wants one.
    pub async fn metadata(
        &self,
        minor: Minor,
        device: &Path,
        placement: Placement,
    ) -> Result<Option<Metadata>, DrbdError> {
        let object = check_device(device)?;
        for format in Format::ALL {
            let command = self
                .tools
                .meta(minor, format, device, placement, &["dump-md"]);
            match self.run("read the metadata on", &object, command).await {
                Ok(text) => {
                    return parse_dump(&text).map(Some).ok_or(DrbdError::Output {
                        what: "drbdmeta dump-md",
                        text,
                    });
                }
                Err(DrbdError::Command { source, .. })
                    if source.failed().is_some_and(|output| {
                        output.stderr_text().contains("No valid meta data found")
                    }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Makes external metadata of 8.4 on a device that has none. Refuses if there is any, of whatever format.
    pub async fn create_metadata(&self, minor: Minor, device: &Path) -> Result<(), DrbdError> {
        let object = check_device(device)?;
        for placement in [Placement::FlexExternal, Placement::Internal] {
            if let Some(Metadata { format, .. }) = self.metadata(minor, device, placement).await? {
                return Err(DrbdError::MetadataPresent {
                    device: object,
                    format,
                });
            }
        }
        let command = self.tools.meta(
            minor,
            Format::V08,
            device,
            Placement::FlexExternal,
            &["create-md"],
        );
        self.run("make metadata on", &object, command)
            .await
            .map(drop)
    }

    /// Applies the activity log, as is needed after every crash before attaching. Does nothing on clean metadata.
    pub async fn apply_activity_log(&self, minor: Minor, device: &Path) -> Result<(), DrbdError> {
        let object = check_device(device)?;
        let command = self.tools.meta(
            minor,
            Format::V08,
            device,
            Placement::FlexExternal,
            &["apply-al"],
        );
        self.run("apply the activity log of", &object, command)
            .await
            .map(drop)
    }

    /// Makes a resource. One that is there stays as it is (the kernel does not say which).
    pub async fn new_resource(&self, resource: &ResourceName) -> Result<(), DrbdError> {
        let command = self.tools.setup(&["new-resource", resource.as_str()]);
        self.run("make resource", resource.as_str(), command)
            .await
            .map(drop)
    }

    /// Makes volume 0 of a resource. One that is there stays as it is.
    pub async fn new_minor(&self, resource: &ResourceName, minor: Minor) -> Result<(), DrbdError> {
        let command = self
            .tools
            .setup(&["new-minor", resource.as_str(), &minor.to_string(), "0"]);
        self.run("make the volume of resource", resource.as_str(), command)
            .await
            .map(drop)
    }

    /// Attaches a lower device with external metadata.
    ///
    /// [`Refusal::AlreadyAttached`] does not say to what: [`Drbd::show`] does.
    pub async fn attach(
        &self,
        minor: Minor,
        disk: &Path,
        metadata: &Path,
        options: &DiskOptions,
    ) -> Result<(), DrbdError> {
        let object = check_device(disk)?;
        check_device(metadata)?;
        self.run(
            "attach",
            &object,
            self.tools.attach(minor, disk, metadata, options),
        )
        .await
        .map(drop)
    }

    /// Detaches. With `force` it does not wait for I/O; the disk is then `Failed` for a moment before it is `Diskless`.
    pub async fn detach(&self, minor: Minor, force: bool) -> Result<(), DrbdError> {
        let number = minor.to_string();
        let command = self.tools.setup(&["detach", &number]);
        let command = if force {
            command.arg("--force")
        } else {
            command
        };
        self.run("detach minor", &number, command).await.map(drop)
    }

    /// Begins to connect to the peer, and goes on trying.
    pub async fn connect(
        &self,
        resource: &ResourceName,
        local: Endpoint,
        peer: Endpoint,
        options: &NetOptions,
    ) -> Result<(), DrbdError> {
        let command = self.tools.connect(resource, local, peer, options);
        self.run("connect resource", resource.as_str(), command)
            .await
            .map(drop)
    }

    /// Ends a connection, or the attempt to connect.
    pub async fn disconnect(
        &self,
        local: Endpoint,
        peer: Endpoint,
        force: bool,
    ) -> Result<Outcome, DrbdError> {
        let command = self.tools.disconnect(local, peer, force);
        match self
            .run("disconnect from", &peer.to_string(), command)
            .await
        {
            Ok(_) => Ok(Outcome::Changed),
            Err(error) if error.refusal() == Some(&Refusal::UnknownConnection) => {
                Ok(Outcome::Already)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes this node the writer. `force` takes this copy for the current one, whatever the other has.
    pub async fn primary(&self, minor: Minor, force: bool) -> Result<(), DrbdError> {
        let number = minor.to_string();
        let command = self.tools.setup(&["primary", &number]);
        let command = if force {
            command.arg("--force")
        } else {
            command
        };
        self.run("make primary minor", &number, command)
            .await
            .map(drop)
    }

    /// Gives up writing. Refused while the device is open.
    pub async fn secondary(&self, minor: Minor) -> Result<(), DrbdError> {
        let number = minor.to_string();
        self.run(
            "make secondary minor",
            &number,
            self.tools.setup(&["secondary", &number]),
        )
        .await
        .map(drop)
    }

    /// Disconnects, detaches and removes a resource. One that is not there is fine. Refused while its device is open.
    pub async fn down(&self, resource: &ResourceName) -> Result<(), DrbdError> {
        let command = self.tools.setup(&["down", resource.as_str()]);
        self.run("take down resource", resource.as_str(), command)
            .await
            .map(drop)
    }

    async fn run(
        &self,
        operation: &'static str,
        object: &str,
        command: Command,
    ) -> Result<String, DrbdError> {
        match command.deadline(self.deadline).run().await {
            Ok(output) => Ok(output.stdout_text()),
            Err(source) => Err(DrbdError::from_command(operation, object, source)),
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
