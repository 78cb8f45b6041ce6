//! Disks of a scenario's own: plugged into a node, given to pools that no other scenario uses, and taken away in the end with all that speaks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use hawser_api::{
    DiskState, LocalDisk, LocalDiskClaim, LocalDiskClaimStatus, LocalStorageNode, PoolStatus, names,
};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::faults::{on, sh};
use super::objects::Pool;
use super::scope::Scope;
use super::volumes::delete;
use super::wait::{Pending, wait_for};
use crate::lab::Lab;
use crate::shelf::Kind;

/// Until the daemon has seen a disk go, come or change, or a claim has gone its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// A class of disk of which the lab has no pool, so that pools of it are a scenario's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) kind: Kind,
    pub(crate) disk_type: &'static str,
}

impl Spare {
    /// One beside these pools.
    ///
    /// # Errors
    /// If there are pools of both kinds of disk already.
    pub(crate) fn beside(pools: &[Pool]) -> Result<Self> {
        let both = [(Kind::Hdd, "HDD"), (Kind::Ssd, "SSD")];
        let all = both.map(|(kind, disk_type)| Self { kind, disk_type });
        let free = |spare: &Self| pools.iter().all(|pool| pool.name != spare.pool());
        all.into_iter().find(free).context(
            "there are pools of HDD and of SSD already: this needs disks of a class of their own",
        )
    }

    /// The name of its pools.
    pub(crate) fn pool(self) -> String {
        format!("{}{}", names::pools::VG_PREFIX, self.disk_type)
    }
}

/// A disk that was plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plugged {
    /// The lab's name of it.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// The extra disks of one node.
pub(crate) struct Bay {
    scope: Scope,
    pub(crate) node: String,
    disks: Vec<Plugged>,
    /// Names of the node's `LocalDisk` objects without the extra disks.
    before: BTreeSet<String>,
}

impl Bay {
    /// A bay without a disk yet.
    pub(crate) async fn open(scope: &Scope, node: &str) -> Result<Self> {
        Ok(Self {
            scope: scope.clone(),
            node: node.to_owned(),
            disks: Vec::new(),
            before: scope.disks_of(node).await?.into_keys().collect(),
        })
    }

    /// Plugs in a blank disk; returns when the kernel has it.
    pub(crate) async fn plug(&mut self, bytes: u64, kind: Kind) -> Result<Plugged> {
        let node = self.node.clone();
        let disk = on(&self.scope.lab, move |lab| lab.add_disk(&node, bytes, kind)).await;
        Ok(self.keep(disk?.name, bytes))
    }

    /// Plugs in a blank disk that has the serial number of another.
    pub(crate) async fn plug_twin(&mut self, of: &Plugged, bytes: u64) -> Result<Plugged> {
        let (node, of) = (self.node.clone(), of.name.clone());
        let disk = on(&self.scope.lab, move |lab| lab.add_twin(&node, &of, bytes)).await;
        Ok(self.keep(disk?.name, bytes))
    }

    fn keep(&mut self, name: String, bytes: u64) -> Plugged {
        let plugged = Plugged { name, bytes };
        self.disks.push(plugged.clone());
        plugged
    }

    /// The present device of a disk.
    pub(crate) async fn device(&self, disk: &Plugged) -> Result<String> {
        let what = format!("the device of disk {} on {}", disk.name, self.node);
        wait_for(&what, PATIENCE, || async {
            let all = self.devices().await?;
            let found = all.iter().find(|(name, _)| *name == disk.name);
            Ok(match found {
                Some((_, device)) if device != "-" => Ok(format!("/dev/{device}")),
                _ => Err(Pending::because(format!("there are {all:?}"))),
            })
        })
        .await
    }

    /// Name and device of each data disk of the node; `-`: none now.
    async fn devices(&self) -> Result<Vec<(String, String)>> {
        let node = self.node.clone();
        on(&self.scope.lab, move |lab| lab.disk_devices(&node)).await
    }

    /// The disk's `LocalDisk` once it is there, active, and as `fits` wants it (`what`, in words).
    pub(crate) async fn object(
        &self,
        disk: &Plugged,
        what: &str,
        fits: impl Fn(&LocalDisk) -> bool,
    ) -> Result<LocalDisk> {
        let device = self.device(disk).await?;
        let what = format!("the LocalDisk of {device} on {} to be {what}", self.node);
        let disks: Api<LocalDisk> = self.scope.cluster();
        wait_for(&what, PATIENCE, || async {
            let list = disks.list(&ListParams::default()).await?.items;
            let found = list.into_iter().find(|object| {
                let spec = &object.spec;
                spec.node_name == self.node
                    && spec.device_path == device
                    && spec.state == DiskState::Active
                    && u64::try_from(spec.capacity) == Ok(disk.bytes)
            });
            Ok(match found {
                Some(object) if fits(&object) => Ok(object),
                Some(object) => Err(Pending::because(format!(
                    "it is {:?}, {:?}",
                    object.spec, object.status
                ))),
                None => Err(Pending::because("there is none")),
            })
        })
        .await
    }

