//! File system types: which we make, with what arguments, and what `blkid` says of them. No I/O.

use std::fmt;
use std::path::Path;

use hawser_command::Command;

/// Type of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FsType {
    /// The default.
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
    /// Another, by the kernel's name: mounted where it is there already (volumes of before Hawser), never made.
    Other(String),
}

impl FsType {
    /// Reads a CSI `fs_type`; empty is ext4.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "ext4" => Self::Ext4,
            "xfs" => Self::Xfs,
            "btrfs" => Self::Btrfs,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The kernel's name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for FsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Readable, and without any signature.
    Blank,
    /// One file system.
    Filesystem(FsType),
    /// Anything else, in words: a partition table, an LVM physical volume, several signatures at once.
    Other(String),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing"),
            Self::Filesystem(fs) => write!(f, "a file system of type {fs}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Reads the answer of `blkid -p -o export`: exit status 0 with keys, 2 for nothing found, 8 for contradicting signatures.
///
/// `None`: not an answer (the tool failed).
pub fn parse_blkid(exit: Option<i32>, stdout: &str) -> Option<Content> {
    let value = |key: &str| {
        stdout
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    match exit? {
        2 if stdout.trim().is_empty() => Some(Content::Blank),
        8 => Some(Content::Other(
            "several contradicting signatures".to_owned(),
        )),
        0 => Some(match (value("TYPE"), value("USAGE"), value("PTTYPE")) {
            (Some(fs), Some("filesystem"), None) => Content::Filesystem(FsType::parse(fs)),
            (Some(other), _, _) => Content::Other(format!("{other} data")),
            (None, _, Some(table)) => Content::Other(format!("a partition table of type {table}")),
            (None, _, None) => Content::Other("an unknown signature".to_owned()),
        }),
        _ => None,
    }
}

/// The command that makes a file system. `kernel` is the running one's version: what is made must be mountable by it.
///
/// Defaults of the tools, as Kubernetes uses them, less what this kernel is too old for: the tools come in our image and
/// may be much newer than the host's kernel. `None`: a type that we do not make.
pub fn make_command(fs: &FsType, device: &Path, kernel: (u32, u32)) -> Option<Command> {
    let command = match fs {
        FsType::Ext4 => {
            let command = Command::new("mkfs.ext4").args(["-q", "-F", "-m0"]);
            // Without the orphan file of 5.15 the kernel would mount it read-only.
            if kernel < (5, 15) {
                command.args(["-O", "^orphan_file"])
            } else {
                command
            }
        }
        FsType::Xfs => {
            let command = Command::new("mkfs.xfs").args(["-q", "-f"]);
            match xfs_profile(kernel) {
                Some(profile) => command.args(["-c", &format!("options={profile}")]),
                None => command.args([
                    "-m",
                    "crc=1,finobt=0,inobtcount=0,bigtime=0,reflink=0,rmapbt=0",
                    "-i",
                    "sparse=0,nrext64=0",
                ]),
            }
        }
        FsType::Btrfs => Command::new("mkfs.btrfs").args(["-q", "-f"]),
        FsType::Other(_) => return None,
    };
    Some(command.arg(device))
}

/// What xfsprogs ships for kernels that are kept for long: the newest that is not newer than the running kernel.
const XFS_PROFILES: [(u32, u32); 7] = [(6, 12), (6, 6), (6, 1), (5, 15), (5, 10), (5, 4), (4, 19)];
const XFS_PROFILE_FOLDER: &str = "/usr/share/xfsprogs/mkfs";

fn xfs_profile(kernel: (u32, u32)) -> Option<String> {
    let (major, minor) = XFS_PROFILES
        .into_iter()
        .find(|profile| *profile <= kernel)?;
    Some(format!("{XFS_PROFILE_FOLDER}/lts_{major}.{minor}.conf"))
}

/// Major and minor number of a kernel's release, such as `6.12.3-amd64`.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(major), Ok(minor)) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers_of_blkid() {
        let ext4 = "DEVNAME=/dev/dm-1\nLABEL=\nUUID=5c5ad6c4\nVERSION=1.0\nFSBLOCKSIZE=4096\nBLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n";
        let lvm = "DEVNAME=/dev/dm-1\nUUID=k2xw\nVERSION=LVM2 001\nTYPE=LVM2_member\nUSAGE=raid\n";
        let gpt = "DEVNAME=/dev/dm-1\nPTUUID=8a\nPTTYPE=gpt\n";
        let cases = [
            (Some(2), "", Some(Content::Blank)),
            (Some(0), ext4, Some(Content::Filesystem(FsType::Ext4))),
            (
                Some(0),
                lvm,
                Some(Content::Other("LVM2_member data".to_owned())),
            ),
            (
                Some(0),
                gpt,
                Some(Content::Other("a partition table of type gpt".to_owned())),
            ),
            (
                Some(8),
                "",
                Some(Content::Other(
                    "several contradicting signatures".to_owned(),
                )),
            ),
            (Some(4), "", None),
            (None, "", None),
        ];
        for (exit, stdout, content) in cases {
            assert_eq!(parse_blkid(exit, stdout), content, "{exit:?} {stdout}");
        }
    }

    #[test]
    fn a_file_system_inside_a_partition_table_is_not_taken_for_a_plain_one() {
        let both = "TYPE=vfat\nUSAGE=filesystem\nPTTYPE=dos\n";
        assert_eq!(
            parse_blkid(Some(0), both),
            Some(Content::Other("vfat data".to_owned()))
        );
    }

    #[test]
    fn what_is_made_is_mountable_by_the_running_kernel() {
        let argv = |fs, kernel| {
            make_command(&fs, Path::new("/dev/x"), kernel)
                .unwrap()
                .argv()
                .join(" ")
        };
        assert_eq!(argv(FsType::Ext4, (6, 1)), "mkfs.ext4 -q -F -m0 /dev/x");
        assert_eq!(
            argv(FsType::Ext4, (4, 18)),
            "mkfs.ext4 -q -F -m0 -O ^orphan_file /dev/x"
        );
        assert_eq!(
            argv(FsType::Xfs, (7, 2)),
            "mkfs.xfs -q -f -c options=/usr/share/xfsprogs/mkfs/lts_6.12.conf /dev/x"
        );
        assert!(argv(FsType::Xfs, (5, 14)).contains("lts_5.10.conf"));
        assert!(argv(FsType::Xfs, (3, 10)).contains("reflink=0"));
        assert_eq!(argv(FsType::Btrfs, (6, 1)), "mkfs.btrfs -q -f /dev/x");
        assert!(
            make_command(
                &FsType::Other("ext3".to_owned()),
                Path::new("/dev/x"),
                (6, 1)
            )
            .is_none()
        );
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(kernel_version("7.2.7"), Some((7, 2)));
        assert_eq!(kernel_version("3.10.0-1160.el7.x86_64"), Some((3, 10)));
        assert_eq!(kernel_version("4.19-rc1"), Some((4, 19)));
        assert_eq!(kernel_version("linux"), None);
    }
}
