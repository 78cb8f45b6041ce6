//! The `LocalVolumeReplica`s of this node: logical volumes and their front devices.
//!
//! Owns: making, growing, exposing, wiping and removing logical volumes in pools; the objects' status and finalizer.
//! Does not own: pools (`pool`), placement (the provisioner), mounts and file systems (`csi`).
//!
//! observe -> plan -> apply, until there is nothing to do: [`node::Node::settle`]. What the API server knows is needed only to
//! make and to destroy; what exists is kept usable from LVM's tags alone.

pub mod effects;
#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod hold_tests;
pub mod jobs;
pub mod locks;
pub mod node;
pub mod plan;
mod readings;
mod status;
pub mod tags;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::{LocalVolumeReplica, ReplicaState, names};
use hawser_runtime::error::Category;
use hawser_runtime::events::{Recorder, Severity};
use hawser_runtime::index::Watches;
use hawser_runtime::patch::{self, PatchError};
use hawser_runtime::reconcile::{Action, Queue};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::store::Store;
use hawser_runtime::telemetry::chain;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use tokio::sync::watch;

use node::{Node, NodeError, Settled};
use plan::{Actual, Desired, Plan, Stage};

/// Volumes that settle at a time. LVM changes one group one at a time anyway; the rest of the work is waiting.
const WORKERS: usize = 6;
/// How often all volumes are looked at though nothing was heard: disks fail without saying so.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How soon a volume that a CSI call works on is looked at again.
const SOON: Duration = Duration::from_secs(1);
/// And one that can't go on by itself: without room, in use, being wiped.
const WAITING: Duration = Duration::from_secs(5);

/// Names of volumes whose replicas are to be settled. The node's listener adds to it.
pub type Volumes = Queue<String>;

/// Why a replica could not be brought to rest.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The API server.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The API server does not say whether the copy is to be made.
    #[error("can't ask whether volume {volume} wants a copy on this node")]
    Wanted {
        /// The volume.
        volume: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A step failed; the object's condition says so too.
    #[error("volume {volume}: {reason}")]
    Step {
        /// The volume.
        volume: String,
        /// Why.
        reason: String,
    },
}

/// What the loop needs.
pub struct Replicas {
    node: Arc<Node>,
    api: Api<LocalVolumeReplica>,
    store: Store<LocalVolumeReplica>,
    recorder: Recorder,
    gate: watch::Receiver<bool>,
}

/// What the loop gets from the daemon.
pub struct Surroundings {
    /// Name of the Kubernetes node.
    pub node_name: String,
    /// The API server.
    pub client: Client,
    /// What the watch of this node's replicas is folded into.
    pub store: Store<LocalVolumeReplica>,
    /// Volumes to be looked at; the node's listener adds to it.
    pub queue: Volumes,
    /// Whether this daemon holds the node's leases. While it does not, another may make and destroy volumes; this one only keeps
    /// usable what is there.
    pub gate: watch::Receiver<bool>,
    /// For events.
    pub recorder: Recorder,
}

/// Watches the replicas of this node and keeps them in order until shutdown. Returns at once.
pub fn run(node: Arc<Node>, around: Surroundings, watches: &Watches, shutdown: &Shutdown) {
    let Surroundings {
        node_name,
        client,
        store,
        queue,
        gate,
        recorder,
    } = around;
    let added = queue.clone();
    store.on_change(move |change| {
        if matches!((change.old, change.new), (Some(old), Some(new)) if is_same_wish(old, new)) {
            return;
        }
        for object in [change.old, change.new].into_iter().flatten() {
            added.add(object.spec.volume_name.clone());
        }
    });
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node_name}"));
    watches.watch_into(Api::all(client.clone()), config, store.clone());
    let replicas = Arc::new(Replicas {
        node,
        api: Api::all(client),
        store,
        recorder,
        gate,
    });
    shutdown.spawn(
        "rounds over volumes",
        rounds(replicas.clone(), queue.clone(), shutdown.clone()),
    );
    shutdown.spawn(
        "readings of volumes",
        readings(replicas.node.clone(), shutdown.clone()),
    );
    queue.run("replicas", WORKERS, shutdown, move |volume| {
        let replicas = replicas.clone();
        async move { replicas.reconcile(&volume).await }
    });
}

