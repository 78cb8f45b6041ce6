//! Claims that are only supposed, and what a pod's request can't be told for, as JSON.

#![allow(
    clippy::needless_pass_by_value,
    reason = "fixtures read best with json!() written where it is used"
)]

use hawser_api::parameters::VolumeClass;
use hawser_api::quantity;
use hawser_inventory::{Fold, Inventory, Supposed, Unknown};
use hawser_placement::{Request, VolumeKind};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the fixture is an object of its kind")
}

fn class(name: &str, provisioner: &str, default: Value, made: &str) -> StorageClass {
    object(json!({
        "metadata": { "name": name, "creationTimestamp": made, "annotations": default },
        "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer",
        "parameters": { "poolClass": "SSD", "replicaNumber": "1" }
    }))
}

fn claim(name: &str, class: Value, size: &str, source: Value) -> PersistentVolumeClaim {
    object(json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}") },
        "spec": { "storageClassName": class, "resources": { "requests": { "storage": size } }, "dataSource": source }
    }))
}

fn pod(claims: &[&str]) -> Pod {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
        .collect();
    object(
        json!({ "metadata": { "name": "db-0", "namespace": "shop" }, "spec": { "containers": [], "volumes": volumes } }),
    )
}

fn shop() -> Inventory {
    let mut inventory = Inventory::new();
    inventory.apply(&class(
        "fast",
        "lvm.hwameistor.io",
        json!({}),
        "2026-01-01T00:00:00Z",
    ));
    inventory
}

fn sizes(request: Option<Request>) -> Vec<(String, u64)> {
    let request = request.expect("it asks for something");
    let size = |kind: &VolumeKind| match kind {
        VolumeKind::New(new) => new.size.0 >> 20,
        VolumeKind::Bound(_) => 0,
    };
    request
        .volumes
        .iter()
        .map(|volume| (volume.name.to_string(), size(&volume.kind)))
        .collect()
}

#[test]
fn what_exists_counts_and_what_is_supposed_fills_the_gaps() {
    let mut inventory = shop();
    inventory.apply(&claim("data", json!("fast"), "10Mi", json!(null)));
    let mut supposed = Supposed::default();
    supposed.add(
        &inventory,
        claim("data", json!("fast"), "99Mi", json!(null)),
    );
    supposed.add(&inventory, claim("log", json!("fast"), "20Mi", json!(null)));
    supposed.add(&inventory, claim("log", json!("fast"), "77Mi", json!(null)));
    let both = pod(&["data", "log"]);
    assert_eq!(
        sizes(inventory.pod_request_supposing(&both, &supposed).unwrap()),
        [
            ("pvc-simulated:shop/log".to_owned(), 20),
            ("pvc-uid-data".to_owned(), 10)
        ]
    );
    assert_eq!(
        inventory.pod_request(&both).unwrap_err().to_string(),
        "claim shop/log does not exist (yet)",
        "supposing changes nothing"
    );
}

#[test]
fn a_supposed_claim_without_a_class_gets_the_default_one() {
    const STABLE: &str = "storageclass.kubernetes.io/is-default-class";
    const BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
    let mut inventory = Inventory::new();
    let ours = |inventory: &Inventory| {
        let mut supposed = Supposed::default();
        supposed.add(inventory, claim("data", json!(null), "10Mi", json!(null)));
        supposed.add(inventory, claim("none", json!(""), "10Mi", json!(null)));
        let asked = inventory.pod_request_supposing(&pod(&["data", "none"]), &supposed);
        asked.unwrap().map_or(0, |request| request.volumes.len())
    };
    assert_eq!(ours(&inventory), 0, "no class, so nobody makes it");
    let apply = |inventory: &mut Inventory, name, provisioner, mark: Value, made| {
        inventory.apply(&class(name, provisioner, mark, made));
        inventory.default_class().map(ToString::to_string)
    };
    let lvm = "lvm.hwameistor.io";
    let old = "2026-01-01T00:00:00Z";
    let new = "2026-02-01T00:00:00Z";
    assert_eq!(
        apply(
            &mut inventory,
            "plain",
            lvm,
            json!({ STABLE: "false" }),
            new
        ),
        None
    );
    assert_eq!(
        apply(&mut inventory, "b", lvm, json!({ BETA: "true" }), old).as_deref(),
        Some("b")
    );
    assert_eq!(
        apply(
            &mut inventory,
            "c",
            "example.com/nfs",
            json!({ STABLE: "true" }),
            old
        )
        .as_deref(),
        Some("b"),
        "ties by name"
    );
    assert_eq!(ours(&inventory), 1, "but not the one that wants none");
    assert_eq!(
        apply(
            &mut inventory,
            "z",
            "example.com/nfs",
            json!({ STABLE: "true" }),
            new
        )
        .as_deref(),
        Some("z"),
        "the newest"
    );
    assert_eq!(ours(&inventory), 0);
}

