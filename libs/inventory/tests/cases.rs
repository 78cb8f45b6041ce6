//! Room and demand, case by case.

#![allow(
    clippy::needless_pass_by_value,
    reason = "fixtures read best with json!() written where it is used"
)]

use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_inventory::{Fold, Inventory, Key, Unknown};
use hawser_placement::{Bytes, ReplicaState, Request, StorageState, VolumeKind};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const POOL: &str = "LocalStorage_PoolSSD";
const MIB: u64 = 1 << 20;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the fixture is an object of its kind")
}

/// Node n1 with an SSD pool of 100 MiB, of which 40 are used by v0 (20) and something foreign (20).
fn n1() -> Inventory {
    let mut inventory = Inventory::new();
    inventory.apply(&object::<Node>(
        json!({ "metadata": { "name": "n1", "labels": { "topology.kubernetes.io/zone": "a" } } }),
    ));
    inventory.apply(&storage(40, 2, &["v0"]));
    inventory
}

fn storage(used_mib: u64, count: u64, volumes: &[&str]) -> LocalStorageNode {
    object(json!({
        "metadata": { "name": "n1" }, "spec": { "hostname": "n1" },
        "status": { "state": "Ready", "pools": { POOL: {
            "class": "SSD", "type": "REGULAR", "totalCapacityBytes": 100 * MIB, "usedCapacityBytes": used_mib * MIB,
            "freeCapacityBytes": (100 - used_mib) * MIB, "totalVolumeCount": 1000, "usedVolumeCount": count,
            "freeVolumeCount": 1000 - count, "volumeCapacityBytesLimit": 100 * MIB, "volumes": volumes
        } } }
    }))
}

fn replica(volume: &str, required_mib: u64, status: Value) -> LocalVolumeReplica {
    object(json!({
        "metadata": { "name": format!("{volume}-abc123") },
        "spec": { "volumeName": volume, "nodeName": "n1", "poolName": POOL, "requiredCapacityBytes": required_mib * MIB },
        "status": status
    }))
}

fn volume(name: &str, status: Value) -> LocalVolume {
    object(json!({
        "metadata": { "name": name }, "spec": { "replicaNumber": 1, "accessibility": { "nodes": ["n1"] } }, "status": status
    }))
}

fn group(name: &str, pod: &str, members: &[(&str, u64)]) -> LocalVolumeGroup {
    let members: Vec<Value> = members
        .iter()
        .map(|(volume, mib)| json!({ "localvolume": volume, "pvc": "c", "poolName": POOL, "requiredCapacityBytes": mib * MIB }))
        .collect();
    object(json!({
        "metadata": { "name": name },
        "spec": { "namespace": "shop", "pods": [pod], "accessibility": { "nodes": ["n1"] }, "volumes": members }
    }))
}

/// (used, reserved, volumes) in MiB.
fn books(inventory: &Inventory) -> (u64, u64, u64) {
    let node = inventory.cluster().get("n1").expect("n1 is there");
    let pool = node.pool(POOL).expect("the pool is there");
    (
        pool.used.0 / MIB,
        node.room(pool, |_| false).reserved.0 / MIB,
        pool.volumes,
    )
}

