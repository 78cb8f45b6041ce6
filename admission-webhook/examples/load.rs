//! Load on the real program: starts it over an API server in memory, sends it reviews over TLS on loopback, and says how long answers took
//! and how much memory it holds. Bounded: so many reviews, then it ends.
//!
//!     cargo build --release -p admission-webhook --bin admission-webhook --example load
//!     target/release/examples/load target/release/admission-webhook [CLIENTS [REVIEWS]]
//!
//! The client is on the same machine and has its share of the times. 8 clients and 100,000 reviews unless told otherwise.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a tool for people at the workspace: what does not work ends it"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use common::{connect, exchange, trusting};
use hawser_runtime::testing::FakeApi;
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/hwameistor-admission-validate";
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Three nodes, a hundred bound claims, two policies: a small cluster.
fn a_cluster() -> FakeApi {
    let api = FakeApi::new();
    for (kind, path) in [
        (
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations/hwameistor-admission-mutate",
        ),
        (
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations/hwameistor-admission-validate",
        ),
    ] {
        api.put(
            &format!("/apis/admissionregistration.k8s.io/v1/{path}"),
            json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": path.rsplit('/').next() },
                    "webhooks": [{ "name": "a", "clientConfig": { "service": { "name": "hook", "namespace": "storage" } } }] }),
        );
    }
    let storage = "/apis/storage.k8s.io/v1/storageclasses";
    let ours = "/apis/hwameistor.io/v1alpha1";
    api.put(
        &format!("{storage}/ssd"),
        json!({ "metadata": { "name": "ssd" }, "provisioner": "lvm.hwameistor.io", "parameters": { "poolClass": "SSD", "replicaNumber": "1" } }),
    );
    for node in ["n1", "n2", "n3"] {
        api.put(
            &format!("/api/v1/nodes/{node}"),
            json!({ "metadata": { "name": node } }),
        );
        api.put(
            &format!("{ours}/localstoragenodes/{node}"),
            json!({ "metadata": { "name": node }, "spec": { "hostname": node, "topogoly": { "zone": "a" } },
                    "status": { "state": "Ready", "pools": { "LocalStorage_PoolSSD": { "class": "SSD", "totalCapacityBytes": 1_i64 << 40 } } } }),
        );
    }
    api.put(
        "/api/v1/namespaces/shop",
        json!({ "metadata": { "name": "shop", "labels": { "team": "a" } } }),
    );
    for n in 0..100 {
        let (claim, volume) = (format!("data-{n}"), format!("pvc-{n}"));
        api.put(
            &format!("/api/v1/namespaces/shop/persistentvolumeclaims/{claim}"),
            json!({ "metadata": { "name": claim, "namespace": "shop" }, "spec": { "storageClassName": "ssd", "volumeName": volume } }),
        );
        api.put(
            &format!("/api/v1/persistentvolumes/{volume}"),
            json!({ "metadata": { "name": volume }, "spec": { "csi": { "driver": "lvm.hwameistor.io", "volumeHandle": volume } } }),
        );
        api.put(
            &format!("{ours}/localvolumereplicas/{volume}-n1"),
            json!({ "metadata": { "name": format!("{volume}-n1") }, "spec": { "volumeName": volume, "nodeName": format!("n{}", n % 3 + 1) },
                    "status": { "state": "Ready", "synced": true } }),
        );
    }
    for (name, mode, most) in [("small", "Enforce", "100Gi"), ("loud", "Warn", "10Gi")] {
        api.put(
            &format!("/apis/hawser.io/v1alpha1/storagepolicies/{name}"),
            json!({ "apiVersion": "hawser.io/v1alpha1", "kind": "StoragePolicy", "metadata": { "name": name, "generation": 1 }, "spec": {
                "mode": mode, "match": { "namespaces": { "selector": { "matchLabels": { "team": "a" } } } }, "restrict": { "size": { "max": most } } } }),
        );
    }
    let set = json!({ "metadata": { "name": "db", "namespace": "shop" }, "spec": { "selector": {}, "template": {}, "volumeClaimTemplates": [
        { "metadata": { "name": "log" }, "spec": { "storageClassName": "ssd" } }] } });
    api.put("/apis/apps/v1/namespaces/shop/statefulsets/db", set);
    api
}

