//! What pods get, case by case: each file in `golden/` has the pod as the API server sends it, the patch and warnings, and the pod after the
//! patch was applied by the reference implementation. The cluster is the same for all.
//!
//! Held for every case besides: nothing that was in the pod is gone or changed (but an empty or the default scheduler's name); a second pass
//! has an empty patch; with dry-run the answer is the same.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test -p admission-webhook --test golden`, and read the difference.

#![allow(
    clippy::panic,
    reason = "a test; the lint's exception for tests does not reach its helper functions"
)]

use admission_webhook::{Reader, app};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hawser_runtime::testing::FakeApi;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Nodes n1 to n4 have SSD pools, n3 and n4 also HDD ones; east has n1 and n2. Fifty more nodes have NVMe pools.
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_cluster() -> Vec<Value> {
    let mut all = Vec::new();
    for (name, provisioner, parameters) in [
        (
            "ssd",
            "lvm.hwameistor.io",
            json!({ "poolClass": "SSD", "replicaNumber": "1" }),
        ),
        (
            "hdd",
            "lvm.hwameistor.io",
            json!({ "poolClass": "HDD", "replicaNumber": "1" }),
        ),
        (
            "nvme",
            "lvm.hwameistor.io",
            json!({ "poolClass": "NVMe", "replicaNumber": "1" }),
        ),
        (
            "pair",
            "lvm.hwameistor.io",
            json!({ "poolClass": "SSD", "replicaNumber": "2" }),
        ),
        ("disk", "disk.hwameistor.io", json!({ "diskType": "HDD" })),
        ("nfs", "nfs.example", json!({ "server": "x" })),
    ] {
        all.push(json!({ "kind": "StorageClass", "metadata": { "name": name,
            "annotations": { "storageclass.kubernetes.io/is-default-class": (name == "ssd").to_string() } },
            "provisioner": provisioner, "parameters": parameters }));
    }
    let mut node = |name: &str, zone: &str, classes: &[&str]| {
        let pools = classes.iter().map(|class| {
            (
                format!("LocalStorage_Pool{class}"),
                json!({ "class": class, "totalCapacityBytes": 1_i64 << 40 }),
            )
        });
        let pools: serde_json::Map<String, Value> = pools.collect();
        all.push(json!({ "kind": "LocalStorageNode", "metadata": { "name": name },
            "spec": { "hostname": name, "topogoly": { "zone": zone } }, "status": { "state": "Ready", "pools": pools } }));
    };
    node("n1", "east", &["SSD"]);
    node("n2", "east", &["SSD"]);
    node("n3", "default", &["SSD", "HDD"]);
    node("n4", "default", &["SSD", "HDD"]);
    for n in 0..50 {
        node(&format!("fast-{n}"), "default", &["NVMe"]);
    }
    // Claim, class, copies: (node, state, synced).
    let good = |node: &'static str| (node, "Ready", true);
    for (claim, class, copies) in [
        ("one", "ssd", vec![good("n3")]),
        ("east", "ssd", vec![good("n1")]),
        ("mirrored", "pair", vec![good("n1"), good("n3")]),
        ("syncing", "pair", vec![good("n3"), ("n4", "Ready", false)]),
        ("making", "ssd", vec![("n4", "Creating", false)]),
        (
            "moving",
            "pair",
            vec![good("n4"), ("n3", "ToBeDeleted", true)],
        ),
        ("lost", "ssd", vec![]),
    ] {
        let volume = format!("pvc-{claim}");
        all.push(json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": claim, "namespace": "shop" },
            "spec": { "storageClassName": class, "volumeName": volume } }));
        all.push(
            json!({ "kind": "PersistentVolume", "metadata": { "name": volume },
            "spec": { "csi": { "driver": "lvm.hwameistor.io", "volumeHandle": volume } } }),
        );
        for (node, state, synced) in copies {
            all.push(json!({ "kind": "LocalVolumeReplica", "metadata": { "name": format!("{volume}-{node}") },
                "spec": { "volumeName": volume, "nodeName": node }, "status": { "state": state, "synced": synced } }));
        }
    }
    for (name, spec) in [
        ("new", json!({ "storageClassName": "ssd" })),
        ("new-hdd", json!({ "storageClassName": "hdd" })),
        ("new-nvme", json!({ "storageClassName": "nvme" })),
        ("new-pair", json!({ "storageClassName": "pair" })),
        ("new-disk", json!({ "storageClassName": "disk" })),
        ("plain", json!({})),
        ("none", json!({ "storageClassName": "" })),
        (
            "again",
            json!({ "storageClassName": "", "volumeName": "by-hand" }),
        ),
        (
            "files",
            json!({ "storageClassName": "nfs", "volumeName": "nfs-1" }),
        ),
        ("new-files", json!({ "storageClassName": "nfs" })),
        (
            "raw",
            json!({ "storageClassName": "disk", "volumeName": "raw-1" }),
        ),
    ] {
        all.push(json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": name, "namespace": "shop" }, "spec": spec }));
    }
    for (name, driver, handle) in [
        ("by-hand", "lvm.hwameistor.io", "pvc-one"),
        ("nfs-1", "nfs.example", "x"),
        ("raw-1", "disk.hwameistor.io", "raw-1"),
    ] {
        all.push(
            json!({ "kind": "PersistentVolume", "metadata": { "name": name },
            "spec": { "csi": { "driver": driver, "volumeHandle": handle } } }),
        );
    }
    all.push(
        json!({ "kind": "StatefulSet", "metadata": { "name": "db", "namespace": "shop" },
        "spec": { "serviceName": "db", "selector": {}, "template": {}, "volumeClaimTemplates": [
            { "metadata": { "name": "data" }, "spec": { "storageClassName": "ssd" } },
            { "metadata": { "name": "log" }, "spec": { "storageClassName": "hdd" } }
        ] } }),
    );
    all.push(json!({ "kind": "Namespace", "metadata": { "name": "quiet", "labels": { "hwameistor.io/webhook": "ignore" } } }));
    all.push(json!({ "kind": "Namespace", "metadata": { "name": "shop", "labels": {} } }));
    all
}

