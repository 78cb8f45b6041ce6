//! Sees all that happens to the pods and claims of a namespace, by watches: nothing in between two looks is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use hawser_api::names::annotations::SELECTED_NODE;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;

use super::world::POD_LABEL;
use crate::kit::Scope;

/// A pod as it is, and when it got there.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSeen {
    pub(crate) node: Option<String>,
    pub(crate) scheduled: Option<Instant>,
    pub(crate) running: Option<Instant>,
    pub(crate) scheduler: String,
}

/// An event, as last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) about: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) times: i32,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pods: BTreeMap<String, PodSeen>,
    /// The nodes that were chosen for each claim, and `None` where a choice was taken back, in order.
    choices: BTreeMap<String, Vec<Option<String>>>,
    /// Whose claim it is.
    owners: BTreeMap<String, String>,
    events: BTreeMap<String, Told>,
}

impl Seen {
    fn pod(&mut self, pod: &Pod) {
        let now = Instant::now();
        let seen = self.pods.entry(pod.name_any()).or_default();
        let spec = pod.spec.as_ref();
        seen.node = spec
            .and_then(|spec| spec.node_name.clone())
            .filter(|node| !node.is_empty());
        seen.scheduler = spec
            .and_then(|spec| spec.scheduler_name.clone())
            .unwrap_or_default();
        if seen.node.is_some() {
            seen.scheduled.get_or_insert(now);
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase == Some("Running") {
            seen.running.get_or_insert(now);
        }
    }

    fn claim(&mut self, claim: &PersistentVolumeClaim) {
        let name = claim.name_any();
        if let Some(owner) = claim.labels().get(POD_LABEL) {
            self.owners.insert(name.clone(), owner.clone());
        }
        let chosen = claim.annotations().get(SELECTED_NODE).cloned();
        let choices = self.choices.entry(name).or_default();
        let last = choices.last().cloned().flatten();
        if last != chosen {
            choices.push(chosen);
        }
    }

    fn event(&mut self, event: &Event) {
        let told = Told {
            about: event.involved_object.name.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            times: event
                .series
                .as_ref()
                .and_then(|series| series.count)
                .or(event.count)
                .unwrap_or(1),
        };
        self.events
            .insert(event.uid().unwrap_or_else(|| event.name_any()), told);
    }

    /// Pods that were sent to a node and came back: a node was chosen for one of their claims, and taken back or changed.
    pub(crate) fn came_back(&self) -> BTreeSet<&str> {
        let back = self.choices.iter().filter(|(_, choices)| choices.len() > 1);
        back.map(|(claim, _)| self.owners.get(claim).unwrap_or(claim).as_str())
            .collect()
    }

    /// Claims for which a node is chosen.
    pub(crate) fn chosen(&self) -> usize {
        let last = self.choices.values().filter_map(|choices| choices.last());
        last.flatten().count()
    }

    pub(crate) fn running(&self) -> usize {
        let pods = self.pods.values();
        pods.filter(|pod| pod.running.is_some()).count()
    }

    pub(crate) fn scheduled(&self) -> usize {
        let pods = self.pods.values();
        pods.filter(|pod| pod.scheduled.is_some()).count()
    }

    /// Events of this reason whose message has this part.
    pub(crate) fn told(&self, reason: &str, part: &str) -> Vec<&Told> {
        let fits = |told: &&Told| told.reason == reason && told.message.contains(part);
        self.events.values().filter(fits).collect()
    }

    /// The last that was told of this reason about a pod's claims.
    pub(crate) fn told_of_claims(&self, pod: &str, reason: &str) -> Option<&Told> {
        let mut told = self.events.values().filter(|told| told.reason == reason);
        told.find(|told| {
            self.owners
                .get(&told.about)
                .is_some_and(|owner| owner == pod)
        })
    }

    /// How often provisioning failed, as users are told.
    pub(crate) fn failures(&self) -> i32 {
        let told = self.told("ProvisioningFailed", "");
        told.iter().map(|told| told.times).sum()
    }

    /// How many pods run on each node.
    pub(crate) fn by_node(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for node in self.pods.values().filter_map(|pod| pod.node.as_deref()) {
            *count.entry(node).or_insert(0) += 1;
        }
        count
    }

    /// Why pods wait, for a message: the first one that does, and what was told of it and its claims.
    pub(crate) fn why_waiting(&self) -> String {
        let Some((name, _)) = self.pods.iter().find(|(_, pod)| pod.running.is_none()) else {
            return "no pod waits".to_owned();
        };
        let about = |told: &&Told| {
            told.about == *name
                || self
                    .owners
                    .get(&told.about)
                    .is_some_and(|owner| owner == name)
        };
        let told: Vec<String> = self
            .events
            .values()
            .filter(about)
            .map(|told| {
                format!(
                    "{} {}: {} (x{})",
                    told.about, told.reason, told.message, told.times
                )
            })
            .collect();
        format!("pod {name}: {}", told.join("; "))
    }
}

/// The watches. They end when it is dropped.
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    _watches: JoinSet<()>,
}

