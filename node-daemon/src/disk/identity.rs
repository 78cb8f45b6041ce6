//! Which disk is which: finds the `LocalDisk` object of each disk, by several facts, and refuses in doubt. Pure.
//!
//! No single fact suffices: serial numbers are missing or occur twice, device names change at each boot, links follow the slot,
//! and a replaced disk sits in its predecessor's slot. So facts are tried from the strongest to the weakest; each counts only
//! where exactly one object and one disk share it, and never where another fact contradicts.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::LocalDisk;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{Disk, links};

/// Prefix of the names of objects that can be claimed.
pub const NAME_PREFIX: &str = "localdisk-";

/// What a disk was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the disk of this object.
    Known(String),
    /// It has no object; one of this name is to be made.
    New(String),
    /// It may be one of several, so nothing is done with it.
    Doubt(String),
}

/// Facts of an object, as text sets, so that comparing is all that is left.
#[derive(Debug, Default)]
struct Facts {
    serials: BTreeSet<String>,
    wwns: BTreeSet<String>,
    slots: BTreeSet<String>,
    pvs: BTreeSet<String>,
    path: String,
    bytes: u64,
}

impl Facts {
    fn of_links(all: &[String]) -> Self {
        let set = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
        Self {
            wwns: set(&mut links::wwns(all)),
            slots: set(&mut links::of_kind(all, "by-path")),
            pvs: set(&mut links::pv_uuids(all)),
            ..Self::default()
        }
    }

    fn of_disk(disk: &Disk) -> Self {
        Self {
            serials: disk.serials.iter().cloned().collect(),
            path: disk.path.to_string_lossy().into_owned(),
            bytes: disk.bytes,
            ..Self::of_links(&disk.links)
        }
    }

    fn of_object(object: &LocalDisk) -> Self {
        let spec = &object.spec;
        let serial = spec
            .disk_attributes
            .as_ref()
            .map(|a| super::udev::clean(&a.serial_number))
            .filter(|s| !s.is_empty());
        let path = if spec.device_path.is_empty() {
            &spec.pre_device_path
        } else {
            &spec.device_path
        };
        Self {
            serials: serial.into_iter().collect(),
            path: path.clone(),
            bytes: u64::try_from(spec.capacity).unwrap_or(0),
            ..Self::of_links(&spec.dev_links)
        }
    }

