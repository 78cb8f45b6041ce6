//! Reading a replica's status: state, size, what is wrong with it. Pure.

use hawser_api::{
    Condition, ConditionStatus, LocalVolumeReplica, ReplicaState, names::annotations,
};
use kube::ResourceExt;

/// Reasons of a node's failed conditions that waiting does not cure: the pool has no room, or is not there.
pub const FINAL_REASONS: [&str; 3] = ["NoSpace", "NoPool", "Invalid"];

/// A failed condition that a node reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    /// Whether the node gave up: trying again there can't succeed as things are.
    pub lasting: bool,
}

#[must_use]
pub fn state(replica: &LocalVolumeReplica) -> ReplicaState {
    replica
        .status
        .as_ref()
        .map_or(ReplicaState::Unset, |s| s.state.clone())
}

/// Size of the logical volume; 0: none yet.
#[must_use]
pub fn allocated(replica: &LocalVolumeReplica) -> i64 {
    replica
        .status
        .as_ref()
        .map_or(0, |s| s.allocated_capacity_bytes)
}

/// Whether there is, or once was, a logical volume.
#[must_use]
pub fn was_made(replica: &LocalVolumeReplica) -> bool {
    let existing = replica.annotations().get(annotations::EXISTING);
    allocated(replica) > 0 || existing.is_some_and(|text| text == "true")
}

/// The failure that the node reports for the present spec; one that was reported for an older spec does not count.
#[must_use]
pub fn failure(replica: &LocalVolumeReplica) -> Option<Failure> {
    let current = |c: &&Condition| match (c.observed_generation, replica.metadata.generation) {
        (Some(observed), Some(generation)) => observed >= generation,
        _ => true,
    };
    let failed: Vec<&Condition> = replica
        .status
        .iter()
        .flat_map(|s| &s.conditions)
        .filter(|c| c.status == ConditionStatus::False && !c.message.is_empty())
        .filter(current)
        .collect();
    let lasting = failed
        .iter()
        .find(|c| FINAL_REASONS.contains(&c.reason.as_str()));
    let shown = lasting.or(failed.first())?;
    Some(Failure {
        message: shown.message.clone(),
        lasting: lasting.is_some(),
    })
}

/// What is wrong with the replica, for people; `None` if nothing is known to be.
#[must_use]
pub fn problem(replica: &LocalVolumeReplica) -> Option<String> {
    if let Some(failure) = failure(replica) {
        return Some(failure.message);
    }
    match state(replica) {
        ReplicaState::Ready | ReplicaState::Unset | ReplicaState::Creating => None,
        ReplicaState::NotReady => Some("it is not ready".to_owned()),
        ReplicaState::Invalid => Some("its data can't be trusted".to_owned()),
        ReplicaState::ToBeDeleted | ReplicaState::Deleted => Some("it is being deleted".to_owned()),
        ReplicaState::Other(state) => Some(format!("its state is {state:?}")),
    }
}
