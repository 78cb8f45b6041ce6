//! Simulated nodes as objects: what kubelet and the node daemon write of a node when they start.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hawser_api::names::{self, labels, pools};
use hawser_api::{LocalStorageNode, PoolClass};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::kit::{Pending, wait_for};

/// On a simulated node, `true`.
pub(super) const SIMULATED: &str = "lab.hawser.io/simulated";
/// On its `LocalStorageNode`: bytes of each volume group, as JSON. The simulator reads it as a daemon reads LVM. It is here and not on the Node, because
/// the scheduler hears of every change of a Node, and would not hear of a disk that was added.
pub(super) const POOLS: &str = "lab.hawser.io/pools";
/// Pods that only take processors; they are in the namespace `default`.
const HOGS: &str = "app=hog";
/// Requests under way at once.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: String,
    /// Processors.
    pub(crate) cpus: u32,
    /// Processors that something else has taken already, so that the scheduler's own scoring avoids the node.
    pub(crate) busy: u32,
    /// Bytes of each pool, by class of disk.
    pub(crate) pools: BTreeMap<PoolClass, i64>,
}

impl Shape {
    /// A node with one pool of SSDs.
    pub(crate) fn new(name: impl Into<String>, ssd: i64) -> Self {
        Self {
            name: name.into(),
            cpus: 16,
            busy: 0,
            pools: BTreeMap::from([(PoolClass::SSD, ssd)]),
        }
    }

    /// The same, with so many of its processors taken.
    pub(crate) fn busy(self, busy: u32) -> Self {
        Self { busy, ..self }
    }

    fn node(&self) -> Value {
        let now = Timestamp::now();
        let condition = |type_: &str, status: &str| {
            json!({
                "type": type_, "status": status, "reason": "Simulated", "message": "played by the lab",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            })
        };
        let room = json!({ "cpu": self.cpus.to_string(), "memory": "64Gi", "pods": "1000", "ephemeral-storage": "100Gi" });
        json!({
            "metadata": { "name": self.name, "labels": {
                SIMULATED: "true",
                labels::HOSTNAME: self.name,
                names::LVM_TOPOLOGY_KEY: self.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            }},
            "status": {
                "capacity": room, "allocatable": room,
                "addresses": [{ "type": "Hostname", "address": self.name }],
                "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"),
                    condition("DiskPressure", "False"), condition("PIDPressure", "False")],
                "nodeInfo": { "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "simulated",
                    "systemUUID": "" },
            },
        })
    }

    /// What kubelet writes once the driver has registered.
    fn csi_node(&self, node: &Node) -> Value {
        json!({
            "metadata": { "name": self.name, "ownerReferences": [
                { "apiVersion": "v1", "kind": "Node", "name": self.name, "uid": node.uid() }
            ]},
            "spec": { "drivers": [{
                "name": names::LVM_DRIVER, "nodeID": self.name, "topologyKeys": [names::LVM_TOPOLOGY_KEY],
                "allocatable": { "count": pools::MAX_VOLUMES },
            }]},
        })
    }

    fn storage_node(&self) -> Result<Value> {
        Ok(json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalStorageNode",
            "metadata": { "name": self.name, "annotations": { POOLS: volume_groups(&self.pools)? } },
            "spec": { "hostname": self.name, "storageIP": "10.0.0.1", "topogoly": { "region": "default", "zone": "default" } },
        }))
    }

    fn hog(&self) -> Value {
        json!({
            "metadata": { "name": format!("hog-{}", self.name), "namespace": "default", "labels": { "app": "hog" } },
            "spec": { "nodeName": self.name, "containers": [
                { "name": "hog", "image": "none", "resources": { "requests": { "cpu": self.busy.to_string() } } }
            ]},
        })
    }
}

/// The value of [`POOLS`].
fn volume_groups(pools: &BTreeMap<PoolClass, i64>) -> Result<String> {
    let named: Option<BTreeMap<String, i64>> = pools
        .iter()
        .map(|(class, bytes)| Some((names::pools::volume_group(class)?, *bytes)))
        .collect();
    let named = named.context("a pool's class is HDD, SSD or NVMe")?;
    Ok(serde_json::to_string(&named)?)
}

/// Bytes of each volume group of a node; none if it is not simulated.
pub(super) fn pools_of(node: &LocalStorageNode) -> Option<BTreeMap<String, i64>> {
    serde_json::from_str(node.annotations().get(POOLS)?).ok()
}

/// Makes these nodes, and returns when the scheduler may use them and their daemons have reported.
pub(crate) async fn create(client: &Client, shapes: &[Shape]) -> Result<()> {
    let making = shapes.iter().cloned().map(|shape| {
        let client = client.clone();
        async move { create_one(&client, &shape).await }
    });
    stream::iter(making)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    ready(client, shapes).await
}

async fn create_one(client: &Client, shape: &Shape) -> Result<()> {
    let make = PostParams::default();
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes
        .create(&make, &serde_json::from_value(shape.node())?)
        .await
        .with_context(|| format!("making node {}", shape.name))?;
    let registered: Api<CSINode> = Api::all(client.clone());
    registered
        .create(&make, &serde_json::from_value(shape.csi_node(&node))?)
        .await
        .with_context(|| format!("making the CSINode of {}", shape.name))?;
    let storage: Api<LocalStorageNode> = Api::all(client.clone());
    storage
        .create(&make, &serde_json::from_value(shape.storage_node()?)?)
        .await
        .with_context(|| format!("making the LocalStorageNode of {}", shape.name))?;
    if shape.busy > 0 {
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        pods.create(&make, &serde_json::from_value(shape.hog())?)
            .await
            .with_context(|| format!("taking processors of {}", shape.name))?;
    }
    Ok(())
}

