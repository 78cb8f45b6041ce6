//! Whatever is sent to `/simulate` or asked of `/why`, the answer is one of those that are meant, says something, and comes soon. A few
//! thousand inputs at a time; for a long run, which tells how many there were and which took longest:
//! `PROPTEST_CASES=1000000 cargo test -p scheduler-extender explain::fuzz -- --nocapture`.

use std::cell::Cell;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::tests::{app, health, patient, send};
use super::*;
use crate::wire::fuzz::{config, damage, damaged, spent};

/// Of the processor, in a debug build.
const LONGEST: Duration = Duration::from_millis(100);

/// Text made of what manifests are made of, in any order.
fn tokens() -> BoxedStrategy<Vec<u8>> {
    let token = prop::sample::select(vec![
        "apiVersion: ",
        "v1",
        "apps/v1",
        "kind: ",
        "Pod",
        "StatefulSet",
        "Deployment",
        "List",
        "items:",
        "metadata: ",
        "name: ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\n",
        "\n  ",
        "\n- ",
        "---\n",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!!null ",
        "\"",
        "'",
        "| ",
        "> ",
        "#",
        "spec: ",
        "replicas: ",
        "99999999999",
        "-1",
        "1e9",
        ".inf",
        "~",
        "null",
        "true",
        "0x7f",
        "volumeClaimTemplates: ",
        "template: ",
        "volumes: ",
        "persistentVolumeClaim: ",
        "claimName: ",
        "data-db-0",
        "\u{0}",
        "\u{feff}",
        "é",
        "💾",
        "\t",
        "\r\n",
        "? ",
        "%YAML 9.9\n",
        "...\n",
    ]);
    prop::collection::vec(token, 0..60)
        .prop_map(|tokens| tokens.concat().into_bytes())
        .boxed()
}

/// Any value, of the fields that manifests have.
fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Not so many pods that simulating them takes its time, and too many.
        (-3..40i64).prop_map(Value::from),
        Just(Value::from(1001)),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9./-]{0,12}".prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "v1",
            "apps/v1",
            "Pod",
            "StatefulSet",
            "List",
            "hdd",
            "data-db-0",
            "data-db-2",
            "1Gi",
            "10Ei",
            "oven-1",
            "In",
            "Exists",
            "Parallel"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let field = prop::sample::select(vec![
            "apiVersion",
            "kind",
            "metadata",
            "name",
            "namespace",
            "uid",
            "spec",
            "items",
            "replicas",
            "template",
            "volumes",
            "claimName",
            "persistentVolumeClaim",
            "ephemeral",
            "volumeClaimTemplate",
            "volumeClaimTemplates",
            "resources",
            "requests",
            "storage",
            "storageClassName",
            "dataSource",
            "nodeSelector",
            "affinity",
            "nodeAffinity",
            "tolerations",
            "ordinals",
            "start",
            "requiredDuringSchedulingIgnoredDuringExecution",
            "nodeSelectorTerms",
            "matchExpressions",
            "key",
            "operator",
            "values",
            "room",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field, inner), 0..5).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
    .boxed()
}

fn right() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db", "namespace": "default" },
        "spec": {
            "replicas": 3, "serviceName": "db", "selector": { "matchLabels": {} }, "ordinals": { "start": 1 },
            "template": { "spec": {
                "containers": [{ "name": "db", "resources": { "requests": { "cpu": "1" } }, "ports": [{ "containerPort": 1, "hostPort": 2 }] }],
                "nodeSelector": { "room": "back" },
                "tolerations": [{ "key": "a", "operator": "Exists" }],
                "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "room", "operator": "In", "values": ["back"] }] }
                ] } } },
                "volumes": [
                    { "name": "a", "persistentVolumeClaim": { "claimName": "data-db-0" } },
                    { "name": "b", "ephemeral": { "volumeClaimTemplate": { "spec": { "storageClassName": "hdd", "resources": { "requests": { "storage": "1Gi" } } } } } }
                ]
            } },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": { "resources": { "requests": { "storage": "1Gi" } }, "dataSource": { "kind": "PersistentVolumeClaim", "name": "data-db-0" } } }]
        }
    })
}

/// A right manifest in which some values are replaced.
fn nearly_right() -> BoxedStrategy<Value> {
    let change = (any::<prop::sample::Index>(), value());
    (prop::collection::vec(change, 0..4), any::<bool>())
        .prop_map(|(changes, pod)| {
            let mut manifest = right();
            if pod {
                let spec = manifest["spec"]["template"]["spec"].clone();
                manifest = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec });
            }
            for (at, value) in changes {
                let mut places = Vec::new();
                collect(&manifest, String::new(), &mut places);
                if let Some(place) = manifest.pointer_mut(&places[at.index(places.len())]) {
                    *place = value;
                }
            }
            manifest
        })
        .boxed()
}

