//! What scenarios on simulated nodes share: a namespace that is watched, pods with claims made many at once, waiting until all run, and the audit.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::lab::Sim;
use super::nodes::{self, Shape};
use super::witness::{Seen, Witness};
use super::{audit, up};
use crate::kit::{Pending, Scope, wait_for};

/// On a claim: the pod that it is for.
pub(super) const POD_LABEL: &str = "pod";
/// The class of all claims.
pub(crate) const CLASS: &str = "simulated-ssd";
/// Requests under way at once.
const AT_ONCE: usize = 32;
/// For volumes to go, with their claims.
const GOING: Duration = Duration::from_secs(300);

/// Pods to be made: a name, and the size of each of its claims.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) pod: String,
    pub(crate) sizes: Vec<String>,
}

impl Wish {
    /// Pods of one kind: `prefix-0`, `prefix-1` and so on.
    pub(crate) fn many(prefix: &str, count: usize, sizes: &[&str]) -> Vec<Self> {
        let sizes: Vec<String> = sizes.iter().map(|size| (*size).to_owned()).collect();
        let one = |index| Self {
            pod: format!("{prefix}-{index}"),
            sizes: sizes.clone(),
        };
        (0..count).map(one).collect()
    }

    fn claim_name(&self, index: usize) -> String {
        format!("{}-data-{index}", self.pod)
    }

    fn claims(&self) -> Vec<Value> {
        let claim = |(index, size): (usize, &String)| {
            json!({
                "metadata": { "name": self.claim_name(index), "labels": { POD_LABEL: self.pod } },
                "spec": {
                    "storageClassName": CLASS, "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": size } },
                },
            })
        };
        self.sizes.iter().enumerate().map(claim).collect()
    }

    fn pod(&self) -> Value {
        let volumes: Vec<Value> = (0..self.sizes.len())
            .map(|index| {
                let claim = json!({ "claimName": self.claim_name(index) });
                json!({ "name": format!("data-{index}"), "persistentVolumeClaim": claim })
            })
            .collect();
        json!({
            "metadata": { "name": self.pod },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{ "name": "app", "image": "none", "resources": { "requests": { "cpu": "50m" } } }],
                "volumes": volumes,
            },
        })
    }
}

/// A namespace on a lab with simulated nodes.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) scope: Scope,
    witness: Witness,
}

impl World {
    /// Makes the namespace and the class.
    pub(crate) async fn open(sim: &Sim, namespace: &str) -> Result<Self> {
        let scope = Scope::open(&sim.lab, namespace).await?;
        up::account_exists(&scope.client, namespace).await?;
        scope.class(CLASS, "SSD", &[]).await?;
        Ok(Self {
            sim: sim.clone(),
            witness: Witness::of(&scope),
            scope,
        })
    }

    /// Replaces all nodes by these.
    pub(crate) async fn nodes(&self, shapes: &[Shape]) -> Result<()> {
        nodes::remove_all(&self.scope.client).await?;
        nodes::create(&self.scope.client, shapes).await
    }

    /// Makes the claims, then the pods, many at once; returns when the first pod was asked for.
    pub(crate) async fn make(&self, wishes: &[Wish]) -> Result<Instant> {
        let claims = wishes.iter().flat_map(Wish::claims).collect();
        let pods = wishes.iter().map(Wish::pod).collect();
        self.create::<PersistentVolumeClaim>(claims).await?;
        let begin = Instant::now();
        self.create::<Pod>(pods).await?;
        Ok(begin)
    }

