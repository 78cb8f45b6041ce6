//! Writers whose acknowledged writes can be verified afterwards.
//!
//! Records are made here, outside of the pod, each with its own checksum, and sent to a shell in the pod, which appends a record to a file, calls fsync
//! on the file, and only then acknowledges the record's number. What was acknowledged is therefore known here even when the node loses its power the next
//! moment; after it came back, the file is read as a whole and must hold every acknowledged record, unchanged.

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
/// How long one write with its fsync may take before the writer counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// A writer that runs.
pub(crate) struct Writer {
    pod: String,
    file: String,
    seed: u64,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

/// What a writer had when it ended.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) file: String,
    seed: u64,
    /// Records 1 to this number were acknowledged.
    pub(crate) acknowledged: u64,
}

impl Writer {
    /// Starts a writer in a pod, on a file below one of its mounts. `seed` makes its records unlike those of other writers.
    pub(crate) fn start(scope: &Scope, pod: &str, file: &str, seed: u64) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(
            scope.clone(),
            pod.to_owned(),
            file.to_owned(),
            seed,
            Arc::clone(&acknowledged),
        ));
        Self {
            pod: pod.to_owned(),
            file: file.to_owned(),
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
            self.file, self.pod
        );
        loop {
            let so_far = self.acknowledged.load(Ordering::SeqCst);
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

    /// Ends the writer; what it had acknowledged by then is what counts.
    pub(crate) fn stop(self) -> Written {
        self.task.abort();
        Written {
            acknowledged: self.acknowledged.load(Ordering::SeqCst),
            file: self.file,
            seed: self.seed,
        }
    }
}

impl Written {
    /// Reads the file in the pod and checks every acknowledged record. Returns how many records it holds (at least those acknowledged).
    ///
    /// # Errors
    /// If an acknowledged record is missing or differs, with its number.
    pub(crate) async fn verify(&self, scope: &Scope, pod: &str) -> Result<u64> {
        let script = format!("cat {}", self.file);
        let content = scope.exec(pod, &script, PATIENCE).await?;
        verify(&content, self.seed, self.acknowledged)
            .with_context(|| format!("{} of pod {pod}", self.file))
    }
}

/// Sends record after record, each only after the one before was acknowledged.
async fn write(
    scope: Scope,
    pod: String,
    file: String,
    seed: u64,
    acknowledged: Arc<AtomicU64>,
) -> Result<()> {
    // `sync FILE` of busybox calls fsync on it.
    let script = format!(
        "while read -r number rest; do echo \"$number $rest\" >> {file} && sync {file} || exit 1; echo $number; done"
    );
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

    #[test]
    fn records_of_another_writer_do_not_pass() {
        assert!(verify(&records(8, 20), 7, 20).is_err());
    }
}
