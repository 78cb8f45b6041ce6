//! The rounds of this daemon over disks, claims, pools and the node's objects.
//!
//! One task does them all, one after the other, so that nobody else changes volume groups meanwhile and each decision sees what
//! the one before it did. A round observes everything, plans, writes what differs, and is safe to repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::{
    DiskState, LocalDisk, LocalDiskClaim, LocalDiskNode, LocalStorageNode, LocalVolumeReplica,
};
use hawser_runtime::patch::{self, PatchError};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::store::Store;
use hawser_runtime::telemetry::chain;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, Client, ResourceExt};
use lvm2_cmd::{LvmError, Report};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::claim::keep::{Claims, ClaimsError, Picture, by_disk};
use crate::disk::events::{self, Events};
use crate::disk::object;
use crate::disk::scan::{Scan, ScanError, Scanner, Stale};
use crate::disk::upkeep::Upkeep;
use crate::pool::{extend, news, nodes, status, strays};

/// How long after the first sign of change a round begins: udev answers an event with several more.
const SETTLE: Duration = Duration::from_millis(200);
/// After a failed round; doubled with each further failure, up to [`LONGEST`].
const RETRY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Says that something about disks or volumes may have changed. Clones share one mark.
#[derive(Debug, Clone, Default)]
pub struct Changed(Arc<Notify>);

impl Changed {
    /// A round begins soon. Never blocks; many calls make one round.
    pub fn poke(&self) {
        self.0.notify_one();
    }
}

/// Whether this daemon may change things: it holds the node's leases.
pub type Gate = watch::Receiver<bool>;

/// Watched objects of this node.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// By `spec.nodeName`.
    pub disks: Store<LocalDisk>,
    /// By `spec.preNodeName`: disks that are gone name no node but this.
    pub former: Store<LocalDisk>,
    pub claims: Store<LocalDiskClaim>,
    pub storage: Store<LocalStorageNode>,
    pub disk_nodes: Store<LocalDiskNode>,
    /// Watched by who keeps the volumes.
    pub replicas: Store<LocalVolumeReplica>,
}

impl Objects {
    /// Objects of all disks that are on the node or were when they were last seen, in order of their names.
    fn all_disks(&self, node: &str) -> Vec<LocalDisk> {
        let (here, former) = (self.disks.list(), self.former.list());
        let away = former
            .iter()
            .filter(|o| o.spec.node_name.is_empty() && object::is_of_node(&o.spec, node));
        // An object that just went from one watch to the other may be in both; which of the two is older shows when it is written.
        let all: BTreeMap<String, &Arc<LocalDisk>> =
            away.chain(&here).map(|o| (o.name_any(), o)).collect();
        all.into_values().map(|o| (**o).clone()).collect()
    }
}

