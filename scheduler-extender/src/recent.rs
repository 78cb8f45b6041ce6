//! What was answered moments ago and does not show in the API yet. Pods are scheduled one after the other, faster than the choice
//! for one becomes visible: without this, a burst of pods would be sent to the same few nodes.
//!
//! kube-scheduler does not tell the extender which node it took. The nodes that got the most points are where the pod probably
//! went, each equally likely. As soon as the claims show the node (`selected-node`), the inventory knows better
//! (`Inventory::holds`), and what is remembered here counts no more. Nothing here refuses a node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hawser_inventory::Inventory;
use hawser_placement::{Bytes, Hold, Name, PoolClass, Request};

/// From the answer to `selected-node` it takes some tens of milliseconds; a pod that has none after this was sent nowhere.
pub const HOLD_FOR: Duration = Duration::from_secs(1);

/// With more nodes of equal points than this, one of them getting the next pod too is so unlikely that it is not worth a hold.
pub const MOST_NODES: usize = 8;

/// Decisions of the last moments, by the pod's uid. The clock is the caller's.
#[derive(Debug, Default)]
pub struct Recent {
    decisions: HashMap<String, Decision>,
}

#[derive(Debug)]
struct Decision {
    at: Instant,
    volumes: Vec<Volume>,
    nodes: Vec<Name>,
}

#[derive(Debug)]
struct Volume {
    name: Name,
    class: PoolClass,
    size: Bytes,
    thin: bool,
}

impl Recent {
    /// The pod was answered with these nodes as the best ones (one that is left by filtering, or those with the most points).
    /// Replaces what was noted for the pod before.
    pub fn note<'n>(
        &mut self,
        now: Instant,
        pod: &str,
        request: &Request,
        best: impl IntoIterator<Item = &'n str>,
    ) {
        let mut best = best.into_iter();
        let nodes: Vec<Name> = best.by_ref().take(MOST_NODES).map(Name::from).collect();
        let volume =
            |(volume, new): (&hawser_placement::Volume, &hawser_placement::NewVolume)| Volume {
                name: volume.name.clone(),
                class: new.class,
                size: new.size,
                thin: new.thin,
            };
        let volumes: Vec<Volume> = request.new_volumes().map(volume).collect();
        if pod.is_empty() || nodes.is_empty() || volumes.is_empty() || best.next().is_some() {
            self.decisions.remove(pod);
            return;
        }
        let decision = Decision {
            at: now,
            volumes,
            nodes,
        };
        self.decisions.insert(pod.to_owned(), decision);
    }

    /// What the decisions for other pods will probably take, as far as the inventory does not show it.
    pub fn of_others(&mut self, now: Instant, pod: &str, inventory: &Inventory) -> Vec<Hold> {
        self.decisions.retain(|_, decision| {
            let fresh = now.saturating_duration_since(decision.at) < HOLD_FOR;
            decision
                .volumes
                .retain(|volume| !inventory.is_decided(&volume.name));
            fresh && !decision.volumes.is_empty()
        });
        let others = self.decisions.iter().filter(|(uid, _)| *uid != pod);
        others.flat_map(|(_, decision)| decision.holds()).collect()
    }
}

impl Decision {
    fn holds(&self) -> impl Iterator<Item = Hold> {
        let share = u64::try_from(self.nodes.len()).unwrap_or(u64::MAX).max(1);
        let of_volume = move |volume: &Volume| {
            let hold = |node: &Name| Hold {
                node: node.clone(),
                class: volume.class,
                size: Bytes(volume.size.0 / share),
                thin: volume.thin,
            };
            self.nodes.iter().map(hold).collect::<Vec<_>>()
        };
        self.volumes.iter().flat_map(of_volume)
    }
}

#[cfg(test)]
mod tests {
    use hawser_inventory::Fold;
    use hawser_placement::{NewVolume, VolumeKind};
    use serde_json::json;

    use super::*;

    fn asks(volume: &str, mib: u64) -> Request {
        let new = NewVolume::new(PoolClass::Ssd, Bytes::mib(mib));
        Request {
            volumes: vec![hawser_placement::Volume {
                name: volume.into(),
                claim: "shop/data".into(),
                kind: VolumeKind::New(new),
            }],
            ..Request::default()
        }
    }

    fn held(recent: &mut Recent, now: Instant, pod: &str, inventory: &Inventory) -> Vec<String> {
        let mut holds: Vec<String> = recent
            .of_others(now, pod, inventory)
            .into_iter()
            .map(|hold| format!("{} {}", hold.node, hold.size))
            .collect();
        holds.sort();
        holds
    }

    #[test]
    fn a_decision_counts_for_others_and_for_a_second() {
        let (mut recent, inventory, now) = (Recent::default(), Inventory::new(), Instant::now());
        recent.note(now, "u1", &asks("v1", 8), ["n1"]);
        assert_eq!(held(&mut recent, now, "u2", &inventory), ["n1 8.0 MiB"]);
        assert!(
            held(&mut recent, now, "u1", &inventory).is_empty(),
            "not for the pod itself"
        );
        let almost = HOLD_FOR.saturating_sub(Duration::from_millis(1));
        assert_eq!(held(&mut recent, now + almost, "u2", &inventory).len(), 1);
        assert!(held(&mut recent, now + HOLD_FOR, "u2", &inventory).is_empty());
        assert!(recent.decisions.is_empty(), "nothing is kept longer");
    }

    #[test]
    fn equal_nodes_share_it_and_too_many_are_not_worth_it() {
        let (mut recent, inventory, now) = (Recent::default(), Inventory::new(), Instant::now());
        recent.note(now, "u1", &asks("v1", 8), ["n1", "n2"]);
        assert_eq!(
            held(&mut recent, now, "u2", &inventory),
            ["n1 4.0 MiB", "n2 4.0 MiB"]
        );
        let many: Vec<String> = (0..=MOST_NODES).map(|n| format!("n{n}")).collect();
        recent.note(now, "u1", &asks("v1", 8), many.iter().map(String::as_str));
        assert!(
            held(&mut recent, now, "u2", &inventory).is_empty(),
            "replaced by nothing"
        );
    }

    #[test]
    fn what_shows_in_the_api_counts_no_more() {
        let (mut recent, mut inventory, now) =
            (Recent::default(), Inventory::new(), Instant::now());
        recent.note(now, "u1", &asks("pvc-1", 8), ["n1"]);
        let claim = json!({
            "metadata": { "name": "data", "namespace": "shop", "uid": "1",
                          "annotations": { "volume.kubernetes.io/selected-node": "n2" } },
            "spec": { "storageClassName": "ssd", "resources": { "requests": { "storage": "8Mi" } } }
        });
        let claim: k8s_openapi::api::core::v1::PersistentVolumeClaim =
            serde_json::from_value(claim).unwrap();
        assert_eq!(held(&mut recent, now, "u2", &inventory).len(), 1);
        inventory.apply(&claim);
        assert!(held(&mut recent, now, "u2", &inventory).is_empty());
    }

    #[test]
    fn pods_without_new_volumes_are_not_remembered() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        recent.note(now, "u1", &Request::default(), ["n1"]);
        recent.note(now, "", &asks("v1", 8), ["n1"]);
        recent.note(now, "u2", &asks("v1", 8), []);
        assert!(recent.decisions.is_empty());
    }
}
