//! Disks that go while they are claimed or carry a pool, a volume group of a pool's name that is half there, and a pool that is full. On disks of a
//! class that no other pool of the lab has, so that nothing else is touched; they are taken away in the end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::{
    ClaimPhase, DiskState, LocalDisk, LocalDiskClaim, LocalStorageNode, PoolStatus, names,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{NAME, PATIENCE, Stage, claim, claims, delete, pod, told};
use crate::kit::faults::{on, sh};
use crate::kit::{Pending, Scope, wait_for};
use crate::shelf::Kind;

/// Size of an extra disk.
const BYTES: u64 = 64 << 20;
/// Where the API server keeps events about cluster-wide objects.
const EVENTS: &str = "default";
/// Until the daemon has seen a disk go or come; it hears of it from the kernel.
const SOON: Duration = Duration::from_secs(60);

/// A disk that the scenario plugged in.
#[derive(Clone, Debug)]
struct Extra {
    /// The lab's name of it.
    name: String,
    /// Its `LocalDisk`.
    object: String,
    /// Its device when it was plugged in.
    device: String,
}

/// The extra disks of one node.
pub(super) struct Disks {
    scope: Scope,
    node: String,
    kind: Kind,
    disk_type: &'static str,
    pool: String,
    extra: Vec<Extra>,
}

impl Disks {
    pub(super) fn new(scope: &Scope, stage: &Stage) -> Self {
        let (kind, disk_type) = if stage.disk_type == "HDD" {
            (Kind::Ssd, "SSD")
        } else {
            (Kind::Hdd, "HDD")
        };
        Self {
            scope: scope.clone(),
            node: stage.handled.clone(),
            kind,
            disk_type,
            pool: format!("{}{disk_type}", names::pools::VG_PREFIX),
            extra: Vec::new(),
        }
    }

    /// The whole story, in order.
    pub(super) async fn story(&mut self) -> Result<String> {
        let pools = self.scope.pools().await?;
        ensure!(
            !pools.iter().any(|pool| pool.name == self.pool),
            "there is a pool {} already: this story needs disks of a class of their own",
            self.pool
        );
        // Long before its first pod: the webhook has to have heard of it.
        let class = class_name();
        self.scope.class(&class, self.disk_type, &[]).await?;
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
        Ok(format!("{lacks}; {full}"))
    }

    /// Plugs in a blank disk and waits until Hawser offers it.
    async fn plug(&mut self) -> Result<Extra> {
        let (node, kind) = (self.node.clone(), self.kind);
        let name = on(&self.scope.lab, move |lab| lab.add_disk(&node, BYTES, kind))
            .await?
            .name;
        // Known at once, so that it is taken away whatever comes.
        self.extra.push(Extra {
            name: name.clone(),
            object: String::new(),
            device: String::new(),
        });
        let device = self.device(&name).await?;
        let what = format!("a LocalDisk for {device} of {}", self.node);
        let disks: Api<LocalDisk> = self.scope.cluster();
        let object = wait_for(&what, SOON, || async {
            let list = disks.list(&ListParams::default()).await?.items;
            let found = list.into_iter().find(|disk| {
                disk.spec.node_name == self.node
                    && disk.spec.device_path == device
                    && disk.spec.state == DiskState::Active
            });
            Ok(match found {
                Some(disk) if !disk.spec.reserved && disk.spec.claim_ref.is_none() => {
                    Ok(disk.name_any())
                }
                Some(disk) => Err(Pending::because(format!("it is {:?}", disk.spec))),
                None => Err(Pending::because("there is none")),
            })
        })
        .await?;
        let extra = Extra {
            name,
            object,
            device,
        };
        if let Some(last) = self.extra.last_mut() {
            *last = extra.clone();
        }
        Ok(extra)
    }

    /// The present device of a disk.
    async fn device(&self, name: &str) -> Result<String> {
        let what = format!("the device of disk {name} on {}", self.node);
        wait_for(&what, SOON, || async {
            let node = self.node.clone();
            let all = on(&self.scope.lab, move |lab| lab.disk_devices(&node)).await?;
            let found = all.iter().find(|(known, _)| known == name);
            Ok(match found {
                Some((_, device)) if device != "-" && !device.is_empty() => {
                    Ok(format!("/dev/{device}"))
                }
                _ => Err(Pending::because(format!("there are {all:?}"))),
            })
        })
        .await
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
        told(&self.scope, EVENTS, &self.node, &words).await?;
        Ok(trouble)
    }

    /// The claim keeps its disk and says what is in the way; the disk stays blank.
    async fn claimed_for_half_a_pool(&self, fresh: &Extra, lacks: &str) -> Result<()> {
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        let description = json!({ "localDiskNames": [fresh.object] });
        claims::apply(&claims, &claim_name(), &self.node, &description).await?;
        self.until_claim(lacks).await?;
        let words = ["PoolNotExtended", lacks];
        told(&self.scope, EVENTS, &claim_name(), &words).await?;
        let found = sh(
            &self.scope.lab,
            &self.node,
            format!("wipefs --no-act {}", fresh.device),
        )
        .await?;
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
        told(&self.scope, EVENTS, &fresh.object, &["DiskGone", &given]).await?;
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
        told(&self.scope, EVENTS, &self.node, &words).await?;
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        let what = format!("claim {} to be consumed with {}", claim_name(), fresh.name);
        wait_for(&what, SOON, || async {
            Ok(match claims.get_opt(&claim_name()).await? {
                None => Ok(()),
                Some(left) => Err(Pending::because(format!("{:?}", left.status))),
            })
        })
        .await
    }