fn required_in_shop() -> Value {
    json!({ "kind": "StoragePolicy", "metadata": { "name": "near" }, "spec": { "mode": "Enforce", "locality": "Required",
        "match": { "namespaces": { "names": ["shop"] } } } })
}

fn a_router(more: &[Value]) -> Router {
    let objects = [a_cluster(), more.to_vec()].concat();
    // Whatever is not in memory is not there.
    app::router_over(&objects, Some(FakeApi::new().client()), Reader::default())
        .unwrap_or_else(|e| panic!("{e}"))
}

/// A pod as the API server sends it: defaulted, with fields that the webhook never looks at.
fn a_pod(controller: Option<(&str, &str)>, claims: &[&str]) -> Value {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": "shop", "labels": { "app": "db" } },
        "spec": {
            "containers": [{ "name": "c", "image": "i" }],
            "schedulerName": "default-scheduler",
            "fieldOfTomorrow": { "kept": true },
            "volumes": volumes
        }
    });
    match controller {
        None => pod["metadata"]["name"] = json!("bare"),
        Some((kind, name)) => {
            pod["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true }]);
            if kind == "StatefulSet" {
                pod["metadata"]["name"] = json!(format!("{name}-0"));
            } else {
                pod["metadata"]["generateName"] = json!(format!("{name}-"));
            }
        }
    }
    pod
}

fn a_review(pod: &Value, dry_run: bool) -> Value {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": { "group": "", "version": "v1", "kind": "Pod" },
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"], "operation": "CREATE",
        "userInfo": { "username": "system:serviceaccount:kube-system:some-controller" },
        "object": pod, "oldObject": null, "dryRun": dry_run
    } })
}

