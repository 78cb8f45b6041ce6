//! Expansions: carries out what `decide::expand` says for operations made by the CSI call or by hand.

use std::{sync::Arc, time::Duration};

use hawser_api::{LocalVolume, LocalVolumeExpand, LocalVolumeReplica, OperationState};
use hawser_placement::{Bytes, Sentence, grow};
use hawser_runtime::{events::Severity, reconcile::Action};
use kube::ResourceExt;

use crate::{
    decide::{
        expand::{self, Next},
        replica, size,
    },
    objects::WriteError,
    state::State,
};

/// How often an operation in progress is looked at, besides at each change: a failure counts by how long it lasts.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Brings one operation a step further.
pub(crate) async fn reconcile(state: Arc<State>, key: String) -> Result<Action, WriteError> {
    let Some(operation) = state.objects.expansions.store.get(&key) else {
        return Ok(Action::Done);
    };
    if operation.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Done);
    }
    let volume = state.objects.volumes.store.get(&operation.spec.volume_name);
    let replicas = state.replicas_of(&operation.spec.volume_name);
    let gave_up =
        state.failing.update(&key, expand::is_failing(&replicas)) >= state.settings.patience;
    match expand::next(&operation, volume.as_deref(), &replicas, gave_up) {
        Next::Rest => Ok(Action::Done),
        Next::Enter { state: to, message } => {
            enter(&state, &operation, volume.as_deref(), to, message).await
        }
        Next::TakeRoom { size } => take_room(&state, &operation, size).await,
        Next::Wait { message } => {
            let names = replicas.iter().map(|r| r.name_any()).collect();
            write(
                &state,
                &operation,
                OperationState::InProgress,
                message,
                names,
            )
            .await?;
            Ok(Action::RequeueAfter(LOOK_AGAIN))
        }
        Next::GiveBack { state: to, message } => {
            give_back(&state, &operation).await?;
            enter(&state, &operation, volume.as_deref(), to, message).await
        }
        Next::Remove => {
            state.objects.delete(&*operation).await?;
            Ok(Action::Done)
        }
    }
}

async fn enter(
    state: &State,
    operation: &LocalVolumeExpand,
    volume: Option<&LocalVolume>,
    to: OperationState,
    message: String,
) -> Result<Action, WriteError> {
    let wanted = size::show(operation.spec.required_capacity_bytes);
    if let Some(volume) = volume {
        if to == OperationState::Completed {
            state.events.record(
                volume,
                Severity::Normal,
                "VolumeExpanded",
                format!("has {wanted} now"),
            );
        } else if to == OperationState::Failed {
            state.tell(
                volume,
                Severity::Warning,
                "ExpansionFailed",
                &format!("can't grow to {wanted}: {message}"),
            );
        } else if to == OperationState::Aborted {
            state.events.record(
                volume,
                Severity::Normal,
                "ExpansionAborted",
                message.clone(),
            );
        }
    }
    tracing::info!(volume = %operation.spec.volume_name, to = %wanted, state = %to, %message, "expansion");
    write(state, operation, to, message, Vec::new()).await?;
    // The write puts the key back into the queue.
    Ok(Action::Done)
}

async fn write(
    state: &State,
    operation: &LocalVolumeExpand,
    to: OperationState,
    message: String,
    subs: Vec<String>,
) -> Result<(), WriteError> {
    let volume = state.objects.volumes.store.get(&operation.spec.volume_name);
    let replicas = state.replicas_of(&operation.spec.volume_name);
    let allocated = volume.map_or(0, |v| expand::allocated(&v, &replicas));
    state
        .objects
        .change_status(operation, |o| {
            let status = o.status.get_or_insert_default();
            status.state = to;
            status.message = message;
            status.allocated_capacity_bytes = allocated;
            status.subs = subs;
        })
        .await?;
    Ok(())
}

/// Checks that there is room on every node, and takes it by raising what the replicas require.
async fn take_room(
    state: &State,
    operation: &LocalVolumeExpand,
    size: i64,
) -> Result<Action, WriteError> {
    let name = &operation.spec.volume_name;
    {
        let _placing = state.placing.lock().await;
        let Some(volume) = state.objects.volumes.store.get(name) else {
            return Ok(Action::Done);
        };
        let replicas = state.replicas_of(name);
        if let Err(why) = check_room(state, &replicas, size) {
            return enter(state, operation, Some(&volume), OperationState::Failed, why).await;
        }
        set_size(state, &volume, &replicas, |_| size).await?;
    }
    let names = state
        .replicas_of(name)
        .iter()
        .map(|r| r.name_any())
        .collect();
    write(
        state,
        operation,
        OperationState::InProgress,
        String::new(),
        names,
    )
    .await?;
    Ok(Action::RequeueAfter(LOOK_AGAIN))
}

fn check_room(
    state: &State,
    replicas: &[Arc<LocalVolumeReplica>],
    size: i64,
) -> Result<(), String> {
    let cluster = state.inventory.cluster();
    let bytes = |n: i64| Bytes(u64::try_from(n).unwrap_or(0));
    for copy in replicas {
        let counted = copy
            .spec
            .required_capacity_bytes
            .max(replica::allocated(copy));
        let (node, pool) = (&copy.spec.node_name, &copy.spec.pool_name);
        if let Err(reasons) = grow(&cluster, node, pool, (bytes(counted), bytes(size)), |_| {
            false
        }) {
            return Err(format!("node {node}: {}", Sentence::of(&reasons)));
        }
    }
    Ok(())
}

/// Sets what each replica requires, never below what it has, and what the volume requires.
async fn set_size(
    state: &State,
    volume: &LocalVolume,
    replicas: &[Arc<LocalVolumeReplica>],
    wanted: impl Fn(&LocalVolumeReplica) -> i64,
) -> Result<(), WriteError> {
    let mut smallest = i64::MAX;
    for copy in replicas {
        let size = wanted(copy).max(replica::allocated(copy));
        smallest = smallest.min(size);
        state
            .objects
            .change(&**copy, |r| r.spec.required_capacity_bytes = size)
            .await?;
    }
    if smallest == i64::MAX {
        return Ok(());
    }
    state
        .objects
        .change(volume, |v| {
            v.spec.required_capacity_bytes = smallest;
            if let Some(config) = &mut v.spec.config
                && config.required_capacity_bytes != smallest
            {
                config.required_capacity_bytes = smallest;
                config.version += 1;
            }
        })
        .await?;
    Ok(())
}

/// Lowers what is required to what is there: room that was taken and not used is free again.
async fn give_back(state: &State, operation: &LocalVolumeExpand) -> Result<(), WriteError> {
    let name = &operation.spec.volume_name;
    let _placing = state.placing.lock().await;
    let Some(volume) = state.objects.volumes.store.get(name) else {
        return Ok(());
    };
    // A copy that was never made keeps what it asks for.
    let made = |r: &LocalVolumeReplica| {
        if replica::allocated(r) > 0 {
            replica::allocated(r)
        } else {
            r.spec.required_capacity_bytes
        }
    };
    set_size(state, &volume, &state.replicas_of(name), made).await
}

/// Ends an operation for another one of the same name: its room is given back, its object removed.
pub(crate) async fn withdraw(
    state: &State,
    operation: &LocalVolumeExpand,
) -> Result<(), WriteError> {
    give_back(state, operation).await?;
    state.objects.delete(operation).await
}
