//! Nobody reads what another has written: not what was on a disk before it came to the pool, nor what a deleted volume held, be it a block device or files.
//! On small pools of the scenario's own, one on disks that can discard and one on disks that can't. Looked for twice: through a new volume of the whole
//! pool, and on the disks themselves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use hawser_api::{LocalDisk, LocalDiskClaim, names};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::kit::disks::{Bay, Plugged, Spare};
use crate::kit::faults::sh;
use crate::kit::objects::Pool;
use crate::kit::volumes::{Mode, Use, delete, remove};
use crate::kit::{Scope, cleanup, nodes};
use crate::lab::Lab;
use crate::shelf::Kind;

const NAME: &str = "wiping";
const PATIENCE: Duration = Duration::from_secs(180);
/// Size of each of a pool's two disks, bytes.
const DISK: u64 = 48 << 20;
/// What must not be seen again; a line of it is written over and over.
const SECRET: &str = "HAWSER-MUST-NOT-SHOW-THIS";
/// Where a disk is soiled before it is claimed, MiB: inside of what the pool will use, and far from where signatures are looked for.
const SOILED: std::ops::Range<u64> = 4..40;
const EXTENT: i64 = 4 << 20;
const DEVICE: &str = "/dev/volume";
const FOLDER: &str = "/data";

/// Runs the scenario, both kinds of disk at once.
///
/// # Errors
/// What does not hold.
pub(super) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, NAME).await?;
    let pools = scope.ensure_pools().await?;
    let mut lanes = lanes(&scope, &pools).await?;
    let result = story(&scope, &mut lanes).await;
    cleanup::after(lab, NAME, result, clean(&scope, &mut lanes, &pools)).await
}

/// A pool of the scenario's own.
struct Lane {
    scope: Scope,
    bay: Bay,
    kind: Kind,
    /// The pool's class. Disks of another class are made to count as it, as users do where the kernel is wrong about a disk.
    disk_type: &'static str,
    pool: String,
}

/// One pool of each kind of disk, on different nodes.
async fn lanes(scope: &Scope, pools: &[Pool]) -> Result<Vec<Lane>> {
    let nodes = scope.lab.nodes()?;
    let [first, .., last] = nodes.as_slice() else {
        anyhow::bail!("the scenario needs at least two nodes");
    };
    let spare = Spare::beside(pools)?;
    let other = match spare.kind {
        Kind::Hdd => Kind::Ssd,
        Kind::Ssd => Kind::Hdd,
    };
    let mut lanes = Vec::new();
    for (node, kind, disk_type) in [(last, spare.kind, spare.disk_type), (first, other, "NVMe")] {
        lanes.push(Lane {
            scope: scope.clone(),
            bay: Bay::open(scope, node).await?,
            kind,
            disk_type,
            pool: format!("{}{disk_type}", names::pools::VG_PREFIX),
        });
    }
    Ok(lanes)
}

async fn story(scope: &Scope, lanes: &mut [Lane]) -> Result<()> {
    for lane in lanes.iter() {
        let file_system = [("csi.storage.k8s.io/fstype", "ext4")];
        scope
            .class(&lane.class(), lane.disk_type, &file_system)
            .await?;
    }
    let runs = lanes.iter_mut().map(|lane| async move {
        let start = Instant::now();
        let about = format!("pool {} of {:?} disks", lane.pool, lane.kind);
        let saw = lane.run().await.with_context(|| about.clone())?;
        println!("  {about} ({:.0} s): {saw}", start.elapsed().as_secs_f64());
        Ok(())
    });
    join_all(runs).await.into_iter().collect()
}

async fn clean(scope: &Scope, lanes: &mut [Lane], pools: &[Pool]) -> Result<()> {
    scope.close().await?;
    scope.sweep_classes(NAME).await?;
    for lane in lanes {
        lane.away().await?;
    }
    scope.until_pools(pools, PATIENCE).await?;
    nodes::no_volumes(&scope.lab)
}

impl Lane {
    fn class(&self) -> String {
        format!("{NAME}-{}", self.disk_type.to_lowercase())
    }

    /// Name of an object of this lane.
    fn name(&self, which: &str) -> String {
        format!("{}-{which}", self.disk_type.to_lowercase())
    }

    async fn run(&mut self) -> Result<String> {
        let disks = self.soiled_disks_become_a_pool().await?;
        let free = self.empty().await?;
        let soiled = self.marks(&disks).await?;
        ensure!(soiled > 0, "nothing was written to the disks");
        self.whole_pool_is_zero("first", free)
            .await
            .context("a block volume on disks that held something")?;
        self.fill("first", &[(Mode::Block, free)]).await?;
        let raw = self.given_up("first", &[Mode::Block], &disks).await?;
        let half = free / 2 / EXTENT * EXTENT;
        let both = [(Mode::Filesystem, half), (Mode::Block, free - half)];
        self.make("second", &both).await?;
        self.fill("second", &both).await?;
        let modes = both.map(|(mode, _)| mode);
        let files = self.given_up("second", &modes, &disks).await?;
        self.whole_pool_is_zero("third", free)
            .await
            .context("a block volume where others were deleted")?;
        Ok(format!(
            "{soiled} marks on blank disks, {raw} of a block volume, {files} of files and a block volume: none left, and the whole pool reads as {free} zeroes"
        ))
    }

