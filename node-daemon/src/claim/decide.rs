//! What is to be done about a claim, and why it waits. Pure.

use std::fmt::Write as _;

use hawser_api::names::owners;
use hawser_api::{ClaimPhase, DiskType, LocalDisk, LocalDiskClaim};
use kube::ResourceExt;

use crate::disk::object::{LvmUse, claimable};
use crate::disk::{Content, Disk};

/// How many disks a message names.
const NAMED: usize = 8;

/// An object of this node, its disk if that is there, and what LVM knows of it.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub object: &'a LocalDisk,
    pub disk: Option<&'a Disk>,
    pub lvm: &'a LvmUse,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing of ours.
    Nothing,
    /// The claim makes no sense; the sentence names the field, its value and what would be right.
    Refuse(String),
    /// No disk can be given; the sentence says why for each.
    Wait(String),
    /// These objects are to be bound to it. The note says what else was asked for and why it is not given.
    Bind { disks: Vec<String>, note: String },
    /// Its disks are bound and are to be made part of a pool.
    Fill { disks: Vec<String> },
    /// It is done with; the object goes.
    Remove,
}

/// Decides on a claim of this node.
pub fn decide(node: &str, claim: &LocalDiskClaim, candidates: &[Candidate<'_>]) -> Decision {
    if claim.metadata.deletion_timestamp.is_some() {
        return Decision::Nothing;
    }
    let phase = claim
        .status
        .as_ref()
        .map_or(ClaimPhase::Unset, |s| s.status.clone());
    match phase {
        ClaimPhase::Consumed | ClaimPhase::ToBeDeleted | ClaimPhase::Deleted => Decision::Remove,
        ClaimPhase::Bound | ClaimPhase::Extending if claim.spec.owner == owners::LOCAL_STORAGE => {
            Decision::Fill {
                disks: referred(claim),
            }
        }
        ClaimPhase::Bound | ClaimPhase::Extending => Decision::Nothing,
        ClaimPhase::Unset | ClaimPhase::Pending | ClaimPhase::Other(_) => match check(claim) {
            Ok(()) => choose(node, claim, candidates),
            Err(sentence) => Decision::Refuse(sentence),
        },
    }
}

/// Names of the disks that the claim refers to.
fn referred(claim: &LocalDiskClaim) -> Vec<String> {
    claim
        .spec
        .disk_refs
        .iter()
        .filter_map(|r| r.name.clone())
        .collect()
}

/// Refuses what can't be meant, and what this version does not serve.
fn check(claim: &LocalDiskClaim) -> Result<(), String> {
    if claim.spec.owner == owners::LOCAL_DISK_MANAGER {
        return Err(
            "spec.owner is local-disk-manager: volumes of whole disks are not supported yet; use local-storage"
                .to_owned(),
        );
    }
    claim.spec.check().map_err(|error| error.to_string())
}

fn choose(node: &str, claim: &LocalDiskClaim, candidates: &[Candidate<'_>]) -> Decision {
    let description = claim.spec.description.clone().unwrap_or_default();
    let mut disks = Vec::new();
    let mut reasons = Vec::new();
    for candidate in candidates {
        match fits(claim, candidate) {
            Ok(()) => disks.push(candidate.object.name_any()),
            Err(reason) => reasons.push(format!("{} {reason}", called(candidate.object))),
        }
    }
    let known = |name: &str| candidates.iter().any(|c| c.object.name_any() == name);
    let mut strangers: Vec<String> = description
        .local_disk_names
        .iter()
        .cloned()
        .chain(referred(claim))
        .filter(|name| !known(name))
        .map(|name| format!("{name} is no disk of this node"))
        .collect();
    let present = |path: &str| candidates.iter().any(|c| c.object.spec.device_path == path);
    strangers.extend(
        description
            .device_paths
            .iter()
            .filter(|path| !present(path))
            .map(|path| format!("no disk has the path {path}")),
    );
    if disks.is_empty() {
        strangers.extend(reasons);
        return Decision::Wait(format!(
            "no disk of node {node} can be given: {}",
            listed(&strangers)
        ));
    }
    let besides = if strangers.is_empty() {
        String::new()
    } else {
        format!("not given: {}", listed(&strangers))
    };
    Decision::Bind {
        disks,
        note: besides,
    }
}

/// `localdisk-0b5c... (/dev/sdb)`.
pub fn called(object: &LocalDisk) -> String {
    if object.spec.device_path.is_empty() {
        object.name_any()
    } else {
        format!("{} ({})", object.name_any(), object.spec.device_path)
    }
}

fn listed(reasons: &[String]) -> String {
    if reasons.is_empty() {
        return "none was found".to_owned();
    }
    let mut text = reasons[..reasons.len().min(NAMED)].join("; ");
    if reasons.len() > NAMED {
        let _ = write!(text, "; and {} more", reasons.len() - NAMED);
    }
    text
}

/// Whether the claim may have the disk; otherwise why not, to go on after the disk's name.
fn fits(claim: &LocalDiskClaim, candidate: &Candidate<'_>) -> Result<(), String> {
    let spec = &candidate.object.spec;
    asked_for(claim, candidate.object)?;
    let mine = claim.metadata.uid.is_some()
        && spec.claim_ref.as_ref().and_then(|r| r.uid.as_ref()) == claim.metadata.uid.as_ref();
    if mine {
        return Ok(());
    }
    claimable(candidate.object)?;
    let owner = &claim.spec.owner;
    let free_for_all = spec.owner.is_empty() && owner == owners::LOCAL_STORAGE;
    if spec.owner != *owner && !free_for_all {
        return Err(if spec.owner.is_empty() {
            format!("has no owner; set its spec.owner to {owner}")
        } else {
            format!("is for owner {}, not {owner}", spec.owner)
        });
    }
    let Some(disk) = candidate.disk else {
        return Err("is not there now".to_owned());
    };
    if let LvmUse::Pool(vg) = candidate.lvm {
        return Err(format!("is in volume group {vg} already"));
    }
    match disk.in_use(*candidate.lvm == LvmUse::Made) {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// Whether the claim's description speaks of this disk.
fn asked_for(claim: &LocalDiskClaim, object: &LocalDisk) -> Result<(), String> {
    let description = claim.spec.description.clone().unwrap_or_default();
    let name = object.name_any();
    let referred = referred(claim);
    if !referred.is_empty() && !referred.contains(&name) {
        return Err("is not in spec.diskRefs".to_owned());
    }
    let names = &description.local_disk_names;
    if !names.is_empty() && !names.contains(&name) {
        return Err("is not in localDiskNames".to_owned());
    }
    let spec = &object.spec;
    let paths = &description.device_paths;
    if !paths.is_empty() && !paths.contains(&spec.device_path) {
        return Err("is not in devicePaths".to_owned());
    }
    let type_ = spec
        .disk_attributes
        .as_ref()
        .map_or(DiskType::Unset, |a| a.type_.clone());
    if !description.disk_type.is_unset() && type_ != description.disk_type {
        return Err(format!("is {type_}, {} is asked", description.disk_type));
    }
    if spec.capacity < description.capacity {
        return Err(format!(
            "has {} bytes, {} are asked",
            spec.capacity, description.capacity
        ));
    }
    Ok(())
}

/// Whether a disk that is bound to a claim that no longer exists can be given to others: for pools, if no pool ever got it.
///
/// Claims go once their disks are in a pool, so a disk's claim being gone says nothing, nor does its looking empty: it may have been
/// overwritten by mistake while its pool still needs it. `filled` says of an object whether its disk was put into a pool. Whoever
/// took it out of there takes `spec.claimRef` off too.
pub fn releasable(
    candidate: &Candidate<'_>,
    claim_exists: impl Fn(&str) -> bool,
    filled: impl Fn(&str) -> bool,
) -> bool {
    let object = candidate.object;
    let (Some(reference), Some(disk)) = (&object.spec.claim_ref, candidate.disk) else {
        return false;
    };
    let ours = reference.kind.as_deref() == Some("LocalDiskClaim")
        && object.spec.owner == owners::LOCAL_STORAGE;
    let gone = reference
        .uid
        .as_deref()
        .is_some_and(|uid| !claim_exists(uid));
    let marked = [&disk.links, &object.spec.dev_links]
        .into_iter()
        .any(|links| Disk::marked_by_lvm(links));
    let untouched = match candidate.lvm {
        LvmUse::None => disk.content == Content::Blank && disk.in_use(false).is_none() && !marked,
        // The claim went after the first of two steps.
        LvmUse::Made => disk.in_use(true).is_none() && disk.holders.is_empty(),
        LvmUse::Pool(_) => false,
    };
    ours && gone && untouched && !filled(&object.name_any())
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
