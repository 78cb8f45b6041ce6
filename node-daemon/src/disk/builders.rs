//! Builders for tests.

use hawser_api::{DiskType, LocalDisk};

use super::object::{self, LvmUse};
use super::scan::Scan;
use super::{Content, Disk, Partition};

/// A blank SSD of 10 GiB, `sdb` with serial number `S1`.
pub fn a_disk() -> Disk {
    Disk {
        name: "sdb".to_owned(),
        path: "/dev/sdb".into(),
        number: (8, 16),
        bytes: 10 << 30,
        type_: DiskType::SSD,
        read_only: false,
        links: vec!["/dev/disk/by-path/pci-0000:00:1f.2-ata-2".to_owned()],
        serials: vec!["S1".to_owned()],
        wwn: String::new(),
        model: "Example 100".to_owned(),
        vendor: "ATA".to_owned(),
        protocol: "ata".to_owned(),
        partitions: Vec::new(),
        content: Content::Blank,
        mounts: Vec::new(),
        swap: false,
        holders: Vec::new(),
    }
}

/// A blank disk of a User Mode Linux guest: no serial number, a slot.
pub fn a_bare_disk(letter: char) -> Disk {
    let index = u32::from(letter) - u32::from('a');
    Disk {
        name: format!("ubd{letter}"),
        path: format!("/dev/ubd{letter}").into(),
        number: (98, index * 16),
        links: vec![format!("/dev/disk/by-path/platform-uml-blkdev.{index}")],
        serials: Vec::new(),
        model: String::new(),
        vendor: String::new(),
        protocol: String::new(),
        ..a_disk()
    }
}

pub fn a_partition(path: &str) -> Partition {
    Partition {
        path: path.into(),
        fs_type: "ext4".to_owned(),
        mounts: Vec::new(),
        swap: false,
    }
}

pub fn a_scan(disks: impl IntoIterator<Item = Disk>) -> Scan {
    Scan {
        disks: disks.into_iter().collect(),
        settled: true,
    }
}

/// The object that is made for a disk, with its status.
pub fn an_object(name: &str, disk: &Disk) -> LocalDisk {
    let mut object = object::create("n1", name, disk, &LvmUse::None);
    object.status = Some(object::status(&object, Some(disk), &LvmUse::None));
    object
}
