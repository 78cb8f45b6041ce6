//! Zeroing in the background: whole volumes before they are removed, and what an extension may have brought from others.
//!
//! A job goes in pieces of some seconds, writes down in a tag how far it is, and starts from there after a crash. Space is
//! free only after `lvremove`, so nobody gets a byte that was not zeroed. Few run at a time: zeroing disturbs those who work.
//!
//! Why zeroes and not a discard: what discarded blocks read as is the device's choice. `BLKZEROOUT` is guaranteed, and as fast
//! where the device can write zeroes by itself. Volumes to be removed are discarded after it, so that thin arrays and flash learn
//! that the blocks are free.

mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_runtime::telemetry::chain;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::node::Effects;

const AT_A_TIME: usize = 2;
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Zero all and remove.
    Wipe,
    /// Zero what may hold data of others.
    Clean,
}

/// A job, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Waiting for its turn, or at work.
    Running {
        /// What.
        kind: Kind,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Failed, and to be tried again.
    Failed {
        /// What.
        kind: Kind,
        /// Why.
        reason: String,
    },
}

impl Job {
    /// What it does.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Running { kind, .. } | Self::Failed { kind, .. } => *kind,
        }
    }

    /// In words, in steps coarse enough that telling them costs few writes.
    pub fn sentence(&self, volume: &str) -> String {
        match self {
            Self::Running { kind, done, total } => {
                let doing = kind.doing();
                match done.saturating_mul(10).checked_div(*total) {
                    Some(tenths) => {
                        let percent = tenths * 10;
                        format!("{volume} is being {doing}: {percent} % of {total} bytes")
                    }
                    // The size is not known yet.
                    None => format!("{volume} is being {doing}"),
                }
            }
            Self::Failed { kind, reason } => {
                format!(
                    "{volume} could not be {} and is tried again: {reason}",
                    kind.doing()
                )
            }
        }
    }
}

impl Kind {
    fn doing(self) -> &'static str {
        match self {
            Self::Wipe => "wiped",
            Self::Clean => "zeroed",
        }
    }
}

/// Which logical volume a job is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Group.
    pub vg: String,
    /// Name.
    pub lv: String,
    /// LVM's own identity: a volume made anew under the same name is another.
    pub uuid: String,
}

/// Called with a volume's name whenever its job has news.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// The jobs of this node. Clones share one state.
#[derive(Clone)]
pub struct Jobs {
    effects: Effects,
    by_volume: Arc<Mutex<BTreeMap<String, Job>>>,
    turns: Arc<Semaphore>,
    ended: Arc<Notify>,
    listener: Listener,
}

impl Jobs {
    /// No jobs yet.
    pub fn new(effects: Effects, listener: Listener) -> Self {
        Self {
            effects,
            by_volume: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            ended: Arc::default(),
            listener,
        }
    }

    /// All jobs by volume.
    pub fn snapshot(&self) -> BTreeMap<String, Job> {
        self.by_volume.lock().clone()
    }

    /// The job of a volume.
    pub fn of(&self, volume: &str) -> Option<Job> {
        self.by_volume.lock().get(volume).cloned()
    }

    /// Waits until a volume has no job, or its job failed: then why.
    pub async fn finished(&self, volume: &str) -> Result<(), String> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Listen before looking.
            ended.as_mut().enable();
            match self.of(volume) {
                None => return Ok(()),
                Some(job @ Job::Failed { .. }) => return Err(job.sentence(volume)),
                Some(Job::Running { .. }) => ended.await,
            }
        }
    }

    /// Starts a job. One is there for this volume already: nothing happens.
    pub fn start(&self, kind: Kind, subject: Subject) {
        {
            let mut jobs = self.by_volume.lock();
            if jobs.contains_key(&subject.lv) {
                return;
            }
            jobs.insert(
                subject.lv.clone(),
                Job::Running {
                    kind,
                    done: 0,
                    total: 0,
                },
            );
        }
        let this = self.clone();
        tokio::spawn(async move { this.run(kind, subject).await });
    }

    async fn run(self, kind: Kind, subject: Subject) {
        let result = {
            let _turn = self.turns.acquire().await;
            match kind {
                Kind::Wipe => self.wipe(&subject).await,
                Kind::Clean => self.clean(&subject).await,
            }
        };
        if let Err(error) = result {
            let reason = chain(&error).to_string();
            tracing::warn!(
                volume = subject.lv,
                pool = subject.vg,
                ?kind,
                error = reason,
                "zeroing failed, trying again later"
            );
            self.by_volume
                .lock()
                .insert(subject.lv.clone(), Job::Failed { kind, reason });
            self.ended.notify_waiters();
            (self.listener)(&subject.lv);
            tokio::time::sleep(RETRY).await;
        }
        self.by_volume.lock().remove(&subject.lv);
        self.ended.notify_waiters();
        (self.listener)(&subject.lv);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_tenths() {
        let at = |done| {
            Job::Running {
                kind: Kind::Wipe,
                done,
                total: 1000,
            }
            .sentence("pvc-1")
        };
        assert_eq!(at(0), "pvc-1 is being wiped: 0 % of 1000 bytes");
        assert_eq!(at(699), "pvc-1 is being wiped: 60 % of 1000 bytes");
        assert_eq!(at(601), at(699));
    }
}