async fn ready(client: &Client, shapes: &[Shape]) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let storage: Api<LocalStorageNode> = Api::all(client.clone());
    let what = format!("{} simulated nodes to be ready", shapes.len());
    wait_for(&what, PATIENCE, || async {
        let all = ListParams::default();
        let nodes = nodes.list(&all).await?.items;
        let storage = storage.list(&all).await?.items;
        let late = shapes
            .iter()
            .find_map(|shape| not_ready(shape, &nodes, &storage));
        Ok(late.map_or(Ok(()), |why| Err(Pending::because(why))))
    })
    .await
}

/// Why a node can't be used yet.
fn not_ready(shape: &Shape, nodes: &[Node], storage: &[LocalStorageNode]) -> Option<String> {
    let name = &shape.name;
    let Some(node) = nodes.iter().find(|node| node.name_any() == *name) else {
        return Some(format!("there is no node {name}"));
    };
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    if let Some(taint) = taints.into_iter().next() {
        return Some(format!("{name} has the taint {}", taint.key));
    }
    let reported = storage.iter().find(|node| node.name_any() == *name);
    let pools = reported
        .and_then(|node| node.status.as_ref())
        .map(|status| &status.pools);
    let there = shape.pools.iter().all(|(class, bytes)| {
        let pool = pools::volume_group(class).and_then(|group| pools?.get(&group));
        pool.is_some_and(|pool| pool.total_capacity_bytes == *bytes)
    });
    (!there).then(|| format!("the daemon of {name} has not reported its pools"))
}

/// Takes all simulated nodes away, with what took their processors. Their volumes have to be gone.
pub(crate) async fn remove_all(client: &Client) -> Result<()> {
    let (now, all) = (
        DeleteParams::default().grace_period(0),
        ListParams::default(),
    );
    let hogs: Api<Pod> = Api::namespaced(client.clone(), "default");
    hogs.delete_collection(&now, &ListParams::default().labels(HOGS))
        .await?;
    let simulated = ListParams::default().labels(&format!("{SIMULATED}=true"));
    let nodes: Api<Node> = Api::all(client.clone());
    nodes
        .delete_collection(&DeleteParams::default(), &simulated)
        .await?;
    let storage: Api<LocalStorageNode> = Api::all(client.clone());
    storage
        .delete_collection(&DeleteParams::default(), &all)
        .await?;
    // Nodes of the same names may follow: the collector must be done with what belonged to these.
    let registered: Api<CSINode> = Api::all(client.clone());
    wait_for(
        "the nodes and what belongs to them to go",
        PATIENCE,
        || async {
            let left = registered.list(&all).await?.items.len()
                + nodes.list(&all).await?.items.len()
                + storage.list(&all).await?.items.len()
                + hogs
                    .list(&ListParams::default().labels(HOGS))
                    .await?
                    .items
                    .len();
            Ok(if left == 0 {
                Ok(())
            } else {
                Err(Pending::because(format!("{left} objects are left")))
            })
        },
    )
    .await
}

/// Gives a node's pool of SSDs another size, as a disk that is added does. Nobody but the node's daemon is told.
pub(crate) async fn resize(client: &Client, node: &str, ssd: i64) -> Result<()> {
    let storage: Api<LocalStorageNode> = Api::all(client.clone());
    let pools = volume_groups(&BTreeMap::from([(PoolClass::SSD, ssd)]))?;
    let patch = json!({ "metadata": { "annotations": { POOLS: pools } } });
    storage
        .patch(node, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .with_context(|| format!("resizing the pool of {node}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: i64 = 1 << 30;

    #[test]
    fn objects_of_a_node_are_what_the_api_takes() {
        let shape = Shape::new("s1", 30 * GIB).busy(12);
        let node: Node = serde_json::from_value(shape.node()).unwrap();
        let registered: CSINode = serde_json::from_value(shape.csi_node(&node)).unwrap();
        assert_eq!(registered.spec.drivers[0].node_id, "s1");
        let storage: LocalStorageNode =
            serde_json::from_value(shape.storage_node().unwrap()).unwrap();
        assert_eq!(
            pools_of(&storage).unwrap(),
            BTreeMap::from([("LocalStorage_PoolSSD".to_owned(), 30 * GIB)])
        );
        let hog: Pod = serde_json::from_value(shape.hog()).unwrap();
        assert_eq!(hog.spec.unwrap().node_name.unwrap(), "s1");
    }

    #[test]
    fn a_node_is_ready_without_taints_and_with_its_pools_reported() {
        let shape = Shape::new("s1", 30 * GIB);
        let mut node: Node = serde_json::from_value(shape.node()).unwrap();
        let mut storage: LocalStorageNode =
            serde_json::from_value(shape.storage_node().unwrap()).unwrap();
        let why = |node: &Node, storage: &LocalStorageNode| {
            not_ready(
                &shape,
                std::slice::from_ref(node),
                std::slice::from_ref(storage),
            )
        };
        assert!(why(&node, &storage).unwrap().contains("reported"));
        let mut disks = super::super::disks::Disks::default();
        disks.set_pools("s1", &pools_of(&storage).unwrap());
        storage.status.get_or_insert_default().pools = disks.report("s1");
        assert_eq!(why(&node, &storage), None);
        node.spec = serde_json::from_value(json!({ "taints": [
            { "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }
        ]}))
        .unwrap();
        assert!(why(&node, &storage).unwrap().contains("not-ready"));
    }
}
