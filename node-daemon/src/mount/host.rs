//! The real mounts and file systems: system calls by rustix, tools by `hawser_command`.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use hawser_command::{Command, Lane, Lanes};
use hawser_runtime::telemetry::chain;
use rustix::mount::{MountFlags, UnmountFlags};

use super::fs::{kernel_version, make_command, xfs_profiles};
use super::{Content, Filesystems, FsType, MountError, Mounts, Options, Table, Usage};
use crate::signature::{LookError, Looker};

/// Reading a few megabytes.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// For what kubelet asks of every volume every minute.
const POLL_PATIENCE: Duration = Duration::from_secs(10);
/// mkfs of a large device that discards slowly; a check after a crash.
const WORK_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// This host.
#[derive(Debug, Clone)]
pub struct Host {
    proc: PathBuf,
    looker: Looker,
    /// How long a device may take to answer what is asked again and again.
    patience: Duration,
    /// By the path of the file system.
    usages: Lanes<PathBuf>,
    /// By the path of the device.
    reads: Lanes<PathBuf>,
}

impl Host {
    /// `proc` is the proc file system of the host's process namespace (`/proc`).
    pub fn new(proc: impl Into<PathBuf>, looker: Looker) -> Self {
        Self {
            proc: proc.into(),
            looker,
            patience: POLL_PATIENCE,
            usages: Lanes::default(),
            reads: Lanes::default(),
        }
    }

    async fn read_table(&self, process: &str) -> Result<Table, MountError> {
        let path = self.proc.join(process).join("mountinfo");
        blocking("read", path, |path| {
            let table = Table::parse(&std::fs::read(path)?);
            // Something is mounted always. Who believes that nothing is, takes volumes away from under their pods.
            if table.0.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it shows nothing that is mounted",
                ));
            }
            Ok(table)
        })
        .await
    }

    /// Runs a system call that is asked for again and again, on a device that may not answer: in a lane, so that the threads that
    /// wait for it do not become more and more.
    async fn polled<T: Send + 'static>(
        &self,
        lane: Lane,
        action: &'static str,
        path: &Path,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, MountError> {
        lane.run(self.patience, blocking(action, path.to_owned(), call))
            .await
            .unwrap_or_else(|source| {
                Err(MountError::NoAnswer {
                    action: action.to_owned(),
                    path: path.to_owned(),
                    source,
                })
            })
    }

    /// The features of xfs that this kernel can mount, as the newest fitting profile of the tools that are there says.
    async fn xfs_profile(&self, kernel: (u32, u32)) -> Result<Option<String>, MountError> {
        for path in xfs_profiles(kernel) {
            match blocking("read", path, |path| std::fs::read_to_string(path)).await {
                Ok(text) => return Ok(Some(text)),
                // Older tools.
                Err(error)
                    if error
                        .io()
                        .is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
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
        let lane = self.usages.of(path.to_owned());
        self.polled(lane, "read the usage of", path, |path| {
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
        let found = self.looker.look(device, PROBE_PATIENCE).await;
        found.map(Content::from).map_err(|error| match error {
            LookError::NoAnswer(source) => MountError::NoAnswer {
                action: "tell what is on".to_owned(),
                path: device.to_owned(),
                source,
            },
            other @ (LookError::Open(_)
            | LookError::Read(_)
            | LookError::Tool(_)
            | LookError::Answer { .. }
            | LookError::Overlooked(_)) => MountError::Probe {
                device: device.to_owned(),
                problem: chain(&other).to_string(),
            },
        })
    }

    async fn make(&self, device: &Path, fs: &FsType) -> Result<(), MountError> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let kernel = kernel_version(&release).unwrap_or((u32::MAX, 0));
        let profile = if *fs == FsType::Xfs {
            self.xfs_profile(kernel).await?
        } else {
            None
        };
        let command = make_command(fs, device, kernel, profile.as_deref()).ok_or_else(|| {
            MountError::Probe {
                device: device.to_owned(),
                problem: format!("file systems of type {fs} are not made by Hawser"),
            }
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
        let lane = self.reads.of(device.to_owned());
        self.polled(lane, "read", device, read_block).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SilentDevice;

    fn a_host() -> Host {
        Host::new("/proc", Looker::default())
    }

    #[tokio::test]
    async fn own_mount_table_is_read_and_usage_has_sense() {
        let host = a_host();
        let table = host.table().await.unwrap();
        assert!(table.at(Path::new("/proc")).is_some(), "{table:?}");
        let usage = host.usage(Path::new("/")).await.unwrap();
        assert!(usage.total_bytes >= usage.available_bytes && usage.total_bytes > 0);
    }

    #[tokio::test]
    async fn unmounting_what_is_not_mounted_or_not_there_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let host = a_host();
        host.unmount(folder.path()).await.unwrap();
        host.unmount(&folder.path().join("gone")).await.unwrap();
    }

    #[tokio::test]
    async fn an_error_names_what_was_tried_and_where() {
        let host = a_host();
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

    #[tokio::test]
    async fn a_device_that_cannot_be_read_is_not_blank() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        let host = a_host();
        for device in [&empty, &folder.path().join("gone")] {
            let error = host.probe(device).await.unwrap_err();
            assert!(error.to_string().contains("cannot tell"), "{error}");
        }
        std::fs::write(&empty, vec![0; 4096]).unwrap();
        assert_eq!(host.probe(&empty).await.unwrap(), Content::Blank);
    }

    #[tokio::test]
    async fn an_empty_mount_table_is_not_believed() {
        let proc = tempfile::tempdir().unwrap();
        for process in ["self", "1"] {
            std::fs::create_dir(proc.path().join(process)).unwrap();
            std::fs::write(proc.path().join(process).join("mountinfo"), "").unwrap();
        }
        let host = Host::new(proc.path(), Looker::default());
        host.table().await.unwrap_err();
        host.host_table().await.unwrap_err();
    }

    /// kubelet asks every minute, for as long as the device does not answer.
    #[tokio::test]
    async fn a_device_that_does_not_answer_holds_one_thread() {
        let silent = SilentDevice::new();
        let host = Host {
            patience: Duration::from_secs(1),
            ..a_host()
        };
        let begin = std::time::Instant::now();
        let late = host.readable(&silent.path()).await.unwrap_err();
        assert!(matches!(late, MountError::NoAnswer { .. }), "{late:?}");
        let threads = threads();
        let first = begin.elapsed();
        for _ in 0..600 {
            let refused = host.readable(&silent.path()).await.unwrap_err();
            assert!(
                matches!(
                    refused,
                    MountError::NoAnswer {
                        source: hawser_command::Hangs::Earlier,
                        ..
                    }
                ),
                "{refused:?}"
            );
        }
        assert!(begin.elapsed() < 2 * first, "at once");
        // Other tests have threads too.
        assert!(self::threads() < threads + 300, "{}", self::threads());
        // What answers is not held up.
        host.usage(Path::new("/")).await.unwrap();
    }

    fn threads() -> usize {
        std::fs::read_dir("/proc/self/task").unwrap().count()
    }

    #[test]
    fn a_remount_keeps_the_flags() {
        assert_eq!(
            kept_flags("rw,nosuid,relatime"),
            MountFlags::NOSUID | MountFlags::RELATIME
        );
    }
}
