//! Listens, and keeps those who ask within bounds: a connection that sends nothing, or bit by bit, or does not read its answer, is
//! closed; there are never more connections than [`Limits::connections`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use hawser_runtime::shutdown::Shutdown;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

/// What one who asks may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// kube-scheduler keeps up to 25 idle ones.
    pub connections: usize,
    /// From a connection to the head of its first request.
    pub first_head: Duration,
    /// To the head of each further one; so also how long a connection may be idle. Long, because closing an idle connection may
    /// cross a request on its way.
    pub next_head: Duration,
    /// For an answer to be taken, once it is on its way.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            first_head: Duration::from_secs(10),
            next_head: Duration::from_secs(120),
            unread: Duration::from_secs(10),
        }
    }
}

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} (--listen); choose another address or end what uses it")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Takes the address (port 0: any free one).
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).map_err(|source| ListenError { address, source })
}

/// Serves until shutdown; requests in progress are answered.
pub fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let handle = Handle::new();
    let acceptor = Bounded {
        room: Arc::new(Semaphore::new(limits.connections)),
        unread: limits.unread,
    };
    let mut server = axum_server::from_tcp(listener)?
        .http1_only()
        .handle(handle.clone())
        .first_request_timeout(limits.first_head)
        .accept_error_handler(|peer: Option<&SocketAddr>, error| {
            tracing::warn!(?peer, %error, "connection is refused");
        })
        .acceptor(acceptor);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.next_head);
    shutdown.run("extender server", server.serve(router.into_make_service()));
    let stopping = shutdown.stopping();
    shutdown.spawn("extender server's end", async move {
        stopping.await;
        handle.graceful_shutdown(None);
    });
    Ok(())
}

/// Refuses connections beyond a number.
#[derive(Clone, Debug)]
struct Bounded {
    room: Arc<Semaphore>,
    unread: Duration,
}

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = TcpStream;
    type Service = Counted<S>;
    type Future = std::future::Ready<io::Result<(TcpStream, Counted<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        std::future::ready(self.take(stream, service))
    }
}

impl Bounded {
    fn take<S>(&self, stream: TcpStream, service: S) -> io::Result<(TcpStream, Counted<S>)> {
        let full = |_| io::Error::other("there are as many connections as may be");
        let permit = self.room.clone().try_acquire_owned().map_err(full)?;
        stream.set_nodelay(true)?;
        // Also ends the wait for a client that takes nothing: its window stays shut, and what is sent is never acknowledged.
        let unread = u32::try_from(self.unread.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, unread)?;
        let service = Counted {
            service,
            _permit: Arc::new(permit),
        };
        Ok((stream, service))
    }
}

/// The service of one connection, which counts as long as this lives.
#[derive(Clone, Debug)]
struct Counted<S> {
    service: S,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.service.call(request)
    }
}