impl Witness {
    /// Begins to watch a namespace.
    pub(crate) fn of(scope: &Scope) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut watches = JoinSet::new();
        watches.spawn(watch(scope.api::<Pod>(), seen.clone(), Seen::pod));
        watches.spawn(watch(
            scope.api::<PersistentVolumeClaim>(),
            seen.clone(),
            Seen::claim,
        ));
        watches.spawn(watch(scope.api::<Event>(), seen.clone(), Seen::event));
        Self {
            seen,
            _watches: watches,
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands each new state of each object on. Watches that break go on where they were: kube's watcher asks from the last version that it saw.
async fn watch<K>(api: Api<K>, seen: Arc<Mutex<Seen>>, note: fn(&mut Seen, &K))
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    <K as kube::Resource>::DynamicType: Default,
{
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut stream = std::pin::pin!(stream);
    while let Some(item) = stream.next().await {
        if let Ok(object) = item {
            note(
                &mut seen.lock().unwrap_or_else(PoisonError::into_inner),
                &object,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(node: Option<&str>) -> PersistentVolumeClaim {
        let annotations = node.map(|node| json!({ SELECTED_NODE: node }));
        serde_json::from_value(json!({ "metadata": {
            "name": "data", "labels": { POD_LABEL: "p" }, "annotations": annotations,
        }}))
        .unwrap()
    }

    #[test]
    fn a_pod_whose_node_is_chosen_once_has_not_come_back() {
        let mut seen = Seen::default();
        for node in [None, None, Some("n1"), Some("n1")] {
            seen.claim(&claim(node));
        }
        assert!(seen.came_back().is_empty());
        assert_eq!(seen.chosen(), 1);
    }

    #[test]
    fn a_choice_that_is_taken_back_or_changed_is_seen() {
        for second in [None, Some("n2")] {
            let mut seen = Seen::default();
            for node in [None, Some("n1"), second] {
                seen.claim(&claim(node));
            }
            assert_eq!(seen.came_back(), BTreeSet::from(["p"]), "{second:?}");
        }
    }

    #[test]
    fn what_is_told_again_counts_as_often() {
        let event = |uid: &str, count: i32| -> Event {
            serde_json::from_value(json!({
                "metadata": { "uid": uid }, "involvedObject": { "name": "data" },
                "reason": "ProvisioningFailed", "message": "no room", "count": count,
            }))
            .unwrap()
        };
        let mut seen = Seen::default();
        for (uid, count) in [("a", 1), ("a", 3), ("b", 1)] {
            seen.event(&event(uid, count));
        }
        assert_eq!(seen.failures(), 4);
        assert_eq!(seen.told("ProvisioningFailed", "room").len(), 2);
        assert!(seen.told("ProvisioningFailed", "else").is_empty());
    }
}