/// Whether only the status differs, which is our own doing; somebody else's is put right by the next of the [`rounds`].
fn is_same_wish(old: &LocalVolumeReplica, new: &LocalVolumeReplica) -> bool {
    let of = |replica: &LocalVolumeReplica| {
        let meta = &replica.metadata;
        (
            meta.uid.clone(),
            meta.deletion_timestamp.clone(),
            meta.finalizers.clone(),
            meta.annotations.clone(),
        )
    };
    old.spec == new.spec && of(old) == of(new)
}

/// Looks at all volumes once in a while: brings up those that are known by their tags, whether or not the API server answers, and
/// hands those that have something to do to the queue. One look for all of them.
async fn rounds(replicas: Arc<Replicas>, queue: Volumes, shutdown: Shutdown) {
    loop {
        if let Err(error) = replicas.round(&queue).await {
            tracing::warn!(error = %chain(&error), "cannot look at the volumes of this node");
        }
        tokio::select! {
            () = shutdown.stopping() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Reads a block of each volume once in a while: LVM knows that a disk is missing, but not that it fails. More often while one
/// does not read, since a pod waits for it.
async fn readings(node: Arc<Node>, shutdown: Shutdown) {
    loop {
        let pause = match node.read_all().await {
            Ok(true) => LOOK_AGAIN,
            Ok(false) => WAITING,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot look at the volumes of this node");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = shutdown.stopping() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Replicas {
    async fn round(&self, queue: &Volumes) -> Result<(), NodeError> {
        let all = self.store.list();
        let volumes = all.iter().map(|replica| replica.spec.volume_name.clone());
        let destroy = *self.gate.borrow();
        let steps = self
            .node
            .settle_orphans(&volumes.collect(), destroy)
            .await?;
        if steps > 0 {
            tracing::info!(steps, "brought up volumes known by their tags");
        }
        let names: BTreeSet<String> = all.iter().map(|replica| replica.name_any()).collect();
        let actual = self.node.look(&names).await?;
        for object in &all {
            let Some(desired) = status::desired(object) else {
                tracing::warn!(
                    replica = object.name_any(),
                    "the replica names no volume: left alone"
                );
                continue;
            };
            let plan = plan::replica(&desired, &actual);
            let now = Time(Timestamp::now());
            let wanted = status::status(object, &desired, &plan, &actual, None, &now);
            if !plan.steps.is_empty() || object.status.as_ref() != Some(&wanted) {
                queue.add(desired.volume);
            }
        }
        Ok(())
    }

    async fn reconcile(&self, volume: &str) -> Result<Action, ReplicaError> {
        match self.settle_all(volume).await {
            // Not a failure: the next look is on the object as it is by then, or there is none any more.
            Err(ReplicaError::Patch(error))
                if matches!(error.category(), Category::NotFound | Category::Conflict) =>
            {
                tracing::debug!(volume, error = %chain(&error), "changed by another meanwhile");
                Ok(Action::RequeueAfter(SOON))
            }
            other => other,
        }
    }

    /// Settles the volume's replicas, as far as it goes now.
    async fn settle_all(&self, volume: &str) -> Result<Action, ReplicaError> {
        if !*self.gate.borrow() {
            return Ok(Action::RequeueAfter(SOON));
        }
        let all = self.store.list();
        let names: BTreeSet<String> = all.iter().map(|replica| replica.name_any()).collect();
        let mut action = Action::Done;
        for object in all
            .iter()
            .filter(|replica| replica.spec.volume_name == volume)
        {
            if let Action::RequeueAfter(pause) = self.settle(object, &names).await? {
                action = Action::RequeueAfter(pause);
            }
        }
        Ok(action)
    }

    async fn settle(
        &self,
        object: &LocalVolumeReplica,
        names: &BTreeSet<String>,
    ) -> Result<Action, ReplicaError> {
        let Some(mut desired) = status::desired(object) else {
            return Ok(Action::Done);
        };
        let held = self.hold(object, &desired).await?;
        let object = held.as_ref().unwrap_or(object);
        let client = self.api.clone().into_client();
        let objection = wanted::objection(&client, object, &desired).await;
        let objection = objection.map_err(|source| ReplicaError::Wanted {
            volume: desired.volume.clone(),
            source,
        })?;
        if objection.is_some() {
            desired.unsupported = objection;
        }
        let (plan, actual, failure) = match self.node.settle(&desired, names).await? {
            Settled::Busy => return Ok(Action::RequeueAfter(SOON)),
            Settled::Rest { plan, actual } => (plan, actual, None),
            Settled::Failed {
                plan,
                actual,
                reason,
            } => (plan, actual, Some(reason)),
        };
        self.report(object, &desired, &plan, &actual, failure.as_deref())
            .await?;
        if plan.stage == Stage::Gone && failure.is_none() {
            self.release(object).await?;
        }
        match failure {
            Some(reason) => Err(ReplicaError::Step {
                volume: desired.volume,
                reason,
            }),
            None if plan.obstacle.is_some() => Ok(Action::RequeueAfter(WAITING)),
            None => Ok(Action::Done),
        }
    }

    /// Writes the status if it differs, and an event if the state does.
    async fn report(
        &self,
        object: &LocalVolumeReplica,
        desired: &Desired,
        plan: &Plan,
        actual: &Actual,
        failure: Option<&str>,
    ) -> Result<(), ReplicaError> {
        let now = Time(Timestamp::now());
        let wanted = status::status(object, desired, plan, actual, failure, &now);
        let before = object.status.clone().unwrap_or_default();
        if wanted == before {
            return Ok(());
        }
        patch::status(&self.api, object, &wanted).await?;
        if wanted.state != before.state {
            let message = wanted
                .conditions
                .iter()
                .find(|condition| !condition.message.is_empty())
                .map_or_else(String::new, |condition| condition.message.clone());
            tracing::info!(volume = desired.volume, replica = desired.replica, state = %wanted.state, message, "replica changed");
            let severity = if wanted.state == ReplicaState::NotReady {
                Severity::Warning
            } else {
                Severity::Normal
            };
            let sentence = if message.is_empty() {
                format!("volume {} is {}", desired.volume, wanted.state)
            } else {
                message
            };
            self.recorder
                .record(object, severity, wanted.state.as_str(), sentence);
        }
        Ok(())
    }

    /// Has the object stay until its data is gone. Those that HwameiStor wrote have no finalizer: asked to go, they would be gone before their node hears of
    /// it, and the data would stay for ever, its room taken. Returns the object if it was changed.
    async fn hold(
        &self,
        object: &LocalVolumeReplica,
        desired: &Desired,
    ) -> Result<Option<LocalVolumeReplica>, ReplicaError> {
        let going = desired.delete || object.metadata.deletion_timestamp.is_some();
        if is_held(object) || going || !desired.was_made {
            return Ok(None);
        }
        let written = patch::update(
            &self.api,
            &object.name_any(),
            None,
            |replica: &mut LocalVolumeReplica| {
                let going = replica.metadata.deletion_timestamp.is_some();
                if replica.metadata.uid == object.metadata.uid && !going {
                    patch::add_finalizer(replica, names::finalizers::REPLICA);
                }
            },
        )
        .await?;
        Ok(Some(written.into_inner()))
    }

    /// Lets the object go: nothing of it is left on this node.
    async fn release(&self, object: &LocalVolumeReplica) -> Result<(), ReplicaError> {
        if !is_held(object) {
            return Ok(());
        }
        patch::update(
            &self.api,
            &object.name_any(),
            None,
            |replica: &mut LocalVolumeReplica| {
                if replica.metadata.uid == object.metadata.uid && replica.spec.delete {
                    patch::remove_finalizer(replica, names::finalizers::REPLICA);
                }
            },
        )
        .await?;
        Ok(())
    }
}

fn is_held(replica: &LocalVolumeReplica) -> bool {
    replica
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == names::finalizers::REPLICA)
}
