//! `ListVolumes`, `ControllerGetVolume` and the health of volumes: read from the index, nothing is asked of anybody.

use std::sync::Arc;

use hawser_api::{LocalVolume, VolumeState};
use hawser_csi::v1::{
    self as csi, ControllerGetVolumeHealthRequest, ControllerGetVolumeHealthResponse,
    ControllerGetVolumeRequest, ControllerGetVolumeResponse, ControllerListVolumeHealthRequest,
    ControllerListVolumeHealthResponse, ListVolumesRequest, ListVolumesResponse, VolumeCondition,
    VolumeHealthErrorType, controller_get_volume_response, list_volumes_response,
    volume_health::VolumeHealthEntry,
};
use kube::ResourceExt;

use super::{refusal::Refusal, request, topology_of};
use crate::{
    decide::{
        page::{PageError, page},
        volume::{published_node, state as state_of, wanted_nodes},
    },
    state::State,
};

impl From<PageError> for Refusal {
    fn from(error: PageError) -> Self {
        match &error {
            PageError::NegativeLimit(_) => Self::invalid(error.to_string()),
            // CSI: the caller begins again without a token.
            PageError::UnknownToken(_) => Self::aborted(error.to_string()),
        }
    }
}

/// What is wrong with a volume, if anything is.
fn problem(volume: &LocalVolume) -> Option<String> {
    let said = || {
        let conditions = volume.status.iter().flat_map(|s| &s.conditions);
        conditions
            .filter(|c| c.type_ == crate::decide::volume::READY && !c.message.is_empty())
            .map(|c| c.message.clone())
            .next()
    };
    match state_of(volume) {
        VolumeState::Ready | VolumeState::Unset | VolumeState::Creating => None,
        VolumeState::NotReady => Some(said().unwrap_or_else(|| "not ready".to_owned())),
        VolumeState::ToBeDeleted | VolumeState::Deleted => Some("being deleted".to_owned()),
        VolumeState::Other(other) => Some(format!("its state is {other:?}")),
    }
}

fn condition(volume: &LocalVolume) -> VolumeCondition {
    let problem = problem(volume);
    VolumeCondition {
        abnormal: problem.is_some(),
        message: problem.unwrap_or_else(|| "every copy is ready".to_owned()),
    }
}

fn describe(volume: &LocalVolume) -> csi::Volume {
    let allocated = volume
        .status
        .as_ref()
        .map_or(0, |s| s.allocated_capacity_bytes);
    csi::Volume {
        capacity_bytes: if allocated > 0 {
            allocated
        } else {
            volume.spec.required_capacity_bytes
        },
        volume_id: volume.name_any(),
        accessible_topology: wanted_nodes(volume).into_iter().map(topology_of).collect(),
        ..csi::Volume::default()
    }
}

fn published(volume: &LocalVolume) -> Vec<String> {
    published_node(volume)
        .map(str::to_owned)
        .into_iter()
        .collect()
}

/// All volumes but those that are asked to go, in order of their names.
fn living(state: &State) -> Vec<Arc<LocalVolume>> {
    state.objects.volumes.store.filter(|v| !v.spec.delete)
}

/// Serves `ListVolumes`.
pub(super) async fn list(
    state: Arc<State>,
    request: ListVolumesRequest,
) -> Result<ListVolumesResponse, Refusal> {
    let (volumes, next_token) = page(
        living(&state),
        |v| v.name_any(),
        request.max_entries,
        &request.starting_token,
    )?;
    let entries = volumes.iter().map(|volume| list_volumes_response::Entry {
        volume: Some(describe(volume)),
        status: Some(list_volumes_response::VolumeStatus {
            published_node_ids: published(volume),
            volume_condition: Some(condition(volume)),
        }),
    });
    Ok(ListVolumesResponse {
        entries: entries.collect(),
        next_token,
    })
}

fn find(state: &State, id: &str) -> Result<Arc<LocalVolume>, Refusal> {
    let id = request::volume_id(id)?;
    let found = state
        .objects
        .volumes
        .store
        .get(id)
        .filter(|v| !v.spec.delete);
    found.ok_or_else(|| Refusal::no_such_volume(id))
}

/// Serves `ControllerGetVolume`.
pub(super) async fn get(
    state: Arc<State>,
    request: ControllerGetVolumeRequest,
) -> Result<ControllerGetVolumeResponse, Refusal> {
    let volume = find(&state, &request.volume_id)?;
    Ok(ControllerGetVolumeResponse {
        volume: Some(describe(&volume)),
        status: Some(controller_get_volume_response::VolumeStatus {
            published_node_ids: published(&volume),
            volume_condition: Some(condition(&volume)),
        }),
    })
}

fn health(volume: &LocalVolume) -> csi::VolumeHealth {
    let entry = problem(volume).map(|message| VolumeHealthEntry {
        status: VolumeHealthErrorType::Inaccessible.into(),
        reason: "CopyNotReady".to_owned(),
        message,
    });
    csi::VolumeHealth {
        volume_id: volume.name_any(),
        health_statuses: entry.into_iter().collect(),
    }
}

/// Serves `ControllerGetVolumeHealth`.
pub(super) async fn get_health(
    state: Arc<State>,
    request: ControllerGetVolumeHealthRequest,
) -> Result<ControllerGetVolumeHealthResponse, Refusal> {
    let volume = find(&state, &request.volume_id)?;
    Ok(ControllerGetVolumeHealthResponse {
        volume_health: Some(health(&volume)),
    })
}

/// Serves `ControllerListVolumeHealth`: the volumes that have a problem.
pub(super) async fn list_health(
    state: Arc<State>,
    request: ControllerListVolumeHealthRequest,
) -> Result<ControllerListVolumeHealthResponse, Refusal> {
    let ill: Vec<_> = living(&state)
        .into_iter()
        .filter(|v| problem(v).is_some())
        .collect();
    let (volumes, next_token) = page(
        ill,
        |v| v.name_any(),
        request.max_entries,
        &request.starting_token,
    )?;
    Ok(ControllerListVolumeHealthResponse {
        entries: volumes.iter().map(|v| health(v)).collect(),
        next_token,
    })
}
