//! CSI Identity. `Probe` says ready only on the leader: the sidecars, which have no election of their own, wait for that.

use std::sync::Arc;

use hawser_api::names;
use hawser_csi::v1::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse, identity_server,
    plugin_capability::{self, Service, VolumeExpansion, service, volume_expansion},
};
use parking_lot::RwLock;
use tonic::{Request, Response, Status};

use crate::state::State;

/// The state, once there is one: not before leadership is won. Clones share it.
#[derive(Clone, Default)]
pub struct Slot(Arc<RwLock<Option<Arc<State>>>>);

impl Slot {
    pub fn fill(&self, state: Arc<State>) {
        *self.0.write() = Some(state);
    }

    #[must_use]
    pub fn get(&self) -> Option<Arc<State>> {
        self.0.read().clone()
    }
}

/// The service.
pub struct Identity {
    slot: Slot,
}

impl Identity {
    #[must_use]
    pub fn new(slot: Slot) -> Self {
        Self { slot }
    }
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: names::LVM_DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..GetPluginInfoResponse::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let service = |kind: service::Type| {
            plugin_capability::Type::Service(Service {
                r#type: kind.into(),
            })
        };
        let expansion = |kind: volume_expansion::Type| {
            plugin_capability::Type::VolumeExpansion(VolumeExpansion {
                r#type: kind.into(),
            })
        };
        let capabilities = [
            service(service::Type::ControllerService),
            service(service::Type::VolumeAccessibilityConstraints),
            expansion(volume_expansion::Type::Online),
        ];
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: capabilities
                .into_iter()
                .map(|kind| PluginCapability { r#type: Some(kind) })
                .collect(),
        }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let ready = self.slot.get().is_some_and(|state| state.is_serving());
        Ok(Response::new(ProbeResponse { ready: Some(ready) }))
    }
}