    /// The disk's `LocalDisk` once it can be claimed.
    pub(crate) async fn offered(&self, disk: &Plugged) -> Result<LocalDisk> {
        self.object(disk, "free", is_free).await
    }

    /// Takes a disk out, without waiting for anybody to notice.
    pub(crate) async fn pull(&self, disk: &Plugged) -> Result<()> {
        self.change(disk, Lab::pull_disk).await
    }

    /// Plugs a disk in that was pulled.
    pub(crate) async fn put_back(&self, disk: &Plugged) -> Result<()> {
        self.change(disk, Lab::return_disk).await
    }

    /// Makes a disk's reads and writes fail, and has the kernel say that something changed, as it does for a disk in trouble.
    pub(crate) async fn fail(&self, disk: &Plugged) -> Result<()> {
        let device = self.device(disk).await?;
        self.change(disk, Lab::fail_disk).await?;
        self.look_again(&device).await
    }

    /// Ends what [`Bay::fail`] began.
    pub(crate) async fn fix(&self, disk: &Plugged) -> Result<()> {
        let device = self.device(disk).await?;
        self.change(disk, Lab::fix_disk).await?;
        self.look_again(&device).await
    }

    async fn look_again(&self, device: &str) -> Result<()> {
        let script = format!("udevadm trigger --action=change --settle {device}");
        sh(&self.scope.lab, &self.node, script).await.map(drop)
    }

    async fn change(&self, disk: &Plugged, what: fn(&Lab, &str, &str) -> Result<()>) -> Result<()> {
        let (node, name) = (self.node.clone(), disk.name.clone());
        on(&self.scope.lab, move |lab| what(lab, &node, &name)).await
    }

    /// Gives disks to a pool, and waits until they are in it.
    pub(crate) async fn give(&self, claim: &str, disks: &[&LocalDisk]) -> Result<()> {
        let names: Vec<String> = disks.iter().map(|disk| disk.name_any()).collect();
        self.scope
            .claim_disks_named(claim, &self.node, &names)
            .await?;
        self.consumed(claim).await
    }

    /// Waits until a claim for disks did its work.
    pub(crate) async fn consumed(&self, claim: &str) -> Result<()> {
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        let what = format!("claim {claim} to be consumed");
        wait_for(&what, PATIENCE, || async {
            Ok(match claims.get_opt(claim).await? {
                None => Ok(()),
                Some(left) => Err(Pending::because(format!("{:?}", left.status))),
            })
        })
        .await
    }

    /// Pulls the disks and deletes their objects. Repeatable; claims and volumes on them must be gone.
    pub(crate) async fn away(&mut self) -> Result<()> {
        let there = self.devices().await?;
        for disk in std::mem::take(&mut self.disks) {
            if there.iter().any(|(name, _)| *name == disk.name) {
                self.change(&disk, Lab::fix_disk).await?;
                self.pull(&disk).await?;
            }
        }
        let objects: Api<LocalDisk> = self.scope.cluster();
        for name in self.scope.disks_of(&self.node).await?.into_keys() {
            if !self.before.contains(&name) {
                let gone = |disk: &LocalDisk| disk.spec.state == DiskState::Inactive;
                self.scope.until_disk(&name, "inactive", gone).await?;
                delete(&objects, &name).await?;
            }
        }
        Ok(())
    }
}

/// Whether a claim could be given this disk.
pub(crate) fn is_free(object: &LocalDisk) -> bool {
    let available = object
        .status
        .as_ref()
        .is_some_and(|status| status.claim_state == hawser_api::DiskClaimState::Available);
    available && !object.spec.reserved && object.spec.claim_ref.is_none()
}

impl Scope {
    /// The `LocalDisk` objects of a node by name, also of disks that are gone.
    pub(crate) async fn disks_of(&self, node: &str) -> Result<BTreeMap<String, LocalDisk>> {
        let disks: Api<LocalDisk> = self.cluster();
        let list = disks.list(&ListParams::default()).await?;
        Ok(list
            .into_iter()
            .filter(|disk| disk.spec.node_name == node || disk.spec.pre_node_name == node)
            .map(|disk| (disk.name_any(), disk))
            .collect())
    }

