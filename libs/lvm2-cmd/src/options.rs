//! How the tools are to be called on this machine.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Who makes the nodes and links below `/dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Udev {
    /// The host's udev has device-mapper's rules: wait for it, and mend what it left out. Needs the host's IPC namespace, since
    /// the two sides meet at a System V semaphore.
    #[default]
    Synchronise,
    /// The host's udev does not know device-mapper (no `95-dm-notify.rules`): the tools make nodes and links themselves.
    /// Waiting for udev would be for ever.
    Bypass,
}

/// Settings of [`crate::Lvm`] and [`crate::dm::Dm`].
#[derive(Debug, Clone)]
pub struct Options {
    pub lvm: PathBuf,
    pub dmsetup: PathBuf,
    pub udev: Udev,
    /// Device names (LVM's regular expressions) that LVM must never look into: whatever lies on top of our volumes.
    pub reject: Vec<String>,
    /// More LVM configuration, as `section { key=value }`. Later settings win.
    pub config: Vec<String>,
    /// For calls that only read.
    pub read_deadline: Duration,
    /// For calls that change something. Waiting for LVM's lock counts.
    pub change_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lvm: "lvm".into(),
            dmsetup: "dmsetup".into(),
            udev: Udev::default(),
            reject: [
                "^/dev/mapper/.*-(front|back|encrypt)$",
                "^/dev/drbd",
                "^/dev/rbd",
                "^/dev/nbd",
            ]
            .map(str::to_owned)
            .to_vec(),
            config: Vec::new(),
            read_deadline: Duration::from_secs(60),
            change_deadline: Duration::from_secs(180),
        }
    }
}

/// What becomes of the host's hints, the list (`/run/lvm/hints`) by which the host's own lvm knows which devices to read.
///
/// With `hints="none"` a command does not touch the list, so that one which makes a physical volume leaves the host's `pvs` and `vgs`
/// with a pool that "is missing" the new disk (seen with 2.03.31). With `hints="all"` such a command outdates the list and does not read it:
/// only commands that report or use volumes do (`ALLOW_HINTS` in lvm2's `tools/commands.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    Leave,
    /// For commands that change which devices are physical volumes, and of which group.
    Outdate,
}

impl Options {
    /// The argument of `--config`.
    ///
    /// - `scan_lvs`, filters: volume groups inside volumes are their users' business. `filter` is set too since lvm.conf of the
    ///   image may have one.
    /// - `hints`: the host's list of devices that carry physical volumes. It is never believed: if others do not keep it up to date
    ///   (another `/run/lvm`), it hides disks. See [`Hints`] for who else believes it.
    /// - `use_devicesfile`: a host's list of allowed devices does not know the disks that we add.
    /// - `backup`, `archive`: the metadata lies on every disk of the group; a copy in the container's own file system dies with it.
    /// - `monitoring`, `use_lvmpolld`: their daemons do not run in a container.
    pub(crate) fn config(&self, hints: Hints) -> String {
        let mut filter = String::new();
        for regex in &self.reject {
            let _ = write!(filter, "\"r|{regex}|\",");
        }
        let sync = u8::from(self.udev == Udev::Synchronise);
        let hints = match hints {
            Hints::Leave => "none",
            Hints::Outdate => "all",
        };
        let mut config = format!(
            "devices {{ scan_lvs=0 use_devicesfile=0 hints=\"{hints}\" external_device_info_source=\"none\" global_filter=[{filter}\"a|.*|\"] filter=[\"a|.*|\"] }} \
             backup {{ backup=0 archive=0 }} \
             activation {{ monitoring=0 udev_sync={sync} udev_rules={sync} verify_udev_operations={sync} retry_deactivation=1 }} \
             global {{ use_lvmpolld=0 use_lvmlockd=0 }}"
        );
        for more in &self.config {
            config.push(' ');
            config.push_str(more);
        }
        config
    }
}
