//! Bodies that nobody should send: none makes the webhook panic, and none keeps it busy for 100 ms.
//!
//! Some thousands in each run. More: `HAWSER_FUZZ_CASES=1000000 cargo test -p admission-webhook --test fuzz -- --nocapture`. The seed of a
//! failure is printed and kept by proptest.

#![allow(
    clippy::panic,
    reason = "a test; the lint's exception for tests does not reach its helper functions"
)]

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use admission_webhook::{Reader, app};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

/// No body may cost more of the processor's time than this, in a build without optimisation.
const MOST_NANOSECONDS: u64 = 100_000_000;

#[expect(clippy::disallowed_methods, reason = "a test has no flags")]
fn cases() -> u32 {
    let asked = std::env::var("HAWSER_FUZZ_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(3000)
}

/// Time that this thread has run, whatever else the machine does meanwhile: the first number of schedstat.
fn thread_nanoseconds() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no schedstat: {text:?}"))
}

fn a_router() -> Router {
    let class = json!({ "kind": "StorageClass", "metadata": { "name": "ssd", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        "provisioner": "lvm.hwameistor.io", "parameters": { "poolClass": "SSD", "replicaNumber": "1" } });
    let claim = json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": "shop" },
        "spec": { "storageClassName": "ssd", "volumeName": "pvc-1" } });
    let volume = json!({ "kind": "PersistentVolume", "metadata": { "name": "pvc-1" },
        "spec": { "csi": { "driver": "lvm.hwameistor.io", "volumeHandle": "pvc-1" } } });
    let copy = json!({ "kind": "LocalVolumeReplica", "metadata": { "name": "pvc-1-n1" },
        "spec": { "volumeName": "pvc-1", "nodeName": "n1" }, "status": { "state": "Ready", "synced": true } });
    let node = json!({ "kind": "LocalStorageNode", "metadata": { "name": "n1" }, "spec": { "topogoly": { "zone": "a" } },
        "status": { "state": "Ready", "pools": { "LocalStorage_PoolSSD": { "class": "SSD", "totalCapacityBytes": 1_i64 << 30 } } } });
    let policy = |name: &str, mode: &str| {
        json!({ "kind": "StoragePolicy", "metadata": { "name": name }, "spec": {
            "mode": mode, "match": { "claims": { "matchExpressions": [{ "key": "x", "operator": "DoesNotExist" }] } },
            "restrict": { "size": { "max": "10Gi" }, "replicas": { "min": 2 }, "qos": { "maxIops": "10" }, "encryption": "Required" }
        } })
    };
    let mut near = policy("near", "Enforce");
    near["spec"]["locality"] = json!("Required");
    near["spec"]["defaults"] = json!({ "className": "ssd", "size": "1Gi" });
    let objects = [
        class,
        claim,
        volume,
        copy,
        node,
        policy("loud", "Warn"),
        near,
    ];
    app::router_over(&objects, None, Reader::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Objects of every kind that the webhook reads: group, plural, object.
fn objects() -> Vec<(&'static str, &'static str, Value)> {
    let claim_spec = json!({ "storageClassName": "ssd", "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "20Gi" } } });
    let pod = json!({ "metadata": { "name": "db-0", "labels": { "a": "b" }, "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true } ] },
        "spec": { "schedulerName": "default-scheduler", "volumes": [
            { "name": "d", "persistentVolumeClaim": { "claimName": "data" } },
            { "name": "e", "persistentVolumeClaim": { "claimName": "log-db-0" } },
            { "name": "r", "ephemeral": { "volumeClaimTemplate": { "metadata": { "labels": { "x": "y" } }, "spec": claim_spec } } }
        ], "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "z", "operator": "In", "values": ["a"] }] }, {},
                { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] } ] },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                { "weight": 5, "preference": { "matchExpressions": [{ "key": "topology.lvm.hwameistor.io/node", "operator": "In", "values": ["n9"] }] } } ]
        } } } });
    let meta = json!({ "name": "it", "labels": { "a": "b" }, "finalizers": ["f"] });
    let ours = |plural, spec: Value, status: Value| {
        (
            "hwameistor.io",
            plural,
            json!({ "metadata": meta, "spec": spec, "status": status }),
        )
    };
    vec![
        ("", "pods", pod),
        (
            "",
            "persistentvolumeclaims",
            json!({ "metadata": meta, "spec": claim_spec }),
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({ "metadata": meta, "provisioner": "lvm.hwameistor.io",
            "parameters": { "poolClass": "SSD", "replicaNumber": "1", "provision-iops-on-creation": "300" },
            "allowedTopologies": [{ "matchLabelExpressions": [{ "key": "zone", "values": ["a"] }] }] }),
        ),
        ours(
            "localvolumes",
            json!({ "poolName": "LocalStorage_PoolSSD", "requiredCapacityBytes": 1_i64 << 32, "replicaNumber": 1, "pvcNamespace": "shop",
            "pvcName": "data", "accessibility": { "nodes": ["n1"] }, "volumeQoS": { "iops": "300" }, "config": { "replicas": [{ "id": 1 }] } }),
            json!({ "publishedNode": "n1", "state": "Ready" }),
        ),
        ours(
            "localvolumereplicas",
            json!({ "volumeName": "pvc-1", "nodeName": "n1", "requiredCapacityBytes": 1_i64 << 30 }),
            json!({ "state": "Ready" }),
        ),
        ours(
            "localvolumegroups",
            json!({ "volumes": [{ "localvolume": "pvc-1", "pvc": "data" }] }),
            json!({}),
        ),
        ours(
            "localvolumeexpands",
            json!({ "volumeName": "pvc-1", "requiredCapacityBytes": 1_i64 << 31 }),
            json!({}),
        ),
        ours(
            "localdisks",
            json!({ "nodeName": "n1", "state": "Active", "claimRef": { "name": "c" }, "diskAttributes": { "type": "SSD" } }),
            json!({ "claimState": "Bound" }),
        ),
        ours(
            "localdiskclaims",
            json!({ "nodeName": "n1", "owner": "local-storage", "description": { "diskType": "SSD" } }),
            json!({ "status": "Bound" }),
        ),
        ours(
            "localdisknodes",
            json!({ "nodeName": "n1" }),
            json!({ "poolExtendRecords": { "p": [] } }),
        ),
        ours(
            "localstoragenodes",
            json!({ "hostname": "n1" }),
            json!({ "pools": {} }),
        ),
    ]
}

