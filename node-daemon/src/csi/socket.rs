//! Unix sockets that kubelet looks for: made so that nobody else can connect, replaced when somebody removes them, removed at the end.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hawser_runtime::shutdown::Shutdown;
use tokio::net::UnixListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use super::authority::Tolerant;

/// How soon a removed socket is made again. kubelet's folder is wiped by people and by node set-up tools.
const LOOK: Duration = Duration::from_secs(3);

/// Why a socket could not be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It could not be made.
    #[error("cannot make the socket {}", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server on it failed.
    #[error("the server on {} failed", path.display())]
    Serve {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// A socket in the file system.
struct Socket {
    listener: UnixListener,
    inode: u64,
}

/// Makes the socket. A leftover of a daemon that was killed is replaced.
///
/// It gets its mode under a name that nobody knows and only then its own: at no moment can another user connect.
fn bind(path: &Path) -> io::Result<Socket> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_string_lossy();
    // kubelet leaves out names that begin with a dot.
    let hidden = folder.join(format!(".{name}"));
    remove(&hidden)?;
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    let inode = std::fs::symlink_metadata(&hidden)?.ino();
    std::fs::rename(&hidden, path)?;
    Ok(Socket { listener, inode })
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_ours(path: &Path, inode: u64) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.ino() == inode)
}

/// Serves until shutdown. The first socket is there when this returns; failing later ends the process by `shutdown`.
pub fn serve(
    name: &'static str,
    path: PathBuf,
    routes: Routes,
    shutdown: &Shutdown,
) -> Result<(), SocketError> {
    let first = bind(&path).map_err(|source| SocketError::Bind {
        path: path.clone(),
        source,
    })?;
    let stop = shutdown.clone();
    shutdown.run(name, async move {
        let mut socket = first;
        loop {
            tracing::info!(socket = %path.display(), "listening");
            let inode = socket.inode;
            let end = async {
                tokio::select! {
                    () = stop.stopping() => {}
                    () = replaced(&path, inode) => tracing::warn!(socket = %path.display(), "the socket was removed, making it again"),
                }
            };
            let connections = UnixListenerStream::new(socket.listener).map(|accepted| accepted.map(Tolerant::new));
            Server::builder()
                .add_routes(routes.clone())
                .serve_with_incoming_shutdown(connections, end)
                .await
                .map_err(|source| SocketError::Serve { path: path.clone(), source })?;
            if stop.is_stopping() {
                if is_ours(&path, inode) {
                    let _ = remove(&path);
                }
                return Ok::<(), SocketError>(());
            }
            socket = bind(&path).map_err(|source| SocketError::Bind { path: path.clone(), source })?;
        }
    });
    Ok(())
}

/// Ends when the socket at `path` is no longer the one with this inode.
async fn replaced(path: &Path, inode: u64) {
    while is_ours(path, inode) {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_replaces_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins/driver/csi.sock");
        let first = bind(&path).unwrap();
        assert!(is_ours(&path, first.inode));
        let second = bind(&path).unwrap();
        assert!(is_ours(&path, second.inode) && !is_ours(&path, first.inode));
        let mode = std::fs::symlink_metadata(&path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing hidden is left");
        tokio::net::UnixStream::connect(&path).await.unwrap();
    }
}
