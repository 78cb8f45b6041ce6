//! Requests as they come over the wire, checked. What is wrong is refused with a sentence that names the field, the value and
//! what would be right; nothing has been changed then.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use hawser_csi::v1::volume_capability::access_mode::Mode;
use hawser_csi::v1::volume_capability::{AccessMode, AccessType};
use hawser_csi::v1::{CapacityRange, VolumeCapability};
use tonic::Status;

use crate::mount::{FsType, Options, options};

/// The kernel's limit for a path.
const MAX_PATH: usize = 4096;

/// How a volume is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a file system.
    Mount {
        /// Its type.
        fs: FsType,
        /// How it is mounted.
        options: Options,
    },
    /// As a block device.
    Block,
}

/// A checked capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// How.
    pub access: Access,
    /// By one target path only.
    pub single_writer: bool,
}

fn invalid(sentence: impl Into<String>) -> Status {
    Status::invalid_argument(sentence)
}

/// A volume's id: any text but none. What can't be a volume's name is a volume that is not there.
pub fn volume_id(text: &str) -> Result<&str, Status> {
    if text.is_empty() {
        Err(invalid(
            "volume_id is empty: the id of a volume is required",
        ))
    } else {
        Ok(text)
    }
}

/// Reads a capability. Access modes across nodes are accepted: claims of such modes exist and are served on one node, which the
/// provisioner's side sees to.
pub fn capability(given: Option<&VolumeCapability>) -> Result<Capability, Status> {
    let given = given.ok_or_else(|| invalid("volume_capability is missing: it is required"))?;
    let mode = given
        .access_mode
        .as_ref()
        .map_or(0, |AccessMode { mode }| *mode);
    let mode = match Mode::try_from(mode) {
        Ok(Mode::Unknown) => {
            return Err(invalid(
                "volume_capability.access_mode is missing or UNKNOWN: SINGLE_NODE_WRITER would be right",
            ));
        }
        Err(_) => {
            return Err(invalid(format!(
                "volume_capability.access_mode {mode} is not known: SINGLE_NODE_WRITER would be right"
            )));
        }
        Ok(mode) => mode,
    };
    let access = match &given.access_type {
        None => {
            return Err(invalid(
                "volume_capability.access_type is missing: mount or block is required",
            ));
        }
        Some(AccessType::Block(_)) => Access::Block,
        Some(AccessType::Mount(mount)) => {
            if !mount.volume_mount_group.is_empty() {
                return Err(invalid(format!(
                    "volume_capability.mount.volume_mount_group is {:?}: the driver does not offer VOLUME_MOUNT_GROUP, leave it empty",
                    mount.volume_mount_group
                )));
            }
            let fs = fs_type(&mount.fs_type)?;
            let options = options::parse(&fs, &mount.mount_flags).map_err(|error| {
                invalid(format!("volume_capability.mount.mount_flags: {error}"))
            })?;
            Access::Mount { fs, options }
        }
    };
    Ok(Capability {
        access,
        single_writer: mode == Mode::SingleNodeSingleWriter,
    })
}

fn fs_type(text: &str) -> Result<FsType, Status> {
    if text.len() > 32
        || !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        return Err(invalid(format!(
            "volume_capability.mount.fs_type is {text:?}: ext4, xfs or btrfs would be right"
        )));
    }
    Ok(FsType::parse(text))
}

/// Bytes that a capacity range asks for at least.
pub fn required_bytes(range: Option<&CapacityRange>) -> Result<u64, Status> {
    let Some(range) = range else { return Ok(0) };
    let (required, limit) = (range.required_bytes, range.limit_bytes);
    let number = |field: &str, value: i64| {
        u64::try_from(value).map_err(|_| {
            invalid(format!(
                "capacity_range.{field} is {value}: 0 or more would be right"
            ))
        })
    };
    let (required_bytes, limit_bytes) = (
        number("required_bytes", required)?,
        number("limit_bytes", limit)?,
    );
    if limit_bytes > 0 && limit_bytes < required_bytes {
        return Err(invalid(format!(
            "capacity_range.limit_bytes is {limit}, less than required_bytes {required}: it must be as large or absent"
        )));
    }
    Ok(required_bytes)
}

/// kubelet's folder. Nothing outside of it is mounted, made or removed, whatever a request says.
#[derive(Debug, Clone)]
pub struct KubeletDir(PathBuf);

impl KubeletDir {
    /// The folder, at the path that kubelet uses for it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Checks a path of a request: absolute, without `..`, below kubelet's folder also when links are followed.
    ///
    /// The last part is not followed: it may be a mount that no longer answers.
    pub fn check(&self, field: &str, text: &str) -> Result<PathBuf, Status> {
        if text.is_empty() {
            return Err(invalid(format!(
                "{field} is empty: an absolute path below {} is required",
                self.0.display()
            )));
        }
        let wrong = |problem: &str| {
            invalid(format!(
                "{field} {text:?} {problem}: an absolute path below {} would be right",
                self.0.display()
            ))
        };
        if text.len() > MAX_PATH {
            return Err(invalid(format!(
                "{field} has {} bytes: at most {MAX_PATH} are possible",
                text.len()
            )));
        }
        let path = Path::new(text);
        if text.contains('\0') {
            return Err(wrong("contains a zero byte"));
        }
        if !path.is_absolute() {
            return Err(wrong("is not absolute"));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(wrong("contains .."));
        }
        // Components leave out doubled slashes, single dots and a slash at the end.
        let path: PathBuf = path.components().collect();
        let below = path
            .strip_prefix(&self.0)
            .is_ok_and(|rest| rest != OsStr::new(""));
        if !below {
            return Err(wrong("is outside of kubelet's folder"));
        }
        match self.leads_outside(&path) {
            Some(real) => Err(wrong(&format!(
                "leads to {} through a link",
                real.display()
            ))),
            None => Ok(path),
        }
    }

