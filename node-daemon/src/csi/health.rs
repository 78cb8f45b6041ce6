//! Usage and health of a published volume. Cheap: kubelet asks for every volume every minute, so LVM is not asked.

use std::path::Path;

use hawser_csi::v1::volume_health::VolumeHealthEntry;
use hawser_csi::v1::volume_usage::Unit;
use hawser_csi::v1::{
    NodeGetVolumeHealthResponse, NodeGetVolumeStatsResponse, VolumeCondition, VolumeHealth,
    VolumeHealthErrorType, VolumeUsage,
};
use hawser_runtime::telemetry::chain;
use tonic::Status;

use super::service::NodeService;
use super::status::{of_mount, of_node};
use crate::mount::{Device, MountError, Table, Usage};
use crate::replica::effects::Front;

/// The volume as exposed on this node.
struct Exposed {
    device: Device,
    bytes: u64,
    front: Option<Front>,
}

impl NodeService {
    async fn exposed(&self, volume: &str) -> Result<Exposed, Status> {
        let fronts = self
            .node
            .effects
            .fronts
            .list()
            .await
            .map_err(|error| of_node(&error.into()))?;
        if let Some(front) = fronts.into_iter().find(|front| front.volume == volume) {
            return Ok(Exposed {
                device: front.device(),
                bytes: front.bytes,
                front: Some(front),
            });
        }
        let usable = self
            .node
            .usable(volume)
            .await
            .map_err(|error| of_node(&error))?;
        Ok(Exposed {
            device: usable.device,
            bytes: usable.bytes,
            front: None,
        })
    }

    pub(super) async fn stats(
        &self,
        volume: &str,
        path: &Path,
    ) -> Result<NodeGetVolumeStatsResponse, Status> {
        let exposed = self.exposed(volume).await?;
        let table = self
            .node
            .mounts
            .table()
            .await
            .map_err(|error| of_mount(&error))?;
        let mount = table
            .at(path)
            .filter(|mount| exposed.device.is_source_of(mount))
            .ok_or_else(|| {
                Status::not_found(format!(
                    "volume {volume} is not at volume_path {}",
                    path.display()
                ))
            })?;
        let usage = if exposed.device.is_node_at(mount) {
            vec![VolumeUsage {
                unit: Unit::Bytes.into(),
                total: signed(exposed.bytes),
                ..VolumeUsage::default()
            }]
        } else {
            let usage = self.node.mounts.usage(path).await;
            of_usage(&usage.map_err(|error| of_mount(&error))?)
        };
        let troubles = self.troubles(volume, &exposed, &table).await;
        Ok(NodeGetVolumeStatsResponse {
            usage,
            volume_condition: Some(condition(&troubles)),
        })
    }

    pub(super) async fn volume_health(
        &self,
        volume: &str,
    ) -> Result<NodeGetVolumeHealthResponse, Status> {
        let exposed = self.exposed(volume).await?;
        let table = self
            .node
            .mounts
            .table()
            .await
            .map_err(|error| of_mount(&error))?;
        let health_statuses = self.troubles(volume, &exposed, &table).await;
        let health = VolumeHealth {
            volume_id: volume.to_owned(),
            health_statuses,
        };
        Ok(NodeGetVolumeHealthResponse {
            volume_health: Some(health),
        })
    }

    async fn troubles(
        &self,
        volume: &str,
        exposed: &Exposed,
        table: &Table,
    ) -> Vec<VolumeHealthEntry> {
        use VolumeHealthErrorType::{Degraded, Inaccessible};
        let mut troubles = Vec::new();
        let mut add = |status: VolumeHealthErrorType, reason: &str, message: String| {
            troubles.push(VolumeHealthEntry {
                status: status.into(),
                reason: reason.to_owned(),
                message,
            });
        };
        if table
            .of(&exposed.device)
            .any(|mount| mount.fs_read_only() && !mount.bound_read_only())
        {
            add(
                Inaccessible,
                "FileSystemReadOnly",
                format!("the file system of {volume} refuses writes after an error"),
            );
        }
        match &exposed.front {
            Some(front) if front.suspended => {
                add(
                    Degraded,
                    "Suspended",
                    format!("I/O of {volume} is being held: its device is suspended"),
                );
                return troubles;
            }
            Some(front) if front.lower.is_empty() => {
                add(
                    Inaccessible,
                    "NoLowerDevice",
                    format!("the device of {volume} lies on nothing"),
                );
            }
            Some(_) | None => {}
        }
        match self.node.filesystems.readable(&exposed.device.path).await {
            Ok(()) => {}
            Err(error @ MountError::NoAnswer { .. }) => {
                add(
                    Degraded,
                    "NoAnswer",
                    format!("the device of {volume} does not answer: {}", chain(&error)),
                );
            }
            Err(error) => add(Inaccessible, "ReadFailed", chain(&error).to_string()),
        }
        troubles
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn of_usage(usage: &Usage) -> Vec<VolumeUsage> {
    let mut all = vec![VolumeUsage {
        unit: Unit::Bytes.into(),
        total: signed(usage.total_bytes),
        available: signed(usage.available_bytes),
        used: signed(usage.used_bytes),
    }];
    if usage.total_inodes > 0 {
        all.push(VolumeUsage {
            unit: Unit::Inodes.into(),
            total: signed(usage.total_inodes),
            available: signed(usage.free_inodes),
            used: signed(usage.total_inodes.saturating_sub(usage.free_inodes)),
        });
    }
    all
}

fn condition(troubles: &[VolumeHealthEntry]) -> VolumeCondition {
    let sentences: Vec<_> = troubles
        .iter()
        .map(|trouble| trouble.message.as_str())
        .collect();
    VolumeCondition {
        abnormal: !troubles.is_empty(),
        message: if troubles.is_empty() {
            "the volume is healthy".to_owned()
        } else {
            sentences.join("; ")
        },
    }
}
