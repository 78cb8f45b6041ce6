//! Disks that go while they are claimed or carry a pool, a volume group of a pool's name that is half there, and a pool that is full. On disks of a
//! class that no other pool of the lab has, so that nothing else is touched; they are taken away in the end.

use anyhow::{Context, Result, ensure};
use hawser_api::{ClaimPhase, DiskState, LocalDisk, LocalDiskClaim, LocalStorageNode, PoolStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{NAME, PATIENCE, Stage, claim, pod};
use crate::kit::Scope;
use crate::kit::disks::{Bay, Plugged, Spare};
use crate::kit::faults::sh;
use crate::kit::volumes::delete;

/// Size of an extra disk.
const BYTES: u64 = 64 << 20;
/// An owner that Hawser knows nothing of.
const STRANGER: &str = "tape-robot";

/// A disk that the scenario plugged in.
#[derive(Clone, Debug)]
struct Extra {
    disk: Plugged,
    /// Its `LocalDisk`.
    object: String,
    /// Its device when it was plugged in.
    device: String,
}

/// The extra disks of one node.
pub(super) struct Disks {
    scope: Scope,
    node: String,
    bay: Bay,
    spare: Spare,
    pool: String,
}

impl Disks {
    pub(super) async fn open(scope: &Scope, stage: &Stage) -> Result<Self> {
        Ok(Self {
            scope: scope.clone(),
            node: stage.handled.clone(),
            bay: Bay::open(scope, &stage.handled).await?,
            spare: stage.spare,
            pool: stage.spare.pool(),
        })
    }

    /// The whole story, in order.
    pub(super) async fn story(&mut self) -> Result<String> {
        // Long before its first pod: the webhook has to have heard of it.
        let class = class_name();
        self.scope.class(&class, self.spare.disk_type, &[]).await?;
        let whole = self.plug().await.context("a first disk")?;
        let half = self.plug().await.context("a second disk")?;
        self.made_by_hand(&whole, &half)
            .await
            .context("a volume group made by hand is adopted")?;
        let lacks = self
            .half_is_pulled(&half)
            .await
            .context("one of the pool's disks is pulled")?;
        let fresh = self.plug().await.context("a third disk")?;
        let owned = self
            .anothers_disk(&fresh)
            .await
            .context("a disk that is for somebody else is claimed")?;
        self.claimed_for_half_a_pool(&fresh, &lacks)
            .await
            .context("a disk is claimed for a pool that is half there")?;
        self.claimed_disk_goes_and_comes(&fresh, &lacks)
            .await
            .context("the claimed disk is pulled")?;
        self.all_is_back(&half, &fresh, &lacks)
            .await
            .context("the pool's disk is put back")?;
        let full = self.full().await.context("the pool is full")?;
        Ok(format!("{owned}; {lacks}; {full}"))
    }

    /// Plugs in a blank disk and waits until Hawser offers it.
    async fn plug(&mut self) -> Result<Extra> {
        let disk = self.bay.plug(BYTES, self.spare.kind).await?;
        Ok(Extra {
            object: self.bay.offered(&disk).await?.name_any(),
            device: self.bay.device(&disk).await?,
            disk,
        })
    }

    async fn made_by_hand(&self, one: &Extra, other: &Extra) -> Result<()> {
        let script = format!(
            "vgcreate --yes {} {} {}",
            self.pool, one.device, other.device
        );
        sh(&self.scope.lab, &self.node, script).await?;
        self.until_pool("to be adopted with both disks", |pool, trouble| {
            trouble.is_empty() && pool.is_some_and(|pool| pool.disks.len() == 2)
        })
        .await
        .map(drop)
    }

    /// A pool that lacks a disk has no room and says why; the disk's object says that it is gone.
    async fn half_is_pulled(&self, half: &Extra) -> Result<String> {
        self.pull(half).await?;
        let lacks = format!(
            "volume group {} lacks the disk of physical volume",
            self.pool
        );
        let trouble = self
            .until_pool("to say that it lacks a disk", |pool, trouble| {
                trouble.contains(&lacks)
                    && pool.is_some_and(|pool| {
                        pool.free_capacity_bytes == 0 && pool.total_capacity_bytes > 0
                    })
            })
            .await?;
        // The whole sentence, with the physical volume's UUID: events of an earlier run don't count.
        let words = ["StorageUnAvailable", &trouble];
        self.node_told(&words).await?;
        Ok(trouble)
    }

    /// A disk whose owner was set to a stranger is not given to pools; it is once the owner is taken back.
    async fn anothers_disk(&self, fresh: &Extra) -> Result<String> {
        self.set_owner(fresh, STRANGER).await?;
        self.claim(fresh).await?;
        let words = format!("is for owner {STRANGER}, not local-storage");
        let status = self
            .scope
            .until_disk_claim(&claim_name(), "to name the owner", |status| {
                status.status == ClaimPhase::Pending && status.message.contains(&words)
            })
            .await?;
        self.claim_told(&["NoDisk", &words]).await?;
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        delete(&claims, &claim_name()).await?;
        self.set_owner(fresh, "").await?;
        Ok(status.message)
    }

    async fn set_owner(&self, fresh: &Extra, owner: &str) -> Result<()> {
        let disks: Api<LocalDisk> = self.scope.cluster();
        let patch = json!({ "spec": { "owner": owner } });
        disks
            .patch(
                &fresh.object,
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await?;
        Ok(())
    }

    async fn claim(&self, fresh: &Extra) -> Result<()> {
        let names = [fresh.object.clone()];
        self.scope
            .claim_disks_named(&claim_name(), &self.node, &names)
            .await
    }

    async fn claim_told(&self, words: &[&str]) -> Result<String> {
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        self.scope
            .told(&claims, &claim_name(), words, PATIENCE)
            .await
    }

    async fn disk_told(&self, disk: &Extra, words: &[&str]) -> Result<String> {
        let disks: Api<LocalDisk> = self.scope.cluster();
        self.scope.told(&disks, &disk.object, words, PATIENCE).await
    }

    async fn node_told(&self, words: &[&str]) -> Result<String> {
        let nodes: Api<LocalStorageNode> = self.scope.cluster();
        self.scope.told(&nodes, &self.node, words, PATIENCE).await
    }

    /// The claim keeps its disk and says what is in the way; the disk stays blank.
    async fn claimed_for_half_a_pool(&self, fresh: &Extra, lacks: &str) -> Result<()> {
        self.claim(fresh).await?;
        self.until_claim(lacks).await?;
        self.claim_told(&["PoolNotExtended", lacks]).await?;
        let script = format!("wipefs --no-act {}", fresh.device);
        let found = sh(&self.scope.lab, &self.node, script).await?;
        ensure!(
            found.trim().is_empty(),
            "{} was written to: {found}",
            fresh.device
        );
        Ok(())
    }

    async fn claimed_disk_goes_and_comes(&self, fresh: &Extra, lacks: &str) -> Result<()> {
        self.pull(fresh).await?;
        self.until_claim("is not there now; put it back").await?;
        let given = format!("it was given to claim {}", claim_name());
        self.disk_told(fresh, &["DiskGone", &given]).await?;
        self.put_back(fresh).await?;
        self.until_claim(lacks).await
    }

    /// Everything goes on by itself: the pool is whole, and the claim's disk joins it.
    async fn all_is_back(&self, half: &Extra, fresh: &Extra, lacks: &str) -> Result<()> {
        self.put_back(half).await?;
        self.until_pool("to have all three disks", |pool, trouble| {
            trouble.is_empty()
                && pool.is_some_and(|pool| {
                    pool.disks.len() == 3 && pool.free_capacity_bytes == pool.total_capacity_bytes
                })
        })
        .await?;
        let after = format!("in order again, after: {lacks}");
        let words = ["StorageAvailable", after.as_str()];
        self.node_told(&words).await?;
        let joined = self.bay.consumed(&claim_name()).await;
        joined.with_context(|| format!("with {}", fresh.disk.name))
    }

    /// What does not fit beside a volume is refused with the numbers; other nodes say what they lack.
    async fn full(&self) -> Result<String> {
        let class = class_name();
        claim(&self.scope, "first", &class, "ReadWriteOnce", "100Mi").await?;
        pod(&self.scope, "first", "first", json!({})).await?;
        self.scope.pod_ready("first", PATIENCE).await?;
        claim(&self.scope, "second", &class, "ReadWriteOnce", "100Mi").await?;
        pod(&self.scope, "second", "second", json!({})).await?;
        let (pods, claims): (Api<Pod>, Api<PersistentVolumeClaim>) =
            (self.scope.api(), self.scope.api());
        let class = self.spare.disk_type.to_lowercase();
        let (full, none) = (
            format!("{class} pool: "),
            format!("no {class} pool for claim {NAME}/second"),
        );
        let words = ["FailedScheduling", &full, " free, needs 100", &none];
        let said = self.scope.told(&pods, "second", &words, PATIENCE).await?;
        for name in ["second", "first"] {
            delete(&pods, name).await?;
            delete(&claims, name).await?;
        }
        self.until_pool("to be empty again", |pool, _| {
            pool.is_some_and(|pool| pool.free_capacity_bytes == pool.total_capacity_bytes)
        })
        .await?;
        Ok(said)
    }

    /// Takes the extra disks away with all that speaks of them. Repeatable; does what it can, and says what it can't.
    pub(super) async fn away(&mut self) -> Result<()> {
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        delete(&claims, &claim_name()).await?;
        self.bay.away().await?;
        self.until_pool("to be gone", |pool, trouble| {
            pool.is_none() && trouble.is_empty()
        })
        .await
        .map(drop)
    }

    async fn pull(&self, disk: &Extra) -> Result<()> {
        self.bay.pull(&disk.disk).await?;
        self.until_state(disk, DiskState::Inactive).await?;
        self.disk_told(disk, &["DiskGone"]).await.map(drop)
    }

    async fn put_back(&self, disk: &Extra) -> Result<()> {
        self.bay.put_back(&disk.disk).await?;
        self.until_state(disk, DiskState::Active).await?;
        self.disk_told(disk, &["DiskBack"]).await.map(drop)
    }

    async fn until_state(&self, disk: &Extra, state: DiskState) -> Result<()> {
        let what = state.to_string();
        let fits = |disk: &LocalDisk| disk.spec.state == state;
        self.scope
            .until_disk(&disk.object, &what, fits)
            .await
            .map(drop)
    }

    /// Waits until the pool of the extra disks (none: not there) and what the node says of its trouble are as they should; returns the trouble.
    async fn until_pool(
        &self,
        what: &str,
        fits: impl Fn(Option<&PoolStatus>, &str) -> bool,
    ) -> Result<String> {
        self.scope
            .until_pool(&self.node, &self.pool, what, fits)
            .await
    }

    /// Waits until the claim is bound and waits with this in its message.
    async fn until_claim(&self, part: &str) -> Result<()> {
        let what = format!("to say {part:?}");
        self.scope
            .until_disk_claim(&claim_name(), &what, |status| {
                status.status == ClaimPhase::Bound && status.message.contains(part)
            })
            .await
            .map(drop)
    }
}

fn class_name() -> String {
    format!("{NAME}-full")
}

fn claim_name() -> String {
    format!("{NAME}-extra")
}
