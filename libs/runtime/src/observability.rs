//! The HTTP server of `/livez`, `/readyz` and `/metrics`. What they say comes from [`Health`] and [`Metrics`].

use std::{fmt::Write as _, net::SocketAddr};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::{
    health::{Check, Health},
    metrics::Metrics,
    shutdown::Shutdown,
};

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} (--http-listen); choose another address or end what uses it")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// Listens on `address` (port 0: any free one) and serves until `shutdown`; returns the real address.
///
/// Answers go on until the drain begins; then the process is seen as not ready by its closed port.
pub async fn serve(
    address: SocketAddr,
    health: &Health,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<SocketAddr, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server =
        axum::serve(listener, router(health, metrics)).with_graceful_shutdown(shutdown.stopping());
    shutdown.run("observability server", async move { server.await });
    Ok(address)
}

/// The routes as a value, for tests and for binaries that serve them beside others.
pub fn router(health: &Health, metrics: &Metrics) -> Router {
    let (live, ready, metrics) = (health.clone(), health.clone(), metrics.clone());
    Router::new()
        .route("/livez", get(async move || probe(&live.alive())))
        .route("/readyz", get(async move || probe(&ready.ready())))
        .route("/metrics", get(async move || scrape(&metrics)))
}

fn probe(checks: &[Check]) -> Response {
    let failed = checks.iter().any(|check| check.problem.is_some());
    let mut body = String::new();
    for Check { name, problem } in checks {
        // Writing into a String can't fail.
        let _ = match problem {
            None => writeln!(body, "[+]{name} ok"),
            Some(reason) => writeln!(body, "[-]{name} failed: {reason}"),
        };
    }
    body.push_str(if failed { "failed\n" } else { "ok\n" });
    let status = if failed {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (status, body).into_response()
}

fn scrape(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => (
            [(
                CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn probes_say_what_is_missing() {
        let health = Health::new(&Shutdown::new(Duration::from_secs(1)));
        let router = router(&health, &Metrics::new("test"));
        let volumes = health.readiness("watch LocalVolume");
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            body.contains("[-]watch LocalVolume failed: not started yet"),
            "{body}"
        );
        assert_eq!(
            ask(&router, "/livez").await,
            (StatusCode::OK, "ok\n".to_owned())
        );
        volumes.ready();
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let (health, metrics) = (Health::new(&shutdown), Metrics::new("test"));
        let error = serve(address, &health, &metrics, &shutdown)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let health = Health::new(&Shutdown::new(Duration::from_secs(1)));
        let (status, body) = ask(&router(&health, &Metrics::new("test")), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            body.contains("process_resident_memory_bytes") && body.ends_with("# EOF\n"),
            "{body}"
        );
        assert!(
            body.contains("hawser_build_info{component=\"test\""),
            "{body}"
        );
    }
}
