//! Staging: a file system is made if the volume is blank, checked, mounted once for the node, and grown to its device.

use std::path::Path;
use std::time::Duration;

use hawser_runtime::telemetry::chain;
use tonic::Status;

use super::request::{Access, Capability};
use super::service::NodeService;
use super::status::{of_mount, of_node};
use crate::mount::{Content, FsType, Options, Table};
use crate::replica::jobs::{Job, Kind, Subject};
use crate::replica::node::Usable;
use crate::replica::tags::Tags;

/// How long staging waits for a volume to be zeroed before kubelet is asked to come again. kubelet gives a call two minutes.
const ZEROING_PATIENCE: Duration = Duration::from_secs(90);
/// More mounts at one place than this are somebody's mistake.
const MOST_MOUNTS: usize = 64;

impl NodeService {
    /// Stages a volume. Staged already in the same way: done.
    pub(super) async fn stage(
        &self,
        volume: &str,
        path: &Path,
        capability: &Capability,
    ) -> Result<(), Status> {
        let mut usable = self.usable(volume).await?;
        match &capability.access {
            Access::Block => self.expose_every_byte(volume, &mut usable).await,
            Access::Mount { fs, options } => {
                let table = self
                    .node
                    .mounts
                    .table()
                    .await
                    .map_err(|error| of_mount(&error))?;
                if let Some(mount) = table.at(path) {
                    if !usable.device.is_source_of(mount) || usable.device.is_node_at(mount) {
                        return Err(taken("staging_target_path", path, &mount.source));
                    }
                    if mount.fs_type != fs.as_str() {
                        return Err(Status::already_exists(format!(
                            "volume {volume} is staged at {} with file system {}, not {fs}",
                            path.display(),
                            mount.fs_type
                        )));
                    }
                } else {
                    self.prepare(volume, &mut usable, fs, options, &table)
                        .await?;
                    make_folder(path).await?;
                    self.mount(volume, &usable, path, fs, options).await?;
                }
                self.grow_if_larger(volume, &usable, path, fs, options)
                    .await;
                Ok(())
            }
        }
    }

    /// The volume with its device, unless it is being zeroed right now, all of it or a former one of its name.
    pub(super) async fn usable(&self, volume: &str) -> Result<Usable, Status> {
        let usable = self
            .node
            .usable(volume)
            .await
            .map_err(|error| of_node(&error))?;
        let blank = usable.tags.unzeroed.is_some() && !usable.tags.raw;
        match self.node.jobs.of(volume).map(|job| job.kind()) {
            Some(Kind::Wipe) => Err(self.being_zeroed(volume)),
            Some(Kind::Clean) if blank => Err(self.being_zeroed(volume)),
            Some(Kind::Clean) | None => Ok(usable),
        }
    }

    fn being_zeroed(&self, volume: &str) -> Status {
        match self.node.jobs.of(volume) {
            Some(job @ Job::Failed { .. }) => Status::internal(job.sentence(volume)),
            Some(job) => Status::aborted(job.sentence(volume)),
            None => Status::aborted(format!("volume {volume} has just been zeroed: try again")),
        }
    }

    /// A block device shows every byte, so what may be left of others is zeroed first. Once in a volume's life; a volume that carries
    /// a file system never shows more than what was written through it, and is not zeroed.
    pub(super) async fn expose_every_byte(
        &self,
        volume: &str,
        usable: &mut Usable,
    ) -> Result<(), Status> {
        if usable.tags.raw || usable.tags.fs.is_some() {
            return Ok(());
        }
        if usable.tags.unzeroed.is_none() {
            self.refuse_drbd(volume, usable).await?;
            let tags = Tags {
                raw: true,
                ..usable.tags.clone()
            };
            return self
                .node
                .retag(usable, volume, tags)
                .await
                .map_err(|error| of_node(&error));
        }
        self.refuse_used(volume, usable).await?;
        let subject = Subject {
            vg: usable.vg.clone(),
            lv: volume.to_owned(),
            uuid: usable.uuid.clone(),
        };
        self.node.jobs.start(Kind::Clean, subject);
        let waited = tokio::time::timeout(ZEROING_PATIENCE, self.node.jobs.finished(volume)).await;
        match waited {
            Ok(Ok(())) => {
                *usable = self
                    .node
                    .usable(volume)
                    .await
                    .map_err(|error| of_node(&error))?;
                if usable.tags.raw {
                    Ok(())
                } else {
                    Err(self.being_zeroed(volume))
                }
            }
            Ok(Err(sentence)) => Err(Status::internal(sentence)),
            Err(_elapsed) => Err(self.being_zeroed(volume)),
        }
    }

