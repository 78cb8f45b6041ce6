//! What is there: one consistent picture of all volume groups. Sizes are bytes, extents are the group's own.

use std::path::PathBuf;

/// Answer of [`crate::Lvm::report`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub vgs: Vec<Vg>,
    /// Physical volumes that belong to no volume group.
    pub orphans: Vec<Pv>,
    /// Devices that LVM leaves aside because another device carries the same physical volume.
    pub duplicates: Vec<Duplicate>,
    /// Names of volume groups that belong to another system id; LVM shows nothing else of them.
    pub foreign_vgs: Vec<String>,
    /// What LVM complained about, a line each (duplicates, missing devices, unreadable disks).
    pub warnings: Vec<String>,
}

/// A device with another's physical volume: a copy of a disk, or a second path to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duplicate {
    pub device: PathBuf,
    pub pv_uuid: String,
}

impl Report {
    /// The only volume group of this name. Two groups may share a name (a disk moved here from another machine); then there is
    /// no telling which is meant, and this is `None`; see [`Report::vgs_named`].
    #[must_use]
    pub fn vg(&self, name: &str) -> Option<&Vg> {
        let mut named = self.vgs.iter().filter(|vg| vg.name == name);
        named.next().filter(|_| named.next().is_none())
    }

    pub fn vgs_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Vg> {
        self.vgs.iter().filter(move |vg| vg.name == name)
    }

    /// All physical volumes, orphans too.
    pub fn pvs(&self) -> impl Iterator<Item = (&Pv, Option<&Vg>)> {
        self.vgs
            .iter()
            .flat_map(|vg| vg.pvs.iter().map(move |pv| (pv, Some(vg))))
            .chain(self.orphans.iter().map(|pv| (pv, None)))
    }
}

/// A volume group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, as LVM lists them"
)]
pub struct Vg {
    pub uuid: String,
    pub name: String,
    pub writeable: bool,
    pub extendable: bool,
    pub exported: bool,
    /// A physical volume is missing.
    pub partial: bool,
    /// Of lvmlockd: several hosts use it.
    pub shared: bool,
    /// Empty: everybody's.
    pub system_id: String,
    pub size_bytes: u64,
    pub extent_bytes: u64,
    pub extents: u64,
    pub free_extents: u64,
    pub missing_pvs: u64,
    /// Grows by one with each change.
    pub sequence: u64,
    pub tags: Vec<String>,
    pub pvs: Vec<Pv>,
    pub lvs: Vec<Lv>,
}

impl Vg {
    #[must_use]
    pub fn lv(&self, name: &str) -> Option<&Lv> {
        self.lvs.iter().find(|lv| !lv.hidden && lv.name == name)
    }

    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free_extents.saturating_mul(self.extent_bytes)
    }

    #[must_use]
    pub fn used_extents(&self) -> u64 {
        self.extents.saturating_sub(self.free_extents)
    }
}

/// A physical volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, as LVM lists them"
)]
pub struct Pv {
    pub uuid: String,
    /// As LVM names it; `None` if the device is missing.
    pub device: Option<PathBuf>,
    pub major_minor: Option<(u32, u32)>,
    /// Of the whole device.
    pub device_bytes: u64,
    /// Of what extents are made of.
    pub size_bytes: u64,
    pub extents: u64,
    pub allocated_extents: u64,
    pub allocatable: bool,
    pub missing: bool,
    /// Another device carries the same: which of the two is right is not known.
    pub duplicate: bool,
    /// Its label says that it belongs to a volume group, even if that group's metadata is not to be found.
    pub in_use: bool,
    pub tags: Vec<String>,
}

/// A logical volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, as LVM lists them"
)]
pub struct Lv {
    pub uuid: String,
    /// Without the brackets that LVM puts around hidden ones.
    pub name: String,
    /// Part of another (a thin pool's data), or a snapshot that is being merged.
    pub hidden: bool,
    /// `/dev/VG/LV`; empty for what is not for users.
    pub path: PathBuf,
    pub dm_path: PathBuf,
    pub size_bytes: u64,
    pub tags: Vec<String>,
    pub active: bool,
    pub suspended: bool,
    /// The device is open (mounted, or under another device). False if not active.
    pub open: bool,
    pub read_only: bool,
    pub major_minor: Option<(u32, u32)>,
    /// `linear`, `thin`, `pool`, `sparse`, ...
    pub layout: Vec<String>,
    /// `public`, `private`, `snapshot`, `origin`, ...
    pub role: Vec<String>,
    pub origin: String,
    pub pool: String,
    /// Empty: healthy. `partial`: on a missing physical volume.
    pub health: String,
    /// Per cent with two digits, for snapshots and thin ones.
    pub data_percent: Option<String>,
    pub metadata_percent: Option<String>,
    pub segments: Vec<Segment>,
}

impl Lv {
    /// The rest of the first tag that begins with `prefix`.
    #[must_use]
    pub fn tag_value(&self, prefix: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(prefix))
    }

    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    /// Extents of all segments, by length.
    #[must_use]
    pub fn extents(&self) -> u64 {
        self.segments.iter().map(|s| s.extents).sum()
    }

    /// The devices that its data lies on, in order, without repetition.
    #[must_use]
    pub fn devices(&self) -> Vec<PathBuf> {
        let mut devices: Vec<PathBuf> = Vec::new();
        for device in self
            .segments
            .iter()
            .flat_map(|s| &s.devices)
            .filter(|d| d.starts_with("/"))
        {
            if !devices.contains(device) {
                devices.push(device.clone());
            }
        }
        devices
    }
}

/// A run of extents of a logical volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// `linear`, `striped`, `thin`, `thin-pool`, ...
    pub kind: String,
    pub start_extent: u64,
    pub extents: u64,
    /// Devices, or hidden logical volumes.
    pub devices: Vec<PathBuf>,
}
