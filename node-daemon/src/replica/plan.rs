//! What is to be done for one volume, from what is wanted and what is there. Pure: no I/O, no clock.
//!
//! Not ours = not touched: a logical volume is ours by its tags, or because the object that names it says that it was made
//! (volumes of the generation before Hawser have no tags). Everything else in a volume group is left alone, whatever it is called.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::names::pools;
use lvm2_cmd::{CreateLv, Lv, Report, Vg};

use super::effects::{Front, Zero};
use super::jobs::Job;
use super::tags::{Change, Tags};
use crate::mount::{Device, Table};

/// How much of a new volume's beginning is zeroed before anything looks at it: every signature that a probe or a kernel knows
/// but those at a device's end. One extent, the smallest volume.
pub const HEAD: u64 = 4 * 1024 * 1024;
/// And of its end (backup partition tables, RAID and DRBD metadata).
const TAIL: u64 = 1024 * 1024;

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

/// What holds a replica back, for its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It can't be made; the sentence says why.
    Create(String),
    /// It is there and can't be used.
    Ready(String),
    /// It can be used, and can't grow as asked.
    Expand(String),
    /// It is to go, and can't yet.
    Delete(String),
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

/// A logical volume that carries a volume's name.
pub enum Found<'a> {
    /// There is none.
    Nothing,
    /// Ours.
    Ours(Volume<'a>),
    /// Not ours: left alone. Why, as a sentence.
    Foreign(String),
    /// Ours, but not where it should be: left alone until a person looks at it.
    Misplaced(String),
}

/// A logical volume of ours.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    /// Its group.
    pub vg: &'a Vg,
    /// It.
    pub lv: &'a Lv,
    /// What its tags say.
    pub tags: Tags,
}

/// All logical volumes in pools that carry this name.
pub fn named<'a>(report: &'a Report, volume: &'a str) -> impl Iterator<Item = Volume<'a>> {
    report
        .vgs
        .iter()
        .filter(|vg| vg.name.starts_with(pools::VG_PREFIX))
        .filter_map(move |vg| {
            let lv = vg.lvs.iter().find(|lv| lv.name == volume && !lv.hidden)?;
            Some(Volume {
                vg,
                lv,
                tags: Tags::read(&lv.tags),
            })
        })
}

/// Finds a replica's logical volume and tells whether it is ours.
pub fn find<'a>(desired: &'a Desired, actual: &'a Actual) -> Found<'a> {
    let all: Vec<_> = named(&actual.report, &desired.volume).collect();
    let ours = |volume: &Volume<'_>| volume.tags.volume.as_deref() == Some(&desired.volume);
    if let Some(elsewhere) = all
        .iter()
        .find(|volume| volume.vg.name != desired.pool && ours(volume))
    {
        return Found::Misplaced(format!(
            "logical volume {}/{} belongs to volume {}, whose pool is {}: move one to the other's place",
            elsewhere.vg.name, elsewhere.lv.name, desired.volume, desired.pool
        ));
    }
    let Some(here) = all
        .into_iter()
        .find(|volume| volume.vg.name == desired.pool)
    else {
        return Found::Nothing;
    };
    let place = format!("{}/{}", here.vg.name, here.lv.name);
    match (&here.tags.volume, &here.tags.replica) {
        (Some(volume), Some(replica))
            if *volume == desired.volume
                && *replica != desired.replica
                && actual.replicas.contains(replica) =>
        {
            Found::Foreign(format!(
                "logical volume {place} belongs to replica {replica}"
            ))
        }
        (Some(volume), _) if *volume == desired.volume => Found::Ours(here),
        (Some(volume), _) => {
            Found::Foreign(format!("logical volume {place} belongs to volume {volume}"))
        }
        (None, _) if desired.was_made => Found::Ours(here),
        (None, _) => Found::Foreign(format!(
            "a logical volume {place} that Hawser did not make is there already: rename or remove it"
        )),
    }
}