    /// A volume of before Hawser whose object was not seen yet may lie beneath DRBD: its metadata at the device's end tells. (As a file
    /// system, it would be refused for that content.)
    async fn refuse_drbd(&self, volume: &str, usable: &Usable) -> Result<(), Status> {
        let content = self
            .node
            .filesystems
            .probe(&usable.device.path)
            .await
            .map_err(|error| of_mount(&error))?;
        match content {
            Content::Other(what) if what.starts_with("drbd") => {
                Err(Status::failed_precondition(format!(
                    "volume {volume} carries DRBD's metadata: mirrored and convertible volumes are not supported yet, and using this \
                     copy by itself would make the copies differ"
                )))
            }
            Content::Other(_) | Content::Filesystem(_) | Content::Blank => Ok(()),
        }
    }

    /// Nothing is zeroed under who has it.
    async fn refuse_used(&self, volume: &str, usable: &Usable) -> Result<(), Status> {
        let table = self
            .node
            .mounts
            .table()
            .await
            .map_err(|error| of_mount(&error))?;
        match table.of(&usable.device).next() {
            None => Ok(()),
            Some(mount) => Err(Status::failed_precondition(format!(
                "volume {volume} is in use at {} and was never zeroed: nothing is overwritten; unpublish it there first",
                mount.target.display()
            ))),
        }
    }

    /// Has a file system of the asked type on the device, made now if the device is blank, checked if it was there.
    pub(super) async fn prepare(
        &self,
        volume: &str,
        usable: &mut Usable,
        fs: &FsType,
        options: &Options,
        table: &Table,
    ) -> Result<(), Status> {
        if let Some(mount) = table
            .of(&usable.device)
            .find(|mount| !usable.device.is_node_at(mount))
        {
            return if mount.fs_type == fs.as_str() {
                Ok(())
            } else {
                Err(holds(volume, &mount.fs_type, fs))
            };
        }
        let content = self
            .node
            .filesystems
            .probe(&usable.device.path)
            .await
            .map_err(|error| of_mount(&error))?;
        // A mkfs that was cut off leaves anything; nothing of it was ever mounted.
        let begun = usable.tags.formatting.is_some();
        match content {
            _ if begun => self.format(volume, usable, fs, options).await,
            Content::Blank if usable.tags.fs.is_some() => {
                Err(Status::failed_precondition(format!(
                    "volume {volume} held a file system of type {}, and none is found on it now: it is not formatted, since \
                 something destroyed or hides its beginning; look at {} first",
                    usable.tags.fs.as_ref().map_or("unknown", FsType::as_str),
                    usable.device.path.display()
                )))
            }
            Content::Blank if usable.tags.raw => Err(Status::failed_precondition(format!(
                "volume {volume} was published as a block device and holds no file system: it is not formatted, since its \
                 blocks may be in use; ask for volumeMode Block, or use a new claim"
            ))),
            Content::Blank => self.format(volume, usable, fs, options).await,
            Content::Filesystem(found) if found == *fs => {
                if !options.read_only() {
                    let checked = self.node.filesystems.check(&usable.device.path, fs).await;
                    checked.map_err(|error| of_mount(&error))?;
                }
                // A volume of before Hawser does not say yet how it is exposed.
                let tags = Tags {
                    fs: Some(found),
                    unzeroed: behind_its_end(&usable.tags),
                    ..usable.tags.clone()
                };
                self.node
                    .retag(usable, volume, tags)
                    .await
                    .map_err(|error| of_node(&error))
            }
            other @ (Content::Filesystem(_) | Content::Other(_)) => {
                Err(holds(volume, &other.to_string(), fs))
            }
        }
    }

