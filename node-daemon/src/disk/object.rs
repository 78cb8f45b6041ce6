//! What a `LocalDisk` object should say. Pure.

use hawser_api::names::owners;
use hawser_api::{
    DiskAttributes, DiskClaimState, DiskState, FileSystemInfo, LocalDisk, LocalDiskSpec,
    LocalDiskStatus, PartitionInfo,
};
use kube::ResourceExt;

use super::identity::NAME_PREFIX;
use super::{Content, Disk};

/// What LVM knows of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LvmUse {
    /// No physical volume, or one that is not ours.
    #[default]
    None,
    /// In a pool's volume group, even if that misses it now.
    Pool(String),
    /// A physical volume that we made and that is in no volume group yet.
    Made,
}

/// A new object for a disk.
pub fn create(node: &str, name: &str, disk: &Disk, lvm: &LvmUse) -> LocalDisk {
    LocalDisk::new(name, spec(node, name, &LocalDiskSpec::default(), disk, lvm))
}

/// What the object of a disk that is there should say, given what it says. What users decide (owner, reserved, type) stays;
/// what others write stays.
pub fn spec(
    node: &str,
    name: &str,
    old: &LocalDiskSpec,
    disk: &Disk,
    lvm: &LvmUse,
) -> LocalDiskSpec {
    let fresh = old.device_path.is_empty() && old.pre_device_path.is_empty();
    let pool = *lvm != LvmUse::None;
    let occupied = disk.used(pool).is_some();
    let unread = matches!(disk.content, Content::Unknown { .. });
    let path = disk.path.to_string_lossy().into_owned();
    let mut new = LocalDiskSpec {
        capacity: i64::try_from(disk.bytes).unwrap_or(i64::MAX),
        dev_links: disk.links.clone(),
        disk_attributes: Some(attributes(
            old.disk_attributes.clone().unwrap_or_default(),
            disk,
        )),
        major: disk.number.0.to_string(),
        minor: disk.number.1.to_string(),
        node_name: node.to_owned(),
        partition_info: partition_info(old, disk, pool),
        // What is not to be read now is as it was.
        partitioned: occupied && !unread && disk.content != Content::Blank
            || !disk.partitions.is_empty()
            || unread && old.partitioned,
        state: DiskState::Active,
        ..old.clone()
    };
    if !old.device_path.is_empty() && old.device_path != path {
        new.pre_device_path.clone_from(&old.device_path);
    }
    new.device_path = path;
    if new.uuid.is_empty() {
        name.strip_prefix(NAME_PREFIX)
            .unwrap_or(name)
            .clone_into(&mut new.uuid);
    }
    if pool {
        if new.owner.is_empty() {
            owners::LOCAL_STORAGE.clone_into(&mut new.owner);
        }
    } else if occupied && new.claim_ref.is_none() {
        // A disk that someone began to use. One that was in use all along and is not reserved was freed by a user.
        let began = fresh || !old.partitioned;
        if began && new.owner.is_empty() {
            new.reserved = true;
            owners::SYSTEM.clone_into(&mut new.owner);
        }
    }
    new
}

/// What the object of a disk that is gone should say: the names of node and device become former ones.
pub fn gone(old: &LocalDiskSpec) -> LocalDiskSpec {
    let mut new = LocalDiskSpec {
        state: DiskState::Inactive,
        node_name: String::new(),
        device_path: String::new(),
        major: String::new(),
        minor: String::new(),
        ..old.clone()
    };
    if !old.node_name.is_empty() {
        new.pre_node_name.clone_from(&old.node_name);
    }
    if !old.device_path.is_empty() {
        new.pre_device_path.clone_from(&old.device_path);
    }
    new
}

/// Whether this object stands for a disk that is on this node, or was when it was last seen.
pub fn is_of_node(spec: &LocalDiskSpec, node: &str) -> bool {
    spec.node_name == node || spec.node_name.is_empty() && spec.pre_node_name == node
}

