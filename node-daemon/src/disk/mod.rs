//! The disks of this node: finding them, telling them apart, and their `LocalDisk` objects.
//!
//! Owns: discovery, identity, upkeep of `LocalDisk` objects. Does not own: giving disks away (`claim`), what they are used
//! for (`pool`).

#[cfg(test)]
pub mod builders;
pub mod events;
pub mod identity;
mod links;
pub mod mounts;
pub mod object;
pub mod probe;
pub mod scan;
pub mod udev;
pub mod upkeep;

use std::path::PathBuf;

use hawser_api::DiskType;
pub use probe::Content;

/// A whole disk as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name: `sdb`, `nvme0n1`.
    pub name: String,
    /// `/dev/<name>`.
    pub path: PathBuf,
    pub number: (u32, u32),
    pub bytes: u64,
    pub type_: DiskType,
    pub read_only: bool,
    /// Links to it, `/dev/disk/...`, sorted.
    pub links: Vec<String>,
    /// All that is known as its serial number, the best first. The same disk may be known by one or the other.
    pub serials: Vec<String>,
    /// World wide name, empty if there is none.
    pub wwn: String,
    pub model: String,
    pub vendor: String,
    /// `ata`, `scsi`, `nvme`, `virtio`, or empty.
    pub protocol: String,
    pub partitions: Vec<Partition>,
    pub content: Content,
    /// Where the whole disk is mounted.
    pub mounts: Vec<PathBuf>,
    /// The whole disk is swap.
    pub swap: bool,
    /// Kernel names of devices on top of it or of its partitions.
    pub holders: Vec<String>,
}

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub path: PathBuf,
    /// As udev knows it; empty: none that it knows.
    pub fs_type: String,
    pub mounts: Vec<PathBuf>,
    pub swap: bool,
}

impl Disk {
    pub fn serial(&self) -> &str {
        self.serials.first().map_or("", String::as_str)
    }

    /// Links that stand for the slot that the disk is in.
    pub fn by_path(&self) -> impl Iterator<Item = &str> {
        links::of_kind(&self.links, "by-path")
    }

    /// Physical volumes that the host's udev has seen on it.
    pub fn seen_pv_uuids(&self) -> impl Iterator<Item = &str> {
        links::pv_uuids(&self.links)
    }

    /// Whether the host's udev has seen a physical volume of LVM on it.
    pub fn marked_by_lvm(links: &[String]) -> bool {
        links::pv_uuids(links).next().is_some()
    }

    /// Why the disk is not free for us, in words that go on after "disk sdb ", or `None` if nothing is known against it.
    ///
    /// `ours` says whether the physical volume on it is known to be ours.
    pub fn in_use(&self, ours: bool) -> Option<String> {
        self.used(ours).or_else(|| match &self.content {
            Content::Unknown { why } => Some(format!("can't be judged: {why}")),
            Content::Blank | Content::Signature { .. } | Content::Table { .. } => None,
        })
    }

    /// What is known to use the disk. Not that it can't be read: that may pass. Otherwise as [`Disk::in_use`].
    pub fn used(&self, ours: bool) -> Option<String> {
        let mounted = self
            .mounts
            .iter()
            .chain(self.partitions.iter().flat_map(|p| &p.mounts))
            .next();
        if let Some(target) = mounted {
            return Some(format!("is mounted at {}", target.display()));
        }
        if self.swap || self.partitions.iter().any(|p| p.swap) {
            return Some("is in use as swap".to_owned());
        }
        match self.partitions.len() {
            0 => {}
            1 => return Some("has a partition".to_owned()),
            n => return Some(format!("has {n} partitions")),
        }
        match &self.content {
            Content::Table { kind } => return Some(format!("carries a {kind} partition table")),
            Content::Signature { kind, .. } if kind == probe::LVM_MEMBER && ours => return None,
            Content::Signature { kind, .. } => {
                return Some(format!("carries a signature of {kind}"));
            }
            Content::Blank | Content::Unknown { .. } => {}
        }
        if let Some(holder) = self.holders.first() {
            return Some(format!("is held by {holder}"));
        }
        self.read_only.then(|| "is read-only".to_owned())
    }
}
