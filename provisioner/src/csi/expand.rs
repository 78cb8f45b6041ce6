//! `ControllerExpandVolume`: by way of a `LocalVolumeExpand` named like the volume, as users make them by hand.
//!
//! No room is `OUT_OF_RANGE` and not `RESOURCE_EXHAUSTED`: external-resizer takes the latter for "maybe still being done" and then
//! does not let the user go back to a smaller size.

use std::sync::Arc;

use hawser_api::{LocalVolume, LocalVolumeExpand, LocalVolumeExpandSpec, OperationState};
use hawser_csi::v1::{ControllerExpandVolumeRequest, ControllerExpandVolumeResponse};
use kube::{ResourceExt, api::ObjectMeta};
use tokio::time::{Instant, timeout_at};

use super::{
    refusal::{Refusal, persist},
    request::{self, Access},
};
use crate::{
    decide::{
        expand::{allocated, cannot_mirrored},
        size::{self, Range},
        volume::mirrored,
    },
    objects::WriteError,
    state::State,
};

struct Ask {
    id: String,
    range: Range,
    size: i64,
    block: Option<bool>,
}

fn parse(request: &ControllerExpandVolumeRequest) -> Result<Ask, Refusal> {
    let id = request::volume_id(&request.volume_id)?.to_owned();
    let Some(range) = &request.capacity_range else {
        return Err(Refusal::invalid(
            "capacity_range is missing; required_bytes must say the new size",
        ));
    };
    let range = request::range(Some(range))?;
    if range.required == 0 {
        return Err(Refusal::invalid(
            "capacity_range.required_bytes is 0; it must say the new size",
        ));
    }
    let block = match &request.volume_capability {
        Some(capability) => Some(request::capability(capability)? == Access::Block),
        None => None,
    };
    Ok(Ask {
        id,
        size: range.choose()?,
        range,
        block,
    })
}

/// Serves the call.
pub(super) async fn expand(
    state: Arc<State>,
    request: ControllerExpandVolumeRequest,
) -> Result<ControllerExpandVolumeResponse, Refusal> {
    let ask = parse(&request)?;
    drop(request);
    let id = &ask.id;
    let _guard = state
        .guards
        .take(id)
        .ok_or_else(|| Refusal::aborted(format!("another call is working on volume {id:?}")))?;
    let deadline = Instant::now() + state.settings.ready_timeout;
    let volume = state
        .objects
        .read::<LocalVolume>(id)
        .await?
        .ok_or_else(|| Refusal::no_such_volume(id))?;
    if volume.spec.delete {
        return Err(Refusal::precondition(format!(
            "volume {id:?} is being deleted and can't grow"
        )));
    }
    if let Some(sign) = mirrored(&volume) {
        return Err(Refusal::precondition(cannot_mirrored(id, &sign)));
    }
    let has = allocated(&volume, &state.replicas_of(id));
    if ask.range.limit != 0 && has > ask.range.limit {
        let (has, limit) = (size::show(has), size::show(ask.range.limit));
        return Err(Refusal::out_of_range(format!(
            "volume {id:?} has {has} already; it can't shrink to limit_bytes ({limit})"
        )));
    }
    if has < ask.range.required {
        persist(|| submit(&state, id, ask.size)).await?;
        wait(&state, id, ask.range.required, deadline).await?;
    }
    let volume = state
        .objects
        .volumes
        .store
        .get(id)
        .map_or(volume, |v| (*v).clone());
    let block = ask
        .block
        .unwrap_or_else(|| volume.status.as_ref().is_some_and(|s| s.raw_block));
    Ok(ControllerExpandVolumeResponse {
        capacity_bytes: allocated(&volume, &state.replicas_of(id)),
        // The node grows the file system; of a block device nothing is left to do there.
        node_expansion_required: !block,
    })
}

/// Makes the operation's object say `size`; one that has ended, or asked for another size, starts anew.
async fn submit(state: &State, id: &str, size: i64) -> Result<(), Refusal> {
    for _ in 0..5 {
        let Some(held) = state.objects.read::<LocalVolumeExpand>(id).await? else {
            let new = LocalVolumeExpand {
                metadata: ObjectMeta {
                    name: Some(id.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: LocalVolumeExpandSpec {
                    abort: false,
                    required_capacity_bytes: size,
                    volume_name: id.to_owned(),
                },
                status: None,
            };
            match state.objects.create(&new).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Exists { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let status = held.status.clone().unwrap_or_default();
        let running = matches!(
            status.state,
            OperationState::Unset | OperationState::Submitted | OperationState::InProgress
        );
        if running && !held.spec.abort && held.spec.required_capacity_bytes == size {
            return Ok(());
        }
        tracing::info!(volume = %id, state = %status.state, from = held.spec.required_capacity_bytes, to = size, "expansion starts anew");
        crate::controllers::expand::withdraw(state, &held).await?;
    }
    Err(Refusal::aborted(format!(
        "LocalVolumeExpand {id} keeps changing; try again"
    )))
}

/// Waits until the volume has grown, or the operation has failed.
async fn wait(state: &State, id: &str, required: i64, deadline: Instant) -> Result<(), Refusal> {
    let mut expansions = state.objects.expansions.store.changed();
    let mut replicas = state.objects.replicas.store.changed();
    let mut volumes = state.objects.volumes.store.changed();
    loop {
        expansions.mark_unchanged();
        replicas.mark_unchanged();
        volumes.mark_unchanged();
        let Some(volume) = state.objects.volumes.store.get(id) else {
            return Err(Refusal::no_such_volume(id));
        };
        let recorded = volume.spec.required_capacity_bytes >= required;
        if recorded && allocated(&volume, &state.replicas_of(id)) >= required {
            return Ok(());
        }
        let operation = state.objects.expansions.store.get(id);
        let Some(operation) = operation else {
            return Err(Refusal::aborted(format!(
                "LocalVolumeExpand {} was removed before it was done; try again",
                volume.name_any()
            )));
        };
        let status = operation.status.clone().unwrap_or_default();
        if matches!(
            status.state,
            OperationState::Failed | OperationState::Cancelled | OperationState::Aborted
        ) {
            let why = if status.message.is_empty() {
                "it was aborted".to_owned()
            } else {
                status.message
            };
            return Err(Refusal::out_of_range(format!(
                "volume {id:?} can't grow to {}: {why}",
                size::show(required)
            )));
        }
        if Instant::now() >= deadline {
            let why = if status.message.is_empty() {
                "its node is still working on it".to_owned()
            } else {
                status.message
            };
            return Err(Refusal::deadline(format!(
                "volume {id:?} has not grown to {} yet: {why}",
                size::show(required)
            )));
        }
        // All are cancel-safe; what changed is looked at anew.
        let either = async {
            tokio::select! {
                _ = expansions.changed() => {}
                _ = replicas.changed() => {}
                _ = volumes.changed() => {}
            }
        };
        let _ = timeout_at(deadline, either).await;
    }
}
