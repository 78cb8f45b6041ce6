//! `GetCapacity` and `ValidateVolumeCapabilities`.

use std::{collections::HashMap, sync::Arc};

use hawser_api::{LocalVolume, parameters::keys};
use hawser_csi::v1::{
    GetCapacityRequest, GetCapacityResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse, validate_volume_capabilities_response::Confirmed,
};
use hawser_placement::{Bytes, Cluster, Node, PoolClass, StorageState};
use kube::ResourceExt;

use super::{refusal::Refusal, request};
use crate::{decide::size::EXTENT, state::State};

/// The class that the parameters ask for; `None`: any.
fn class(parameters: &HashMap<String, String>) -> Result<Option<PoolClass>, Refusal> {
    if parameters.is_empty() {
        return Ok(None);
    }
    let class = hawser_api::parameters::VolumeClass::parse_supported(parameters)?;
    match class.pool_class {
        hawser_api::PoolClass::HDD => Ok(Some(PoolClass::Hdd)),
        hawser_api::PoolClass::SSD => Ok(Some(PoolClass::Ssd)),
        hawser_api::PoolClass::NVMe => Ok(Some(PoolClass::Nvme)),
        other @ (hawser_api::PoolClass::Unset | hawser_api::PoolClass::Other(_)) => {
            let key = keys::POOL_CLASS;
            let message = format!("parameter {key:?} is {other:?}; it must be HDD, SSD or NVMe");
            Err(Refusal::parameter(key, message))
        }
    }
}

/// What a new volume could get on a node: the largest one of the class (of any class: the largest of each, added up).
#[must_use]
pub fn room(node: &Node, class: Option<PoolClass>) -> (u64, u64) {
    if node.storage != StorageState::Ready {
        return (0, 0);
    }
    let of = |class| node.available(class).unwrap_or(Bytes::ZERO).0;
    if let Some(class) = class {
        (of(class), of(class))
    } else {
        let each = [PoolClass::Hdd, PoolClass::Ssd, PoolClass::Nvme].map(of);
        (
            each.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)),
            each.into_iter().max().unwrap_or(0),
        )
    }
}

fn total(cluster: &Cluster, node: Option<&str>, class: Option<PoolClass>) -> (u64, u64) {
    match node {
        Some(node) => cluster.get(node).map_or((0, 0), |n| room(n, class)),
        None => cluster
            .nodes()
            .map(|n| room(n, class))
            .fold((0, 0), |(sum, max), (s, m)| {
                (sum.saturating_add(s), max.max(m))
            }),
    }
}

/// Serves `GetCapacity`.
pub async fn capacity(
    state: Arc<State>,
    request: GetCapacityRequest,
) -> Result<GetCapacityResponse, Refusal> {
    if !request.volume_capabilities.is_empty() {
        request::capabilities(&request.volume_capabilities)?;
    }
    let class = class(&request.parameters)?;
    let node = request::topology_node(request.accessible_topology.as_ref())?;
    let (available, largest) = total(&state.inventory.cluster(), node.as_deref(), class);
    Ok(GetCapacityResponse {
        available_capacity: i64::try_from(available).unwrap_or(i64::MAX),
        maximum_volume_size: Some(i64::try_from(largest).unwrap_or(i64::MAX)),
        minimum_volume_size: Some(EXTENT),
    })
}

/// Serves `ValidateVolumeCapabilities`.
pub async fn validate(
    state: Arc<State>,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Refusal> {
    let id = request::volume_id(&request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        return Err(Refusal::invalid(
            "volume_capabilities is empty; at least one is needed",
        ));
    }
    let volume = state
        .objects
        .read::<LocalVolume>(id)
        .await?
        .filter(|v| !v.spec.delete);
    let volume = volume.ok_or_else(|| Refusal::no_such_volume(id))?;
    // What is not supported is the question here, and no fault of the request.
    let objection = request::capabilities(&request.volume_capabilities)
        .map(drop)
        .and_then(|()| {
            if request.parameters.is_empty() {
                Ok(())
            } else {
                class(&request.parameters).map(drop)
            }
        });
    if let Err(refusal) = objection {
        return Ok(ValidateVolumeCapabilitiesResponse {
            confirmed: None,
            message: format!("volume {}: {}", volume.name_any(), refusal.message),
        });
    }
    Ok(ValidateVolumeCapabilitiesResponse {
        confirmed: Some(Confirmed {
            volume_context: request.volume_context,
            volume_capabilities: request.volume_capabilities,
            parameters: request.parameters,
            mutable_parameters: request.mutable_parameters,
        }),
        message: String::new(),
    })
}