#[test]
fn a_volume_is_counted_once_at_every_step_of_its_life() {
    let mut inventory = n1();
    assert_eq!(
        books(&inventory),
        (40, 0, 2),
        "as the node reports, foreign volumes included"
    );
    inventory.apply(&group("g", "db-0", &[("v1", 10), ("v2", 14)]));
    assert_eq!(
        books(&inventory),
        (40, 28, 2),
        "both reserved, in whole extents (10 and 14 become 12 and 16)"
    );
    inventory.apply(&volume("v1", json!(null)));
    assert_eq!(
        books(&inventory),
        (40, 28, 2),
        "a volume without replica is still only a reservation"
    );
    inventory.apply(&replica("v1", 10, json!(null)));
    assert_eq!(books(&inventory), (52, 16, 3), "the replica takes over");
    inventory.apply(&storage(52, 3, &["v0", "v1"]));
    assert_eq!(
        books(&inventory),
        (52, 16, 3),
        "made and reported, its own status not yet"
    );
    inventory.apply(&replica(
        "v1",
        10,
        json!({ "state": "Ready", "allocatedCapacityBytes": 12 * MIB, "synced": true }),
    ));
    assert_eq!(books(&inventory), (52, 16, 3), "steady");
    inventory.apply(&replica(
        "v1",
        20,
        json!({ "state": "Ready", "allocatedCapacityBytes": 12 * MIB, "synced": true }),
    ));
    assert_eq!(
        books(&inventory),
        (60, 16, 3),
        "growth counts from when it is asked for"
    );
    inventory.apply(&storage(60, 3, &["v0", "v1"]));
    inventory.apply(&replica(
        "v1",
        20,
        json!({ "state": "Ready", "allocatedCapacityBytes": 20 * MIB, "synced": true }),
    ));
    assert_eq!(books(&inventory), (60, 16, 3));
    inventory.apply(&volume("v1", json!({ "state": "ToBeDeleted" })));
    inventory.apply(&replica(
        "v1",
        20,
        json!({ "state": "ToBeDeleted", "allocatedCapacityBytes": 20 * MIB }),
    ));
    assert_eq!(
        books(&inventory),
        (60, 16, 3),
        "still there while it is wiped"
    );
    inventory.apply(&storage(40, 2, &["v0"]));
    assert_eq!(
        books(&inventory),
        (60, 16, 3),
        "not in the report any more, the replica not yet Deleted: rather too much than too little"
    );
    inventory.apply(&replica("v1", 20, json!({ "state": "Deleted" })));
    assert_eq!(books(&inventory), (40, 16, 2));
    Fold::<LocalVolumeGroup>::remove(
        &mut inventory,
        &Key {
            namespace: None,
            name: "g".into(),
        },
    );
    assert_eq!(books(&inventory), (40, 0, 2));
}

#[test]
fn a_claim_shared_by_two_pods_is_reserved_once_and_a_leaving_volume_not_at_all() {
    let mut inventory = n1();
    inventory.apply(&group("g1", "web-1", &[("v1", 12)]));
    inventory.apply(&group("g2", "web-2", &[("v1", 16)]));
    assert_eq!(books(&inventory).1, 16);
    inventory.apply(&volume("v1", json!({ "state": "ToBeDeleted" })));
    assert_eq!(books(&inventory).1, 0);
    let old: LocalVolumeGroup = object(json!({
        "metadata": { "name": "old" },
        "spec": { "accessibility": { "nodes": ["n1"] }, "volumes": [{ "localvolume": "v9", "pvc": "c" }] }
    }));
    inventory.apply(&old);
    assert_eq!(
        books(&inventory).1,
        0,
        "groups of the former generation reserve nothing"
    );
}

#[test]
fn a_node_is_what_both_sides_say_of_it() {
    let mut inventory = n1();
    let node = |inventory: &Inventory| {
        inventory
            .cluster()
            .get("n1")
            .map(|node| (node.storage, node.zone.is_some()))
    };
    assert_eq!(node(&inventory), Some((StorageState::Ready, true)));
    Fold::<Node>::remove(
        &mut inventory,
        &Key {
            namespace: None,
            name: "n1".into(),
        },
    );
    assert_eq!(node(&inventory), Some((StorageState::NodeMissing, false)));
    Fold::<LocalStorageNode>::remove(
        &mut inventory,
        &Key {
            namespace: None,
            name: "n1".into(),
        },
    );
    assert_eq!(node(&inventory), None);
}

fn class(name: &str, provisioner: &str, mode: &str) -> StorageClass {
    object(json!({
        "metadata": { "name": name }, "provisioner": provisioner, "volumeBindingMode": mode,
        "parameters": { "poolClass": "SSD", "replicaNumber": "1" }
    }))
}

fn claim(name: &str, class: Value, extra: &[(&str, Value)]) -> PersistentVolumeClaim {
    let mut spec =
        json!({ "storageClassName": class, "resources": { "requests": { "storage": "10Mi" } } });
    for (key, value) in extra {
        spec[key] = value.clone();
    }
    object(
        json!({ "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}") }, "spec": spec }),
    )
}

fn persistent(name: &str, driver: &str, handle: &str) -> PersistentVolume {
    object(
        json!({ "metadata": { "name": name }, "spec": { "csi": { "driver": driver, "volumeHandle": handle } } }),
    )
}

