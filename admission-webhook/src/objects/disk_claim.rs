//! `LocalDiskClaim`: disks of a node that is there, described so that something is meant.

use hawser_api::names::owners;
use hawser_api::{ClaimPhase, LocalDiskClaim};

use super::{Fault, Kind, fixed, kept};
use crate::gather::{Found, Round};
use crate::wire::Operation;

impl Kind for LocalDiskClaim {
    const NAME: &'static str = "LocalDiskClaim";
    /// Whether there is such a node.
    type Known = Found<()>;

    async fn known(round: &Round<'_>, _: Option<&Self>, new: &Self) -> Found<()> {
        if new.spec.node_name.is_empty() {
            return Found::Unknown;
        }
        round.node(&new.spec.node_name).await
    }

    fn faults(&self, node: &Found<()>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = &self.spec.node_name;
        if name.is_empty() {
            faults.push(Fault::invalid(
                "spec.nodeName",
                "spec.nodeName is missing: it names the node whose disks are claimed",
            ));
        } else if *node == Found::Missing {
            faults.push(Fault::invalid(
                "spec.nodeName",
                format!("spec.nodeName is {name:?}; there is no node of that name. Correct it, or add the node"),
            ));
        }
        if let Err(error) = self.spec.check() {
            faults.push(Fault::invalid(error.field(), error.to_string()));
        }
        faults
    }

    fn step(old: &Self, new: &Self, _: &Found<()>) -> Vec<Fault> {
        const GIVEN: &str = "its disks are given already; make another claim";
        let phase = old.status.as_ref().map(|status| &status.status);
        let mut faults = Vec::new();
        // Until disks are chosen, everything may still be corrected.
        if !matches!(
            phase,
            Some(ClaimPhase::Bound | ClaimPhase::Extending | ClaimPhase::Consumed)
        ) {
            return faults;
        }
        fixed(
            "spec.nodeName",
            (&old.spec.node_name, &new.spec.node_name),
            GIVEN,
            &mut faults,
        );
        fixed(
            "spec.owner",
            (&old.spec.owner, &new.spec.owner),
            GIVEN,
            &mut faults,
        );
        kept(
            "spec.diskRefs",
            (&old.spec.disk_refs, &new.spec.disk_refs),
            GIVEN,
            &mut faults,
        );
        faults
    }

    fn held(&self, _: &Found<()>) -> Vec<Fault> {
        Vec::new()
    }

    fn warnings(&self, operation: Operation, _: &Found<()>) -> Vec<String> {
        if operation != Operation::Delete && self.spec.owner == owners::LOCAL_DISK_MANAGER {
            vec![format!(
                "spec.owner is {:?}: this version serves no volumes of whole disks, so the claim will wait; {:?} makes the disks part of a pool",
                owners::LOCAL_DISK_MANAGER,
                owners::LOCAL_STORAGE
            )]
        } else {
            Vec::new()
        }
    }
}
