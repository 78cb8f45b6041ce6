//! Which logical volume is a replica's, and whether it is ours to touch.

use hawser_api::names::pools;
use lvm2_cmd::{Lv, Report, Vg};

use super::{Actual, Desired, Reason, Tags};

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

/// Why a logical volume's blocks can neither be written over nor become more: what other logical volumes would lose by it.
pub fn entangled(volume: &Volume<'_>) -> Option<(Reason, String)> {
    let (vg, lv) = (volume.vg, volume.lv);
    let snapshots: Vec<&str> = vg
        .lvs
        .iter()
        .filter(|other| other.origin == lv.name)
        .map(|other| other.name.as_str())
        .collect();
    let sentence = if !snapshots.is_empty() {
        let removal: Vec<String> = snapshots
            .iter()
            .map(|snapshot| format!("{}/{snapshot}", vg.name))
            .collect();
        format!(
            "logical volume {}/{} has snapshots that Hawser did not make, and they would break: {}; if nobody needs them, \
             `lvremove {}`",
            vg.name,
            lv.name,
            snapshots.join(", "),
            removal.join(" ")
        )
    } else if !lv.origin.is_empty() {
        format!(
            "logical volume {0}/{1} is a snapshot of {2}, which this version does not keep; if nobody needs it, `lvremove {0}/{1}`",
            vg.name, lv.name, lv.origin
        )
    } else if !lv.pool.is_empty() {
        format!(
            "logical volume {0}/{1} takes its room from {2}, which zeroes would fill up for all others in it; if nobody needs its data, \
             `lvremove {0}/{1}`",
            vg.name, lv.name, lv.pool
        )
    } else {
        return None;
    };
    Some((Reason::HasSnapshots, sentence))
}
