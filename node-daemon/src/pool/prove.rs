//! The last look before a disk is written to: it must be the disk that was chosen, and empty.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::fs::{OFlags, SeekFrom};

use crate::disk::Disk;
use crate::disk::mounts::HostUse;
use crate::disk::probe::{Content, probe};
use crate::signature::Looker;

/// Proves that nothing is on a disk. A trait, so that tests need no disks.
#[async_trait]
pub trait Prove: Send + Sync {
    /// `Err` says why the disk must not be touched, in words that go on after the disk's name.
    async fn prove_blank(&self, disk: &Disk) -> Result<(), String>;
}

/// Looks at the device itself.
#[derive(Debug, Clone)]
pub struct RealProof {
    pub proc: PathBuf,
    pub looker: Looker,
}

#[async_trait]
impl Prove for RealProof {
    async fn prove_blank(&self, disk: &Disk) -> Result<(), String> {
        let (expected, proc) = (disk.clone(), self.proc.clone());
        tokio::task::spawn_blocking(move || same_and_free(&expected, &proc))
            .await
            .map_err(|_| "could not be looked at: shutting down".to_owned())??;
        match probe(&self.looker, &disk.path).await {
            Content::Blank => Ok(()),
            content @ (Content::Signature { .. }
            | Content::Table { .. }
            | Content::Unknown { .. }) => {
                let found = Disk {
                    content,
                    ..disk.clone()
                };
                Err(found
                    .in_use(false)
                    .unwrap_or_else(|| "is not proven to be empty".to_owned()))
            }
        }
    }
}

/// The same device number and size as when it was chosen; not mounted; nobody holds it.
fn same_and_free(disk: &Disk, proc: &Path) -> Result<(), String> {
    let host = HostUse::read(proc)
        .map_err(|error| format!("may be mounted: {} can't be read: {error}", proc.display()))?;
    if let Some(target) = host.mounts(disk.number, &disk.path).first() {
        return Err(format!("is mounted at {}", target.display()));
    }
    if host.is_swap(&disk.path) {
        return Err("is in use as swap".to_owned());
    }
    // O_EXCL on a block device fails if a mount, swap or another device holds it.
    let flags = (OFlags::EXCL | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&disk.path)
        .map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                "is not there now".to_owned()
            } else if error.kind() == ErrorKind::ResourceBusy {
                "is held by another program or device".to_owned()
            } else {
                format!("can't be opened: {error}")
            }
        })?;
    let metadata = file.metadata().map_err(|e| format!("can't be read: {e}"))?;
    let number = (
        rustix::fs::major(metadata.rdev()),
        rustix::fs::minor(metadata.rdev()),
    );
    if number != disk.number {
        return Err(format!(
            "has become device {}:{}, {}:{} was chosen",
            number.0, number.1, disk.number.0, disk.number.1
        ));
    }
    let bytes =
        rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|e| format!("can't be read: {e}"))?;
    if bytes != disk.bytes {
        return Err(format!(
            "has {bytes} bytes, {} were there when it was chosen",
            disk.bytes
        ));
    }
    Ok(())
}