fn pod(volumes: &[Value]) -> Pod {
    object(json!({
        "metadata": { "name": "db-0", "namespace": "shop", "uid": "pod-uid" },
        "spec": { "containers": [], "volumes": volumes }
    }))
}

fn uses(claim: &str) -> Value {
    json!({ "name": "v", "persistentVolumeClaim": { "claimName": claim } })
}

/// n1 with our classes `fast` (waits) and `eager` (does not), and somebody else's `other`.
fn shop() -> Inventory {
    let mut inventory = n1();
    inventory.apply(&class("fast", "lvm.hwameistor.io", "WaitForFirstConsumer"));
    inventory.apply(&class("eager", "lvm.hwameistor.io", "Immediate"));
    inventory.apply(&class("other", "example.com/nfs", "WaitForFirstConsumer"));
    inventory
}

fn sentence(inventory: &Inventory, pod: &Pod) -> String {
    match inventory.pod_request(pod) {
        Ok(request) => format!("{request:?}"),
        Err(unknown) => unknown.to_string(),
    }
}

/// Names of the volumes asked for; `+` before new ones.
fn asked(request: Option<Request>) -> Vec<String> {
    let volumes = request.map(|request| request.volumes).unwrap_or_default();
    let mark = |kind: &VolumeKind| {
        if matches!(kind, VolumeKind::New(_)) {
            "+"
        } else {
            ""
        }
    };
    volumes
        .iter()
        .map(|volume| format!("{}{}", mark(&volume.kind), volume.name))
        .collect()
}

#[test]
fn only_claims_of_ours_are_asked_for() {
    let mut inventory = shop();
    for claim in [
        claim("data", json!("fast"), &[]),
        claim("nfs", json!("other"), &[]),
        claim("static", json!(""), &[]),
        claim("classless", json!(null), &[]),
        claim(
            "foreign",
            json!("other"),
            &[("volumeName", json!("pv-foreign"))],
        ),
    ] {
        inventory.apply(&claim);
    }
    inventory.apply(&persistent("pv-foreign", "example.com/nfs", "share"));
    let all = pod(&["data", "nfs", "static", "classless", "foreign", "data"].map(uses));
    assert_eq!(
        asked(inventory.pod_request(&all).unwrap()),
        ["+pvc-uid-data"]
    );
    let none = pod(&[uses("nfs"), json!({ "name": "tmp", "emptyDir": {} })]);
    assert_eq!(inventory.pod_request(&none), Ok(None));
    let request = inventory.pod_request(&all).unwrap().unwrap();
    let VolumeKind::New(new) = &request.volumes[0].kind else {
        panic!("{request:?}")
    };
    assert_eq!(
        (new.size, new.copies, &*request.volumes[0].claim),
        (Bytes::mib(10), 1, "shop/data")
    );
}

#[test]
fn a_claim_that_is_to_be_made_from_itself_is_refused() {
    let mut inventory = shop();
    for (name, source) in [("self", "self"), ("egg", "hen"), ("hen", "egg")] {
        let source = json!({ "kind": "PersistentVolumeClaim", "name": source });
        inventory.apply(&claim(name, json!("fast"), &[("dataSource", source)]));
    }
    for (name, source) in [("self", "self"), ("egg", "hen"), ("hen", "egg")] {
        assert_eq!(
            sentence(&inventory, &pod(&[uses(name)])),
            format!("claim shop/{name}: its source claim {source} has no volume yet")
        );
    }
}