    /// Where the folder of a path really is, if that is not below kubelet's. Only what exists can lead anywhere.
    fn leads_outside(&self, path: &Path) -> Option<PathBuf> {
        let home = std::fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone());
        let real = path
            .ancestors()
            .skip(1)
            .find_map(|folder| std::fs::canonicalize(folder).ok())?;
        // What of kubelet's own folder does not exist yet leads nowhere.
        (!real.starts_with(&home) && !home.starts_with(&real)).then_some(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_csi::v1::volume_capability::{BlockVolume, MountVolume};
    use tonic::Code;

    fn a_capability(access_type: Option<AccessType>, mode: i32) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode }),
            access_type,
        }
    }

    fn a_mount(fs: &str, flags: &[&str]) -> AccessType {
        AccessType::Mount(MountVolume {
            fs_type: fs.to_owned(),
            mount_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            volume_mount_group: String::new(),
        })
    }

    #[test]
    fn capabilities_that_can_be_served() {
        let writer = Mode::SingleNodeWriter.into();
        let mount =
            capability(Some(&a_capability(Some(a_mount("", &["noatime"])), writer))).unwrap();
        assert!(
            matches!(
                mount.access,
                Access::Mount {
                    fs: FsType::Ext4,
                    ..
                }
            ) && !mount.single_writer
        );
        let block = AccessType::Block(BlockVolume {});
        let one = capability(Some(&a_capability(
            Some(block),
            Mode::SingleNodeSingleWriter.into(),
        )))
        .unwrap();
        assert_eq!(
            one,
            Capability {
                access: Access::Block,
                single_writer: true
            }
        );
        // Claims for several nodes exist.
        let many = Mode::MultiNodeMultiWriter.into();
        assert!(capability(Some(&a_capability(Some(a_mount("xfs", &[])), many))).is_ok());
    }

    #[test]
    fn capabilities_that_are_refused_name_the_field() {
        let writer = Mode::SingleNodeWriter.into();
        let group = AccessType::Mount(MountVolume {
            volume_mount_group: "5".to_owned(),
            ..MountVolume::default()
        });
        let cases = [
            (None, "volume_capability is missing"),
            (Some(a_capability(None, writer)), "access_type"),
            (Some(a_capability(Some(a_mount("", &[])), 0)), "access_mode"),
            (
                Some(a_capability(Some(a_mount("", &[])), 99)),
                "access_mode 99",
            ),
            (
                Some(a_capability(Some(a_mount("ext4 -o x", &[])), writer)),
                "fs_type",
            ),
            (
                Some(a_capability(Some(a_mount("", &["bind"])), writer)),
                "\"bind\"",
            ),
            (
                Some(a_capability(Some(group), writer)),
                "volume_mount_group",
            ),
        ];
        for (given, part) in cases {
            let status = capability(given.as_ref()).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(part), "{}", status.message());
        }
    }

    #[test]
    fn capacity_ranges() {
        let range = |required_bytes, limit_bytes| CapacityRange {
            required_bytes,
            limit_bytes,
        };
        assert_eq!(required_bytes(None).unwrap(), 0);
        assert_eq!(
            required_bytes(Some(&range(i64::MAX, 0))).unwrap(),
            i64::MAX.unsigned_abs()
        );
        assert_eq!(required_bytes(Some(&range(5, 5))).unwrap(), 5);
        for wrong in [range(-1, 0), range(0, -1), range(5, 4)] {
            assert_eq!(
                required_bytes(Some(&wrong)).unwrap_err().code(),
                Code::InvalidArgument
            );
        }
    }

    #[test]
    fn paths_stay_below_kubelets_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("kubelet");
        std::fs::create_dir_all(home.join("pods")).unwrap();
        std::os::unix::fs::symlink("/etc", home.join("pods/evil")).unwrap();
        let kubelet = KubeletDir::new(&home);
        let good = format!("{}//pods/./1/mount/", home.display());
        assert_eq!(
            kubelet.check("target_path", &good).unwrap(),
            home.join("pods/1/mount")
        );
        let long = format!("{}/{}", home.display(), "x/".repeat(3000));
        for wrong in [
            String::new(),
            "some/path".to_owned(),
            format!("{}/../etc", home.display()),
            home.display().to_string(),
            "/etc/passwd".to_owned(),
            format!("{}-other/x", home.display()),
            format!("{}/pods/evil/x", home.display()),
            format!("{}/a\0b", home.display()),
            long,
        ] {
            let status = kubelet.check("target_path", &wrong).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{wrong}");
            assert!(
                status.message().starts_with("target_path"),
                "{}",
                status.message()
            );
        }
    }

    #[test]
    fn kubelets_folder_may_itself_be_a_link() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("real/pods")).unwrap();
        let home = folder.path().join("kubelet");
        std::os::unix::fs::symlink(folder.path().join("real"), &home).unwrap();
        let path = home.join("pods/1");
        assert_eq!(
            KubeletDir::new(&home)
                .check("target_path", path.to_str().unwrap())
                .unwrap(),
            path
        );
    }
}
