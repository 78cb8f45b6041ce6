//! One kind of volume, from its first pod to the last.
//!
//! Two claims: `KIND` is shared by the pods a and b, which write, and c, which may only read; `KIND-one` is pod a's alone, and d waits for it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::Api;
use serde_json::json;

use super::{Kind, PATIENCE, affinity, class_of};
use crate::kit::faults::sh;
use crate::kit::pods::node_of;
use crate::kit::volumes::{Mode, Use, remove};
use crate::kit::writer::{Place, Writer, Written};
use crate::kit::{Pending, Scope, wait_for};

/// MiB of each piece of data that is written and checked.
const PIECE: u64 = 4;
/// Where pods have the shared volume, and the one that is one pod's alone.
const SHARED: &str = "/data";
const ALONE: &str = "/alone";
/// The same, of block volumes.
const SHARED_DEVICE: &str = "/dev/shared";
const ALONE_DEVICE: &str = "/dev/alone";
/// Records of the writer while the volume grows.
const RECORDS: u64 = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(200);

/// Data in a volume: a file, or a piece of a device.
#[derive(Clone, Copy, Debug)]
struct Data {
    path: &'static str,
    /// Of a device: where it begins, MiB.
    at: u64,
}

impl Data {
    fn file(&self, mode: Mode) -> String {
        match mode {
            Mode::Filesystem => format!("{}/at-{}", self.path, self.at),
            Mode::Block => self.path.to_owned(),
        }
    }

    /// A shell script that writes it, durably, from what `source` gives.
    fn write(&self, mode: Mode, source: &str) -> String {
        let (file, seek) = match mode {
            Mode::Filesystem => (self.file(mode), 0),
            Mode::Block => (self.file(mode), self.at),
        };
        format!("{source} | dd of={file} bs=1M seek={seek} conv=notrunc,fsync 2>/dev/null")
    }

    /// A shell script that prints its checksum.
    fn sum(&self, mode: Mode) -> String {
        let (file, skip) = match mode {
            Mode::Filesystem => (self.file(mode), 0),
            Mode::Block => (self.file(mode), self.at),
        };
        format!("dd if={file} bs=1M skip={skip} count={PIECE} 2>/dev/null | sha256sum")
    }

    /// A shell script that writes what nobody has seen before, and prints its checksum.
    fn fill(&self, mode: Mode) -> String {
        let noise = format!("head -c {} /dev/urandom", PIECE << 20);
        format!("{} && {}", self.write(mode, &noise), self.sum(mode))
    }
}

pub(super) struct Lane<'a> {
    scope: &'a Scope,
    kind: Kind,
    shared: String,
    alone: String,
}

impl<'a> Lane<'a> {
    pub(super) fn new(scope: &'a Scope, kind: Kind) -> Self {
        Self {
            scope,
            kind,
            shared: kind.name.to_owned(),
            alone: format!("{}-one", kind.name),
        }
    }

    /// All of it. Returns what was seen, in words.
    pub(super) async fn run(&self) -> Result<String> {
        let node = self.pods_share().await.context("pods share a claim")?;
        self.where_it_is(&node).await?;
        let sums = self.data_is_shared().await.context("shared data")?;
        let only = self.alone_is_alone().await.context("ReadWriteOncePod")?;
        let (written, new) = self.grows().await.context("growing while it is written")?;
        self.reread(&node, &sums, &new, &written)
            .await
            .context("reading from the disk after the growth")?;
        self.alone_changes_hands(&only)
            .await
            .context("another pod takes what one pod had alone")?;
        Ok(format!(
            "3 pods on {node}, one of them only reads; grown from {} to {} MiB under {} acknowledged writes; {} pieces of data unchanged",
            self.kind.size,
            self.kind.grown,
            written.acknowledged,
            sums.len() + 2
        ))
    }

    fn pod_name(&self, which: &str) -> String {
        format!("{}-{which}", self.kind.name)
    }

