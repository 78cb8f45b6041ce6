//! More refused nodes than are looked at one by one.

use hawser_api::LocalStorageNode;
use hawser_inventory::{Fold, Inventory};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;

use super::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn name(i: u64) -> String {
    format!("w{i:02}")
}

/// Of 60 nodes, 40 have some MiB free, each more than the one before; 15 have no storage, 4 are too small, the last has room.
fn farm() -> Inventory {
    let mut inventory = Inventory::new();
    inventory.apply(&object::<StorageClass>(json!({
        "metadata": { "name": "hdd" }, "provisioner": "lvm.hwameistor.io", "volumeBindingMode": "WaitForFirstConsumer",
        "parameters": { "poolClass": "HDD", "replicaNumber": "1" }
    })));
    inventory.apply(&object::<PersistentVolumeClaim>(json!({
        "metadata": { "name": "data-db-2", "namespace": "default", "uid": "2" },
        "spec": { "storageClassName": "hdd", "resources": { "requests": { "storage": "4Gi" } } }
    })));
    for i in 0..60 {
        let (total, free) = match i {
            0..40 => (10 * GIB, i * 100 * MIB),
            40..55 => (0, 0),
            55..59 => (2 * GIB, (i - 54) * 500 * MIB),
            _ => (10 * GIB, 10 * GIB),
        };
        inventory.apply(&object::<Node>(json!({ "metadata": { "name": name(i) } })));
        if total == 0 {
            continue;
        }
        let pool = json!({ "class": "HDD", "type": "REGULAR", "totalCapacityBytes": total, "usedCapacityBytes": total - free, "totalVolumeCount": 1000 });
        inventory.apply(&object::<LocalStorageNode>(json!({
            "metadata": { "name": name(i) }, "spec": { "hostname": name(i) },
            "status": { "state": "Ready", "pools": { "LocalStorage_PoolHDD": pool } }
        })));
    }
    inventory
}

fn asked() -> Value {
    let mut args = args("db-2");
    let mut names: Vec<String> = (0..60).map(name).collect();
    names.push("ghost".to_owned());
    args["NodeNames"] = names.into();
    args
}

const ROOM: &str = "hdd pool: at best 3.8 of 10 GiB free, needs 4";
const TOTAL: &str = "hdd pool: at best 1.9 of 2 GiB free, needs 4";

fn served() -> Router {
    let metrics = Metrics::new("test");
    patient(App::new(
        Shared::new(farm()),
        Strategy::Spread,
        &health(),
        &metrics,
    ))
}

#[tokio::test]
async fn the_scheduler_is_told_the_nearest_miss_of_each_cause() {
    let answer = parsed(post(&served(), "/filter", asked().to_string()).await);
    assert_eq!(answer["NodeNames"], json!(["w59"]));
    let failed = answer["FailedNodes"].as_object().unwrap();
    assert_eq!(failed.len(), 40);
    assert!(failed.values().all(|said| said == ROOM), "{failed:?}");
    let unresolvable = answer["FailedAndUnresolvableNodes"].as_object().unwrap();
    let counted = |said: &str| unresolvable.values().filter(|told| *told == said).count();
    assert_eq!(counted("node has no storage (no LocalStorageNode)"), 15);
    assert_eq!(counted(TOTAL), 4, "no eviction makes a pool larger");
    assert_eq!(counted("node is not known to the storage scheduler yet"), 1);
    assert_eq!(unresolvable.len(), 20);
}

#[tokio::test]
async fn what_was_told_does_not_depend_on_the_order_of_the_nodes() {
    let mut turned = asked();
    turned["NodeNames"].as_array_mut().unwrap().reverse();
    let farm = served();
    let told = async |asked: Value| {
        let mut answer = parsed(post(&farm, "/filter", asked.to_string()).await);
        answer["NodeNames"] = Value::Null;
        answer
    };
    assert_eq!(told(turned).await, told(asked()).await);
}

#[tokio::test]
async fn why_shows_them_alike_in_the_last_decision_and_one_by_one_now() {
    let farm = served();
    parsed(post(&farm, "/filter", asked().to_string()).await);
    let answer = parsed(get(&farm, "/why?pod=default/db-2").await);
    let last = &answer["last"]["filter"];
    assert_eq!(
        (&last["outcome"], &last["fit"], &last["refused"]),
        (&json!("Judged"), &json!(1), &json!(60))
    );
    let own = last["nodes"].as_array().unwrap();
    assert_eq!(own.len(), 15 + 1 + 1, "whose reasons have no numbers");
    let fits = own.iter().find(|node| node["fits"] == json!(true)).unwrap();
    let score = json!({ "points": 7, "tier": "Good", "upToDate": 0, "room": 600 });
    assert_eq!((&fits["node"], &fits["score"]), (&json!("w59"), &score));
    let ghost = own.iter().find(|node| node["node"] == "ghost").unwrap();
    assert_eq!(ghost["reasons"], json!([{ "reason": "UnknownNode" }]));

    let alike = last["alike"].as_array().unwrap();
    assert_eq!(alike.len(), 2);
    let room = alike.iter().find(|alike| alike["count"] == 40).unwrap();
    let golden = json!({
        "count": 40, "nodes": (0..40).map(name).collect::<Vec<_>>(), "nearest": "w39", "curableByPreemption": true,
        "sentence": "hdd pool: 3.8 of 10 GiB free, needs 4", "said": ROOM,
        "reasons": [{
            "reason": "PoolRoom", "pool": "LocalStorage_PoolHDD", "class": "HDD", "volumes": 1,
            "neededBytes": 4 * GIB, "freeBytes": 3900 * MIB, "totalBytes": 10 * GIB, "usedBytes": 10 * GIB - 3900 * MIB,
            "extentBytes": 4 * MIB, "reserved": { "bytes": 0, "volumes": 0, "for": [], "others": 0 }
        }]
    });
    assert_eq!(*room, golden);

    let now = answer["now"]["nodes"].as_array().unwrap();
    assert_eq!(now.len(), 60);
    assert_eq!(
        now[7]["sentence"], "hdd pool: 700 MiB of 10 GiB free, needs 4 GiB",
        "its own numbers"
    );
    let (_, page) = get(&farm, "/why?pod=default/db-2&format=text").await;
    assert!(
        page.contains(&format!("\n  40 alike, w39 the nearest  no: {ROOM}\n")),
        "{page}"
    );
    assert!(page.contains("  1 of 61 nodes can hold"), "{page}");
}