/// What to do for one replica.
pub fn replica(desired: &Desired, actual: &Actual) -> Plan {
    if desired.delete {
        return removal(desired, actual);
    }
    if let Some(sentence) = &desired.unsupported {
        return Plan::stuck(Stage::NotReady, Obstacle::Create(sentence.clone()));
    }
    let Some(vg) = actual
        .report
        .vg(&desired.pool)
        .filter(|_| desired.pool.starts_with(pools::VG_PREFIX))
    else {
        let sentence = format!("pool {} has no volume group on this node", desired.pool);
        return Plan::stuck(Stage::NotReady, obstacle_of(desired, sentence));
    };
    if actual.report.vgs_named(&desired.pool).count() > 1 {
        let sentence = format!(
            "this node has more than one volume group {}: rename all but one",
            desired.pool
        );
        return Plan::stuck(Stage::NotReady, obstacle_of(desired, sentence));
    }
    match find(desired, actual) {
        Found::Nothing if desired.was_made => Plan::stuck(
            Stage::NotReady,
            Obstacle::Ready(format!(
                "logical volume {}/{} is gone, and with it the data; an empty one is not made in its place",
                vg.name, desired.volume
            )),
        ),
        Found::Nothing => creation(desired, vg),
        Found::Foreign(sentence) | Found::Misplaced(sentence) => {
            Plan::stuck(Stage::NotReady, obstacle_of(desired, sentence))
        }
        Found::Ours(volume) if volume.tags.wiping => {
            let mut plan = wiping(&volume, actual);
            plan.stage = Stage::Creating;
            plan.obstacle = Some(Obstacle::Create(format!(
                "the former logical volume {}/{} is still being wiped",
                vg.name, desired.volume
            )));
            plan
        }
        Found::Ours(volume) => upkeep(desired, &volume, actual),
    }
}

fn obstacle_of(desired: &Desired, sentence: String) -> Obstacle {
    if desired.was_made {
        Obstacle::Ready(sentence)
    } else {
        Obstacle::Create(sentence)
    }
}

fn creation(desired: &Desired, vg: &Vg) -> Plan {
    let extents = desired.bytes.div_ceil(vg.extent_bytes.max(1)).max(1);
    let refusal = if vg.partial || vg.missing_pvs > 0 {
        Some(format!(
            "pool {} lacks {} of its disks",
            vg.name,
            vg.missing_pvs.max(1)
        ))
    } else if extents > vg.free_extents {
        Some(no_room(vg, extents, desired.bytes))
    } else {
        None
    };
    if let Some(sentence) = refusal {
        return Plan::stuck(Stage::NotReady, Obstacle::Create(sentence));
    }
    let new = Tags {
        unzeroed: Some(0),
        ..identity(desired, &Tags::default())
    };
    let create = CreateLv {
        vg: vg.name.clone(),
        name: desired.volume.clone(),
        extents,
        tags: new.write(),
        activate: true,
        devices: Vec::new(),
    };
    let bytes = extents.saturating_mul(vg.extent_bytes);
    let path = device_path(&vg.name, &desired.volume);
    let mut steps = vec![Step::Create(create)];
    steps.extend(first_zeroes(
        &vg.name,
        &desired.volume,
        &path,
        bytes,
        &new.write(),
        &new,
    ));
    steps.push(Step::CreateFront {
        volume: desired.volume.clone(),
        lower: path,
        bytes,
    });
    Plan::of(Stage::Creating, steps)
}

fn no_room(vg: &Vg, extents: u64, bytes: u64) -> String {
    format!(
        "pool {} has {} bytes free, {} bytes are needed for {bytes} bytes in extents of {} bytes",
        vg.name,
        vg.free_extents.saturating_mul(vg.extent_bytes),
        extents.saturating_mul(vg.extent_bytes),
        vg.extent_bytes
    )
}

fn device_path(vg: &str, lv: &str) -> std::path::PathBuf {
    std::path::Path::new("/dev").join(vg).join(lv)
}

/// The tags that say whose it is.
fn identity(desired: &Desired, present: &Tags) -> Tags {
    Tags {
        volume: Some(desired.volume.clone()),
        replica: Some(desired.replica.clone()),
        claim: desired.claim.clone().or_else(|| present.claim.clone()),
        generation: desired.generation.or(present.generation),
        ..present.clone()
    }
}

