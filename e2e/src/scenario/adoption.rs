//! Taking over a node from HwameiStor. While no daemon runs there, the scenario leaves what its daemon left: a volume group of a pool's name, in it a logical
//! volume without tags, mounted directly, its pod writing; and the objects that describe it. Then Hawser's daemon starts. The pod writes on; the volume
//! grows, or says why it can't; a new pod gets it through Hawser with every byte; and when its claim is deleted, nothing of it is left.

mod before;
mod objects;
mod scripts;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hawser_api::{
    LocalVolume, LocalVolumeGroup, LocalVolumeReplica, ReplicaState, VolumeState, names,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::kit::disks::{Bay, Spare};
use crate::kit::faults::sh;
use crate::kit::objects::Pool;
use crate::kit::pods::node_of;
use crate::kit::volumes::{Mode, Use, remove};
use crate::kit::writer::{Writer, Written};
use crate::kit::{Pending, Scope, cleanup, nodes, wait_for};
use crate::lab::Lab;
use objects::{MIB, Old};

/// The namespace, the class, the claim, and the pod that gets the volume through Hawser.
const NAME: &str = "adoption";
/// The pod that has the volume from before.
const OLD_POD: &str = "adoption-old";
const PATIENCE: Duration = Duration::from_secs(180);
/// Size of each of the pool's two disks, bytes.
const DISK: u64 = 384 << 20;
/// Sizes of the volume, MiB: as it was, as it is to be, and what is asked if that is refused while it is mounted from before.
const SIZE: i64 = 64;
const GROWN: i64 = 512;
const ASKED_AGAIN: i64 = 516;
/// Bytes that the volume holds from before: nearly all that fit.
const HELD: u64 = 44 << 20;
/// Bytes that only fit into what it has grown by.
const MORE: u64 = 16 << 20;
/// Where the node has it mounted, and pods.
const FOLDER: &str = "/run/hawser-adoption";
const DATA: &str = "/data";
const RECORDS: u64 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the scenario on the lab's last node.
///
/// # Errors
/// What does not hold.
pub(super) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, NAME).await?;
    let pools = scope.ensure_pools().await?;
    let node = lab.nodes()?.pop().context("the lab has no node")?;
    let spare = Spare::beside(&pools)?;
    let mut stage = Stage {
        bay: Bay::open(&scope, &node).await?,
        pool: spare.pool(),
        spare,
        node,
        scope,
    };
    let result = stage.story().await;
    cleanup::after(lab, NAME, result, stage.clean(&pools)).await
}

struct Stage {
    scope: Scope,
    node: String,
    bay: Bay,
    spare: Spare,
    pool: String,
}

