//! `LocalVolumeReplica`: the last good copy of a volume is not given up by itself.

use hawser_api::{ConditionStatus, LocalVolumeReplica, ReplicaState, names, quantity};
use kube::ResourceExt;

use super::{Fault, Kind, fixed};
use crate::gather::{Found, Round};

/// What is known around a copy.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether another copy of the volume is up to date.
    another: bool,
    /// Whether the volume is to go as a whole, or is gone.
    volume_goes: bool,
}

impl Kind for LocalVolumeReplica {
    const NAME: &'static str = "LocalVolumeReplica";
    type Known = Known;

    async fn known(round: &Round<'_>, old: Option<&Self>, new: &Self) -> Known {
        // Only who wants it gone needs to know.
        if old.is_none_or(|old| old.spec.delete) || !new.spec.delete {
            return Known::default();
        }
        let name = new.name_any();
        let copies = round.copies_of(&new.spec.volume_name);
        Known {
            another: copies
                .iter()
                .any(|(object, copy)| *object != name && copy.up_to_date),
            volume_goes: match round.local_volume(&new.spec.volume_name).await {
                Found::There(volume) => volume.spec.delete,
                Found::Missing => true,
                Found::Unknown => false,
            },
        }
    }

    fn faults(&self, _: &Known) -> Vec<Fault> {
        Vec::new()
    }

    fn step(old: &Self, new: &Self, known: &Known) -> Vec<Fault> {
        const STAY: &str = "a copy stays where it was made; the provisioner makes others";
        let (before, after) = (&old.spec, &new.spec);
        let mut faults = Vec::new();
        fixed(
            "spec.nodeName",
            (&before.node_name, &after.node_name),
            STAY,
            &mut faults,
        );
        fixed(
            "spec.poolName",
            (&before.pool_name, &after.pool_name),
            STAY,
            &mut faults,
        );
        fixed(
            "spec.volumeName",
            (&before.volume_name, &after.volume_name),
            STAY,
            &mut faults,
        );
        let (had, has) = (
            before.required_capacity_bytes,
            after.required_capacity_bytes,
        );
        if has < had {
            let (had, has) = (quantity::human(had), quantity::human(has));
            faults.push(Fault::invalid(
                "spec.requiredCapacityBytes",
                format!(
                    "spec.requiredCapacityBytes can't go from {had} to {has}: volumes don't shrink"
                ),
            ));
        }
        if !before.delete && after.delete && !known.another && !known.volume_goes {
            faults.push(Fault::in_use(
                "spec.delete",
                format!(
                    "no other copy of LocalVolume {:?} is up to date: giving this one up would lose its data. To give up the volume, set \
                     spec.delete of the LocalVolume",
                    after.volume_name
                ),
            ));
        }
        faults
    }

    fn held(&self, _: &Known) -> Vec<Fault> {
        if self.spec.delete || !has_data(self) {
            return Vec::new();
        }
        vec![Fault::in_use(
            "delete",
            format!(
                "deleting the object destroys no data and can't be taken back. It goes with its LocalVolume {:?}, whose spec.delete says that \
                 the data is given up",
                self.spec.volume_name
            ),
        )]
    }
}

/// Whether the copy was ever made. What is not ready may have been, unless its node says that making it failed.
fn has_data(replica: &LocalVolumeReplica) -> bool {
    let Some(status) = &replica.status else {
        return false;
    };
    let could_not_be_made = status.conditions.iter().any(|condition| {
        condition.type_ == names::conditions::CREATE
            && condition.status == ConditionStatus::False
            && condition.reason != names::reasons::DATA_LOST
    });
    status.allocated_capacity_bytes > 0
        || !status.dev_path.is_empty()
        || status.state == ReplicaState::Ready
        || (status.state == ReplicaState::NotReady && !could_not_be_made)
}
