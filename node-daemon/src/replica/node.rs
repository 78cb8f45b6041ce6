//! A node's volumes: looking at them, carrying out steps, and going on until there are none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hawser_runtime::telemetry::chain;
use lvm2_cmd::Refusal;
use tokio::sync::Mutex;

use super::effects::{EffectError, Fronts, LogicalVolumes, Wipe};
use super::jobs::{Jobs, Kind, Listener, Subject};
use super::locks::Locks;
use super::plan::{self, Actual, Desired, Plan, Step};
use super::readings::Readings;
use super::tags::{Change, Tags};
use crate::mount::{Device, Filesystems, MountError, Mounts};

/// Creating takes 2 rounds, growing 3, and one more finds nothing to do. More means that somebody works against us.
const MOST_ROUNDS: usize = 8;

/// What changes volumes. Clones share.
#[derive(Clone)]
pub struct Effects {
    /// Logical volumes.
    pub lvs: Arc<dyn LogicalVolumes>,
    /// Front devices.
    pub fronts: Arc<dyn Fronts>,
    /// Destroying data.
    pub wipe: Arc<dyn Wipe>,
}

/// Why a volume can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Looking or changing failed.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// The mount table can't be read, or mounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// This node has no such volume.
    #[error("volume {volume} is not on this node")]
    NotFound {
        /// The volume.
        volume: String,
    },
    /// It is there and can't be used now.
    #[error("{0}")]
    Unusable(String),
    /// Steps do not lead to an end.
    #[error(
        "volume {volume} does not come to rest: after {MOST_ROUNDS} rounds there is still {left} to do"
    )]
    Restless {
        /// The volume.
        volume: String,
        /// Steps that are left.
        left: String,
    },
}

/// How far a replica came.
#[derive(Debug)]
pub enum Settled {
    /// There is nothing to do now.
    Rest {
        /// Without steps.
        plan: Plan,
        /// What it was made from.
        actual: Actual,
    },
    /// A step failed.
    Failed {
        /// With the step.
        plan: Plan,
        /// What it was made from.
        actual: Actual,
        /// Why.
        reason: String,
    },
    /// Somebody else works on the volume.
    Busy,
}

/// What a step that did not fail did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// What it is for; the steps after it can rely on it.
    Done,
    /// Nothing, since things are not as they were seen: no step that was planned with it may follow.
    LookAgain,
}

/// A volume that can be used.
#[derive(Debug, Clone)]
pub struct Usable {
    /// Its group.
    pub vg: String,
    /// What to mount or to publish: the front device; for a volume that the generation before Hawser has mounted, the logical volume.
    pub device: Device,
    /// Size of that device, bytes.
    pub bytes: u64,
    /// What its tags say.
    pub tags: Tags,
    /// Its tags as they are.
    present: Vec<String>,
    /// LVM's identity of it.
    pub uuid: String,
}

/// This node.
pub struct Node {
    /// What changes volumes.
    pub effects: Effects,
    /// Mounts.
    pub mounts: Arc<dyn Mounts>,
    /// What devices hold.
    pub filesystems: Arc<dyn Filesystems>,
    /// One operation per volume.
    pub locks: Locks,
    /// Work in the background.
    pub jobs: Jobs,
    /// Which devices read.
    readings: Readings,
    /// Called with a volume's name when something about it may have changed.
    pub listener: Listener,
    looks: AtomicU64,
    /// The last look and its number. Held over the look itself: those who ask meanwhile share the next one.
    last: Mutex<Option<(u64, Arc<Actual>)>>,
}

