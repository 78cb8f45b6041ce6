//! Plays the kubelets: a pod that is bound to a simulated node, and whose volumes are there, runs; a deleted one goes. Keeps the nodes' leases.

use std::time::Duration;

use hawser_runtime::error::Category;
use hawser_runtime::index::Key;
use hawser_runtime::reconcile::{Action, Queue};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::store::Store;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::storage::Storage;
use super::wrong::Wrong;
use hawser_api::names;

/// How soon a pod whose volumes are not there yet is looked at again.
const SOON: Duration = Duration::from_millis(200);
const WORKERS: usize = 64;
/// Leases are renewed so often. The controller manager of simulated nodes waits for an hour, so that keeping them costs nothing that would be measured.
const RENEW: Duration = Duration::from_secs(600);

/// All kubelets.
#[derive(Clone)]
pub(super) struct Kubelets {
    client: Client,
    pub(super) nodes: Store<Node>,
    pub(super) pods: Store<Pod>,
    pub(super) claims: Store<PersistentVolumeClaim>,
    pub(super) volumes: Store<PersistentVolume>,
    storage: Storage,
    work: Queue<Key>,
    leases: Queue<String>,
    wrong: Wrong,
}

/// What is to be done about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Nothing,
    /// It was deleted.
    Remove,
    /// A claim is not bound yet, or the volume is not known.
    Wait,
    /// It runs.
    Run,
    /// This volume is not on the pod's node: it never runs there.
    Misplaced(String),
}

impl Kubelets {
    /// Kubelets that know nothing yet; the stores are to be filled by watches.
    pub(super) fn new(client: &Client, storage: &Storage, wrong: &Wrong) -> Self {
        let kubelets = Self {
            client: client.clone(),
            nodes: Store::new(),
            pods: Store::new(),
            claims: Store::new(),
            volumes: Store::new(),
            storage: storage.clone(),
            work: Queue::default(),
            leases: Queue::default(),
            wrong: wrong.clone(),
        };
        let work = kubelets.work.clone();
        kubelets.pods.on_change(move |change| {
            if change.new.is_some_and(|pod| node_of(pod).is_some()) {
                work.add(change.key.clone());
            }
        });
        let leases = kubelets.leases.clone();
        kubelets.nodes.on_change(move |change| {
            if change.old.is_none() {
                leases.add(change.key.name.clone());
            }
        });
        kubelets
    }

    /// Works until shutdown. The stores have to be filled.
    pub(super) fn start(&self, shutdown: &Shutdown) {
        let this = self.clone();
        self.work.run("pods", WORKERS, shutdown, move |key| {
            let this = this.clone();
            async move { calm(this.pod(&key).await) }
        });
        let this = self.clone();
        self.leases.run("leases", WORKERS, shutdown, move |node| {
            let this = this.clone();
            async move { calm(this.lease(&node).await) }
        });
    }

    async fn pod(&self, key: &Key) -> Result<Action, kube::Error> {
        let Some(pod) = self.pods.get_key(key) else {
            return Ok(Action::Done);
        };
        let api: Api<Pod> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        match self.next(&pod) {
            Next::Nothing => {}
            Next::Wait => return Ok(Action::RequeueAfter(SOON)),
            Next::Misplaced(volume) => {
                let node = node_of(&pod).unwrap_or_default();
                self.wrong.note(&format!(
                    "{node}: pod {key} is here, its volume {volume} is not"
                ));
                return Ok(Action::RequeueAfter(SOON));
            }
            Next::Remove => {
                let now = DeleteParams::default()
                    .grace_period(0)
                    .preconditions(Preconditions {
                        uid: pod.uid(),
                        resource_version: None,
                    });
                api.delete(&key.name, &now).await?;
            }
            Next::Run => {
                let running = Patch::Strategic(json!({ "status": running() }));
                api.patch_status(&key.name, &PatchParams::default(), &running)
                    .await?;
            }
        }
        Ok(Action::Done)
    }

    fn next(&self, pod: &Pod) -> Next {
        let node = node_of(pod).unwrap_or_default();
        if self.nodes.get(node).is_none() {
            return Next::Nothing;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return Next::Remove;
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if !matches!(phase, None | Some("Pending")) {
            return Next::Nothing;
        }
        let namespace = pod.namespace().unwrap_or_default();
        for claim in claims_of(pod) {
            let bound = self
                .claims
                .get_in(&namespace, &claim)
                .and_then(|claim| claim.spec.as_ref()?.volume_name.clone());
            let Some(volume) = bound.and_then(|name| self.volumes.get(&name)) else {
                return Next::Wait;
            };
            let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            let ours = csi.filter(|csi| csi.driver == names::LVM_DRIVER);
            let missing = ours.filter(|csi| !self.storage.has(node, &csi.volume_handle));
            if let Some(csi) = missing {
                return Next::Misplaced(csi.volume_handle.clone());
            }
        }
        Next::Run
    }

    async fn lease(&self, node: &str) -> Result<Action, kube::Error> {
        let Some(object) = self.nodes.get(node) else {
            return Ok(Action::Done);
        };
        let api: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": node, "ownerReferences": [
                { "apiVersion": "v1", "kind": "Node", "name": node, "uid": object.uid() }
            ]},
            "spec": { "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": MicroTime(Timestamp::now()) },
        });
        api.patch(
            node,
            &PatchParams::apply("hawser-lab-kubelet").force(),
            &Patch::Apply(&lease),
        )
        .await?;
        Ok(Action::RequeueAfter(RENEW))
    }
}

fn calm(result: Result<Action, kube::Error>) -> Result<Action, kube::Error> {
    match result {
        // Gone, or another one of the same name by now: the watch tells.
        Err(error)
            if matches!(
                Category::of_kube(&error),
                Category::NotFound | Category::Conflict
            ) =>
        {
            Ok(Action::Done)
        }
        other => other,
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

/// Names of the claims that the pod uses, those of its generic ephemeral volumes included.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let named = volume.persistent_volume_claim.as_ref();
            let made = volume.ephemeral.as_ref();
            named
                .map(|claim| claim.claim_name.clone())
                .or_else(|| made.map(|_| format!("{}-{}", pod.name_any(), volume.name)))
        })
        .collect()
}

/// The status of a pod whose containers run.
fn running() -> serde_json::Value {
    let now = Timestamp::now();
    let condition =
        |type_: &str| json!({ "type": type_, "status": "True", "lastTransitionTime": now });
    json!({
        "phase": "Running",
        "startTime": now,
        "conditions": [condition("Initialized"), condition("ContainersReady"), condition("Ready")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_templates_are_named_after_pod_and_volume() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "db-0" },
            "spec": { "containers": [], "volumes": [
                { "name": "a", "persistentVolumeClaim": { "claimName": "data" } },
                { "name": "b", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } },
                { "name": "c", "emptyDir": {} },
            ]}
        }))
        .unwrap();
        assert_eq!(claims_of(&pod), ["data", "db-0-b"]);
    }

    #[test]
    fn a_pod_without_a_node_is_nobodys() {
        let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [] } })).unwrap();
        assert_eq!(node_of(&pod), None);
    }
}
