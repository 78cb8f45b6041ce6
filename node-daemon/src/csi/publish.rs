//! Publishing: a bind mount for each pod, of the staged file system or of the device's node.

use std::io;
use std::path::Path;

use tonic::Status;

use super::request::{Access, Capability};
use super::service::NodeService;
use super::stage::{make_folder, taken};
use super::status::{of_mount, of_node};
use crate::mount::{Device, FsType, Mount, Options, Table};

impl NodeService {
    /// Publishes a volume at a target. Published there already in the same way: done. Not staged (attachments made before staging was
    /// offered): a file system is mounted at the target itself.
    pub(super) async fn publish(
        &self,
        volume: &str,
        staging: Option<&Path>,
        target: &Path,
        capability: &Capability,
        readonly: bool,
    ) -> Result<(), Status> {
        let device = self.device(volume).await?;
        let table = self
            .node
            .mounts
            .table()
            .await
            .map_err(|error| of_mount(&error))?;
        if capability.single_writer {
            refuse_second_writer(volume, &device, &table, staging, target)?;
        }
        if let Some(mount) = table.at(target) {
            return self
                .again(volume, &device, mount, capability, readonly)
                .await;
        }
        let published = match &capability.access {
            Access::Block => self.publish_block(volume, target).await,
            Access::Mount { fs, options } => {
                let staged = staging.filter(|path| is_staged(&table, path, &device));
                self.publish_mount(volume, staged, target, fs, options, &table)
                    .await
            }
        };
        let published = match published {
            Ok(()) if readonly => self
                .node
                .mounts
                .bind_read_only(target)
                .await
                .map_err(|error| of_mount(&error)),
            result => result,
        };
        if published.is_err() {
            // Nothing half-made may be taken for a published volume.
            if let Err(status) = self.unpublish(target).await {
                tracing::warn!(volume, target = %target.display(), message = status.message(), "could not undo");
            }
        }
        published
    }

    /// The volume's device: what is exposed already tells it without asking LVM.
    async fn device(&self, volume: &str) -> Result<Device, Status> {
        let fronts = self
            .node
            .effects
            .fronts
            .list()
            .await
            .map_err(|error| of_node(&error.into()))?;
        match fronts
            .iter()
            .find(|front| front.volume == volume && front.open > 0)
        {
            Some(front) => Ok(front.device()),
            None => Ok(self.usable(volume).await?.device),
        }
    }

    /// Something is at the target already.
    async fn again(
        &self,
        volume: &str,
        device: &Device,
        mount: &Mount,
        capability: &Capability,
        readonly: bool,
    ) -> Result<(), Status> {
        let target = &mount.target;
        if !device.is_source_of(mount) {
            return Err(taken("target_path", target, &mount.source));
        }
        let different = |what: &str| {
            Err(Status::already_exists(format!(
                "volume {volume} is published at {} already, {what}",
                target.display()
            )))
        };
        let as_block = device.is_node_at(mount);
        match (&capability.access, as_block) {
            (Access::Block, false) => {
                return different("as a file system and not as a block device");
            }
            (Access::Mount { .. }, true) => {
                return different("as a block device and not as a file system");
            }
            (Access::Block, true) | (Access::Mount { .. }, false) => {}
        }
        match (readonly, mount.bound_read_only()) {
            // Cut off between the two steps of a read-only publish.
            (true, false) => self
                .node
                .mounts
                .bind_read_only(target)
                .await
                .map_err(|error| of_mount(&error)),
            (false, true) if !mount.fs_read_only() => different("read-only, and readonly is false"),
            (true, true) | (false, _) => Ok(()),
        }
    }

    async fn publish_mount(
        &self,
        volume: &str,
        staged: Option<&Path>,
        target: &Path,
        fs: &FsType,
        options: &Options,
        table: &Table,
    ) -> Result<(), Status> {
        if let Some(staged) = staged {
            make_folder(target).await?;
            return self
                .node
                .mounts
                .bind(staged, target)
                .await
                .map_err(|error| of_mount(&error));
        }
        let mut usable = self.usable(volume).await?;
        self.prepare(volume, &mut usable, fs, options, table)
            .await?;
        make_folder(target).await?;
        self.mount(volume, &usable, target, fs, options).await?;
        self.grow_if_larger(volume, &usable, target, fs, options)
            .await;
        Ok(())
    }

    /// The kernel does not refuse writes to a device behind a read-only bind mount; for read-only block volumes the container
    /// runtime does, to which kubelet passes the device with read permission only.
    ///
    /// Attachments of before staging was offered come here first: what staging does for a block volume is done here if it was not.
    async fn publish_block(&self, volume: &str, target: &Path) -> Result<(), Status> {
        let mut usable = self.usable(volume).await?;
        self.expose_every_byte(volume, &mut usable).await?;
        if let Some(folder) = target.parent() {
            make_folder(folder).await?;
        }
        make_file(target).await?;
        self.node
            .mounts
            .bind(&usable.device.node(), target)
            .await
            .map_err(|error| of_mount(&error))
    }

    /// Takes a volume off its target, and the target away. Nothing there: done. Whatever was mounted there (also by the generation
    /// before Hawser) goes; files in a folder that nothing is mounted on are somebody's, and stay.
    pub(super) async fn unpublish(&self, target: &Path) -> Result<(), Status> {
        self.unmount_all(target).await?;
        let path = target.to_owned();
        let removed = tokio::task::spawn_blocking(move || remove_target(&path)).await;
        let result = removed.unwrap_or_else(|error| Err(io::Error::other(error)));
        result.map_err(|error| {
            let target = target.display();
            if error.kind() == io::ErrorKind::DirectoryNotEmpty {
                Status::failed_precondition(format!(
                    "target_path {target} holds files though nothing is mounted there: they are not the volume's; move them away"
                ))
            } else {
                Status::internal(format!("cannot remove target_path {target}: {error}"))
            }
        })
    }
}

/// Removes an empty folder, or an empty file as made for a block volume.
fn remove_target(path: &Path) -> io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let removed = if meta.is_dir() {
        std::fs::remove_dir(path)
    } else if meta.is_file() && meta.len() > 0 {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

async fn make_file(path: &Path) -> Result<(), Status> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = path.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file)
    });
    match made.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Status::internal(format!(
            "cannot make the file {}: {error}",
            path.display()
        ))),
        Err(error) => Err(Status::internal(format!(
            "cannot make the file {}: {error}",
            path.display()
        ))),
    }
}

fn is_staged(table: &Table, staging: &Path, device: &Device) -> bool {
    table
        .at(staging)
        .is_some_and(|mount| device.is_source_of(mount) && !device.is_node_at(mount))
}

/// A volume for a single writer is published at one target only.
fn refuse_second_writer(
    volume: &str,
    device: &Device,
    table: &Table,
    staging: Option<&Path>,
    target: &Path,
) -> Result<(), Status> {
    let other = table
        .of(device)
        .find(|mount| mount.target != target && Some(mount.target.as_path()) != staging);
    match other {
        None => Ok(()),
        Some(mount) => Err(Status::failed_precondition(format!(
            "volume {volume} has access mode SINGLE_NODE_SINGLE_WRITER and is published at {} already",
            mount.target.display()
        ))),
    }
}
