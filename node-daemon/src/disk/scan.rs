//! Finding the disks: `/sys/block`, the host's udev, its mounts, and what the disks themselves carry.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use hawser_api::DiskType;

use tokio::time::Instant;

use super::mounts::{HostUse, parse_number};
use super::probe::{Content, probe};
use super::udev::{Record, clean};
use super::{Disk, Partition, links};
use crate::signature::Looker;

/// Block devices that are made of others or of memory, or that are no disks.
const NOT_DISKS: [&str; 17] = [
    "loop", "ram", "zram", "dm-", "md", "drbd", "nbd", "rbd", "sr", "fd", "zd", "bcache", "mtd",
    "ublkb", "cbd", "rnbd", "nullb",
];
/// A disk that takes longer to say that it can't be read is asked again only when it is due anyway: it must not slow down every
/// look at the others.
const SLOW: Duration = Duration::from_secs(1);
/// Bytes in a sector of `/sys/block/*/size`, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// Where the host's views are mounted.
#[derive(Debug, Clone)]
pub struct Places {
    pub dev: PathBuf,
    pub sys: PathBuf,
    pub proc: PathBuf,
    pub udev_data: PathBuf,
}

/// Which contents have to be read from the disks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    All,
    /// Disks of these kernel names, and those never seen.
    Named(BTreeSet<String>),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// In order of their names.
    pub disks: Vec<Disk>,
    /// Whether all that is known of every disk could be read, and udev has looked at it. Disks of which links or serial numbers are
    /// missing are left out.
    pub settled: bool,
}

/// Finds disks. Remembers their contents, so that an event of one disk does not read them all.
#[derive(Debug)]
pub struct Scanner {
    places: Places,
    looker: Looker,
    contents: BTreeMap<String, Remembered>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Remembered {
    number: (u32, u32),
    bytes: u64,
    sequence: String,
    content: Content,
    /// How long it took to read that.
    took: Duration,
}

impl Remembered {
    /// Whether there is no use in another look, as far as nothing was heard of the disk.
    fn lasts(&self) -> bool {
        !matches!(self.content, Content::Unknown { .. }) || self.took >= SLOW
    }
}

/// The list of block devices, or of what is mounted, could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct ScanError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Scanner {
    pub fn new(places: Places, looker: Looker) -> Self {
        Self {
            places,
            looker,
            contents: BTreeMap::new(),
        }
    }

    /// All disks. One that vanishes while it is looked at is left out.
    pub async fn scan(&mut self, stale: &Stale) -> Result<Scan, ScanError> {
        let places = self.places.clone();
        let found = tokio::task::spawn_blocking(move || observe(&places)).await;
        let Observed {
            mut disks,
            sequences,
            settled,
        } = found.unwrap_or_else(|_| Ok(Observed::default()))?;
        let probes = disks.iter().map(|disk| {
            let sequence = sequences.get(&disk.name).cloned().unwrap_or_default();
            let known = self.contents.get(&disk.name).filter(|r| {
                r.number == disk.number
                    && r.bytes == disk.bytes
                    && r.sequence == sequence
                    && r.lasts()
                    && match stale {
                        Stale::All => false,
                        Stale::Named(names) => !names.contains(&disk.name),
                    }
            });
            let known = known.cloned();
            let looker = &self.looker;
            async move {
                if let Some(remembered) = known {
                    return remembered;
                }
                let begin = Instant::now();
                Remembered {
                    number: disk.number,
                    bytes: disk.bytes,
                    sequence,
                    content: probe(looker, &disk.path).await,
                    took: begin.elapsed(),
                }
            }
        });
        let contents = join_all(probes).await;
        self.contents.clear();
        for (disk, remembered) in disks.iter_mut().zip(contents) {
            disk.content = remembered.content.clone();
            self.contents.insert(disk.name.clone(), remembered);
        }
        Ok(Scan { disks, settled })
    }
}

#[derive(Debug, Default)]
struct Observed {
    disks: Vec<Disk>,
    /// The kernel's number of each disk's appearance, by the disk's name.
    sequences: BTreeMap<String, String>,
    settled: bool,
}

/// Reads sysfs, udev and the mount table; contents are still unknown. What can't be read is never taken for missing.
fn observe(places: &Places) -> Result<Observed, ScanError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ScanError { path, source }
    };
    let block = places.sys.join("block");
    let entries = std::fs::read_dir(&block).map_err(failed(&block))?;
    let host = HostUse::read(&places.proc).map_err(failed(&places.proc))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    names.sort();
    let udev =
        std::fs::read_dir(&places.udev_data).is_ok_and(|mut entries| entries.next().is_some());
    let mut observed = Observed {
        settled: true,
        ..Observed::default()
    };
    for name in names {
        let folder = block.join(&name);
        match disk(places, &host, &name, udev) {
            Ok(Seen::Disk(disk)) => {
                observed
                    .sequences
                    .insert(name, read(&folder.join("diskseq")));
                observed.disks.push(*disk);
            }
            Ok(Seen::NoDisk) => {}
            Ok(Seen::Unsettled) => observed.settled = false,
            Err(error) => {
                tracing::warn!(disk = %name, %error, "cannot be looked at");
                observed.settled = false;
            }
        }
    }
    Ok(observed)
}

