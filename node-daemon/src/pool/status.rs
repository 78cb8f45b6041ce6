//! What `LocalStorageNode` and `LocalDiskNode` say. Pure; equal input gives equal output, so that nothing is written when
//! nothing changed.

use std::collections::BTreeMap;

use hawser_api::names::pools;
use hawser_api::{
    ConditionStatus, DiskClaimState, DiskState, DiskType, LocalDisk, LocalDiskClaim,
    LocalDiskClaimSpec, LocalDiskNodeStatus, LocalStorageNodeStatus, NodeState, PoolClass,
    PoolDisk, PoolDiskState, PoolExtendRecords, PoolStatus, Pools, StorageNodeCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lvm2_cmd::{Lv, Pv, Report, Vg};

use super::health;

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Classes of disks by device number, for pools whose name does not tell.
pub type Types = BTreeMap<(u32, u32), DiskType>;

/// Status of the node's storage, given what it was.
pub fn storage(
    old: &LocalStorageNodeStatus,
    report: &Report,
    types: &Types,
    now: &Time,
) -> LocalStorageNodeStatus {
    let mut troubles: Vec<String> = report
        .foreign_vgs
        .iter()
        .filter(|vg| vg.starts_with(pools::VG_PREFIX))
        .filter_map(|vg| health::sound(report, vg).err())
        .collect();
    let mut shown = Pools::new();
    for vg in &report.vgs {
        if !vg.name.starts_with(pools::VG_PREFIX) {
            continue;
        }
        let trouble = health::sound(report, &vg.name).err();
        shown.insert(vg.name.clone(), pool(vg, trouble.is_none(), types));
        troubles.extend(trouble);
    }
    troubles.sort();
    troubles.dedup();
    LocalStorageNodeStatus {
        conditions: conditions(&old.conditions, &troubles, now),
        pools: shown,
        state: state(&old.state),
        ..old.clone()
    }
}

/// What operators set stays.
fn state(old: &NodeState) -> NodeState {
    match old {
        NodeState::Maintain => NodeState::Maintain,
        NodeState::Unset | NodeState::Ready | NodeState::Offline | NodeState::Other(_) => {
            NodeState::Ready
        }
    }
}

/// A volume of the pool's count: not the parts that LVM hides, not the thin pool.
fn is_volume(lv: &Lv) -> bool {
    !lv.hidden && lv.name != pools::THIN_POOL
}

fn pool(vg: &Vg, sound: bool, types: &Types) -> PoolStatus {
    let class = class(vg, types);
    let volumes: Vec<String> = {
        let mut names: Vec<String> = vg
            .lvs
            .iter()
            .filter(|lv| is_volume(lv))
            .map(|lv| lv.name.clone())
            .collect();
        names.sort();
        names
    };
    let used = i64::try_from(volumes.len()).unwrap_or(i64::MAX);
    let total_bytes = vg.extents.saturating_mul(vg.extent_bytes);
    // In a group that LVM refuses to change nothing is free.
    let free_bytes = if sound { vg.free_bytes() } else { 0 };
    let mut disks: Vec<PoolDisk> = vg.pvs.iter().map(|pv| pool_disk(pv, &class)).collect();
    disks.sort_by(|a, b| a.dev_path.cmp(&b.dev_path));
    PoolStatus {
        disks,
        free_capacity_bytes: signed(free_bytes),
        free_volume_count: if sound {
            (pools::MAX_VOLUMES - used).max(0)
        } else {
            0
        },
        name: vg.name.clone(),
        path: format!("/dev/{}", vg.name),
        thin_pool: None,
        total_capacity_bytes: signed(total_bytes),
        total_volume_count: pools::MAX_VOLUMES,
        type_: pools::REGULAR.to_owned(),
        used_capacity_bytes: signed(vg.used_extents().saturating_mul(vg.extent_bytes)),
        used_volume_count: used,
        volume_capacity_bytes_limit: signed(total_bytes),
        volumes,
        class,
    }
}

fn class(vg: &Vg, types: &Types) -> PoolClass {
    match pools::class_of(&vg.name) {
        Some(class) if PoolClass::KNOWN.contains(&class) => class,
        _ => vg
            .pvs
            .iter()
            .filter_map(|pv| types.get(&pv.major_minor?))
            .find(|class| PoolClass::KNOWN.contains(class))
            .cloned()
            .unwrap_or(PoolClass::HDD),
    }
}

fn pool_disk(pv: &Pv, class: &PoolClass) -> PoolDisk {
    let state = if pv.device.is_none() || pv.missing {
        PoolDiskState::Offline
    } else {
        PoolDiskState::InUse
    };
    PoolDisk {
        capacity_bytes: signed(pv.size_bytes),
        dev_path: pv
            .device
            .as_ref()
            .map(|d| d.to_string_lossy().into_owned())
            .unwrap_or_default(),
        state,
        type_: class.clone(),
    }
}

/// One condition, available or not. Times move only when something else does.
fn conditions(
    old: &[StorageNodeCondition],
    troubles: &[String],
    now: &Time,
) -> Vec<StorageNodeCondition> {
    let (type_, reason) = if troubles.is_empty() {
        ("Available", "StorageAvailable")
    } else {
        ("UnAvailable", "StorageUnAvailable")
    };
    let wanted = StorageNodeCondition {
        last_transition_time: Some(now.clone()),
        last_update_time: Some(now.clone()),
        message: troubles.join("; "),
        reason: reason.to_owned(),
        status: ConditionStatus::True,
        type_: type_.to_owned(),
    };
    let kept = old.iter().find(|c| c.type_ == type_).map(|c| {
        if c.message == wanted.message && c.status == wanted.status && c.reason == wanted.reason {
            c.clone()
        } else {
            StorageNodeCondition {
                last_transition_time: c.last_transition_time.clone(),
                ..wanted.clone()
            }
        }
    });
    old.iter()
        .filter(|c| !matches!(c.type_.as_str(), "Available" | "UnAvailable"))
        .cloned()
        .chain(std::iter::once(kept.unwrap_or(wanted)))
        .collect()
}

/// The records with what a claim added. Repeatable: the same disks are recorded once.
pub fn recorded(old: &PoolExtendRecords, pool: &str, claim: &LocalDiskClaim) -> PoolExtendRecords {
    let mut records = old.clone();
    let of_pool = records.entry(pool.to_owned()).or_default();
    let same = |record: &LocalDiskClaimSpec| {
        record.disk_refs == claim.spec.disk_refs && record.owner == claim.spec.owner
    };
    if !of_pool.iter().any(same) {
        of_pool.push(claim.spec.clone());
    }
    records
}

/// Whether the disk of this object was ever put into a pool by a claim.
pub fn was_filled(records: &PoolExtendRecords, object: &str) -> bool {
    let mut claims = records.values().flatten();
    claims.any(|claim| {
        let mut disks = claim.disk_refs.iter();
        disks.any(|disk| disk.name.as_deref() == Some(object))
    })
}

/// Status of the node's disks, given what it was.
pub fn disks(old: &LocalDiskNodeStatus, objects: &[LocalDisk], now: &Time) -> LocalDiskNodeStatus {
    let here: Vec<&LocalDisk> = objects
        .iter()
        .filter(|o| o.spec.state == DiskState::Active)
        .collect();
    let free: Vec<&&LocalDisk> = here
        .iter()
        .filter(|o| {
            let state = o
                .status
                .as_ref()
                .map_or(DiskClaimState::Unset, |s| s.claim_state.clone());
            state == DiskClaimState::Available && !o.spec.reserved && !o.spec.partitioned
        })
        .collect();
    let count = |n: usize| Some(i64::try_from(n).unwrap_or(i64::MAX));
    LocalDiskNodeStatus {
        conditions: conditions(&old.conditions, &[], now),
        free_capacity: Some(free.iter().map(|o| o.spec.capacity).sum()),
        free_disk: count(free.len()),
        state: state(&old.state),
        total_capacity: Some(here.iter().map(|o| o.spec.capacity).sum()),
        total_disk: count(here.len()),
        ..old.clone()
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
