//! Gathering, over a cluster that is told in objects and an API server in memory.

use std::sync::Arc;

use hawser_api::names;
use hawser_runtime::index::Index;
use hawser_runtime::testing::{FakeApi, Fault};
use serde_json::{Value, json};

use super::*;

fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A cluster with two classes of ours, one of them the default, bound and unbound claims, and a StatefulSet.
pub(crate) fn a_cluster() -> Lookups {
    let lookups = Lookups::default();
    for (name, provisioner, parameters, default) in [
        (
            "local-ssd",
            names::LVM_DRIVER,
            json!({ "poolClass": "SSD", "replicaNumber": "1" }),
            "true",
        ),
        (
            "local-pair",
            names::LVM_DRIVER,
            json!({ "poolClass": "SSD", "replicaNumber": "2" }),
            "false",
        ),
        ("nfs", "nfs.example", json!({ "server": "x" }), "false"),
    ] {
        lookups.classes.apply(object::<StorageClass>(json!({
            "metadata": { "name": name, "annotations": { "storageclass.kubernetes.io/is-default-class": default } },
            "provisioner": provisioner, "parameters": parameters
        })));
    }
    for (name, spec) in [
        (
            "bound",
            json!({ "storageClassName": "local-ssd", "volumeName": "pvc-1" }),
        ),
        (
            "static",
            json!({ "storageClassName": "", "volumeName": "by-hand" }),
        ),
        ("fresh", json!({ "storageClassName": "local-ssd" })),
        ("plain", json!({})),
        ("none", json!({ "storageClassName": "" })),
        (
            "files",
            json!({ "storageClassName": "nfs", "volumeName": "nfs-1" }),
        ),
    ] {
        lookups.claims.apply(object::<PersistentVolumeClaim>(
            json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec }),
        ));
    }
    for (name, driver, handle) in [
        ("pvc-1", names::LVM_DRIVER, "pvc-1"),
        ("by-hand", names::LVM_DRIVER, "pvc-2"),
        ("nfs-1", "nfs.example", "x"),
    ] {
        lookups.volumes.apply(object::<PersistentVolume>(json!({
            "metadata": { "name": name }, "spec": { "csi": { "driver": driver, "volumeHandle": handle } }
        })));
    }
    for (volume, node, synced) in [
        ("pvc-1", "n1", true),
        ("pvc-1", "n2", false),
        ("pvc-2", "n3", true),
    ] {
        lookups.copies.apply(object::<LocalVolumeReplica>(json!({
            "metadata": { "name": format!("{volume}-{node}") },
            "spec": { "volumeName": volume, "nodeName": node },
            "status": { "state": "Ready", "synced": synced }
        })));
    }
    lookups.templates.apply(object::<StatefulSet>(json!({
        "metadata": { "name": "db", "namespace": "shop" },
        "spec": { "selector": {}, "template": {}, "volumeClaimTemplates": [
            { "metadata": { "name": "data", "labels": { "tier": "db" } }, "spec": { "storageClassName": "local-ssd" } },
            { "metadata": { "name": "log-files" }, "spec": {} }
        ] }
    })));
    lookups.spaces.apply(object::<Namespace>(json!({
        "metadata": { "name": "quiet", "labels": { "hwameistor.io/webhook": "ignore" } }
    })));
    lookups
}

fn a_gatherer(client: Option<Client>) -> Gatherer {
    Gatherer::new(a_cluster(), client, names::DEFAULT_NAMESPACE.to_owned())
}

fn a_pod(claims: &[&str]) -> PodView {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "name": "db-0", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true }
        ] },
        "spec": { "containers": [], "volumes": volumes }
    }))
    .unwrap()
}

async fn claim(name: &str) -> KnownClaim {
    let gatherer = a_gatherer(None);
    let mut known = gatherer.round().pod("shop", &a_pod(&[name])).await;
    known.claims.remove(name).unwrap()
}

fn nodes(source: &Source) -> Vec<(String, bool)> {
    match source {
        Source::Bound { copies, .. } => copies
            .iter()
            .map(|copy| (copy.node.to_string(), copy.up_to_date))
            .collect(),
        Source::New | Source::Missing | Source::Unknown => Vec::new(),
    }
}

#[tokio::test]
async fn bound_claims_have_the_copies_of_their_volume() {
    let bound = claim("bound").await;
    let wanted = [("n1".to_owned(), true), ("n2".to_owned(), false)];
    assert_eq!(nodes(&bound.source), wanted);
    assert_eq!(bound.class.as_deref(), Some("local-ssd"));
    // A volume made by hand has another name than what it holds.
    assert_eq!(
        nodes(&claim("static").await.source),
        [("n3".to_owned(), true)]
    );
    let files = Source::Bound {
        driver: Driver::Foreign,
        copies: Vec::new(),
    };
    assert_eq!(claim("files").await.source, files);
}