fn unknowns() -> Vec<(Unknown, Value)> {
    let claim = || "shop/data".into();
    let wrong = VolumeClass::parse_supported([("poolClass", "ssd"), ("replicaNumber", "1")])
        .expect_err("ssd is not SSD");
    let size = quantity::parse("-1").expect_err("it is negative");
    let (class, volume) = ("fast".into(), "pvc-1".into());
    let told = |mut rest: Value| {
        rest["claim"] = "shop/data".into();
        rest
    };
    vec![
        (
            Unknown::ClaimMissing { claim: claim() },
            told(json!({ "reason": "ClaimMissing" })),
        ),
        (
            Unknown::ClaimLeaving { claim: claim() },
            told(json!({ "reason": "ClaimLeaving" })),
        ),
        (
            Unknown::NotOwned { claim: claim() },
            told(json!({ "reason": "ClaimNotOwned" })),
        ),
        (
            Unknown::ClassMissing {
                claim: claim(),
                class,
            },
            told(json!({ "reason": "ClassMissing", "class": "fast" })),
        ),
        (
            Unknown::ClassWrong {
                claim: claim(),
                class: "fast".into(),
                source: wrong.clone(),
            },
            told(json!({ "reason": "ClassWrong", "class": "fast", "problem": wrong.to_string() })),
        ),
        (
            Unknown::SizeWrong {
                claim: claim(),
                source: size,
            },
            told(json!({ "reason": "ClaimSizeWrong", "problem": "\"-1\" is negative" })),
        ),
        (
            Unknown::NotBoundYet { claim: claim() },
            told(json!({ "reason": "ClaimNotBoundYet" })),
        ),
        (
            Unknown::PersistentMissing {
                claim: claim(),
                name: "pv-1".into(),
            },
            told(json!({ "reason": "PersistentVolumeMissing", "name": "pv-1" })),
        ),
        (
            Unknown::VolumeMissing {
                claim: claim(),
                volume,
            },
            told(json!({ "reason": "VolumeMissing", "volume": "pvc-1" })),
        ),
        (
            Unknown::VolumeLeaving {
                claim: claim(),
                volume: "pvc-1".into(),
            },
            told(json!({ "reason": "VolumeLeaving", "volume": "pvc-1" })),
        ),
        (
            Unknown::SourceKind {
                claim: claim(),
                kind: "VolumeSnapshot".to_owned(),
            },
            told(json!({ "reason": "ClaimSourceKind", "kind": "VolumeSnapshot" })),
        ),
        (
            Unknown::SourceUnknown {
                claim: claim(),
                why: "claim x has no volume yet".to_owned(),
            },
            told(json!({ "reason": "ClaimSourceUnknown", "why": "claim x has no volume yet" })),
        ),
    ]
}

/// Does not compile once there is a variant that is not in the list above.
fn place(unknown: &Unknown) -> usize {
    match unknown {
        Unknown::ClaimMissing { .. } => 0,
        Unknown::ClaimLeaving { .. } => 1,
        Unknown::NotOwned { .. } => 2,
        Unknown::ClassMissing { .. } => 3,
        Unknown::ClassWrong { .. } => 4,
        Unknown::SizeWrong { .. } => 5,
        Unknown::NotBoundYet { .. } => 6,
        Unknown::PersistentMissing { .. } => 7,
        Unknown::VolumeMissing { .. } => 8,
        Unknown::VolumeLeaving { .. } => 9,
        Unknown::SourceKind { .. } => 10,
        Unknown::SourceUnknown { .. } => 11,
    }
}

#[test]
fn what_can_not_be_told_is_json_of_the_same_form_as_a_reason() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/why.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut seen = [false; 12];
    for (unknown, golden) in unknowns() {
        seen[place(&unknown)] = true;
        assert_eq!(serde_json::to_value(&unknown).unwrap(), golden);
        let code = golden["reason"].as_str().unwrap();
        assert!(
            docs.contains(&format!("`{code}`")),
            "{code} is not in docs/why.md"
        );
    }
    assert_eq!(seen, [true; 12]);
}
