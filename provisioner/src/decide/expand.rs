//! Growing a volume: what to do with an operation's object. Pure.
//!
//! Room is taken by raising what the replicas require; it is given back by lowering that to what they have.

use std::sync::Arc;

use hawser_api::{
    LocalVolume, LocalVolumeExpand, LocalVolumeReplica, OperationState, ReplicaState,
};

use kube::ResourceExt;

use super::{replica, size, volume::mirrored};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Record this state.
    Enter {
        state: OperationState,
        message: String,
    },
    /// Check that there is room, and raise what the replicas require. Then record `InProgress`, or `Failed`.
    TakeRoom { size: i64 },
    /// The nodes are at work; this is what hinders them.
    Wait { message: String },
    /// Give the room back that was taken and not used, then record this state.
    GiveBack {
        state: OperationState,
        message: String,
    },
    /// Done with: remove the object.
    Remove,
    /// Over; stays until somebody removes it.
    Rest,
}

/// The size that all copies have.
#[must_use]
pub fn allocated(volume: &LocalVolume, replicas: &[Arc<LocalVolumeReplica>]) -> i64 {
    let smallest = replicas.iter().map(|r| replica::allocated(r)).min();
    smallest.unwrap_or_else(|| {
        volume
            .status
            .as_ref()
            .map_or(0, |s| s.allocated_capacity_bytes)
    })
}

/// Decides. `gave_up`: nodes have reported for long enough, without interruption, that they can't do it.
#[must_use]
pub fn next(
    operation: &LocalVolumeExpand,
    volume: Option<&LocalVolume>,
    replicas: &[Arc<LocalVolumeReplica>],
    gave_up: bool,
) -> Next {
    let status = operation.status.clone().unwrap_or_default();
    let leaving = volume.is_none_or(|v| v.spec.delete);
    let enter = |state: OperationState, message: String| Next::Enter { state, message };
    if operation.spec.abort {
        if matches!(
            status.state,
            OperationState::Completed | OperationState::Aborted | OperationState::Cancelled
        ) {
            return Next::Remove;
        }
        if status.state == OperationState::ToBeAborted {
            return Next::GiveBack {
                state: OperationState::Aborted,
                message: "aborted; the volume is as it was".to_owned(),
            };
        }
        return enter(
            OperationState::ToBeAborted,
            "an abort was asked for".to_owned(),
        );
    }
    match status.state {
        OperationState::Unset => submit(operation, volume, replicas),
        OperationState::Submitted => match refusal(operation, volume, replicas) {
            Some(why) => enter(OperationState::Failed, why),
            None => Next::TakeRoom {
                size: size::round_up(operation.spec.required_capacity_bytes)
                    .unwrap_or(size::LARGEST),
            },
        },
        OperationState::InProgress => progress(operation, volume, replicas, gave_up),
        OperationState::Completed | OperationState::Cancelled | OperationState::Aborted => {
            Next::Remove
        }
        // Made by the CSI call, it goes with its volume; one made by hand keeps its message.
        OperationState::Failed if leaving && operation.name_any() == operation.spec.volume_name => {
            Next::Remove
        }
        OperationState::Failed
        | OperationState::ToBeAborted
        | OperationState::AddReplica
        | OperationState::SyncReplica
        | OperationState::PruneReplica
        | OperationState::Other(_) => Next::Rest,
    }
}

fn submit(
    operation: &LocalVolumeExpand,
    volume: Option<&LocalVolume>,
    replicas: &[Arc<LocalVolumeReplica>],
) -> Next {
    match refusal(operation, volume, replicas) {
        Some(message) => Next::Enter {
            state: OperationState::Failed,
            message,
        },
        None => Next::Enter {
            state: OperationState::Submitted,
            message: String::new(),
        },
    }
}

/// Why a mirrored volume does not grow.
#[must_use]
pub fn cannot_mirrored(volume: &str, sign: &str) -> String {
    format!(
        "volume {volume} is mirrored or convertible ({sign}), which this version does not support yet: growing what lies beneath DRBD would \
         leave its metadata in the middle"
    )
}