impl Node {
    /// A node of these parts.
    pub fn new(
        effects: Effects,
        mounts: Arc<dyn Mounts>,
        filesystems: Arc<dyn Filesystems>,
        listener: Listener,
    ) -> Self {
        Self {
            jobs: Jobs::new(effects.clone(), listener.clone()),
            readings: Readings::new(filesystems.clone(), listener.clone()),
            effects,
            mounts,
            filesystems,
            locks: Locks::default(),
            listener,
            looks: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// What is there, as of now or later. Whoever asks while a look is under way shares the next one: a hundred volumes that
    /// settle at once do not cost a hundred reports.
    pub async fn observe(&self) -> Result<Arc<Actual>, NodeError> {
        let asked = self.looks.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if let Some((number, actual)) = last.as_ref()
            && *number > asked
        {
            return Ok(actual.clone());
        }
        // From here on, who asks gets a later number than this look and will not share it.
        let number = self.looks.fetch_add(1, Ordering::AcqRel) + 1;
        let (report, fronts, mounts) = tokio::join!(
            self.effects.lvs.report(),
            self.effects.fronts.list(),
            self.mounts.host_table()
        );
        let (report, fronts, mounts) = (report?, fronts?, mounts?);
        let actual = Arc::new(Actual {
            report,
            fronts: fronts
                .into_iter()
                .map(|front| (front.volume.clone(), front))
                .collect(),
            mounts,
            ..Actual::default()
        });
        *last = Some((number, actual.clone()));
        Ok(actual)
    }

    /// Reads a block of each volume that is exposed, for [`Actual::unreadable`]. Whether all that answered did well.
    pub async fn read_all(&self) -> Result<bool, NodeError> {
        let actual = self.observe().await?;
        self.readings.ask(plan::exposed_devices(&actual)).await;
        Ok(self.readings.failed().is_empty())
    }

    /// As [`Node::observe`], with the jobs, the replicas that the API knows, and which devices read.
    pub async fn look(&self, replicas: &BTreeSet<String>) -> Result<Actual, NodeError> {
        let jobs = self.jobs.snapshot();
        let actual = self.observe().await?;
        Ok(Actual {
            jobs,
            replicas: replicas.clone(),
            unreadable: self.readings.failed(),
            ..(*actual).clone()
        })
    }

    /// Carries out one step.
    pub async fn apply(&self, step: &Step) -> Result<Applied, EffectError> {
        let Effects { lvs, fronts, wipe } = &self.effects;
        let done = match step {
            Step::Create(create) => match lvs.create(create).await {
                // Somebody was faster, and whose it is has to be seen before anything is done to it.
                Err(EffectError::Lvm(error)) if error.is(Refusal::Exists) => {
                    return Ok(Applied::LookAgain);
                }
                result => result,
            },
            Step::Retag { vg, lv, change } => lvs.retag(vg, lv, &change.add, &change.delete).await,
            Step::Activate { vg, lv } => lvs.activate(vg, lv).await,
            Step::Zero(zero) => wipe.zero(zero).await,
            Step::Extend { vg, lv, extents } => lvs.extend(vg, lv, *extents).await,
            Step::CreateFront {
                volume,
                lower,
                bytes,
            } => fronts.create(volume, lower, *bytes).await,
            Step::ReloadFront {
                volume,
                lower,
                bytes,
            } => fronts.reload(volume, lower, *bytes).await,
            Step::ResumeFront { volume } => fronts.resume(volume).await,
            Step::RemoveFront { volume } => fronts.remove(volume).await,
            Step::Wipe { vg, lv, uuid } => {
                self.start(Kind::Wipe, vg, lv, uuid);
                Ok(())
            }
            Step::Clean { vg, lv, uuid } => {
                self.start(Kind::Clean, vg, lv, uuid);
                Ok(())
            }
        };
        done.map(|()| Applied::Done)
    }

    fn start(&self, kind: Kind, vg: &str, lv: &str, uuid: &str) {
        self.jobs.start(
            kind,
            Subject {
                vg: vg.to_owned(),
                lv: lv.to_owned(),
                uuid: uuid.to_owned(),
            },
        );
    }

    /// Brings one replica to what is wanted, as far as it goes now. A volume that somebody else works on is only looked at.
    pub async fn settle(
        &self,
        desired: &Desired,
        replicas: &BTreeSet<String>,
    ) -> Result<Settled, NodeError> {
        let guard = self.locks.for_upkeep(&desired.volume);
        let mut left = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let actual = self.look(replicas).await?;
            let plan = plan::replica(desired, &actual);
            if plan.steps.is_empty() {
                return Ok(Settled::Rest { plan, actual });
            }
            if guard.is_none() {
                return Ok(Settled::Busy);
            }
            for step in &plan.steps {
                tracing::debug!(volume = desired.volume, ?step, "step");
                match self.apply(step).await {
                    Ok(Applied::Done) => {}
                    Ok(Applied::LookAgain) => break,
                    Err(error) => {
                        let reason = chain(&error).to_string();
                        return Ok(Settled::Failed {
                            plan,
                            actual,
                            reason,
                        });
                    }
                }
            }
            left = plan.steps;
        }
        Err(NodeError::Restless {
            volume: desired.volume.clone(),
            left: format!("{left:?}"),
        })
    }

    /// Brings up the volumes that tags alone say are ours, and goes on wiping what was being wiped: all of it without the API server.
    /// `known` are volumes that the API speaks of; they are left to [`Node::settle`]. Nothing is wiped unless `destroy`.
    pub async fn settle_orphans(
        &self,
        known: &BTreeSet<String>,
        destroy: bool,
    ) -> Result<usize, NodeError> {
        let actual = self.look(&BTreeSet::new()).await?;
        let lvs = actual.report.vgs.iter().flat_map(|vg| &vg.lvs);
        let names: BTreeSet<&String> = lvs.map(|lv| &lv.name).collect();
        let mut done = 0;
        for volume in names.into_iter().filter(|name| !known.contains(*name)) {
            if orphan_steps(volume, &actual, destroy).is_empty() {
                continue;
            }
            let Some(_guard) = self.locks.for_upkeep(volume) else {
                continue;
            };
            let actual = self.look(&BTreeSet::new()).await?;
            for step in orphan_steps(volume, &actual, destroy) {
                match self.apply(&step).await {
                    Ok(Applied::Done) => done += 1,
                    Ok(Applied::LookAgain) => break,
                    Err(error) => {
                        tracing::warn!(volume, ?step, error = %chain(&error), "a volume known by its tags only can't be brought up");
                        break;
                    }
                }
            }
        }
        Ok(done)
    }

    /// The volume, ready to be mounted or published, by what this node knows alone. The volume must be locked by the caller.
    pub async fn usable(&self, volume: &str) -> Result<Usable, NodeError> {
        for _ in 0..MOST_ROUNDS {
            let actual = self.look(&BTreeSet::new()).await?;
            let mut all = plan::named(&actual.report, volume);
            let found = all.next().ok_or_else(|| NodeError::NotFound {
                volume: volume.to_owned(),
            })?;
            if let Some(other) = all.next() {
                return Err(NodeError::Unusable(format!(
                    "volume {volume} is in two pools, {} and {}: remove the wrong one",
                    found.vg.name, other.vg.name
                )));
            }
            refuse_unusable(&found)?;
            let steps = plan::exposure(&found, &actual).map_err(NodeError::Unusable)?;
            let busy: Vec<_> = steps
                .iter()
                .filter(|step| !matches!(step, Step::Clean { .. }))
                .collect();
            if busy.is_empty() {
                return usable(&found, &actual);
            }
            for step in busy {
                if self.apply(step).await? == Applied::LookAgain {
                    break;
                }
            }
        }
        Err(NodeError::Restless {
            volume: volume.to_owned(),
            left: "its front device".to_owned(),
        })
    }

    /// Changes what a volume's tags say.
    pub async fn retag(
        &self,
        usable: &mut Usable,
        volume: &str,
        tags: Tags,
    ) -> Result<(), NodeError> {
        let change = Change::between(&usable.present, &tags);
        if !change.is_empty() {
            self.effects
                .lvs
                .retag(&usable.vg, volume, &change.add, &change.delete)
                .await?;
            usable.present.retain(|tag| !change.delete.contains(tag));
            usable.present.extend(change.add);
            usable.tags = tags;
        }
        Ok(())
    }
}

fn orphan_steps(volume: &str, actual: &Actual, destroy: bool) -> Vec<Step> {
    plan::named(&actual.report, volume)
        .filter(|found| destroy || !found.tags.wiping)
        .flat_map(|found| plan::orphan(&found, actual))
        .collect()
}

fn refuse_unusable(found: &plan::Volume<'_>) -> Result<(), NodeError> {
    let (vg, lv, tags) = (found.vg, found.lv, &found.tags);
    let place = format!("{}/{}", vg.name, lv.name);
    if tags
        .volume
        .as_deref()
        .is_some_and(|volume| volume != lv.name)
    {
        return Err(NodeError::NotFound {
            volume: lv.name.clone(),
        });
    }
    if tags.drbd {
        return Err(NodeError::Unusable(format!(
            "volume {} lies beneath DRBD, and mirrored and convertible volumes are not supported yet: using logical volume {place} by \
             itself would make the copies differ",
            lv.name
        )));
    }
    if tags.wiping {
        return Err(NodeError::Unusable(format!(
            "volume {} is being deleted",
            lv.name
        )));
    }
    if !lv.health.is_empty() {
        return Err(NodeError::Unusable(format!(
            "logical volume {place} is {}: a disk of its pool fails or is missing",
            lv.health
        )));
    }
    Ok(())
}

fn usable(found: &plan::Volume<'_>, actual: &Actual) -> Result<Usable, NodeError> {
    let (vg, lv) = (found.vg, found.lv);
    let (device, bytes) = match (actual.fronts.get(&lv.name), lv.major_minor) {
        (Some(front), _) => (front.device(), front.bytes),
        (None, Some(number)) => (plan::lower_device(lv, number), lv.size_bytes),
        (None, None) => {
            return Err(NodeError::Unusable(format!(
                "logical volume {}/{} has no device",
                vg.name, lv.name
            )));
        }
    };
    Ok(Usable {
        vg: vg.name.clone(),
        device,
        bytes,
        tags: found.tags.clone(),
        present: lv.tags.clone(),
        uuid: lv.uuid.clone(),
    })
}