#[tokio::test]
async fn claims_that_do_not_exist_yet_are_what_their_template_says() {
    let data = claim("data-db-0").await;
    assert_eq!(
        (data.source, data.class.as_deref()),
        (Source::New, Some("local-ssd"))
    );
    assert_eq!(data.labels.unwrap()["tier"], "db");
    let log = claim("log-files-db-0").await;
    assert_eq!(
        (log.source, log.class.as_deref()),
        (Source::New, Some("local-ssd"))
    );
    assert_eq!(claim("other-db-0").await.source, Source::Missing);
    assert_eq!(claim("data-db-1").await.source, Source::Missing);
}

#[tokio::test]
async fn only_the_classes_asked_for_are_gathered() {
    let gatherer = a_gatherer(None);
    let known = gatherer
        .round()
        .pod("shop", &a_pod(&["plain", "none", "files"]))
        .await;
    assert_eq!(known.classes.keys().collect::<Vec<_>>(), ["local-ssd"]);
    assert_eq!(known.claims["none"].class, None);
}

#[tokio::test]
async fn what_no_watch_has_told_of_is_asked_for() {
    let api = FakeApi::new();
    api.put(
        "/apis/storage.k8s.io/v1/storageclasses/fresh",
        json!({ "metadata": { "name": "fresh" }, "provisioner": names::LVM_DRIVER,
                "parameters": { "poolClass": "SSD", "replicaNumber": "1" } }),
    );
    api.put(
        "/api/v1/namespaces/shop/persistentvolumeclaims/new",
        json!({ "metadata": { "namespace": "shop", "name": "new" }, "spec": { "storageClassName": "fresh" } }),
    );
    api.put(
        "/api/v1/namespaces/shop",
        json!({ "metadata": { "name": "shop", "labels": { "team": "a" } } }),
    );
    let gatherer = a_gatherer(Some(api.client()));
    let known = gatherer.round().pod("shop", &a_pod(&["new"])).await;
    assert_eq!(known.claims["new"].class.as_deref(), Some("fresh"));
    assert_eq!(known.classes["fresh"].parameters["poolClass"], "SSD");
    assert_eq!(known.namespace_labels.unwrap()["team"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_leaves_time_to_answer() {
    let api = FakeApi::new();
    api.inject(std::iter::repeat_n(Fault::Hang, 100));
    let gatherer = a_gatherer(Some(api.client()));
    let names: Vec<String> = (0..50).map(|n| format!("claim-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let began = Instant::now();
    let known = gatherer.round().pod("shop", &a_pod(&names)).await;
    assert!(began.elapsed() <= ASK_ALL_TIMEOUT + Duration::from_millis(5));
    assert_eq!(known.claims["claim-49"].source, Source::Missing);
}

#[tokio::test]
async fn names_that_no_object_can_have_lead_nowhere() {
    let api = FakeApi::new();
    let gatherer = a_gatherer(Some(api.client()));
    for name in ["../secrets/x", "a/b", "", "A", "a?x=y", "-a", "a."] {
        let found = gatherer.round().node(name).await;
        assert_eq!(found, Found::Missing, "{name}");
    }
    assert_eq!(api.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn some_namespaces_are_left_alone_and_some_accounts_are_ours() {
    let gatherer = Gatherer::new(a_cluster(), None, "storage".to_owned());
    let round = gatherer.round();
    for (namespace, ignored) in [
        ("quiet", true),
        ("kube-system", true),
        ("storage", true),
        ("shop", false),
    ] {
        assert_eq!(round.space(namespace).await.ignored, ignored, "{namespace}");
    }
    assert!(round.is_own("system:serviceaccount:storage:provisioner"));
    assert!(!round.is_own("system:serviceaccount:storage-2:provisioner"));
    assert!(!round.is_own("storage:x"));
}

#[test]
fn of_several_default_classes_the_newest_counts() {
    let lookups = Lookups::default();
    for (name, time) in [
        ("a", "2026-01-02T00:00:00Z"),
        ("b", "2026-01-03T00:00:00Z"),
        ("c", "2026-01-01T00:00:00Z"),
    ] {
        lookups.classes.apply(object::<StorageClass>(json!({
            "metadata": { "name": name, "creationTimestamp": time,
                          "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
            "provisioner": "p"
        })));
    }
    assert_eq!(lookups.default_class().as_deref(), Some("b"));
}
