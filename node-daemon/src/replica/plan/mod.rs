//! What is to be done for one volume, from what is wanted and what is there. Pure: no I/O, no clock.
//!
//! Not ours = not touched: a logical volume is ours by its tags, or because the object that names it says that it was made
//! (volumes of the generation before Hawser have no tags). Everything else in a volume group is left alone, whatever it is called.
//!
//! `find` tells whose a logical volume is, `upkeep` makes, grows and exposes, `removal` takes down.

mod find;
mod removal;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::names::{pools, reasons};
use lvm2_cmd::{CreateLv, Report};

use super::effects::{Front, Zero};
use super::jobs::Job;
use super::tags::{Change, Tags};
use crate::mount::Table;

pub use find::{Found, Volume, entangled, find, named};
pub use removal::in_use;
pub use upkeep::{exposed_devices, exposure, lower_device};

/// What the API wants of one replica on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The `LocalVolumeReplica`.
    pub replica: String,
    /// The volume: also the logical volume's name.
    pub volume: String,
    /// The pool: a volume group.
    pub pool: String,
    /// Size asked for, bytes.
    pub bytes: u64,
    /// `NAMESPACE/NAME` of the claim.
    pub claim: Option<String>,
    /// Counts the generations of the volume's copies.
    pub generation: Option<u64>,
    /// Whether the data is to be destroyed.
    pub delete: bool,
    /// Whether the object says that the logical volume was made once.
    pub was_made: bool,
    /// What is asked and not served, in a sentence.
    pub unsupported: Option<String>,
    /// Where the object says that the volume's DRBD device is, if the generation before put one over the logical volume. Who
    /// writes beneath it makes the copies differ without anybody knowing.
    pub drbd: Option<String>,
}

/// What is there.
#[derive(Debug, Clone, Default)]
pub struct Actual {
    /// LVM.
    pub report: Report,
    /// Front devices by volume.
    pub fronts: BTreeMap<String, Front>,
    /// The host's mounts.
    pub mounts: Table,
    /// Work in the background, by volume.
    pub jobs: BTreeMap<String, Job>,
    /// Every replica of this node, to tell a conflict from a leftover.
    pub replicas: BTreeSet<String>,
    /// Volumes whose devices did not read when they were last asked, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the logical volume.
    Create(CreateLv),
    /// Change its tags.
    Retag {
        vg: String,
        lv: String,
        change: Change,
    },
    /// Make its device appear.
    Activate { vg: String, lv: String },
    /// Zero a piece that takes moments.
    Zero(Zero),
    /// Grow it to so many extents.
    Extend {
        vg: String,
        lv: String,
        extents: u64,
    },
    /// Make the front device over the first `bytes`.
    CreateFront {
        volume: String,
        lower: std::path::PathBuf,
        bytes: u64,
    },
    /// Grow the front device.
    ReloadFront {
        volume: String,
        lower: std::path::PathBuf,
        bytes: u64,
    },
    /// Let I/O through the front device go on.
    ResumeFront { volume: String },
    /// Remove the front device.
    RemoveFront { volume: String },
    /// Zero the volume in the background and remove it.
    Wipe {
        vg: String,
        lv: String,
        uuid: String,
    },
    /// Zero in the background what may hold data of others.
    Clean {
        vg: String,
        lv: String,
        uuid: String,
    },
}

/// What a sentence is about: a condition of the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Making it.
    Create,
    /// Using it.
    Ready,
    /// Growing it as asked; it can be used as it is.
    Expand,
    /// Taking it down.
    Delete,
}

/// Why, in one word for programs. What the provisioner does with each is in [`reasons`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too few free extents.
    NoSpace,
    /// No volume group of that name, or several.
    NoPool,
    /// What is asked can't be or is not served.
    Invalid,
    /// The name is somebody else's here.
    NameTaken,
    /// It was made and is gone.
    DataLost,
    /// A disk is missing or does not read.
    DiskFailed,
    /// Other logical volumes hang on its blocks.
    HasSnapshots,
    /// It is open.
    InUse,
    /// Blocks are being zeroed.
    Zeroing,
    /// A step was refused.
    StepFailed,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSpace => reasons::NO_SPACE,
            Self::NoPool => reasons::NO_POOL,
            Self::Invalid => reasons::INVALID,
            Self::NameTaken => reasons::NAME_TAKEN,
            Self::DataLost => reasons::DATA_LOST,
            Self::DiskFailed => reasons::DISK_FAILED,
            Self::HasSnapshots => reasons::HAS_SNAPSHOTS,
            Self::InUse => reasons::IN_USE,
            Self::Zeroing => reasons::ZEROING,
            Self::StepFailed => reasons::STEP_FAILED,
        }
    }
}

/// What holds a replica back, for its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What is held back.
    pub aspect: Aspect,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub sentence: String,
}

impl Obstacle {
    /// All of it.
    pub fn new(aspect: Aspect, reason: Reason, sentence: impl Into<String>) -> Self {
        Self {
            aspect,
            reason,
            sentence: sentence.into(),
        }
    }

