//! Disks as they come, change and break: what is new on a node shows at once; a disk that can't be read is given to nobody; each keeps its name when a
//! reboot renames it, and beside another of the same serial number. On disks of the scenario's own, in a pool that no other scenario has.

mod fresh;
mod names;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hawser_api::{ClaimPhase, DiskState, LocalDisk, LocalDiskClaim};
use kube::{Api, ResourceExt};

use crate::kit::disks::{Bay, Plugged, Spare, is_free};
use crate::kit::faults::{on, sh};
use crate::kit::objects::Pool;
use crate::kit::volumes::delete;
use crate::kit::{Pending, Scope, cleanup, wait_for};
use crate::lab::Lab;
use fresh::Fresh;

const NAME: &str = "disks";
/// The one claim for disks; those that did their work are gone before the next.
const CLAIM: &str = "disks-claim";
/// Size of a disk, bytes.
const BYTES: u64 = 64 << 20;
/// Size of the disk with another's serial number: a mix-up would show.
const TWIN: u64 = 96 << 20;
/// A logical volume that somebody makes by hand.
const BY_HAND: &str = "by-hand";
const BY_HAND_BYTES: i64 = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(120);
const READY: Duration = Duration::from_secs(180);

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
        fresh: Fresh::default(),
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
    fresh: Fresh,
}

impl Stage {
    async fn story(&mut self) -> Result<()> {
        let one = self.plug().await.context("a first disk")?;
        self.a_free_disk_fails(&one)
            .await
            .context("a disk that nobody has fails")?;
        let two = self.plug().await.context("a second disk")?;
        self.a_pool_disk_fails(&two)
            .await
            .context("a pool's disk fails")?;
        self.changes_show().await.context("changes by hand")?;
        println!("  fresh: {}", self.fresh.judge()?);
        let twin = self
            .a_twin(&one)
            .await
            .context("a disk with another's serial number")?;
        self.names_outlast_a_reboot()
            .await
            .context("a reboot that renames the disks")?;
        self.the_twin_is_no_other(&one, &twin)
            .await
            .context("the disk with another's serial number is given to the pool")
    }

    /// Plugs in a blank disk, and takes the time until it is offered.
    async fn plug(&mut self) -> Result<Plugged> {
        let disk = self.bay.plug(BYTES, self.spare.kind).await?;
        let start = Instant::now();
        self.bay.offered(&disk).await?;
        self.fresh.note("disk plugged in", start.elapsed());
        Ok(disk)
    }

    /// A free disk that can't be read is given to nobody, and is free again once it can.
    async fn a_free_disk_fails(&self, disk: &Plugged) -> Result<()> {
        let object = self.bay.offered(disk).await?;
        let (name, device) = (object.name_any(), self.bay.device(disk).await?);
        self.bay.fail(disk).await?;
        self.claim(&name).await?;
        // A daemon that has looked at the disk since it fails does not bind it; one that has not finds out before it writes.
        let waits = |phase: &ClaimPhase| matches!(phase, ClaimPhase::Pending | ClaimPhase::Bound);
        let status = self
            .scope
            .until_disk_claim(CLAIM, "to say that the disk can't be had", |status| {
                waits(&status.status) && status.message.contains(&device)
            })
            .await?;
        self.no_pool_yet().await?;
        delete(&self.scope.cluster::<LocalDiskClaim>(), CLAIM).await?;
        self.bay.fix(disk).await?;
        let free = self
            .scope
            .until_disk(&name, "free again", is_free)
            .await
            .context("the disk can be read again")?;
        let owner = &free.spec.owner;
        ensure!(
            owner != hawser_api::names::owners::SYSTEM,
            "{name} belongs to {owner:?} since it once could not be read"
        );
        let left = sh(&self.scope.lab, &self.node, wipefs(&device)).await?;
        ensure!(left.trim().is_empty(), "{device} was written to: {left}");
        println!("  a free disk that fails: {}", status.message);
        self.bay.give(CLAIM, &[&free]).await
    }

    async fn claim(&self, disk: &str) -> Result<()> {
        self.scope
            .claim_disks_named(CLAIM, &self.node, &[disk.to_owned()])
            .await
    }

    async fn no_pool_yet(&self) -> Result<()> {
        let pools = self.scope.pools().await?;
        let made = pools.iter().find(|pool| pool.name == self.pool);
        ensure!(made.is_none(), "a disk that fails became {made:?}");
        Ok(())
    }

