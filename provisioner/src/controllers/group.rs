//! Groups: reservations end with their pods, groups with their last member.

use std::sync::Arc;

use hawser_api::{
    LocalVolumeGroup, VolumeGroupMember,
    names::{annotations, finalizers},
};
use hawser_runtime::{patch::remove_finalizer, reconcile::Action, telemetry::chain};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};

use crate::{
    decide::{
        group::{self, ClaimState, Fact, PodState, Verdict},
        name,
    },
    objects::WriteError,
    state::State,
};

/// Looks at one group.
pub(crate) async fn reconcile(state: Arc<State>, key: String) -> Result<Action, WriteError> {
    let Some(held) = state.objects.groups.store.get(&key) else {
        state.unclaimed.update(&key, false);
        return Ok(Action::Done);
    };
    let busy = held
        .spec
        .volumes
        .iter()
        .any(|m| !is_consumed(&state, &held, m) && state.guards.is_taken(&m.local_volume));
    if busy {
        // A call is about to use the reservation.
        return Ok(Action::RequeueAfter(state.settings.reservation_check));
    }
    let facts = observe(&state, &held).await?;
    let pod = if facts.iter().all(|f| f.consumed) {
        PodState::None
    } else {
        pod_state(&state, &held).await?
    };
    let open = facts.iter().any(|f| !f.consumed);
    let overdue = state.unclaimed.update(&key, open) > state.settings.unclaimed;
    let verdict = group::judge(group::nodes(&held), overdue, pod, &facts);
    let dropped = match verdict {
        Verdict::Keep if open => return Ok(Action::RequeueAfter(state.settings.reservation_check)),
        Verdict::Keep => return Ok(Action::Done),
        Verdict::Shrink { members, dropped } => {
            let _placing = state.placing.lock().await;
            state
                .objects
                .change(&*held, |g| g.spec.volumes = members)
                .await?;
            dropped
        }
        Verdict::Remove { dropped } => {
            let _placing = state.placing.lock().await;
            remove(&state, &held).await?;
            dropped
        }
    };
    for reservation in dropped {
        tracing::info!(group = %key, volume = %reservation.volume, why = reservation.why, "reservation ended");
    }
    Ok(Action::Done)
}

fn is_consumed(state: &State, held: &LocalVolumeGroup, member: &VolumeGroupMember) -> bool {
    let volume = state.objects.volumes.store.get(&member.local_volume);
    volume.is_some_and(|v| v.spec.volume_group.is_empty() || v.spec.volume_group == held.name_any())
}

async fn observe(state: &State, held: &LocalVolumeGroup) -> Result<Vec<Fact>, WriteError> {
    let mut facts = Vec::new();
    for member in &held.spec.volumes {
        let consumed = is_consumed(state, held, member);
        let claim = if consumed {
            ClaimState::Bound
        } else {
            claim_state(state, held, member).await?
        };
        facts.push(Fact {
            member: member.clone(),
            consumed,
            claim,
        });
    }
    Ok(facts)
}

fn unavailable(what: &str) -> impl Fn(kube::Error) -> WriteError + '_ {
    move |error| WriteError::Unavailable {
        what: what.to_owned(),
        why: chain(&error).to_string(),
    }
}

async fn claim_state(
    state: &State,
    held: &LocalVolumeGroup,
    member: &VolumeGroupMember,
) -> Result<ClaimState, WriteError> {
    if member.pvc.is_empty() || held.spec.namespace.is_empty() {
        return Ok(ClaimState::Gone);
    }
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(state.client.clone(), &held.spec.namespace);
    let found = api
        .get_opt(&member.pvc)
        .await
        .map_err(unavailable("read a claim"))?;
    let Some(claim) = found else {
        return Ok(ClaimState::Gone);
    };
    let same = name::volume_of_claim(&claim.uid().unwrap_or_default()) == member.local_volume;
    if !same || claim.metadata.deletion_timestamp.is_some() {
        return Ok(ClaimState::Gone);
    }
    if claim
        .spec
        .as_ref()
        .is_some_and(|s| s.volume_name.as_deref().is_some_and(|n| !n.is_empty()))
    {
        return Ok(ClaimState::Bound);
    }
    let selected_node = claim
        .annotations()
        .get(annotations::SELECTED_NODE)
        .filter(|n| !n.is_empty())
        .cloned();
    Ok(ClaimState::Waiting { selected_node })
}

/// The pod whose uid is the group's name.
async fn pod_state(state: &State, held: &LocalVolumeGroup) -> Result<PodState, WriteError> {
    let Some(pod) = held.spec.pods.first() else {
        return Ok(PodState::None);
    };
    let api: Api<Pod> = Api::namespaced(state.client.clone(), &held.spec.namespace);
    let found = api.get_opt(pod).await.map_err(unavailable("read a pod"))?;
    let alive = found.is_some_and(|pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("Pending");
        let same = pod
            .uid()
            .is_some_and(|uid| held.name_any().starts_with(&uid));
        same && pod.metadata.deletion_timestamp.is_none()
            && !matches!(phase, "Succeeded" | "Failed")
    });
    Ok(if alive {
        PodState::Alive
    } else {
        PodState::Gone
    })
}

/// Takes a volume out of its group, and the group away with its last member.
pub(crate) async fn leave(state: &State, group: &str, volume: &str) -> Result<(), WriteError> {
    let Some(held) = state.objects.groups.store.get(group) else {
        return Ok(());
    };
    let rest = group::without(&held, &[volume]);
    if rest.is_empty() {
        return remove(state, &held).await;
    }
    state
        .objects
        .change(&*held, |g| g.spec.volumes = rest)
        .await?;
    Ok(())
}

/// Removes a group without members. Its reservations end with the first write, so that a crash in between leaves none.
pub(crate) async fn remove(state: &State, held: &LocalVolumeGroup) -> Result<(), WriteError> {
    let emptied = state
        .objects
        .change(held, |g| g.spec.volumes.clear())
        .await?;
    if emptied.metadata.deletion_timestamp.is_none() {
        state.objects.delete(&emptied).await?;
    }
    let Some(marked) = state.objects.groups.store.get(&held.name_any()) else {
        return Ok(());
    };
    state
        .objects
        .change(&*marked, |g| remove_finalizer(g, finalizers::VOLUME_GROUP))
        .await?;
    Ok(())
}
