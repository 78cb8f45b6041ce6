//! Making a volume, growing it, and having its front device in order.
//!
//! The rule that keeps data safe: what is zeroed while a volume is in use lies behind the end of its front device, where nobody
//! can have written; and the front device grows only over what is zeroed, or over what only a file system can reach.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hawser_api::names::pools;
use lvm2_cmd::{CreateLv, Lv, Vg};

use super::find::entangled;
use super::{
    Actual, Aspect, Change, Desired, Obstacle, Plan, Reason, Stage, Step, Tags, Volume, Zero,
    identity,
};
use crate::mount::{Device, FsType};

/// How much of a new volume's beginning is zeroed before anything looks at it: every signature that a probe or a kernel knows
/// but those at a device's end. One extent, the smallest volume.
const HEAD: u64 = 4 * 1024 * 1024;
/// And of its end (backup partition tables, RAID and DRBD metadata).
const TAIL: u64 = 1024 * 1024;

pub(super) fn creation(desired: &Desired, vg: &Vg) -> Plan {
    let extents = desired.bytes.div_ceil(vg.extent_bytes.max(1)).max(1);
    let refusal = if vg.partial || vg.missing_pvs > 0 {
        let missing = vg.missing_pvs.max(1);
        let sentence = format!("pool {} lacks {missing} of its disks", vg.name);
        Some((Reason::DiskFailed, sentence))
    } else if extents > vg.free_extents {
        Some((Reason::NoSpace, no_room(vg, extents, desired.bytes)))
    } else {
        None
    };
    if let Some((reason, sentence)) = refusal {
        return Plan::stuck(
            Stage::NotReady,
            Obstacle::new(Aspect::Create, reason, sentence),
        );
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
pub(super) fn upkeep(desired: &Desired, volume: &Volume<'_>, actual: &Actual) -> Plan {
    let (vg, lv) = (volume.vg, volume.lv);
    let exposed = is_exposed(volume, actual);
    if let Some(sentence) = disk_trouble(volume, actual, exposed) {
        return Plan::stuck(
            Stage::NotReady,
            Obstacle::new(Aspect::Ready, Reason::DiskFailed, sentence),
        );
    }
    // What can be used stays ready, whatever of its growth or of its tags fails.
    let stage = match (exposed, desired.was_made) {
        (true, _) => Stage::Ready,
        (false, true) => Stage::NotReady,
        (false, false) => Stage::Creating,
    };
    let mut wanted = identity(desired, &volume.tags);
    let growth = growth(desired, volume, actual, &mut wanted);
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
        Err((reason, sentence)) => Some(Obstacle::new(Aspect::Expand, reason, sentence)),
    };
    if !steps.is_empty() {
        // Sizes and tags change: look again before going on.
        return Plan {
            steps,
            stage,
            obstacle: expand,
        };
    }
    let expand = expand.or_else(|| {
        // Its growth is there, and can't be shown.
        let (reason, sentence) = entangled(volume).filter(|_| is_unclean(volume, actual))?;
        Some(Obstacle::new(Aspect::Expand, reason, sentence))
    });
    match exposure(volume, actual) {
        Ok(steps) => Plan {
            stage: if steps.is_empty() {
                Stage::Ready
            } else {
                stage
            },
            steps,
            obstacle: expand,
        },
        Err(sentence) => Plan::stuck(
            Stage::NotReady,
            Obstacle::new(Aspect::Ready, Reason::StepFailed, sentence),
        ),
    }
}

/// What is wrong with the disks beneath a volume.
fn disk_trouble(volume: &Volume<'_>, actual: &Actual, exposed: bool) -> Option<String> {
    let (vg, lv) = (volume.vg, volume.lv);
    if !lv.health.is_empty() {
        return Some(format!(
            "logical volume {}/{} is {}: a disk of its pool fails or is missing",
            vg.name, lv.name, lv.health
        ));
    }
    let why = actual.unreadable.get(&lv.name).filter(|_| exposed)?;
    Some(format!(
        "logical volume {}/{} can't be read: {why}; a disk of its pool fails",
        vg.name, lv.name
    ))
}

/// Whether the volume can be used as it is now: by its front device, or, if a pod of before Hawser has it, directly.
fn is_exposed(volume: &Volume<'_>, actual: &Actual) -> bool {
    let lv = volume.lv;
    if !lv.active || volume.tags.unzeroed == Some(0) {
        return false;
    }
    match actual.fronts.get(&lv.name) {
        Some(front) => {
            !front.suspended
                && front.bytes > 0
                && lv.major_minor.is_none_or(|number| front.lower == [number])
        }
        None => lv.open,
    }
}

/// The devices by which volumes of ours are used now, by volume. None whose I/O is held: it would hold whoever asks.
pub fn exposed_devices(actual: &Actual) -> BTreeMap<String, PathBuf> {
    let pools = actual
        .report
        .vgs
        .iter()
        .filter(|vg| vg.name.starts_with(pools::VG_PREFIX));
    let all = pools.flat_map(|vg| vg.lvs.iter().map(move |lv| (vg, lv)));
    all.filter_map(|(vg, lv)| {
        let tags = Tags::read(&lv.tags);
        let ours = tags.volume.as_deref() == Some(&lv.name) && !tags.wiping && !lv.hidden;
        let volume = Volume { vg, lv, tags };
        if !ours || !is_exposed(&volume, actual) {
            return None;
        }
        let front = actual.fronts.get(&lv.name);
        let path = front.map_or_else(|| lv.path.clone(), |front| front.device().path);
        Some((lv.name.clone(), path))
    })
    .collect()
}

/// Whether the logical volume has to grow, and to how many extents. Marks in `wanted` what the growth brings as unzeroed if somebody
/// could see it.
///
/// # Errors
/// Why it can't grow now.
fn growth(
    desired: &Desired,
    volume: &Volume<'_>,
    actual: &Actual,
    wanted: &mut Tags,
) -> Result<Option<u64>, (Reason, String)> {
    let (vg, lv, tags) = (volume.vg, volume.lv, &volume.tags);
    let needed = desired.bytes.div_ceil(vg.extent_bytes.max(1));
    let present = lv.size_bytes / vg.extent_bytes.max(1);
    if needed <= present {
        return Ok(None);
    }
    if let Some(job) = actual.jobs.get(&lv.name) {
        // The job's end says that everything is zeroed; nothing may come to it unseen.
        let sentence = format!("it grows when that is done: {}", job.sentence(&lv.name));
        return Err((Reason::Zeroing, sentence));
    }
    if let Some(why) = entangled(volume) {
        return Err(why);
    }
    if needed - present > vg.free_extents {
        let bytes = desired.bytes.saturating_sub(lv.size_bytes);
        return Err((Reason::NoSpace, no_room(vg, needed - present, bytes)));
    }
    if !tags.may_show_every_byte() {
        return Ok(Some(needed));
    }
    if actual.fronts.contains_key(&lv.name) {
        // The end of the front device keeps out of sight what comes behind it. One that is not in order is mended first.
        if !is_exposed(volume, actual) {
            return Ok(None);
        }
        if tags.unzeroed.is_none() {
            wanted.unzeroed = Some(lv.size_bytes);
            wanted.raw = true;
        }
        return Ok(Some(needed));
    }
    if !lv.open {
        // The front device first.
        return Ok(None);
    }
    // Given to a pod directly by the generation before: whatever comes is seen and used at once, so there is no time to zero it.
    match mounted_fs(lv, actual).filter(|_| !tags.raw) {
        Some(fs) => {
            // A file system shows only what was written through it.
            wanted.fs = Some(fs);
            Ok(Some(needed))
        }
        None => Err((
            Reason::InUse,
            format!(
                "logical volume {}/{} is held open directly, as the generation before Hawser gave it to its pod, so what it would grow by \
                 could be seen before it is zeroed: restart the pod, then it grows",
                vg.name, lv.name
            ),
        )),
    }
}

/// The file system with which a logical volume is mounted directly.
fn mounted_fs(lv: &Lv, actual: &Actual) -> Option<FsType> {
    let device = lower_device(lv, lv.major_minor?);
    let mount = actual
        .mounts
        .of(&device)
        .find(|mount| !device.is_node_at(mount))?;
    Some(FsType::parse(&mount.fs_type))
}

/// How many of its bytes a volume may show.
fn shown_bytes(lv: &Lv, tags: &Tags) -> u64 {
    match tags.unzeroed {
        Some(clean) if tags.raw => clean.min(lv.size_bytes),
        _ => lv.size_bytes,
    }
}

/// Whether there is something to zero behind the end of the front device, where nobody can have written anything.
fn is_unclean(volume: &Volume<'_>, actual: &Actual) -> bool {
    let (lv, tags) = (volume.lv, &volume.tags);
    let front = actual.fronts.get(&lv.name);
    tags.raw
        && tags.unzeroed.is_some_and(|clean| {
            clean > 0 && clean < lv.size_bytes && front.is_some_and(|front| front.bytes <= clean)
        })
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
    let cleaning = actual.jobs.contains_key(&lv.name);
    if steps.is_empty() && is_unclean(volume, actual) && !cleaning && entangled(volume).is_none() {
        steps.push(Step::Clean {
            vg: vg.name.clone(),
            lv: lv.name.clone(),
            uuid: lv.uuid.clone(),
        });
    }
    Ok(steps)
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
