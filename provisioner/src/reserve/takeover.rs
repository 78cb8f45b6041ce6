//! Taking over the reservations of the provisioner before us: carries out what `decide::fence` describes, before anything is
//! decided.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use hawser_api::{
    LocalVolumeExpand, LocalVolumeGroup, LocalVolumeReplica, OperationState, names::annotations,
};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;

use crate::{
    decide::{
        fence::{self, Fence},
        group,
    },
    objects::WriteError,
    state::State,
};

/// Groups that are taken over at the same time.
const AT_ONCE: usize = 16;
/// How often a write is repeated that others were faster than.
const MOST_CONFLICTS: usize = 10;
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Takes over, trying until it is done; false if leadership ended before.
pub async fn until_done(state: &State) -> bool {
    loop {
        match take_over(state).await {
            Ok(()) => return true,
            Err(WriteError::NotLeader) => return false,
            Err(error) => {
                tracing::warn!(%error, "reservations not taken over yet, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Makes the reservations that count those of our epoch, and all others void. To be called when the indexes have had their
/// first lists, and before anything is decided. Safe to repeat after a failure.
pub async fn take_over(state: &State) -> Result<(), WriteError> {
    let epoch = state.epoch();
    let begun = write_fence(state, |fence| Some(fence.begin(&epoch))).await?;
    let groups = state.objects.groups.store.list();
    let open: Vec<_> = groups.into_iter().filter(|g| is_open(state, g)).collect();
    let count = open.len();
    let mut adopting = stream::iter(open)
        .map(|held| adopt(state, &begun, &epoch, held))
        .buffer_unordered(AT_ONCE);
    while let Some(adopted) = adopting.next().await {
        adopted?;
    }
    touch_growing(state, &epoch).await?;
    let ours = |fence: Fence| (fence.holder == *epoch).then(|| fence.end());
    write_fence(state, ours).await?;
    tracing::info!(%epoch, reservations = count, "reservations taken over");
    Ok(())
}

/// Whether the group keeps room for something: a volume that does not exist, or not all of whose copies do.
fn is_open(state: &State, held: &LocalVolumeGroup) -> bool {
    held.spec.volumes.iter().any(|member| {
        let copies = state.replicas_of(&member.local_volume);
        let missing = |node: &String| copies.iter().all(|copy| copy.spec.node_name != *node);
        group::places(held, member).iter().any(missing)
    })
}

/// Makes a new version of each replica that may be grown by a change that is on its way: that change then fails.
async fn touch_growing(state: &State, epoch: &str) -> Result<(), WriteError> {
    let over = |state: &OperationState| {
        matches!(
            state,
            OperationState::Completed
                | OperationState::Failed
                | OperationState::Cancelled
                | OperationState::Aborted
        )
    };
    let running = |e: &LocalVolumeExpand| !e.status.as_ref().is_some_and(|s| over(&s.state));
    for operation in state.objects.expansions.store.filter(running) {
        for mut copy in state.replicas_of(&operation.spec.volume_name) {
            let mut conflicts = 0;
            loop {
                let touched = state.objects.change(&*copy, |r| {
                    let key = annotations::EPOCH.to_owned();
                    r.annotations_mut().insert(key, epoch.to_owned());
                });
                match touched.await {
                    Ok(_) => break,
                    Err(error) if error.is_overtaken() && conflicts < MOST_CONFLICTS => {}
                    Err(error) => return Err(error),
                }
                conflicts += 1;
                let name = copy.name_any();
                match state.objects.read::<LocalVolumeReplica>(&name).await? {
                    Some(now) => copy = Arc::new(now),
                    None => break,
                }
            }
        }
    }
    Ok(())
}

/// Changes the fence; `None`: it is not ours to change any more.
async fn write_fence(
    state: &State,
    next: impl Fn(Fence) -> Option<Fence>,
) -> Result<Fence, WriteError> {
    let mut conflicts = 0;
    loop {
        let lease: Option<Lease> = state.outside.reservations().await?;
        let now = Fence::of(lease.as_ref());
        let wanted = next(now.clone()).ok_or(WriteError::NotLeader)?;
        if wanted == now {
            return Ok(now);
        }
        if !state.objects.may_write() {
            return Err(WriteError::NotLeader);
        }
        let written = wanted.write(lease.as_ref());
        match state.outside.write_reservations(&written).await {
            Ok(_) => return Ok(wanted),
            Err(error) if error.is_overtaken() && conflicts < MOST_CONFLICTS => conflicts += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Gives a group our epoch, if its reservations count.
async fn adopt(
    state: &State,
    fence: &Fence,
    epoch: &str,
    mut held: Arc<LocalVolumeGroup>,
) -> Result<(), WriteError> {
    for _ in 0..MOST_CONFLICTS {
        if !fence.counts(fence::epoch(&held)) {
            return Ok(());
        }
        let stamped = state
            .objects
            .change(&*held, |g| fence::stamp(g, epoch))
            .await;
        match stamped {
            Ok(_) => return Ok(()),
            Err(error) if error.is_overtaken() => {}
            Err(error) => return Err(error),
        }
        match state
            .objects
            .read::<LocalVolumeGroup>(&held.name_any())
            .await?
        {
            Some(now) => held = Arc::new(now),
            None => return Ok(()),
        }
    }
    Err(WriteError::Conflict {
        what: format!("LocalVolumeGroup {}", held.name_any()),
    })
}
