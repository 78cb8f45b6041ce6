//! Volumes: carries out what `decide::volume` plans.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use hawser_api::{
    LocalVolume, LocalVolumeReplica, LocalVolumeReplicaSpec, VolumeState,
    names::{annotations, finalizers},
};
use hawser_runtime::{
    events::Severity,
    patch::{add_finalizer, remove_finalizer},
    reconcile::Action,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{ResourceExt, api::ObjectMeta};

use crate::{
    attachments,
    controllers::stray,
    decide::{
        name, reserve, size,
        volume::{self, Observed, Step, Summary},
    },
    objects::WriteError,
    state::State,
};

/// How often a deletion that waits for others is looked at again: for a node that was removed, or a detached volume.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Brings one volume a step further.
pub async fn reconcile(state: Arc<State>, key: String) -> Result<Action, WriteError> {
    let Some(found) = state.objects.volumes.store.get(&key) else {
        return stray::clear_up(&state, &key).await;
    };
    let mut current = (*found).clone();
    if current.spec.delete && volume::published_node(&current).is_some() {
        current = attachments::heal(&state, &current).await?;
    }
    let replicas = state.replicas_of(&key);
    let making = !current.spec.delete && !volume::was_made(&current);
    let lost_nodes = if current.spec.delete || making {
        let of_replicas = replicas.iter().map(|r| r.spec.node_name.clone());
        let mut nodes: Vec<String> = of_replicas.collect();
        if making {
            nodes.extend(volume::wanted_nodes(&current));
        }
        lost_nodes(&state, nodes).await?
    } else {
        Vec::new()
    };
    let groups = state.groups_of(&key);
    let now = Time(Timestamp::now());
    let steps = volume::plan(Observed {
        volume: &current,
        replicas: &replicas,
        group: groups.first().map(|g| &**g),
        lost_nodes: &lost_nodes,
        reserved: &reserve::reserved_nodes(&current, &groups, &state.epoch()),
        now: &now,
    });
    for step in steps {
        if let ControlFlow::Break(action) = apply(&state, &key, step).await? {
            return Ok(action);
        }
    }
    let Some(left) = state.objects.volumes.store.get(&key) else {
        return Ok(Action::Done);
    };
    let untouched = !left.spec.delete && volume::is_untouched(&left);
    if untouched {
        stray::give_back(&state, &left).await?;
    }
    // Of what is made or destroyed the node may go, of what is not bound the claim.
    let waiting = left.spec.delete || !volume::was_made(&left) || untouched;
    Ok(if waiting {
        Action::RequeueAfter(LOOK_AGAIN)
    } else {
        Action::Done
    })
}

/// Which of the nodes the API server does not have any more.
async fn lost_nodes(state: &State, mut nodes: Vec<String>) -> Result<Vec<String>, WriteError> {
    nodes.sort();
    nodes.dedup();
    let mut lost = Vec::new();
    for node in &nodes {
        let gone = state.node_is_gone(node).await?;
        if gone {
            lost.push(node.clone());
        }
    }
    Ok(lost)
}

fn gone(name: &str) -> WriteError {
    WriteError::Gone {
        what: format!("LocalVolume {name}"),
    }
}

/// The volume as the last step left it.
pub(super) fn latest(state: &State, key: &str) -> Result<Arc<LocalVolume>, WriteError> {
    state
        .objects
        .volumes
        .store
        .get(key)
        .ok_or_else(|| gone(key))
}

async fn apply(state: &State, key: &str, step: Step) -> Result<ControlFlow<Action>, WriteError> {
    tracing::debug!(volume = %key, ?step, "step");
    match step {
        Step::FindRoom => return stray::find_room(state, key).await,
        Step::LookForReplicas => return stray::look_for_replicas(state, key).await,
        Step::RemoveStray { replica } => stray::remove(state, key, &replica).await?,
        Step::Protect => {
            state
                .objects
                .change(&*latest(state, key)?, |v| {
                    add_finalizer(v, finalizers::VOLUME);
                })
                .await?;
        }
        Step::CreateReplica { node, existing } => {
            create_replica(state, &*latest(state, key)?, &node, existing).await?;
        }
        Step::FollowClaim { replica, claim } => {
            if let Some(replica) = state.objects.replicas.store.get(&replica) {
                state
                    .objects
                    .change(&*replica, |r| {
                        let notes = r.metadata.annotations.get_or_insert_default();
                        notes.insert(annotations::CLAIM.to_owned(), claim);
                    })
                    .await?;
            }
        }
        Step::SetStatus(summary) => set_status(state, key, summary).await?,
        Step::RequestReplicaDeletion { replica } => {
            if let Some(replica) = state.objects.replicas.store.get(&replica) {
                state
                    .objects
                    .change(&*replica, |r| r.spec.delete = true)
                    .await?;
            }
        }
        Step::DeleteReplica { replica } => {
            if let Some(replica) = state.objects.replicas.store.get(&replica) {
                state.objects.delete(&*replica).await?;
            }
        }
        Step::AbandonReplica { replica } => abandon(state, key, &replica).await?,
        Step::LeaveGroup { group } => super::group::leave(state, &group, key).await?,
        Step::Finish => finish(state, key).await?,
    }
    Ok(ControlFlow::Continue(()))
}

pub(super) async fn create_replica(
    state: &State,
    volume: &LocalVolume,
    node: &str,
    existing: bool,
) -> Result<(), WriteError> {
    let replica = build_replica(volume, node, existing);
    match state.objects.create(&replica).await {
        Ok(_) | Err(WriteError::Exists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes what was observed, and says what has changed.
async fn set_status(state: &State, key: &str, summary: Summary) -> Result<(), WriteError> {
    let before = latest(state, key)?;
    let was = volume::state(&before);
    let after = state
        .objects
        .change_status(&*before, |v| {
            let status = v.status.get_or_insert_default();
            status.state = summary.state;
            status.allocated_capacity_bytes = summary.allocated_capacity_bytes;
            status.replicas = summary.replicas;
            status.conditions = summary.conditions;
        })
        .await?;
    let is = volume::state(&after);
    if was == is {
        return Ok(());
    }
    tracing::info!(volume = %key, from = %was, to = %is, "volume changed state");
    let message = |v: &LocalVolume| {
        let conditions = v.status.iter().flat_map(|s| &s.conditions);
        conditions
            .filter(|c| c.type_ == volume::READY)
            .map(|c| c.message.clone())
            .next()
            .unwrap_or_default()
    };
    match is {
        VolumeState::Ready if was == VolumeState::NotReady => {
            state.tell(
                &after,
                Severity::Normal,
                "VolumeReady",
                "usable again: every copy is ready",
            );
        }
        VolumeState::Ready => {
            let has = size::show(
                after
                    .status
                    .as_ref()
                    .map_or(0, |s| s.allocated_capacity_bytes),
            );
            state.events.record(
                &after,
                Severity::Normal,
                "VolumeReady",
                format!("made with {has}"),
            );
        }
        VolumeState::NotReady => state.tell(
            &after,
            Severity::Warning,
            "VolumeNotReady",
            &message(&after),
        ),
        VolumeState::ToBeDeleted => {
            state
                .events
                .record(&after, Severity::Normal, "VolumeDeleting", message(&after));
        }
        VolumeState::Unset
        | VolumeState::Creating
        | VolumeState::Deleted
        | VolumeState::Other(_) => {}
    }
    Ok(())
}

/// The object that asks a node for a copy.
fn build_replica(volume: &LocalVolume, node: &str, existing: bool) -> LocalVolumeReplica {
    let spec = &volume.spec;
    let mut notes =
        std::collections::BTreeMap::from([(annotations::GENERATION.to_owned(), "1".to_owned())]);
    if let Some(claim) = volume::claim(volume) {
        notes.insert(annotations::CLAIM.to_owned(), claim);
    }
    if existing {
        notes.insert(annotations::EXISTING.to_owned(), "true".to_owned());
    }
    LocalVolumeReplica {
        metadata: ObjectMeta {
            name: Some(name::replica_name(&volume.name_any(), node)),
            annotations: Some(notes),
            finalizers: Some(vec![finalizers::REPLICA.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: LocalVolumeReplicaSpec {
            node_name: node.to_owned(),
            pool_name: spec.pool_name.clone(),
            required_capacity_bytes: spec.required_capacity_bytes,
            thin: spec.thin,
            volume_encrypt: spec.volume_encrypt.clone(),
            volume_name: volume.name_any(),
            volume_qos: spec.volume_qos.clone(),
            ..LocalVolumeReplicaSpec::default()
        },
        status: None,
    }
}

/// Lets go of a replica whose node does not exist any more, and its data with it.
pub(super) async fn abandon(state: &State, key: &str, replica: &str) -> Result<(), WriteError> {
    let Some(replica) = state.objects.replicas.store.get(replica) else {
        return Ok(());
    };
    let node = &replica.spec.node_name;
    tracing::info!(volume = %key, node, "node is gone: its copy is forgotten");
    state.events.record(
        &*replica,
        Severity::Normal,
        "ReplicaForgotten",
        format!("node {node} does not exist any more"),
    );
    let left = state
        .objects
        .change(&*replica, |r| remove_finalizer(r, finalizers::REPLICA))
        .await?;
    if left.metadata.deletion_timestamp.is_none() {
        state.objects.delete(&left).await?;
    }
    Ok(())
}

/// The data is gone: so is the volume.
async fn finish(state: &State, key: &str) -> Result<(), WriteError> {
    let volume = latest(state, key)?;
    if volume.metadata.deletion_timestamp.is_none() {
        state.objects.delete(&*volume).await?;
    }
    let Some(volume) = state.objects.volumes.store.get(key) else {
        return Ok(());
    };
    state
        .objects
        .change(&*volume, |v| remove_finalizer(v, finalizers::VOLUME))
        .await?;
    state.events.record(
        &*volume,
        Severity::Normal,
        "VolumeDeleted",
        "the data is destroyed",
    );
    tracing::info!(volume = %key, "volume deleted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use hawser_api::LocalVolumeSpec;

    use super::*;

    /// What the node daemon's tests read.
    const ASKED: &str = include_str!("../../../libs/api/tests/contract/existing.json");

    #[test]
    fn an_object_made_anew_asks_its_node_to_find_the_copy() {
        let volume = LocalVolume::new(
            "pvc-1",
            LocalVolumeSpec {
                pool_name: "LocalStorage_PoolHDD".to_owned(),
                required_capacity_bytes: 40 << 20,
                pvc_namespace: "shop".to_owned(),
                pvc_name: "data".to_owned(),
                ..LocalVolumeSpec::default()
            },
        );
        let wanted: LocalVolumeReplica = serde_json::from_str(ASKED).unwrap();
        assert_eq!(build_replica(&volume, "n1", true), wanted);
        let first = build_replica(&volume, "n1", false);
        assert!(!first.annotations().contains_key(annotations::EXISTING));
    }
}
