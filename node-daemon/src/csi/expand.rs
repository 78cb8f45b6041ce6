//! Growing what is mounted to its device. The device itself grows when the replica's object asks for it.

use std::path::Path;

use tonic::Status;

use super::service::NodeService;
use super::status::of_mount;
use crate::mount::FsType;

/// Differences below this are rounding of the generation before Hawser, and count as done.
const CLOSE_ENOUGH: u64 = 10 * 1024 * 1024;

impl NodeService {
    /// Grows a published volume's file system to its device; for a block volume there is nothing to do. Returns the device's size.
    pub(super) async fn expand(
        &self,
        volume: &str,
        path: &str,
        required: u64,
        block: Option<bool>,
    ) -> Result<i64, Status> {
        let usable = self.usable(volume).await?;
        let path = self.kubelet.check("volume_path", path)?;
        let table = self
            .node
            .mounts
            .table()
            .await
            .map_err(|error| of_mount(&error))?;
        let mount = table
            .at(&path)
            .filter(|mount| usable.device.is_source_of(mount));
        if usable.bytes.saturating_add(CLOSE_ENOUGH) < required {
            // Made ready by its replica; kubelet asks again.
            return Err(Status::unavailable(format!(
                "volume {volume} has {} bytes on this node and {required} are asked: its LocalVolumeReplica has not grown yet",
                usable.bytes
            )));
        }
        match mount {
            Some(mount) if usable.device.is_node_at(mount) => {}
            // The path of a block volume's staging is a plain folder.
            None if block == Some(true) => {}
            None => {
                return Err(Status::not_found(format!(
                    "volume {volume} is not published at volume_path {}",
                    path.display()
                )));
            }
            Some(mount) if mount.fs_read_only() => {
                return Err(Status::failed_precondition(format!(
                    "the file system of volume {volume} is mounted read-only and can't grow"
                )));
            }
            Some(mount) => grow(self, &usable.device.path, &path, &mount.fs_type).await?,
        }
        Ok(i64::try_from(usable.bytes).unwrap_or(i64::MAX))
    }
}

async fn grow(service: &NodeService, device: &Path, path: &Path, fs: &str) -> Result<(), Status> {
    let grown = service
        .node
        .filesystems
        .grow(device, path, &FsType::parse(fs))
        .await;
    grown.map_err(|error| of_mount(&error))
}
