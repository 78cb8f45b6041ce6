//! The CSI Node service, the Identity service beside it, and kubelet's plugin registration.
//!
//! Owns: requests and their answers; staging, publishing and growing file systems. Does not own: logical volumes and their devices
//! (`replica`), the tools and system calls for mounts and file systems (`mount`).
//!
//! What a volume is, is decided by this node alone: LVM's tags and names, device-mapper, the mount table. Pods start while the
//! API server is unreachable.

mod authority;
mod expand;
mod health;
mod identity;
mod info;
mod publish;
mod registration;
mod request;
mod service;
mod socket;
mod stage;
mod status;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use hawser_api::names;
use hawser_csi::registration::registration_server::RegistrationServer;
use hawser_csi::v1::identity_server::IdentityServer;
use hawser_csi::v1::node_server::NodeServer;
use hawser_runtime::health::Health;
use hawser_runtime::shutdown::Shutdown;
use tonic::service::Routes;

use crate::replica::node::Node;
pub use socket::SocketError;

/// Where and for whom the service runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Kubernetes node's name: the CSI node id, and the value of the topology segment.
    pub node_name: String,
    /// The CSI socket, at the same path as on the host.
    pub csi_socket: PathBuf,
    /// kubelet's folder for sockets of plugins that want to be registered.
    pub registration_dir: PathBuf,
    /// kubelet's root folder, at the same path as on the host.
    pub kubelet_dir: PathBuf,
}

/// Serves CSI and registration until shutdown. The sockets are there when this returns.
pub fn serve(
    settings: &Settings,
    node: Arc<Node>,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<(), SocketError> {
    let service = service::NodeService::new(settings, node);
    let routes = Routes::new(IdentityServer::new(identity::IdentityService))
        .add_service(NodeServer::new(service));
    socket::serve("csi", settings.csi_socket.clone(), routes, shutdown)?;

    let endpoint = settings.csi_socket.display().to_string();
    let registration = registration::RegistrationService::new(
        endpoint,
        health.readiness("registration with kubelet"),
    );
    let socket = settings
        .registration_dir
        .join(format!("{}-reg.sock", names::LVM_DRIVER));
    socket::serve(
        "registration",
        socket,
        Routes::new(RegistrationServer::new(registration)),
        shutdown,
    )
}
