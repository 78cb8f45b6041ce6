//! What tests of several modules need.

use std::path::PathBuf;

/// A path that does not answer whoever opens it, until this is dropped: a FIFO without a writer.
pub struct SilentDevice(tempfile::TempDir);

impl SilentDevice {
    pub fn new() -> Self {
        let device = Self(tempfile::tempdir().unwrap());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            device.path(),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        device
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("device")
    }
}

impl Drop for SilentDevice {
    /// Whoever waits goes on.
    fn drop(&mut self) {
        let both = std::fs::File::options()
            .read(true)
            .write(true)
            .open(self.path());
        drop(both);
    }
}
