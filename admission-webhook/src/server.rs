//! The HTTPS server: listens, serves, drains. Who is slow, or comes too often, is sent away before it costs anything.

mod capped;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hawser_runtime::shutdown::Shutdown;
use thiserror::Error;

use crate::server::capped::Capped;

/// How long a stopping replica goes on answering: the Service still sends API servers to it until they have heard that it
/// is not ready any more. What finds a closed port is admitted without us.
pub const LINGER: Duration = Duration::from_secs(5);

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. Each API server holds a few.
    pub connections: usize,
    /// For the handshake, and after it until the first request's headers are there.
    pub first_request: Duration,
    /// For the headers of each further request, idleness before them included. Longer than the 90 s after which Kubernetes' clients close
    /// idle connections themselves: a connection that is closed from here may be in use again at that moment, and that review would fail.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
        }
    }
}

/// The address can't be listened on.
#[derive(Debug, Error)]
#[error("can't listen on {address} (--listen); choose another address or end what uses it")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listens (port 0: any free one) and serves until shutdown and for `linger` after it; requests in progress are answered.
/// Returns the real address.
pub fn serve(
    address: SocketAddr,
    config: RustlsConfig,
    router: Router,
    linger: Duration,
    limits: Limits,
    shutdown: &Shutdown,
) -> Result<SocketAddr, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let real = listener.local_addr().map_err(failed)?;
    let handle = Handle::new();
    let tls = RustlsAcceptor::new(config)
        .handshake_timeout(limits.first_request)
        .acceptor(Capped::new(limits.connections));
    let mut server = axum_server::from_tcp(listener)
        .map_err(failed)?
        .acceptor(tls)
        .http1_only()
        .first_request_timeout(limits.first_request)
        .handle(handle.clone());
    server
        .http_builder()
        .http1()
        .header_read_timeout(limits.idle);
    shutdown.run("webhook server", server.serve(router.into_make_service()));
    let stopping = shutdown.stopping();
    shutdown.spawn("webhook server's end", async move {
        stopping.await;
        tokio::time::sleep(linger).await;
        handle.graceful_shutdown(None);
    });
    Ok(real)
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use hawser_runtime::tls::server_config;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::certificate::{Names, made_for_tests};

    /// A client that trusts a bundle and asks for a name, as the API server does.
    fn a_client(address: SocketAddr, name: &str, bundle: &str) -> kube::Client {
        let mut config = kube::Config::new(format!("https://{address}").parse().unwrap());
        let roots = CertificateDer::pem_slice_iter(bundle.as_bytes());
        config.root_cert = Some(roots.map(|root| root.unwrap().to_vec()).collect());
        config.tls_server_name = Some(name.to_owned());
        kube::Client::try_from(config).unwrap()
    }

    async fn ask(client: &kube::Client) -> Result<String, kube::Error> {
        client
            .request_text(http::Request::post("/mutate").body(Vec::new()).unwrap())
            .await
    }

    #[tokio::test]
    async fn the_api_server_reaches_it_by_the_service_name_and_a_renewal_needs_no_restart() {
        hawser_runtime::tls::install_provider();
        let names = Names::of_service("webhook", "storage");
        let pair = |made: &crate::certificate::Made| {
            server_config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap()
        };
        let (first, second) = (made_for_tests(&names), made_for_tests(&names));
        let config = RustlsConfig::from_config(pair(&first));
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let router = Router::new().route("/mutate", post(|| async { "here" }));
        let address = serve(
            "127.0.0.1:0".parse().unwrap(),
            config.clone(),
            router,
            Duration::ZERO,
            Limits::default(),
            &shutdown,
        )
        .unwrap();

        assert_eq!(
            ask(&a_client(address, "webhook.storage.svc", &first.bundle))
                .await
                .unwrap(),
            "here"
        );
        assert!(
            ask(&a_client(address, "other.storage.svc", &first.bundle))
                .await
                .is_err()
        );
        assert!(
            ask(&a_client(address, "webhook.storage.svc", &second.bundle))
                .await
                .is_err()
        );

        config.reload_from_config(pair(&second));
        assert_eq!(
            ask(&a_client(address, "webhook.storage.svc", &second.bundle))
                .await
                .unwrap(),
            "here"
        );

        shutdown.begin("test");
        shutdown.finished().await.unwrap();
        assert!(
            ask(&a_client(address, "webhook.storage.svc", &second.bundle))
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let made = made_for_tests(&Names::of_service("webhook", "storage"));
        let config = RustlsConfig::from_config(
            server_config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap(),
        );
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let limits = Limits::default();
        let error = serve(
            address,
            config,
            Router::new(),
            Duration::ZERO,
            limits,
            &shutdown,
        )
        .unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
    }
}