    /// Claims these disks of a node for pools.
    pub(crate) async fn claim_disks_named(
        &self,
        name: &str,
        node: &str,
        disks: &[String],
    ) -> Result<()> {
        let object = json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalDiskClaim", "metadata": { "name": name },
            "spec": { "nodeName": node, "owner": names::owners::LOCAL_STORAGE, "description": { "localDiskNames": disks } },
        });
        Self::apply(&self.cluster::<LocalDiskClaim>(), name, object).await?;
        Ok(())
    }

    /// Waits until the status of a claim for disks is as `fits` wants it (`what`, in words).
    pub(crate) async fn until_disk_claim(
        &self,
        name: &str,
        what: &str,
        fits: impl Fn(&LocalDiskClaimStatus) -> bool,
    ) -> Result<LocalDiskClaimStatus> {
        let claims: Api<LocalDiskClaim> = self.cluster();
        wait_for(&format!("claim {name} {what}"), PATIENCE, || async {
            let status = claims.get(name).await?.status.unwrap_or_default();
            Ok(if fits(&status) {
                Ok(status)
            } else {
                Err(Pending::because(format!("its status is {status:?}")))
            })
        })
        .await
    }

    /// Waits until a `LocalDisk` is as `fits` wants it (`what`, in words).
    pub(crate) async fn until_disk(
        &self,
        name: &str,
        what: &str,
        fits: impl Fn(&LocalDisk) -> bool,
    ) -> Result<LocalDisk> {
        let disks: Api<LocalDisk> = self.cluster();
        wait_for(
            &format!("LocalDisk {name} to be {what}"),
            PATIENCE,
            || async {
                let disk = disks.get(name).await?;
                Ok(if fits(&disk) {
                    Ok(disk)
                } else {
                    Err(Pending::because(format!(
                        "it is {:?}, {:?}",
                        disk.spec, disk.status
                    )))
                })
            },
        )
        .await
    }

    /// Waits until a pool of a node (none: not there), and what the node says of its pools' trouble, are as `fits` wants them; returns the trouble.
    pub(crate) async fn until_pool(
        &self,
        node: &str,
        pool: &str,
        what: &str,
        fits: impl Fn(Option<&PoolStatus>, &str) -> bool,
    ) -> Result<String> {
        let nodes: Api<LocalStorageNode> = self.cluster();
        let what = format!("pool {pool} of {node} {what}");
        wait_for(&what, PATIENCE, || async {
            let status = nodes.get(node).await?.status.unwrap_or_default();
            let bad = status.conditions.iter().find(|c| c.type_ == "UnAvailable");
            let trouble = bad.map(|c| c.message.clone()).unwrap_or_default();
            let pool = status.pools.get(pool);
            Ok(if fits(pool, &trouble) {
                Ok(trouble)
            } else {
                Err(Pending::because(format!(
                    "it is {pool:?}, the node says {:?}",
                    status.conditions
                )))
            })
        })
        .await
    }

    /// A pool's room on a node, bytes.
    pub(crate) async fn free_of(&self, node: &str, pool: &str) -> Result<i64> {
        let nodes: Api<LocalStorageNode> = self.cluster();
        let status = nodes.get(node).await?.status.unwrap_or_default();
        let found = status.pools.get(pool);
        let found = found.with_context(|| format!("{node} has no pool {pool}"))?;
        Ok(found.free_capacity_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_disk() -> LocalDisk {
        serde_json::from_value(json!({
            "metadata": { "name": "localdisk-1" },
            "spec": { "nodeName": "n1", "devLinks": [] },
            "status": { "claimState": "Available" },
        }))
        .unwrap()
    }

    #[test]
    fn a_reserved_or_given_disk_is_not_free() {
        let mut disk = a_disk();
        assert!(is_free(&disk));
        disk.spec.reserved = true;
        assert!(!is_free(&disk));
        disk = a_disk();
        disk.spec.claim_ref = Some(k8s_openapi::api::core::v1::ObjectReference::default());
        assert!(!is_free(&disk));
    }

    #[test]
    fn a_spare_class_is_one_without_a_pool() {
        let pool = |class: &str| Pool {
            node: "n1".into(),
            name: format!("LocalStorage_Pool{class}"),
            total: 1,
            free: 1,
            volumes: Vec::new(),
            disks: 1,
        };
        let beside = |pools: &[Pool]| Spare::beside(pools).map(Spare::pool);
        assert_eq!(beside(&[pool("SSD")]).unwrap(), "LocalStorage_PoolHDD");
        assert_eq!(beside(&[pool("HDD")]).unwrap(), "LocalStorage_PoolSSD");
        assert!(beside(&[pool("HDD"), pool("SSD")]).is_err());
    }
}