/// What is wrong with the request itself.
fn refusal(
    operation: &LocalVolumeExpand,
    volume: Option<&LocalVolume>,
    replicas: &[Arc<LocalVolumeReplica>],
) -> Option<String> {
    let (name, wanted) = (
        &operation.spec.volume_name,
        operation.spec.required_capacity_bytes,
    );
    let Some(volume) = volume else {
        return Some(format!(
            "spec.volumeName is {name:?}; there is no LocalVolume of that name"
        ));
    };
    if volume.spec.delete {
        return Some(format!("volume {name} is being deleted"));
    }
    if let Some(sign) = mirrored(volume) {
        return Some(cannot_mirrored(name, &sign));
    }
    if replicas.is_empty() {
        return Some(format!(
            "volume {name} has no copy yet; try again when it is ready"
        ));
    }
    let has = allocated(volume, replicas);
    let Some(rounded) = size::round_up(wanted) else {
        return Some(format!(
            "spec.requiredCapacityBytes is {wanted}; the largest volume is {} bytes",
            size::LARGEST
        ));
    };
    (rounded < has).then(|| {
        format!("spec.requiredCapacityBytes is {wanted}, and volume {name} has {has} bytes already; volumes can't shrink")
    })
}

fn progress(
    operation: &LocalVolumeExpand,
    volume: Option<&LocalVolume>,
    replicas: &[Arc<LocalVolumeReplica>],
    gave_up: bool,
) -> Next {
    let failed = |message: String| Next::GiveBack {
        state: OperationState::Failed,
        message,
    };
    let Some(volume) = volume.filter(|v| !v.spec.delete) else {
        return Next::Enter {
            state: OperationState::Cancelled,
            message: "the volume is being deleted".to_owned(),
        };
    };
    let wanted = size::round_up(operation.spec.required_capacity_bytes).unwrap_or(size::LARGEST);
    if allocated(volume, replicas) >= wanted {
        return Next::Enter {
            state: OperationState::Completed,
            message: String::new(),
        };
    }
    let failure = replicas
        .iter()
        .find_map(|r| replica::failure(r).map(|f| (r.spec.node_name.clone(), f)));
    match failure {
        Some((node, failure)) if failure.lasting || gave_up => {
            failed(format!("node {node}: {}", failure.message))
        }
        Some((node, failure)) => Next::Wait {
            message: format!("node {node}: {}", failure.message),
        },
        None => {
            let away = replicas
                .iter()
                .find(|r| replica::state(r) != ReplicaState::Ready);
            let message = away.map(|r| {
                format!(
                    "waiting for the copy on node {} to be ready",
                    r.spec.node_name
                )
            });
            Next::Wait {
                message: message.unwrap_or_default(),
            }
        }
    }
}

/// Whether any copy reports that it can't grow.
#[must_use]
pub fn is_failing(replicas: &[Arc<LocalVolumeReplica>]) -> bool {
    replicas.iter().any(|r| replica::failure(r).is_some())
}

#[cfg(test)]
mod tests {
    use hawser_api::{
        Condition, ConditionStatus, LocalVolumeExpandSpec, LocalVolumeExpandStatus,
        LocalVolumeReplicaStatus,
    };
    use kube::api::ObjectMeta;

    use super::*;

    const GIB: i64 = 1 << 30;

    fn an_operation(size: i64, state: OperationState, abort: bool) -> LocalVolumeExpand {
        LocalVolumeExpand {
            metadata: ObjectMeta {
                name: Some("v".into()),
                ..ObjectMeta::default()
            },
            spec: LocalVolumeExpandSpec {
                abort,
                required_capacity_bytes: size,
                volume_name: "v".into(),
            },
            status: Some(LocalVolumeExpandStatus {
                state,
                ..LocalVolumeExpandStatus::default()
            }),
        }
    }

    fn a_copy(allocated: i64, failure: Option<(&str, &str)>) -> Vec<Arc<LocalVolumeReplica>> {
        let condition = failure.map(|(reason, message)| Condition {
            status: ConditionStatus::False,
            reason: reason.into(),
            message: message.into(),
            type_: "Expand".into(),
            ..Condition::default()
        });
        vec![Arc::new(LocalVolumeReplica {
            status: Some(LocalVolumeReplicaStatus {
                state: ReplicaState::Ready,
                allocated_capacity_bytes: allocated,
                conditions: condition.into_iter().collect(),
                ..LocalVolumeReplicaStatus::default()
            }),
            ..LocalVolumeReplica::default()
        })]
    }