/// The patch (null: none) and the warnings.
async fn ask(router: &Router, pod: &Value, dry_run: bool) -> (Value, Value) {
    let body = Body::from(a_review(pod, dry_run).to_string());
    let request = Request::post("/mutate")
        .body(body)
        .unwrap_or_else(|e| panic!("{e}"));
    let response = router
        .clone()
        .oneshot(request)
        .await
        .unwrap_or_else(|e| match e {});
    let body = response
        .into_body()
        .collect()
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let mut answer: Value =
        serde_json::from_slice(&body.to_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let mut answer = answer["response"].take();
    assert_eq!(answer["allowed"], true);
    let encoded: Option<k8s_openapi::ByteString> =
        serde_json::from_value(answer["patch"].take()).unwrap_or_else(|e| panic!("{e}"));
    let patch = encoded.map_or(Value::Null, |bytes| {
        serde_json::from_slice(&bytes.0).unwrap_or_else(|e| panic!("{e}"))
    });
    (patch, answer["warnings"].clone())
}

/// Whether everything that `before` says is still said by `after`; lists may have grown at their end.
fn kept(before: &Value, after: &Value, path: &str) -> Result<(), String> {
    match (before, after) {
        (Value::Null, _) => Ok(()),
        (Value::Object(before), Value::Object(after)) => {
            before.iter().try_for_each(|(key, value)| {
                let path = format!("{path}/{key}");
                kept(
                    value,
                    after.get(key).ok_or(format!("{path} is gone"))?,
                    &path,
                )
            })
        }
        (Value::Array(before), Value::Array(after)) => {
            before.iter().enumerate().try_for_each(|(n, value)| {
                let path = format!("{path}/{n}");
                kept(value, after.get(n).ok_or(format!("{path} is gone"))?, &path)
            })
        }
        (before, after) if before == after => Ok(()),
        (Value::String(name), _)
            if path == "/spec/schedulerName"
                && (name.is_empty() || name == "default-scheduler") =>
        {
            Ok(())
        }
        (before, after) => Err(format!("{path} was {before} and is {after}")),
    }
}

/// Asks, checks what holds for all cases, and compares with the case's file.
async fn case(name: &str, router: &Router, pod: Value) {
    let (patch, warnings) = ask(router, &pod, false).await;
    assert_eq!(
        ask(router, &pod, true).await,
        (patch.clone(), warnings.clone()),
        "{name}: dry-run"
    );
    let mut after = pod.clone();
    if !patch.is_null() {
        let patch: json_patch::Patch =
            serde_json::from_value(patch.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        json_patch::patch(&mut after, &patch).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(kept(&pod, &after, ""), Ok(()), "{name}");
    assert_eq!(
        ask(router, &after, false).await.0,
        Value::Null,
        "{name}: second pass"
    );
    let spec = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        let members = spec
            .as_object_mut()
            .unwrap_or_else(|| panic!("{name}: no spec"));
        members.retain(|key, _| !matches!(key.as_str(), "containers" | "fieldOfTomorrow"));
        spec
    };
    let record = json!({ "1 pod": { "metadata": pod["metadata"], "spec": spec(&pod) }, "2 patch": patch, "3 warnings": warnings, "4 spec after": spec(&after) });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_json_snapshot!(name, record));
}

fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    if let Some((parent, key)) = pointer.rsplit_once('/')
        && let Some(parent) = pod.pointer_mut(parent)
    {
        parent[key] = value;
    }
    pod
}

fn ephemeral(class: Option<&str>) -> Value {
    let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } });
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
    json!([{ "name": "room", "ephemeral": { "volumeClaimTemplate": { "spec": spec } } }])
}

