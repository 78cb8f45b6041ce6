//! The pods that wait for a node and use claims, as far as a watch has told: what a volume is made for is found here without
//! listing a namespace's pods for each volume.
//!
//! Only pods without a node are watched, so this is small on a cluster of any size; and of each only what placement asks is kept.
//! It lags: who finds nothing here, or is about to refuse, asks the server (see `reserve`).

use std::{collections::BTreeSet, sync::Arc};

use hawser_runtime::{
    index::{Index, Key},
    store::{Groups, Store},
};
use k8s_openapi::{
    api::core::v1::{Affinity, Pod, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use crate::decide::claimant::{claims_of, is_waiting};

/// Pods by the claims that they use. Clones share one state.
#[derive(Clone)]
pub struct Waiting {
    pub store: Store<Pod>,
    by_claim: Arc<Groups<Pod, String>>,
}

fn key(namespace: &str, claim: &str) -> String {
    format!("{namespace}/{claim}")
}

impl Default for Waiting {
    fn default() -> Self {
        let store = Store::<Pod>::new();
        let by_claim = store.group_by(|pod| {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod)
                .map(|claim| key(&namespace, &claim))
                .collect()
        });
        Self {
            store,
            by_claim: Arc::new(by_claim),
        }
    }
}

impl Waiting {
    /// The pods that use a claim, by name.
    #[must_use]
    pub fn users(&self, namespace: &str, claim: &str) -> Vec<Arc<Pod>> {
        self.by_claim.get(&key(namespace, claim))
    }

    /// What is kept of a pod; `None` if it does not wait or uses no claim.
    fn keep(pod: &Pod) -> Option<Pod> {
        if !is_waiting(pod) || claims_of(pod).next().is_none() {
            return None;
        }
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref()?;
        let volumes = spec.volumes.iter().flatten();
        let claims =
            volumes.filter(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
        Some(Pod {
            metadata: ObjectMeta {
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                creation_timestamp: meta.creation_timestamp.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                volumes: Some(claims.cloned().collect()),
                node_selector: spec.node_selector.clone(),
                tolerations: spec.tolerations.clone(),
                affinity: spec.affinity.as_ref().map(|affinity| Affinity {
                    node_affinity: affinity.node_affinity.clone(),
                    ..Affinity::default()
                }),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some("Pending".to_owned()),
                ..PodStatus::default()
            }),
        })
    }
}

impl Index<Pod> for Waiting {
    fn apply(&self, object: Arc<Pod>) {
        match Self::keep(&object) {
            Some(pod) => self.store.apply(Arc::new(pod)),
            None => self.store.delete(&Key::of(&*object)),
        }
    }

    fn delete(&self, key: &Key) {
        self.store.delete(key);
    }

    fn reset(&self, objects: Vec<Arc<Pod>>, unreadable: &BTreeSet<Key>) {
        let kept = objects.iter().filter_map(|pod| Self::keep(pod));
        self.store.reset(kept.map(Arc::new).collect(), unreadable);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn a_pod(name: &str, node: Option<&str>, claim: Option<&str>) -> Arc<Pod> {
        let claim = claim.map(|c| json!({"name": "v", "persistentVolumeClaim": {"claimName": c}}));
        let pod = json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"a": "b"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": claim.iter().collect::<Vec<_>>()},
            "status": {"phase": "Pending"},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn users(waiting: &Waiting) -> Vec<String> {
        let users = waiting.users("shop", "data");
        users.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn pods_are_known_from_when_they_wait_until_they_have_a_node() {
        let waiting = Waiting::default();
        waiting.apply(a_pod("b", None, Some("data")));
        waiting.apply(a_pod("a", None, Some("data")));
        waiting.apply(a_pod("none", None, None));
        assert_eq!(users(&waiting), ["a", "b"]);
        assert_eq!(waiting.store.len(), 2);
        waiting.apply(a_pod("a", Some("n1"), Some("data")));
        assert_eq!(users(&waiting), ["b"]);
        waiting.reset(vec![a_pod("c", None, Some("data"))], &BTreeSet::new());
        assert_eq!(users(&waiting), ["c"]);
        waiting.delete(&Key::namespaced("shop", "c"));
        assert!(waiting.store.is_empty());
    }

    #[test]
    fn what_nobody_asks_for_is_not_kept() {
        let waiting = Waiting::default();
        waiting.apply(a_pod("a", None, Some("data")));
        let kept = waiting.users("shop", "data").remove(0);
        assert!(kept.metadata.labels.is_none());
        assert!(kept.spec.as_ref().unwrap().containers.is_empty());
    }
}
