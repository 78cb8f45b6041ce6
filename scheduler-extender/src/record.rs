//! What was decided last for each pod, for people who ask why later: a ring, bounded by count and by bytes.
//!
//! Recording happens while kube-scheduler waits, so nothing is copied, looked up or put into words: what the decision has made for
//! itself is moved in, which is a number or two for each node. Names of nodes are shared with the snapshot, and words for people are
//! found when somebody asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hawser_inventory::Unknown;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::decide::{self, Asks, Nodes};
use crate::pods::{PodFacts, PodName};

/// So many pods are remembered.
pub(crate) const PODS: usize = 1_000;
/// .. in so many bytes, as estimated: at 5,000 nodes a decision takes some 300 KB, half of it names that are shared.
pub(crate) const BYTES: usize = 16 << 20;

/// What a filter request came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// None of the pod's volumes is ours; that many nodes passed.
    NotOurs { nodes: usize },
    /// What the pod asks for is wrong: that many nodes were refused, all with this.
    Refused { unknown: Unknown, nodes: usize },
    /// Nothing could be said; the scheduler tries again.
    Failed {
        error: String,
        unknown: Option<Unknown>,
    },
    /// Each node by itself.
    Judged(decide::Filtered),
}

impl Outcome {
    /// `filtered`: the answer to who asks this.
    pub(crate) fn of(asks: Asks, filtered: decide::Filtered) -> Self {
        let nodes = filtered.places().len();
        match asks {
            Asks::Nothing => Self::NotOurs { nodes },
            Asks::Wrong(unknown) => Self::Refused { unknown, nodes },
            Asks::NotYet { sentence, cause } => Self::Failed {
                error: sentence,
                unknown: cause,
            },
            Asks::Volumes(_) => Self::Judged(filtered),
        }
    }

    /// About how many bytes it takes.
    fn size(&self) -> usize {
        match self {
            Self::NotOurs { .. } => 0,
            Self::Refused { .. } => 256,
            Self::Failed { error, .. } => 256 + error.len(),
            Self::Judged(filtered) => filtered.size(),
        }
    }
}

/// A filter request.
#[derive(Debug)]
pub(crate) struct Filtered {
    pub(crate) at: Timestamp,
    pub(crate) pod: PodFacts,
    pub(crate) outcome: Outcome,
}

/// A prioritize request.
#[derive(Debug)]
pub(crate) struct Prioritized {
    pub(crate) at: Timestamp,
    pub(crate) nodes: Nodes,
    /// One for each node.
    pub(crate) points: Vec<u8>,
}

/// The last requests for one pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decision {
    pub(crate) filtered: Option<Arc<Filtered>>,
    pub(crate) prioritized: Option<Arc<Prioritized>>,
}

/// The last decisions. Clones share them.
#[derive(Clone)]
pub(crate) struct Records(Arc<Mutex<Ring>>);

struct Ring {
    since: Timestamp,
    /// By age.
    entries: BTreeMap<u64, Entry>,
    latest: HashMap<PodName, u64>,
    /// Entries that ever were.
    count: u64,
    bytes: usize,
    limits: (usize, usize),
}

struct Entry {
    name: PodName,
    uid: Option<String>,
    decision: Decision,
    bytes: Size,
}

/// About how many bytes a decision takes.
#[derive(Clone, Copy, Default)]
struct Size {
    filtered: usize,
    prioritized: usize,
}

impl Size {
    fn sum(self) -> usize {
        self.filtered.saturating_add(self.prioritized)
    }
}

/// What is remembered, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) since: Timestamp,
    pub(crate) pods: usize,
    /// Decisions that were ever made, the forgotten ones included.
    pub(crate) made: u64,
}

impl Default for Records {
    fn default() -> Self {
        Self::with_limits(PODS, BYTES)
    }
}

impl Records {
    pub(crate) fn with_limits(pods: usize, bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Ring {
            since: Timestamp::now(),
            entries: BTreeMap::new(),
            latest: HashMap::new(),
            count: 0,
            bytes: 0,
            limits: (pods, bytes),
        })))
    }

    /// Remembers a filter request; what was known of the pod before is forgotten. A pod without a name is not remembered.
    pub(crate) fn filtered(&self, pod: Option<Pod>, outcome: Outcome) {
        let Some(pod) = pod.and_then(PodFacts::of) else {
            return;
        };
        let bytes = Size {
            filtered: pod.size() + outcome.size(),
            prioritized: 0,
        };
        let (name, uid) = (pod.name.clone(), pod.uid.clone());
        let filtered = Arc::new(Filtered {
            at: Timestamp::now(),
            pod,
            outcome,
        });
        let decision = Decision {
            filtered: Some(filtered),
            prioritized: None,
        };
        let forgotten = self.0.lock().put(name, uid, decision, bytes);
        // Freed without the lock.
        drop(forgotten);
    }

    /// Remembers a prioritize request, beside the filter request before it if that was for the same pod.
    pub(crate) fn prioritized(&self, pod: Option<&Pod>, nodes: Nodes, points: Vec<u8>) {
        let Some((name, pod)) = pod.and_then(|pod| PodName::of(pod).map(|name| (name, pod))) else {
            return;
        };
        let size = nodes.size() + points.len();
        let prioritized = Some(Arc::new(Prioritized {
            at: Timestamp::now(),
            nodes,
            points,
        }));
        let uid = pod.metadata.uid.clone();
        let mut ring = self.0.lock();
        let before = ring.take(&name).filter(|entry| entry.uid == uid);
        let bytes = Size {
            filtered: before.as_ref().map_or(256, |entry| entry.bytes.filtered),
            prioritized: size,
        };
        let decision = Decision {
            filtered: before.and_then(|entry| entry.decision.filtered),
            prioritized,
        };
        let forgotten = ring.put(name, uid, decision, bytes);
        drop(ring);
        drop(forgotten);
    }

    pub(crate) fn get(&self, pod: &PodName) -> Option<Decision> {
        let ring = self.0.lock();
        let entry = ring.entries.get(ring.latest.get(pod)?)?;
        Some(entry.decision.clone())
    }

    pub(crate) fn extent(&self) -> Extent {
        let ring = self.0.lock();
        Extent {
            since: ring.since,
            pods: ring.entries.len(),
            made: ring.count,
        }
    }
}

impl Ring {
    fn take(&mut self, name: &PodName) -> Option<Entry> {
        let entry = self.entries.remove(&self.latest.remove(name)?)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes.sum());
        Some(entry)
    }

    /// Adds it as the newest; returns what had to go for it.
    fn put(
        &mut self,
        name: PodName,
        uid: Option<String>,
        decision: Decision,
        bytes: Size,
    ) -> Vec<Entry> {
        let mut forgotten: Vec<Entry> = self.take(&name).into_iter().collect();
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes.sum());
        self.latest.insert(name.clone(), self.count);
        let entry = Entry {
            name,
            uid,
            decision,
            bytes,
        };
        self.entries.insert(self.count, entry);
        while self.entries.len() > self.limits.0 || self.bytes > self.limits.1 {
            let Some((_, oldest)) = self.entries.pop_first() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.bytes.sum());
            self.latest.remove(&oldest.name);
            forgotten.push(oldest);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests;
