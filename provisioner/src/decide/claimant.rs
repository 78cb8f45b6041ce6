//! Which pod a volume is made for. Pure.
//!
//! A claim does not say. What can be told: kube-scheduler writes the node that it has chosen for a pod to all of the pod's claims
//! that have no volume yet, one after the other. So of the pods that wait and use the claim, one whose claims all bear the node
//! that the volume is asked for is the one that was scheduled; one with a claim that bears another node is not.

use std::cmp::Reverse;

use hawser_api::names::annotations;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

/// A pod that uses the claim, with all of its claims as far as they exist.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub pod: Pod,
    pub claims: Vec<PersistentVolumeClaim>,
    /// Claims that those are cloned from.
    pub sources: Vec<PersistentVolumeClaim>,
}

/// How a pod stands to a node that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A claim of it goes to another node.
    Elsewhere,
    /// Some claims of it bear no node (yet).
    Open,
    /// All of its claims without a volume bear this node.
    Chosen,
}

/// Names of the claims that a pod uses, those of its generic ephemeral volumes included.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let name = pod.name_any();
    pod.spec
        .iter()
        .flat_map(|s| s.volumes.iter().flatten())
        .filter_map(move |volume| {
            let claim = volume
                .persistent_volume_claim
                .as_ref()
                .map(|c| c.claim_name.clone());
            claim.or_else(|| {
                volume
                    .ephemeral
                    .as_ref()
                    .map(|_| format!("{name}-{}", volume.name))
            })
        })
}

/// Whether the pod still waits for a node.
#[must_use]
pub fn is_waiting(pod: &Pod) -> bool {
    node_of(pod).is_none() && is_alive(pod)
}

/// The node that the pod was bound to.
#[must_use]
pub fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.filter(|node| !node.is_empty())
}

/// Whether the pod will run or runs: not deleted, not finished.
#[must_use]
pub fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The node that a scheduler chose for a claim.
#[must_use]
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    let node = claim.annotations().get(annotations::SELECTED_NODE);
    node.map(String::as_str).filter(|node| !node.is_empty())
}

/// The claim that a claim is to be cloned from.
#[must_use]
pub fn source(claim: &PersistentVolumeClaim) -> Option<&str> {
    let spec = claim.spec.as_ref()?;
    let local = spec.data_source.as_ref().map(|s| (&s.kind, &s.name));
    let (kind, name) = local.or_else(|| {
        let source = spec.data_source_ref.as_ref()?;
        Some((&source.kind, &source.name))
    })?;
    (kind == "PersistentVolumeClaim").then_some(name)
}

/// Whether the claim has its volume.
#[must_use]
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    volume.is_some_and(|name| !name.is_empty())
}

impl Candidate {
    /// `None` as node: no single one was chosen.
    #[must_use]
    pub fn standing(&self, node: Option<&str>) -> Standing {
        let Some(node) = node else {
            return Standing::Open;
        };
        let of_claim = |claim: &PersistentVolumeClaim| match selected_node(claim) {
            Some(selected) if selected == node => Standing::Chosen,
            Some(_) => Standing::Elsewhere,
            None => Standing::Open,
        };
        let waiting = self.claims.iter().filter(|claim| !is_bound(claim));
        waiting.map(of_claim).min().unwrap_or(Standing::Open)
    }

    fn age(&self) -> (Option<Time>, String) {
        (self.pod.creation_timestamp(), self.pod.name_any())
    }
}

/// Those that the volume on `node` may be meant for, the likeliest first, then the oldest. If one was certainly scheduled there,
/// those that may or may not have been are left out.
#[must_use]
pub fn rank(mut candidates: Vec<Candidate>, node: Option<&str>) -> Vec<Candidate> {
    candidates.retain(|c| c.standing(node) > Standing::Elsewhere);
    candidates.sort_by_cached_key(|c| (Reverse(c.standing(node)), c.age()));
    let chosen = |c: &Candidate| c.standing(node) == Standing::Chosen;
    if candidates.first().is_some_and(chosen) {
        candidates.retain(chosen);
    }
    candidates
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn a_claim(name: &str, node: Option<&str>, volume: Option<&str>) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": node.map(|n| json!({annotations::SELECTED_NODE: n}))},
            "spec": {"volumeName": volume},
        }))
        .unwrap()
    }

    fn a_pod(name: &str, second: u32, claims: Vec<PersistentVolumeClaim>) -> Candidate {
        let created = format!("2026-01-01T00:00:{second:02}Z");
        let pod = json!({"metadata": {"name": name, "creationTimestamp": created}});
        Candidate {
            pod: serde_json::from_value(pod).unwrap(),
            claims,
            sources: Vec::new(),
        }
    }

    fn ranked(candidates: &[Candidate], node: &str) -> Vec<String> {
        let ranked = rank(candidates.to_vec(), Some(node));
        ranked.iter().map(|c| c.pod.name_any()).collect()
    }

    #[test]
    fn the_pod_whose_claims_all_bear_the_node_is_meant() {
        let shared = || a_claim("shared", Some("n2"), None);
        let old = a_pod("old", 1, vec![shared(), a_claim("a", None, None)]);
        let scheduled = a_pod(
            "scheduled",
            2,
            vec![shared(), a_claim("b", Some("n2"), None)],
        );
        let elsewhere = a_pod(
            "elsewhere",
            0,
            vec![shared(), a_claim("c", Some("n1"), None)],
        );
        assert_eq!(
            ranked(&[old.clone(), scheduled, elsewhere.clone()], "n2"),
            ["scheduled"]
        );
        assert_eq!(ranked(&[elsewhere, old.clone()], "n2"), ["old"]);
        let older = a_pod("older", 0, vec![shared(), a_claim("d", None, None)]);
        assert_eq!(ranked(&[old, older], "n2"), ["older", "old"]);
    }

    #[test]
    fn claims_with_a_volume_have_no_say() {
        let bound = a_claim("bound", Some("n1"), Some("pvc-1"));
        let pod = a_pod("p", 1, vec![bound, a_claim("new", Some("n2"), None)]);
        assert_eq!(pod.standing(Some("n2")), Standing::Chosen);
    }

    #[test]
    fn claims_of_ephemeral_volumes_are_named_after_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [], "volumes": [
                {"name": "scratch", "ephemeral": {}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
                {"name": "other", "emptyDir": {}},
            ]},
        }))
        .unwrap();
        assert_eq!(claims_of(&pod).collect::<Vec<_>>(), ["p-scratch", "d"]);
    }
}