/// Files of the volume and their checksums.
type Sums = Vec<(&'static str, String)>;

impl Stage {
    async fn story(&mut self) -> Result<()> {
        self.daemon(false).await.context("stopping the daemon")?;
        let (old, held) = self.as_left().await.context("what HwameiStor left")?;
        let mut writer = self.old_pod(&old).await?;
        self.daemon(true).await.context("starting the daemon")?;
        self.adopted(&old).await.context("the volume is adopted")?;
        let before = writer.so_far();
        writer.reached(before + RECORDS).await?;
        println!(
            "  adopted while mounted: {}, {} writes acknowledged",
            old.volume,
            writer.so_far()
        );
        let mut sums = vec![("held", held)];
        let grown = self
            .grows_where_it_is(&old)
            .await
            .context("growing while it is mounted from before")?;
        let before = writer.so_far();
        writer.reached(before + RECORDS).await?;
        match &grown {
            Growth::Done(sum) => sums.push(("more", sum.clone())),
            Growth::Refused(said) => println!("  not grown while mounted from before: {said}"),
        }
        self.unchanged(OLD_POD, &sums, None).await?;
        let written = self.let_go(writer).await?;
        self.through_hawser(&old, &grown, sums, &written)
            .await
            .context("mounted through Hawser")?;
        self.deleted(&old).await.context("deleting the claim")
    }

    /// The pool and the volume are known, the volume carries Hawser's tags, and no second copy is asked for.
    async fn adopted(&self, old: &Old) -> Result<()> {
        self.scope
            .until_pool(&self.node, &self.pool, "to be adopted", |pool, trouble| {
                trouble.is_empty()
                    && pool.is_some_and(|pool| {
                        pool.disks.len() == 2 && pool.volumes == [old.volume.clone()]
                    })
            })
            .await?;
        let replicas: Api<LocalVolumeReplica> = self.scope.cluster();
        let volumes: Api<LocalVolume> = self.scope.cluster();
        let what = format!("volume {} to be ready and in use", old.volume);
        wait_for(&what, PATIENCE, || async {
            let tags = self.tags(old).await?;
            let replica = replicas.get(&old.replica_name()).await?;
            let status = replica.status.unwrap_or_default();
            let volume = volumes.get(&old.volume).await?.status.unwrap_or_default();
            let ours = format!("{}{}", names::tags::VOLUME, old.volume);
            let ready = status.state == ReplicaState::Ready && status.in_use;
            Ok(
                if tags.contains(&ours) && ready && volume.state == VolumeState::Ready {
                    Ok(())
                } else {
                    Err(Pending::because(format!(
                        "its tags are {tags:?}, its copy {status:?}, itself {volume:?}"
                    )))
                },
            )
        })
        .await?;
        let of_volume = ListParams::default().fields(&format!("spec.volumeName={}", old.volume));
        let copies = replicas.list(&of_volume).await?.items;
        ensure!(
            copies.len() == 1,
            "there are {} copies of {}",
            copies.len(),
            old.volume
        );
        Ok(())
    }

    async fn tags(&self, old: &Old) -> Result<String> {
        let script = format!("lvs --noheadings -o lv_tags {}/{}", self.pool, old.volume);
        sh(&self.scope.lab, &self.node, script).await
    }

    /// Asks for more while the volume is mounted from before. Either it grows, and what the pod then writes into the new part at once must stay; or it is
    /// refused with a sentence at the claim.
    async fn grows_where_it_is(&self, old: &Old) -> Result<Growth> {
        let script = scripts::grow(&format!("/dev/{}/{}", self.pool, old.volume));
        self.scope.ask(NAME, &format!("{GROWN}Mi")).await?;
        let claims: Api<PersistentVolumeClaim> = self.scope.api();
        let refused = self
            .scope
            .told(&claims, NAME, &["VolumeResizeFailed"], PATIENCE);
        let grown = sh(&self.scope.lab, &self.node, script);
        tokio::pin!(grown);
        tokio::select! {
            sum = &mut grown => match sum? {
                // It waited in vain.
                sum if sum.is_empty() => bail!("the volume neither grows nor says why it can't"),
                sum => Ok(Growth::Done(sum)),
            },
            said = refused => {
                let said = said?;
                let stop = format!("touch {FOLDER}.stop");
                sh(&self.scope.lab, &self.node, stop).await?;
                match grown.await? {
                    sum if sum.is_empty() => Ok(Growth::Refused(said)),
                    sum => Ok(Growth::Done(sum)),
                }
            }
        }
    }

    /// What the volume holds is as it was, read from the disk in a pod.
    async fn unchanged(&self, pod: &str, sums: &Sums, written: Option<&Written>) -> Result<()> {
        let drop_caches = "sync; echo 3 > /proc/sys/vm/drop_caches";
        sh(&self.scope.lab, &self.node, drop_caches).await?;
        for (file, sum) in sums {
            let script = format!("sha256sum < {DATA}/{file}");
            let read = self.scope.exec(pod, &script, PATIENCE).await?;
            ensure!(read == *sum, "{file} of {pod} is {read}, it was {sum}");
        }
        if let Some(written) = written {
            written.verify(&self.scope, pod).await?;
        }
        Ok(())
    }

    /// Ends the old pod and its mount.
    async fn let_go(&self, writer: Writer) -> Result<Written> {
        let written = writer.stop();
        remove(&self.scope.api::<Pod>(), OLD_POD, PATIENCE).await?;
        wait_for("the mount from before to end", PATIENCE, || async {
            let ended = sh(&self.scope.lab, &self.node, format!("umount {FOLDER}")).await;
            Ok(ended
                .map(drop)
                .map_err(|error| Pending::because(format!("{error:#}"))))
        })
        .await?;
        Ok(written)
    }

    /// A pod gets the volume through its claim, with the size that was asked for and everything in it.
    async fn through_hawser(
        &self,
        old: &Old,
        grown: &Growth,
        mut sums: Sums,
        written: &Written,
    ) -> Result<()> {
        let uses = [Use {
            claim: NAME,
            at: DATA,
            mode: Mode::Filesystem,
            read_only: false,
        }];
        self.scope.pod(NAME, &uses, json!({})).await?;
        let node = node_of(&self.scope.pod_ready(NAME, PATIENCE).await?);
        ensure!(
            node == self.node,
            "the pod is on {node}, the volume on {}",
            self.node
        );
        self.unchanged(NAME, &sums, Some(written)).await?;
        let size = match grown {
            Growth::Done(_) => GROWN,
            Growth::Refused(_) => {
                self.scope.ask(NAME, &format!("{ASKED_AGAIN}Mi")).await?;
                ASKED_AGAIN
            }
        };
        self.scope
            .until_has(NAME, &format!("{size}Mi"), PATIENCE)
            .await?;
        let script = format!(
            "head -c {} /dev/urandom > {DATA}/new && sync && sha256sum < {DATA}/new",
            SIZE * MIB
        );
        let sum = self
            .scope
            .exec(NAME, &script, PATIENCE)
            .await
            .context("writing as much as the whole volume had before it grew")?;
        sums.push(("new", sum));
        self.unchanged(NAME, &sums, Some(written)).await?;
        println!(
            "  {} through Hawser: {size} MiB, {} acknowledged writes and {} files as they were",
            old.volume,
            written.acknowledged,
            sums.len()
        );
        Ok(())
    }

    /// The claim's end is the volume's: no object, no logical volume, every byte of the pool free.
    async fn deleted(&self, old: &Old) -> Result<()> {
        remove(&self.scope.api::<Pod>(), NAME, PATIENCE).await?;
        remove(&self.scope.api::<PersistentVolumeClaim>(), NAME, PATIENCE).await?;
        gone(&self.scope.cluster::<PersistentVolume>(), &old.volume).await?;
        gone(&self.scope.cluster::<LocalVolume>(), &old.volume).await?;
        gone(
            &self.scope.cluster::<LocalVolumeReplica>(),
            &old.replica_name(),
        )
        .await?;
        gone(&self.scope.cluster::<LocalVolumeGroup>(), &old.group()).await?;
        self.scope
            .until_pool(&self.node, &self.pool, "to be empty", |pool, _| {
                pool.is_some_and(|pool| {
                    pool.volumes.is_empty() && pool.free_capacity_bytes == pool.total_capacity_bytes
                })
            })
            .await
            .context("its objects are gone")?;
        println!("  deleted: no object, no logical volume, every byte free");
        Ok(())
    }

    /// Gives everything back, from wherever the story ended.
    async fn clean(&mut self, pools: &[Pool]) -> Result<()> {
        self.daemon(true).await?;
        self.scope.close().await?;
        let unmount = format!(
            "touch {FOLDER}.stop; ! mountpoint -q {FOLDER} || umount -l {FOLDER}; rm -rf {FOLDER} {FOLDER}.stop"
        );
        sh(&self.scope.lab, &self.node, unmount).await?;
        let volumes: Api<LocalVolume> = self.scope.cluster();
        for volume in volumes.list(&ListParams::default()).await? {
            if volume.spec.pool_name == self.pool {
                let name = volume.name_any();
                let patch = json!({ "spec": { "delete": true } });
                volumes
                    .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await?;
                gone(&volumes, &name).await?;
            }
        }
        let replicas: Api<LocalVolumeReplica> = self.scope.cluster();
        for replica in replicas.list(&ListParams::default()).await? {
            if replica.spec.pool_name == self.pool {
                remove(&replicas, &replica.name_any(), PATIENCE).await?;
            }
        }
        // Whatever nobody knows any more.
        let rest = format!(
            "for lv in $(lvs --noheadings -o lv_name {pool} 2>/dev/null); do lvremove -q -q -y {pool}/$lv || exit 1; done",
            pool = self.pool
        );
        sh(&self.scope.lab, &self.node, rest).await?;
        self.bay.away().await?;
        self.scope.sweep_classes(NAME).await?;
        self.scope.until_pools(pools, PATIENCE).await?;
        nodes::no_volumes(&self.scope.lab)
    }
}

/// What came of the wish to grow.
enum Growth {
    /// It grew; the checksum of what was written into the new part at once.
    Done(String),
    /// It was refused, in these words.
    Refused(String),
}

async fn gone<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let what = format!("{} {name} to go", K::kind(&()));
    wait_for(&what, PATIENCE, || async {
        Ok(match api.get_opt(name).await? {
            None => Ok(()),
            Some(left) => Err(Pending::because(format!("{left:?}"))),
        })
    })
    .await
}
