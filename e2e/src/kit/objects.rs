//! Hawser's objects as scenarios look at them: disks, pools, and a claim's volume.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use hawser_api::{DiskClaimState, DiskState, LocalDisk, LocalDiskClaim, LocalStorageNode, names};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::scope::Scope;
use super::wait::{Pending, wait_for};

/// A pool as its node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) total: i64,
    pub(crate) free: i64,
    pub(crate) volumes: Vec<String>,
    pub(crate) disks: usize,
}

impl Scope {
    /// The disks that are blank and free to be claimed, by node.
    pub(crate) async fn free_disks(&self) -> Result<BTreeMap<String, Vec<LocalDisk>>> {
        let disks: Api<LocalDisk> = self.cluster();
        let mut by_node: BTreeMap<String, Vec<LocalDisk>> = BTreeMap::new();
        for disk in disks.list(&ListParams::default()).await? {
            let available = disk
                .status
                .as_ref()
                .is_some_and(|status| status.claim_state == DiskClaimState::Available);
            if available && !disk.spec.reserved && disk.spec.state == DiskState::Active {
                by_node
                    .entry(disk.spec.node_name.clone())
                    .or_default()
                    .push(disk);
            }
        }
        Ok(by_node)
    }

    /// Claims all free disks of a type on a node for Hawser's pools.
    pub(crate) async fn claim_disks(&self, name: &str, node: &str, disk_type: &str) -> Result<()> {
        let claims: Api<LocalDiskClaim> = self.cluster();
        let object = json!({
            "apiVersion": "hwameistor.io/v1alpha1",
            "kind": "LocalDiskClaim",
            "metadata": { "name": name },
            "spec": {
                "nodeName": node,
                "owner": names::owners::LOCAL_STORAGE,
                "description": { "diskType": disk_type },
            },
        });
        Self::apply(&claims, name, object).await?;
        Ok(())
    }

    /// The pools of all nodes, by node and name.
    pub(crate) async fn pools(&self) -> Result<Vec<Pool>> {
        let nodes: Api<LocalStorageNode> = self.cluster();
        let mut pools = Vec::new();
        for node in nodes.list(&ListParams::default()).await? {
            let name = node.name_any();
            for (pool, status) in node.status.unwrap_or_default().pools {
                pools.push(Pool {
                    node: name.clone(),
                    name: pool,
                    total: status.total_capacity_bytes,
                    free: status.free_capacity_bytes,
                    volumes: status.volumes,
                    disks: status.disks.len(),
                });
            }
        }
        pools.sort_by(|a, b| (&a.node, &a.name).cmp(&(&b.node, &b.name)));
        Ok(pools)
    }

    /// Makes sure that every node of the lab has pools, by claiming its free disks, and returns the pools. What is there already stays.
    ///
    /// # Errors
    /// If no node has a free disk or pool within a minute, or the pools are not there a minute later.
    pub(crate) async fn ensure_pools(&self) -> Result<Vec<Pool>> {
        let nodes = self.lab.nodes()?;
        let patience = Duration::from_secs(90);
        wait_for("a free disk or a pool on every node", patience, || async {
            let (free, pools) = (self.free_disks().await?, self.pools().await?);
            let bare = nodes.iter().find(|node| {
                !free.contains_key(*node) && !pools.iter().any(|pool| pool.node == **node)
            });
            Ok(match bare {
                None => Ok(()),
                Some(node) => Err(Pending::because(format!("{node} has neither"))),
            })
        })
        .await?;
        for (node, disks) in self.free_disks().await? {
            for disk in disks {
                let kind = disk_type(&disk);
                let name = format!("{node}-{}-claim", kind.to_lowercase());
                self.claim_disks(&name, &node, &kind).await?;
            }
        }
        wait_for(
            "a pool on every node, and no free disk left",
            patience,
            || async {
                let (free, pools) = (self.free_disks().await?, self.pools().await?);
                let without = nodes.iter().find(|node| {
                    !pools
                        .iter()
                        .any(|pool| pool.node == **node && pool.total > 0)
                });
                Ok(match (without, free.keys().next()) {
                    (None, None) => Ok(pools),
                    (Some(node), _) => Err(Pending::because(format!("{node} has no pool"))),
                    (None, Some(node)) => Err(Pending::because(format!(
                        "{node} has a disk that is not claimed"
                    ))),
                })
            },
        )
        .await
    }

    /// The name of a bound claim's volume.
    ///
    /// # Errors
    /// If the claim is not bound.
    pub(crate) async fn volume_of(&self, claim: &str) -> Result<String> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let claim = claims.get(claim).await?;
        claim
            .spec
            .and_then(|spec| spec.volume_name)
            .context("the claim is not bound")
    }
}

/// HDD, SSD or NVMe.
pub(crate) fn disk_type(disk: &LocalDisk) -> String {
    disk.spec
        .disk_attributes
        .as_ref()
        .map(|attributes| attributes.type_.to_string())
        .unwrap_or_default()
}

/// Bytes as people read them: `10.0 GiB`.
#[expect(clippy::cast_precision_loss, reason = "only shown, with one decimal")]
pub(crate) fn human(bytes: i64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    unreachable!("the loop returns at TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(human(0), "0.0 B");
        assert_eq!(human(10 << 30), "10.0 GiB");
        assert_eq!(human(3 << 39), "1.5 TiB");
    }
}