fn a_review(which: usize, operation: &str, other: usize) -> Value {
    let all = objects();
    let (group, plural, object) = all[which % all.len()].clone();
    // The stored object may be of another kind: who sends it may be anybody.
    let old = all[other % all.len()].2.clone();
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": { "group": group, "version": "v1", "kind": "Any" },
        "resource": { "group": group, "version": "v1", "resource": plural },
        "name": "it", "namespace": "shop", "operation": operation, "userInfo": { "username": "ann" },
        "object": object, "oldObject": old, "dryRun": false } })
}

/// Small JSON, also of kinds that no field has.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "1e99999",
            "-5Gi",
            "18446744073709551616",
            "../x",
            "",
            "In",
            "metadata.name",
            "n1",
            "9Ei"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z./]{0,8}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// What is done to the n-th part of a tree.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Value),
    Remove,
    /// So often in a row.
    Repeat(usize),
}

fn an_edit() -> impl Strategy<Value = (u16, Edit)> {
    let edit = prop_oneof![
        4 => any_json().prop_map(Edit::Replace),
        2 => Just(Edit::Remove),
        1 => (2..40_usize).prop_map(Edit::Repeat),
    ];
    (any::<u16>(), edit)
}

/// Number of parts of a tree.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Edits the n-th part; the tree has more than n.
fn edit(value: &mut Value, n: usize, what: &Edit) {
    let mut left = n;
    let parts: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    if n == 0 {
        *value = match what {
            Edit::Replace(new) => new.clone(),
            Edit::Remove => Value::Null,
            Edit::Repeat(times) => Value::Array(vec![value.clone(); *times]),
        };
        return;
    }
    left -= 1;
    for part in parts {
        let parts = size(part);
        if left < parts {
            if left == 0
                && let (Edit::Repeat(times), Value::Array(items)) = (what, &mut *part)
                && let Some(first) = items.first().cloned()
            {
                items.extend(vec![first; *times]);
            } else {
                edit(part, left, what);
            }
            return;
        }
        left -= parts;
    }
}