    /// Plugs in two disks, writes to them where nobody looks for signatures, and makes them a pool.
    async fn soiled_disks_become_a_pool(&mut self) -> Result<Vec<Plugged>> {
        let mut disks = Vec::new();
        let mut objects = Vec::new();
        for _ in 0..2 {
            let disk = self.bay.plug(DISK, self.kind).await?;
            self.bay.offered(&disk).await?;
            let device = self.bay.device(&disk).await?;
            sh(&self.scope.lab, &self.bay.node, soil(&device)).await?;
            objects.push(self.of_class(self.bay.offered(&disk).await?).await?);
            disks.push(disk);
        }
        let both: Vec<&LocalDisk> = objects.iter().collect();
        self.bay.give(&self.class(), &both).await?;
        Ok(disks)
    }

    /// Sets a disk's class, as users may.
    async fn of_class(&self, disk: LocalDisk) -> Result<LocalDisk> {
        let disks: Api<LocalDisk> = self.scope.cluster();
        let patch = json!({ "spec": { "diskAttributes": { "type": self.disk_type } } });
        let patch = Patch::Merge(&patch);
        let name = disk.name_any();
        Ok(disks.patch(&name, &PatchParams::default(), &patch).await?)
    }

    /// Waits until every byte of the pool is free; returns how many.
    async fn empty(&self) -> Result<i64> {
        self.scope
            .until_pool(
                &self.bay.node,
                &self.pool,
                "to be empty",
                |pool, trouble| {
                    trouble.is_empty()
                        && pool.is_some_and(|pool| {
                            pool.disks.len() == 2
                                && pool.free_capacity_bytes == pool.total_capacity_bytes
                        })
                },
            )
            .await?;
        self.scope.free_of(&self.bay.node, &self.pool).await
    }

    /// How often the secret is on the disks, read past all caches.
    async fn marks(&self, disks: &[Plugged]) -> Result<u64> {
        let mut marks = 0;
        for disk in disks {
            let device = self.bay.device(disk).await?;
            let count = sh(&self.scope.lab, &self.bay.node, count(&device)).await?;
            marks += count.trim().parse::<u64>()?;
        }
        Ok(marks)
    }

    fn claim_name(&self, which: &str, mode: Mode) -> String {
        match mode {
            Mode::Filesystem => self.name(&format!("{which}-files")),
            Mode::Block => self.name(which),
        }
    }

    /// Makes claims and a pod that has them, all of the name `which`.
    async fn make(&self, which: &str, volumes: &[(Mode, i64)]) -> Result<()> {
        let mut claims = Vec::new();
        for (mode, bytes) in volumes {
            let claim = self.claim_name(which, *mode);
            let size = bytes.to_string();
            self.scope
                .claim(&claim, &self.class(), &size, "ReadWriteOnce", *mode)
                .await?;
            claims.push((claim, *mode));
        }
        let uses: Vec<Use<'_>> = claims
            .iter()
            .map(|(claim, mode)| Use {
                claim,
                at: place(*mode),
                mode: *mode,
                read_only: false,
            })
            .collect();
        let pod = self.name(which);
        self.scope.pod(&pod, &uses, json!({})).await?;
        self.scope.pod_ready(&pod, PATIENCE).await.map(drop)
    }

    /// A new block volume of the whole pool reads as zeroes from beginning to end.
    async fn whole_pool_is_zero(&self, which: &str, bytes: i64) -> Result<()> {
        self.make(which, &[(Mode::Block, bytes)]).await?;
        self.exec(which, &all_zero(DEVICE, bytes)).await.map(drop)
    }

    async fn exec(&self, which: &str, script: &str) -> Result<String> {
        self.scope.exec(&self.name(which), script, PATIENCE).await
    }

    /// Writes the secret over all of a pod's volumes.
    async fn fill(&self, which: &str, volumes: &[(Mode, i64)]) -> Result<()> {
        for (mode, bytes) in volumes {
            let script = match mode {
                Mode::Block => fill_device(DEVICE, *bytes),
                Mode::Filesystem => fill_folder(FOLDER),
            };
            self.exec(which, &script).await?;
        }
        Ok(())
    }

