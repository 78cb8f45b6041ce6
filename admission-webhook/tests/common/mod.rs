//! What tests on real sockets share: a server with a certificate, and raw TLS connections to it.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test; the lints' exception for tests does not reach helper modules"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admission_webhook::server::{Limits, serve};
use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::tls::server_config;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const NAME: &str = "hook.storage.svc";

/// A certificate for [`NAME`] that is its own authority, and its key.
pub(crate) fn a_pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Serves the router; the certificate that clients trust.
pub(crate) fn a_server(
    router: Router,
    limits: Limits,
    shutdown: &Shutdown,
) -> (SocketAddr, String) {
    hawser_runtime::tls::install_provider();
    let (certificate, key) = a_pair();
    let config =
        RustlsConfig::from_config(server_config(certificate.as_bytes(), key.as_bytes()).unwrap());
    let address = serve(
        "127.0.0.1:0".parse().unwrap(),
        config,
        router,
        Duration::ZERO,
        limits,
        shutdown,
    );
    (address.unwrap(), certificate)
}

/// A client that trusts what is in the bundle, as the API server does.
pub(crate) fn trusting(bundle: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A connection, its handshake done.
pub(crate) async fn connect(
    address: SocketAddr,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    connector
        .connect(ServerName::try_from(NAME).unwrap(), stream)
        .await
}

/// Headers of a POST.
pub(crate) fn head(path: &str, more: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\n{more}\r\n")
        .into_bytes()
}

/// Sends a whole request and reads a whole answer: its status line and body.
pub(crate) async fn exchange(
    stream: &mut TlsStream<TcpStream>,
    path: &str,
    body: &[u8],
) -> std::io::Result<(String, Vec<u8>)> {
    let mut request = head(path, &format!("Content-Length: {}\r\n", body.len()));
    request.extend_from_slice(body);
    send(stream, &request).await?;
    answer(stream).await
}

/// Sends all of it. TLS keeps back what the socket does not take at once (for want of room, or since the task has used up its
/// turn), and reading an answer does not send it.
pub(crate) async fn send(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads one answer.
pub(crate) async fn answer(
    stream: &mut TlsStream<TcpStream>,
) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut read).await? == 0 {
            let so_far = String::from_utf8_lossy(&read).into_owned();
            return Err(std::io::Error::other(format!("closed after {so_far:?}")));
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    while read.len() < end + 4 + length {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(std::io::Error::other("closed within the body"));
        }
    }
    let status = head.lines().next().unwrap_or_default().to_owned();
    Ok((status, read[end + 4..].to_vec()))
}

/// Memory of this process that is in use now, bytes.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