    fn contradicts(&self, other: &Self) -> bool {
        let differ = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            !a.is_empty() && !b.is_empty() && a.is_disjoint(b)
        };
        differ(&self.serials, &other.serials) || differ(&self.wwns, &other.wwns)
    }

    fn shares(&self, other: &Self, fact: Fact) -> bool {
        let meet = |a: &BTreeSet<String>, b: &BTreeSet<String>| !a.is_disjoint(b);
        let slot = meet(&self.slots, &other.slots);
        let bare = |f: &Self| f.serials.is_empty() && f.wwns.is_empty();
        let both_bare = bare(self) && bare(other);
        match fact {
            Fact::Wwn => meet(&self.wwns, &other.wwns),
            Fact::PhysicalVolume => meet(&self.pvs, &other.pvs),
            Fact::SerialAndSlot => meet(&self.serials, &other.serials) && slot,
            Fact::Serial => meet(&self.serials, &other.serials),
            Fact::SlotAndSize => slot && self.bytes == other.bytes,
            Fact::Slot => slot && both_bare,
            Fact::PathAndSize => {
                both_bare
                    && self.slots.is_empty()
                    && other.slots.is_empty()
                    && self.path == other.path
                    && self.bytes == other.bytes
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Wwn,
    PhysicalVolume,
    SerialAndSlot,
    Serial,
    SlotAndSize,
    /// A disk without any name of its own that has grown. Not for a disk that is given away.
    Slot,
    PathAndSize,
}

/// From the strongest to the weakest.
const FACTS: [Fact; 7] = [
    Fact::Wwn,
    Fact::PhysicalVolume,
    Fact::SerialAndSlot,
    Fact::Serial,
    Fact::SlotAndSize,
    Fact::Slot,
    Fact::PathAndSize,
];

/// What each disk is, in the order of `disks`. `objects` are those of this node, `taken` names that others have.
///
/// The order of `objects` and `disks` does not matter. Objects whose names lack the prefix are of a former generation that
/// nothing is done with.
pub fn assign(
    node: &str,
    objects: &[LocalDisk],
    disks: &[Disk],
    taken: &BTreeSet<String>,
) -> Vec<Verdict> {
    let objects: Vec<&LocalDisk> = objects
        .iter()
        .filter(|o| o.name_any().starts_with(NAME_PREFIX))
        .collect();
    let known: Vec<Facts> = objects.iter().map(|o| Facts::of_object(o)).collect();
    let seen: Vec<Facts> = disks.iter().map(Facts::of_disk).collect();
    let bound: Vec<bool> = objects.iter().map(|o| o.spec.claim_ref.is_some()).collect();
    let pairs = pair_up(&known, &seen, &bound);
    let free: Vec<usize> = (0..known.len())
        .filter(|o| !pairs.values().any(|taken| taken == o))
        .collect();
    let mut names: BTreeSet<String> = taken
        .iter()
        .cloned()
        .chain(objects.iter().map(|o| o.name_any()))
        .collect();
    // Names are given in an order that does not depend on the order of discovery.
    let mut order: Vec<usize> = (0..disks.len()).collect();
    order.sort_by_key(|d| basis(node, disks, *d));
    let mut verdicts = BTreeMap::new();
    for d in order {
        let verdict = if let Some(o) = pairs.get(&d) {
            Verdict::Known(objects[*o].name_any())
        } else if let Some(o) = doubtful(&known, &free, &seen[d]) {
            Verdict::Doubt(format!(
                "disk {} may be {} or another: they share a serial number or world wide name with several",
                disks[d].name,
                objects[o].name_any()
            ))
        } else {
            let name = fresh_name(&basis(node, disks, d), &names);
            names.insert(name.clone());
            Verdict::New(name)
        };
        verdicts.insert(d, verdict);
    }
    verdicts.into_values().collect()
}

/// Disk to object, by the strongest fact that they alone share.
fn pair_up(known: &[Facts], seen: &[Facts], bound: &[bool]) -> BTreeMap<usize, usize> {
    let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
    for fact in FACTS {
        let free = |o: &usize| !pairs.values().any(|taken| taken == o);
        let mut edges: Vec<(usize, usize)> = Vec::new();
        for d in (0..seen.len()).filter(|d| !pairs.contains_key(d)) {
            for o in (0..known.len()).filter(free) {
                let fits = known[o].shares(&seen[d], fact) && !known[o].contradicts(&seen[d]);
                let grown = fact != Fact::Slot || (!bound[o] && seen[d].bytes > known[o].bytes);
                if fits && grown {
                    edges.push((d, o));
                }
            }
        }
        for (d, o) in &edges {
            let alone = edges.iter().filter(|(x, y)| x == d || y == o).count() == 1;
            if alone {
                pairs.insert(*d, *o);
            }
        }
    }
    pairs
}

/// An object without a disk that this disk might well be.
fn doubtful(known: &[Facts], free: &[usize], disk: &Facts) -> Option<usize> {
    free.iter().copied().find(|o| {
        [Fact::Wwn, Fact::PhysicalVolume, Fact::Serial]
            .iter()
            .any(|fact| known[*o].shares(disk, *fact))
            && !known[*o].contradicts(disk)
    })
}

/// What a new object's name is made of: what the disk says of itself; its slot only where that is not enough. The node's
/// name is part of it, since virtual machines' disks have the same serial numbers everywhere.
fn basis(node: &str, disks: &[Disk], d: usize) -> String {
    let own = |disk: &Disk| {
        format!(
            "{}\0{}\0{}\0{}",
            disk.vendor,
            disk.model,
            disk.serial(),
            disk.wwn
        )
    };
    let disk = &disks[d];
    let named = !disk.serial().is_empty() || !disk.wwn.is_empty();
    let alone = disks.iter().filter(|other| own(other) == own(disk)).count() == 1;
    if named && alone {
        format!("{node}\0{}", own(disk))
    } else {
        let slot = disk.by_path().next().unwrap_or(disk.name.as_str());
        format!("{node}\0{}\0{slot}", own(disk))
    }
}

fn fresh_name(basis: &str, taken: &BTreeSet<String>) -> String {
    let mut name = name_of(basis);
    let mut again = 0_u32;
    while taken.contains(&name) {
        again += 1;
        name = name_of(&format!("{basis}\0{again}"));
    }
    name
}

fn name_of(basis: &str) -> String {
    let hash = hex::encode(Sha256::digest(basis));
    format!("{NAME_PREFIX}{}", &hash[..32])
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
