//! The router in process, on the dumps in `fixtures/`.

mod bounds;
mod many;
mod simulate;
mod why;
mod wrong;

use std::path::Path;
use std::time::Duration;

use axum::http::Request;
use hawser_placement::Strategy;
use hawser_runtime::health::Health;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::dump;
use crate::watch::Shared;
use crate::wire::router_within;

pub(super) fn app(health: &Health) -> App {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bakery.yaml");
    let dump = dump::read(&fixture).unwrap();
    let metrics = Metrics::new("test");
    App::new(
        Shared::new(dump.inventory),
        Strategy::Spread,
        health,
        &metrics,
    )
    .with_pods(dump.pods)
}

/// As it is served, but nothing ends for want of time: a test machine may be slow.
pub(super) fn patient(mut app: App) -> Router {
    const PATIENCE: Duration = Duration::from_secs(600);
    app.explaining.simulate_for = PATIENCE;
    router_within(app, PATIENCE)
}

pub(super) fn health() -> Health {
    Health::new(&Shutdown::new(Duration::from_secs(1)))
}

fn bakery() -> Router {
    patient(app(&health()))
}

pub(super) async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .map_or("", |kind| kind.to_str().unwrap())
        .to_owned();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let (status, _, body) = send(router, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, body)
}

async fn post(router: &Router, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::post(path).header("content-type", "application/json");
    let (status, _, body) = send(router, request.body(body.into()).unwrap()).await;
    (status, body)
}

fn parsed((status, text): (StatusCode, String)) -> Value {
    assert_eq!(status, StatusCode::OK, "{text}");
    let mut value = serde_json::from_str(&text).unwrap();
    without_times(&mut value);
    value
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "at" && name != "secondsAgo");
            fields.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// As kube-scheduler asks about pod default/db-2, or another of its claim.
fn args(pod: &str) -> Value {
    json!({
        "Pod": {
            "metadata": { "name": pod, "namespace": "default", "uid": format!("uid-{pod}") },
            "spec": { "containers": [], "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data-db-2" } }] }
        },
        "Nodes": null, "NodeNames": ["oven-1", "oven-2", "counter"]
    })
}

fn ovens() -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ovens.yaml");
    std::fs::read_to_string(fixture).unwrap()
}
