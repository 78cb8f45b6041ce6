//! Mounts and file systems of this node, behind two narrow traits so that tests can inject faults.
//!
//! Owns: reading the mount table, mounting, binding, unmounting, telling what a device holds, making, checking and growing
//! file systems. Does not own: which volume goes where (`csi`), nor the devices (`replica`).

pub mod fs;
pub mod host;
pub mod options;
pub mod table;

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hawser_command::{CommandError, Hangs};

pub use fs::{Content, FsType};
pub use options::Options;
pub use table::{Device, Mount, Table};

/// Why something about a mount or a file system failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What was tried, such as `mount xfs at`.
        action: String,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The device does not answer.
    #[error("cannot {action} {}", path.display())]
    NoAnswer {
        /// What was tried, such as `read`.
        action: String,
        /// Where.
        path: PathBuf,
        /// How long nothing was heard.
        #[source]
        source: Hangs,
    },
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] CommandError),
    /// The file system is damaged beyond what an automatic check repairs.
    #[error("the {fs} file system on {} is damaged and needs a manual check: {report}", device.display())]
    Damaged {
        /// The device.
        device: PathBuf,
        /// Its file system.
        fs: FsType,
        /// What the check said, in one line.
        report: String,
    },
    /// A tool's answer is not understood.
    #[error("cannot tell what {} holds: {problem}", device.display())]
    Probe {
        /// The device.
        device: PathBuf,
        /// What was odd.
        problem: String,
    },
}

impl MountError {
    /// The kernel's error, if it was a system call that failed.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::NoAnswer { .. } | Self::Tool(_) | Self::Damaged { .. } | Self::Probe { .. } => {
                None
            }
        }
    }

    /// Whether it failed because something still uses the mount or device.
    pub fn is_busy(&self) -> bool {
        self.io()
            .is_some_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    }
}

/// Usage of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the file system can hold.
    pub total_bytes: u64,
    /// Bytes that anyone may still write.
    pub available_bytes: u64,
    /// Bytes taken.
    pub used_bytes: u64,
    /// Files that the file system can hold; 0 if it sets no limit (btrfs).
    pub total_inodes: u64,
    /// Files that may still be made.
    pub free_inodes: u64,
}

/// The mount table of the host, and changes to it.
#[async_trait]
pub trait Mounts: Send + Sync {
    /// What is mounted in the namespace that we mount in.
    async fn table(&self) -> Result<Table, MountError>;
    /// What is mounted on the host, also outside of kubelet's folder.
    async fn host_table(&self) -> Result<Table, MountError>;
    /// Mounts a device's file system at an existing folder.
    async fn mount(
        &self,
        device: &Path,
        target: &Path,
        fs: &FsType,
        options: &Options,
    ) -> Result<(), MountError>;
    /// Shows at `target` (an existing folder or file) what is at `source`.
    async fn bind(&self, source: &Path, target: &Path) -> Result<(), MountError>;
    /// Refuses writes through the bind mount at `target`; other mounts of the file system are not affected.
    async fn bind_read_only(&self, target: &Path) -> Result<(), MountError>;
    /// Takes the topmost mount off `target`. Nothing mounted there, or no such path: done.
    async fn unmount(&self, target: &Path) -> Result<(), MountError>;
    /// Usage of the file system seen at a path. [`MountError::NoAnswer`] in time if it does not answer, and at once while an earlier
    /// call still waits for it.
    async fn usage(&self, path: &Path) -> Result<Usage, MountError>;
}

/// What devices hold.
#[async_trait]
pub trait Filesystems: Send + Sync {
    /// What a device holds. [`Content::Blank`] only if the device could be read and nothing is known to be on it.
    async fn probe(&self, device: &Path) -> Result<Content, MountError>;
    /// Makes a file system, whatever the device holds: who calls this has proof that nothing is lost.
    async fn make(&self, device: &Path, fs: &FsType) -> Result<(), MountError>;
    /// Checks an unmounted file system and repairs what is safe to repair. Does nothing for types that repair themselves.
    async fn check(&self, device: &Path, fs: &FsType) -> Result<(), MountError>;
    /// Reads one block from the device itself and not from a cache. [`MountError::NoAnswer`] as with [`Mounts::usage`].
    async fn readable(&self, device: &Path) -> Result<(), MountError>;
    /// Grows a mounted file system to its device's size. As large already: nothing happens.
    async fn grow(&self, device: &Path, mounted_at: &Path, fs: &FsType) -> Result<(), MountError>;
}