/// Zeroes what a probe would look at, then remembers that it was done.
fn first_zeroes(
    vg: &str,
    lv: &str,
    path: &std::path::Path,
    bytes: u64,
    present: &[String],
    tags: &Tags,
) -> Vec<Step> {
    let zero = |offset: u64, length: u64| {
        Step::Zero(Zero {
            device: path.to_owned(),
            offset,
            length,
            exclusive: true,
        })
    };
    let (mut steps, unzeroed) = if bytes <= HEAD + TAIL {
        (vec![zero(0, bytes)], None)
    } else {
        (vec![zero(0, HEAD), zero(bytes - TAIL, TAIL)], Some(HEAD))
    };
    let change = Change::between(
        present,
        &Tags {
            unzeroed,
            ..tags.clone()
        },
    );
    steps.push(Step::Retag {
        vg: vg.to_owned(),
        lv: lv.to_owned(),
        change,
    });
    steps
}

/// What a volume that exists and stays needs.
fn upkeep(desired: &Desired, volume: &Volume<'_>, actual: &Actual) -> Plan {
    let (vg, lv) = (volume.vg, volume.lv);
    if !lv.health.is_empty() {
        let sentence = format!(
            "logical volume {}/{} is {}: a disk of its pool fails or is missing",
            vg.name, lv.name, lv.health
        );
        return Plan::stuck(Stage::NotReady, Obstacle::Ready(sentence));
    }
    let mut wanted = identity(desired, &volume.tags);
    let growth = growth(desired, volume, &mut wanted);
    let mut steps = Vec::new();
    let change = Change::between(&lv.tags, &wanted);
    if !change.is_empty() {
        steps.push(Step::Retag {
            vg: vg.name.clone(),
            lv: lv.name.clone(),
            change,
        });
    }
    let expand = match growth {
        Ok(Some(extents)) => {
            steps.push(Step::Extend {
                vg: vg.name.clone(),
                lv: lv.name.clone(),
                extents,
            });
            None
        }
        Ok(None) => None,
        Err(sentence) => Some(Obstacle::Expand(sentence)),
    };
    if !steps.is_empty() {
        // Sizes and tags change: look again before going on.
        return Plan {
            steps,
            stage: stage_of(desired),
            obstacle: expand,
        };
    }
    match exposure(volume, actual) {
        Ok(steps) if steps.is_empty() => Plan {
            steps,
            stage: Stage::Ready,
            obstacle: expand,
        },
        // Cleaning an extension of a volume that is in use does not make it unready.
        Ok(steps) if steps.iter().all(|step| matches!(step, Step::Clean { .. })) => Plan {
            steps,
            stage: Stage::Ready,
            obstacle: expand,
        },
        Ok(steps) => Plan {
            steps,
            stage: stage_of(desired),
            obstacle: expand,
        },
        Err(sentence) => Plan::stuck(Stage::NotReady, Obstacle::Ready(sentence)),
    }
}

fn stage_of(desired: &Desired) -> Stage {
    if desired.was_made {
        Stage::NotReady
    } else {
        Stage::Creating
    }
}

/// Whether the logical volume has to grow, and to how many extents. Marks what the growth brings as unzeroed if it could be seen.
fn growth(
    desired: &Desired,
    volume: &Volume<'_>,
    wanted: &mut Tags,
) -> Result<Option<u64>, String> {
    let (vg, lv) = (volume.vg, volume.lv);
    let needed = desired.bytes.div_ceil(vg.extent_bytes.max(1));
    let present = lv.size_bytes / vg.extent_bytes.max(1);
    if needed <= present {
        return Ok(None);
    }
    if needed - present > vg.free_extents {
        return Err(no_room(
            vg,
            needed - present,
            desired.bytes.saturating_sub(lv.size_bytes),
        ));
    }
    if volume.tags.may_show_every_byte() && volume.tags.unzeroed.is_none() {
        wanted.unzeroed = Some(lv.size_bytes);
        wanted.raw = true;
    }
    Ok(Some(needed))
}

