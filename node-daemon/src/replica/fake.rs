//! A node in memory: volume groups, device-mapper, mounts and what is on the disks, with faults on demand.
//!
//! It keeps the rules that the real ones keep (nothing removed while open, nothing formatted that is mounted) and notes what
//! must never happen: space given back with data on it, somebody else's volume touched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use lvm2_cmd::{CreateLv, Lv, LvmError, Report, Segment, Vg};
use parking_lot::Mutex;

use super::effects::{EffectError, Front, Fronts, LogicalVolumes, Wipe, Zero, front_name};
use super::node::{Effects, Node};
use super::tags::Tags;
use crate::mount::{
    Content, Filesystems, FsType, Mount, MountError, Mounts, Options, Table, Usage,
};

pub const EXTENT: u64 = 4 * 1024 * 1024;
pub const POOL: &str = "LocalStorage_PoolHDD";

/// What an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Data of somebody who had the disk before.
    Old,
    /// Zeroes.
    Zero,
    /// Data of the volume's user.
    User,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeLv {
    pub uuid: String,
    pub minor: u32,
    pub tags: Vec<String>,
    pub active: bool,
    pub extents: Vec<Extent>,
    pub content: Content,
}

/// When an armed fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing was done.
    Before,
    /// It was done, and nobody heard of it.
    After,
}

#[derive(Debug, Default)]
pub struct World {
    /// Logical volumes by group and name.
    pub lvs: BTreeMap<(String, String), FakeLv>,
    pub groups: BTreeMap<String, u64>,
    pub fronts: BTreeMap<String, Front>,
    pub mounts: Vec<Mount>,
    /// Strikes at the change after so many.
    pub fault: Option<(usize, When)>,
    /// All fail until told otherwise.
    pub broken_zeroing: bool,
    /// Devices do not answer.
    pub silent: bool,
    /// What changed, in order.
    pub log: Vec<String>,
    /// What must never happen.
    pub violations: Vec<String>,
    /// Growths of file systems.
    pub grown: Vec<PathBuf>,
    next: u32,
    epoch: u32,
}

impl World {
    pub fn lv(&self, name: &str) -> Option<&FakeLv> {
        self.lvs.get(&(POOL.to_owned(), name.to_owned()))
    }

    pub fn tags(&self, name: &str) -> Tags {
        self.lv(name)
            .map(|lv| Tags::read(&lv.tags))
            .unwrap_or_default()
    }

    fn used(&self, vg: &str) -> u64 {
        self.lvs
            .iter()
            .filter(|((group, _), _)| group == vg)
            .map(|(_, lv)| lv.extents.len() as u64)
            .sum()
    }

    fn mounts_of(&self, minor: u32) -> usize {
        self.mounts
            .iter()
            .filter(|mount| mount.device == (253, minor))
            .count()
    }

    fn front_open(&self, volume: &str) -> u32 {
        self.fronts.get(volume).map_or(0, |front| {
            u32::try_from(self.mounts_of(front.number.1)).unwrap()
        })
    }

    fn lv_open(&self, name: &str, lv: &FakeLv) -> bool {
        self.fronts
            .get(name)
            .is_some_and(|front| front.lower == [(253, lv.minor)])
            || self.mounts_of(lv.minor) > 0
    }

    fn minor(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn lv_at(&self, path: &Path) -> Option<((String, String), u32)> {
        let name = path.file_name()?.to_str()?;
        if let Some(volume) = name.strip_suffix("-front") {
            let front = self.fronts.get(volume)?;
            let (key, _) = self
                .lvs
                .iter()
                .find(|(_, lv)| front.lower == [(253, lv.minor)])?;
            return Some((key.clone(), front.number.1));
        }
        let vg = path.parent()?.file_name()?.to_str()?;
        let key = (vg.to_owned(), name.to_owned());
        let minor = self.lvs.get(&key)?.minor;
        Some((key, minor))
    }

    /// Bytes that somebody may read through a raw front device must not be old.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = self.violations.clone();
        for ((_, name), lv) in &self.lvs {
            let shown = self
                .fronts
                .get(name)
                .map_or(0, |front| front.bytes / EXTENT);
            let old = lv
                .extents
                .iter()
                .take(usize::try_from(shown).unwrap())
                .any(|extent| *extent == Extent::Old);
            if Tags::read(&lv.tags).raw && old {
                wrong.push(format!("{name} shows old data"));
            }
        }
        wrong
    }
}

