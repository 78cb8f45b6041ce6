//! Mounts and file systems of the node in memory.

use std::io;
use std::path::Path;

use async_trait::async_trait;

use super::{Extent, FakeNode, World};
use crate::mount::{
    Content, Filesystems, FsType, Mount, MountError, Mounts, Options, Table, Usage,
};
use crate::replica::tags::Tags;

fn mount_error(action: &str, path: &Path, errno: rustix::io::Errno) -> MountError {
    MountError::System {
        action: action.to_owned(),
        path: path.to_owned(),
        source: errno.into(),
    }
}

impl FakeNode {
    async fn mounting<T>(
        &self,
        action: &str,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<T, rustix::io::Errno> + Send,
    ) -> Result<T, MountError> {
        let result = self
            .change(format!("{action} {}", path.display()), |world| {
                Ok(act(world))
            })
            .await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(errno)) => Err(mount_error(action, path, errno)),
            Err(_) => Err(mount_error(action, path, rustix::io::Errno::IO)),
        }
    }
}

#[async_trait]
impl Mounts for FakeNode {
    async fn table(&self) -> Result<Table, MountError> {
        tokio::task::yield_now().await;
        Ok(Table(self.world.lock().mounts.clone()))
    }

    async fn host_table(&self) -> Result<Table, MountError> {
        self.table().await
    }

    async fn mount(
        &self,
        device: &Path,
        target: &Path,
        fs: &FsType,
        options: &Options,
    ) -> Result<(), MountError> {
        self.mounting("mount", target, |world| {
            let (key, minor) = world.lv_at(device).ok_or(rustix::io::Errno::NODEV)?;
            if options.data.contains("nonsense") {
                return Err(rustix::io::Errno::INVAL);
            }
            if world.lvs[&key].content != Content::Filesystem(fs.clone()) {
                return Err(rustix::io::Errno::INVAL);
            }
            let mode = if options.read_only() { "ro" } else { "rw" };
            world.mounts.push(Mount {
                device: (253, minor),
                root: "/".into(),
                target: target.to_owned(),
                options: mode.to_owned(),
                fs_type: fs.to_string(),
                source: device.to_owned(),
                super_options: mode.to_owned(),
            });
            Ok(())
        })
        .await
    }

    async fn bind(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        self.mounting("bind", target, |world| {
            let mount = match world
                .mounts
                .iter()
                .rev()
                .find(|mount| mount.target == source)
            {
                Some(mount) => Mount {
                    target: target.to_owned(),
                    ..mount.clone()
                },
                None if source.starts_with("/dev") => Mount {
                    device: (0, 5),
                    root: Path::new("/").join(source.file_name().unwrap()),
                    target: target.to_owned(),
                    options: "rw,nosuid".to_owned(),
                    fs_type: "devtmpfs".to_owned(),
                    source: "devtmpfs".into(),
                    super_options: "rw".to_owned(),
                },
                None => return Err(rustix::io::Errno::NOENT),
            };
            world.mounts.push(mount);
            Ok(())
        })
        .await
    }

    async fn bind_read_only(&self, target: &Path) -> Result<(), MountError> {
        self.mounting("remount", target, |world| {
            let mount = world
                .mounts
                .iter_mut()
                .rev()
                .find(|mount| mount.target == target);
            mount.ok_or(rustix::io::Errno::INVAL)?.options = "ro".to_owned();
            Ok(())
        })
        .await
    }

    async fn unmount(&self, target: &Path) -> Result<(), MountError> {
        self.mounting("unmount", target, |world| {
            if let Some(at) = world
                .mounts
                .iter()
                .rposition(|mount| mount.target == target)
            {
                world.mounts.remove(at);
            }
            Ok(())
        })
        .await
    }

    async fn usage(&self, path: &Path) -> Result<Usage, MountError> {
        self.answers("read the usage of", path)?;
        Ok(Usage {
            total_bytes: 100,
            available_bytes: 60,
            used_bytes: 30,
            total_inodes: 10,
            free_inodes: 9,
        })
    }
}

impl FakeNode {
    fn answers(&self, action: &str, path: &Path) -> Result<(), MountError> {
        if self.world.lock().silent {
            return Err(MountError::NoAnswer {
                action: action.to_owned(),
                path: path.to_owned(),
                source: hawser_command::Hangs::Earlier,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Filesystems for FakeNode {
    async fn probe(&self, device: &Path) -> Result<Content, MountError> {
        tokio::task::yield_now().await;
        let world = self.world.lock();
        let (key, _) = world
            .lv_at(device)
            .ok_or_else(|| mount_error("probe", device, rustix::io::Errno::NODEV))?;
        Ok(world.lvs[&key].content.clone())
    }

    async fn make(&self, device: &Path, fs: &FsType) -> Result<(), MountError> {
        // Cut off, it leaves something that no probe knows.
        self.mounting("begin mkfs", device, |world| {
            let (key, minor) = world.lv_at(device).ok_or(rustix::io::Errno::NODEV)?;
            if world.mounts_of(minor) > 0 {
                world
                    .violations
                    .push(format!("{} was formatted while mounted", key.1));
            }
            let lv = world.lvs.get_mut(&key).unwrap();
            if Tags::read(&lv.tags).formatting.is_none() {
                world
                    .violations
                    .push(format!("{} was formatted without a mark", key.1));
            }
            world.lvs.get_mut(&key).unwrap().content =
                Content::Other("half a file system".to_owned());
            Ok(())
        })
        .await?;
        self.mounting("mkfs", device, |world| {
            let (key, _) = world.lv_at(device).ok_or(rustix::io::Errno::NODEV)?;
            let lv = world.lvs.get_mut(&key).unwrap();
            lv.content = Content::Filesystem(fs.clone());
            lv.extents[0] = Extent::User;
            Ok(())
        })
        .await
    }

    async fn check(&self, _device: &Path, _fs: &FsType) -> Result<(), MountError> {
        Ok(())
    }

    async fn readable(&self, device: &Path) -> Result<(), MountError> {
        let mut held = self.reading_held.subscribe();
        let _ = held.wait_for(|held| !held).await;
        self.answers("read", device)?;
        let world = self.world.lock();
        let broken = world
            .lv_at(device)
            .is_some_and(|((_, lv), _)| world.unreadable.contains(&lv));
        if broken || world.broken_zeroing {
            return Err(MountError::System {
                action: "read".to_owned(),
                path: device.to_owned(),
                source: io::Error::other("Input/output error"),
            });
        }
        Ok(())
    }

    /// The file system takes all of its device, and what is written goes anywhere on it.
    async fn grow(&self, device: &Path, mounted_at: &Path, _fs: &FsType) -> Result<(), MountError> {
        self.mounting("grow", mounted_at, |world| {
            world.grown.push(mounted_at.to_owned());
            if let Some(((_, lv), _)) = world.lv_at(device) {
                world.fill(&lv);
            }
            Ok(())
        })
        .await
    }
}
