//! The real mounts and file systems: system calls by rustix, tools by `hawser_command`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use hawser_command::Command;
use rustix::mount::{MountFlags, UnmountFlags};

use super::fs::{kernel_version, make_command, parse_blkid};
use super::{Content, Filesystems, FsType, MountError, Mounts, Options, Table, Usage};

/// Reading a few sectors.
const PROBE_DEADLINE: Duration = Duration::from_secs(30);
/// mkfs of a large device that discards slowly; a check after a crash.
const WORK_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// How much of a device's beginning must be readable before it is called blank: all known signatures but those at a device's end.
const HEAD: usize = 1024 * 1024;

/// This host.
#[derive(Debug, Clone)]
pub struct Host {
    proc: PathBuf,
}

impl Host {
    /// `proc` is the proc file system of the host's process namespace (`/proc`).
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }

    async fn read_table(&self, process: &str) -> Result<Table, MountError> {
        let path = self.proc.join(process).join("mountinfo");
        blocking("read", path, |path| std::fs::read(path))
            .await
            .map(|text| Table::parse(&text))
    }
}

/// Runs a system call that may block on a thread for such.
async fn blocking<T: Send + 'static>(
    action: impl Into<String>,
    path: PathBuf,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, MountError> {
    let called = path.clone();
    let result = tokio::task::spawn_blocking(move || call(&called)).await;
    result
        .unwrap_or_else(|_cancelled| Err(io::Error::other("the daemon is shutting down")))
        .map_err(|source| MountError::System {
            action: action.into(),
            path,
            source,
        })
}

#[async_trait]
impl Mounts for Host {
    async fn table(&self) -> Result<Table, MountError> {
        self.read_table("self").await
    }

    async fn host_table(&self) -> Result<Table, MountError> {
        self.read_table("1").await
    }

    async fn mount(
        &self,
        device: &Path,
        target: &Path,
        fs: &FsType,
        options: &Options,
    ) -> Result<(), MountError> {
        let (device, fs, flags) = (device.to_owned(), fs.as_str().to_owned(), options.flags);
        let action = format!(
            "mount {} with file system {fs} and options {:?} at",
            device.display(),
            options.data
        );
        let data = CString::new(options.data.clone()).unwrap_or_default();
        blocking(action, target.to_owned(), move |target| {
            Ok(rustix::mount::mount(
                &device,
                target,
                fs,
                flags,
                data.as_c_str(),
            )?)
        })
        .await
    }

    async fn bind(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        let source = source.to_owned();
        let action = format!("bind {} to", source.display());
        blocking(action, target.to_owned(), move |target| {
            Ok(rustix::mount::mount_bind(&source, target)?)
        })
        .await
    }

    async fn bind_read_only(&self, target: &Path) -> Result<(), MountError> {
        let table = self.table().await?;
        // A remount sets all flags anew: keep those that the mount has.
        let kept = table
            .at(target)
            .map_or(MountFlags::empty(), |mount| kept_flags(&mount.options));
        blocking("make read-only", target.to_owned(), move |target| {
            Ok(rustix::mount::mount_remount(
                target,
                kept | MountFlags::BIND | MountFlags::RDONLY,
                c"",
            )?)
        })
        .await
    }

