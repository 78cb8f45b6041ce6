//! Plays the node daemons: sees the `LocalVolumeReplica`s of the simulated nodes, makes and removes their volumes on [`Disks`], and writes what the
//! daemons write, in their order: first the replica's status, and a moment later what the pool has left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hawser_api::{
    Condition, ConditionStatus, LocalStorageNode, LocalStorageNodeStatus, LocalVolume,
    LocalVolumeReplica, LocalVolumeReplicaStatus, NodeState, ReplicaState, StorageNodeCondition,
    names,
};
use hawser_runtime::error::Category;
use hawser_runtime::patch::{self, PatchError};
use hawser_runtime::reconcile::{Action, Queue};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::store::Store;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt};

use super::disks::Disks;
use super::nodes::pools_of;
use super::wrong::Wrong;

/// What LVM takes for one change.
const WORK: Duration = Duration::from_millis(100);
/// How long after a change the daemon looks at LVM for its report (node-daemon: `keeper::SETTLE`).
const SETTLE: Duration = Duration::from_millis(200);
/// How soon a replica that has no room is tried again (node-daemon: `replica::WAITING`).
const WAITING: Duration = Duration::from_secs(5);
/// Each node works by itself.
const WORKERS: usize = 256;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
enum PlayError {
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error("can't ask whether volume {volume} wants a copy")]
    Read {
        volume: String,
        #[source]
        source: kube::Error,
    },
}

impl PlayError {
    /// Whether the object has changed or gone meanwhile: it is looked at anew when the watch shows that.
    fn is_old_news(&self) -> bool {
        match self {
            Self::Patch(error) => {
                matches!(error.category(), Category::Conflict | Category::NotFound)
            }
            Self::Read { .. } => false,
        }
    }
}

/// All daemons.
#[derive(Clone)]
pub(super) struct Storage {
    disks: Arc<Mutex<Disks>>,
    replicas: Store<LocalVolumeReplica>,
    nodes: Store<LocalStorageNode>,
    replica_api: Api<LocalVolumeReplica>,
    volume_api: Api<LocalVolume>,
    node_api: Api<LocalStorageNode>,
    /// Replicas to be looked at, by name.
    work: Queue<String>,
    /// Nodes to report.
    reports: Queue<String>,
    wrong: Wrong,
}

impl Storage {
    /// Daemons that know nothing yet; the two stores are to be filled by watches.
    pub(super) fn new(client: &Client, wrong: &Wrong) -> Self {
        let storage = Self {
            disks: Arc::default(),
            replicas: Store::new(),
            nodes: Store::new(),
            replica_api: Api::all(client.clone()),
            volume_api: Api::all(client.clone()),
            node_api: Api::all(client.clone()),
            work: Queue::default(),
            reports: Queue::default(),
            wrong: wrong.clone(),
        };
        let work = storage.work.clone();
        storage.replicas.on_change(move |change| {
            if let Some(new) = change.new {
                work.add(new.name_any());
            }
        });
        let (reports, disks) = (storage.reports.clone(), storage.disks.clone());
        storage.nodes.on_change(move |change| {
            let name = &change.key.name;
            match change.new.map(|node| pools_of(node)) {
                Some(Some(pools)) => {
                    lock(&disks).set_pools(name, &pools);
                    reports.add(name.clone());
                }
                Some(None) => {}
                None => lock(&disks).forget(name),
            }
        });
        storage
    }

    pub(super) fn replicas(&self) -> Store<LocalVolumeReplica> {
        self.replicas.clone()
    }

    pub(super) fn nodes(&self) -> Store<LocalStorageNode> {
        self.nodes.clone()
    }

    /// Whether the volume is on the node, as kubelet's CSI calls would find out.
    pub(super) fn has(&self, node: &str, volume: &str) -> bool {
        lock(&self.disks).has(node, volume)
    }

    /// Takes over what had been made before, then works until shutdown. The stores have to be filled.
    pub(super) fn start(&self, shutdown: &Shutdown) {
        for replica in self.replicas.list() {
            let status = replica.status.clone().unwrap_or_default();
            if status.allocated_capacity_bytes > 0 && status.state != ReplicaState::Deleted {
                let spec = &replica.spec;
                lock(&self.disks).adopt(
                    &spec.node_name,
                    &spec.pool_name,
                    &spec.volume_name,
                    status.allocated_capacity_bytes,
                );
            }
        }
        let this = self.clone();
        self.work.run("replicas", WORKERS, shutdown, move |name| {
            let this = this.clone();
            async move {
                match this.settle(&name).await {
                    Err(error) if error.is_old_news() => Ok(Action::RequeueAfter(SETTLE)),
                    other => other,
                }
            }
        });
        let this = self.clone();
        self.reports.run("reports", WORKERS, shutdown, move |node| {
            let this = this.clone();
            async move {
                match this.report(&node).await {
                    Err(error) if error.is_old_news() => Ok(Action::RequeueAfter(SETTLE)),
                    other => other,
                }
            }
        });
    }

