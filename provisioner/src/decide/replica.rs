//! Reading a replica's status: state, size, what is wrong with it. Pure.

use hawser_api::{
    Condition, ConditionStatus, LocalVolumeReplica, ReplicaState,
    names::{annotations, reasons},
};
use kube::ResourceExt;

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
        .find(|c| reasons::LASTING.contains(&c.reason.as_str()));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the node daemon writes; its tests hold it to the same file.
    const TOLD: &str = include_str!("../../../libs/api/tests/contract/replicas.json");

    #[test]
    fn what_a_node_tells_is_understood() {
        let told: BTreeMap<String, LocalVolumeReplica> = serde_json::from_str(TOLD).unwrap();
        let read: BTreeMap<&str, Option<bool>> = told
            .iter()
            .map(|(name, replica)| (name.as_str(), failure(replica).map(|f| f.lasting)))
            .collect();
        let wanted = BTreeMap::from([
            ("a full pool", Some(true)),
            ("a growth beyond the pool", Some(true)),
            ("a growth that waits for zeroes", None),
            ("a name that is taken", Some(true)),
            ("a step that failed", Some(false)),
            ("no such pool", Some(true)),
            ("ready", None),
            ("what is not served", Some(true)),
        ]);
        assert_eq!(read, wanted);
        for (name, replica) in &told {
            let usable = matches!(
                name.as_str(),
                "ready" | "a growth beyond the pool" | "a growth that waits for zeroes"
            );
            assert_eq!(state(replica) == ReplicaState::Ready, usable, "{name}");
            assert_eq!(allocated(replica) > 0, usable, "{name}");
        }
    }

    #[test]
    fn a_failure_of_an_older_wish_does_not_count() {
        let told: BTreeMap<String, LocalVolumeReplica> = serde_json::from_str(TOLD).unwrap();
        let mut replica = told["a full pool"].clone();
        replica.metadata.generation = replica.metadata.generation.map(|n| n + 1);
        assert_eq!(failure(&replica), None);
    }
}
