//! A node in memory: volume groups, device-mapper, mounts and what is on the disks, with faults on demand.
//!
//! It keeps the rules that the real ones keep (nothing removed while open, nothing formatted that is mounted) and notes what
//! must never happen: space given back with data on it, somebody else's volume touched.

mod devices;
mod mounts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hawser_command::{CommandError, Exit, Output};
use lvm2_cmd::{CreateLv, Lv, LvmError, Refusal, Report, Segment, Vg};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::effects::{EffectError, Front, LogicalVolumes};
use super::node::{Effects, Node};
use super::tags::Tags;
use crate::mount::{Content, FsType, Mount};

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
    /// The volume that it is a snapshot of.
    pub origin: String,
    /// The pool that a thin one takes its room from.
    pub pool: String,
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
    /// Volumes whose devices can't be read.
    pub unreadable: BTreeSet<String>,
    /// Somebody else is a moment faster to make the next logical volume.
    pub race: bool,
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

    /// Mounts of a device's file system, and of its node.
    fn mounts_of(&self, minor: u32) -> usize {
        let node = format!("/dm-{minor}");
        self.mounts
            .iter()
            .filter(|mount| mount.device == (253, minor) || mount.root == Path::new(&node))
            .count()
    }

    fn snapshots_of(&self, vg: &str, lv: &str) -> Vec<(String, String)> {
        let all = self.lvs.iter();
        all.filter(|((group, _), other)| group == vg && other.origin == lv)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Extents that whoever has the volume mounted can reach, by its front device or directly.
    fn reach(&self, name: &str) -> Option<usize> {
        let lv = self.lv(name)?;
        match self.fronts.get(name) {
            Some(front) if self.mounts_of(front.number.1) > 0 => {
                usize::try_from(front.bytes / EXTENT).ok()
            }
            _ if self.mounts_of(lv.minor) > 0 => Some(lv.extents.len()),
            _ => None,
        }
    }

    /// Its user fills the volume, if it is mounted anywhere.
    pub fn fill(&mut self, name: &str) {
        if let Some(reach) = self.reach(name)
            && let Some(lv) = self.lvs.get_mut(&key(POOL, name))
        {
            let reach = reach.min(lv.extents.len());
            lv.extents[..reach].fill(Extent::User);
        }
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
    /// While true, zeroing is under way and does not come to its end.
    pub zeroing_held: Arc<watch::Sender<bool>>,
    /// While true, a discard does not come to its end.
    pub discard_held: Arc<watch::Sender<bool>>,
    /// While true, reads of devices do not come to their end.
    pub reading_held: Arc<watch::Sender<bool>>,
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
            zeroing_held: Arc::default(),
            discard_held: Arc::default(),
            reading_held: Arc::default(),
            epoch: 0,
        }
    }

    /// The daemon of this node, started now.
    pub fn start(&self) -> Arc<Node> {
        let handle = {
            let mut world = self.world.lock();
            world.epoch += 1;
            Self {
                epoch: world.epoch,
                ..self.clone()
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
        let lv = full_lv(&mut world, "foreign", extents);
        world.lvs.insert(key(POOL, name), lv);
    }

    /// A volume that the generation before made, as it left it: full of data, without tags.
    pub fn adopted(&self, name: &str, extents: usize) {
        let mut world = self.world.lock();
        let lv = full_lv(&mut world, "adopted", extents);
        let lv = FakeLv {
            tags: Vec::new(),
            ..lv
        };
        world.lvs.insert(key(POOL, name), lv);
    }

    /// A snapshot, made by hand.
    pub fn snapshot(&self, origin: &str, name: &str) {
        let mut world = self.world.lock();
        let lv = full_lv(&mut world, "foreign", 1);
        let lv = FakeLv {
            origin: origin.to_owned(),
            ..lv
        };
        world.lvs.insert(key(POOL, name), lv);
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

/// As LVM says that a name is taken.
fn exists(object: &str) -> EffectError {
    let output = Output {
        argv: vec!["lvm".to_owned(), "lvcreate".to_owned()],
        exit: Exit::Code(5),
        stdout: Vec::new(),
        stderr: b"already exists in volume group".to_vec(),
        elapsed: Duration::ZERO,
    };
    EffectError::Lvm(LvmError::Refused {
        object: object.to_owned(),
        refusal: Refusal::Exists,
        source: Box::new(CommandError::Failed(Box::new(output))),
    })
}

fn full_lv(world: &mut World, whose: &str, extents: usize) -> FakeLv {
    let minor = world.minor();
    FakeLv {
        uuid: format!("{whose}-{minor}"),
        minor,
        tags: vec!["backup".to_owned()],
        active: true,
        extents: vec![Extent::User; extents],
        content: Content::Filesystem(FsType::Xfs),
        origin: String::new(),
        pool: String::new(),
    }
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
            if std::mem::take(&mut world.race) {
                let lv = full_lv(world, "foreign", 3);
                world.lvs.insert(key.clone(), lv);
            }
            if world.lvs.contains_key(&key) {
                return Err(exists(&create.name));
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
                origin: String::new(),
                pool: String::new(),
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
            if !world.snapshots_of(vg, lv).is_empty() {
                return Err(refused(
                    "Snapshot origin volumes can be resized only while inactive",
                ));
            }
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

    async fn remove(&self, vg: &str, lv: &str, uuid: &str) -> Result<(), EffectError> {
        self.change(format!("lvremove {lv}"), |world| {
            let key = key(vg, lv);
            let Some(found) = world.lvs.get(&key) else {
                return Ok(());
            };
            if found.uuid != uuid || !world.snapshots_of(vg, lv).is_empty() {
                return Err(refused("another, or with snapshots"));
            }
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
        origin: lv.origin.clone(),
        pool: lv.pool.clone(),
        segments: vec![Segment {
            kind: "linear".to_owned(),
            start_extent: 0,
            extents,
            devices: vec!["/dev/sdb".into()],
        }],
        ..Lv::default()
    }
}
