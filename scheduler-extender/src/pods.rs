//! The few facts of a pod that decisions depend on, so that many pods can be remembered.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EphemeralVolumeSource, NodeAffinity, NodeSelector, PersistentVolumeClaimVolumeSource,
    Pod, PodSpec, Toleration, Volume,
};

/// A pod's `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
}

impl PodName {
    /// `None` for a pod without a name. Without a namespace it is `default`.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let name = meta.name.clone().filter(|name| !name.is_empty())?;
        let namespace = meta.namespace.clone().filter(|name| !name.is_empty());
        Some(Self {
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            name,
        })
    }
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is kept of a pod. Taken out of it by moving, which costs next to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub(crate) name: PodName,
    pub(crate) uid: Option<String>,
    uses: Vec<Use>,
    node_selector: Option<BTreeMap<String, String>>,
    node_affinity: Option<NodeSelector>,
    tolerations: Option<Vec<Toleration>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Use {
    Claim(String),
    /// Name of the volume that the claim is named after.
    Ephemeral(String),
}

impl PodFacts {
    /// `None` for a pod without a name.
    pub(crate) fn of(pod: Pod) -> Option<Self> {
        let name = PodName::of(&pod)?;
        let spec = pod.spec.unwrap_or_default();
        let used = |volume: Volume| match (volume.persistent_volume_claim, volume.ephemeral) {
            (Some(claim), _) => Some(Use::Claim(claim.claim_name)),
            (None, Some(_)) => Some(Use::Ephemeral(volume.name)),
            (None, None) => None,
        };
        let affinity = spec.affinity.and_then(|affinity| affinity.node_affinity);
        Some(Self {
            name,
            uid: pod.metadata.uid,
            uses: spec
                .volumes
                .into_iter()
                .flatten()
                .filter_map(used)
                .collect(),
            node_selector: spec.node_selector,
            node_affinity: affinity
                .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution),
            tolerations: spec.tolerations,
        })
    }

    /// How many claims it uses, others' included.
    pub(crate) fn claims(&self) -> usize {
        self.uses.len()
    }

    /// The same pod under another name, and no pod of the cluster.
    pub(crate) fn renamed(&self, name: String) -> Self {
        let mut pod = self.clone();
        pod.name.name = name;
        pod.uid = None;
        pod
    }

    /// Uses this claim, too.
    pub(crate) fn use_claim(&mut self, claim: String) {
        let used = Use::Claim(claim);
        if !self.uses.contains(&used) {
            self.uses.push(used);
        }
    }

    /// What it says about nodes, left out of [`Self::to_pod`].
    pub(crate) fn without_constraints(&self) -> Self {
        Self {
            node_selector: None,
            node_affinity: None,
            tolerations: None,
            ..self.clone()
        }
    }

    /// A pod with these facts.
    pub(crate) fn to_pod(&self) -> Pod {
        let volume = |used: &Use| match used {
            Use::Claim(claim) => Volume {
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    ..PersistentVolumeClaimVolumeSource::default()
                }),
                ..Volume::default()
            },
            Use::Ephemeral(name) => Volume {
                name: name.clone(),
                ephemeral: Some(EphemeralVolumeSource::default()),
                ..Volume::default()
            },
        };
        let node_affinity = |required| NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            ..NodeAffinity::default()
        };
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(self.name.namespace.clone());
        pod.metadata.name = Some(self.name.name.clone());
        pod.metadata.uid.clone_from(&self.uid);
        pod.spec = Some(PodSpec {
            volumes: Some(self.uses.iter().map(volume).collect()),
            node_selector: self.node_selector.clone(),
            affinity: self.node_affinity.clone().map(|required| Affinity {
                node_affinity: Some(node_affinity(required)),
                ..Affinity::default()
            }),
            tolerations: self.tolerations.clone(),
            ..PodSpec::default()
        });
        pod
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let selector = self.node_selector.iter().flatten();
        let terms = self
            .node_affinity
            .iter()
            .flat_map(|affinity| &affinity.node_selector_terms);
        let requirements = terms.flat_map(|term| {
            let both = [&term.match_expressions, &term.match_fields];
            both.into_iter().flatten().flatten()
        });
        let values = requirements.map(|one| {
            let values = one.values.iter().flatten().map(|value| value.len() + 24);
            one.key.len() + 96 + values.sum::<usize>()
        });
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let tolerations = self.tolerations.iter().flatten();
        let tolerations = tolerations.map(|one| text(&one.key) + text(&one.value) + 128);
        let uses = self.uses.iter().map(|used| match used {
            Use::Claim(name) | Use::Ephemeral(name) => name.len() + 32,
        });
        size_of::<Self>()
            + self.name.namespace.len()
            + self.name.name.len()
            + text(&self.uid)
            + uses.sum::<usize>()
            + selector
                .map(|(key, value)| key.len() + value.len() + 64)
                .sum::<usize>()
            + values.sum::<usize>()
            + tolerations.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use hawser_inventory::constraints;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_decisions_depend_on_survives() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "db-0", "namespace": "shop", "uid": "u-1", "labels": { "a": "b" } },
            "spec": {
                "containers": [{ "name": "db", "resources": { "requests": { "cpu": "1" } } }],
                "volumes": [
                    { "name": "a", "persistentVolumeClaim": { "claimName": "data" } },
                    { "name": "tmp", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } },
                    { "name": "c", "emptyDir": {} }
                ],
                "nodeSelector": { "disk": "fast" },
                "tolerations": [{ "key": "k", "operator": "Exists" }],
                "affinity": {
                    "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                        { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a", "b"] }] }
                    ] } },
                    "podAntiAffinity": {}
                }
            }
        }))
        .unwrap();
        let wanted = constraints(&pod);
        let facts = PodFacts::of(pod).unwrap();
        assert_eq!(
            (facts.name.to_string().as_str(), facts.claims()),
            ("shop/db-0", 2)
        );
        let again = facts.to_pod();
        assert_eq!(constraints(&again), wanted);
        assert_eq!(
            PodFacts::of(again),
            Some(facts.clone()),
            "nothing is lost on the way back"
        );
        assert!(
            facts.size() > 300 && facts.size() < 2000,
            "{}",
            facts.size()
        );
        let free = facts.without_constraints();
        assert_eq!(
            constraints(&free.to_pod()),
            hawser_placement::Constraints::default()
        );
        assert_eq!(PodFacts::of(Pod::default()), None);
    }
}
