//! `ControllerPublishVolume` and `ControllerUnpublishVolume`: the volume is given to one node at a time, by a record in its object
//! that is only changed if nobody else has changed it.

use std::sync::Arc;

use hawser_api::LocalVolume;
use hawser_csi::v1::{
    ControllerPublishVolumeRequest, ControllerPublishVolumeResponse,
    ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse,
};
use hawser_runtime::events::Severity;

use super::{
    refusal::{Refusal, persist},
    request::{self, Access},
};
use crate::{
    attachments,
    decide::{
        publish::{self, Ask, Decision, No},
        volume::{mark_bound, published_node},
    },
    state::State,
};

fn parse(request: &ControllerPublishVolumeRequest) -> Result<Ask, Refusal> {
    request::volume_id(&request.volume_id)?;
    if request.node_id.is_empty() {
        return Err(Refusal::invalid("node_id is empty; it must name a node"));
    }
    let Some(capability) = &request.volume_capability else {
        return Err(Refusal::invalid(
            "volume_capability is missing; it must say how the volume is to be used",
        ));
    };
    let access = request::capability(capability)?;
    if request.readonly {
        return Err(Refusal::invalid(
            "readonly is true; this driver publishes read-only on the node (NodePublishVolume), leave it false here",
        ));
    }
    let (block, fs_type) = match access {
        Access::Block => (true, String::new()),
        Access::Mount { fs_type } => (false, fs_type),
    };
    Ok(Ask {
        node: request.node_id.clone(),
        block,
        fs_type,
    })
}

/// Serves `ControllerPublishVolume`.
pub(super) async fn publish(
    state: Arc<State>,
    request: ControllerPublishVolumeRequest,
) -> Result<ControllerPublishVolumeResponse, Refusal> {
    let ask = parse(&request)?;
    let id = request.volume_id;
    let _guard = state
        .guards
        .take(&id)
        .ok_or_else(|| Refusal::aborted(format!("another call is working on volume {id:?}")))?;
    persist(|| attempt(&state, &id, &ask)).await
}

/// Decides on the volume as it is now, and records the decision if the volume is still so.
async fn attempt(
    state: &State,
    id: &str,
    ask: &Ask,
) -> Result<ControllerPublishVolumeResponse, Refusal> {
    let volume = state
        .objects
        .read::<LocalVolume>(id)
        .await?
        .ok_or_else(|| Refusal::no_such_volume(id))?;
    let replicas = state.replicas_of(id);
    match publish::decide(&volume, &replicas, ask) {
        Decision::HeldBy { node } => {
            let healed = attachments::heal(state, &volume).await?;
            match publish::decide(&healed, &replicas, ask) {
                Decision::HeldBy { .. } => Err(Refusal::precondition(format!(
                    "volume {id:?} is published on node {node}, and a local volume is used on one node at a time; \
                     it can go to node {} when it is detached there",
                    ask.node
                ))),
                decision
                @ (Decision::Already { .. } | Decision::Grant { .. } | Decision::No(_)) => {
                    carry_out(state, &healed, ask, decision).await
                }
            }
        }
        decision @ (Decision::Already { .. } | Decision::Grant { .. } | Decision::No(_)) => {
            carry_out(state, &volume, ask, decision).await
        }
    }
}

async fn carry_out(
    state: &State,
    volume: &LocalVolume,
    ask: &Ask,
    decision: Decision,
) -> Result<ControllerPublishVolumeResponse, Refusal> {
    match decision {
        Decision::Already { context } => Ok(ControllerPublishVolumeResponse {
            publish_context: context,
        }),
        Decision::Grant { context, fs_type } => {
            // From now on there may be data in it.
            let bound = state.objects.change(volume, mark_bound).await?;
            let record = state.objects.change_status(&bound, |v| {
                let status = v.status.get_or_insert_default();
                status.published_node.clone_from(&ask.node);
                status.raw_block = ask.block;
                status.fs_type = fs_type;
            });
            let volume = record.await?;
            state.events.record(
                &volume,
                Severity::Normal,
                "Published",
                format!("on node {}", ask.node),
            );
            Ok(ControllerPublishVolumeResponse {
                publish_context: context,
            })
        }
        Decision::HeldBy { node } => Err(Refusal::aborted(format!(
            "the volume was published on node {node} just now"
        ))),
        Decision::No(no) => Err(refuse(state, &ask.node, &no).await),
    }
}

async fn refuse(state: &State, node: &str, no: &No) -> Refusal {
    match no {
        No::Elsewhere { .. } => match state.node_is_gone(node).await {
            Ok(true) if state.storage_nodes.get(node).is_none() => Refusal::not_found(format!(
                "node {node:?} does not exist; node_id must be the name of a node"
            )),
            _ => Refusal::precondition(no.to_string()),
        },
        No::NotReady { .. } => Refusal::unavailable(no.to_string()),
        No::Deleting { .. } | No::Mirrored { .. } => Refusal::precondition(no.to_string()),
        No::OtherAccess { .. } => Refusal::already_exists(no.to_string()),
    }
}

/// Serves `ControllerUnpublishVolume`. What is not there, or not published there, is unpublished.
pub(super) async fn unpublish(
    state: Arc<State>,
    request: ControllerUnpublishVolumeRequest,
) -> Result<ControllerUnpublishVolumeResponse, Refusal> {
    let id = request::volume_id(&request.volume_id)?.to_owned();
    let node = request.node_id;
    let _guard = state
        .guards
        .take(&id)
        .ok_or_else(|| Refusal::aborted(format!("another call is working on volume {id:?}")))?;
    persist(|| async {
        let found = state.objects.read::<LocalVolume>(&id).await?;
        let there =
            |v: &LocalVolume| published_node(v).is_some_and(|held| node.is_empty() || held == node);
        if let Some(volume) = found.filter(there) {
            let volume = attachments::clear(&state, &volume).await?;
            let message = format!("from node {node}");
            state
                .events
                .record(&volume, Severity::Normal, "Unpublished", message);
        }
        Ok(ControllerUnpublishVolumeResponse {})
    })
    .await
}