#[tokio::test]
async fn bound_claims() {
    let router = a_router(&[]);
    for (name, claims) in [
        ("bound", &["one"][..]),
        ("bound-in-a-zone", &["east"]),
        ("bound-mirrored", &["mirrored"]),
        ("bound-one-copy-behind", &["syncing"]),
        ("bound-only-copy-behind", &["making"]),
        ("bound-copy-that-goes", &["moving"]),
        ("bound-no-copy-known", &["lost"]),
        ("bound-two-on-one-node", &["one", "again"]),
        ("bound-two-on-two-nodes", &["one", "east"]),
        ("bound-by-hand", &["again"]),
        ("bound-whole-disk", &["raw"]),
    ] {
        case(name, &router, a_pod(None, claims)).await;
    }
}

#[tokio::test]
async fn claims_without_a_volume() {
    let router = a_router(&[]);
    for (name, claims) in [
        ("new", &["new"][..]),
        ("new-default-class", &["plain"]),
        ("new-two-classes", &["new", "new-hdd"]),
        (
            "new-two-classes-on-no-common-node",
            &["new-hdd", "new-nvme"],
        ),
        ("new-many-nodes-have-such-pools", &["new-nvme"]),
        ("new-class-not-served", &["new-pair"]),
        ("new-whole-disk", &["new-disk"]),
        ("new-beside-bound", &["new-hdd", "east"]),
        ("claim-after-the-pod", &["tomorrow"]),
    ] {
        case(name, &router, a_pod(None, claims)).await;
    }
    let set = Some(("StatefulSet", "db"));
    case(
        "statefulset-claims-to-come",
        &router,
        a_pod(set, &["data-db-0", "log-db-0"]),
    )
    .await;
    for (name, class) in [
        ("ephemeral", Some("hdd")),
        ("ephemeral-default-class", None),
        ("ephemeral-of-others", Some("nfs")),
    ] {
        let pod = with(a_pod(None, &[]), "/spec/volumes", ephemeral(class));
        case(name, &router, pod).await;
    }
    // Where the default class is another's, a claim that comes later is not taken for ours.
    let other = json!({ "kind": "StorageClass", "metadata": { "name": "zfs", "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } }, "provisioner": "zfs.example" });
    case(
        "claim-after-the-pod-default-of-others",
        &a_router(&[other]),
        a_pod(None, &["tomorrow"]),
    )
    .await;
}

#[tokio::test]
async fn claims_of_others() {
    let router = a_router(&[]);
    for (name, claims) in [
        ("others-only", &["files", "new-files"][..]),
        ("others-no-class", &["none"]),
        ("others-beside-ours", &["files", "one"]),
    ] {
        case(name, &router, a_pod(None, claims)).await;
    }
    let volumes =
        json!([{ "name": "x", "emptyDir": {} }, { "name": "y", "configMap": { "name": "z" } }]);
    case(
        "no-claims",
        &router,
        with(a_pod(None, &[]), "/spec/volumes", volumes),
    )
    .await;
    case(
        "no-volumes",
        &router,
        with(a_pod(None, &[]), "/spec/volumes", json!(null)),
    )
    .await;
}

#[tokio::test]
async fn every_controller() {
    let router = a_router(&[]);
    for (kind, owner) in [
        ("ReplicaSet", "web-5d8f"),
        ("StatefulSet", "db"),
        ("DaemonSet", "agent"),
        ("Job", "import"),
        ("CronJob-Job", "backup-29384"),
        ("ReplicationController", "old"),
    ] {
        let owner_kind = kind.rsplit('-').next().unwrap_or(kind);
        let mut pod = a_pod(Some((owner_kind, owner)), &["mirrored"]);
        if kind == "DaemonSet" {
            // Its controller ties each pod to its node.
            pod["spec"]["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] }] } } });
        }
        case(&format!("controller-{}", kind.to_lowercase()), &router, pod).await;
    }
    case("controller-none", &router, a_pod(None, &["mirrored"])).await;
}

#[tokio::test]
async fn what_the_user_wrote() {
    let router = a_router(&[]);
    let affinity =
        |node: Value| json!({ "nodeAffinity": node, "podAntiAffinity": { "someday": [1, 2] } });
    let theirs = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] }
        ] },
        "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 7, "preference": { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] } }
        ]
    });
    let ours = |weight: i32, node: &str| {
        json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": weight, "preference": { "matchExpressions": [
            { "key": "topology.lvm.hwameistor.io/node", "operator": "In", "values": [node] }
        ] } }] })
    };
    for (name, scheduler, written) in [
        ("user-scheduler", "mine", json!(null)),
        (
            "user-scheduler-is-ours",
            "hwameistor-scheduler",
            json!(null),
        ),
        ("user-no-scheduler", "", json!(null)),
        (
            "user-affinity",
            "default-scheduler",
            affinity(theirs.clone()),
        ),
        ("user-affinity-and-scheduler", "mine", affinity(theirs)),
        (
            "user-affinity-for-pods-only",
            "default-scheduler",
            json!({ "podAffinity": {} }),
        ),
        (
            "user-affinity-empty",
            "default-scheduler",
            affinity(json!({})),
        ),
        (
            "user-affinity-null",
            "default-scheduler",
            affinity(json!(null)),
        ),
        (
            "user-prefers-where-its-data-is",
            "default-scheduler",
            affinity(ours(3, "n3")),
        ),
        (
            "user-prefers-another-node-by-our-label",
            "default-scheduler",
            affinity(ours(70, "n9")),
        ),
        (
            "user-prefers-another-node-with-all-weight",
            "default-scheduler",
            affinity(ours(100, "n9")),
        ),
    ] {
        let pod = with(
            a_pod(None, &["syncing"]),
            "/spec/schedulerName",
            json!(scheduler),
        );
        case(name, &router, with(pod, "/spec/affinity", written)).await;
    }
}

