//! Defaults and policies on claims.

use hawser_api::names;
use hawser_runtime::index::Index;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use std::sync::Arc;

use super::*;
use crate::gather::{Gatherer, Lookups};
use crate::policy::tests::a_policy;

/// Two classes of ours and one of another, none of them the cluster's default.
fn a_cluster(policies: &[(&str, Value)]) -> Gatherer {
    let lookups = Lookups::default();
    for (name, provisioner) in [
        ("fast", names::LVM_DRIVER),
        ("slow", names::LVM_DRIVER),
        ("nfs", "nfs.example"),
    ] {
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": { "name": name }, "provisioner": provisioner,
            "parameters": { "poolClass": "SSD", "replicaNumber": "1" }
        }))
        .unwrap();
        lookups.classes.apply(Arc::new(class));
    }
    let space: Namespace = serde_json::from_value(json!({
        "metadata": { "name": "quiet", "labels": { "hwameistor.io/webhook": "ignore" } }
    }))
    .unwrap();
    lookups.spaces.apply(Arc::new(space));
    for (name, spec) in policies {
        lookups.policies.apply(a_policy(name, spec));
    }
    Gatherer::new(lookups, None, "hwameistor".to_owned())
}

fn a_claim(spec: &Value) -> PersistentVolumeClaim {
    serde_json::from_value(json!({ "metadata": { "name": "c" }, "spec": spec })).unwrap()
}

fn sized(class: &str, size: &str) -> PersistentVolumeClaim {
    a_claim(&json!({ "storageClassName": class, "resources": { "requests": { "storage": size } } }))
}

fn defaults() -> Vec<(&'static str, Value)> {
    vec![(
        "p",
        json!({ "mode": "Enforce", "defaults": { "className": "slow", "size": "7Gi" } }),
    )]
}

async fn given(
    policies: &[(&str, Value)],
    namespace: &str,
    claim: &PersistentVolumeClaim,
) -> Value {
    let gatherer = a_cluster(policies);
    let all = &gatherer.lookups.policies;
    let patch = mutate(&gatherer.round(), all, namespace, claim).await;
    let mut patched = serde_json::to_value(claim).unwrap();
    json_patch::patch(&mut patched, &patch).unwrap();
    // A second pass gives nothing.
    let again = serde_json::from_value(patched.clone()).unwrap();
    assert!(
        mutate(&gatherer.round(), all, namespace, &again)
            .await
            .is_empty()
    );
    patched["spec"].clone()
}

#[tokio::test]
async fn a_claim_that_says_nothing_gets_class_and_size() {
    let all = defaults();
    let full =
        json!({ "storageClassName": "slow", "resources": { "requests": { "storage": "7Gi" } } });
    assert_eq!(given(&all, "shop", &a_claim(&json!({}))).await, full);
    let limits = json!({ "resources": { "limits": { "storage": "9Gi" } } });
    assert_eq!(
        given(&all, "shop", &a_claim(&limits)).await["resources"],
        json!({ "limits": { "storage": "9Gi" }, "requests": { "storage": "7Gi" } })
    );
    let other = json!({ "resources": { "requests": { "someday": "1" } } });
    assert_eq!(
        given(&all, "shop", &a_claim(&other)).await["resources"]["requests"],
        json!({ "someday": "1", "storage": "7Gi" })
    );
}

#[tokio::test]
async fn what_a_claim_says_stays() {
    let all = defaults();
    for spec in [
        json!({ "storageClassName": "fast", "resources": { "requests": { "storage": "1Gi" } } }),
        // Asks for none.
        json!({ "storageClassName": "" }),
        // For a certain volume.
        json!({ "volumeName": "by-hand" }),
        // Not ours.
        json!({ "storageClassName": "nfs" }),
        json!({ "storageClassName": "unheard-of" }),
    ] {
        let claim = a_claim(&spec);
        let before = serde_json::to_value(&claim).unwrap()["spec"].clone();
        assert_eq!(given(&all, "shop", &claim).await, before, "{spec}");
    }
    for namespace in ["quiet", "kube-system", "hwameistor"] {
        let nothing = given(&all, namespace, &a_claim(&json!({}))).await;
        assert_eq!(nothing, json!({}), "{namespace}");
    }
    let mut old = a_claim(&json!({}));
    let note = (
        "volume.beta.kubernetes.io/storage-class".to_owned(),
        "fast".to_owned(),
    );
    old.metadata.annotations = Some([note].into());
    let spec = given(&all, "shop", &old).await;
    assert_eq!(
        spec,
        json!({ "resources": { "requests": { "storage": "7Gi" } } })
    );
}