/// How far the disk is given away. `disk` is the disk, if it is there.
pub fn status(object: &LocalDisk, disk: Option<&Disk>, lvm: &LvmUse) -> LocalDiskStatus {
    let given = object.spec.claim_ref.is_some() || matches!(lvm, LvmUse::Pool(_));
    let old = object.status.clone().unwrap_or_default();
    let claim_state = if given {
        DiskClaimState::Bound
    } else if object.spec.state == DiskState::Inactive && !old.claim_state.is_unset() {
        // What became of a pool's disk is not known while it is away.
        old.claim_state
    } else if disk.is_some_and(|d| matches!(d.content, Content::Unknown { .. })) {
        // Nobody gets what can't be judged.
        DiskClaimState::Pending
    } else {
        DiskClaimState::Available
    };
    LocalDiskStatus { claim_state }
}

fn attributes(old: DiskAttributes, disk: &Disk) -> DiskAttributes {
    let or = |old: String, new: &str| {
        if new.is_empty() { old } else { new.to_owned() }
    };
    let serial_number = if disk.serials.contains(&old.serial_number) {
        old.serial_number
    } else {
        or(old.serial_number, disk.serial())
    };
    DiskAttributes {
        dev_type: "disk".to_owned(),
        model_name: or(old.model_name, &disk.model),
        vendor: or(old.vendor, &disk.vendor),
        protocol: or(old.protocol, &disk.protocol),
        // What is there may be a user's correction.
        type_: if old.type_.is_unset() {
            disk.type_.clone()
        } else {
            old.type_
        },
        serial_number,
        ..old
    }
}

fn partition_info(old: &LocalDiskSpec, disk: &Disk, pool: bool) -> Vec<PartitionInfo> {
    let mount = |mounts: &[std::path::PathBuf]| {
        mounts
            .first()
            .map(|m| m.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let info = |path: &std::path::Path, fs_type: &str, mounts: &[std::path::PathBuf]| {
        let filesystem = (!fs_type.is_empty()).then(|| FileSystemInfo {
            fs_type: fs_type.to_owned(),
            mount_point: mount(mounts),
        });
        PartitionInfo {
            has_file_system: filesystem.is_some(),
            filesystem,
            path: path.to_string_lossy().into_owned(),
        }
    };
    let whole = match &disk.content {
        Content::Signature { kind, .. } if !pool => Some(info(&disk.path, kind, &disk.mounts)),
        Content::Unknown { .. } => {
            let mut before = old.partition_info.iter();
            before.find(|p| p.path == old.device_path).cloned()
        }
        Content::Signature { .. } | Content::Blank | Content::Table { .. } => None,
    };
    disk.partitions
        .iter()
        .map(|p| info(&p.path, &p.fs_type, &p.mounts))
        .chain(whole)
        .collect()
}

/// Whether a claim may have the disk, as far as its object tells; otherwise why not, to go on after "`<name>` ".
pub fn claimable(object: &LocalDisk) -> Result<(), String> {
    let spec = &object.spec;
    let name = object.name_any();
    if !name.starts_with(NAME_PREFIX) {
        return Err("has the name of a former generation".to_owned());
    }
    if spec.state != DiskState::Active {
        return Err("is not there now".to_owned());
    }
    if spec.reserved {
        return Err("is reserved".to_owned());
    }
    if let Some(claim) = &spec.claim_ref {
        return Err(format!(
            "belongs to claim {}",
            claim.name.as_deref().unwrap_or("of no name")
        ));
    }
    let state = object
        .status
        .as_ref()
        .map_or(DiskClaimState::Unset, |s| s.claim_state.clone());
    if state == DiskClaimState::Bound {
        return Err("is in use by a pool already".to_owned());
    }
    if spec
        .disk_attributes
        .as_ref()
        .is_some_and(|a| a.dev_type != "disk")
    {
        return Err("is not a whole disk".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