#[tokio::test]
async fn pods_to_be_left_alone() {
    let router = a_router(&[]);
    let pod = || a_pod(None, &["one"]);
    case(
        "left-pod-opts-out",
        &router,
        with(
            pod(),
            "/metadata/labels",
            json!({ "hwameistor.io/webhook": "ignore" }),
        ),
    )
    .await;
    case(
        "left-has-a-node",
        &router,
        with(pod(), "/spec/nodeName", json!("n1")),
    )
    .await;
    for namespace in ["quiet", "kube-system", "hwameistor"] {
        let pod = with(pod(), "/metadata/namespace", json!(namespace));
        case(&format!("left-namespace-{namespace}"), &router, pod).await;
    }
}

#[tokio::test]
async fn locality_required_by_a_policy() {
    let router = a_router(&[required_in_shop()]);
    case("required", &router, a_pod(None, &["one"])).await;
    case(
        "required-one-copy-behind",
        &router,
        a_pod(None, &["syncing"]),
    )
    .await;
    case(
        "required-two-nodes",
        &router,
        a_pod(None, &["one", "mirrored"]),
    )
    .await;
    case("required-new-claim", &router, a_pod(None, &["new"])).await;
    case("required-no-copy-known", &router, a_pod(None, &["lost"])).await;
    let required = |terms: Value| json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
    for (name, affinity) in [
        // Either term may hold, so each gets it; one without requirements matches no node and stays so.
        (
            "required-user-alternatives",
            required(json!([
                { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] },
                { "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["n9"] }] },
                {},
                { "matchExpressions": [{ "key": "topology.lvm.hwameistor.io/node", "operator": "In", "values": ["n3"] }] }
            ])),
        ),
        ("required-user-null", required(json!(null))),
        (
            "required-daemonset",
            required(
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n3"] }] }]),
            ),
        ),
        (
            "required-user-only-prefers",
            json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [] } }),
        ),
    ] {
        case(
            name,
            &router,
            with(
                a_pod(None, &["one", "mirrored"]),
                "/spec/affinity",
                affinity,
            ),
        )
        .await;
    }
}