    fn shared_use(&self, read_only: bool) -> Use<'_> {
        Use {
            claim: &self.shared,
            at: self.shared_at(),
            mode: self.kind.mode,
            read_only,
        }
    }

    fn alone_use(&self) -> Use<'_> {
        Use {
            claim: &self.alone,
            at: self.alone_at(),
            mode: self.kind.mode,
            read_only: false,
        }
    }

    fn alone_at(&self) -> &'static str {
        match self.kind.mode {
            Mode::Filesystem => ALONE,
            Mode::Block => ALONE_DEVICE,
        }
    }

    fn shared_at(&self) -> &'static str {
        match self.kind.mode {
            Mode::Filesystem => SHARED,
            Mode::Block => SHARED_DEVICE,
        }
    }

    fn shared_data(&self, at: u64) -> Data {
        Data {
            path: self.shared_at(),
            at,
        }
    }

    async fn exec(&self, pod: &str, script: &str) -> Result<String> {
        self.scope.exec(&self.pod_name(pod), script, PATIENCE).await
    }

    async fn start(&self, pod: &str, uses: &[Use<'_>]) -> Result<()> {
        self.scope.pod(&self.pod_name(pod), uses, json!({})).await
    }

    async fn ready(&self, pod: &str) -> Result<String> {
        let pod = self.scope.pod_ready(&self.pod_name(pod), PATIENCE).await?;
        Ok(node_of(&pod))
    }

    /// Makes both claims and the pods a, b and c; they must share a node, whose name is returned.
    async fn pods_share(&self) -> Result<String> {
        let class = class_of(&self.kind);
        for (claim, size, access) in [
            (&self.shared, self.kind.size, "ReadWriteOnce"),
            (&self.alone, self.kind.alone, "ReadWriteOncePod"),
        ] {
            self.scope
                .claim(claim, &class, &format!("{size}Mi"), access, self.kind.mode)
                .await?;
        }
        self.start("a", &[self.shared_use(false), self.alone_use()])
            .await?;
        let node = self.ready("a").await?;
        self.start("b", &[self.shared_use(false)]).await?;
        self.start("c", &[self.shared_use(true)]).await?;
        for pod in ["b", "c"] {
            let other = self.ready(pod).await?;
            ensure!(
                other == node,
                "pod {pod} is on {other}, and the volume on {node}"
            );
        }
        Ok(node)
    }

    /// Both persistent volumes say that they are on the pods' node, and on no other.
    async fn where_it_is(&self, node: &str) -> Result<()> {
        let volumes: Api<PersistentVolume> = self.scope.cluster();
        for claim in [&self.shared, &self.alone] {
            let name = self.scope.volume_of(claim).await?;
            affinity::check(&volumes.get(&name).await?, node)?;
        }
        Ok(())
    }

    /// Each of the writing pods reads what the other wrote; the third reads both, and can't write. Returns the data with their checksums.
    async fn data_is_shared(&self) -> Result<Vec<(Data, String)>> {
        let mode = self.kind.mode;
        let mut sums = Vec::new();
        for (writer, at) in [("a", 8), ("b", 16)] {
            let data = self.shared_data(at);
            let sum = self.exec(writer, &data.fill(mode)).await?;
            for reader in ["a", "b", "c"].iter().filter(|pod| **pod != writer) {
                let read = self.exec(reader, &data.sum(mode)).await?;
                ensure!(
                    read == sum,
                    "pod {writer} wrote {sum} and pod {reader} reads {read}"
                );
            }
            sums.push((data, sum));
        }
        let (data, sum) = &sums[0];
        let refused = self.exec("c", &data.write(mode, "echo x")).await;
        let Err(error) = refused else {
            anyhow::bail!("a pod that may only read has written");
        };
        let after = self.exec("b", &data.sum(mode)).await?;
        ensure!(
            after == *sum,
            "what a pod that may only read tried ({error:#}) changed the data: {after}, not {sum}"
        );
        Ok(sums)
    }

    /// What one pod has alone is not given to a second one, which is told why. Returns the checksum of what the first wrote.
    async fn alone_is_alone(&self) -> Result<String> {
        let sum = self
            .exec("a", &self.alone_data().fill(self.kind.mode))
            .await?;
        self.start("d", &[self.alone_use()]).await?;
        let words = ["FailedScheduling", "ReadWriteOncePod"];
        self.scope
            .told(
                &self.scope.api::<Pod>(),
                &self.pod_name("d"),
                &words,
                PATIENCE,
            )
            .await?;
        Ok(sum)
    }

    fn alone_data(&self) -> Data {
        Data {
            path: self.alone_at(),
            at: 8,
        }
    }

    /// Grows the shared volume under a writer; both pods see the new size, and data written into the new part stays.
    async fn grows(&self) -> Result<(Written, (Data, String))> {
        // kubelet grows file systems by way of any pod that has them, also one that may only read; then it does nothing and tries another.
        let pods: Api<Pod> = self.scope.api();
        remove(&pods, &self.pod_name("c"), PATIENCE).await?;
        let mut writer = Writer::start_at(self.scope, &self.pod_name("a"), self.place(), 1, PAUSE);
        writer.reached(RECORDS).await?;
        let size = format!("{}Mi", self.kind.grown);
        self.scope.ask(&self.shared, &size).await?;
        self.scope.until_has(&self.shared, &size, PATIENCE).await?;
        for pod in ["a", "b"] {
            self.until_large(pod).await?;
        }
        if self.kind.mode == Mode::Block {
            self.exec("b", &new_part_is_zero(&self.kind)).await?;
        }
        let so_far = writer.so_far();
        writer.reached(so_far + RECORDS).await?;
        let new = self.shared_data(self.kind.grown - PIECE);
        let sum = self.exec("b", &new.fill(self.kind.mode)).await?;
        Ok((writer.stop(), (new, sum)))
    }

    fn place(&self) -> Place {
        match self.kind.mode {
            Mode::Filesystem => Place::File(format!("{SHARED}/records")),
            Mode::Block => Place::Device(SHARED_DEVICE.to_owned()),
        }
    }

    /// Waits until a pod sees more than the old size: a device as it is, a file system less what it takes for itself.
    async fn until_large(&self, pod: &str) -> Result<()> {
        let script = match self.kind.mode {
            Mode::Filesystem => {
                format!("df -P -k {SHARED} | tail -n 1 | awk '{{print $2}}'")
            }
            Mode::Block => {
                format!("echo $(( $(blockdev --getsize64 {SHARED_DEVICE}) / 1024 ))")
            }
        };
        let least = self.least_kib();
        let what = format!("pod {pod} to see at least {least} KiB");
        wait_for(&what, PATIENCE, || async {
            let kib: u64 = self.exec(pod, &script).await?.trim().parse()?;
            Ok(if kib >= least {
                Ok(())
            } else {
                Err(Pending::because(format!("it sees {kib}")))
            })
        })
        .await
    }

    /// What is seen of the grown volume at the least: more than the whole of the old one.
    fn least_kib(&self) -> u64 {
        match self.kind.mode {
            Mode::Filesystem => (self.kind.size << 10) + 1,
            Mode::Block => self.kind.grown << 10,
        }
    }

    /// Drops the node's caches; then every piece of data must be as it was written.
    async fn reread(
        &self,
        node: &str,
        sums: &[(Data, String)],
        new: &(Data, String),
        written: &Written,
    ) -> Result<()> {
        let drop_caches = "sync; echo 3 > /proc/sys/vm/drop_caches";
        sh(&self.scope.lab, node, drop_caches).await?;
        for (data, sum) in sums.iter().chain([new]) {
            let read = self.exec("b", &data.sum(self.kind.mode)).await?;
            ensure!(
                read == *sum,
                "the data at {} is {read} after the growth, it was {sum}",
                data.file(self.kind.mode)
            );
        }
        written
            .verify(self.scope, &self.pod_name("b"))
            .await
            .map(drop)
    }

    /// When the first pod is gone, the one that waited gets its volume, with the data.
    async fn alone_changes_hands(&self, sum: &str) -> Result<()> {
        let pods: Api<Pod> = self.scope.api();
        remove(&pods, &self.pod_name("a"), PATIENCE).await?;
        self.ready("d").await?;
        let read = self
            .exec("d", &self.alone_data().sum(self.kind.mode))
            .await?;
        ensure!(read == sum, "pod d reads {read}, pod a wrote {sum}");
        Ok(())
    }
}

