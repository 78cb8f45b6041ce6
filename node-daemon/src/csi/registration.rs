//! kubelet's plugin registration, served by the daemon itself.
//!
//! kubelet finds the socket in its `plugins_registry`, asks what plugin it is, and says how it went. It asks again after each of
//! its own restarts.

use hawser_api::names;
use hawser_csi::registration::registration_server::Registration;
use hawser_csi::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use hawser_runtime::health::Readiness;
use tonic::{Request, Response, Status};

/// Tells kubelet where the CSI service is.
pub struct RegistrationService {
    endpoint: String,
    ready: Readiness,
}

impl RegistrationService {
    /// `endpoint` is the CSI socket's path on the host. `ready` turns ready when kubelet has registered us.
    pub fn new(endpoint: String, ready: Readiness) -> Self {
        ready.not_ready("kubelet has not registered the driver yet");
        Self { endpoint, ready }
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(
        &self,
        _request: Request<InfoRequest>,
    ) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: names::LVM_DRIVER.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = request.into_inner();
        if plugin_registered {
            tracing::info!("kubelet registered the driver");
            self.ready.ready();
        } else {
            // kubelet tries again by itself.
            tracing::error!(error, "kubelet did not register the driver");
            self.ready
                .not_ready(format!("kubelet did not register the driver: {error}"));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
