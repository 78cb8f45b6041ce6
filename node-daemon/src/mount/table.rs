//! The kernel's mount table: a parser of `mountinfo` and questions to it. No I/O.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount, as `proc_pid_mountinfo(5)` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of the file system. btrfs has anonymous ones (0:N): there only `source` tells the device.
    pub device: (u32, u32),
    /// What part of the file system is mounted: `/`, or the source folder or file of a bind mount.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Options of this mount, comma separated.
    pub options: String,
    /// Type of the file system.
    pub fs_type: String,
    /// What was mounted, by the name given then.
    pub source: PathBuf,
    /// Options of the file system, which all its mounts share.
    pub super_options: String,
}

impl Mount {
    /// Whether this mount refuses writes; the file system may take them through another.
    pub fn bound_read_only(&self) -> bool {
        has_option(&self.options, "ro")
    }

    /// Whether the file system as a whole refuses writes; ext4 turns so by itself after an error.
    pub fn fs_read_only(&self) -> bool {
        has_option(&self.super_options, "ro")
    }
}

fn has_option(options: &str, name: &str) -> bool {
    options.split(',').any(|option| option == name)
}

/// A block device by all the names it may have in a mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The path to use, such as `/dev/mapper/pvc-1-front`.
    pub path: PathBuf,
    /// Other paths under which it may have been mounted.
    pub aliases: Vec<PathBuf>,
    /// The kernel's name, such as `dm-3`.
    pub kernel_name: String,
    /// Major and minor number.
    pub number: (u32, u32),
}

impl Device {
    /// The node that devtmpfs keeps: always there, whoever manages links.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.kernel_name)
    }

    /// Whether a mount shows a file system of this device, or (block volumes) the device itself.
    pub fn is_source_of(&self, mount: &Mount) -> bool {
        mount.device == self.number
            || mount.source == self.path
            || mount.source == self.node()
            || self.aliases.contains(&mount.source)
            || self.is_node_at(mount)
    }

    /// Whether a mount is a bind mount of this device's node.
    pub fn is_node_at(&self, mount: &Mount) -> bool {
        matches!(mount.fs_type.as_str(), "devtmpfs" | "tmpfs")
            && mount
                .root
                .file_name()
                .is_some_and(|name| name.as_bytes() == self.kernel_name.as_bytes())
    }
}

/// A mount table at one moment, in the kernel's order: of several mounts at one place, the last covers the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(pub Vec<Mount>);

impl Table {
    /// Reads the text of `/proc/PID/mountinfo`. Lines that are not understood are left out: a mount of a kind unknown to us
    /// is none of ours.
    pub fn parse(text: &[u8]) -> Self {
        Self(
            text.split(|byte| *byte == b'\n')
                .filter_map(parse_line)
                .collect(),
        )
    }

    /// What is seen at exactly this path.
    pub fn at(&self, target: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.target == target)
    }

    /// All mounts of a device, whether by file system or as a node.
    pub fn of<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = &'a Mount> {
        self.0.iter().filter(|mount| device.is_source_of(mount))
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let _id = fields.next()?;
    let _parent = fields.next()?;
    let device = parse_device(std::str::from_utf8(fields.next()?).ok()?)?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = text(fields.next()?);
    // Optional fields (propagation) end with a hyphen.
    fields.find(|field| *field == b"-")?;
    Some(Mount {
        device,
        root,
        target,
        options,
        fs_type: text(fields.next()?),
        source: path(fields.next()?),
        super_options: text(fields.next()?),
    })
}

/// `MAJOR:MINOR`, as in `mountinfo` and in sysfs `dev` files.
pub fn parse_device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', Some(escaped)) = (byte, octal(tail)) {
            out.push(escaped);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    digits.iter().try_fold(0_u8, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Recorded on a node that had staged an xfs volume and published it read-only, a btrfs volume, and a block volume.
    const RECORDED: &[u8] = b"\
24 1 0:21 / / rw,relatime - overlay ov rw,lowerdir=/,upperdir=/mnt/disk/upper,workdir=/mnt/disk/work
26 24 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs devtmpfs rw,size=1003876k,nr_inodes=250969,mode=755
61 24 253:2 / /var/lib/kubelet/plugins/kubernetes.io/csi/lvm.hwameistor.io/abc/globalmount rw,relatime shared:31 - xfs /dev/mapper/pvc-1-front rw,nouuid,attr2,inode64,noquota
62 24 253:2 / /var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pvc-1/mount ro,relatime shared:31 - xfs /dev/mapper/pvc-1-front rw,nouuid,attr2,inode64,noquota
63 24 0:44 / /var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pvc-2/mount rw,relatime - btrfs /dev/mapper/pvc-2-front rw,ssd,discard=async,space_cache=v2,subvolid=5,subvol=/
64 24 0:5 /dm-4 /var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-3/9 rw,nosuid,relatime shared:2 master:1 - devtmpfs devtmpfs rw,size=1003876k,nr_inodes=250969,mode=755
65 24 253:7 / /mnt/with\\040space\\134\\011 rw - ext4 /dev/sdb1 rw
garbage
";

    fn a_device(name: &str, kernel_name: &str, minor: u32) -> Device {
        Device {
            path: Path::new("/dev/mapper").join(name),
            aliases: Vec::new(),
            kernel_name: kernel_name.to_owned(),
            number: (253, minor),
        }
    }

    #[test]
    fn recorded_table_is_read() {
        let table = Table::parse(RECORDED);
        assert_eq!(table.0.len(), 7);
        let target = Path::new("/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pvc-1/mount");
        let mount = table.at(target).unwrap();
        assert_eq!((mount.device, mount.fs_type.as_str()), ((253, 2), "xfs"));
        assert!(mount.bound_read_only() && !mount.fs_read_only());
        assert_eq!(table.0[6].target, Path::new("/mnt/with space\\\t"));
    }

    #[test]
    fn mounts_of_a_device_are_found_by_number_name_and_node() {
        let table = Table::parse(RECORDED);
        let targets = |device: &Device| table.of(device).count();
        assert_eq!(targets(&a_device("pvc-1-front", "dm-2", 2)), 2);
        assert_eq!(
            targets(&a_device("pvc-2-front", "dm-3", 3)),
            1,
            "btrfs has no number"
        );
        assert_eq!(
            targets(&a_device("pvc-3-front", "dm-4", 4)),
            1,
            "bind mount of the node"
        );
        assert_eq!(targets(&a_device("pvc-9-front", "dm-9", 9)), 0);
    }

    #[test]
    fn the_last_mount_at_a_place_covers_the_others() {
        let table =
            Table::parse(b"1 0 8:1 / /a rw - ext4 /dev/a rw\n2 0 8:2 / /a rw - ext4 /dev/b rw\n");
        assert_eq!(table.at(Path::new("/a")).unwrap().device, (8, 2));
    }

    proptest! {
        #[test]
        fn no_input_panics(text: Vec<u8>) {
            let _ = Table::parse(&text);
        }

        #[test]
        fn escapes_round_trip(name in "[ -~\t]{1,20}") {
            let escaped: String = name
                .bytes()
                .map(|b| if b" \t\\".contains(&b) { format!("\\{b:03o}") } else { char::from(b).to_string() })
                .collect();
            prop_assert_eq!(unescape(escaped.as_bytes()), name.as_bytes());
        }
    }
}