/// A handle to the world, as one process has it.
#[derive(Clone)]
pub struct FakeNode {
    pub world: Arc<Mutex<World>>,
    epoch: u32,
}

impl FakeNode {
    /// A node with one pool of so many extents.
    pub fn new(extents: u64) -> Self {
        let world = World {
            groups: BTreeMap::from([(POOL.to_owned(), extents)]),
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            epoch: 0,
        }
    }

    /// The daemon of this node, started now.
    pub fn start(&self) -> Arc<Node> {
        let handle = {
            let mut world = self.world.lock();
            world.epoch += 1;
            Self {
                world: self.world.clone(),
                epoch: world.epoch,
            }
        };
        let parts = Arc::new(handle);
        let effects = Effects {
            lvs: parts.clone(),
            fronts: parts.clone(),
            wipe: parts.clone(),
        };
        Arc::new(Node::new(effects, parts.clone(), parts, Arc::new(|_| {})))
    }

    /// A volume that Hawser did not make.
    pub fn foreign(&self, name: &str, extents: usize) {
        let mut world = self.world.lock();
        let minor = world.minor();
        let lv = FakeLv {
            uuid: format!("foreign-{minor}"),
            minor,
            tags: vec!["backup".to_owned()],
            active: true,
            extents: vec![Extent::User; extents],
            content: Content::Filesystem(FsType::Xfs),
        };
        world.lvs.insert((POOL.to_owned(), name.to_owned()), lv);
    }

    /// Runs a change. A process that was killed does nothing any more.
    async fn change<T>(
        &self,
        what: String,
        act: impl FnOnce(&mut World) -> Result<T, EffectError> + Send,
    ) -> Result<T, EffectError> {
        // Others get their turn between any two effects.
        tokio::task::yield_now().await;
        if self.world.lock().epoch != self.epoch {
            std::future::pending::<()>().await;
        }
        let mut world = self.world.lock();
        let strike = match &mut world.fault {
            Some((0, when)) => Some(*when),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if strike.is_some() {
            world.fault = None;
        }
        if strike == Some(When::Before) {
            return Err(failed(&what));
        }
        let result = act(&mut world)?;
        world.log.push(what.clone());
        if strike == Some(When::After) {
            Err(failed(&what))
        } else {
            Ok(result)
        }
    }
}

fn failed(what: &str) -> EffectError {
    EffectError::Lvm(LvmError::Request {
        object: what.to_owned(),
        problem: "injected fault".to_owned(),
    })
}

fn refused(problem: impl Into<String>) -> EffectError {
    EffectError::Lvm(LvmError::Request {
        object: "fake".to_owned(),
        problem: problem.into(),
    })
}

fn key(vg: &str, lv: &str) -> (String, String) {
    (vg.to_owned(), lv.to_owned())
}

#[async_trait]
impl LogicalVolumes for FakeNode {
    async fn report(&self) -> Result<Report, EffectError> {
        tokio::task::yield_now().await;
        let world = self.world.lock();
        let vgs = world.groups.iter().map(|(name, extents)| Vg {
            name: name.clone(),
            extent_bytes: EXTENT,
            extents: *extents,
            free_extents: extents - world.used(name),
            lvs: world
                .lvs
                .iter()
                .filter(|((vg, _), _)| vg == name)
                .map(|((vg, lv_name), lv)| a_report_lv(&world, vg, lv_name, lv))
                .collect(),
            ..Vg::default()
        });
        Ok(Report {
            vgs: vgs.collect(),
            ..Report::default()
        })
    }

