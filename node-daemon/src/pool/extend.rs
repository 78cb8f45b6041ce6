//! How chosen disks become part of their pools: from what is there to the steps that are left. Pure; safe to repeat after a
//! crash at any point, since a physical volume of ours is known by its UUID.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hawser_api::names::{owners, pools};
use hawser_api::{DiskType, LocalDisk};
use kube::ResourceExt;
use lvm2_cmd::{Pv, Report, Vg};
use sha2::{Digest, Sha256};

use super::health;
use crate::claim::decide::called;
use crate::disk::object::LvmUse;
use crate::disk::upkeep::LvmUses;
use crate::disk::{Content, Disk};

/// One change. In order; each may be the last before a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Prove that the disk is blank, then make it a physical volume.
    PvCreate {
        disk: String,
        uuid: String,
    },
    VgCreate {
        vg: String,
        devices: Vec<PathBuf>,
    },
    VgExtend {
        vg: String,
        devices: Vec<PathBuf>,
    },
}

/// A disk of a claim.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    pub object: &'a LocalDisk,
    pub disk: Option<&'a Disk>,
}

/// The UUID that we give the physical volume on the disk of this object: nobody else makes one that begins so.
pub fn pv_uuid(node: &str, object: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let hash = Sha256::digest(format!("{node}\0{object}"));
    let letters: String = hash
        .iter()
        .take(26)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect();
    format!(
        "hawser-{}-{}-{}-{}-{}-{}",
        &letters[0..4],
        &letters[4..8],
        &letters[8..12],
        &letters[12..16],
        &letters[16..20],
        &letters[20..26]
    )
}

/// The physical volume on a disk, and its volume group.
fn pv_on<'a>(report: &'a Report, disk: &Disk) -> Option<(&'a Pv, Option<&'a Vg>)> {
    report
        .pvs()
        .find(|(pv, _)| pv.major_minor == Some(disk.number) && pv.device.is_some())
}

/// The volume group that misses the physical volume of this disk: LVM can't read the disk, though it is there. By the UUID that we
/// gave it (see [`pv_uuid`]), or the one that the host's udev saw.
fn misses<'a>(report: &'a Report, disk: &Disk, own_uuid: Option<&str>) -> Option<&'a Vg> {
    let (_, vg) = report.pvs().find(|(pv, _)| {
        (pv.missing || pv.device.is_none())
            && (own_uuid == Some(pv.uuid.as_str())
                || disk.seen_pv_uuids().any(|uuid| uuid == pv.uuid))
    })?;
    vg
}

/// What LVM knows of each disk. `names` are the disks' objects by disk.
pub fn lvm_uses(
    node: &str,
    report: &Report,
    disks: &[Disk],
    names: &BTreeMap<String, String>,
) -> LvmUses {
    let is_pool = |vg: &Vg| vg.name.starts_with(pools::VG_PREFIX);
    let used = |disk: &Disk| {
        let own = names.get(&disk.name).map(|name| pv_uuid(node, name));
        match pv_on(report, disk) {
            Some((_, Some(vg))) => is_pool(vg).then(|| LvmUse::Pool(vg.name.clone())),
            Some((pv, None)) => {
                (!pv.in_use && own.as_ref() == Some(&pv.uuid)).then_some(LvmUse::Made)
            }
            None => {
                let vg = misses(report, disk, own.as_deref())?;
                is_pool(vg).then(|| LvmUse::Pool(vg.name.clone()))
            }
        }
    };
    disks
        .iter()
        .filter_map(|disk| Some((disk.name.clone(), used(disk)?)))
        .collect()
}

/// The pool that a disk goes into.
pub fn pool_of(object: &LocalDisk) -> Result<String, String> {
    let type_ = object
        .spec
        .disk_attributes
        .as_ref()
        .map_or(DiskType::Unset, |a| a.type_.clone());
    pools::volume_group(&type_).ok_or_else(|| {
        format!(
            "disk {} has type {:?}; set its spec.diskAttributes.type to HDD, SSD or NVMe",
            called(object),
            type_.as_str()
        )
    })
}

/// A disk of a pool that grew by less than this is left as it is.
const GROWTH: u64 = 4 << 20;
/// What LVM keeps for itself before the first extent, unless told otherwise.
const METADATA: u64 = 1 << 20;

