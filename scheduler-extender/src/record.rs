//! What was decided last for each pod, for people who ask why later: a ring, bounded by count and by bytes.
//!
//! Recording happens while kube-scheduler waits, so nothing is copied or put into words: names, reasons and scores are moved
//! in, which the request would only have dropped. Words are found when somebody asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hawser_api::extender::HostPriorityList;
use hawser_inventory::Unknown;
use hawser_placement::{Reason, Score};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::pods::{PodFacts, PodName};

/// So many pods are remembered.
pub(crate) const PODS: usize = 1_000;
/// .. in so many bytes, as estimated: at 5,000 nodes a decision takes some 400 KB, and 1 MB if each node was refused.
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
    /// Each node by itself; as many verdicts as nodes.
    Judged {
        nodes: Vec<String>,
        verdicts: Vec<Result<Score, Vec<Reason>>>,
    },
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
    pub(crate) scores: HostPriorityList,
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
    bytes: usize,
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
        let bytes = pod.size() + outcome.size();
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
    pub(crate) fn prioritized(&self, pod: Option<&Pod>, scores: HostPriorityList) {
        let Some((name, pod)) = pod.and_then(|pod| PodName::of(pod).map(|name| (name, pod))) else {
            return;
        };
        let hosts: usize = scores.first().map_or(0, |first| first.host.len() + 48) * scores.len();
        let prioritized = Some(Arc::new(Prioritized {
            at: Timestamp::now(),
            scores,
        }));
        let uid = pod.metadata.uid.clone();
        let mut ring = self.0.lock();
        let before = ring.take(&name).filter(|entry| entry.uid == uid);
        let bytes = before.as_ref().map_or(256, |entry| entry.bytes) + hosts;
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
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry)
    }

    /// Adds it as the newest; returns what had to go for it.
    fn put(
        &mut self,
        name: PodName,
        uid: Option<String>,
        decision: Decision,
        bytes: usize,
    ) -> Vec<Entry> {
        let mut forgotten: Vec<Entry> = self.take(&name).into_iter().collect();
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
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
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.latest.remove(&oldest.name);
            forgotten.push(oldest);
        }
        forgotten
    }
}

impl Outcome {
    /// About how many bytes it takes: from the numbers of things and the first name, since adding up thousands takes longer than
    /// deciding about them.
    fn size(&self) -> usize {
        /// A reason with what hangs on it: names are shared, owners and copies are few.
        const REASON: usize = size_of::<Reason>() + 64;
        match self {
            Self::NotOurs { .. } => 0,
            Self::Refused { .. } => 256,
            Self::Failed { error, .. } => 256 + error.len(),
            Self::Judged { nodes, verdicts } => {
                let name = nodes
                    .first()
                    .map_or(0, |name| name.len().next_multiple_of(16) + 40);
                let reasons = verdicts
                    .iter()
                    .map(|verdict| verdict.as_ref().map_or_else(Vec::len, |_| 0));
                nodes.len() * name
                    + verdicts.len() * size_of::<Result<Score, Vec<Reason>>>()
                    + reasons.sum::<usize>() * REASON
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::extender::HostPriority;
    use hawser_placement::StorageState;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str) -> Pod {
        serde_json::from_value(
            json!({ "metadata": { "name": name, "namespace": "shop", "uid": uid } }),
        )
        .unwrap()
    }

    fn known(records: &Records, name: &str) -> Option<(bool, bool)> {
        let name = PodName {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let decision = records.get(&name)?;
        Some((decision.filtered.is_some(), decision.prioritized.is_some()))
    }

    fn refused(nodes: usize) -> Outcome {
        let reason = Reason::Storage {
            state: StorageState::Offline,
        };
        Outcome::Judged {
            nodes: (0..nodes)
                .map(|i| format!("worker-{i:05}.example.internal"))
                .collect(),
            verdicts: vec![Err(vec![reason]); nodes],
        }
    }

    fn scores(nodes: usize) -> HostPriorityList {
        (0..nodes)
            .map(|i| HostPriority {
                host: format!("worker-{i:05}"),
                score: 3,
            })
            .collect()
    }

    #[test]
    fn the_last_decision_of_each_pod_is_kept_and_the_oldest_pod_goes_first() {
        let records = Records::with_limits(2, usize::MAX);
        records.filtered(Some(pod("a", "1")), refused(1));
        records.filtered(Some(pod("b", "1")), refused(1));
        records.prioritized(Some(&pod("a", "1")), scores(1));
        assert_eq!(
            (known(&records, "a"), known(&records, "b")),
            (Some((true, true)), Some((true, false)))
        );
        records.filtered(Some(pod("c", "1")), refused(1));
        assert_eq!(
            (known(&records, "a"), known(&records, "b")),
            (Some((true, true)), None),
            "a was touched later"
        );
        records.filtered(Some(pod("a", "1")), refused(1));
        assert_eq!(
            known(&records, "a"),
            Some((true, false)),
            "a new attempt begins anew"
        );
        records.prioritized(Some(&pod("a", "2")), scores(1));
        assert_eq!(
            known(&records, "a"),
            Some((false, true)),
            "of another pod under the same name nothing is mixed in"
        );
        records.filtered(Some(Pod::default()), refused(1));
        records.filtered(None, refused(1));
        assert_eq!((records.extent().pods, records.extent().made), (2, 6));
    }

    #[test]
    fn bytes_are_bounded_whatever_comes() {
        let records = Records::with_limits(usize::MAX, 1 << 20);
        for i in 0..100 {
            records.filtered(Some(pod(&format!("p{i}"), "1")), refused(500));
            records.prioritized(Some(&pod(&format!("p{i}"), "1")), scores(500));
        }
        let ring = records.0.lock();
        assert!(
            ring.bytes <= 1 << 20 && ring.bytes > 1 << 19,
            "{}",
            ring.bytes
        );
        assert_eq!(
            ring.bytes,
            ring.entries
                .values()
                .map(|entry| entry.bytes)
                .sum::<usize>()
        );
        assert_eq!(ring.latest.len(), ring.entries.len());
        drop(ring);
        records.filtered(Some(pod("huge", "1")), refused(50_000));
        assert_eq!(
            (known(&records, "huge"), records.extent().pods),
            (None, 0),
            "what alone is too large is not kept"
        );
    }

    #[test]
    fn recording_moves_and_copies_nothing() {
        let records = Records::default();
        let outcome = refused(5_000);
        let at = |outcome: &Outcome| match outcome {
            Outcome::Judged { nodes, verdicts } => {
                (nodes.as_ptr() as usize, verdicts.as_ptr() as usize)
            }
            other => panic!("{other:?}"),
        };
        let before = at(&outcome);
        records.filtered(Some(pod("a", "1")), outcome);
        let name = PodName {
            namespace: "shop".to_owned(),
            name: "a".to_owned(),
        };
        let kept = records.get(&name).unwrap().filtered.unwrap();
        assert_eq!(at(&kept.outcome), before);
    }
}