#[test]
fn a_claim_is_new_until_its_volume_exists_and_bound_from_then_on() {
    let mut inventory = shop();
    inventory.apply(&claim("data", json!("fast"), &[]));
    let pod = pod(&[uses("data")]);
    assert_eq!(
        asked(inventory.pod_request(&pod).unwrap()),
        ["+pvc-uid-data"]
    );
    inventory.apply(&volume("pvc-uid-data", json!(null)));
    let state = |inventory: &Inventory| {
        let request = inventory.pod_request(&pod).unwrap().unwrap();
        let VolumeKind::Bound(bound) = &request.volumes[0].kind else {
            panic!("{request:?}")
        };
        (
            bound
                .copies
                .iter()
                .map(|copy| (copy.node.to_string(), copy.state))
                .collect::<Vec<_>>(),
            bound.published.clone(),
        )
    };
    let on_n1 = |state| vec![("n1".to_owned(), state)];
    assert_eq!(
        state(&inventory),
        (on_n1(ReplicaState::Syncing), None),
        "planned"
    );
    inventory.apply(&replica("pvc-uid-data", 10, json!({ "state": "Creating" })));
    assert_eq!(state(&inventory).0, on_n1(ReplicaState::Syncing));
    inventory.apply(&replica(
        "pvc-uid-data",
        10,
        json!({ "state": "Ready", "synced": true }),
    ));
    inventory.apply(&volume(
        "pvc-uid-data",
        json!({ "state": "Ready", "publishedNode": "n1" }),
    ));
    assert_eq!(
        state(&inventory),
        (on_n1(ReplicaState::UpToDate), Some("n1".into()))
    );
    inventory.apply(&replica("pvc-uid-data", 10, json!({ "state": "NotReady" })));
    assert_eq!(state(&inventory).0, on_n1(ReplicaState::Broken));
    inventory.apply(&replica(
        "pvc-uid-data",
        10,
        json!({ "state": "NotReady", "haState": { "state": "Inconsistent" } }),
    ));
    assert_eq!(state(&inventory).0, on_n1(ReplicaState::Syncing));

    inventory.apply(&claim(
        "data",
        json!("fast"),
        &[("volumeName", json!("pv"))],
    ));
    assert_eq!(
        sentence(&inventory, &pod),
        "claim shop/data: its PersistentVolume pv does not exist (yet)"
    );
    inventory.apply(&persistent("pv", "lvm.hwameistor.io", "pvc-uid-data"));
    assert_eq!(state(&inventory).0, on_n1(ReplicaState::Syncing));
    inventory.apply(&volume("pvc-uid-data", json!({ "state": "ToBeDeleted" })));
    assert_eq!(
        sentence(&inventory, &pod),
        "claim shop/data: its volume pvc-uid-data is being deleted"
    );
    Fold::<LocalVolume>::remove(
        &mut inventory,
        &Key {
            namespace: None,
            name: "pvc-uid-data".into(),
        },
    );
    assert_eq!(
        sentence(&inventory, &pod),
        "claim shop/data: its LocalVolume pvc-uid-data does not exist (yet)"
    );
}

#[test]
fn ephemeral_claims_belong_to_their_pod() {
    let mut inventory = shop();
    let pod = pod(&[
        json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }),
    ]);
    assert_eq!(
        sentence(&inventory, &pod),
        "claim shop/db-0-scratch does not exist (yet)"
    );
    let mut made = claim("db-0-scratch", json!("fast"), &[]);
    inventory.apply(&made);
    let refused = inventory.pod_request(&pod).unwrap_err();
    assert!(
        matches!(refused, Unknown::NotOwned { .. }) && !refused.may_pass(),
        "{refused}"
    );
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "pod-uid", "controller": true }]);
    made.metadata.owner_references = Some(object(owner));
    inventory.apply(&made);
    assert_eq!(
        asked(inventory.pod_request(&pod).unwrap()),
        ["+pvc-uid-db-0-scratch"]
    );
}

#[test]
fn what_is_wrong_is_told_from_what_is_not_there_yet() {
    let mut inventory = shop();
    inventory.apply(&claim("data", json!("gone"), &[]));
    let unknown = |inventory: &Inventory| inventory.pod_request(&pod(&[uses("data")])).unwrap_err();
    assert_eq!(
        unknown(&inventory).to_string(),
        "claim shop/data: its StorageClass gone does not exist"
    );
    let mut two = class("gone", "lvm.hwameistor.io", "WaitForFirstConsumer");
    two.parameters
        .get_or_insert_default()
        .insert("poolClass".into(), "ssd".into());
    inventory.apply(&two);
    let wrong = unknown(&inventory);
    assert!(
        wrong.to_string().contains("\"poolClass\" is \"ssd\"") && !wrong.may_pass(),
        "{wrong}"
    );
    inventory.apply(&claim(
        "data",
        json!("fast"),
        &[("resources", json!({ "requests": { "storage": "10 Gi" } }))],
    ));
    assert!(
        unknown(&inventory)
            .to_string()
            .starts_with("claim shop/data: spec.resources.requests.storage: \"10 Gi\"")
    );
    inventory.apply(&claim(
        "data",
        json!("fast"),
        &[(
            "dataSource",
            json!({ "kind": "VolumeSnapshot", "name": "s" }),
        )],
    ));
    assert_eq!(
        unknown(&inventory).to_string(),
        "claim shop/data: a volume can't be made from a VolumeSnapshot"
    );
    inventory.apply(&claim("data", json!("eager"), &[]));
    let eager = unknown(&inventory);
    assert!(matches!(eager, Unknown::NotBoundYet { .. }) && eager.may_pass());
    assert_eq!(
        asked(inventory.claim_request("shop", "data").unwrap()),
        ["+pvc-uid-data"],
        "without a pod it is placed at once"
    );
}

