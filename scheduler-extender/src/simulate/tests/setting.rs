//! Small clusters, with claims and pods in them, as objects of the API.

use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_inventory::{Fold, Inventory};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use proptest::prelude::{Just, Strategy as _, any, prop};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(super) const EXTENT: u64 = 4 << 20;

pub(super) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the fixture is an object of its kind")
}

/// A small cluster, in extents.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) nodes: Vec<NodeSetting>,
    pub(super) claims: Vec<ClaimSetting>,
}

#[derive(Clone, Debug)]
pub(super) struct NodeSetting {
    /// Of the HDD pool and of the SSD pool, if there is one: size, and what is used.
    pub(super) pools: [Option<(u64, u64)>; 2],
    pub(super) state: &'static str,
    pub(super) labelled: bool,
    pub(super) tainted: bool,
    /// What is reserved in the HDD pool for another pod.
    pub(super) reserved: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ClaimSetting {
    pub(super) ssd: bool,
    pub(super) size: u64,
    /// Where its volume is.
    pub(super) bound: Option<usize>,
}

pub(super) fn setting() -> impl proptest::strategy::Strategy<Value = Setting> {
    let pool = || prop::option::weighted(0.7, (1..12u64, 0..8u64));
    let state = prop::sample::select(vec![
        "Ready", "Ready", "Ready", "Ready", "Maintain", "Offline",
    ]);
    let node = (
        pool(),
        pool(),
        state,
        any::<bool>(),
        prop::bool::weighted(0.2),
        0..3u64,
    )
        .prop_map(
            |(hdd, ssd, state, labelled, tainted, reserved)| NodeSetting {
                pools: [hdd, ssd],
                state,
                labelled,
                tainted,
                reserved,
            },
        );
    let claim = (
        any::<bool>(),
        1..6u64,
        prop::option::weighted(0.3, 0..3usize),
    )
        .prop_map(|(ssd, size, bound)| ClaimSetting { ssd, size, bound });
    (
        prop::collection::vec(node, 1..4),
        prop::collection::vec(claim, 0..4),
    )
        .prop_map(|(nodes, claims)| Setting { nodes, claims })
}

pub(super) fn class(ssd: bool) -> &'static str {
    if ssd { "SSD" } else { "HDD" }
}

pub(super) fn claim(
    name: &str,
    ssd: bool,
    size: u64,
    volume: Option<&str>,
) -> PersistentVolumeClaim {
    object(json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("simulated:default/{name}") },
        "spec": claim_spec(ssd, size, volume)
    }))
}

pub(super) fn claim_spec(ssd: bool, size: u64, volume: Option<&str>) -> Value {
    json!({ "storageClassName": class(ssd).to_lowercase(), "volumeName": volume, "resources": { "requests": { "storage": (size * EXTENT).to_string() } } })
}

pub(super) fn group(
    name: &str,
    pod: &str,
    node: &str,
    members: &[(&str, &str, u64)],
) -> LocalVolumeGroup {
    let members: Vec<Value> = members
        .iter()
        .map(|(volume, pool, bytes)| json!({ "localvolume": volume, "pvc": "c", "poolName": pool, "requiredCapacityBytes": bytes }))
        .collect();
    object(json!({
        "metadata": { "name": name },
        "spec": { "namespace": "default", "pods": [pod], "accessibility": { "nodes": [node] }, "volumes": members }
    }))
}

/// A volume that is there, up to date.
pub(super) fn made(
    inventory: &mut Inventory,
    volume: &str,
    node: &str,
    pool: &str,
    published: &str,
) {
    inventory.apply(&object::<LocalVolume>(json!({
        "metadata": { "name": volume }, "spec": { "replicaNumber": 1, "accessibility": { "nodes": [node] } },
        "status": { "state": "Ready", "publishedNode": published }
    })));
    inventory.apply(&object::<LocalVolumeReplica>(json!({
        "metadata": { "name": format!("{volume}-r") },
        "spec": { "volumeName": volume, "nodeName": node, "poolName": pool, "requiredCapacityBytes": EXTENT },
        "status": { "state": "Ready", "synced": true, "allocatedCapacityBytes": EXTENT }
    })));
}