/// A shell script that fails unless all that the growth of a device brought is zero.
fn new_part_is_zero(kind: &Kind) -> String {
    let bytes = (kind.grown - kind.size) << 20;
    format!(
        "dd if={SHARED_DEVICE} bs=1M skip={} 2>/dev/null | cmp -n {bytes} - /dev/zero",
        kind.size
    )
}

#[cfg(test)]
mod tests {
    use super::super::KINDS;
    use super::*;
    use crate::command::{output, with_args};

    fn shell(script: &str) -> Result<String> {
        output(&mut with_args("sh", ["-c", script]))
    }

    /// Data in a file of this test, as if it were a volume of so many MiB.
    fn a_volume(mode: Mode, mib: usize) -> (tempfile::TempDir, Data) {
        let folder = tempfile::tempdir().unwrap();
        let path = match mode {
            Mode::Filesystem => folder.path().to_owned(),
            Mode::Block => folder.path().join("device"),
        };
        if mode == Mode::Block {
            std::fs::write(&path, vec![0; mib << 20]).unwrap();
        }
        let path = Box::leak(path.display().to_string().into_boxed_str());
        (folder, Data { path, at: 8 })
    }

    #[test]
    fn data_is_read_where_it_was_written_and_a_change_shows() {
        for mode in [Mode::Filesystem, Mode::Block] {
            let (_folder, data) = a_volume(mode, 16);
            let sum = shell(&data.fill(mode)).unwrap();
            let other = Data { at: 12, ..data };
            assert_ne!(shell(&other.fill(mode)).unwrap(), sum);
            assert_eq!(shell(&data.sum(mode)).unwrap(), sum);
            shell(&data.write(mode, "echo x")).unwrap();
            assert_ne!(shell(&data.sum(mode)).unwrap(), sum, "{mode:?}");
        }
    }

    #[test]
    fn all_data_has_room_and_does_not_overlap() {
        for kind in KINDS {
            // Records of the writer, two pieces of data, and one in the new part.
            let places = [0, 8, 16, kind.grown - PIECE, kind.grown];
            assert!(places.windows(2).all(|pair| pair[0] + PIECE <= pair[1]));
            assert!(16 + PIECE <= kind.size && kind.size <= kind.grown - PIECE);
            assert!(8 + PIECE <= kind.alone);
        }
    }
}