    /// A blank disk of a pool that can't be read stays the pool's, and the pool is whole again once it can.
    async fn a_pool_disk_fails(&self, disk: &Plugged) -> Result<()> {
        let object = self.bay.offered(disk).await?;
        let name = object.name_any();
        self.bay.give(CLAIM, &[&object]).await?;
        self.pool_has("two disks", 2).await?;
        let given = self.given(&name).await?;
        self.bay.fail(disk).await?;
        let lacks = format!(
            "volume group {} lacks the disk of physical volume",
            self.pool
        );
        let trouble = self
            .scope
            .until_pool(&self.node, &self.pool, "to lack a disk", |pool, trouble| {
                trouble.contains(&lacks) && pool.is_some_and(|pool| pool.free_capacity_bytes == 0)
            })
            .await?;
        self.claim(&name).await?;
        let status = self
            .scope
            .until_disk_claim(CLAIM, "to wait for a disk that a pool has", |status| {
                status.status == ClaimPhase::Pending && status.message.contains(&name)
            })
            .await?;
        ensure!(
            self.given(&name).await? == given,
            "{name} is given to {:?}; it was to {given:?}",
            self.given(&name).await?
        );
        delete(&self.scope.cluster::<LocalDiskClaim>(), CLAIM).await?;
        self.bay.fix(disk).await?;
        self.pool_has("two disks again", 2).await?;
        ensure!(
            self.given(&name).await? == given,
            "{name} changed hands while it failed"
        );
        println!("  a pool's disk that fails: {trouble}; {}", status.message);
        Ok(())
    }

    /// Waits until the pool is in order, empty, and has so many disks.
    async fn pool_has(&self, what: &str, disks: usize) -> Result<()> {
        self.scope
            .until_pool(
                &self.node,
                &self.pool,
                &format!("to have {what}"),
                |pool, trouble| {
                    trouble.is_empty()
                        && pool.is_some_and(|pool| {
                            pool.disks.len() == disks
                                && pool.free_capacity_bytes == pool.total_capacity_bytes
                        })
                },
            )
            .await
            .map(drop)
    }

    /// The uid of the claim that a disk is given to. Free disks have none, which is an error.
    async fn given(&self, name: &str) -> Result<String> {
        let disks: Api<LocalDisk> = self.scope.cluster();
        let disk = disks.get(name).await?;
        let claim = disk.spec.claim_ref.and_then(|claim| claim.uid);
        claim.with_context(|| format!("{name} is in a pool and given to no claim"))
    }

    /// What is made and removed by hand, past Hawser, and a disk that is pulled, show at once.
    async fn changes_show(&mut self) -> Result<()> {
        let (lab, node) = (self.scope.lab.clone(), self.node.clone());
        let before = self.scope.free_of(&self.node, &self.pool).await?;
        for _ in 0..2 {
            sh(&lab, &node, lvcreate(&self.pool)).await?;
            let start = Instant::now();
            self.until_free(before - BY_HAND_BYTES).await?;
            self.fresh
                .note("logical volume made by hand", start.elapsed());
            sh(&lab, &node, lvremove(&self.pool)).await?;
            let start = Instant::now();
            self.until_free(before).await?;
            self.fresh
                .note("logical volume removed by hand", start.elapsed());
        }
        let third = self.plug().await?;
        let name = self.bay.offered(&third).await?.name_any();
        self.bay.pull(&third).await?;
        let start = Instant::now();
        let gone = |disk: &LocalDisk| disk.spec.state == DiskState::Inactive;
        self.scope.until_disk(&name, "inactive", gone).await?;
        self.fresh.note("disk pulled", start.elapsed());
        Ok(())
    }

    async fn until_free(&self, bytes: i64) -> Result<()> {
        let what = format!("{bytes} bytes to be free in {}", self.pool);
        wait_for(&what, PATIENCE, || async {
            let free = self.scope.free_of(&self.node, &self.pool).await?;
            Ok(if free == bytes {
                Ok(())
            } else {
                Err(Pending::because(format!("{free} are")))
            })
        })
        .await
    }

    /// Gives everything back; the node is switched on if the reboot failed.
    async fn clean(&mut self, pools: &[Pool]) -> Result<()> {
        let node = self.node.clone();
        on(&self.scope.lab, move |lab| {
            let process = lab.state()?.node(&node)?.process.clone();
            if !process.is_some_and(|process| process.is_alive()) {
                lab.boot(&node)?;
            }
            lab.wait_ready(&node, READY)
        })
        .await?;
        delete(&self.scope.cluster::<LocalDiskClaim>(), CLAIM).await?;
        let left = format!(
            "! lvs {pool}/{BY_HAND} >/dev/null 2>&1 || {}",
            lvremove(&self.pool),
            pool = self.pool
        );
        sh(&self.scope.lab, &self.node, left).await?;
        self.bay.away().await?;
        self.scope.until_pools(pools, PATIENCE).await?;
        self.scope.close().await
    }
}

fn lvcreate(pool: &str) -> String {
    format!("lvcreate -q -q -y -W n -n {BY_HAND} -L {BY_HAND_BYTES}b {pool}")
}

fn lvremove(pool: &str) -> String {
    format!("lvremove -q -q -y {pool}/{BY_HAND}")
}

/// Lists the signatures on a device; changes nothing.
fn wipefs(device: &str) -> String {
    format!("wipefs --no-act {device}")
}