    async fn create(&self, create: &CreateLv) -> Result<(), EffectError> {
        self.change(format!("lvcreate {}", create.name), |world| {
            let key = key(&create.vg, &create.name);
            let total = *world
                .groups
                .get(&create.vg)
                .ok_or_else(|| refused("no such group"))?;
            if world.lvs.contains_key(&key) {
                return Err(refused("exists"));
            }
            if world.used(&create.vg) + create.extents > total {
                return Err(refused("no room"));
            }
            let minor = world.minor();
            let lv = FakeLv {
                uuid: format!("uuid-{minor}"),
                minor,
                tags: create.tags.clone(),
                active: true,
                extents: vec![Extent::Old; usize::try_from(create.extents).unwrap()],
                content: Content::Filesystem(FsType::Other("ntfs".to_owned())),
            };
            world.lvs.insert(key, lv);
            Ok(())
        })
        .await
    }

    async fn extend(&self, vg: &str, lv: &str, extents: u64) -> Result<(), EffectError> {
        self.change(format!("lvextend {lv}"), |world| {
            let total = world.groups[vg];
            let used = world.used(vg);
            let lv = world
                .lvs
                .get_mut(&key(vg, lv))
                .ok_or_else(|| refused("no such volume"))?;
            let more = extents.saturating_sub(lv.extents.len() as u64);
            if used + more > total {
                return Err(refused("no room"));
            }
            lv.extents.extend((0..more).map(|_| Extent::Old));
            Ok(())
        })
        .await
    }

    async fn retag(
        &self,
        vg: &str,
        lv: &str,
        add: &[String],
        delete: &[String],
    ) -> Result<(), EffectError> {
        self.change(format!("lvchange {lv} +{add:?} -{delete:?}"), |world| {
            let lv = world
                .lvs
                .get_mut(&key(vg, lv))
                .ok_or_else(|| refused("no such volume"))?;
            lv.tags.retain(|tag| !delete.contains(tag));
            for tag in add {
                if !lv.tags.contains(tag) {
                    lv.tags.push(tag.clone());
                }
            }
            Ok(())
        })
        .await
    }

    async fn activate(&self, vg: &str, lv: &str) -> Result<(), EffectError> {
        self.change(format!("lvchange -ay {lv}"), |world| {
            world
                .lvs
                .get_mut(&key(vg, lv))
                .ok_or_else(|| refused("no such volume"))?
                .active = true;
            Ok(())
        })
        .await
    }

    async fn remove(&self, vg: &str, lv: &str) -> Result<(), EffectError> {
        self.change(format!("lvremove {lv}"), |world| {
            let key = key(vg, lv);
            let Some(found) = world.lvs.get(&key) else {
                return Ok(());
            };
            if world.lv_open(lv, found) {
                return Err(refused("in use"));
            }
            let mut wrong = Vec::new();
            if found.extents.iter().any(|extent| *extent != Extent::Zero) {
                wrong.push(format!("{lv} was removed with data on it"));
            }
            if found.uuid.starts_with("foreign") {
                wrong.push(format!("{lv} of somebody else was removed"));
            }
            world.violations.extend(wrong);
            world.lvs.remove(&key);
            Ok(())
        })
        .await
    }
}

fn a_report_lv(world: &World, vg: &str, name: &str, lv: &FakeLv) -> Lv {
    let extents = lv.extents.len() as u64;
    Lv {
        uuid: lv.uuid.clone(),
        name: name.to_owned(),
        path: Path::new("/dev").join(vg).join(name),
        dm_path: Path::new("/dev/mapper").join(format!("{vg}-{name}")),
        size_bytes: extents * EXTENT,
        tags: lv.tags.clone(),
        active: lv.active,
        open: world.lv_open(name, lv),
        major_minor: lv.active.then_some((253, lv.minor)),
        segments: vec![Segment {
            kind: "linear".to_owned(),
            start_extent: 0,
            extents,
            devices: vec!["/dev/sdb".into()],
        }],
        ..Lv::default()
    }
}

#[async_trait]
impl Fronts for FakeNode {
    async fn list(&self) -> Result<Vec<Front>, EffectError> {
        tokio::task::yield_now().await;
        let world = self.world.lock();
        let fronts = world.fronts.iter();
        Ok(fronts
            .map(|(volume, front)| Front {
                open: world.front_open(volume),
                ..front.clone()
            })
            .collect())
    }