#[test]
fn a_clone_is_bound_to_the_nodes_of_its_source() {
    let mut inventory = shop();
    inventory.apply(&claim("source", json!("fast"), &[]));
    let data_source = json!({ "kind": "PersistentVolumeClaim", "name": "source" });
    inventory.apply(&claim(
        "clone",
        json!("fast"),
        &[("dataSource", data_source)],
    ));
    let pod = pod(&[uses("clone")]);
    assert_eq!(
        sentence(&inventory, &pod),
        "claim shop/clone: its source claim source has no volume yet"
    );
    inventory.apply(&volume("pvc-uid-source", json!(null)));
    let request = inventory.pod_request(&pod).unwrap().unwrap();
    let VolumeKind::New(new) = &request.volumes[0].kind else {
        panic!("{request:?}")
    };
    assert_eq!(new.source, Some(vec!["n1".into()]));
}

#[test]
fn constraints_of_the_pod_come_along() {
    let mut inventory = shop();
    inventory.apply(&claim("data", json!("fast"), &[]));
    let mut pod = pod(&[uses("data")]);
    let spec = pod.spec.as_mut().unwrap();
    spec.node_selector = Some([("disk".to_owned(), "fast".to_owned())].into());
    spec.tolerations = Some(object(
        json!([{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }]),
    ));
    spec.affinity = Some(object(
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": "zone", "operator": "NotIn", "values": ["c"] }] }
    ] } } }),
    ));
    let constraints = inventory.pod_request(&pod).unwrap().unwrap().constraints;
    assert_eq!(constraints.node_selector["disk"], "fast");
    assert_eq!(
        (
            constraints.tolerations.len(),
            constraints.node_affinity.unwrap().len()
        ),
        (1, 1)
    );
}

#[test]
fn victims_free_only_what_goes_with_them() {
    let mut inventory = shop();
    inventory.apply(&storage(60, 3, &["v0", "pvc-uid-a", "pvc-uid-b"]));
    for (name, policy) in [("a", "Delete"), ("b", "Retain")] {
        let mut claim = claim(
            name,
            json!("fast"),
            &[("volumeName", json!(format!("pv-{name}")))],
        );
        let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "victim", "controller": true }]);
        claim.metadata.owner_references = Some(object(owner));
        inventory.apply(&claim);
        let mut pv = persistent(
            &format!("pv-{name}"),
            "lvm.hwameistor.io",
            &format!("pvc-uid-{name}"),
        );
        pv.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some(policy.to_owned());
        inventory.apply(&pv);
        inventory.apply(&replica(
            &format!("pvc-uid-{name}"),
            10,
            json!({ "state": "Ready", "allocatedCapacityBytes": 12 * MIB }),
        ));
    }
    let used = |pods: &[&str]| {
        let after = inventory.node_without("n1", pods.iter().copied());
        after.unwrap().pool(POOL).unwrap().used
    };
    assert_eq!(inventory.node_without("n9", ["victim"]), None);
    assert_eq!(used(&[]), Bytes::mib(60));
    assert_eq!(used(&["bystander"]), Bytes::mib(60));
    assert_eq!(
        used(&["victim"]),
        Bytes::mib(48),
        "one is kept by its reclaim policy"
    );
}

