//! Hearing of changes: the kernel's messages about block devices, and udev's records being written after them.
//!
//! Both only say "look again". Whatever gets lost is made up for by the periodic look.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use super::scan::Stale;

/// Kernel messages; the other group is udev's own, in a form that is private to it.
const KERNEL_GROUP: u32 = 1;
/// A burst of devices (a rack of disks powering up) overflows the default of 200 KiB.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Sources of change.
#[derive(Debug)]
pub struct Events {
    sys: PathBuf,
    kernel: Option<AsyncFd<OwnedFd>>,
    udev: Option<AsyncFd<OwnedFd>>,
}

impl Events {
    /// What can't be opened is logged and done without. Needs the tokio runtime.
    pub fn open(sys: &Path, udev_data: &Path) -> Self {
        let or_without = |what: &str, source: io::Result<AsyncFd<OwnedFd>>| match source {
            Ok(source) => Some(source),
            Err(error) => {
                tracing::warn!(%error, what, "changes are seen at the next periodic look only");
                None
            }
        };
        Self {
            sys: sys.to_owned(),
            kernel: or_without("kernel messages", kernel()),
            udev: or_without("udev records", udev(udev_data)),
        }
    }

    /// Waits for the next change. Cancel safe: what was not read stays to be read.
    pub async fn next(&self) -> Stale {
        tokio::select! {
            stale = from_kernel(self.kernel.as_ref()) => stale,
            stale = from_udev(self.udev.as_ref(), &self.sys) => stale,
        }
    }
}

fn kernel() -> io::Result<AsyncFd<OwnedFd>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(KOBJECT_UEVENT),
    )?;
    // Without the privilege the default has to do.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    asynchronous(socket)
}

fn udev(udev_data: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // A record is written aside and renamed.
    let what = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE;
    inotify::add_watch(&watch, udev_data, what)?;
    asynchronous(watch)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that do not keep their descriptor to themselves; this one does"
)]
fn asynchronous(source: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(source)
}

/// Reads one source until it has nothing more; `None` while there was nothing of interest.
async fn drain(
    source: Option<&AsyncFd<OwnedFd>>,
    mut read: impl FnMut(&OwnedFd, &mut Option<Stale>) -> Result<(), Errno>,
) -> Stale {
    let Some(source) = source else {
        return std::future::pending().await;
    };
    loop {
        let Ok(mut ready) = source.readable().await else {
            return std::future::pending().await;
        };
        let mut stale = None;
        loop {
            match read(source.get_ref(), &mut stale) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                // Messages were lost.
                Err(Errno::NOBUFS) => stale = Some(Stale::All),
                Err(error) => {
                    tracing::warn!(%error, "cannot hear of changes any more");
                    return std::future::pending().await;
                }
            }
        }
        if let Some(stale) = stale {
            return stale;
        }
    }
}

async fn from_kernel(source: Option<&AsyncFd<OwnedFd>>) -> Stale {
    let mut buffer = vec![0_u8; 16 * 1024];
    drain(source, |socket, stale| {
        let (message, _) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if let Some(disk) = message_disk(&buffer[..message]) {
            add(stale, disk);
        }
        Ok(())
    })
    .await
}

async fn from_udev(source: Option<&AsyncFd<OwnedFd>>, sys: &Path) -> Stale {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    drain(source, |watch, stale| {
        let mut reader = inotify::Reader::new(watch, &mut buffer);
        loop {
            let event = reader.next()?;
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                *stale = Some(Stale::All);
            }
            let number = event
                .file_name()
                .and_then(|name| name.to_str().ok())
                .and_then(|name| name.strip_prefix('b'));
            if let Some(number) = number {
                // A record that goes has no device any more; its name is not needed then.
                let disk = std::fs::read_link(sys.join("dev/block").join(number))
                    .ok()
                    .and_then(|path| disk_of(&path))
                    .unwrap_or_default();
                add(stale, disk);
            }
        }
    })
    .await
}

/// Adds a disk's name to what is stale.
pub fn add(stale: &mut Option<Stale>, disk: String) {
    match stale {
        Some(Stale::All) => {}
        Some(Stale::Named(names)) => {
            names.insert(disk);
        }
        None => *stale = Some(Stale::Named(BTreeSet::from([disk]))),
    }
}

/// Joins two.
pub fn join(stale: &mut Option<Stale>, more: Stale) {
    match more {
        Stale::All => *stale = Some(Stale::All),
        Stale::Named(names) => names.into_iter().for_each(|name| add(stale, name)),
    }
}

/// The disk that a kernel message is about, be it the disk or a partition of it; `None` for what is no block device.
fn message_disk(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let value = |key: &str| {
        text.split('\0')
            .find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
    };
    if value("SUBSYSTEM")? != "block" {
        return None;
    }
    disk_of(Path::new(value("DEVPATH")?))
}

/// `.../block/sdb` and `.../block/sdb/sdb1` are both of sdb.
fn disk_of(path: &Path) -> Option<String> {
    let mut parts = path.iter().skip_while(|part| *part != "block").skip(1);
    Some(parts.next()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn messages() {
        let partition = b"add@/devices/pci0/block/sdb/sdb1\0ACTION=add\0DEVPATH=/devices/pci0/block/sdb/sdb1\0SUBSYSTEM=block\0DEVNAME=sdb1\0";
        assert_eq!(message_disk(partition).as_deref(), Some("sdb"));
        let nvme = b"change@x\0DEVPATH=/devices/virtual/block/dm-0\0SUBSYSTEM=block\0";
        assert_eq!(message_disk(nvme).as_deref(), Some("dm-0"));
        let bdi = b"add@x\0DEVPATH=/devices/virtual/bdi/254:0\0SUBSYSTEM=bdi\0";
        assert_eq!(message_disk(bdi), None);
    }

    #[test]
    fn all_absorbs_names() {
        let mut stale = None;
        join(&mut stale, Stale::Named(BTreeSet::from(["a".to_owned()])));
        add(&mut stale, "b".to_owned());
        assert_eq!(
            stale,
            Some(Stale::Named(BTreeSet::from([
                "a".to_owned(),
                "b".to_owned()
            ])))
        );
        join(&mut stale, Stale::All);
        add(&mut stale, "c".to_owned());
        assert_eq!(stale, Some(Stale::All));
    }

    #[tokio::test]
    async fn udev_records_are_heard_of() {
        let root = tempfile::tempdir().unwrap();
        let (sys, data) = (root.path().join("sys"), root.path().join("data"));
        std::fs::create_dir_all(sys.join("dev/block")).unwrap();
        std::fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::symlink(
            "../../devices/pci0/block/sdb/sdb1",
            sys.join("dev/block/8:17"),
        )
        .unwrap();
        let events = Events {
            kernel: None,
            ..Events::open(&sys, &data)
        };
        for (name, disk) in [("b8:17", "sdb"), ("b8:99", "")] {
            std::fs::write(data.join("tmp"), "S:x\n").unwrap();
            std::fs::rename(data.join("tmp"), data.join(name)).unwrap();
            let stale = tokio::time::timeout(Duration::from_secs(10), events.next())
                .await
                .unwrap();
            assert_eq!(stale, Stale::Named(BTreeSet::from([disk.to_owned()])));
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(message: Vec<u8>) {
            message_disk(&message);
        }
    }
}
