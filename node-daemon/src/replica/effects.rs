//! What changes a node's volumes, behind narrow traits, and the real ones.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use hawser_api::names::devices::{FRONT_SUFFIX, FRONT_UUID_PREFIX, front_uuid};
use hawser_command::{Command, CommandError};
use lvm2_cmd::dm::{Dm, Table};
use lvm2_cmd::{CreateLv, Lvm, LvmError, Outcome, Report};

use crate::mount::Device;
use crate::mount::table::parse_device;

/// Why an effect failed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// LVM or device-mapper refused or failed.
    #[error(transparent)]
    Lvm(#[from] LvmError),
    /// Another tool failed.
    #[error(transparent)]
    Tool(#[from] CommandError),
    /// Zeroes could not be written.
    #[error("cannot write zeroes to {}", path.display())]
    Write {
        /// The device.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It would have destroyed or shown what it must not.
    #[error("{0}")]
    Unsafe(String),
    /// A file of the system could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A volume's front device, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// The volume, from the device's name.
    pub volume: String,
    /// Major and minor number.
    pub number: (u32, u32),
    /// How many hold it open.
    pub open: u32,
    /// Whether I/O is held.
    pub suspended: bool,
    /// Size, bytes; 0 without a live table.
    pub bytes: u64,
    /// The devices that it lies on; none if its table is `error`.
    pub lower: Vec<(u32, u32)>,
}

/// Name of a volume's front device.
pub fn front_name(volume: &str) -> String {
    format!("{volume}{FRONT_SUFFIX}")
}

impl Front {
    /// The device, as the mount table may name it.
    pub fn device(&self) -> Device {
        Device {
            path: Path::new("/dev/mapper").join(front_name(&self.volume)),
            aliases: Vec::new(),
            kernel_name: format!("dm-{}", self.number.1),
            number: self.number,
        }
    }
}

/// Logical volumes.
#[async_trait]
pub trait LogicalVolumes: Send + Sync {
    /// Everything there is.
    async fn report(&self) -> Result<Report, EffectError>;
    /// Makes one, active.
    async fn create(&self, create: &CreateLv) -> Result<(), EffectError>;
    /// Grows one to so many extents in all; never shrinks.
    async fn extend(&self, vg: &str, lv: &str, extents: u64) -> Result<(), EffectError>;
    /// Adds and deletes tags in one metadata change.
    async fn retag(
        &self,
        vg: &str,
        lv: &str,
        add: &[String],
        delete: &[String],
    ) -> Result<(), EffectError>;
    /// Makes its device appear.
    async fn activate(&self, vg: &str, lv: &str) -> Result<(), EffectError>;
    /// Removes the one of this UUID if it is not open and no snapshot hangs on it; otherwise an error and nothing done. Gone
    /// already: done.
    async fn remove(&self, vg: &str, lv: &str, uuid: &str) -> Result<(), EffectError>;
}

/// Front devices.
#[async_trait]
pub trait Fronts: Send + Sync {
    /// Those of this node.
    async fn list(&self) -> Result<Vec<Front>, EffectError>;
    /// Makes one over the first `bytes` of `lower`.
    async fn create(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError>;
    /// Gives one another size or lower device, under I/O.
    async fn reload(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError>;
    /// Lets I/O go on.
    async fn resume(&self, volume: &str) -> Result<(), EffectError>;
    /// Removes one that is not open. Gone already: done.
    async fn remove(&self, volume: &str) -> Result<(), EffectError>;
}

/// A run of bytes of a device to be zeroed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zero {
    /// The device.
    pub device: PathBuf,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// Refuse if anything (a mount, a device on top) holds the device.
    pub exclusive: bool,
}

/// Destroying data.
#[async_trait]
pub trait Wipe: Send + Sync {
    /// Makes the bytes read as zeroes, on the device itself and not only in a cache, before it returns.
    async fn zero(&self, zero: &Zero) -> Result<(), EffectError>;
    /// Tells the device that the bytes are not needed, if it cares to know. What they read as afterwards is the device's business.
    async fn discard(&self, zero: &Zero) -> Result<(), EffectError>;
}

/// The real effects.
#[derive(Debug, Clone)]
pub struct HostEffects {
    lvm: Lvm,
    dm: Dm,
    sys: PathBuf,
}

impl HostEffects {
    /// `sys` is where sysfs is mounted.
    pub fn new(lvm: Lvm, dm: Dm, sys: impl Into<PathBuf>) -> Self {
        Self {
            lvm,
            dm,
            sys: sys.into(),
        }
    }

    fn block(&self, minor: u32) -> PathBuf {
        self.sys.join("class/block").join(format!("dm-{minor}"))
    }

    /// Size and lower devices of a device-mapper device. All gone in between: as without a table.
    fn shape(&self, minor: u32) -> (u64, Vec<(u32, u32)>) {
        let block = self.block(minor);
        let sectors: u64 = read_trimmed(&block.join("size"))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let slaves = std::fs::read_dir(block.join("slaves"))
            .into_iter()
            .flatten()
            .flatten();
        let lower = slaves
            .filter_map(|slave| parse_device(&read_trimmed(&slave.path().join("dev"))?))
            .collect();
        (sectors.saturating_mul(lvm2_cmd::dm::SECTOR), lower)
    }
}

fn read_trimmed(path: &Path) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn done(_: Outcome) {}

#[async_trait]
impl LogicalVolumes for HostEffects {
    async fn report(&self) -> Result<Report, EffectError> {
        Ok(self.lvm.report().await?)
    }

    async fn create(&self, create: &CreateLv) -> Result<(), EffectError> {
        Ok(self.lvm.lv_create(create).await?)
    }

    async fn extend(&self, vg: &str, lv: &str, extents: u64) -> Result<(), EffectError> {
        Ok(self.lvm.lv_extend(vg, lv, extents).await.map(done)?)
    }

    async fn retag(
        &self,
        vg: &str,
        lv: &str,
        add: &[String],
        delete: &[String],
    ) -> Result<(), EffectError> {
        Ok(self
            .lvm
            .lv_change_tags(vg, lv, add, delete)
            .await
            .map(done)?)
    }

    async fn activate(&self, vg: &str, lv: &str) -> Result<(), EffectError> {
        Ok(self.lvm.lv_activate(vg, lv).await?)
    }

    async fn remove(&self, vg: &str, lv: &str, uuid: &str) -> Result<(), EffectError> {
        Ok(self.lvm.lv_remove(vg, lv, uuid).await.map(done)?)
    }
}

/// Major and minor number of the device at a path.
fn number_of(path: &Path) -> Result<(u32, u32), EffectError> {
    let meta = std::fs::metadata(path).map_err(|source| EffectError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok((
        rustix::fs::major(meta.rdev()),
        rustix::fs::minor(meta.rdev()),
    ))
}

#[async_trait]
impl Fronts for HostEffects {
    async fn list(&self) -> Result<Vec<Front>, EffectError> {
        let devices = self.dm.list().await?;
        Ok(devices
            .into_iter()
            .filter(|device| device.uuid.starts_with(FRONT_UUID_PREFIX))
            .filter_map(|device| {
                let (bytes, lower) = self.shape(device.minor);
                Some(Front {
                    volume: device.name.strip_suffix(FRONT_SUFFIX)?.to_owned(),
                    number: (device.major, device.minor),
                    open: device.open,
                    suspended: device.suspended,
                    bytes: if device.live_table { bytes } else { 0 },
                    lower,
                })
            })
            .collect())
    }

    async fn create(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError> {
        let table = Table::linear(bytes, number_of(lower)?, 0)?;
        let uuid = front_uuid(volume);
        Ok(self.dm.create(&front_name(volume), &uuid, &table).await?)
    }

    async fn reload(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError> {
        let name = front_name(volume);
        self.dm
            .load(&name, &Table::linear(bytes, number_of(lower)?, 0)?)
            .await?;
        Ok(self.dm.resume(&name).await?)
    }

    async fn resume(&self, volume: &str) -> Result<(), EffectError> {
        Ok(self.dm.resume(&front_name(volume)).await?)
    }

    async fn remove(&self, volume: &str) -> Result<(), EffectError> {
        Ok(self.dm.remove(&front_name(volume)).await.map(done)?)
    }
}

/// One piece of zeroing. Pieces are sized to take seconds; this is for a disk that has nearly stopped.
const ZERO_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Up to this, writing is faster than starting a program.
const SMALL: u64 = 8 * 1024 * 1024;

fn write_zeroes(zero: &Zero) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let exclusive = if zero.exclusive {
        OFlags::EXCL
    } else {
        OFlags::empty()
    };
    let file = rustix::fs::open(
        &zero.device,
        OFlags::WRONLY | OFlags::CLOEXEC | exclusive,
        Mode::empty(),
    )?;
    let zeroes = vec![0; 1024 * 1024];
    let (mut at, end) = (zero.offset, zero.offset.saturating_add(zero.length));
    while at < end {
        let piece = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(zeroes.len());
        let written = rustix::io::pwrite(&file, &zeroes[..piece], at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += u64::try_from(written).unwrap_or(0);
    }
    Ok(rustix::fs::fdatasync(&file)?)
}

/// Without `--force`, `blkdiscard` opens the device exclusively: the kernel refuses while a mount or a device on top holds it.
fn blkdiscard(zero: &Zero) -> Command {
    let command = Command::new("blkdiscard").args([
        "--offset",
        &zero.offset.to_string(),
        "--length",
        &zero.length.to_string(),
    ]);
    let command = if zero.exclusive {
        command
    } else {
        command.arg("--force")
    };
    command.deadline(ZERO_DEADLINE)
}

#[async_trait]
impl Wipe for HostEffects {
    /// `BLKZEROOUT`: the kernel has the device write zeroes by itself where it can (NVMe, virtual disks, most arrays), and sends
    /// zeroes where it can't. Unlike a discard, it is guaranteed to read as zeroes afterwards.
    async fn zero(&self, zero: &Zero) -> Result<(), EffectError> {
        if zero.length <= SMALL {
            let zero = zero.clone();
            let path = zero.device.clone();
            let written = tokio::task::spawn_blocking(move || write_zeroes(&zero)).await;
            return written
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|source| EffectError::Write { path, source });
        }
        blkdiscard(zero)
            .arg("--zeroout")
            .arg("--")
            .arg(&zero.device)
            .run()
            .await?;
        Ok(())
    }

    async fn discard(&self, zero: &Zero) -> Result<(), EffectError> {
        let number = number_of(&zero.device)?;
        let most = read_trimmed(&self.block(number.1).join("queue/discard_max_bytes"));
        if most.is_none_or(|text| text == "0") {
            return Ok(());
        }
        blkdiscard(zero).arg("--").arg(&zero.device).run().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkdiscard_is_exclusive_unless_told_otherwise() {
        let zero = Zero {
            device: "/dev/x".into(),
            offset: 0,
            length: 4096,
            exclusive: true,
        };
        assert_eq!(
            blkdiscard(&zero).argv(),
            ["blkdiscard", "--offset", "0", "--length", "4096"]
        );
        assert!(
            blkdiscard(&Zero {
                exclusive: false,
                ..zero
            })
            .argv()
            .contains(&"--force".to_owned())
        );
    }

    #[test]
    fn small_pieces_are_written_where_they_belong() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        std::fs::write(&device, vec![7; 3 * 1024 * 1024]).unwrap();
        let zero = Zero {
            device: device.clone(),
            offset: 1000,
            length: 2 * 1024 * 1024,
            exclusive: false,
        };
        write_zeroes(&zero).unwrap();
        let bytes = std::fs::read(&device).unwrap();
        assert_eq!(bytes.len(), 3 * 1024 * 1024);
        let zeroes = 1000..1000 + 2 * 1024 * 1024;
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| (*byte == 0) == zeroes.contains(&at))
        );
    }

    #[test]
    fn size_and_lower_devices_come_from_sysfs() {
        let sys = tempfile::tempdir().unwrap();
        let slave = sys.path().join("class/block/dm-3/slaves/dm-1");
        std::fs::create_dir_all(&slave).unwrap();
        std::fs::write(slave.join("dev"), "253:1\n").unwrap();
        std::fs::write(sys.path().join("class/block/dm-3/size"), "8192\n").unwrap();
        let options = lvm2_cmd::Options::default();
        let effects = HostEffects::new(Lvm::new(options.clone()), Dm::new(options), sys.path());
        assert_eq!(effects.shape(3), (8192 * 512, vec![(253, 1)]));
        assert_eq!(effects.shape(9), (0, Vec::new()), "gone");
    }
}