#[tokio::test]
async fn a_default_that_is_no_class_of_ours_is_not_given() {
    for class in ["nfs", "unheard-of"] {
        let all = [(
            "p",
            json!({ "mode": "Enforce", "defaults": { "className": class, "size": "1Gi" } }),
        )];
        assert_eq!(
            given(&all, "shop", &a_claim(&json!({}))).await,
            json!({}),
            "{class}"
        );
    }
}

async fn judged(
    policies: &[(&str, Value)],
    namespace: &str,
    old: Option<&PersistentVolumeClaim>,
    new: &PersistentVolumeClaim,
) -> Judgement {
    let gatherer = a_cluster(policies);
    let (round, all) = (gatherer.round(), &gatherer.lookups.policies);
    if let Some(old) = old {
        return judge_change(&round, all, namespace, old, new).await;
    }
    let space = round.space(namespace).await;
    let labels = labels_of(&new.metadata);
    let around = Around {
        namespace,
        space: &space,
        labels: &labels,
    };
    let claim = (&new.metadata, new.spec.as_ref().unwrap());
    judge_new(&round, all, &around, claim, "").await
}

fn a_limit() -> Vec<(&'static str, Value)> {
    vec![(
        "p",
        json!({ "mode": "Enforce", "restrict": { "size": { "min": "2Gi", "max": "10Gi" }, "replicas": { "min": 2 } } }),
    )]
}

#[tokio::test]
async fn new_claims_of_ours_are_judged_by_class_and_size() {
    let found = judged(&a_limit(), "shop", None, &sized("fast", "20Gi")).await;
    let sentences: Vec<&str> = found
        .violations
        .iter()
        .map(|v| v.sentence.as_str())
        .collect();
    assert_eq!(sentences.len(), 2);
    assert!(sentences[0].starts_with("20 GiB is more than StoragePolicy \"p\" allows"));
    assert!(sentences[1].starts_with("storage class \"fast\" has 1 copy"));
    for (namespace, class) in [
        ("shop", "nfs"),
        ("shop", "unheard-of"),
        ("shop", ""),
        ("quiet", "fast"),
    ] {
        let found = judged(&a_limit(), namespace, None, &sized(class, "20Gi")).await;
        assert_eq!(found, Judgement::default(), "{namespace} {class}");
    }
}

#[tokio::test]
async fn of_claims_that_are_there_only_growth_is_judged_and_only_by_size() {
    let size = |size| sized("fast", size);
    for (old, new, wrong) in [
        ("5Gi", "10Gi", false),
        ("5Gi", "11Gi", true),
        // Was too large before the policy came, and may stay so, but not grow.
        ("20Gi", "20Gi", false),
        ("20Gi", "21Gi", true),
        // Below the least, and going there.
        ("1Gi", "1Gi", false),
        ("1Gi", "2Gi", false),
        // After growth that failed.
        ("30Gi", "20Gi", false),
    ] {
        let found = judged(&a_limit(), "shop", Some(&size(old)), &size(new)).await;
        assert_eq!(
            !found.violations.is_empty(),
            wrong,
            "{old} {new}: {found:?}"
        );
        assert!(found.violations.iter().all(|v| v.sentence.contains("GiB")));
    }
    let found = judged(
        &a_limit(),
        "shop",
        Some(&sized("nfs", "1Gi")),
        &sized("nfs", "99Gi"),
    )
    .await;
    assert_eq!(found, Judgement::default());
}

#[tokio::test]
async fn a_claim_is_judged_by_the_class_that_it_would_get() {
    let all = [
        (
            "d",
            json!({ "mode": "Enforce", "defaults": { "className": "slow" } }),
        ),
        (
            "r",
            json!({ "mode": "Enforce", "restrict": { "classes": ["fast"] } }),
        ),
    ];
    let found = judged(&all, "shop", None, &a_claim(&json!({}))).await;
    assert_eq!(found.violations.len(), 1);
    assert!(
        found.violations[0]
            .sentence
            .starts_with("storage class \"slow\" is not allowed")
    );
}
