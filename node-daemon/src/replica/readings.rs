//! Whether the volumes' devices can be read: asked now and then, and remembered.
//!
//! A read of a disk that hangs can't be called off: its thread waits until the kernel gives up, which may be never. So a volume is
//! asked again only when its last read has ended, and of all volumes only few reads are under way at a time; a node whose disk
//! hangs keeps its threads for the volumes of its other disks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hawser_runtime::telemetry::chain;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::mount::Filesystems;

/// Reads that are under way at a time.
const AT_A_TIME: usize = 8;
/// How long a round waits for its reads. Those that take longer go on, and are heard later.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Known {
    /// Volumes whose read is under way, or waits for its turn.
    asked: BTreeSet<String>,
    /// Volumes that did not read, and why.
    failed: BTreeMap<String, String>,
}

/// What is known. Clones share one state.
#[derive(Clone)]
pub struct Readings {
    filesystems: Arc<dyn Filesystems>,
    known: Arc<Mutex<Known>>,
    turns: Arc<Semaphore>,
    told: super::jobs::Listener,
}

impl Readings {
    /// Nothing is known yet. `told` is called with a volume's name when what is known of it changes.
    pub fn new(filesystems: Arc<dyn Filesystems>, told: super::jobs::Listener) -> Self {
        Self {
            filesystems,
            known: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            told,
        }
    }

    /// Volumes that did not read when they were last asked, and why. One that has not answered yet may only be busy.
    pub fn failed(&self) -> BTreeMap<String, String> {
        self.known.lock().failed.clone()
    }

    /// Asks all these volumes, by their devices; forgets the others. Returns when they have answered, or after a while.
    pub async fn ask(&self, devices: BTreeMap<String, PathBuf>) {
        let mut reads = JoinSet::new();
        {
            let mut known = self.known.lock();
            known
                .failed
                .retain(|volume, _| devices.contains_key(volume));
            for (volume, device) in devices {
                if known.asked.insert(volume.clone()) {
                    let read = self.clone().read(volume, device);
                    reads.spawn(read);
                }
            }
        }
        let all = async { while reads.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(PATIENCE, all).await;
        // Not called off: they would lose their turn while their thread still waits.
        reads.detach_all();
    }

    async fn read(self, volume: String, device: PathBuf) {
        let _turn = self.turns.acquire().await;
        let answer = self.filesystems.readable(&device).await;
        let changed = {
            let mut known = self.known.lock();
            known.asked.remove(&volume);
            match answer {
                Ok(()) => known.failed.remove(&volume).is_some(),
                Err(error) => {
                    let why = chain(&error).to_string();
                    known.failed.insert(volume.clone(), why.clone()) != Some(why)
                }
            }
        };
        if changed {
            (self.told)(&volume);
        }
    }
}