/// Does the rounds.
pub struct Keeper {
    pub node: String,
    pub client: Client,
    pub objects: Objects,
    pub scanner: Scanner,
    pub upkeep: Upkeep,
    pub claims: Claims,
    pub changed: Changed,
    pub gate: Gate,
    pub rescan: Duration,
    /// Doubts that were logged.
    pub doubts: Vec<String>,
    /// Physical volumes and sizes of their devices that LVM was made to take in.
    pub grown: BTreeSet<(String, u64)>,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    #[error("disks can't be found")]
    Scan(#[from] ScanError),
    #[error("LVM can't be read")]
    Lvm(#[from] LvmError),
    #[error("objects can't be written")]
    Patch(#[from] PatchError),
    #[error("claim {claim} can't be carried out")]
    Claim {
        claim: String,
        #[source]
        source: LvmError,
    },
    #[error("disk {} has grown, and its pool can't take that in", device.display())]
    Growth {
        device: PathBuf,
        #[source]
        source: LvmError,
    },
}

impl From<ClaimsError> for RoundError {
    fn from(error: ClaimsError) -> Self {
        match error {
            ClaimsError::Patch(error) => Self::Patch(error),
            ClaimsError::Step { claim, source } => Self::Claim { claim, source },
        }
    }
}

impl RoundError {
    /// Somebody else wrote at the same time: nothing to worry about.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Patch(error) if error.category() == hawser_runtime::error::Category::Conflict)
    }
}

fn pause(failures: u32) -> Duration {
    RETRY
        .saturating_mul(1 << failures.saturating_sub(1).min(8))
        .min(LONGEST)
}

/// All that can begin a round. Lives as long as the rounds, so that what changes during one begins the next.
struct Signs {
    events: Events,
    tick: tokio::time::Interval,
    changed: Changed,
    gate: Gate,
    disks: watch::Receiver<u64>,
    former: watch::Receiver<u64>,
    claims: watch::Receiver<u64>,
    storage: watch::Receiver<u64>,
    disk_nodes: watch::Receiver<u64>,
}

impl Signs {
    fn new(keeper: &Keeper, events: Events) -> Self {
        let mut tick = tokio::time::interval(keeper.rescan);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let objects = &keeper.objects;
        Self {
            events,
            tick,
            changed: keeper.changed.clone(),
            gate: keeper.gate.clone(),
            disks: objects.disks.changed(),
            former: objects.former.changed(),
            claims: objects.claims.changed(),
            storage: objects.storage.changed(),
            disk_nodes: objects.disk_nodes.changed(),
        }
    }

    /// Returns when a round is due, with what has to be read again in `stale`. Cancel safe.
    async fn wait(&mut self, stale: &mut Option<Stale>, retry: Option<Instant>) {
        let mut begin = retry;
        loop {
            let due = async {
                match begin {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => return,
                more = self.events.next() => events::join(stale, more),
                _ = self.tick.tick() => *stale = Some(Stale::All),
                () = self.changed.0.notified() => {}
                Ok(()) = self.disks.changed() => {}
                Ok(()) = self.former.changed() => {}
                Ok(()) = self.claims.changed() => {}
                Ok(()) = self.storage.changed() => {}
                Ok(()) = self.disk_nodes.changed() => {}
                Ok(()) = self.gate.changed() => *stale = Some(Stale::All),
            }
            let soon = Instant::now() + SETTLE;
            // The first sign counts, so that a busy node is looked at as often as a calm one.
            begin = Some(begin.map_or(soon, |at| at.min(soon)));
        }
    }
}

impl Keeper {
    /// Rounds until shutdown: at each sign of change, and periodically.
    pub async fn run(mut self, events: Events, shutdown: Shutdown) {
        let token = shutdown.token();
        let mut signs = Signs::new(&self, events);
        let mut stale = Some(Stale::All);
        let mut retry: Option<Instant> = None;
        let mut failures = 0;
        loop {
            let heard = token
                .run_until_cancelled(signs.wait(&mut stale, retry))
                .await;
            if heard.is_none() {
                return;
            }
            if !*self.gate.borrow() {
                retry = None;
                continue;
            }
            let looked = stale
                .take()
                .unwrap_or_else(|| Stale::Named(BTreeSet::new()));
            retry = match self.round(&looked).await {
                Ok(()) => {
                    failures = 0;
                    None
                }
                Err(error) if error.is_conflict() => {
                    tracing::debug!(error = %chain(&error), "written by another meanwhile, again");
                    stale = Some(looked);
                    Some(Instant::now() + SETTLE)
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "round not finished, trying again");
                    stale = Some(looked);
                    failures += 1;
                    Some(Instant::now() + pause(failures))
                }
            };
        }
    }

    /// One round: look, write, and say what is there.
    pub async fn round(&mut self, stale: &Stale) -> Result<(), RoundError> {
        let scan = self.scanner.scan(stale).await?;
        self.round_over(scan).await
    }

    /// The round over disks that were found.
    pub async fn round_over(&mut self, scan: Scan) -> Result<(), RoundError> {
        let (report, growth) = self.grow().await?;
        let objects = self.objects.all_disks(&self.node);
        let present = crate::disk::upkeep::plan(
            &self.node,
            &objects,
            &scan,
            &BTreeMap::new(),
            &BTreeSet::new(),
        )
        .present;
        let uses = extend::lvm_uses(&self.node, &report, &scan.disks, &by_disk(&present));
        let before: BTreeMap<String, DiskState> = objects
            .iter()
            .map(|o| (o.name_any(), o.spec.state.clone()))
            .collect();
        let kept = self.upkeep.run(objects, &scan, &uses).await?;
        self.tell_of_disks(&before, &kept.objects);
        self.say_doubts(&kept.doubts);
        let storage = match self.objects.storage.get(&self.node) {
            Some(found) => (*found).clone(),
            None => nodes::ensure_storage_node(&self.client, &self.node).await?,
        };
        let mut picture = Picture {
            kept,
            disks: scan.disks,
            uses,
            report,
            storage,
            changed: false,
        };
        let claims = self.objects.claims.list();
        let result = self.claims.run(&claims, &mut picture).await;
        if picture.changed && result.is_ok() {
            // Contents and links of the disks are other ones now. After a failure another round is due anyway, and not at once.
            self.changed.poke();
        }
        self.show(&picture).await?;
        result?;
        growth
    }

    /// Reads LVM; pools take in what their disks have grown by, each size of a disk once. The second result says whether all did.
    async fn grow(&mut self) -> Result<(Report, Result<(), RoundError>), LvmError> {
        let lvm = self.claims.lvm.clone();
        let report = lvm.report().await?;
        let due: Vec<(String, u64, PathBuf)> = extend::growable(&report)
            .into_iter()
            .filter(|(uuid, bytes, _)| !self.grown.contains(&(uuid.clone(), *bytes)))
            .collect();
        if due.is_empty() {
            return Ok((report, Ok(())));
        }
        let mut growth = Ok(());
        for (uuid, bytes, device) in due {
            match lvm.pv_resize(&device).await {
                Ok(()) => {
                    self.grown.insert((uuid, bytes));
                }
                Err(source) => growth = growth.and(Err(RoundError::Growth { device, source })),
            }
        }
        Ok((lvm.report().await?, growth))
    }

    /// Writes what the node's objects say.
    async fn show(&self, picture: &Picture) -> Result<(), PatchError> {
        let now = Time(Timestamp::now());
        let types = picture
            .kept
            .objects
            .iter()
            .filter_map(|object| {
                let disk = picture.kept.present.get(&object.name_any())?;
                let disk = picture.disks.iter().find(|d| d.name == *disk)?;
                let type_ = object.spec.disk_attributes.as_ref()?.type_.clone();
                Some((disk.number, type_))
            })
            .collect();
        let old = picture.storage.status.clone().unwrap_or_default();
        let wanted = status::storage(&old, &picture.report, &types, &now);
        let replicas = self.objects.replicas.list();
        let known = replicas.iter().map(|r| r.spec.volume_name.clone());
        let wanted = strays::told(wanted, &picture.report, &known.collect(), &now);
        let api: Api<LocalStorageNode> = Api::all(self.client.clone());
        let written = patch::status(&api, &picture.storage, &wanted).await?;
        if let Some(news) = news::of_storage(&old, &wanted) {
            self.tell(&written.into_inner(), news);
        }

        let disk_node = match self.objects.disk_nodes.get(&self.node) {
            Some(found) => (*found).clone(),
            None => nodes::ensure_disk_node(&self.client, &self.node).await?,
        };
        let old = disk_node.status.clone().unwrap_or_default();
        let wanted = status::disks(&old, &picture.kept.objects, &now);
        let api: Api<LocalDiskNode> = Api::all(self.client.clone());
        patch::status(&api, &disk_node, &wanted).await?;
        Ok(())
    }

    fn tell_of_disks(&self, before: &BTreeMap<String, DiskState>, objects: &[LocalDisk]) {
        for object in objects {
            let was = before.get(&object.name_any());
            if let Some(news) = was.and_then(|state| news::of_disk(state, object)) {
                self.tell(object, news);
            }
        }
    }

    fn tell<K: kube::Resource<DynamicType = ()>>(&self, object: &K, news: news::News) {
        let recorder = &self.claims.recorder;
        recorder.record(object, news.severity, news.reason, news.message);
    }

    fn say_doubts(&mut self, doubts: &[String]) {
        for doubt in doubts.iter().filter(|d| !self.doubts.contains(d)) {
            tracing::warn!(%doubt, "disk left alone");
        }
        self.doubts = doubts.to_vec();
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
