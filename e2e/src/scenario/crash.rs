//! Provisioner and node-daemon are killed (SIGKILL) again and again while volumes live their lives. In the end nothing may be left: not in LVM, not in
//! device-mapper, no mounts, no objects.
//!
//! Victims and moments come from a seed, which is printed; `HAWSER_SEED` repeats a run's choices (the cluster's own timing stays its own).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::{LocalVolume, LocalVolumeExpand, LocalVolumeGroup, LocalVolumeReplica};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::kit::{Pending, Scope, nodes, wait_for};
use crate::lab::Lab;

const VOLUMES: u64 = 40;
/// Volumes that live at the same time.
const AT_ONCE: u64 = 5;
const KILLS: u64 = 50;
/// Long, since every step may be interrupted several times, and a container that dies often is started again only after a pause.
const PATIENCE: Duration = Duration::from_secs(300);

/// What happened, counted.
#[derive(Default)]
struct Counts {
    kills: AtomicU64,
    missed: AtomicU64,
    created: AtomicU64,
    published: AtomicU64,
    expanded: AtomicU64,
    deleted: AtomicU64,
}

/// Runs the test.
///
/// # Errors
/// If a volume does not get through its life, or something is left at the end.
pub(crate) async fn run(lab: &Lab, seed: u64) -> Result<()> {
    println!("  seed {seed}");
    let scope = Scope::open(lab, "crash").await?;
    let pools = scope.ensure_pools().await?;
    let class = pools
        .first()
        .and_then(|pool| hawser_api::names::pools::class_of(&pool.name))
        .context("no pool has a class")?;
    scope
        .class(
            "crash",
            &class.to_string(),
            &[("csi.storage.k8s.io/fstype", "ext4")],
        )
        .await?;
    let counts = Arc::new(Counts::default());
    let done = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn(kill(
        lab.clone(),
        seed,
        Arc::clone(&counts),
        Arc::clone(&done),
    ));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|worker| tokio::spawn(lives(scope.clone(), worker, Arc::clone(&counts))))
        .collect();
    let mut results = Vec::new();
    for worker in workers {
        results.push(worker.await.context("a worker's task")?);
    }
    done.store(true, Ordering::SeqCst);
    killer.await.context("the killer's task")??;
    results.into_iter().collect::<Result<Vec<()>>>()?;
    let kills = counts.kills.load(Ordering::SeqCst);
    println!(
        "  {kills} kills ({} found no process), {} volumes created, {} published, {} expanded, {} deleted",
        counts.missed.load(Ordering::SeqCst),
        counts.created.load(Ordering::SeqCst),
        counts.published.load(Ordering::SeqCst),
        counts.expanded.load(Ordering::SeqCst),
        counts.deleted.load(Ordering::SeqCst),
    );
    ensure!(
        kills >= KILLS,
        "only {kills} kills hit while the volumes lived"
    );
    nothing_left(&scope, &pools).await?;
    println!("  nothing left in LVM, device-mapper, mounts and objects");
    scope.close().await
}

