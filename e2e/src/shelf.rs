//! A node's disks as files: the system disk, and the shelf, whose slices the guest shows as SCSI disks (`guest/shelf` says how).
//!
//! Owns where on the shelf each disk lies, and the partition tables. The files are sparse, so a disk costs only what was written to it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Bytes of a sector.
const SECTOR: u64 = 512;
const MIB: u64 = (1 << 20) / SECTOR;
const GIB: u64 = 1024 * MIB;
/// First sector of the one partition that each file has.
const FIRST: u64 = MIB;
/// Sectors of the system disk.
const SYSTEM: u64 = 24 * GIB;
/// Sectors of the shelf.
const SHELF: u64 = 1024 * GIB;
/// Sectors before the first data disk: what a disk begins with (an LVM label, a file system) must not look like the shelf's own.
const GAP: u64 = MIB;
/// Size of a data disk, if not asked otherwise.
pub(crate) const DISK_BYTES: u64 = 10 << 30;

/// Solid state or spinning: what the disk says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Ssd,
    Hdd,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
        }
    }
}

/// A data disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    /// `d1`, `d2` and so on: what the lab's commands call it, whatever the kernel calls it.
    pub(crate) name: String,
    /// First sector, from the start of the shelf's partition.
    pub(crate) start: u64,
    pub(crate) sectors: u64,
    pub(crate) serial: String,
    pub(crate) kind: Kind,
    /// Whether its reads and writes fail; still so after a reboot.
    pub(crate) failing: bool,
    /// Whether it was pulled out of the node.
    pub(crate) pulled: bool,
}

impl Disk {
    /// The arguments of the guest's `shelf add`, which are also its line in the node's list.
    pub(crate) fn arguments(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.name,
            self.start,
            self.sectors,
            self.serial,
            self.kind.word()
        )
    }
}

/// The list that the guest reads when it boots.
pub(crate) fn listing(disks: &[Disk]) -> String {
    let mut list = String::new();
    for disk in disks.iter().filter(|disk| !disk.pulled) {
        list.push_str(&disk.arguments());
        if disk.failing {
            list.push_str(" failing");
        }
        list.push('\n');
    }
    list
}

/// The next disk of `bytes` bytes (rounded down to whole MiB), behind those that there are.
///
/// # Errors
/// If it is smaller than 1 MiB or does not fit on the shelf.
pub(crate) fn next_disk(node: &str, disks: &[Disk], bytes: u64, kind: Kind) -> Result<Disk> {
    let sectors = bytes / SECTOR / MIB * MIB;
    ensure!(
        sectors > 0,
        "a disk of {bytes} bytes is too small: 1 MiB is the least"
    );
    let start = disks
        .iter()
        .map(|disk| disk.start + disk.sectors)
        .max()
        .unwrap_or(GAP);
    let room = SHELF - FIRST - start;
    ensure!(
        sectors <= room,
        "a disk of {} GiB does not fit: node {node} has room for {} GiB more",
        sectors / GIB,
        room / GIB
    );
    let number = 1 + disks
        .iter()
        .filter_map(|disk| disk.name.strip_prefix('d')?.parse::<u64>().ok())
        .max()
        .unwrap_or(0);
    Ok(Disk {
        name: format!("d{number}"),
        start,
        sectors,
        serial: format!("LAB-{node}-d{number}"),
        kind,
        failing: false,
        pulled: false,
    })
}

/// Makes a system disk: a sparse file with a partition; the guest makes the file system when it first boots.
pub(crate) fn create_system_disk(path: &Path) -> Result<()> {
    create(path, SYSTEM, 0x83)
}

/// Makes the file that a node's data disks lie on. It has a partition, so that nobody takes it for a blank disk.
pub(crate) fn create_shelf(path: &Path) -> Result<()> {
    create(path, SHELF, 0xda)
}

fn create(path: &Path, sectors: u64, kind: u8) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(sectors * SECTOR)
        .with_context(|| format!("sizing {}", path.display()))?;
    file.write_all(&partition_table(sectors, kind)?)?;
    Ok(())
}

/// A master boot record with one partition up to the end.
fn partition_table(sectors: u64, kind: u8) -> Result<[u8; 512]> {
    let mut record = [0_u8; 512];
    record[440..444].copy_from_slice(b"labd");
    let entry = &mut record[446..][..16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&u32::try_from(FIRST)?.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(sectors - FIRST)?.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(record)
}

/// A size such as `10Gi`, `512Mi`, `2T`, `1000000000`: binary with `i` or a bare letter, in bytes without.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "Ki" | "KiB" => 10,
        "M" | "Mi" | "MiB" => 20,
        "G" | "Gi" | "GiB" => 30,
        "T" | "Ti" | "TiB" => 40,
        _ => bail!("the size {text:?} has an unknown unit: use Mi, Gi or Ti, as in 10Gi"),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .with_context(|| {
            format!("the size {text:?} is not possible: use a number and a unit, as in 10Gi")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_lie_behind_each_other_and_keep_their_numbers() {
        let mut disks = Vec::new();
        for _ in 0..3 {
            disks.push(next_disk("n1", &disks, DISK_BYTES, Kind::Ssd).unwrap());
        }
        disks.remove(1);
        let next = next_disk("n1", &disks, 1 << 30, Kind::Hdd).unwrap();
        assert_eq!(
            next.arguments(),
            format!("d4 {} {GIB} LAB-n1-d4 hdd", GAP + 30 * GIB)
        );
        disks[0].failing = true;
        disks.push(Disk {
            pulled: true,
            ..next
        });
        assert!(
            listing(&disks)
                .starts_with(&format!("d1 {GAP} {} LAB-n1-d1 ssd failing\nd3 ", 10 * GIB))
        );
        assert!(!listing(&disks).contains("d4"));
        let error = next_disk("n1", &disks, 2000 << 30, Kind::Ssd).unwrap_err();
        assert!(error.to_string().contains("room for 992 GiB"), "{error}");
    }

    #[test]
    fn a_partition_fits_a_master_boot_record_and_ends_with_the_disk() {
        let record = partition_table(SHELF, 0xda).unwrap();
        let number = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
        assert_eq!(&record[510..], [0x55, 0xaa]);
        assert_eq!(
            u64::from(number(446 + 8)) + u64::from(number(446 + 12)),
            SHELF
        );
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("10Gi").unwrap(), 10 << 30);
        assert_eq!(parse_size("1T").unwrap(), 1 << 40);
        assert_eq!(parse_size("4096").unwrap(), 4096);
        for text in ["", "x", "0", "5Q", "-1", "99999999999Ti"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