    async fn format(
        &self,
        volume: &str,
        usable: &mut Usable,
        fs: &FsType,
        options: &Options,
    ) -> Result<(), Status> {
        if let FsType::Other(name) = fs {
            return Err(Status::invalid_argument(format!(
                "volume {volume} is blank and fs_type {name:?} can't be made: ext4, xfs or btrfs would be right"
            )));
        }
        if options.read_only() {
            return Err(Status::failed_precondition(format!(
                "volume {volume} is blank and mount_flags ask for ro: it can't be formatted, leave ro out for its first use"
            )));
        }
        let begun = Tags {
            formatting: Some(fs.clone()),
            ..usable.tags.clone()
        };
        self.node
            .retag(usable, volume, begun)
            .await
            .map_err(|error| of_node(&error))?;
        tracing::info!(volume, device = %usable.device.path.display(), %fs, "formatting a blank volume");
        self.node
            .filesystems
            .make(&usable.device.path, fs)
            .await
            .map_err(|error| of_mount(&error))?;
        let made = Tags {
            formatting: None,
            unzeroed: behind_its_end(&usable.tags),
            fs: Some(fs.clone()),
            ..usable.tags.clone()
        };
        self.node
            .retag(usable, volume, made)
            .await
            .map_err(|error| of_node(&error))
    }

    pub(super) async fn mount(
        &self,
        volume: &str,
        usable: &Usable,
        target: &Path,
        fs: &FsType,
        options: &Options,
    ) -> Result<(), Status> {
        let mounted = self
            .node
            .mounts
            .mount(&usable.device.path, target, fs, options)
            .await;
        mounted.map_err(|error| match error.io().and_then(std::io::Error::raw_os_error) {
            Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() && !options.data.is_empty() => {
                Status::invalid_argument(format!(
                    "volume {volume}: the kernel does not mount {fs} with mount_flags {:?}: leave out what it does not know",
                    options.data
                ))
            }
            Some(code) if code == rustix::io::Errno::NODEV.raw_os_error() => Status::failed_precondition(format!(
                "volume {volume}: this node's kernel has no file system {fs}: load its module, or use another fs_type"
            )),
            _ => of_mount(&error),
        })
    }

    /// A failure is told when the claim's expansion asks for it; the pod may start with the smaller file system.
    pub(super) async fn grow_if_larger(
        &self,
        volume: &str,
        usable: &Usable,
        path: &Path,
        fs: &FsType,
        options: &Options,
    ) {
        if options.read_only() {
            return;
        }
        if let Err(error) = self
            .node
            .filesystems
            .grow(&usable.device.path, path, fs)
            .await
        {
            tracing::warn!(volume, error = %chain(&error), "the file system could not be grown to its device");
        }
    }

    /// Takes away whatever is mounted at a path; nothing there: done.
    pub(super) async fn unmount_all(&self, path: &Path) -> Result<(), Status> {
        for _ in 0..MOST_MOUNTS {
            let table = self
                .node
                .mounts
                .table()
                .await
                .map_err(|error| of_mount(&error))?;
            if table.at(path).is_none() {
                return Ok(());
            }
            self.node.mounts.unmount(path).await.map_err(|error| {
                if error.is_busy() {
                    Status::internal(format!(
                        "{} is still in use and can't be unmounted: {}",
                        path.display(),
                        chain(&error)
                    ))
                } else {
                    of_mount(&error)
                }
            })?;
        }
        Err(Status::internal(format!(
            "{} does not become free: something mounts there again and again",
            path.display()
        )))
    }
}

/// What a file system need not have zeroed is all that its device shows. What lies behind the device's end is being zeroed, or will
/// be, before the device gets there: that mark stays, or the device would grow over blocks that are zeroed under the file system.
fn behind_its_end(tags: &Tags) -> Option<u64> {
    tags.unzeroed.filter(|_| tags.raw)
}

fn holds(volume: &str, what: &str, fs: &FsType) -> Status {
    Status::failed_precondition(format!(
        "volume {volume} holds {what} and file system {fs} is asked: nothing is formatted that is not blank; ask for what it \
         holds, or use a new claim"
    ))
}

/// Something else is at a path.
pub(super) fn taken(field: &str, path: &Path, source: &Path) -> Status {
    Status::failed_precondition(format!(
        "{field} {} is taken: {} is mounted there",
        path.display(),
        source.display()
    ))
}

/// Makes a folder with its parents, private to kubelet. There already: done.
pub(super) async fn make_folder(path: &Path) -> Result<(), Status> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = path.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(folder)
    });
    match made.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Status::internal(format!(
            "cannot make the folder {}: {error}",
            path.display()
        ))),
        Err(error) => Err(Status::internal(format!(
            "cannot make the folder {}: {error}",
            path.display()
        ))),
    }
}