/// The API server over HTTP. Watches get nothing, for ever: the objects never change.
async fn answer(State(api): State<FakeApi>, request: Request) -> Response {
    if request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        let nothing = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        return Body::from_stream(nothing).into_response();
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    match api.client().send(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Response::from_parts(parts, Body::from(body))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "it runs beside us until we end it, which hawser_command does not do"
)]
fn start(program: &str, kubeconfig: &Path, listen: SocketAddr, http: SocketAddr) -> Child {
    Command::new(program)
        .args([
            "--identity",
            "load",
            "--namespace",
            "storage",
            "--service",
            "hook",
            "--log-level",
            "warn",
        ])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args([
            "--listen",
            &listen.to_string(),
            "--http-listen",
            &http.to_string(),
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

async fn until_ready(http: SocketAddr) {
    let config = kube::Config::new(format!("http://{http}").parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let end = Instant::now() + READY_WITHIN;
    loop {
        let ready = client.request_text(http::Request::get("/readyz").body(Vec::new()).unwrap());
        if ready.await.is_ok() {
            return;
        }
        assert!(Instant::now() < end, "not ready within {READY_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Memory of another process, KiB: now, and the most that it was.
fn memory(process: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Processor time of another process, in clock ticks of 10 ms.
fn ticks(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after = text.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn a_review(group: &str, resource: &str, operation: &str, object: &Value, old: &Value) -> Vec<u8> {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": { "group": group, "version": "v1", "kind": "Any" },
        "resource": { "group": group, "version": "v1", "resource": resource }, "name": "it", "namespace": "shop",
        "operation": operation, "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
        "object": object, "oldObject": old, "dryRun": false } })
    .to_string()
    .into_bytes()
}

/// A pod of usual size, with a sidecar, probes and environment: some 6 KiB.
fn a_pod(claims: &[String]) -> Value {
    let environment: Vec<Value> = (0..30)
        .map(|n| json!({ "name": format!("SETTING_{n}"), "value": "x".repeat(40) }))
        .collect();
    let container = |name: &str| {
        json!({ "name": name, "image": "registry.example/team/app@sha256:0123456789abcdef", "env": environment,
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
                "livenessProbe": { "httpGet": { "path": "/livez", "port": 80 }, "periodSeconds": 10 } })
    };
    let volumes: Vec<Value> = claims
        .iter()
        .map(|c| json!({ "name": c, "persistentVolumeClaim": { "claimName": c } }))
        .collect();
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "web-5d8f-", "labels": { "app": "web" } }, "spec": {
        "containers": [container("app"), container("sidecar")], "schedulerName": "default-scheduler", "volumes": volumes } })
}

struct Kind {
    name: &'static str,
    path: &'static str,
    /// Share of all reviews, percent.
    share: usize,
    bodies: Vec<Vec<u8>>,
}

fn kinds() -> Vec<Kind> {
    let claim = |size: &str| json!({ "metadata": { "name": "it" }, "spec": { "storageClassName": "ssd", "resources": { "requests": { "storage": size } } } });
    let pods: Vec<Value> = (0..100)
        .map(|n| a_pod(&[format!("data-{n}"), format!("data-{}", (n + 3) % 100)]))
        .collect();
    let reviews = |resource: &str| {
        pods.iter()
            .map(|pod| a_review("", resource, "CREATE", pod, &json!(null)))
            .collect()
    };
    let volume = |qos: &str| json!({ "metadata": { "name": "it" }, "spec": { "poolName": "LocalStorage_PoolSSD", "pvcNamespace": "shop", "pvcName": "data-1", "volumeQoS": { "iops": qos } } });
    vec![
        Kind {
            name: "pod with 2 bound claims, changed",
            path: "/mutate",
            share: 40,
            bodies: reviews("pods"),
        },
        Kind {
            name: "pod with 2 bound claims, allowed",
            path: "/validate",
            share: 40,
            bodies: reviews("pods"),
        },
        Kind {
            name: "claim, warned",
            path: "/validate",
            share: 10,
            bodies: vec![a_review(
                "",
                "persistentvolumeclaims",
                "CREATE",
                &claim("20Gi"),
                &json!(null),
            )],
        },
        Kind {
            name: "claim, refused",
            path: "/validate",
            share: 5,
            bodies: vec![a_review(
                "",
                "persistentvolumeclaims",
                "CREATE",
                &claim("200Gi"),
                &json!(null),
            )],
        },
        Kind {
            name: "volume of ours, changed by hand",
            path: "/validate",
            share: 5,
            bodies: vec![a_review(
                "hwameistor.io",
                "localvolumes",
                "UPDATE",
                &volume("300"),
                &volume("200"),
            )],
        },
    ]
}

/// One client on one connection, as the API server has it: the kinds in turn by their shares; microseconds of each.
async fn client(
    address: SocketAddr,
    bundle: String,
    kinds: &[Kind],
    count: usize,
    offset: usize,
) -> Vec<Vec<u32>> {
    let connector = trusting(&bundle);
    let mut stream = connect(address, &connector).await.unwrap();
    let mut times = vec![Vec::new(); kinds.len()];
    for n in 0..count {
        // 37 and 100 have no common factor: all of a hundred come, mixed.
        let mut place = (n + offset) * 37 % 100;
        let which = kinds.iter().position(|kind| {
            let here = place < kind.share;
            place = place.saturating_sub(kind.share);
            here
        });
        let kind = &kinds[which.unwrap()];
        let body = &kind.bodies[n % kind.bodies.len()];
        let began = Instant::now();
        let (status, _) = exchange(&mut stream, kind.path, body).await.unwrap();
        times[which.unwrap()].push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        assert_eq!(status, "HTTP/1.1 200 OK");
    }
    times
}

fn row(out: &mut String, name: &str, times: &mut [u32]) {
    times.sort_unstable();
    let at = |permille: usize| {
        f64::from(times[(times.len() * permille / 1000).min(times.len() - 1)]) / 1000.0
    };
    let _ = writeln!(
        out,
        "| {name} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        times.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize, otherwise: usize| {
        arguments
            .get(n)
            .map_or(otherwise, |text| text.parse().unwrap())
    };
    let Some(program) = arguments.first() else {
        eprintln!("usage: load PROGRAM [CLIENTS [REVIEWS]]");
        std::process::exit(2);
    };
    let (clients, reviews) = (number(1, 8), number(2, 100_000));

    let api = a_cluster();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(api.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let config = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "a", "cluster": { "server": format!("http://{server}") } }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }], "users": [{ "name": "a", "user": {} }] });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();

    hawser_runtime::tls::install_provider();
    let (listen, http) = (free_address(), free_address());
    let mut webhook = start(program, &kubeconfig, listen, http);
    until_ready(http).await;
    let process = webhook.id();
    let bundle =
        api.object(CONFIGURATION).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].clone();
    let bundle: ByteString = serde_json::from_value(bundle).unwrap();
    let bundle = String::from_utf8(bundle.0).unwrap();

    let (before, cpu) = (memory(process), ticks(process));
    let began = Instant::now();
    let kinds = kinds();
    let each = reviews / clients;
    let all = (0..clients).map(|n| client(listen, bundle.clone(), &kinds, each, n * 13));
    let results = futures::future::join_all(all).await;
    let (elapsed, after, cpu) = (began.elapsed(), memory(process), ticks(process) - cpu);

    let mut out = String::from(
        "| review | count | p50 ms | p99 ms | p99.9 ms | most ms |\n|---|---|---|---|---|---|\n",
    );
    let mut everything = Vec::new();
    for (n, kind) in kinds.iter().enumerate() {
        let mut times: Vec<u32> = results
            .iter()
            .flat_map(|result| result[n].iter().copied())
            .collect();
        everything.extend_from_slice(&times);
        row(&mut out, kind.name, &mut times);
    }
    row(&mut out, "all", &mut everything);
    let count = each * clients;
    println!(
        "{clients} clients, {count} reviews in {:.1} s, {:.0} a second",
        elapsed.as_secs_f64(),
        f64::from(u32::try_from(count).unwrap()) / elapsed.as_secs_f64()
    );
    println!("{out}");
    println!(
        "processor time of the webhook: {} us a review",
        cpu * 10_000 / u64::try_from(count).unwrap()
    );
    println!(
        "memory of the webhook (KiB): {} before, {} after, {} at most",
        before.0, after.0, after.1
    );
    webhook.kill().unwrap();
    webhook.wait().unwrap();
}