/// Kills until all volumes are through and enough kills have hit.
async fn kill(lab: Lab, seed: u64, counts: Arc<Counts>, done: Arc<AtomicBool>) -> Result<()> {
    let mut random = SplitMix(seed);
    let nodes = lab.nodes()?;
    while !done.load(Ordering::SeqCst) {
        let node = nodes[random.below(nodes.len())].clone();
        let program = if random.below(2) == 0 {
            "provisioner"
        } else {
            "node-daemon"
        };
        let pause = Duration::from_millis(300 + random.next() % 2700);
        let lab = lab.clone();
        let hit = tokio::task::spawn_blocking(move || {
            lab.sh(&node, &format!("pkill -9 -x {program}"))
                .map(|output| output.status == 0)
        })
        .await??;
        if hit {
            counts.kills.fetch_add(1, Ordering::SeqCst);
        } else {
            counts.missed.fetch_add(1, Ordering::SeqCst);
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// One volume after the other: created for a pod, published, grown, deleted.
async fn lives(scope: Scope, worker: u64, counts: Arc<Counts>) -> Result<()> {
    let mut index = worker;
    while index < VOLUMES {
        let name = format!("v{index}");
        life(&scope, &name, &counts)
            .await
            .with_context(|| format!("volume {name}"))?;
        index += AT_ONCE;
    }
    Ok(())
}

async fn life(scope: &Scope, name: &str, counts: &Counts) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = scope.api();
    let pods: Api<Pod> = scope.api();
    Scope::apply(&claims, name, claim(scope, name)).await?;
    Scope::apply(&pods, name, pod(scope, name)).await?;
    wait_for(&format!("claim {name} to be bound"), PATIENCE, || async {
        let volume = claims
            .get(name)
            .await?
            .spec
            .and_then(|spec| spec.volume_name);
        Ok(match volume {
            Some(_) => Ok(()),
            None => Err(Pending::because(scope.last_event(name).await?)),
        })
    })
    .await?;
    counts.created.fetch_add(1, Ordering::SeqCst);
    scope.pod_ready(name, PATIENCE).await?;
    counts.published.fetch_add(1, Ordering::SeqCst);
    let larger = json!({ "spec": { "resources": { "requests": { "storage": "192Mi" } } } });
    claims
        .patch(name, &PatchParams::default(), &Patch::Merge(&larger))
        .await?;
    wait_for(&format!("claim {name} to grow"), PATIENCE, || async {
        let capacity = claims
            .get(name)
            .await?
            .status
            .and_then(|status| status.capacity);
        let capacity = capacity.and_then(|capacity| capacity.get("storage").cloned());
        Ok(match capacity {
            Some(quantity) if quantity.0 == "192Mi" => Ok(()),
            other => Err(Pending::because(format!(
                "{other:?}; {}",
                scope.last_event(name).await?
            ))),
        })
    })
    .await?;
    counts.expanded.fetch_add(1, Ordering::SeqCst);
    let volume = scope.volume_of(name).await?;
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await?;
    claims.delete(name, &DeleteParams::default()).await?;
    gone::<PersistentVolume>(scope, &volume).await?;
    counts.deleted.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn gone<K>(scope: &Scope, name: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = scope.cluster();
    wait_for(
        &format!("{} {name} to go", K::kind(&())),
        PATIENCE,
        || async {
            Ok(match api.get_opt(name).await? {
                None => Ok(()),
                Some(_) => Err(Pending::because(scope.last_event(name).await?)),
            })
        },
    )
    .await
}

/// Checks that nothing is left of any volume.
async fn nothing_left(scope: &Scope, before: &[crate::kit::objects::Pool]) -> Result<()> {
    wait_for(
        "all objects to go, and the pools to be as before",
        PATIENCE,
        || async {
            let left = [
                count::<LocalVolume>(scope).await?,
                count::<LocalVolumeReplica>(scope).await?,
                count::<LocalVolumeGroup>(scope).await?,
                count::<LocalVolumeExpand>(scope).await?,
                count::<PersistentVolume>(scope).await?,
                count::<VolumeAttachment>(scope).await?,
            ]
            .concat();
            let pools = scope.pools().await?;
            Ok(if !left.is_empty() {
                Err(Pending::because(left.join(", ")))
            } else if pools != before {
                Err(Pending::because(format!("{pools:?} instead of {before:?}")))
            } else {
                Ok(())
            })
        },
    )
    .await?;
    nodes::no_volumes(&scope.lab)
}

/// The names of all objects of a kind, as `Kind name`.
async fn count<K>(scope: &Scope) -> Result<Vec<String>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let list = scope.cluster::<K>().list(&ListParams::default()).await?;
    Ok(list
        .into_iter()
        .map(|object| {
            format!(
                "{} {}",
                K::kind(&()),
                object.meta().name.clone().unwrap_or_default()
            )
        })
        .collect())
}

fn claim(scope: &Scope, name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": scope.namespace },
        "spec": {
            "storageClassName": "crash",
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "128Mi" } },
        },
    })
}

fn pod(scope: &Scope, name: &str) -> serde_json::Value {
    let (image, tag) = crate::image::base::BUSYBOX;
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": scope.namespace },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": format!("{image}:{tag}"),
                "imagePullPolicy": "Never",
                "command": ["sleep", "2147483647"],
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": name } }],
        },
    })
}

/// A small random source (Steele, Lea and Flood's SplitMix64): the same seed gives the same choices.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices() {
        let choices = |seed| {
            let mut random = SplitMix(seed);
            (0..20).map(|_| random.below(3)).collect::<Vec<_>>()
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
        assert!(choices(3).iter().all(|choice| *choice < 3));
    }
}
