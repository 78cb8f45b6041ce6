//! A volume's life, as its user sees it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use serde_json::json;

use super::{Counts, NAME, PATIENCE};
use crate::kit::volumes::{Mode, Use, delete, remove};
use crate::kit::writer::{Place, Writer};
use crate::kit::{Pending, Scope, wait_for};

const SIZE: &str = "128Mi";
const GROWN: &str = "192Mi";
/// Bytes that a grown device has, and the least that a grown ext4 shows: more than the whole of the old one.
const DEVICE_BYTES: u64 = 192 << 20;
const FILES_BYTES: u64 = (128 << 20) + 1;
const FOLDER: &str = "/data";
const DEVICE: &str = "/dev/volume";
/// Writes to be acknowledged before the volume grows, and once more after it did.
const RECORDS: u64 = 20;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(200);

/// Every second volume is a block device.
fn mode(number: u64) -> Mode {
    if number.is_multiple_of(2) {
        Mode::Filesystem
    } else {
        Mode::Block
    }
}

/// Lives it from beginning to end.
///
/// # Errors
/// If a step does not come to its end, or an acknowledged write is lost.
pub(super) async fn run(scope: &Scope, number: u64, seed: u64, counts: &Counts) -> Result<()> {
    let life = Life {
        scope,
        claim: format!("v{number}"),
        mode: mode(number),
        counts,
    };
    let first = format!("v{number}-a");
    life.begin(&first).await?;
    let place = match life.mode {
        Mode::Filesystem => Place::File(format!("{FOLDER}/records")),
        Mode::Block => Place::Device(DEVICE.to_owned()),
    };
    let seed = seed.wrapping_mul(1000).wrapping_add(number);
    let mut writer = Writer::start_at(scope, &first, place, seed, PAUSE);
    writer.reached(RECORDS).await?;
    life.grow(&first).await?;
    let so_far = writer.so_far();
    writer.reached(so_far + RECORDS).await?;
    let written = writer.stop();
    Counts::add(&counts.acknowledged, written.acknowledged);
    // Another pod has the volume staged anew, by a daemon that knows nothing of before.
    remove(&scope.api::<Pod>(), &first, PATIENCE).await?;
    let second = format!("v{number}-b");
    life.publish(&second).await?;
    Counts::add(&counts.handed_over, 1);
    let records = written.verify(scope, &second).await?;
    Counts::add(&counts.verified, records);
    life.end(&second).await
}

struct Life<'a> {
    scope: &'a Scope,
    claim: String,
    mode: Mode,
    counts: &'a Counts,
}

impl Life<'_> {
    async fn begin(&self, pod: &str) -> Result<()> {
        self.scope
            .claim(&self.claim, NAME, SIZE, "ReadWriteOnce", self.mode)
            .await?;
        self.start(pod).await?;
        self.scope.until_bound(&self.claim, PATIENCE).await?;
        Counts::add(&self.counts.created, 1);
        self.scope.pod_ready(pod, PATIENCE).await?;
        Counts::add(&self.counts.published, 1);
        Ok(())
    }

    async fn start(&self, pod: &str) -> Result<()> {
        let uses = [Use {
            claim: &self.claim,
            at: match self.mode {
                Mode::Filesystem => FOLDER,
                Mode::Block => DEVICE,
            },
            mode: self.mode,
            read_only: false,
        }];
        self.scope.pod(pod, &uses, json!({})).await
    }

    async fn publish(&self, pod: &str) -> Result<()> {
        self.start(pod).await?;
        self.scope.pod_ready(pod, PATIENCE).await.map(drop)
    }

    /// Grows the volume; the claim and the pod must both see it.
    async fn grow(&self, pod: &str) -> Result<()> {
        self.scope.ask(&self.claim, GROWN).await?;
        self.scope.until_has(&self.claim, GROWN, PATIENCE).await?;
        let (script, least) = match self.mode {
            Mode::Filesystem => (
                format!("echo $(( $(df -P -k {FOLDER} | tail -n 1 | awk '{{print $2}}') * 1024 ))"),
                FILES_BYTES,
            ),
            Mode::Block => (format!("blockdev --getsize64 {DEVICE}"), DEVICE_BYTES),
        };
        let what = format!("pod {pod} to see at least {least} bytes");
        wait_for(&what, PATIENCE, || async {
            let sees = self.scope.exec(pod, &script, PATIENCE).await?;
            let bytes: u64 = sees.trim().parse().context("reading a size")?;
            Ok(if bytes >= least {
                Ok(())
            } else {
                Err(Pending::because(format!("it sees {bytes}")))
            })
        })
        .await?;
        Counts::add(&self.counts.expanded, 1);
        Ok(())
    }

    /// Deletes pod and claim together; the volume must go.
    async fn end(&self, pod: &str) -> Result<()> {
        let volume = self.scope.volume_of(&self.claim).await?;
        delete(&self.scope.api::<Pod>(), pod).await?;
        delete(&self.scope.api::<PersistentVolumeClaim>(), &self.claim).await?;
        let volumes: Api<PersistentVolume> = self.scope.cluster();
        let what = format!("persistent volume {volume} to go");
        wait_for(&what, PATIENCE, || async {
            Ok(match volumes.get_opt(&volume).await? {
                None => Ok(()),
                Some(left) => Err(Pending::because(format!("{:?}", left.status))),
            })
        })
        .await?;
        Counts::add(&self.counts.deleted, 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_volumes_are_block_devices() {
        let block = (0..40).filter(|n| mode(*n) == Mode::Block).count();
        assert_eq!(block, 20);
    }
}