#[test]
fn a_cordoned_node_has_the_taint_that_stands_for_it() {
    let mut inventory = n1();
    let taints = |inventory: &Inventory| {
        let node = inventory.cluster().get("n1").expect("n1 is there");
        let texts = node.taints.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>()
    };
    let node = |spec: Value| object::<Node>(json!({ "metadata": { "name": "n1" }, "spec": spec }));
    inventory.apply(&node(json!({ "unschedulable": true })));
    let cordoned = ["node.kubernetes.io/unschedulable:NoSchedule"];
    assert_eq!(taints(&inventory), cordoned, "the field alone is enough");
    let taint = json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
    inventory.apply(&node(
        json!({ "unschedulable": true, "taints": [taint.clone()] }),
    ));
    assert_eq!(taints(&inventory), cordoned, "said twice, there once");
    inventory.apply(&node(json!({ "taints": [taint] })));
    assert_eq!(taints(&inventory), cordoned);
    inventory.apply(&node(json!({ "unschedulable": false })));
    assert_eq!(taints(&inventory), Vec::<String>::new());
}

#[test]
fn a_class_says_how_its_volumes_are_placed() {
    let mut inventory = shop();
    let mut packed = class("packed", "lvm.hwameistor.io", "WaitForFirstConsumer");
    let parameters = packed.parameters.get_or_insert_default();
    parameters.insert("hawser.io/placement".into(), "binpack".into());
    inventory.apply(&packed);
    inventory.apply(&claim("data", json!("packed"), &[]));
    inventory.apply(&claim("log", json!("fast"), &[]));
    let request = inventory
        .pod_request(&pod(&[uses("data"), uses("log")]))
        .unwrap()
        .unwrap();
    let strategies: Vec<_> = request.new_volumes().map(|(_, new)| new.strategy).collect();
    assert_eq!(
        strategies,
        [Some(hawser_placement::Strategy::BinPack), None]
    );
}

#[test]
fn a_choice_holds_room_until_it_is_reserved_and_not_for_the_chosen_pod() {
    let mut inventory = shop();
    let chosen = |name: &str, node: &str| {
        let mut claim = claim(name, json!("fast"), &[]);
        let annotations = claim.metadata.annotations.get_or_insert_default();
        annotations.insert("volume.kubernetes.io/selected-node".into(), node.into());
        claim
    };
    let held = |inventory: &Inventory, claims: &[&str]| {
        let volumes: Vec<Value> = claims.iter().map(|claim| uses(claim)).collect();
        let request = inventory.pod_request(&pod(&volumes)).unwrap().unwrap();
        let holds = inventory.holds(&request).into_iter();
        holds
            .map(|hold| (hold.node.to_string(), hold.size.0 / MIB))
            .collect::<Vec<_>>()
    };
    inventory.apply(&claim("data", json!("fast"), &[]));
    inventory.apply(&claim("mine", json!("fast"), &[]));
    assert!(held(&inventory, &["mine"]).is_empty() && !inventory.is_decided("pvc-uid-data"));
    inventory.apply(&chosen("data", "n1"));
    assert!(inventory.is_decided("pvc-uid-data"));
    let on_n1 = [("n1".to_owned(), 12)];
    assert_eq!(
        held(&inventory, &["mine"]),
        on_n1,
        "10 MiB in whole extents"
    );
    assert!(held(&inventory, &["data"]).is_empty(), "its own choice");
    inventory.apply(&group("g", "db-1", &[("pvc-uid-data", 12)]));
    assert!(
        held(&inventory, &["mine"]).is_empty(),
        "reserved, so counted already"
    );
    Fold::<LocalVolumeGroup>::remove(
        &mut inventory,
        &Key {
            namespace: None,
            name: "g".into(),
        },
    );
    assert_eq!(held(&inventory, &["mine"]), on_n1);
    inventory.apply(&volume("pvc-uid-data", json!(null)));
    assert!(held(&inventory, &["mine"]).is_empty(), "it exists");
    Fold::<LocalVolume>::remove(
        &mut inventory,
        &Key {
            namespace: None,
            name: "pvc-uid-data".into(),
        },
    );
    inventory.apply(&claim("data", json!("fast"), &[]));
    assert!(held(&inventory, &["mine"]).is_empty(), "taken back");
}