    fn entered(next: &Next) -> Option<&OperationState> {
        match next {
            Next::Enter { state, .. } | Next::GiveBack { state, .. } => Some(state),
            Next::TakeRoom { .. } | Next::Wait { .. } | Next::Remove | Next::Rest => None,
        }
    }

    #[test]
    fn an_operation_runs_through_its_states_and_goes() {
        let volume = LocalVolume::default();
        let at = |state, has| {
            next(
                &an_operation(2 * GIB, state, false),
                Some(&volume),
                &a_copy(has, None),
                false,
            )
        };
        assert_eq!(
            entered(&at(OperationState::Unset, GIB)),
            Some(&OperationState::Submitted)
        );
        assert_eq!(
            at(OperationState::Submitted, GIB),
            Next::TakeRoom { size: 2 * GIB }
        );
        assert!(matches!(
            at(OperationState::InProgress, GIB),
            Next::Wait { .. }
        ));
        assert_eq!(
            entered(&at(OperationState::InProgress, 2 * GIB)),
            Some(&OperationState::Completed)
        );
        assert_eq!(at(OperationState::Completed, 2 * GIB), Next::Remove);
        assert_eq!(at(OperationState::Failed, GIB), Next::Rest);
    }

    #[test]
    fn a_failure_counts_when_it_lasts_and_gives_the_room_back() {
        let volume = LocalVolume::default();
        let operation = an_operation(2 * GIB, OperationState::InProgress, false);
        let busy = a_copy(GIB, Some(("Expand", "device busy")));
        assert!(
            matches!(next(&operation, Some(&volume), &busy, false), Next::Wait { message } if message.contains("busy"))
        );
        assert!(matches!(
            next(&operation, Some(&volume), &busy, true),
            Next::GiveBack { .. }
        ));
        let full = a_copy(GIB, Some(("NoSpace", "the pool is full")));
        assert!(matches!(
            next(&operation, Some(&volume), &full, false),
            Next::GiveBack { .. }
        ));
    }

    #[test]
    fn an_abort_gives_the_room_back_before_the_object_goes() {
        let volume = LocalVolume::default();
        let at = |state| {
            next(
                &an_operation(2 * GIB, state, true),
                Some(&volume),
                &a_copy(GIB, None),
                false,
            )
        };
        assert_eq!(
            entered(&at(OperationState::InProgress)),
            Some(&OperationState::ToBeAborted)
        );
        assert!(matches!(
            at(OperationState::ToBeAborted),
            Next::GiveBack {
                state: OperationState::Aborted,
                ..
            }
        ));
        assert_eq!(at(OperationState::Aborted), Next::Remove);
    }

    #[test]
    fn a_mirrored_volume_does_not_grow_beneath_drbd() {
        let mut volume = LocalVolume::default();
        volume.spec.replica_number = 2;
        for state in [OperationState::Unset, OperationState::Submitted] {
            let refused = next(
                &an_operation(2 * GIB, state, false),
                Some(&volume),
                &a_copy(GIB, None),
                false,
            );
            assert!(
                matches!(&refused, Next::Enter { state: OperationState::Failed, message } if message.contains("spec.replicaNumber is 2")),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_numbers() {
        let volume = LocalVolume::default();
        let submit = |size, volume| {
            next(
                &an_operation(size, OperationState::Unset, false),
                volume,
                &a_copy(2 * GIB, None),
                false,
            )
        };
        for (size, volume, word) in [
            (GIB, Some(&volume), "shrink"),
            (3 * GIB, None, "no LocalVolume"),
            (i64::MAX, Some(&volume), "largest"),
        ] {
            let refused = submit(size, volume);
            assert!(
                matches!(&refused, Next::Enter { state: OperationState::Failed, message } if message.contains(word)),
                "{word}: {refused:?}"
            );
        }
    }
}
