//! Writers whose acknowledged writes can be verified afterwards.
//!
//! Records are made here, outside of the pod, each with its own checksum, and sent to a shell in the pod, which appends a record to a file, calls fsync
//! on the file, and only then acknowledges the record's number. What was acknowledged is therefore known here even when the node loses its power the next
//! moment; after it came back, the file is read as a whole and must hold every acknowledged record, unchanged.
//!
//! On a block device each record has a slot of its own, by its number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinHandle;

use super::scope::Scope;
use super::wait::{Pending, wait_for};

/// Hexadecimal digits of random-looking payload in a record.
const PAYLOAD: usize = 448;
/// Bytes between the beginnings of two records on a device; a record has half as many.
const SLOT: u64 = 1024;
/// How long one write with its fsync may take before the writer counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a writer writes to, as its pod sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file, which grows by each record.
    File(String),
    /// A block device, whose first KiB is left alone.
    Device(String),
}

impl Place {
    fn path(&self) -> &str {
        let (Self::File(path) | Self::Device(path)) = self;
        path
    }

    /// The shell script that takes records, and says the number of each once it is on the disk.
    fn write_script(&self) -> String {
        match self {
            // `sync FILE` of busybox calls fsync on it.
            Self::File(file) => format!(
                "while read -r number rest; do echo \"$number $rest\" >> {file} && sync {file} || exit 1; echo $number; done"
            ),
            Self::Device(device) => format!(
                "while read -r number rest; do echo \"$number $rest\" | dd of={device} bs={SLOT} seek=$number conv=notrunc,fsync 2>/dev/null || exit 1; \
                 echo $number; done"
            ),
        }
    }

    /// The shell script that gives back the records, at least the first `count`.
    fn read_script(&self, count: u64) -> String {
        match self {
            Self::File(file) => format!("cat {file}"),
            Self::Device(device) => {
                format!("dd if={device} bs={SLOT} skip=1 count={count} 2>/dev/null | tr -d '\\000'")
            }
        }
    }
}

/// A writer that runs.
pub(crate) struct Writer {
    pod: String,
    place: Place,
    seed: u64,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

/// What a writer had when it ended.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    place: Place,
    seed: u64,
    /// Records 1 to this number were acknowledged.
    pub(crate) acknowledged: u64,
}

impl Writer {
    /// Starts a writer in a pod, on a file below one of its mounts. `seed` makes its records unlike those of other writers.
    pub(crate) fn start(scope: &Scope, pod: &str, file: &str, seed: u64) -> Self {
        Self::start_at(
            scope,
            pod,
            Place::File(file.to_owned()),
            seed,
            Duration::ZERO,
        )
    }

    /// As [`Writer::start`], on a file or a device, and with a pause after each record, so that many writers leave time for others.
    pub(crate) fn start_at(
        scope: &Scope,
        pod: &str,
        place: Place,
        seed: u64,
        pause: Duration,
    ) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(
            scope.clone(),
            pod.to_owned(),
            place.write_script(),
            (seed, pause),
            Arc::clone(&acknowledged),
        ));
        Self {
            pod: pod.to_owned(),
            place,
            seed,
            acknowledged,
            task,
        }
    }

    /// Waits until at least `count` records are acknowledged.
    ///
    /// # Errors
    /// If the writer ends before, or it takes longer than two minutes.
    pub(crate) async fn reached(&mut self, count: u64) -> Result<()> {
        let what = format!(
            "{count} acknowledged writes to {} of {}",
            self.place.path(),
            self.pod
        );
        loop {
            let so_far = self.so_far();
            if so_far >= count {
                return Ok(());
            }
            if self.task.is_finished() {
                let end = (&mut self.task).await.context("the writer's task")?;
                bail!("{what}: the writer ended after {so_far}: {end:?}");
            }
            let acknowledged = Arc::clone(&self.acknowledged);
            wait_for(&what, PATIENCE, || {
                let now = acknowledged.load(Ordering::SeqCst);
                let ended = self.task.is_finished();
                async move {
                    Ok(if now > so_far || ended {
                        Ok(())
                    } else {
                        Err(Pending::because(format!("{now} so far")))
                    })
                }
            })
            .await?;
        }
    }

    /// How many records are acknowledged by now.
    pub(crate) fn so_far(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Ends the writer; what it had acknowledged by then is what counts.
    pub(crate) fn stop(self) -> Written {
        self.task.abort();
        Written {
            acknowledged: self.so_far(),
            place: self.place,
            seed: self.seed,
        }
    }
}

impl Written {
    /// Reads what is there, in this or another pod that has it at the same place, and checks every acknowledged record. Returns how many records there
    /// are: at least those acknowledged.
    ///
    /// # Errors
    /// If an acknowledged record is missing or differs, with its number.
    pub(crate) async fn verify(&self, scope: &Scope, pod: &str) -> Result<u64> {
        let script = self.place.read_script(self.acknowledged);
        let content = scope.exec(pod, &script, PATIENCE).await?;
        verify(&content, self.seed, self.acknowledged)
            .with_context(|| format!("{} of pod {pod}", self.place.path()))
    }
}

