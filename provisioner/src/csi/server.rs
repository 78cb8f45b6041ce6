//! The socket: made with rights for the pod's group only, a leftover of an earlier process replaced.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use hawser_csi::v1::{controller_server::ControllerServer, identity_server::IdentityServer};
use hawser_runtime::{
    metrics::{Metrics, Requests},
    shutdown::Shutdown,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::{
    controller::Controller,
    identity::{Identity, Slot},
};

/// Why the socket can't be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("--csi-socket {path} is there and is no socket; remove it or name another path")]
    Occupied { path: PathBuf },
    #[error("can't listen on --csi-socket {path}; its folder must exist and be writable")]
    Bind {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Serves Identity and Controller until shutdown. `slot` may be filled later: until then `Probe` says not ready.
pub fn serve(
    path: &Path,
    slot: &Slot,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<(), SocketError> {
    let failed = |source| SocketError::Bind {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::Occupied {
                path: path.to_owned(),
            });
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // The sidecars run as the same user, or in the same group.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let requests = Requests::register(metrics, "csi", "CSI calls");
    let server = Server::builder()
        .add_service(IdentityServer::new(Identity::new(slot.clone())))
        .add_service(ControllerServer::new(Controller::new(
            slot.clone(),
            requests,
        )));
    let stopping = shutdown.stopping();
    shutdown.run(
        "CSI server",
        server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopping),
    );
    Ok(())
}
