//! Whose reservations count. Pure.
//!
//! A provisioner that stops leading may have writes on their way that arrive long after its successor has begun to decide. So
//! each provisioner begins an *epoch* when it starts to lead, and each group bears the epoch of who wrote it last. One lease, the
//! *fence*, holds the epoch that counts; reservations of any other are void, whenever they arrive and whoever sees them.
//!
//! Taking over is three steps, each of which can be the last one before a crash:
//! 1. the fence names the new epoch, and those before it as still counting (compare-and-swap);
//! 2. each group whose reservations count gets the new epoch (compare-and-swap, which also voids changes that are on their way);
//! 3. the fence names the new epoch alone (compare-and-swap). Only now is anything decided.

use std::collections::BTreeSet;

use hawser_api::{
    LocalVolumeGroup,
    names::{annotations, leases},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

/// The epoch of groups that bear none: written by hand, or before there were epochs.
pub const NO_EPOCH: &str = "none";

/// The epoch whose reservations these are.
#[must_use]
pub fn epoch(group: &LocalVolumeGroup) -> &str {
    group
        .annotations()
        .get(annotations::EPOCH)
        .map_or(NO_EPOCH, String::as_str)
}

/// Makes the group's reservations those of this epoch.
pub fn stamp(group: &mut LocalVolumeGroup, epoch: &str) {
    group
        .annotations_mut()
        .insert(annotations::EPOCH.to_owned(), epoch.to_owned());
}

/// What the lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The epoch that counts.
    pub holder: String,
    /// Epochs that still count, because they are being taken over.
    pub earlier: BTreeSet<String>,
}

impl Fence {
    /// Without a lease everything counts that bears no epoch.
    #[must_use]
    pub fn of(lease: Option<&Lease>) -> Self {
        let holder = lease
            .and_then(|lease| lease.spec.as_ref()?.holder_identity.clone())
            .filter(|holder| !holder.is_empty());
        let earlier = lease
            .and_then(|lease| lease.annotations().get(annotations::EARLIER_EPOCHS))
            .map(|all| all.split(',').filter(|e| !e.is_empty()));
        Self {
            holder: holder.unwrap_or_else(|| NO_EPOCH.to_owned()),
            earlier: earlier.into_iter().flatten().map(str::to_owned).collect(),
        }
    }

    /// Whether reservations of this epoch count.
    #[must_use]
    pub fn counts(&self, epoch: &str) -> bool {
        self.holder == epoch || self.earlier.contains(epoch)
    }

    /// The first step of taking over.
    #[must_use]
    pub fn begin(mut self, epoch: &str) -> Self {
        if self.holder != epoch {
            self.earlier.insert(self.holder);
        }
        self.earlier.remove(epoch);
        Self {
            holder: epoch.to_owned(),
            earlier: self.earlier,
        }
    }

    /// The last step.
    #[must_use]
    pub fn end(self) -> Self {
        Self {
            earlier: BTreeSet::new(),
            ..self
        }
    }

    /// The lease that says so, as the next version of this one.
    #[must_use]
    pub fn write(&self, over: Option<&Lease>) -> Lease {
        let mut lease = over.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(leases::RESERVATIONS.to_owned()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_transitions: Some(transitions.unwrap_or(0).saturating_add(1)),
            ..LeaseSpec::default()
        });
        let earlier: Vec<&str> = self.earlier.iter().map(String::as_str).collect();
        let notes = lease.annotations_mut();
        if earlier.is_empty() {
            notes.remove(annotations::EARLIER_EPOCHS);
        } else {
            notes.insert(annotations::EARLIER_EPOCHS.to_owned(), earlier.join(","));
        }
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(with: Option<&str>) -> LocalVolumeGroup {
        let mut group = LocalVolumeGroup::default();
        if let Some(with) = with {
            stamp(&mut group, with);
        }
        group
    }

    #[test]
    fn without_a_lease_what_bears_no_epoch_counts() {
        let fence = Fence::of(None);
        assert!(fence.counts(epoch(&stamped(None))) && !fence.counts(epoch(&stamped(Some("a")))));
    }

    #[test]
    fn taking_over_keeps_what_counted_until_its_end() {
        let first = Fence::of(None).begin("a");
        assert!(first.counts("a") && first.counts(NO_EPOCH));
        let alone = first.clone().end();
        assert!(alone.counts("a") && !alone.counts(NO_EPOCH));
        // Killed half way: both of what it had taken over already and what it had not.
        let second = first.begin("b");
        assert!(second.counts("b") && second.counts("a") && second.counts(NO_EPOCH));
        assert_eq!(second.clone().begin("b"), second, "safe to repeat");
        assert!(!second.end().counts("a"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let fence = Fence::of(None).begin("p-1/x").begin("p-2/y");
        let lease = fence.write(None);
        assert_eq!(Fence::of(Some(&lease)), fence);
        let next = fence.end();
        let lease = next.write(Some(&lease));
        assert_eq!(Fence::of(Some(&lease)), next);
        assert_eq!(lease.spec.unwrap().lease_transitions, Some(2));
    }
}