    /// Makes objects of a kind, many at once. One whose answer was lost is asked for again.
    pub(crate) async fn create<K>(&self, objects: Vec<Value>) -> Result<()>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = self.scope.api();
        let making = objects.into_iter().map(|object| {
            let api = api.clone();
            async move { create_one(&api, object).await }
        });
        stream::iter(making)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Looks at what was seen so far.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.witness.seen())
    }

    /// Waits until as many pods of the namespace run.
    pub(crate) async fn all_run(&self, count: usize, patience: Duration) -> Result<()> {
        let what = format!("{count} pods to run");
        wait_for(&what, patience, || async {
            Ok(self.seen(|seen| {
                let running = seen.running();
                if running >= count {
                    return Ok(());
                }
                let why = seen.why_waiting();
                Err(Pending::because(format!("{running} do; {why}")))
            }))
        })
        .await
    }

    /// Waits until what was seen is as `holds` wants it; `holds` says why it is not.
    pub(crate) async fn until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Seen) -> std::result::Result<(), String>,
    ) -> Result<()> {
        wait_for(what, patience, || async {
            Ok(self.seen(|seen| holds(seen).map_err(Pending::because)))
        })
        .await
    }

    /// Deletes the pods of these wishes that do not run, and makes them anew, as a controller of theirs would. How many.
    pub(crate) async fn replace_waiting(&self, wishes: &[Wish]) -> Result<usize> {
        let runs = |wish: &&Wish| {
            self.seen(|seen| {
                let pod = seen.pods.get(&wish.pod);
                pod.is_some_and(|pod| pod.running.is_some())
            })
        };
        let waiting: Vec<&Wish> = wishes.iter().filter(|wish| !runs(wish)).collect();
        let pods: Api<Pod> = self.scope.api();
        for wish in &waiting {
            pods.delete(&wish.pod, &DeleteParams::default().grace_period(0))
                .await
                .with_context(|| format!("deleting pod {}", wish.pod))?;
        }
        let again = waiting.iter().map(|wish| wish.pod()).collect();
        self.create::<Pod>(again).await?;
        Ok(waiting.len())
    }

    /// Fails if a pool is promised more than it has, a pod is not where its volumes are, or the nodes saw something of the kind.
    pub(crate) async fn sound(&self) -> Result<()> {
        let all = ListParams::default();
        let nodes = self.scope.cluster::<LocalStorageNode>().list(&all).await?;
        let replicas = self
            .scope
            .cluster::<LocalVolumeReplica>()
            .list(&all)
            .await?;
        let groups = self.scope.cluster::<LocalVolumeGroup>().list(&all).await?;
        let pods = self.scope.api::<Pod>().list(&all).await?;
        let claims = self.scope.api::<PersistentVolumeClaim>().list(&all).await?;
        let mut found = audit::over_committed(&nodes.items, &replicas.items, &groups.items);
        found.extend(audit::misplaced(
            &pods.items,
            &claims.items,
            &replicas.items,
        ));
        ensure!(found.is_empty(), "{}", found.join("\n"));
        self.sim.nothing_wrong()
    }

    /// Deletes the namespace, and waits until all volumes are gone.
    pub(crate) async fn close(self) -> Result<()> {
        self.scope.close().await?;
        let (volumes, persistent) = (
            self.scope.cluster::<LocalVolume>(),
            self.scope.cluster::<PersistentVolume>(),
        );
        wait_for("all volumes to go", GOING, || async {
            let few = ListParams::default().limit(5);
            let volumes = volumes.list(&few).await?.items;
            let persistent = persistent.list(&few).await?.items;
            let names: Vec<_> = volumes
                .iter()
                .map(|volume| volume.metadata.name.clone())
                .chain(persistent.iter().map(|volume| volume.metadata.name.clone()))
                .flatten()
                .collect();
            Ok(if names.is_empty() {
                Ok(())
            } else {
                Err(Pending::because(format!(
                    "there still is {}",
                    names.join(", ")
                )))
            })
        })
        .await
    }
}

/// For one object, while the API server is slow.
const STUBBORN: Duration = Duration::from_secs(180);

async fn create_one<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let object: K = serde_json::from_value(object).with_context(|| format!("object {name}"))?;
    let made: Result<()> = wait_for(&format!("{name} to be made"), STUBBORN, || async {
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(Ok(Ok(()))),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Ok(Ok(()))),
            // What is refused for what it is will be refused again.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                Ok(Ok(Err(kube::Error::Api(status).into())))
            }
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    made.with_context(|| format!("making {name}"))
}
