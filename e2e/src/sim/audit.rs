//! Whether what the objects say can be: no pool is promised more than it has, and each pod is where its volumes are. Counted here by itself, not with
//! the code that decides. Pure.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::quantity::DEFAULT_EXTENT_BYTES as EXTENT;
use hawser_api::{LocalStorageNode, LocalVolumeGroup, LocalVolumeReplica, ReplicaState};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

/// A node and a pool on it.
type Place = (String, String);

fn extents(bytes: i64) -> i64 {
    bytes.max(0).saturating_add(EXTENT - 1) / EXTENT * EXTENT
}

fn is_gone(replica: &LocalVolumeReplica) -> bool {
    let status = replica.status.as_ref();
    status.is_some_and(|status| status.state == ReplicaState::Deleted)
}

/// Pools that are promised more than they have, each as a sentence: copies that are there or asked for, and what groups reserve for volumes that have no
/// copy on the node yet.
pub(super) fn over_committed(
    nodes: &[LocalStorageNode],
    replicas: &[LocalVolumeReplica],
    groups: &[LocalVolumeGroup],
) -> Vec<String> {
    let mut promised: BTreeMap<Place, (i64, usize)> = BTreeMap::new();
    let mut promise = |node: &str, pool: &str, bytes: i64| {
        let entry = promised
            .entry((node.to_owned(), pool.to_owned()))
            .or_default();
        entry.0 += extents(bytes);
        entry.1 += 1;
    };
    let mut made: BTreeSet<(&str, &str)> = BTreeSet::new();
    for replica in replicas.iter().filter(|replica| !is_gone(replica)) {
        let spec = &replica.spec;
        let has = replica
            .status
            .as_ref()
            .map_or(0, |status| status.allocated_capacity_bytes);
        promise(
            &spec.node_name,
            &spec.pool_name,
            spec.required_capacity_bytes.max(has),
        );
        made.insert((&spec.node_name, &spec.volume_name));
    }
    for group in groups {
        let nodes = group.spec.accessibility.iter().flat_map(|at| &at.nodes);
        for node in nodes {
            for member in &group.spec.volumes {
                if made.insert((node, &member.local_volume)) {
                    promise(node, &member.pool_name, member.required_capacity_bytes);
                }
            }
        }
    }
    let total = |(node, pool): &Place| -> i64 {
        let found = nodes.iter().find(|found| found.name_any() == *node);
        found
            .and_then(|found| found.status.as_ref()?.pools.get(pool))
            .map_or(0, |pool| pool.total_capacity_bytes)
    };
    promised
        .iter()
        .filter(|(place, (bytes, _))| *bytes > total(place))
        .map(|(place, (bytes, count))| {
            let (node, pool) = place;
            format!(
                "{pool} of {node} has {} bytes, {bytes} are promised to {count} volumes",
                total(place)
            )
        })
        .collect()
}

/// Pods that are not on the node of each of their volumes, each as a sentence.
pub(super) fn misplaced(
    pods: &[Pod],
    claims: &[PersistentVolumeClaim],
    replicas: &[LocalVolumeReplica],
) -> Vec<String> {
    let mut found = Vec::new();
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let (Some(node), Some(namespace)) = (node, pod.namespace()) else {
            continue;
        };
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let names = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
        for name in names.map(|claim| &claim.claim_name) {
            let is_it = |claim: &&PersistentVolumeClaim| {
                claim.name_any() == *name && claim.namespace().as_ref() == Some(&namespace)
            };
            let volume = claims
                .iter()
                .find(is_it)
                .and_then(|claim| claim.spec.as_ref()?.volume_name.as_deref());
            let Some(volume) = volume else {
                found.push(format!(
                    "pod {} is on {node}, its claim {name} is not bound",
                    pod.name_any()
                ));
                continue;
            };
            let here = replicas.iter().any(|replica| {
                replica.spec.volume_name == volume && replica.spec.node_name == node
            });
            if !here {
                found.push(format!(
                    "pod {} is on {node}, the volume {volume} of its claim {name} is not",
                    pod.name_any()
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    const POOL: &str = "LocalStorage_PoolSSD";
    const MIB: i64 = 1 << 20;

    fn object<K: DeserializeOwned>(kind: &str, name: &str, rest: &Value) -> K {
        let mut object = json!({ "apiVersion": "hwameistor.io/v1alpha1", "kind": kind, "metadata": { "name": name } });
        if let (Some(object), Some(rest)) = (object.as_object_mut(), rest.as_object()) {
            object.extend(rest.clone());
        }
        serde_json::from_value(object).unwrap()
    }

    fn a_node(total: i64) -> LocalStorageNode {
        let pools = json!({ POOL: { "totalCapacityBytes": total } });
        object(
            "LocalStorageNode",
            "n1",
            &json!({ "status": { "pools": pools } }),
        )
    }

    fn a_replica(volume: &str, bytes: i64, state: &str) -> LocalVolumeReplica {
        let spec = json!({ "nodeName": "n1", "poolName": POOL, "volumeName": volume, "requiredCapacityBytes": bytes });
        object(
            "LocalVolumeReplica",
            volume,
            &json!({ "spec": spec, "status": { "state": state } }),
        )
    }

    fn a_group(volumes: &[(&str, i64)]) -> LocalVolumeGroup {
        let members: Vec<Value> = volumes
            .iter()
            .map(|(name, bytes)| json!({ "localvolume": name, "poolName": POOL, "requiredCapacityBytes": bytes }))
            .collect();
        let spec = json!({ "accessibility": { "nodes": ["n1"] }, "volumes": members });
        object("LocalVolumeGroup", "g", &json!({ "spec": spec }))
    }

    #[test]
    fn copies_and_reservations_count_once_each_in_whole_extents() {
        let replicas = [a_replica("a", 5 * MIB, "Ready")];
        let groups = [a_group(&[("a", 5 * MIB), ("b", 4 * MIB)])];
        let check = |total| over_committed(&[a_node(total)], &replicas, &groups);
        assert!(check(12 * MIB).is_empty());
        let found = check(11 * MIB);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("promised to 2 volumes"), "{found:?}");
    }

    #[test]
    fn what_is_gone_takes_no_room_and_an_unknown_pool_has_none() {
        let gone = [a_replica("a", 4 * MIB, "Deleted")];
        assert!(over_committed(&[a_node(0)], &gone, &[]).is_empty());
        let there = [a_replica("a", 4 * MIB, "ToBeDeleted")];
        assert_eq!(over_committed(&[], &there, &[]).len(), 1);
    }

    #[test]
    fn a_pod_belongs_where_its_volumes_are() {
        let pod = |node: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": "p", "namespace": "x" },
                "spec": { "nodeName": node, "containers": [], "volumes": [
                    { "name": "v", "persistentVolumeClaim": { "claimName": "c" } }
                ]},
            }))
            .unwrap()
        };
        let claim = |volume: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(json!({
                "metadata": { "name": "c", "namespace": "x" }, "spec": { "volumeName": volume },
            }))
            .unwrap()
        };
        let replicas = [a_replica("a", MIB, "Ready")];
        let check = |node: &str, volume: Option<&str>| {
            misplaced(&[pod(node)], &[claim(volume)], &replicas).len()
        };
        assert_eq!(check("n1", Some("a")), 0);
        assert_eq!(check("n2", Some("a")), 1);
        assert_eq!(check("n1", None), 1);
    }
}
