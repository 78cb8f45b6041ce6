//! Which devices the host has mounted or uses as swap. From `/proc/1/mountinfo` and `/proc/swaps`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Devices in use by the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostUse {
    by_number: BTreeMap<(u32, u32), BTreeSet<PathBuf>>,
    /// Some file systems (btrfs) have a number of their own, but name their device.
    by_source: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    swaps: BTreeSet<PathBuf>,
}

impl HostUse {
    /// What the host uses, by its `/proc`. A mount table that can't be read, or in which nothing is mounted, is an error: no device
    /// must be taken for unused on its account. A kernel without swap has no list of swaps.
    pub fn read(proc: &Path) -> io::Result<Self> {
        let mountinfo = std::fs::read(proc.join("1/mountinfo"))?;
        let swaps = match std::fs::read(proc.join("swaps")) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let host = Self::parse(
            &String::from_utf8_lossy(&mountinfo),
            &String::from_utf8_lossy(&swaps),
        );
        if host.by_number.is_empty() {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the mount table shows nothing that is mounted",
            ));
        }
        Ok(host)
    }

    /// Lines that make no sense are passed over.
    pub fn parse(mountinfo: &str, swaps: &str) -> Self {
        let mut host = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut left = left.split(' ').skip(2);
            let (Some(number), Some(_root), Some(target)) = (left.next(), left.next(), left.next())
            else {
                continue;
            };
            let target = unescape(target);
            if let Some(number) = parse_number(number) {
                let targets = host.by_number.entry(number).or_default();
                targets.insert(target.clone());
            }
            if let Some(source) = right.split(' ').nth(1).filter(|s| s.starts_with("/dev/")) {
                let targets = host.by_source.entry(unescape(source)).or_default();
                targets.insert(target);
            }
        }
        host.swaps = swaps
            .lines()
            .filter_map(|l| l.split_whitespace().next())
            .filter(|s| s.starts_with("/dev/"))
            .map(unescape)
            .collect();
        host
    }

    /// Where a device is mounted.
    pub fn mounts(&self, number: (u32, u32), path: &Path) -> Vec<PathBuf> {
        let none = BTreeSet::new();
        let by_number = self.by_number.get(&number).unwrap_or(&none);
        let by_source = self.by_source.get(path).unwrap_or(&none);
        by_number.union(by_source).cloned().collect()
    }

    pub fn is_swap(&self, path: &Path) -> bool {
        self.swaps.contains(path)
    }
}

/// `MAJOR:MINOR`.
pub fn parse_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The kernel writes space, tab, newline and backslash in octal.
fn unescape(text: &str) -> PathBuf {
    PathBuf::from(
        text.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOUNTINFO: &str = "\
20 1 0:18 / / ro,relatime - hostfs /dev/root ro,/
21 20 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
22 20 8:2 /var/lib /mnt/with\\040space rw,relatime - ext4 /dev/sda2 rw
23 20 0:45 /sub /data rw - btrfs /dev/sdc rw
nonsense
";

    #[test]
    fn mounts_by_number_and_by_source() {
        let host = HostUse::parse(
            MOUNTINFO,
            "Filename\tType\tSize\n/dev/sda3   partition\t100\t0\t-2\n",
        );
        assert_eq!(
            host.mounts((8, 2), "/dev/sda2".as_ref()),
            [PathBuf::from("/"), PathBuf::from("/mnt/with space")]
        );
        assert_eq!(
            host.mounts((8, 32), "/dev/sdc".as_ref()),
            [PathBuf::from("/data")]
        );
        assert!(host.mounts((8, 16), "/dev/sdb".as_ref()).is_empty());
        assert!(host.is_swap("/dev/sda3".as_ref()));
        assert!(!host.is_swap("/dev/sda2".as_ref()));
    }

    #[test]
    fn a_table_that_cannot_be_read_does_not_mean_that_nothing_is_mounted() {
        let proc = tempfile::tempdir().unwrap();
        HostUse::read(proc.path()).unwrap_err();
        let table = proc.path().join("1/mountinfo");
        std::fs::create_dir(proc.path().join("1")).unwrap();
        std::fs::write(&table, "").unwrap();
        HostUse::read(proc.path()).unwrap_err();
        std::fs::write(&table, MOUNTINFO).unwrap();
        let host = HostUse::read(proc.path()).unwrap();
        assert!(!host.mounts((8, 2), "/dev/sda2".as_ref()).is_empty());
        // There, and not to be read.
        std::fs::create_dir(proc.path().join("swaps")).unwrap();
        HostUse::read(proc.path()).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_input_panics(mountinfo: String, swaps: String) {
            HostUse::parse(&mountinfo, &swaps);
        }
    }
}
