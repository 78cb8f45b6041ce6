//! Provisioner and node-daemon are killed (SIGKILL) again and again while volumes live their lives: made for a pod that writes, half of them as block
//! devices, grown under its writes, taken from the pod and given to another, deleted. Every acknowledged write must then be there, and in the end nothing
//! may be left: not in LVM, not in device-mapper, no mounts, no objects.
//!
//! Victims and moments come from a seed, which is printed; `HAWSER_SEED` repeats a run's choices (the cluster's own timing stays its own).

mod killer;
mod life;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::{LocalVolume, LocalVolumeExpand, LocalVolumeGroup, LocalVolumeReplica};
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Resource;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use crate::kit::objects::Pool;
use crate::kit::{Pending, Scope, cleanup, nodes, wait_for};
use crate::lab::Lab;
use killer::Killer;

/// The namespace and the class.
const NAME: &str = "crash";
/// Volumes that live at the least.
const VOLUMES: u64 = 40;
/// Volumes that live at the same time.
const AT_ONCE: u64 = 5;
/// Kills that must hit while volumes live; more volumes live until then.
const KILLS: u64 = 50;
/// Long, since every step may be interrupted several times, and a container that dies often is started again only after a pause.
const PATIENCE: Duration = Duration::from_secs(300);

/// What happened, counted.
#[derive(Default)]
struct Counts {
    /// Lives that were begun.
    begun: AtomicU64,
    kills: AtomicU64,
    /// Kills on a node whose daemon was making, zeroing, staging or wiping a volume.
    aimed: AtomicU64,
    missed: AtomicU64,
    created: AtomicU64,
    published: AtomicU64,
    expanded: AtomicU64,
    handed_over: AtomicU64,
    deleted: AtomicU64,
    acknowledged: AtomicU64,
    verified: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::SeqCst);
    }

    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }

    /// The number of the next life; none if enough volumes have lived and enough kills have hit.
    fn next(&self) -> Option<u64> {
        let enough = Self::get(&self.kills) >= KILLS;
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        (number < VOLUMES || !enough).then_some(number)
    }

    fn words(&self) -> String {
        format!(
            "{} kills, {} of them amid work on a volume ({} found no process); {} volumes created, {} published, {} expanded, {} handed over, {} deleted; \
             {} writes acknowledged, {} records verified",
            Self::get(&self.kills),
            Self::get(&self.aimed),
            Self::get(&self.missed),
            Self::get(&self.created),
            Self::get(&self.published),
            Self::get(&self.expanded),
            Self::get(&self.handed_over),
            Self::get(&self.deleted),
            Self::get(&self.acknowledged),
            Self::get(&self.verified),
        )
    }
}

/// Runs the test.
///
/// # Errors
/// If a volume does not get through its life or loses a write, or something is left at the end.
pub(crate) async fn run(lab: &Lab, seed: u64) -> Result<()> {
    println!("  seed {seed}");
    let scope = Scope::open(lab, NAME).await?;
    let pools = scope.ensure_pools().await?;
    let result = story(&scope, seed, &pools).await;
    cleanup::after(lab, NAME, result, async {
        scope.close().await?;
        scope.sweep_classes(NAME).await
    })
    .await
}

async fn story(scope: &Scope, seed: u64, pools: &[Pool]) -> Result<()> {
    let class = pools
        .first()
        .and_then(|pool| hawser_api::names::pools::class_of(&pool.name))
        .context("no pool has a class")?;
    let ext4 = [("csi.storage.k8s.io/fstype", "ext4")];
    scope.class(NAME, &class.to_string(), &ext4).await?;
    let counts = Arc::new(Counts::default());
    let lived = live(scope, seed, &counts).await;
    println!("  seed {seed}: {}", counts.words());
    lived?;
    let kills = Counts::get(&counts.kills);
    ensure!(
        kills >= KILLS,
        "only {kills} kills hit while the volumes lived"
    );
    ensure!(
        Counts::get(&counts.verified) >= Counts::get(&counts.acknowledged),
        "acknowledged writes were not verified"
    );
    nothing_left(scope, pools).await?;
    println!("  nothing left in LVM, device-mapper, mounts and objects");
    Ok(())
}

/// Lets volumes live while the killer is about. All workers end before the first failure is returned.
async fn live(scope: &Scope, seed: u64, counts: &Arc<Counts>) -> Result<()> {
    let done = Arc::new(AtomicBool::new(false));
    let killer = Killer::new(scope, seed, Arc::clone(counts), Arc::clone(&done))?;
    let killer = tokio::spawn(killer.run());
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| tokio::spawn(lives(scope.clone(), seed, Arc::clone(counts))))
        .collect();
    let mut results = Vec::new();
    for worker in workers {
        results.push(worker.await.context("a worker's task")?);
    }
    done.store(true, Ordering::SeqCst);
    killer.await.context("the killer's task")??;
    results.into_iter().collect()
}

/// One volume after the other.
async fn lives(scope: Scope, seed: u64, counts: Arc<Counts>) -> Result<()> {
    while let Some(number) = counts.next() {
        life::run(&scope, number, seed, &counts)
            .await
            .with_context(|| format!("volume {number}"))?;
    }
    Ok(())
}

/// Checks that nothing is left of any volume.
async fn nothing_left(scope: &Scope, before: &[Pool]) -> Result<()> {
    wait_for(
        "all objects to go, and the pools to be as before",
        PATIENCE,
        || async {
            let left = [
                all::<LocalVolume>(scope).await?,
                all::<LocalVolumeReplica>(scope).await?,
                all::<LocalVolumeGroup>(scope).await?,
                all::<LocalVolumeExpand>(scope).await?,
                all::<PersistentVolume>(scope).await?,
                all::<VolumeAttachment>(scope).await?,
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
async fn all<K>(scope: &Scope) -> Result<Vec<String>>
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_go_on_until_there_are_enough_of_them_and_of_kills() {
        let counts = Counts::default();
        for number in 0..VOLUMES + 3 {
            assert_eq!(counts.next(), Some(number), "without a kill");
        }
        Counts::add(&counts.kills, KILLS);
        assert_eq!(counts.next(), None);

        let counts = Counts::default();
        Counts::add(&counts.kills, KILLS);
        for number in 0..VOLUMES {
            assert_eq!(counts.next(), Some(number));
        }
        assert_eq!(counts.next(), None);
    }
}
