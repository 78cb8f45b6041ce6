//! File system types: which we make, with what arguments, and what a device's signature means. No I/O.

use std::fmt;
use std::path::{Path, PathBuf};

use hawser_command::Command;

use crate::signature::{Found, Signature};

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

impl From<Found> for Content {
    fn from(found: Found) -> Self {
        match found {
            Found::Nothing => Self::Blank,
            // A file system inside a partition table is not a plain one.
            Found::Signature(Signature {
                kind,
                usage,
                table: None,
                ..
            }) if usage == "filesystem" => Self::Filesystem(FsType::parse(&kind)),
            Found::Signature(other) => Self::Other(format!("{} data", other.kind)),
            Found::Table(table) => Self::Other(format!("a partition table of type {table}")),
            Found::Several => Self::Other("several contradicting signatures".to_owned()),
        }
    }
}

/// The command that makes a file system. `kernel` is the running one's version: what is made must be mountable by it. `profile` is the
/// text of one of [`xfs_profiles`].
///
/// Defaults of the tools, as Kubernetes uses them, less what this kernel is too old for: the tools come in our image and
/// may be much newer than the host's kernel. `None`: a type that we do not make.
pub fn make_command(
    fs: &FsType,
    device: &Path,
    kernel: (u32, u32),
    profile: Option<&str>,
) -> Option<Command> {
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
        FsType::Xfs => Command::new("mkfs.xfs")
            .args(["-q", "-f"])
            .args(xfs_options(profile.unwrap_or(XFS_OLDEST))),
        FsType::Btrfs => Command::new("mkfs.btrfs").args(["-q", "-f"]),
        FsType::Other(_) => return None,
    };
    Some(command.arg(device))
}

/// What xfsprogs ships for kernels that are kept for long.
const XFS_PROFILES: [(u32, u32); 7] = [(6, 12), (6, 6), (6, 1), (5, 15), (5, 10), (5, 4), (4, 19)];
const XFS_PROFILE_FOLDER: &str = "/usr/share/xfsprogs/mkfs";
/// For kernels older than those.
const XFS_OLDEST: &str = "\
[metadata]
crc=1
finobt=0
inobtcount=0
bigtime=0
[inode]
sparse=0
nrext64=0
";
/// What is not as the profile says: neither trees of shared blocks nor of owners. They take room from the user (docs/decisions.md).
const XFS_WITHOUT: [&str; 2] = ["reflink", "rmapbt"];

/// Files with the features of xfs that a kernel can mount, the newest first; which are there depends on the tools.
pub fn xfs_profiles(kernel: (u32, u32)) -> impl Iterator<Item = PathBuf> {
    let known = XFS_PROFILES.into_iter().filter(move |p| *p <= kernel);
    known.map(|(major, minor)| {
        Path::new(XFS_PROFILE_FOLDER).join(format!("lts_{major}.{minor}.conf"))
    })
}