    /// Brings one replica to what is asked.
    async fn settle(&self, name: &str) -> Result<Action, PlayError> {
        let Some(replica) = self.replicas.get(name) else {
            return Ok(Action::Done);
        };
        let node = &replica.spec.node_name;
        if self
            .nodes
            .get(node)
            .is_none_or(|node| pools_of(&node).is_none())
        {
            return Ok(Action::Done);
        }
        if replica.spec.delete {
            return self.destroy(&replica).await;
        }
        if is_settled(&replica) {
            return Ok(Action::Done);
        }
        let spec = &replica.spec;
        let made_before = replica
            .status
            .as_ref()
            .is_some_and(|status| status.allocated_capacity_bytes > 0);
        if !made_before && let Some(why) = self.ask(&replica).await? {
            let wanted = status(&replica, 0, Some(&why));
            patch::status(&self.replica_api, &replica, &wanted).await?;
            return Ok(Action::RequeueAfter(WAITING));
        }
        tokio::time::sleep(WORK).await;
        let made = lock(&self.disks).make(
            node,
            &spec.pool_name,
            &spec.volume_name,
            spec.required_capacity_bytes,
        );
        let refused = made.as_ref().err().map(ToString::to_string);
        if let Some(why) = &refused {
            self.wrong.note(&format!(
                "{node}: volume {} refused: {why}",
                spec.volume_name
            ));
        }
        let wanted = status(&replica, made.unwrap_or(0), refused.as_deref());
        patch::status(&self.replica_api, &replica, &wanted).await?;
        self.reports.add_after(node.clone(), SETTLE);
        Ok(match refused {
            None => Action::Done,
            Some(_) => Action::RequeueAfter(WAITING),
        })
    }

    /// Why the copy is not to be made, asked of the API server itself.
    async fn ask(&self, replica: &LocalVolumeReplica) -> Result<Option<String>, PlayError> {
        let spec = &replica.spec;
        let volume = self.volume_api.get_opt(&spec.volume_name).await;
        let volume = volume.map_err(|source| PlayError::Read {
            volume: spec.volume_name.clone(),
            source,
        })?;
        Ok(objection(volume.as_ref(), &spec.node_name))
    }

    /// Wipes the volume and lets the object go.
    async fn destroy(&self, replica: &LocalVolumeReplica) -> Result<Action, PlayError> {
        let spec = &replica.spec;
        if lock(&self.disks).has(&spec.node_name, &spec.volume_name) {
            tokio::time::sleep(WORK).await;
            lock(&self.disks).remove(&spec.node_name, &spec.volume_name);
            self.reports.add_after(spec.node_name.clone(), SETTLE);
        }
        let gone = LocalVolumeReplicaStatus {
            state: ReplicaState::Deleted,
            ..LocalVolumeReplicaStatus::default()
        };
        let told = patch::status(&self.replica_api, replica, &gone)
            .await?
            .into_inner();
        patch::update(
            &self.replica_api,
            &replica.name_any(),
            Some(told),
            |object| {
                if object.spec.delete {
                    patch::remove_finalizer(object, names::finalizers::REPLICA);
                }
            },
        )
        .await?;
        Ok(Action::Done)
    }

    /// Writes what the node's pools have.
    async fn report(&self, node: &str) -> Result<Action, PlayError> {
        let Some(object) = self.nodes.get(node) else {
            return Ok(Action::Done);
        };
        let before = object.status.clone().unwrap_or_default();
        let wanted = LocalStorageNodeStatus {
            pools: lock(&self.disks).report(node),
            state: NodeState::Ready,
            conditions: if before.conditions.is_empty() {
                vec![available()]
            } else {
                before.conditions.clone()
            },
            ..before
        };
        patch::status(&self.node_api, &object, &wanted).await?;
        Ok(Action::Done)
    }
}

fn lock(disks: &Mutex<Disks>) -> MutexGuard<'_, Disks> {
    disks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a copy that is not made yet is not to be made: the volume's own object knows best (node-daemon: `replica::wanted`).