/// How many of its bytes a volume may show.
fn shown_bytes(lv: &Lv, tags: &Tags) -> u64 {
    match tags.unzeroed {
        Some(clean) if tags.raw => clean.min(lv.size_bytes),
        _ => lv.size_bytes,
    }
}

/// What it takes to have the volume's front device in order. For the API's replicas as for volumes known by tags only.
///
/// # Errors
/// A sentence if the front device is in a state that nobody of us makes.
pub fn exposure(volume: &Volume<'_>, actual: &Actual) -> Result<Vec<Step>, String> {
    let (vg, lv, tags) = (volume.vg, volume.lv, &volume.tags);
    let name = lv.name.clone();
    if !lv.active {
        return Ok(vec![Step::Activate {
            vg: vg.name.clone(),
            lv: name,
        }]);
    }
    let front = actual.fronts.get(&lv.name);
    let mut steps = Vec::new();
    if tags.unzeroed == Some(0) {
        if front.is_some() {
            return Err(format!(
                "{name} has a front device before its beginning was zeroed"
            ));
        }
        steps.extend(first_zeroes(
            &vg.name,
            &lv.name,
            &lv.path,
            lv.size_bytes,
            &lv.tags,
            tags,
        ));
    }
    let (lower, bytes) = (lv.path.clone(), shown_bytes(lv, tags));
    match front {
        // Mounted directly, as the generation before Hawser did it: served so until it is unmounted.
        None if lv.open => {}
        None => steps.push(Step::CreateFront {
            volume: name,
            lower,
            bytes,
        }),
        Some(front) if lv.major_minor.is_some_and(|number| front.lower != [number]) => {
            if front.open > 0 {
                return Err(format!(
                    "front device of {name} lies on {:?} instead of {:?}",
                    front.lower, lv.major_minor
                ));
            }
            steps.push(Step::RemoveFront {
                volume: name.clone(),
            });
            steps.push(Step::CreateFront {
                volume: name,
                lower,
                bytes,
            });
        }
        Some(front) if front.bytes < bytes => {
            if tags.unzeroed.is_some() && !tags.raw {
                // Grown before its first use: there is a new end for probes to look at.
                steps.push(Step::Zero(Zero {
                    device: lower.clone(),
                    offset: bytes.saturating_sub(TAIL),
                    length: TAIL,
                    exclusive: false,
                }));
            }
            steps.push(Step::ReloadFront {
                volume: name,
                lower,
                bytes,
            });
        }
        Some(front) if front.suspended => steps.push(Step::ResumeFront { volume: name }),
        Some(_) => {}
    }
    let unclean = tags.raw
        && tags
            .unzeroed
            .is_some_and(|clean| clean > 0 && clean < lv.size_bytes);
    if steps.is_empty() && unclean && !actual.jobs.contains_key(&lv.name) {
        steps.push(Step::Clean {
            vg: vg.name.clone(),
            lv: lv.name.clone(),
            uuid: lv.uuid.clone(),
        });
    }
    Ok(steps)
}

/// A volume of ours that no replica of the API speaks of: the API server may be unreachable, or has lost it. It stays usable; what
/// was being wiped goes on being wiped.
pub fn orphan(volume: &Volume<'_>, actual: &Actual) -> Vec<Step> {
    if volume.tags.volume.as_deref() != Some(&volume.lv.name) {
        return Vec::new();
    }
    if volume.tags.wiping {
        return wiping(volume, actual).steps;
    }
    // Not even begun with: whoever asked for it will ask again.
    if volume.tags.unzeroed == Some(0) || !volume.lv.health.is_empty() {
        return Vec::new();
    }
    exposure(volume, actual).unwrap_or_default()
}