pub(super) fn inventory(setting: &Setting) -> Inventory {
    let mut inventory = Inventory::new();
    for ssd in [false, true] {
        inventory.apply(&object::<StorageClass>(json!({
            "metadata": { "name": class(ssd).to_lowercase() }, "provisioner": "lvm.hwameistor.io", "volumeBindingMode": "WaitForFirstConsumer",
            "parameters": { "poolClass": class(ssd), "replicaNumber": "1" }
        })));
    }
    for (n, node) in setting.nodes.iter().enumerate() {
        let name = format!("n{n}");
        let labels = if node.labelled {
            json!({ "room": "back" })
        } else {
            json!({})
        };
        let taints = if node.tainted {
            json!([{ "key": "hot", "effect": "NoSchedule" }])
        } else {
            json!([])
        };
        inventory.apply(&object::<Node>(
            json!({ "metadata": { "name": name, "labels": labels }, "spec": { "taints": taints } }),
        ));
        let mut pools = serde_json::Map::new();
        for (ssd, pool) in [(false, node.pools[0]), (true, node.pools[1])] {
            let Some((total, used)) = pool else { continue };
            let pool = json!({ "class": class(ssd), "type": "REGULAR", "totalCapacityBytes": total * EXTENT, "usedCapacityBytes": used.min(total) * EXTENT, "totalVolumeCount": 6 });
            pools.insert(format!("LocalStorage_Pool{}", class(ssd)), pool);
        }
        inventory.apply(&object::<LocalStorageNode>(
            json!({ "metadata": { "name": name }, "spec": { "hostname": name }, "status": { "state": node.state, "pools": pools } }),
        ));
        if node.reserved > 0 {
            inventory.apply(&group(
                &format!("other-{n}"),
                "other",
                &name,
                &[(
                    &format!("pvc-other-{n}"),
                    "LocalStorage_PoolHDD",
                    node.reserved * EXTENT,
                )],
            ));
        }
    }
    for (c, setting) in setting.claims.iter().enumerate() {
        let (name, volume) = (format!("c{c}"), format!("pvc-bound-{c}"));
        let bound = setting.bound.map(|node| {
            made(&mut inventory, &volume, &format!("n{node}"), &format!("LocalStorage_Pool{}", class(setting.ssd)), "");
            inventory.apply(&object::<PersistentVolume>(
                json!({ "metadata": { "name": volume }, "spec": { "csi": { "driver": "lvm.hwameistor.io", "volumeHandle": volume } } }),
            ));
            volume.as_str()
        });
        inventory.apply(&claim(&name, setting.ssd, setting.size, bound));
    }
    inventory
}

/// What a pod uses: claims by number (some of which do not exist), and ephemeral volumes.
#[derive(Clone, Debug)]
pub(super) struct PodSetting {
    pub(super) claims: Vec<usize>,
    pub(super) ephemeral: Vec<(bool, u64)>,
    pub(super) selects: bool,
    pub(super) tolerates: bool,
}

pub(super) fn pod_setting() -> impl proptest::strategy::Strategy<Value = PodSetting> {
    let claims = prop_oneof_claims();
    let ephemeral = prop::collection::vec((any::<bool>(), 1..5u64), 0..3);
    (claims, ephemeral, prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |(claims, ephemeral, selects, tolerates)| PodSetting {
            claims,
            ephemeral,
            selects,
            tolerates,
        },
    )
}

pub(super) fn prop_oneof_claims() -> impl proptest::strategy::Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_numbers(), 0..3)
}

pub(super) fn prop_numbers() -> impl proptest::strategy::Strategy<Value = usize> {
    (0..20usize, Just(())).prop_map(|(n, ())| if n == 19 { 9 } else { n % 4 })
}

pub(super) fn pod_spec(setting: &PodSetting) -> Value {
    let used = setting.claims.iter().map(|c| json!({ "name": format!("v{c}"), "persistentVolumeClaim": { "claimName": format!("c{c}") } }));
    let ephemeral = setting.ephemeral.iter().enumerate().map(|(e, (ssd, size))| {
        json!({ "name": format!("e{e}"), "ephemeral": { "volumeClaimTemplate": { "spec": claim_spec(*ssd, *size, None) } } })
    });
    let volumes: Vec<Value> = used.chain(ephemeral).collect();
    let selector = if setting.selects {
        json!({ "room": "back" })
    } else {
        json!({})
    };
    let tolerations = if setting.tolerates {
        json!([{ "operator": "Exists" }])
    } else {
        json!([])
    };
    json!({ "containers": [], "volumes": volumes, "nodeSelector": selector, "tolerations": tolerations })
}