/// Physical volumes of sound pools whose devices have become larger: UUID, size of the device, device.
pub fn growable(report: &Report) -> Vec<(String, u64, PathBuf)> {
    let pools = report.vgs.iter().filter(|vg| {
        vg.name.starts_with(pools::VG_PREFIX)
            && health::sound(report, &vg.name).is_ok_and(|found| found.is_some())
    });
    pools
        .flat_map(|vg| vg.pvs.iter().map(move |pv| (vg, pv)))
        .filter(|(vg, pv)| {
            let spare = pv.device_bytes.saturating_sub(pv.size_bytes + METADATA);
            spare > vg.extent_bytes + GROWTH
        })
        .filter_map(|(_, pv)| Some((pv.uuid.clone(), pv.device_bytes, pv.device.clone()?)))
        .collect()
}

/// The steps that are left until all members are in their pools; none: done. `Err` is a sentence that says what is in the way.
///
/// `others` are the node's other disks: a pool that LVM does not show may be on one of those that can't be read.
pub fn plan(
    node: &str,
    members: &[Member<'_>],
    others: &[Member<'_>],
    report: &Report,
) -> Result<Vec<Step>, String> {
    let mut creations = Vec::new();
    let mut joining: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for member in members {
        let pool = pool_of(member.object)?;
        let Some(disk) = member.disk else {
            return Err(format!(
                "disk {} is not there now; put it back, or delete the claim to free the others",
                called(member.object)
            ));
        };
        let uuid = pv_uuid(node, &member.object.name_any());
        match standing(report, disk, &pool, &uuid) {
            Standing::Done => continue,
            Standing::Made => {}
            Standing::Blank => creations.push(Step::PvCreate {
                disk: disk.name.clone(),
                uuid,
            }),
            Standing::Refused(reason) => {
                return Err(format!("disk {} {reason}", called(member.object)));
            }
        }
        joining.entry(pool).or_default().push(disk.path.clone());
    }
    let mut groups = Vec::new();
    for (vg, devices) in joining {
        groups.push(match health::sound(report, &vg)? {
            Some(found) if !found.extendable => {
                return Err(format!("volume group {vg} is not extendable"));
            }
            Some(_) => Step::VgExtend { vg, devices },
            None => match others.iter().find_map(|other| may_hold(other, &vg)) {
                Some(sentence) => return Err(sentence),
                None => Step::VgCreate { vg, devices },
            },
        });
    }
    creations.extend(groups);
    Ok(creations)
}

/// Why a volume group may be on a disk that can't be read now, if it may.
fn may_hold(other: &Member<'_>, vg: &str) -> Option<String> {
    let spec = &other.object.spec;
    let given = spec.claim_ref.is_some() && spec.owner == owners::LOCAL_STORAGE;
    let Content::Unknown { why } = &other.disk?.content else {
        return None;
    };
    (given && pool_of(other.object).is_ok_and(|pool| pool == vg)).then(|| {
        format!(
            "volume group {vg} may be on disk {}, which can't be judged: {why}; a second one of that name would shut out both; take \
             that disk away, or its spec.claimRef if nothing of it is needed",
            called(other.object)
        )
    })
}

enum Standing {
    Done,
    /// A physical volume of ours in no group yet.
    Made,
    Blank,
    Refused(String),
}

fn standing(report: &Report, disk: &Disk, pool: &str, uuid: &str) -> Standing {
    if let Some(copy) = report.duplicates.iter().find(|d| d.device == disk.path) {
        return Standing::Refused(format!(
            "carries a copy of physical volume {}",
            copy.pv_uuid
        ));
    }
    match pv_on(report, disk) {
        Some((_, Some(vg))) if vg.name == pool => Standing::Done,
        Some((_, Some(vg))) => Standing::Refused(format!("belongs to volume group {}", vg.name)),
        Some((pv, None)) if pv.uuid == uuid && !pv.in_use && !pv.duplicate => {
            match disk.in_use(true) {
                None => Standing::Made,
                Some(reason) => Standing::Refused(reason),
            }
        }
        Some((_, None)) => Standing::Refused(
            "carries a physical volume that Hawser did not make; `pvremove` frees it".to_owned(),
        ),
        None => match (disk.in_use(false), &disk.content) {
            _ if misses(report, disk, Some(uuid)).is_some() => {
                Standing::Refused("belongs to a volume group, and LVM can't read it now".to_owned())
            }
            (None, Content::Blank) => Standing::Blank,
            (Some(reason), _) => Standing::Refused(reason),
            (None, _) => Standing::Refused("is not proven to be empty".to_owned()),
        },
    }
}

#[cfg(test)]
#[path = "extend_tests.rs"]
mod tests;
