//! Groups: reservations end with their pods, groups with their last member.

use std::sync::Arc;

use hawser_api::{LocalVolumeGroup, VolumeGroupMember, names::finalizers};
use hawser_runtime::{patch::remove_finalizer, reconcile::Action};
use kube::ResourceExt;

use crate::{
    decide::{
        claimant::{is_alive, is_bound, node_of, selected_node},
        fence,
        group::{self, Case, ClaimState, Fact, PodState, Verdict},
        name,
        reserve::{Write, shrink},
    },
    objects::WriteError,
    remote::Exactly,
    reserve::Unsettled,
    state::State,
};

/// Looks at one group.
pub async fn reconcile(state: Arc<State>, key: String) -> Result<Action, WriteError> {
    let Some(held) = state.objects.groups.store.get(&key) else {
        state.unclaimed.update(&key, false);
        return Ok(Action::Done);
    };
    let again = Ok(Action::RequeueAfter(state.settings.reservation_check));
    let open = open(&state, &held);
    let any = !open.is_empty();
    if open.iter().any(|volume| state.guards.is_taken(volume)) {
        // A call is about to use the reservation.
        return again;
    }
    let overdue = state.unclaimed.update(&key, any) > state.settings.unclaimed;
    // Asked before room is locked: nothing that is true of a claim or a pod is made wrong by a call that places volumes.
    let claims = claims(&state, &held).await?;
    let pod = if any {
        pod_state(&state, &held).await?
    } else {
        PodState::None
    };

    let mut unsettled = state.placing.lock().await;
    unsettled.settle(&state).await?;
    // Decided on the group as it was seen, with what has become of its volumes since.
    let facts = facts(&state, &held, claims);
    let verdict = group::judge(Case {
        group: &held,
        counts: fence::epoch(&held) == &*state.epoch(),
        overdue,
        pod: &pod,
        facts: &facts,
    });
    let (members, dropped) = match verdict {
        Verdict::Keep if any => return again,
        Verdict::Keep => return Ok(Action::Done),
        Verdict::Shrink { members, dropped } => (members, dropped),
        Verdict::Remove { dropped } => (Vec::new(), dropped),
    };
    write(&state, &mut unsettled, &held, members).await?;
    for reservation in dropped {
        tracing::info!(group = %key, volume = %reservation.volume, why = reservation.why, "reservation ended");
    }
    Ok(Action::Done)
}

fn consumed(state: &State, held: &LocalVolumeGroup, member: &VolumeGroupMember) -> bool {
    let volume = state.objects.volumes.store.get(&member.local_volume);
    group::is_consumed(held, volume.as_deref())
}

/// The volumes for which the group keeps room.
fn open(state: &State, held: &LocalVolumeGroup) -> Vec<String> {
    let members = held.spec.volumes.iter();
    let open = members.filter(|m| !consumed(state, held, m));
    open.map(|m| m.local_volume.clone()).collect()
}

/// What the claims of the group's reservations are, in order of the members; of the others nothing is asked.
async fn claims(state: &State, held: &LocalVolumeGroup) -> Result<Vec<ClaimState>, WriteError> {
    let mut claims = Vec::new();
    for member in &held.spec.volumes {
        claims.push(if consumed(state, held, member) {
            ClaimState::Bound
        } else {
            claim_state(state, held, member).await?
        });
    }
    Ok(claims)
}

fn facts(state: &State, held: &LocalVolumeGroup, claims: Vec<ClaimState>) -> Vec<Fact> {
    let members = held.spec.volumes.iter().zip(claims);
    let fact = |(member, claim): (&VolumeGroupMember, ClaimState)| Fact {
        member: member.clone(),
        consumed: consumed(state, held, member),
        claim,
    };
    members.map(fact).collect()
}

async fn claim_state(
    state: &State,
    held: &LocalVolumeGroup,
    member: &VolumeGroupMember,
) -> Result<ClaimState, WriteError> {
    let namespace = &held.spec.namespace;
    if member.pvc.is_empty() || namespace.is_empty() {
        return Ok(ClaimState::Unnamed);
    }
    let Some(claim) = state.outside.claim(namespace, &member.pvc).await? else {
        return Ok(ClaimState::Gone);
    };
    let same = name::volume_of_claim(&claim.uid().unwrap_or_default()) == member.local_volume;
    if !same || claim.metadata.deletion_timestamp.is_some() {
        return Ok(ClaimState::Gone);
    }
    if is_bound(&claim) {
        return Ok(ClaimState::Bound);
    }
    Ok(ClaimState::Waiting {
        selected_node: selected_node(&claim).map(str::to_owned),
    })
}

/// The pod whose uid the group's name begins with.
async fn pod_state(state: &State, held: &LocalVolumeGroup) -> Result<PodState, WriteError> {
    let Some(pod) = held.spec.pods.first() else {
        return Ok(PodState::None);
    };
    let found = state.outside.pod(&held.spec.namespace, pod).await?;
    let name = held.name_any();
    let same = found.filter(|pod| pod.uid().is_some_and(|uid| name.starts_with(&uid)));
    Ok(match same.filter(is_alive) {
        None => PodState::Gone,
        Some(pod) => node_of(&pod).map_or(PodState::Waiting, |node| PodState::On(node.to_owned())),
    })
}

/// Takes a volume out of its group, and the group away with its last member.
pub(crate) async fn leave(state: &State, group: &str, volume: &str) -> Result<(), WriteError> {
    let mut unsettled = state.placing.lock().await;
    unsettled.settle(state).await?;
    let Some(held) = state.objects.groups.store.get(group) else {
        return Ok(());
    };
    let stays = |m: &VolumeGroupMember| m.local_volume != volume && consumed(state, &held, m);
    let rest = group::holding(&held, &state.epoch(), stays);
    let rest = rest.into_iter().filter(|m| m.local_volume != volume);
    let rest = rest.cloned().collect();
    write(state, &mut unsettled, &held, rest).await
}

async fn write(
    state: &State,
    unsettled: &mut Unsettled,
    held: &Arc<LocalVolumeGroup>,
    members: Vec<VolumeGroupMember>,
) -> Result<(), WriteError> {
    match shrink(held, members, &state.epoch()) {
        Write::RemoveGroup(held) => remove(state, unsettled, &held).await,
        Write::ChangeGroup { seen, wanted } => {
            let change = state.objects.change(&*seen, |g| *g = *wanted);
            change.await.map(drop)
        }
        Write::CreateGroup(_) | Write::CreateVolume(_) => Ok(()),
    }
}

/// Removes a group without members. Its reservations end with the first write, so that a crash in between leaves none.
pub(crate) async fn remove(
    state: &State,
    unsettled: &mut Unsettled,
    held: &LocalVolumeGroup,
) -> Result<(), WriteError> {
    let emptied = state
        .objects
        .change(held, |g| g.spec.volumes.clear())
        .await?;
    let name = held.name_any();
    unsettled.forget(state, &name).await?;
    if emptied.metadata.deletion_timestamp.is_none() {
        state
            .objects
            .delete_exactly(&emptied, Exactly::ThisVersion)
            .await?;
    }
    let Some(marked) = state.objects.groups.store.get(&name) else {
        return Ok(());
    };
    state
        .objects
        .change(&*marked, |g| remove_finalizer(g, finalizers::VOLUME_GROUP))
        .await?;
    Ok(())
}