    async fn unmount(&self, target: &Path) -> Result<(), MountError> {
        blocking("unmount", target.to_owned(), |target| {
            match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
                // Not a mount point; nothing at that path.
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn usage(&self, path: &Path) -> Result<Usage, MountError> {
        blocking("read the usage of", path.to_owned(), |path| {
            let stat = rustix::fs::statvfs(path)?;
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            Ok(Usage {
                total_bytes: bytes(stat.f_blocks),
                available_bytes: bytes(stat.f_bavail),
                used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
                total_inodes: stat.f_files,
                free_inodes: stat.f_ffree,
            })
        })
        .await
    }
}

/// Flags of a mount as `mountinfo` writes them.
fn kept_flags(options: &str) -> MountFlags {
    options
        .split(',')
        .map(|option| match option {
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            _ => MountFlags::empty(),
        })
        .fold(MountFlags::empty(), |all, flag| all | flag)
}

#[async_trait]
impl Filesystems for Host {
    async fn probe(&self, device: &Path) -> Result<Content, MountError> {
        let output = Command::new("blkid")
            .args(["-p", "-o", "export"])
            .arg(device)
            .deadline(PROBE_DEADLINE)
            .output()
            .await?;
        let content = parse_blkid(output.exit.code(), &output.stdout_text()).ok_or_else(|| {
            MountError::Probe {
                device: device.to_owned(),
                problem: format!("blkid ended with {}: {}", output.exit, output.stderr_text()),
            }
        })?;
        if content == Content::Blank {
            // blkid ends in the same way when it can't read the device, or when it takes the device for a private part of another; what can't be read,
            // or holds what blkid should have seen, must never be formatted.
            let head = blocking("read", device.to_owned(), read_head).await?;
            if let Some(found) = known_magic(&head) {
                return Err(MountError::Probe {
                    device: device.to_owned(),
                    problem: format!("blkid reports it as empty, but it begins as {found} does"),
                });
            }
        }
        Ok(content)
    }

    async fn make(&self, device: &Path, fs: &FsType) -> Result<(), MountError> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let kernel = kernel_version(&release).unwrap_or((u32::MAX, 0));
        let command = make_command(fs, device, kernel).ok_or_else(|| MountError::Probe {
            device: device.to_owned(),
            problem: format!("file systems of type {fs} are not made by Hawser"),
        })?;
        command.deadline(WORK_DEADLINE).run().await?;
        Ok(())
    }

    async fn check(&self, device: &Path, fs: &FsType) -> Result<(), MountError> {
        // xfs and btrfs replay their logs when mounted; their checkers are for hands.
        if *fs != FsType::Ext4 {
            return Ok(());
        }
        let output = Command::new("e2fsck")
            .arg("-p")
            .arg(device)
            .deadline(WORK_DEADLINE)
            .output()
            .await?;
        match output.exit.code() {
            Some(code) if code & 4 != 0 => Err(MountError::Damaged {
                device: device.to_owned(),
                fs: fs.clone(),
                report: output.stdout_text().lines().collect::<Vec<_>>().join("; "),
            }),
            Some(0..=3) => Ok(()),
            // Mounting decides.
            _ => {
                tracing::warn!(device = %device.display(), exit = %output.exit, stderr = output.stderr_text(), "the file system could not be checked");
                Ok(())
            }
        }
    }

    async fn readable(&self, device: &Path) -> Result<(), MountError> {
        blocking("read", device.to_owned(), read_block).await
    }

    async fn grow(&self, device: &Path, mounted_at: &Path, fs: &FsType) -> Result<(), MountError> {
        let command = match fs {
            FsType::Ext4 => Command::new("resize2fs").arg(device),
            FsType::Xfs => Command::new("xfs_growfs").arg("-d").arg(mounted_at),
            FsType::Btrfs => Command::new("btrfs")
                .args(["filesystem", "resize", "max"])
                .arg(mounted_at),
            // Older members of the family grow alike; others we do not know.
            FsType::Other(name) if name == "ext3" || name == "ext2" => {
                Command::new("resize2fs").arg(device)
            }
            FsType::Other(_) => return Ok(()),
        };
        command.deadline(WORK_DEADLINE).run().await?;
        Ok(())
    }
}

/// Direct reads need memory and length in whole blocks; this is one for every device.
const BLOCK: usize = 4096;

fn read_block(device: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(
        device,
        OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut memory = vec![0; 2 * BLOCK];
    let skip = memory.as_ptr().align_offset(BLOCK);
    rustix::io::pread(&file, &mut memory[skip..skip + BLOCK], 0)?;
    Ok(())
}

/// What the beginning of a device shows, of the few things that volumes of ours hold: a second look beside blkid's.
fn known_magic(head: &[u8]) -> Option<&'static str> {
    const MAGICS: [(usize, &[u8], &str); 4] = [
        (0x438, &[0x53, 0xef], "ext4"),
        (0, b"XFSB", "xfs"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (0, b"LUKS\xba\xbe", "LUKS"),
    ];
    MAGICS
        .iter()
        .find(|(at, magic, _)| head.get(*at..at + magic.len()) == Some(*magic))
        .map(|(_, _, name)| *name)
}

/// The first [`HEAD`] bytes, or all of a smaller device.
fn read_head(device: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(device)?;
    let mut head = vec![0; HEAD];
    let mut at = 0;
    while at < head.len() {
        match file.read_at(&mut head[at..], u64::try_from(at).unwrap_or_default())? {
            0 => break,
            n => at += n,
        }
    }
    if at == 0 {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the device has no size",
        ))
    } else {
        head.truncate(at);
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_volumes_hold_is_seen_without_blkid() {
        let with = |at: usize, magic: &[u8]| {
            let mut head = vec![0; HEAD];
            head[at..at + magic.len()].copy_from_slice(magic);
            known_magic(&head)
        };
        assert_eq!(with(0x438, &[0x53, 0xef]), Some("ext4"));
        assert_eq!(with(0, b"XFSB"), Some("xfs"));
        assert_eq!(with(0x1_0040, b"_BHRfS_M"), Some("btrfs"));
        assert_eq!(with(0, b"LUKS\xba\xbe"), Some("LUKS"));
        assert_eq!(known_magic(&vec![0; HEAD]), None);
        assert_eq!(known_magic(&[]), None);
    }

    #[tokio::test]
    async fn own_mount_table_is_read_and_usage_has_sense() {
        let host = Host::new("/proc");
        let table = host.table().await.unwrap();
        assert!(table.at(Path::new("/proc")).is_some(), "{table:?}");
        let usage = host.usage(Path::new("/")).await.unwrap();
        assert!(usage.total_bytes >= usage.available_bytes && usage.total_bytes > 0);
    }

    #[tokio::test]
    async fn unmounting_what_is_not_mounted_or_not_there_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::new("/proc");
        host.unmount(folder.path()).await.unwrap();
        host.unmount(&folder.path().join("gone")).await.unwrap();
    }

    #[tokio::test]
    async fn an_error_names_what_was_tried_and_where() {
        let host = Host::new("/proc");
        let options = super::super::options::parse::<&str>(&FsType::Xfs, &[]).unwrap();
        let error = host
            .mount(
                Path::new("/dev/none"),
                Path::new("/nowhere"),
                &FsType::Xfs,
                &options,
            )
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot mount /dev/none with file system xfs and options \"nouuid\" at /nowhere"
        );
    }

    #[test]
    fn a_device_that_cannot_be_read_is_not_blank() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(read_head(&empty).is_err());
        assert!(read_head(&folder.path().join("gone")).is_err());
        std::fs::write(&empty, vec![0; 4096]).unwrap();
        read_head(&empty).unwrap();
    }

    #[test]
    fn a_remount_keeps_the_flags() {
        assert_eq!(
            kept_flags("rw,nosuid,relatime"),
            MountFlags::NOSUID | MountFlags::RELATIME
        );
    }
}