    /// Deletes a pod and its claims, whose content must be on the disks before, and nowhere afterwards. Returns how often it was there.
    async fn given_up(&self, which: &str, modes: &[Mode], disks: &[Plugged]) -> Result<u64> {
        let before = self.marks(disks).await?;
        ensure!(before > 0, "nothing of what {which} wrote is on the disks");
        remove(&self.scope.api::<Pod>(), &self.name(which), PATIENCE).await?;
        let claims: Api<PersistentVolumeClaim> = self.scope.api();
        for mode in modes {
            remove(&claims, &self.claim_name(which, *mode), PATIENCE).await?;
        }
        self.empty().await?;
        let after = self.marks(disks).await?;
        ensure!(
            after == 0,
            "{after} of {before} marks are still on the disks after the volumes of {which} were deleted and their room was free again"
        );
        Ok(before)
    }

    /// Takes the disks away once nothing is on them.
    async fn away(&mut self) -> Result<()> {
        delete(&self.scope.cluster::<LocalDiskClaim>(), &self.class()).await?;
        self.scope
            .until_pool(
                &self.bay.node,
                &self.pool,
                "to have no volume",
                |pool, _| pool.is_none_or(|pool| pool.volumes.is_empty()),
            )
            .await?;
        self.bay.away().await
    }
}

fn place(mode: Mode) -> &'static str {
    match mode {
        Mode::Filesystem => FOLDER,
        Mode::Block => DEVICE,
    }
}

/// Writes the secret onto a disk, away from its beginning and end. For a node's shell.
fn soil(device: &str) -> String {
    let bytes = (SOILED.end - SOILED.start) << 20;
    format!(
        "yes {SECRET} | head -c {bytes} | dd of={device} bs=1M seek={} iflag=fullblock conv=notrunc,fsync status=none",
        SOILED.start
    )
}

/// Counts the lines with the secret on a disk. For a node's shell.
fn count(device: &str) -> String {
    format!(
        "sync; echo 1 > /proc/sys/vm/drop_caches; dd if={device} bs=1M status=none | {{ grep -a -c {SECRET} || test $? = 1; }}"
    )
}

/// Writes the secret over a whole device. For a pod's shell.
fn fill_device(device: &str, bytes: i64) -> String {
    format!(
        "yes {SECRET} | head -c {bytes} | dd of={device} bs=1M iflag=fullblock conv=notrunc,fsync 2>/dev/null"
    )
}

/// Writes the secret into a file until there is no room. For a pod's shell.
fn fill_folder(folder: &str) -> String {
    format!(
        "yes {SECRET} | dd of={folder}/secret bs=1M iflag=fullblock 2>/dev/null; sync; test -s {folder}/secret"
    )
}

/// Fails unless a device has this size and is zero from beginning to end. For a pod's shell.
fn all_zero(device: &str, bytes: i64) -> String {
    format!(
        "size=$(blockdev --getsize64 {device}); [ $size = {bytes} ] || {{ echo \"it has $size bytes\" >&2; exit 1; }}; \
         dd if={device} bs=1M 2>/dev/null | cmp -n {bytes} - /dev/zero"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{output, with_args};

    fn shell(script: &str) -> Result<String> {
        output(&mut with_args("bash", ["-c", script]))
    }

    /// The part of [`count`] that needs no rights.
    fn marks(file: &str) -> u64 {
        let script = count(file);
        let counting = script.split_once("drop_caches; ").unwrap().1;
        shell(counting).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn what_is_written_is_found_and_what_is_zero_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, vec![0; usize::try_from(DISK).unwrap()]).unwrap();
        let name = disk.display().to_string();
        assert_eq!(marks(&name), 0);
        shell(&soil(&name)).unwrap();
        let lines = ((SOILED.end - SOILED.start) << 20) / (SECRET.len() as u64 + 1);
        assert!(marks(&name).abs_diff(lines) <= 1);
        let content = std::fs::read(&disk).unwrap();
        assert_eq!(content.len() as u64, DISK, "a disk does not grow");
        assert!(content[..4 << 20].iter().all(|byte| *byte == 0));
        assert!(content[40 << 20..].iter().all(|byte| *byte == 0));
        shell(&fill_device(&name, 48 << 20)).unwrap();
        assert!(marks(&name) > lines);
    }

    #[test]
    fn soil_lies_inside_of_the_pools_extents() {
        // LVM begins at 1 MiB, and uses whole extents.
        let end = 1 + ((DISK >> 20) - 1) / 4 * 4;
        assert!(SOILED.start >= 1 && SOILED.end <= end);
    }

    #[test]
    fn one_byte_makes_a_device_not_zero_and_one_missing_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        // `blockdev` asks devices only.
        let check = |bytes: i64| {
            let script = all_zero(&path.display().to_string(), bytes);
            shell(&script.replace("blockdev --getsize64", "stat -c %s"))
        };
        let mut content = vec![0_u8; 3 << 20];
        std::fs::write(&path, &content).unwrap();
        check(3 << 20).unwrap();
        let error = check(4 << 20).unwrap_err().to_string();
        assert!(error.contains("it has 3145728 bytes"), "{error}");
        content[(3 << 20) - 1] = 1;
        std::fs::write(&path, &content).unwrap();
        assert!(check(3 << 20).is_err());
    }
}