    /// Something that hinders a volume from being made, or, once it was, from being used.
    fn to_life(desired: &Desired, reason: Reason, sentence: impl Into<String>) -> Self {
        let aspect = if desired.was_made {
            Aspect::Ready
        } else {
            Aspect::Create
        };
        Self::new(aspect, reason, sentence)
    }
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Being made.
    Creating,
    /// There, unusable.
    NotReady,
    /// Usable.
    Ready,
    /// Being destroyed.
    Deleting,
    /// Nothing of it is left here, or what is left is not ours.
    Gone,
}

/// Steps, and what to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order; each relies on those before.
    pub steps: Vec<Step>,
    /// As things are before the steps.
    pub stage: Stage,
    /// What stands in the way.
    pub obstacle: Option<Obstacle>,
}

impl Plan {
    fn stuck(stage: Stage, obstacle: Obstacle) -> Self {
        Self {
            steps: Vec::new(),
            stage,
            obstacle: Some(obstacle),
        }
    }

    fn of(stage: Stage, steps: Vec<Step>) -> Self {
        Self {
            steps,
            stage,
            obstacle: None,
        }
    }
}

/// What to do for one replica.
pub fn replica(desired: &Desired, actual: &Actual) -> Plan {
    if desired.delete {
        return removal::removal(desired, actual);
    }
    let unready = |reason, sentence: String| {
        Plan::stuck(
            Stage::NotReady,
            Obstacle::to_life(desired, reason, sentence),
        )
    };
    if let Some(sentence) = &desired.unsupported {
        return unready(Reason::Invalid, sentence.clone());
    }
    if let Some(path) = &desired.drbd {
        return beneath_drbd(desired, path, actual);
    }
    let Some(vg) = actual
        .report
        .vg(&desired.pool)
        .filter(|_| desired.pool.starts_with(pools::VG_PREFIX))
    else {
        let sentence = if actual.report.vgs_named(&desired.pool).count() > 1 {
            format!(
                "this node has more than one volume group {}: rename all but one",
                desired.pool
            )
        } else {
            format!("pool {} has no volume group on this node", desired.pool)
        };
        return unready(Reason::NoPool, sentence);
    };
    match find(desired, actual) {
        Found::Nothing if desired.was_made => unready(
            Reason::DataLost,
            format!(
                "logical volume {}/{} is gone, and with it the data; an empty one is not made in its place",
                vg.name, desired.volume
            ),
        ),
        Found::Nothing => match actual.jobs.get(&desired.volume) {
            // It works by the device's path, which would be the new volume's.
            Some(job) => Plan::stuck(
                Stage::Creating,
                Obstacle::new(
                    Aspect::Create,
                    Reason::Zeroing,
                    format!(
                        "waiting for the former volume of this name: {}",
                        job.sentence(&desired.volume)
                    ),
                ),
            ),
            None => upkeep::creation(desired, vg),
        },
        Found::Foreign(sentence) | Found::Misplaced(sentence) => {
            unready(Reason::NameTaken, sentence)
        }
        Found::Ours(volume) if volume.tags.wiping => {
            let mut plan = removal::wiping(&volume, actual);
            plan.stage = Stage::Creating;
            plan.obstacle = Some(Obstacle::new(
                Aspect::Create,
                Reason::Zeroing,
                format!(
                    "the former logical volume {}/{} is still being wiped",
                    vg.name, desired.volume
                ),
            ));
            plan
        }
        Found::Ours(volume) => upkeep::upkeep(desired, &volume, actual),
    }
}

/// A volume that the generation before put beneath DRBD is not exposed, and a tag keeps it so while the API server is away.
fn beneath_drbd(desired: &Desired, path: &str, actual: &Actual) -> Plan {
    let sentence = format!(
        "status.devPath is {path}: the volume lies beneath DRBD, and mirrored and convertible volumes are not supported yet; it is left \
         as it is, since writes beneath DRBD would make its copies differ"
    );
    let mut plan = Plan::stuck(
        Stage::NotReady,
        Obstacle::to_life(desired, Reason::Invalid, sentence),
    );
    if let Found::Ours(volume) = find(desired, actual)
        && !volume.tags.drbd
    {
        let wanted = Tags {
            drbd: true,
            ..volume.tags.clone()
        };
        plan.steps.push(Step::Retag {
            vg: volume.vg.name.clone(),
            lv: volume.lv.name.clone(),
            change: Change::between(&volume.lv.tags, &wanted),
        });
    }
    plan
}

/// The tags that say whose it is.
fn identity(desired: &Desired, present: &Tags) -> Tags {
    Tags {
        volume: Some(desired.volume.clone()),
        replica: Some(desired.replica.clone()),
        claim: desired.claim.clone().or_else(|| present.claim.clone()),
        generation: desired.generation.or(present.generation),
        drbd: desired.drbd.is_some(),
        ..present.clone()
    }
}

/// A volume of ours that no replica of the API speaks of: the API server may be unreachable, or has lost it. It stays usable; what
/// was being wiped goes on being wiped.
pub fn orphan(volume: &Volume<'_>, actual: &Actual) -> Vec<Step> {
    if volume.tags.volume.as_deref() != Some(&volume.lv.name) || volume.tags.drbd {
        return Vec::new();
    }
    if volume.tags.wiping {
        return removal::wiping(volume, actual).steps;
    }
    // Not even begun with: whoever asked for it will ask again.
    if volume.tags.unzeroed == Some(0) || !volume.lv.health.is_empty() {
        return Vec::new();
    }
    exposure(volume, actual).unwrap_or_default()
}
