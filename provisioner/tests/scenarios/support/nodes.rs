//! Nodes in memory: what node daemons do with replicas, on disks that are a table. The table is the truth: it tells of leaks,
//! doubles and pools that were promised more than they have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use hawser_api::names::reasons;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::api::FakeApi;

pub(crate) const MIB: i64 = 1 << 20;
pub(crate) const GIB: i64 = 1 << 30;
const EXTENT: i64 = 4 * MIB;
const LSN: &str = "apis/hwameistor.io/v1alpha1";

#[derive(Default)]
struct Disks {
    /// Pool size by node and pool.
    pools: BTreeMap<(String, String), i64>,
    /// Volumes by node: pool and size.
    volumes: BTreeMap<(String, String), (String, i64)>,
    /// Nodes that do nothing.
    down: BTreeSet<String>,
    /// Nodes that can't make or grow anything: reason and message.
    failing: BTreeMap<String, (String, String)>,
    /// The most that was ever promised beyond a pool's size.
    overcommitted: Vec<String>,
}

/// All nodes. They work until dropped.
pub(crate) struct Nodes {
    disks: Arc<Mutex<Disks>>,
    api: FakeApi,
    worker: AbortHandle,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Nodes {
    /// Starts them; none yet.
    pub(crate) fn start(api: &FakeApi) -> Self {
        let disks: Arc<Mutex<Disks>> = Arc::default();
        let (shared, server) = (disks.clone(), api.clone());
        let mut changes = api.changes();
        let worker = tokio::spawn(async move {
            loop {
                changes.mark_unchanged();
                work(&server, &shared);
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Self {
            disks,
            api: api.clone(),
            worker: worker.abort_handle(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disks> {
        self.disks.lock().unwrap()
    }

    /// A node with pools of these classes and sizes.
    pub(crate) fn add(&self, node: &str, pools: &[(&str, i64)]) {
        for (class, size) in pools {
            self.lock().pools.insert(
                (node.to_owned(), format!("LocalStorage_Pool{class}")),
                *size,
            );
        }
        self.api.put(
            "api/v1/nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}),
        );
        self.api.put(
            &format!("{LSN}/localstoragenodes"),
            json!({
                "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalStorageNode", "metadata": {"name": node},
                "spec": {"hostname": node, "storageIP": "10.0.0.1"},
            }),
        );
        report(&self.api, &self.lock());
    }

    /// The node does nothing any more (its objects stay).
    pub(crate) fn stop(&self, node: &str) {
        self.lock().down.insert(node.to_owned());
    }

    /// The node works again.
    pub(crate) fn resume(&self, node: &str) {
        self.lock().down.remove(node);
        work(&self.api, &self.disks);
    }

    /// Everything that the node is asked to make or grow fails so.
    pub(crate) fn fail(&self, node: &str, reason: &str, message: &str) {
        self.lock()
            .failing
            .insert(node.to_owned(), (reason.to_owned(), message.to_owned()));
    }

    pub(crate) fn mend(&self, node: &str) {
        self.lock().failing.remove(node);
        work(&self.api, &self.disks);
    }

    /// Names and sizes of all logical volumes on all nodes.
    pub(crate) fn volumes(&self) -> BTreeMap<String, i64> {
        let disks = self.lock();
        let names: Vec<&String> = disks.volumes.keys().map(|(_, volume)| volume).collect();
        assert_eq!(
            names.len(),
            names.iter().collect::<BTreeSet<_>>().len(),
            "a volume is on two nodes: {names:?}"
        );
        disks
            .volumes
            .iter()
            .map(|((_, volume), (_, size))| (volume.clone(), *size))
            .collect()
    }

    /// Pools that were asked for more than they have, ever.
    pub(crate) fn overcommitted(&self) -> Vec<String> {
        self.lock().overcommitted.clone()
    }
}

/// One round of all daemons.
fn work(api: &FakeApi, disks: &Mutex<Disks>) {
    let mut disks = disks.lock().unwrap();
    for replica in api.list("localvolumereplicas") {
        let node = replica["spec"]["nodeName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if !disks.down.contains(&node) {
            serve(api, &mut disks, &node, &replica);
        }
    }
    report(api, &disks);
}

fn serve(api: &FakeApi, disks: &mut Disks, node: &str, replica: &Value) {
    let (spec, name) = (
        &replica["spec"],
        replica["metadata"]["name"].as_str().unwrap(),
    );
    let volume = spec["volumeName"].as_str().unwrap().to_owned();
    let pool = spec["poolName"].as_str().unwrap().to_owned();
    let key = (node.to_owned(), volume.clone());
    if spec["delete"] == true {
        if !replica["metadata"]["deletionTimestamp"].is_null() {
            disks.volumes.remove(&key);
            api.edit("localvolumereplicas", "", name, |r| {
                r["metadata"]["finalizers"] = json!([])
            });
        }
        return;
    }
    if !disks.volumes.contains_key(&key) && !wants(api, &volume, node) {
        return;
    }
    let wanted = (spec["requiredCapacityBytes"].as_i64().unwrap() + EXTENT - 1) / EXTENT * EXTENT;
    let has = disks.volumes.get(&key).map_or(0, |(_, size)| *size);
    let mut failure = None;
    if wanted > has {
        let used: i64 = disks
            .volumes
            .iter()
            .filter(|((n, _), (p, _))| n == node && *p == pool)
            .map(|(_, (_, size))| size)
            .sum();
        let total = disks
            .pools
            .get(&(node.to_owned(), pool.clone()))
            .copied()
            .unwrap_or(0);
        if let Some(failing) = disks.failing.get(node) {
            failure = Some(failing.clone());
        } else if used - has + wanted > total {
            disks.overcommitted.push(format!(
                "{node}/{pool}: {volume} wants {wanted}, {} free",
                total - used
            ));
            failure = Some((
                reasons::NO_SPACE.to_owned(),
                format!("pool {pool} has {} bytes free", total - used),
            ));
        } else {
            disks.volumes.insert(key.clone(), (pool.clone(), wanted));
        }
    }
    let has = disks.volumes.get(&key).map_or(0, |(_, size)| *size);
    let kind = if has == 0 { "Create" } else { "Expand" };
    let conditions: Vec<Value> = failure
        .iter()
        .map(|(reason, message)| {
            json!({"type": kind, "status": "False", "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        })
        .collect();
    api.edit("localvolumereplicas", "", name, |r| {
        r["status"] = json!({
            "state": if has > 0 { "Ready" } else { "NotReady" },
            "synced": has > 0,
            "conditions": conditions,
        });
        if has > 0 {
            r["status"]["allocatedCapacityBytes"] = json!(has);
            r["status"]["devPath"] = json!(format!("/dev/{pool}/{volume}"));
        }
    });
}

/// Whether the volume's object wants a copy on the node: asked before one is made.
fn wants(api: &FakeApi, volume: &str, node: &str) -> bool {
    let Some(volume) = api.get("localvolumes", "", volume) else {
        return false;
    };
    let spec = &volume["spec"];
    let of_config = spec["config"]["replicas"].as_array();
    let of_config = of_config.is_some_and(|all| all.iter().any(|r| r["hostname"] == node));
    let chosen = spec["accessibility"]["nodes"].as_array();
    let chosen = chosen.is_some_and(|all| all.iter().any(|n| n == node));
    spec["delete"] != true && (of_config || chosen)
}

/// Pools as the daemons report them.
fn report(api: &FakeApi, disks: &Disks) {
    let nodes: BTreeSet<&String> = disks.pools.keys().map(|(node, _)| node).collect();
    for node in nodes.into_iter().filter(|n| !disks.down.contains(*n)) {
        let mut pools = serde_json::Map::new();
        for ((_, pool), total) in disks.pools.iter().filter(|((n, _), _)| n == node) {
            let of_pool: Vec<(&String, i64)> = disks
                .volumes
                .iter()
                .filter(|((n, _), (p, _))| n == node && p == pool)
                .map(|((_, volume), (_, size))| (volume, *size))
                .collect();
            let used: i64 = of_pool.iter().map(|(_, size)| size).sum();
            let names: Vec<&String> = of_pool.iter().map(|(name, _)| *name).collect();
            pools.insert(
                pool.clone(),
                json!({
                    "name": pool, "class": pool.trim_start_matches("LocalStorage_Pool"), "type": "REGULAR",
                    "totalCapacityBytes": total, "usedCapacityBytes": used, "freeCapacityBytes": total - used,
                    "volumeCapacityBytesLimit": total, "totalVolumeCount": 1000, "usedVolumeCount": names.len(),
                    "freeVolumeCount": 1000 - names.len(), "volumes": names,
                }),
            );
        }
        api.edit("localstoragenodes", "", node, |n| {
            n["status"] = json!({"state": "Ready", "pools": pools})
        });
    }
}