/// Names of who uses a volume, as a sentence; `None` if nobody does.
pub fn in_use(lv: &Lv, actual: &Actual) -> Option<String> {
    let front = actual.fronts.get(&lv.name);
    let devices = [
        front.map(Front::device),
        lv.major_minor.map(|number| lower_device(lv, number)),
    ];
    let targets: BTreeSet<String> = devices
        .iter()
        .flatten()
        .flat_map(|device| actual.mounts.of(device))
        .map(|mount| mount.target.display().to_string())
        .collect();
    if let Some(first) = targets.first() {
        let more = targets.len() - 1;
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        return Some(format!(
            "{} is in use: mounted at {first}{more}; unmount it first",
            lv.name
        ));
    }
    match front {
        Some(front) if front.open > 0 => Some(format!(
            "{} is in use: its device is held open {} times",
            lv.name, front.open
        )),
        None if lv.open => Some(format!(
            "{} is in use: its logical volume is held open",
            lv.name
        )),
        _ => None,
    }
}

/// The logical volume's own device.
pub fn lower_device(lv: &Lv, number: (u32, u32)) -> Device {
    Device {
        path: lv.path.clone(),
        aliases: vec![lv.dm_path.clone()],
        kernel_name: format!("dm-{}", number.1),
        number,
    }
}

fn removal(desired: &Desired, actual: &Actual) -> Plan {
    match find(desired, actual) {
        Found::Nothing if desired.was_made && actual.report.vg(&desired.pool).is_none() => {
            Plan::stuck(
                Stage::Deleting,
                Obstacle::Delete(format!(
                    "pool {} is not there, so {} can't be wiped; if the disks are gone for good, remove the finalizer of replica {}",
                    desired.pool, desired.volume, desired.replica
                )),
            )
        }
        Found::Nothing => Plan::of(Stage::Gone, Vec::new()),
        Found::Foreign(sentence) => Plan::stuck(
            Stage::Gone,
            Obstacle::Delete(format!("{sentence}; it was left alone")),
        ),
        Found::Misplaced(sentence) => Plan::stuck(Stage::Deleting, Obstacle::Delete(sentence)),
        Found::Ours(volume) => {
            if volume.tags.wiping {
                return wiping(&volume, actual);
            }
            match in_use(volume.lv, actual) {
                Some(sentence) => Plan::stuck(Stage::Deleting, Obstacle::Delete(sentence)),
                None => begin_wiping(desired, &volume, actual),
            }
        }
    }
}

fn begin_wiping(desired: &Desired, volume: &Volume<'_>, actual: &Actual) -> Plan {
    let (vg, lv) = (volume.vg, volume.lv);
    let mut steps = Vec::new();
    if actual.fronts.contains_key(&lv.name) {
        steps.push(Step::RemoveFront {
            volume: lv.name.clone(),
        });
    }
    let wanted = Tags {
        wiping: true,
        ..identity(desired, &volume.tags)
    };
    steps.push(Step::Retag {
        vg: vg.name.clone(),
        lv: lv.name.clone(),
        change: Change::between(&lv.tags, &wanted),
    });
    if !lv.active {
        steps.push(Step::Activate {
            vg: vg.name.clone(),
            lv: lv.name.clone(),
        });
    }
    steps.push(Step::Wipe {
        vg: vg.name.clone(),
        lv: lv.name.clone(),
        uuid: lv.uuid.clone(),
    });
    Plan::of(Stage::Deleting, steps)
}

/// Goes on with a volume that is marked to be wiped.
fn wiping(volume: &Volume<'_>, actual: &Actual) -> Plan {
    let (vg, lv) = (volume.vg, volume.lv);
    let mut plan = Plan::of(Stage::Deleting, Vec::new());
    // The job itself holds the device open.
    if let Some(job) = actual.jobs.get(&lv.name) {
        plan.obstacle = Some(Obstacle::Delete(job.sentence(&lv.name)));
    } else if let Some(sentence) = in_use(lv, actual) {
        plan.obstacle = Some(Obstacle::Delete(sentence));
    } else {
        if actual.fronts.contains_key(&lv.name) {
            plan.steps.push(Step::RemoveFront {
                volume: lv.name.clone(),
            });
        }
        if !lv.active {
            plan.steps.push(Step::Activate {
                vg: vg.name.clone(),
                lv: lv.name.clone(),
            });
        }
        plan.steps.push(Step::Wipe {
            vg: vg.name.clone(),
            lv: lv.name.clone(),
            uuid: lv.uuid.clone(),
        });
    }
    plan
}