    async fn create(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError> {
        self.change(format!("dm create {}", front_name(volume)), |world| {
            let (key, minor) = world
                .lv_at(lower)
                .ok_or_else(|| refused("no lower device"))?;
            if world.fronts.contains_key(volume) || world.mounts_of(minor) > 0 {
                return Err(refused("busy"));
            }
            if Tags::read(&world.lvs[&key].tags).unzeroed == Some(0) {
                world
                    .violations
                    .push(format!("{volume} exposed before its beginning was zeroed"));
            }
            let number = (253, world.minor());
            let front = Front {
                volume: volume.to_owned(),
                number,
                open: 0,
                suspended: false,
                bytes,
                lower: vec![(253, minor)],
            };
            world.fronts.insert(volume.to_owned(), front);
            Ok(())
        })
        .await
    }

    async fn reload(&self, volume: &str, lower: &Path, bytes: u64) -> Result<(), EffectError> {
        // Two ioctls: a crash in between leaves it suspended.
        self.change(format!("dm suspend {}", front_name(volume)), |world| {
            world
                .fronts
                .get_mut(volume)
                .ok_or_else(|| refused("no such device"))?
                .suspended = true;
            Ok(())
        })
        .await?;
        self.change(format!("dm resume {}", front_name(volume)), |world| {
            let (_, minor) = world
                .lv_at(lower)
                .ok_or_else(|| refused("no lower device"))?;
            let front = world
                .fronts
                .get_mut(volume)
                .ok_or_else(|| refused("no such device"))?;
            (front.suspended, front.bytes, front.lower) = (false, bytes, vec![(253, minor)]);
            Ok(())
        })
        .await
    }

    async fn resume(&self, volume: &str) -> Result<(), EffectError> {
        self.change(format!("dm resume {}", front_name(volume)), |world| {
            world
                .fronts
                .get_mut(volume)
                .ok_or_else(|| refused("no such device"))?
                .suspended = false;
            Ok(())
        })
        .await
    }

    async fn remove(&self, volume: &str) -> Result<(), EffectError> {
        self.change(format!("dm remove {}", front_name(volume)), |world| {
            if world.front_open(volume) > 0 {
                return Err(refused("busy"));
            }
            world.fronts.remove(volume);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Wipe for FakeNode {
    async fn zero(&self, zero: &Zero) -> Result<(), EffectError> {
        self.change(
            format!(
                "zero {} {}+{}",
                zero.device.display(),
                zero.offset,
                zero.length
            ),
            |world| {
                let (key, _) = world
                    .lv_at(&zero.device)
                    .ok_or_else(|| refused("no such device"))?;
                if world.broken_zeroing {
                    return Err(refused("Input/output error"));
                }
                let lv = &world.lvs[&key];
                if zero.exclusive && world.lv_open(&key.1, lv) {
                    return Err(refused("busy"));
                }
                if lv.uuid.starts_with("foreign") {
                    world
                        .violations
                        .push(format!("{} of somebody else was zeroed", key.1));
                }
                let lv = world.lvs.get_mut(&key).unwrap();
                let (begin, end) = (
                    zero.offset.div_ceil(EXTENT),
                    (zero.offset + zero.length) / EXTENT,
                );
                for extent in begin..end {
                    lv.extents[usize::try_from(extent).unwrap()] = Extent::Zero;
                }
                if zero.offset == 0 && end > 0 {
                    lv.content = Content::Blank;
                }
                Ok(())
            },
        )
        .await
    }

    async fn discard(&self, _zero: &Zero) -> Result<(), EffectError> {
        Ok(())
    }
}

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
        self.answers("read", device)?;
        if self.world.lock().broken_zeroing {
            return Err(MountError::System {
                action: "read".to_owned(),
                path: device.to_owned(),
                source: io::Error::other("Input/output error"),
            });
        }
        Ok(())
    }

    async fn grow(
        &self,
        _device: &Path,
        mounted_at: &Path,
        _fs: &FsType,
    ) -> Result<(), MountError> {
        self.mounting("grow", mounted_at, |world| {
            world.grown.push(mounted_at.to_owned());
            Ok(())
        })
        .await
    }
}
