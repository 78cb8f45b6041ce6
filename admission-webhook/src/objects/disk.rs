//! `LocalDisk`: what a node's daemon found. Users set owner, reservation and type; an object whose disk is in use stays.

use hawser_api::{DiskClaimState, DiskState, DiskType, LocalDisk};
use kube::ResourceExt;

use super::{Fault, Kind, fixed};
use crate::gather::Round;
use crate::wire::Operation;

impl Kind for LocalDisk {
    const NAME: &'static str = "LocalDisk";
    /// The volumes that have data on the disk's node.
    type Known = Vec<String>;

    async fn known(round: &Round<'_>, _: Option<&Self>, new: &Self) -> Vec<String> {
        round.volumes_on(&new.spec.node_name)
    }

    fn faults(&self, _: &Vec<String>) -> Vec<Fault> {
        let attributes = self.spec.disk_attributes.as_ref();
        match attributes.map(|attributes| &attributes.type_) {
            Some(DiskType::Other(other)) => vec![Fault::invalid(
                "spec.diskAttributes.type",
                format!(
                    "spec.diskAttributes.type is {other:?}: it can be HDD, SSD or NVMe, in this spelling"
                ),
            )],
            _ => Vec::new(),
        }
    }

    fn step(old: &Self, new: &Self, _: &Vec<String>) -> Vec<Fault> {
        let mut faults = Vec::new();
        fixed(
            "spec.nodeName",
            (&old.spec.node_name, &new.spec.node_name),
            "the daemon of the node that has the disk writes it",
            &mut faults,
        );
        faults
    }

    fn held(&self, _: &Vec<String>) -> Vec<Fault> {
        if self.spec.state != DiskState::Active || !is_given(self) {
            return Vec::new();
        }
        let spec = &self.spec;
        let claim = spec
            .claim_ref
            .as_ref()
            .and_then(|claim| claim.name.as_deref());
        let to = claim.map_or("a pool".to_owned(), |claim| format!("claim {claim:?}"));
        vec![Fault::in_use(
            "delete",
            format!(
                "disk {} of node {} is there and was given to {to}: the object is what says so. Take the disk out of its pool and out of the \
                 node first",
                spec.device_path, spec.node_name
            ),
        )]
    }

    fn warnings(&self, operation: Operation, volumes: &Vec<String>) -> Vec<String> {
        if operation != Operation::Delete || !is_given(self) || volumes.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "LocalDisk {:?} was given to a pool of node {}, which has {} volumes: should one of them be on it, it can't be used without the disk",
            self.name_any(),
            self.spec.node_name,
            volumes.len()
        )]
    }
}

fn is_given(disk: &LocalDisk) -> bool {
    let state = disk.status.as_ref().map(|status| &status.claim_state);
    disk.spec.claim_ref.is_some() || state == Some(&DiskClaimState::Bound)
}
