//! What the provisioner before us may have left or may still write: volumes whose reservation has ended, copies that nobody asks
//! for. And volumes that somebody made by hand, which come without a reservation.

use std::{ops::ControlFlow, time::Duration};

use hawser_api::{LocalVolume, LocalVolumeReplica};
use hawser_runtime::{events::Severity, reconcile::Action};
use kube::ResourceExt;

use super::volume::{LOOK_AGAIN, abandon, create_replica, latest};
use crate::{
    decide::{
        group, name, reserve as decide,
        volume::{self, Step},
    },
    objects::WriteError,
    reserve,
    state::State,
};

/// A volume without room for its copies, or without a node: one that Kubernetes knows is looked for on its nodes; one that
/// somebody made by hand gets its room now; one of ours was written by a provisioner that had ceased to lead, and is taken back.
pub(super) async fn find_room(state: &State, key: &str) -> Result<ControlFlow<Action>, WriteError> {
    let volume = latest(state, key)?;
    let in_use = !state.persistent_of(key).is_empty();
    if in_use || state.outside.persistent_exists(key).await? {
        for node in volume::wanted_nodes(&volume) {
            create_replica(state, &volume, &node, true).await?;
        }
        return Ok(ControlFlow::Continue(()));
    }
    if volume.spec.volume_group.is_empty() {
        if volume::wanted_nodes(&volume).is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        return Ok(match reserve::by_hand(state, &volume).await {
            Ok(()) => ControlFlow::Break(Action::RequeueAfter(Duration::ZERO)),
            Err(refusal) => {
                let why = refusal.message;
                tracing::info!(volume = %key, %why, "no room for a volume that was made by hand");
                state
                    .events
                    .record(&*volume, Severity::Warning, "NoRoom", why);
                ControlFlow::Break(Action::RequeueAfter(LOOK_AGAIN))
            }
        });
    }
    // Looked at again while nobody decides anything: its group may be being taken over at this moment.
    let mut unsettled = state.placing.lock().await;
    unsettled.settle(state).await?;
    let volume = latest(state, key)?;
    let nodes = volume::wanted_nodes(&volume);
    let reserved = decide::reserved_nodes(&volume, &state.groups_of(key), &state.epoch());
    let mut gone = false;
    for node in &nodes {
        gone |= state.node_is_gone(node).await?;
    }
    if !gone && nodes.iter().all(|node| reserved.contains(node)) {
        return Ok(ControlFlow::Break(Action::RequeueAfter(Duration::ZERO)));
    }
    let why = "its node is gone, or its reservation had ended when it was recorded";
    tracing::info!(volume = %key, why, "volume taken back");
    state
        .events
        .record(&*volume, Severity::Warning, "CreationFailed", why);
    state
        .objects
        .change(&*volume, |v| v.spec.delete = true)
        .await?;
    Ok(ControlFlow::Break(Action::Done))
}

/// A copy may have been recorded that the index does not know yet, by us or by who led before: the room that it takes must not
/// be given away. The server's answer goes into the index.
pub(super) async fn look_for_replicas(
    state: &State,
    key: &str,
) -> Result<ControlFlow<Action>, WriteError> {
    let mut nodes = volume::wanted_nodes(&*latest(state, key)?);
    for held in state.groups_of(key) {
        let member = group::member(&held, key);
        nodes.extend(
            member
                .into_iter()
                .flat_map(|m| group::places(&held, m).to_vec()),
        );
    }
    nodes.sort();
    nodes.dedup();
    for node in nodes {
        let replica = name::replica_name(key, &node);
        if state
            .objects
            .read::<LocalVolumeReplica>(&replica)
            .await?
            .is_some()
        {
            return Ok(ControlFlow::Break(Action::RequeueAfter(LOOK_AGAIN)));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A volume that was made for a claim and never bound to it, whose claim is gone by now: whoever asked for it has been restarted,
/// and will not come back for it. Nobody has ever written to it.
pub(super) async fn give_back(state: &State, volume: &LocalVolume) -> Result<(), WriteError> {
    let (name, spec) = (volume.name_any(), &volume.spec);
    if state.guards.is_taken(&name) || !state.persistent_of(&name).is_empty() {
        return Ok(());
    }
    let claim = state
        .outside
        .claim(&spec.pvc_namespace, &spec.pvc_name)
        .await?;
    // A volume that is named otherwise does not tell which claim of that name it was made for.
    let wanted = claim.is_some_and(|claim| {
        let uid = name.strip_prefix("pvc-");
        uid.is_none_or(|uid| claim.metadata.uid.as_deref() == Some(uid))
    });
    if wanted || state.outside.persistent_exists(&name).await? {
        return Ok(());
    }
    tracing::info!(volume = %name, "claim is gone, and the volume was never bound: removed");
    state
        .objects
        .change(volume, |v| v.spec.delete = true)
        .await?;
    Ok(())
}

/// Removes copies that were never made of a volume that does not exist.
pub(super) async fn clear_up(state: &State, key: &str) -> Result<Action, WriteError> {
    let copies = state.replicas_of(key);
    let strays: Vec<Step> = volume::strays(&copies, &[]).collect();
    if strays.is_empty() || state.objects.read::<LocalVolume>(key).await?.is_some() {
        return Ok(Action::Done);
    }
    for step in strays {
        if let Step::RemoveStray { replica } = step {
            remove(state, key, &replica).await?;
        }
    }
    Ok(Action::RequeueAfter(LOOK_AGAIN))
}

pub(super) async fn remove(state: &State, key: &str, replica: &str) -> Result<(), WriteError> {
    let Some(copy) = state.objects.replicas.store.get(replica) else {
        return Ok(());
    };
    let node = &copy.spec.node_name;
    tracing::info!(volume = %key, node, "a copy that nobody asks for is removed");
    if state.node_is_gone(node).await? {
        return abandon(state, key, replica).await;
    }
    let copy = state
        .objects
        .change(&*copy, |r| r.spec.delete = true)
        .await?;
    if copy.metadata.deletion_timestamp.is_none() {
        state.objects.delete(&copy).await?;
    }
    Ok(())
}