fn objection(volume: Option<&LocalVolume>, node: &str) -> Option<String> {
    let Some(volume) = volume else {
        return Some("its LocalVolume does not exist: no copy is made".to_owned());
    };
    let spec = &volume.spec;
    if spec.delete {
        return Some("its LocalVolume is being deleted: no copy is made".to_owned());
    }
    let detailed = spec.config.iter().flat_map(|config| &config.replicas);
    let chosen = spec.accessibility.iter().flat_map(|at| &at.nodes);
    let wanted = detailed
        .map(|replica| &replica.hostname)
        .chain(chosen)
        .any(|wanted| wanted == node);
    (!wanted).then(|| "its LocalVolume wants no copy on this node".to_owned())
}

/// Whether the replica is as large as it is asked to be, and says so.
fn is_settled(replica: &LocalVolumeReplica) -> bool {
    replica.status.as_ref().is_some_and(|status| {
        status.state == ReplicaState::Ready
            && status.allocated_capacity_bytes >= replica.spec.required_capacity_bytes
    })
}

/// What the daemon says of a volume of so many bytes (0: there is none), or of one that LVM refused.
fn status(
    replica: &LocalVolumeReplica,
    bytes: i64,
    refused: Option<&str>,
) -> LocalVolumeReplicaStatus {
    let condition = |type_: &str| Condition {
        type_: type_.to_owned(),
        reason: type_.to_owned(),
        status: if refused.is_some() {
            ConditionStatus::False
        } else {
            ConditionStatus::True
        },
        message: refused.unwrap_or_default().to_owned(),
        observed_generation: replica.metadata.generation,
        last_transition_time: Some(Time(Timestamp::now())),
    };
    let spec = &replica.spec;
    let path = format!("/dev/{}/{}", spec.pool_name, spec.volume_name);
    let there = bytes > 0;
    LocalVolumeReplicaStatus {
        allocated_capacity_bytes: bytes,
        conditions: vec![condition("Create"), condition("Ready")],
        dev_path: if there { path.clone() } else { String::new() },
        storage_path: if there { path } else { String::new() },
        state: if refused.is_none() {
            ReplicaState::Ready
        } else {
            ReplicaState::NotReady
        },
        synced: refused.is_none(),
        ..LocalVolumeReplicaStatus::default()
    }
}

fn available() -> StorageNodeCondition {
    let now = Some(Time(Timestamp::now()));
    StorageNodeCondition {
        last_transition_time: now.clone(),
        last_update_time: now,
        message: String::new(),
        reason: "StorageAvailable".to_owned(),
        status: ConditionStatus::True,
        type_: "Available".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_replica() -> LocalVolumeReplica {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolumeReplica",
            "metadata": { "name": "pvc-1-n1", "generation": 2 },
            "spec": { "nodeName": "n1", "poolName": "LocalStorage_PoolSSD", "volumeName": "pvc-1", "requiredCapacityBytes": 8_388_608 },
        }))
        .unwrap()
    }

    #[test]
    fn a_replica_is_settled_once_it_says_that_it_is_large_enough() {
        let mut replica = a_replica();
        assert!(!is_settled(&replica));
        replica.status = Some(status(&replica, 8_388_608, None));
        assert!(is_settled(&replica));
        replica.spec.required_capacity_bytes += 1;
        assert!(!is_settled(&replica));
    }

    #[test]
    fn a_copy_is_made_only_where_its_volume_wants_it() {
        let volume = |spec: serde_json::Value| -> LocalVolume {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolume", "metadata": { "name": "pvc-1" }, "spec": spec,
            }))
            .unwrap()
        };
        let here = volume(serde_json::json!({ "accessibility": { "nodes": ["n1"] } }));
        assert_eq!(objection(Some(&here), "n1"), None);
        assert!(objection(Some(&here), "n2").is_some());
        let going =
            volume(serde_json::json!({ "delete": true, "accessibility": { "nodes": ["n1"] } }));
        assert!(objection(Some(&going), "n1").is_some());
        assert!(objection(None, "n1").is_some());
    }

    #[test]
    fn a_refused_volume_is_not_ready_and_says_why() {
        let status = status(&a_replica(), 0, Some("no room"));
        assert_eq!(status.state, ReplicaState::NotReady);
        assert!(!status.synced && status.dev_path.is_empty());
        assert_eq!(status.conditions[0].message, "no room");
        assert_eq!(status.conditions[0].status, ConditionStatus::False);
    }
}