/// Arguments of `mkfs.xfs` that say the same as a profile, less [`XFS_WITHOUT`]. mkfs itself takes no profile of which an argument
/// says otherwise.
fn xfs_options(profile: &str) -> Vec<String> {
    let mut sections: Vec<(&str, Vec<&str>)> = vec![("-m", Vec::new())];
    let mut current = None;
    for line in profile.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            // mkfs.xfs(8), "Configuration File Format".
            let option = match name {
                "metadata" => "-m",
                "inode" => "-i",
                "naming" => "-n",
                "data" => "-d",
                "log" => "-l",
                "block" => "-b",
                "sector" => "-s",
                "realtime" => "-r",
                _ => {
                    current = None;
                    continue;
                }
            };
            let known = sections.iter().position(|(o, _)| *o == option);
            current = Some(known.unwrap_or_else(|| {
                sections.push((option, Vec::new()));
                sections.len() - 1
            }));
        } else if let (Some(at), Some((key, _))) = (current, line.split_once('='))
            && !line.starts_with('#')
            && !XFS_WITHOUT.contains(&key.trim())
        {
            sections[at].1.push(line);
        }
    }
    let mut options = Vec::new();
    for (option, values) in sections {
        let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
        if option == "-m" {
            values.extend(XFS_WITHOUT.map(|feature| format!("{feature}=0")));
        }
        if !values.is_empty() {
            options.extend([option.to_owned(), values.join(",")]);
        }
    }
    options
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
    fn what_a_signature_means() {
        let signature = |kind: &str, usage: &str, table: Option<&str>| {
            Content::from(Found::Signature(Signature {
                kind: kind.to_owned(),
                usage: usage.to_owned(),
                uuid: String::new(),
                table: table.map(str::to_owned),
            }))
        };
        let other = |what: &str| Content::Other(what.to_owned());
        assert_eq!(Content::from(Found::Nothing), Content::Blank);
        assert_eq!(
            signature("ext4", "filesystem", None),
            Content::Filesystem(FsType::Ext4)
        );
        assert_eq!(
            signature("LVM2_member", "raid", None),
            other("LVM2_member data")
        );
        // A file system inside a partition table is not taken for a plain one.
        assert_eq!(
            signature("vfat", "filesystem", Some("dos")),
            other("vfat data")
        );
        assert_eq!(
            Content::from(Found::Table("gpt".to_owned())),
            other("a partition table of type gpt")
        );
        assert_eq!(
            Content::from(Found::Several),
            other("several contradicting signatures")
        );
    }

    /// `lts_6.12.conf` of xfsprogs 6.13.
    const LTS_6_12: &str = "\
# V5 features that were the mkfs defaults when the upstream Linux 6.12 LTS
# kernel was released at the end of 2024.

[metadata]
bigtime=1
crc=1
finobt=1
inobtcount=1
metadir=0
reflink=1
rmapbt=1
autofsck=0

[inode]
sparse=1
nrext64=1
exchange=0

[naming]
parent=0
";

    #[test]
    fn what_is_made_is_mountable_by_the_running_kernel() {
        let argv = |fs, kernel| {
            let profile = xfs_profiles(kernel).next().map(|_| LTS_6_12);
            make_command(&fs, Path::new("/dev/x"), kernel, profile)
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
            "mkfs.xfs -q -f -m bigtime=1,crc=1,finobt=1,inobtcount=1,metadir=0,autofsck=0,reflink=0,rmapbt=0 \
             -i sparse=1,nrext64=1,exchange=0 -n parent=0 /dev/x"
        );
        assert_eq!(
            argv(FsType::Xfs, (3, 10)),
            "mkfs.xfs -q -f -m crc=1,finobt=0,inobtcount=0,bigtime=0,reflink=0,rmapbt=0 -i sparse=0,nrext64=0 /dev/x"
        );
        assert_eq!(argv(FsType::Btrfs, (6, 1)), "mkfs.btrfs -q -f /dev/x");
        let other = FsType::Other("ext3".to_owned());
        assert!(make_command(&other, Path::new("/dev/x"), (6, 1), None).is_none());
    }

    #[test]
    fn the_profile_is_the_newest_that_the_kernel_knows() {
        let file = |kernel| {
            let path = xfs_profiles(kernel).next()?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(file((7, 2)).unwrap(), "lts_6.12.conf");
        assert_eq!(file((5, 14)).unwrap(), "lts_5.10.conf");
        assert_eq!(file((4, 18)), None);
    }

    /// Whatever a profile says, it leads to no feature of [`XFS_WITHOUT`].
    #[test]
    fn odd_profiles_are_borne() {
        for (profile, options) in [
            ("", "-m reflink=0,rmapbt=0"),
            ("crc=1\n[unknown]\nx=1\n", "-m reflink=0,rmapbt=0"),
            (
                "[inode]\n sparse=1 \n[metadata]\nreflink = 1\n#finobt=1\n",
                "-m reflink=0,rmapbt=0 -i sparse=1",
            ),
            (
                "[metadata]\ncrc=1\n[inode]\nsparse=1\n[metadata]\nbigtime=1\n",
                "-m crc=1,bigtime=1,reflink=0,rmapbt=0 -i sparse=1",
            ),
        ] {
            assert_eq!(xfs_options(profile).join(" "), options);
        }
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(kernel_version("7.2.7"), Some((7, 2)));
        assert_eq!(kernel_version("3.10.0-1160.el7.x86_64"), Some((3, 10)));
        assert_eq!(kernel_version("4.19-rc1"), Some((4, 19)));
        assert_eq!(kernel_version("linux"), None);
    }
}