fn collect(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(
                    value,
                    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    places,
                );
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                collect(value, format!("{at}/{i}"), places);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    places.push(at);
}

fn body() -> BoxedStrategy<Vec<u8>> {
    let json = |value: Value| value.to_string().into_bytes();
    let yaml = |value: Value| {
        serde_saphyr::to_string(&value)
            .unwrap_or_default()
            .into_bytes()
    };
    let body = prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..200),
        3 => tokens(),
        2 => value().prop_map(json),
        6 => nearly_right().prop_map(json),
        3 => nearly_right().prop_map(yaml),
        1 => prop::collection::vec(nearly_right(), 0..4).prop_map(move |items| json(json!({ "apiVersion": "v1", "kind": "List", "items": items }))),
    ];
    (body, damage())
        .prop_map(|(body, damage)| damaged(body, &damage))
        .boxed()
}

/// What comes after the question mark, as it may be in an address.
fn query() -> BoxedStrategy<String> {
    let part = prop::sample::select(vec![
        "pod=",
        "format=",
        "replicas=",
        "namespace=",
        "default/db-2",
        "default%2Fdb-2",
        "default/db-7",
        "json",
        "text",
        "&",
        "=",
        "%",
        "%00",
        "%ff",
        "+",
        "/",
        "0",
        "7",
        "x",
        "a..b",
        "1000000",
        "-1",
    ]);
    prop_oneof![
        3 => Just(String::new()),
        3 => prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat()),
        1 => "[!-~&&[^#<>\"`{}|^\\\\]]{0,40}",
    ]
    .boxed()
}

fn accept() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        Just(b"*/*".to_vec()),
        Just(b"text/plain".to_vec()),
        prop::collection::vec(prop_oneof![32..127u8, 128..255u8], 0..20),
    ]
    .boxed()
}

/// Sends it, if it can be sent; the answer must be one that is meant. How much of the processor it took.
fn try_it(
    runtime: &Runtime,
    router: &Router,
    request: Option<Request<Body>>,
) -> Result<Option<Duration>, TestCaseError> {
    let Some(request) = request else {
        return Ok(None);
    };
    let (status, body, took) = runtime.block_on(async {
        let (here, apart) = (spent(), spent_apart().await);
        let (status, _, body) = send(router, request).await;
        let took = spent().saturating_sub(here) + spent_apart().await.saturating_sub(apart);
        (status, body, took)
    });
    prop_assert!(
        matches!(status.as_u16(), 200 | 400 | 404 | 422),
        "{}: {}",
        status,
        body
    );
    prop_assert!(!body.is_empty());
    prop_assert!(took < LONGEST, "took {took:?}");
    Ok(Some(took))
}

/// Of the only thread that works apart: see [`runtime`].
async fn spent_apart() -> Duration {
    tokio::task::spawn_blocking(spent).await.unwrap()
}

/// All that works apart from the runtime's own thread is on one other, so that its processor time can be told from that of other
/// tests.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(3600))
        .build()
        .unwrap()
}

fn run<S: Strategy>(
    name: &str,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<Option<Duration>, TestCaseError>,
) {
    let (longest, count) = (Cell::new(Duration::ZERO), Cell::new(0_u64));
    let begin = Instant::now();
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..config()
    };
    let done = TestRunner::new(config).run(strategy, |input| {
        if let Some(took) = test(input)? {
            longest.set(longest.get().max(took));
            count.set(count.get() + 1);
        }
        Ok(())
    });
    println!(
        "{name}: {} inputs in {:.0?}, the longest took {:?}",
        count.get(),
        begin.elapsed(),
        longest.get()
    );
    assert!(done.is_ok(), "{}", done.unwrap_err());
}

#[test]
fn no_manifest_does_harm() {
    let (runtime, health) = (runtime(), health());
    let app = app(&health);
    let inventory = app.sources.inventory.clone();
    let before = format!("{:?}", *inventory.read());
    let router = patient(app);
    run("/simulate", &(body(), query()), |(body, query)| {
        let request = Request::post(format!("/simulate?{query}")).body(Body::from(body));
        try_it(&runtime, &router, request.ok())
    });
    assert_eq!(
        format!("{:?}", *inventory.read()),
        before,
        "a simulation changes nothing"
    );
}

#[test]
fn no_question_does_harm() {
    let (runtime, health) = (runtime(), health());
    let router = patient(app(&health));
    let filter = json!({ "Pod": { "metadata": { "name": "db-7", "namespace": "default" } }, "NodeNames": ["oven-1"] });
    let asked = Request::post("/filter")
        .header("content-type", "application/json")
        .body(Body::from(filter.to_string()));
    runtime.block_on(send(&router, asked.unwrap()));
    run("/why", &(query(), accept()), |(query, accept)| {
        let request = Request::get(format!("/why?{query}")).header("accept", accept);
        try_it(&runtime, &router, request.body(Body::empty()).ok())
    });
}