    /// What does not fit beside a volume is refused with the numbers; other nodes say what they lack.
    async fn full(&self) -> Result<String> {
        let class = class_name();
        claim(&self.scope, "first", &class, "ReadWriteOnce", "100Mi").await?;
        pod(&self.scope, "first", "first", json!({})).await?;
        self.scope.pod_ready("first", PATIENCE).await?;
        claim(&self.scope, "second", &class, "ReadWriteOnce", "100Mi").await?;
        pod(&self.scope, "second", "second", json!({})).await?;
        let said = told(
            &self.scope,
            NAME,
            "second",
            &[
                "FailedScheduling",
                &format!("pool {}: 1 volume needs 100.0 MiB", self.pool),
                "free of",
                &format!("no {} pool for claim {NAME}/second", self.disk_type),
            ],
        )
        .await?;
        let (pods, claims): (Api<Pod>, Api<PersistentVolumeClaim>) =
            (self.scope.api(), self.scope.api());
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
        let disks: Api<LocalDisk> = self.scope.cluster();
        for extra in self.extra.clone() {
            let there = self.devices().await?.contains(&extra.name);
            if there {
                let (node, name) = (self.node.clone(), extra.name.clone());
                on(&self.scope.lab, move |lab| lab.pull_disk(&node, &name)).await?;
            }
        }
        self.until_pool("to be gone", |pool, trouble| {
            pool.is_none() && trouble.is_empty()
        })
        .await?;
        for extra in self.extra.drain(..).filter(|e| !e.object.is_empty()) {
            until_state(&disks, &extra.object, DiskState::Inactive).await?;
            delete(&disks, &extra.object).await?;
        }
        Ok(())
    }

    async fn devices(&self) -> Result<Vec<String>> {
        let node = self.node.clone();
        let all = on(&self.scope.lab, move |lab| lab.disk_devices(&node)).await?;
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }

    async fn pull(&self, disk: &Extra) -> Result<()> {
        let (node, name) = (self.node.clone(), disk.name.clone());
        on(&self.scope.lab, move |lab| lab.pull_disk(&node, &name)).await?;
        until_state(&self.scope.cluster(), &disk.object, DiskState::Inactive).await?;
        told(&self.scope, EVENTS, &disk.object, &["DiskGone"])
            .await
            .map(drop)
    }

    async fn put_back(&self, disk: &Extra) -> Result<()> {
        let (node, name) = (self.node.clone(), disk.name.clone());
        on(&self.scope.lab, move |lab| lab.return_disk(&node, &name)).await?;
        until_state(&self.scope.cluster(), &disk.object, DiskState::Active).await?;
        told(&self.scope, EVENTS, &disk.object, &["DiskBack"])
            .await
            .map(drop)
    }

    /// Waits until the pool of the extra disks (none: not there) and what the node says of its trouble are as they should; returns the trouble.
    async fn until_pool(
        &self,
        what: &str,
        fits: impl Fn(Option<&PoolStatus>, &str) -> bool,
    ) -> Result<String> {
        let nodes: Api<LocalStorageNode> = self.scope.cluster();
        let what = format!("pool {} of {} {what}", self.pool, self.node);
        wait_for(&what, PATIENCE, || async {
            let status = nodes.get(&self.node).await?.status.unwrap_or_default();
            let bad = status.conditions.iter().find(|c| c.type_ == "UnAvailable");
            let trouble = bad.map(|c| c.message.clone()).unwrap_or_default();
            let pool = status.pools.get(&self.pool);
            Ok(if fits(pool, &trouble) {
                Ok(trouble)
            } else {
                Err(Pending::because(format!(
                    "it is {pool:?}, the node says {:?}",
                    status.conditions
                )))
            })
        })
        .await
    }

    /// Waits until the claim is bound and waits with this in its message.
    async fn until_claim(&self, part: &str) -> Result<()> {
        let claims: Api<LocalDiskClaim> = self.scope.cluster();
        let what = format!("claim {} to say {part:?}", claim_name());
        wait_for(&what, SOON, || async {
            let status = claims.get(&claim_name()).await?.status.unwrap_or_default();
            let fits = status.status == ClaimPhase::Bound && status.message.contains(part);
            Ok(if fits {
                Ok(())
            } else {
                Err(Pending::because(format!("its status is {status:?}")))
            })
        })
        .await
    }
}

fn class_name() -> String {
    format!("{NAME}-full")
}

fn claim_name() -> String {
    format!("{NAME}-extra")
}

async fn until_state(disks: &Api<LocalDisk>, name: &str, state: DiskState) -> Result<()> {
    let what = format!("LocalDisk {name} to be {state}");
    wait_for(&what, SOON, || async {
        let spec = disks.get(name).await?.spec;
        Ok(if spec.state == state {
            Ok(())
        } else {
            Err(Pending::because(format!("it is {spec:?}")))
        })
    })
    .await
}
