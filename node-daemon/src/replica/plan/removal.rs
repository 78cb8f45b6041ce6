//! Taking a volume down: not while it is in use, not while others hang on it, and wiped before its space is free.

use std::collections::BTreeSet;

use lvm2_cmd::Lv;

use super::find::entangled;
use super::upkeep::lower_device;
use super::{
    Actual, Aspect, Change, Desired, Found, Front, Obstacle, Plan, Reason, Stage, Step, Tags,
    Volume, find, identity,
};

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

pub(super) fn removal(desired: &Desired, actual: &Actual) -> Plan {
    match find(desired, actual) {
        Found::Nothing if desired.was_made && actual.report.vg(&desired.pool).is_none() => held(
            Reason::NoPool,
            format!(
                "pool {} is not there, so {} can't be wiped; if the disks are gone for good, remove the finalizer of replica {}",
                desired.pool, desired.volume, desired.replica
            ),
        ),
        Found::Nothing => Plan::of(Stage::Gone, Vec::new()),
        Found::Foreign(sentence) => Plan::stuck(
            Stage::Gone,
            Obstacle::new(
                Aspect::Delete,
                Reason::NameTaken,
                format!("{sentence}; it was left alone"),
            ),
        ),
        Found::Misplaced(sentence) => held(Reason::NameTaken, sentence),
        Found::Ours(volume) => {
            if volume.tags.wiping {
                return wiping(&volume, actual);
            }
            match hindrance(&volume, actual) {
                Some((reason, sentence)) => held(reason, sentence),
                None => begin_wiping(desired, &volume, actual),
            }
        }
    }
}

fn held(reason: Reason, sentence: String) -> Plan {
    Plan::stuck(
        Stage::Deleting,
        Obstacle::new(Aspect::Delete, reason, sentence),
    )
}

/// Why a volume can't be wiped now.
fn hindrance(volume: &Volume<'_>, actual: &Actual) -> Option<(Reason, String)> {
    in_use(volume.lv, actual)
        .map(|sentence| (Reason::InUse, sentence))
        .or_else(|| entangled(volume))
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
pub(super) fn wiping(volume: &Volume<'_>, actual: &Actual) -> Plan {
    let (vg, lv) = (volume.vg, volume.lv);
    let mut plan = Plan::of(Stage::Deleting, Vec::new());
    // The job itself holds the device open.
    if let Some(job) = actual.jobs.get(&lv.name) {
        return held(Reason::Zeroing, job.sentence(&lv.name));
    }
    if let Some((reason, sentence)) = hindrance(volume, actual) {
        return held(reason, sentence);
    }
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
    plan
}