fn a_body() -> impl Strategy<Value = Vec<u8>> {
    let operation = prop::sample::select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT"]);
    let edited = (
        any::<usize>(),
        operation,
        any::<usize>(),
        any::<bool>(),
        prop::collection::vec(an_edit(), 0..5),
    )
        .prop_map(|(which, operation, other, same, edits)| {
            let mut review = a_review(which, operation, if same { which } else { other });
            for (place, what) in edits {
                // Most edits inside of the request; the envelope is small.
                let inside = place % 16 != 0 && review.get("request").is_some();
                let target = if inside {
                    &mut review["request"]
                } else {
                    &mut review
                };
                let n = usize::from(place) % size(target);
                edit(target, n, &what);
            }
            review.to_string().into_bytes()
        })
        .boxed();
    let torn = (
        edited.clone(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any::<u8>(),
    )
        .prop_map(|(mut body, end, at, byte)| {
            body.truncate(end.index(body.len() + 1));
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            body
        });
    prop_oneof![
        12 => edited,
        3 => torn,
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

/// Sends a body to a path: what it cost, and whether it was taken for a review.
async fn send(router: &Router, path: &str, body: Vec<u8>) -> (u64, bool) {
    let request = Request::post(path)
        .body(Body::from(body))
        .unwrap_or_else(|e| panic!("{e}"));
    let before = thread_nanoseconds();
    let response = router
        .clone()
        .oneshot(request)
        .await
        .unwrap_or_else(|e| match e {});
    let status = response.status();
    let answer = response
        .into_body()
        .collect()
        .await
        .unwrap_or_else(|e| panic!("{e}"))
        .to_bytes();
    let spent = thread_nanoseconds() - before;
    match status {
        StatusCode::OK => {
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_else(|e| panic!("{e}"));
            assert!(answer["response"]["allowed"].is_boolean(), "{answer}");
        }
        StatusCode::BAD_REQUEST => assert!(!answer.is_empty()),
        other => panic!("{other}: {answer:?}"),
    }
    (spent, status == StatusCode::OK)
}

#[test]
fn no_body_panics_or_takes_long() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("{e}"));
    let router = a_router();
    let (worst, taken, inputs) = (Cell::new(0_u64), Cell::new(0_u64), Cell::new(0_u64));
    let config = Config {
        cases: cases().div_ceil(2),
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&a_body(), |body| {
        for path in ["/mutate", "/validate"] {
            let (spent, fine) = runtime.block_on(send(&router, path, body.clone()));
            worst.set(worst.get().max(spent));
            taken.set(taken.get() + u64::from(fine));
            inputs.set(inputs.get() + 1);
            prop_assert!(spent < MOST_NANOSECONDS, "{path} took {spent} ns");
        }
        Ok(())
    });
    println!(
        "{} bodies, {} of them reviews; the slowest took {:.2} ms",
        inputs.get(),
        taken.get(),
        Duration::from_nanos(worst.get()).as_secs_f64() * 1e3
    );
    if let Err(error) = result {
        panic!("{error}");
    }
    // Otherwise the edits hit nothing but the envelope.
    assert!(
        taken.get() * 4 > inputs.get(),
        "{} of {}",
        taken.get(),
        inputs.get()
    );
}

/// The largest bodies that are let in, made to cost as much as they can.
#[test]
fn no_large_body_takes_long() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("{e}"));
    let router = a_router();
    let many = |item: &str, bytes: usize| vec![item; bytes / (item.len() + 1)].join(",");
    let pod = |spec: String| {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","resource":{{"group":"","resource":"pods"}},"namespace":"shop","operation":"CREATE","object":{{"metadata":{{"name":"p"}},"spec":{spec}}}}}}}"#
        )
    };
    // An API server takes objects of 3 MiB.
    let large = 3 << 20;
    let claims: Vec<String> = (0..40_000)
        .map(|n| format!(r#"{{"name":"v{n}","persistentVolumeClaim":{{"claimName":"c{n}"}}}}"#))
        .collect();
    let rooms: Vec<String> = (0..20_000)
        .map(|n| format!(r#"{{"name":"v{n}","ephemeral":{{"volumeClaimTemplate":{{"spec":{{"storageClassName":"ssd"}}}}}}}}"#))
        .collect();
    let term = r#"{"matchExpressions":[{"key":"z","operator":"In","values":["a"]}]}"#;
    let data = r#"[{"name":"d","persistentVolumeClaim":{"claimName":"data"}}]"#;
    let terms = many(term, large / 4);
    let mut worst = (0, "");
    for (name, body) in [
        ("deep", "[".repeat(admission_webhook::BODY_LIMIT)),
        (
            "deep in a field that is not read",
            pod(format!(
                "{{\"x\":{}1{}}}",
                "[".repeat(large / 2),
                "]".repeat(large / 2)
            )),
        ),
        (
            "many claims",
            pod(format!("{{\"volumes\":[{}]}}", claims.join(","))),
        ),
        (
            "many ephemeral volumes",
            pod(format!("{{\"volumes\":[{}]}}", rooms.join(","))),
        ),
        (
            "many numbers in a field that is not read",
            pod(format!("{{\"x\":[{}]}}", many("0", large))),
        ),
        (
            "many alternatives",
            pod(format!(
                "{{\"volumes\":{data},\"affinity\":{{\"nodeAffinity\":{{\"requiredDuringSchedulingIgnoredDuringExecution\":{{\"nodeSelectorTerms\":[{terms}]}}}}}}}}"
            )),
        ),
        (
            "a long text",
            pod(format!("{{\"schedulerName\":\"{}\"}}", "x".repeat(large))),
        ),
    ] {
        for path in ["/mutate", "/validate"] {
            let (spent, _) = runtime.block_on(send(&router, path, body.clone().into_bytes()));
            if spent > worst.0 {
                worst = (spent, name);
            }
            println!(
                "{name} ({} bytes) {path}: {:.1} ms",
                body.len(),
                Duration::from_nanos(spent).as_secs_f64() * 1e3
            );
        }
    }
    // Without optimisation a scan of 8 MiB alone takes a tenth of a second; what must not be is more than a constant for a byte.
    assert!(
        worst.0 < 20 * MOST_NANOSECONDS,
        "{} took {} ns",
        worst.1,
        worst.0
    );
}
