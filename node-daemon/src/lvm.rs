//! What this daemon asks of LVM for its pools, as a narrow trait: the real tool, and in tests a fake that injects faults.
//!
//! Not here: logical volumes and their devices (`replica`).

#[cfg(test)]
pub mod fake;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use lvm2_cmd::{LvmError, Report};

/// Reading everything, and growing volume groups. Nothing here removes anything.
#[async_trait]
pub trait Lvm: Send + Sync {
    /// Everything there is, in one consistent picture.
    async fn report(&self) -> Result<Report, LvmError>;

    /// Makes a blank device a physical volume with a chosen UUID. Refuses a device that carries a signature.
    async fn pv_create(&self, device: &Path, uuid: &str) -> Result<(), LvmError>;

    /// Makes a physical volume as large as its device has become.
    async fn pv_resize(&self, device: &Path) -> Result<(), LvmError>;

    /// Makes a volume group of orphan physical volumes.
    async fn vg_create(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError>;

    /// Adds orphan physical volumes to a volume group that exists.
    async fn vg_extend(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError>;
}

#[async_trait]
impl Lvm for lvm2_cmd::Lvm {
    async fn report(&self) -> Result<Report, LvmError> {
        Self::report(self).await
    }

    async fn pv_create(&self, device: &Path, uuid: &str) -> Result<(), LvmError> {
        Self::pv_create(self, device, Some(uuid)).await
    }

    async fn pv_resize(&self, device: &Path) -> Result<(), LvmError> {
        Self::pv_resize(self, device).await
    }

    async fn vg_create(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
        Self::vg_create(self, vg, devices).await
    }

    async fn vg_extend(&self, vg: &str, devices: &[PathBuf]) -> Result<(), LvmError> {
        Self::vg_extend(self, vg, devices).await
    }
}