/// Sends record after record, each only after the one before was acknowledged.
async fn write(
    scope: Scope,
    pod: String,
    script: String,
    (seed, pause): (u64, Duration),
    acknowledged: Arc<AtomicU64>,
) -> Result<()> {
    let pods: Api<Pod> = scope.api();
    let attach = AttachParams::default()
        .stdin(true)
        .stdout(true)
        .stderr(false);
    let mut process = pods.exec(&pod, ["sh", "-c", &script], &attach).await?;
    let mut stdin = process.stdin().context("no stdin")?;
    let mut lines = BufReader::new(process.stdout().context("no stdout")?).lines();
    for number in 1.. {
        stdin.write_all(record(seed, number).as_bytes()).await?;
        stdin.flush().await?;
        let line = lines
            .next_line()
            .await?
            .context("the writer's shell ended")?;
        ensure!(
            line == number.to_string(),
            "acknowledged {line} instead of {number}"
        );
        acknowledged.store(number, Ordering::SeqCst);
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// A record: its number, a payload that follows from seed and number, and the checksum of both; one line.
fn record(seed: u64, number: u64) -> String {
    let mut payload = String::with_capacity(PAYLOAD);
    let mut block = 0_u32;
    while payload.len() < PAYLOAD {
        let digest = Sha256::digest(format!("{seed} {number} {block}"));
        for byte in digest {
            let _ = write!(payload, "{byte:02x}");
        }
        block += 1;
    }
    let sum = hex::encode(Sha256::digest(format!("{number} {payload}")));
    format!("{number} {payload} {sum}\n")
}

/// Checks that `content` holds records 1 to `acknowledged` of a seed, each whole; returns how many whole records it holds.
fn verify(content: &str, seed: u64, acknowledged: u64) -> Result<u64> {
    let mut found = BTreeMap::new();
    for line in content.lines() {
        if let Some(number) = line.split(' ').next().and_then(|n| n.parse::<u64>().ok()) {
            found.insert(number, line);
        }
    }
    for number in 1..=acknowledged {
        match found.get(&number) {
            None => bail!(
                "record {number} was acknowledged and is not there ({acknowledged} were acknowledged, {} are there)",
                found.len()
            ),
            Some(line) if *line != record(seed, number).trim_end() => {
                bail!("record {number} was acknowledged and is not as it was written");
            }
            Some(_) => {}
        }
    }
    Ok(found.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(seed: u64, count: u64) -> String {
        (1..=count).map(|number| record(seed, number)).collect()
    }

    #[test]
    fn what_was_written_is_verified() {
        assert_eq!(verify(&records(7, 20), 7, 20).unwrap(), 20);
    }

    #[test]
    fn more_than_acknowledged_is_fine_even_when_the_last_is_torn() {
        let mut content = records(7, 21);
        content.truncate(content.len() - 40);
        assert_eq!(verify(&content, 7, 20).unwrap(), 21);
    }

    #[test]
    fn a_lost_record_is_found() {
        let content = records(7, 19);
        let error = verify(&content, 7, 20).unwrap_err();
        assert!(error.to_string().contains("record 20"), "{error}");
    }

    #[test]
    fn a_changed_record_is_found() {
        let content = records(7, 20).replacen('a', "b", 1);
        assert!(verify(&content, 7, 20).is_err());
    }

    /// Runs the scripts of a place with this machine's shell, on a file of `before` bytes; gives the acknowledgements and what is read back.
    fn run_scripts(place: impl Fn(String) -> Place, before: usize, count: u64) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, vec![0; before]).unwrap();
        let input = folder.path().join("records");
        std::fs::write(&input, records(7, count)).unwrap();
        let place = place(path.display().to_string());
        let shell = |script: &str| {
            let mut command = crate::command::with_args("sh", ["-c", script]);
            command.stdin(std::fs::File::open(&input).unwrap());
            crate::command::output(&mut command).unwrap()
        };
        let acknowledged = shell(&place.write_script());
        (acknowledged, shell(&place.read_script(count)))
    }

    #[test]
    fn scripts_write_and_read_back_on_files_and_on_devices() {
        let file = run_scripts(Place::File, 0, 12);
        let device = run_scripts(Place::Device, 1 << 20, 12);
        for (acknowledged, content) in [file, device] {
            assert!(acknowledged.ends_with("11\n12\n"), "{acknowledged}");
            assert_eq!(verify(&content, 7, 12).unwrap(), 12);
        }
    }

    #[test]
    fn a_record_fits_its_slot() {
        let longest = record(u64::MAX, u64::from(u32::MAX)).len() as u64;
        assert!(longest < SLOT, "{longest}");
    }

    #[test]
    fn records_of_another_writer_do_not_pass() {
        assert!(verify(&records(8, 20), 7, 20).is_err());
    }
}