fn read(path: &Path) -> String {
    // Values of sysfs are not always UTF-8: a failing disk answers its model with noise.
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn value(path: &Path) -> String {
    clean(&read(path))
}

/// What an entry of `/sys/block` is.
enum Seen {
    Disk(Box<Disk>),
    NoDisk,
    /// A disk that udev has yet to look at.
    Unsettled,
}

fn disk(places: &Places, host: &HostUse, name: &str, udev: bool) -> io::Result<Seen> {
    let folder = &places.sys.join("block").join(name);
    let sectors = read(&folder.join("size")).trim().parse::<u64>();
    let (Some(number), Ok(sectors)) = (parse_number(&read(&folder.join("dev"))), sectors) else {
        return Ok(Seen::NoDisk);
    };
    let flag = |file: &str| read(&folder.join(file)).trim() == "1";
    // No medium; a path of a multipath NVMe disk; a stick or a disc drive.
    if sectors == 0 || flag("hidden") || flag("removable") || !folder.join("device").exists() {
        return Ok(Seen::NoDisk);
    }
    let path = places.dev.join(name);
    let record = match Record::read(&places.udev_data, number)? {
        Some(record) => record,
        None if udev => return Ok(Seen::Unsettled),
        None => Record::default(),
    };
    let mut links: Vec<String> = record
        .links
        .iter()
        .map(|link| format!("/dev/{link}"))
        .filter(|link| links::is_lasting(link))
        .collect();
    links.sort();
    let mut serials = record.all(&["ID_SERIAL_SHORT", "SCSI_IDENT_SERIAL", "ID_SCSI_SERIAL"]);
    for file in ["serial", "device/serial"] {
        let serial = value(&folder.join(file));
        if !serial.is_empty() && !serials.contains(&serial) {
            serials.push(serial);
        }
    }
    let or = |text: String, file: &str| {
        if text.is_empty() {
            value(&folder.join(file))
        } else {
            text
        }
    };
    let (partitions, holders) = partitions(places, host, folder)?;
    Ok(Seen::Disk(Box::new(Disk {
        name: name.to_owned(),
        number,
        bytes: sectors.saturating_mul(SECTOR),
        type_: type_of(name, flag("queue/rotational")),
        read_only: flag("ro"),
        links,
        serials,
        wwn: or(record.first(&["ID_WWN_WITH_EXTENSION", "ID_WWN"]), "wwid"),
        model: or(record.first(&["ID_MODEL"]), "device/model"),
        vendor: or(record.first(&["ID_VENDOR"]), "device/vendor"),
        protocol: protocol(name, &record),
        partitions,
        content: Content::Unknown {
            why: "it was not read yet".to_owned(),
        },
        mounts: host.mounts(number, &path),
        swap: host.is_swap(&path),
        holders,
        path,
    })))
}

fn type_of(name: &str, rotational: bool) -> DiskType {
    if name.starts_with("nvme") {
        DiskType::NVMe
    } else if rotational {
        DiskType::HDD
    } else {
        DiskType::SSD
    }
}

fn protocol(name: &str, record: &Record) -> String {
    if name.starts_with("nvme") {
        return "nvme".to_owned();
    }
    if name.starts_with("vd") {
        return "virtio".to_owned();
    }
    record.first(&["ID_BUS"])
}

/// The partitions, and the holders of them and of the disk.
fn partitions(
    places: &Places,
    host: &HostUse,
    folder: &Path,
) -> io::Result<(Vec<Partition>, Vec<String>)> {
    let mut holders = names_in(&folder.join("holders"))?;
    let mut partitions = Vec::new();
    for name in names_in(folder)? {
        let part = folder.join(&name);
        if !part.join("partition").exists() {
            continue;
        }
        holders.extend(names_in(&part.join("holders"))?);
        let path = places.dev.join(&name);
        let number = parse_number(&read(&part.join("dev")));
        let record = match number {
            Some(number) => Record::read(&places.udev_data, number)?,
            None => None,
        };
        partitions.push(Partition {
            fs_type: record
                .map(|record| record.first(&["ID_FS_TYPE"]))
                .unwrap_or_default(),
            mounts: number
                .map(|number| host.mounts(number, &path))
                .unwrap_or_default(),
            swap: host.is_swap(&path),
            path,
        });
    }
    holders.sort();
    holders.dedup();
    Ok((partitions, holders))
}

/// Sorted; none if there is no such folder.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
