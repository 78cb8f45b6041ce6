//! The Controller service: each method hands its request to the module of its kind. No logic here.

use std::sync::Arc;

use hawser_csi::v1::{
    self as csi, ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse,
    ControllerServiceCapability, controller_server,
    controller_service_capability::{self, Rpc, rpc},
};
use hawser_runtime::metrics::Requests;
use tonic::{Request, Response, Status};

use super::{call, create, delete, expand, identity::Slot, list, publish, refusal::Refusal, room};
use crate::state::State;

/// The service.
pub(super) struct Controller {
    slot: Slot,
    requests: Requests,
}

impl Controller {
    #[must_use]
    pub(super) fn new(slot: Slot, requests: Requests) -> Self {
        Self { slot, requests }
    }

    fn state(&self) -> Result<Arc<State>, Status> {
        self.slot.get().ok_or_else(|| {
            Refusal::unavailable("this provisioner does not lead; another one serves").into()
        })
    }
}

/// What is served, besides what belongs to features that are not there yet.
const CAPABILITIES: [rpc::Type; 11] = [
    rpc::Type::CreateDeleteVolume,
    rpc::Type::PublishUnpublishVolume,
    rpc::Type::ListVolumes,
    rpc::Type::GetCapacity,
    rpc::Type::ExpandVolume,
    rpc::Type::ListVolumesPublishedNodes,
    rpc::Type::VolumeCondition,
    rpc::Type::GetVolume,
    rpc::Type::SingleNodeMultiWriter,
    rpc::Type::GetVolumeHealth,
    rpc::Type::ListVolumeHealth,
];

fn unsupported<T>(what: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!(
        "{what} is not supported by this version"
    )))
}

macro_rules! served {
    ($self:ident, $name:literal, $request:ident, $volume:ident, $serve:path) => {{
        let request = $request.into_inner();
        let volume = request.$volume.clone();
        call::run(&$self.state()?, &$self.requests, $name, &volume, |state| {
            $serve(state, request)
        })
        .await
    }};
    ($self:ident, $name:literal, $request:ident, $serve:path) => {{
        let request = $request.into_inner();
        call::run(&$self.state()?, &$self.requests, $name, "", |state| {
            $serve(state, request)
        })
        .await
    }};
}

#[tonic::async_trait]
impl controller_server::Controller for Controller {
    async fn create_volume(
        &self,
        r: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        served!(self, "create_volume", r, name, create::create)
    }

    async fn delete_volume(
        &self,
        r: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        served!(self, "delete_volume", r, volume_id, delete::delete)
    }

    async fn controller_publish_volume(
        &self,
        r: Request<csi::ControllerPublishVolumeRequest>,
    ) -> Result<Response<csi::ControllerPublishVolumeResponse>, Status> {
        served!(self, "publish_volume", r, volume_id, publish::publish)
    }

    async fn controller_unpublish_volume(
        &self,
        r: Request<csi::ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<csi::ControllerUnpublishVolumeResponse>, Status> {
        served!(self, "unpublish_volume", r, volume_id, publish::unpublish)
    }

    async fn validate_volume_capabilities(
        &self,
        r: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        served!(
            self,
            "validate_volume_capabilities",
            r,
            volume_id,
            room::validate
        )
    }

    async fn list_volumes(
        &self,
        r: Request<csi::ListVolumesRequest>,
    ) -> Result<Response<csi::ListVolumesResponse>, Status> {
        served!(self, "list_volumes", r, list::list)
    }

    async fn controller_list_volume_health(
        &self,
        r: Request<csi::ControllerListVolumeHealthRequest>,
    ) -> Result<Response<csi::ControllerListVolumeHealthResponse>, Status> {
        served!(self, "list_volume_health", r, list::list_health)
    }

    async fn controller_get_volume_health(
        &self,
        r: Request<csi::ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeHealthResponse>, Status> {
        served!(self, "get_volume_health", r, volume_id, list::get_health)
    }

    async fn get_capacity(
        &self,
        r: Request<csi::GetCapacityRequest>,
    ) -> Result<Response<csi::GetCapacityResponse>, Status> {
        served!(self, "get_capacity", r, room::capacity)
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capabilities = CAPABILITIES
            .into_iter()
            .map(|kind| ControllerServiceCapability {
                r#type: Some(controller_service_capability::Type::Rpc(Rpc {
                    r#type: kind.into(),
                })),
            });
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: capabilities.collect(),
        }))
    }

    async fn create_snapshot(
        &self,
        _: Request<csi::CreateSnapshotRequest>,
    ) -> Result<Response<csi::CreateSnapshotResponse>, Status> {
        unsupported("CreateSnapshot")
    }

    async fn delete_snapshot(
        &self,
        _: Request<csi::DeleteSnapshotRequest>,
    ) -> Result<Response<csi::DeleteSnapshotResponse>, Status> {
        unsupported("DeleteSnapshot")
    }

    async fn list_snapshots(
        &self,
        _: Request<csi::ListSnapshotsRequest>,
    ) -> Result<Response<csi::ListSnapshotsResponse>, Status> {
        unsupported("ListSnapshots")
    }

    async fn get_snapshot(
        &self,
        _: Request<csi::GetSnapshotRequest>,
    ) -> Result<Response<csi::GetSnapshotResponse>, Status> {
        unsupported("GetSnapshot")
    }

    async fn controller_expand_volume(
        &self,
        r: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Result<Response<csi::ControllerExpandVolumeResponse>, Status> {
        served!(self, "expand_volume", r, volume_id, expand::expand)
    }

    async fn controller_get_volume(
        &self,
        r: Request<csi::ControllerGetVolumeRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeResponse>, Status> {
        served!(self, "get_volume", r, volume_id, list::get)
    }

    async fn controller_modify_volume(
        &self,
        _: Request<csi::ControllerModifyVolumeRequest>,
    ) -> Result<Response<csi::ControllerModifyVolumeResponse>, Status> {
        unsupported("ControllerModifyVolume")
    }
}
