//! What is kept of each object: the few facts that matter here, so that a hundred thousand objects stay small.

use std::collections::BTreeMap;

use hawser_api::{self as api, NodeState};
use hawser_placement::selector::{Effect, Taint};
use hawser_placement::{
    Bytes, Labels, Name, PoolClass, PoolHealth, ReplicaState, StorageState, ThinPool,
};
use k8s_openapi::api::core::v1::Node;

use crate::names::{Few, Names};

/// Of a Kubernetes Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) labels: Labels,
    pub(crate) taints: Vec<Taint>,
    pub(crate) zone: Option<Name>,
}

/// What `kubectl cordon` stands for, and what the scheduler asks tolerations for, whether or not a controller has already
/// written it beside the field.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

impl NodeFacts {
    pub(crate) fn of(node: &Node, names: &mut Names) -> Self {
        let labels: BTreeMap<Name, Name> = (node.metadata.labels.iter().flatten())
            .map(|(key, value)| (names.get(key), names.get(value)))
            .collect();
        let zone = labels.get(api::names::labels::ZONE);
        let zone = zone.filter(|zone| !zone.is_empty()).cloned();
        let spec = node.spec.as_ref();
        let taints = spec
            .into_iter()
            .flat_map(|spec| spec.taints.iter().flatten());
        let mut taints: Vec<Taint> = taints
            .map(|taint| Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
                effect: Effect::from(taint.effect.as_str()),
            })
            .collect();
        let cordoned = spec.is_some_and(|spec| spec.unschedulable == Some(true));
        let said = |taint: &Taint| taint.key == UNSCHEDULABLE && taint.effect == Effect::NoSchedule;
        if cordoned && !taints.iter().any(said) {
            taints.push(Taint {
                key: UNSCHEDULABLE.to_owned(),
                value: String::new(),
                effect: Effect::NoSchedule,
            });
        }
        Self {
            labels: labels.into(),
            taints,
            zone,
        }
    }
}

/// Of a `LocalStorageNode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageFacts {
    pub(crate) state: StorageState,
    pub(crate) pools: Vec<PoolFacts>,
}

/// A pool as its node last reported it: one consistent look at LVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolFacts {
    pub(crate) name: Name,
    pub(crate) class: PoolClass,
    pub(crate) total: Option<Bytes>,
    pub(crate) used: Bytes,
    pub(crate) volumes: u64,
    pub(crate) volume_limit: Option<u64>,
    pub(crate) volume_size_limit: Option<Bytes>,
    pub(crate) thin: Option<ThinPool>,
    pub(crate) health: PoolHealth,
    /// Volumes that `used`, `volumes` and `thin` include, sorted.
    pub(crate) listed: Vec<Name>,
}

impl StorageFacts {
    pub(crate) fn of(node: &api::LocalStorageNode, names: &mut Names) -> Self {
        let status = node.status.as_ref();
        let state = match status.map(|status| &status.state) {
            Some(NodeState::Ready) => StorageState::Ready,
            Some(NodeState::Maintain) => StorageState::Maintain,
            Some(NodeState::Offline | NodeState::Unset | NodeState::Other(_)) | None => {
                StorageState::Offline
            }
        };
        let pools = status.into_iter().flat_map(|status| &status.pools);
        Self {
            state,
            pools: pools
                .filter_map(|(name, pool)| PoolFacts::of(name, pool, names))
                .collect(),
        }
    }
}

impl PoolFacts {
    /// `None` for a pool of a class that no volume can ask for.
    fn of(name: &str, pool: &api::PoolStatus, names: &mut Names) -> Option<Self> {
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let thin_names = pool.thin_pool.iter().flat_map(|thin| &thin.thin_volumes);
        let mut listed: Vec<Name> = pool
            .volumes
            .iter()
            .chain(thin_names)
            .map(|name| names.get(name))
            .collect();
        listed.sort();
        listed.dedup();
        listed.shrink_to_fit();
        let gone = pool
            .disks
            .iter()
            .any(|disk| disk.state == api::PoolDiskState::Offline);
        Some(Self {
            name: names.get(name),
            class: class(&pool.class)?,
            total: positive(pool.total_capacity_bytes).map(Bytes),
            used: Bytes::from_api(pool.used_capacity_bytes),
            volumes: u64::try_from(pool.used_volume_count).unwrap_or(0),
            volume_limit: positive(pool.total_volume_count),
            volume_size_limit: positive(pool.volume_capacity_bytes_limit).map(Bytes),
            thin: pool.thin_pool.as_ref().map(thin_pool),
            health: if gone {
                PoolHealth::Failed
            } else {
                PoolHealth::Healthy
            },
            listed,
        })
    }
}

/// `None`: not one of the three.
pub(crate) fn class(class: &api::PoolClass) -> Option<PoolClass> {
    match class {
        api::PoolClass::HDD => Some(PoolClass::Hdd),
        api::PoolClass::SSD => Some(PoolClass::Ssd),
        api::PoolClass::NVMe => Some(PoolClass::Nvme),
        api::PoolClass::Unset | api::PoolClass::Other(_) => None,
    }
}

/// The ratio is a decimal text; absent or unreadable it is 1: promise no more than there is.
fn thin_pool(thin: &api::ThinPoolStatus) -> ThinPool {
    let size = Bytes::from_api(thin.size);
    let ratio = ten_thousandths(&thin.over_provision_ratio).unwrap_or(10_000);
    let limit = u128::from(size.0) * u128::from(ratio) / 10_000;
    ThinPool {
        limit: Bytes(u64::try_from(limit).unwrap_or(u64::MAX)),
        promised: Bytes::from_api(thin.total_provisioned_size),
    }
}

/// `2.5` as 25000; more than four decimals are cut off.
fn ten_thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("0000".chars()).take(4).collect();
    let all_digits = !whole.is_empty()
        && whole
            .chars()
            .chain(fraction.chars())
            .all(|c| c.is_ascii_digit());
    if !all_digits {
        return None;
    }
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(10_000)?
        .checked_add(digits.parse().ok()?)
}

/// Of a `LocalVolumeReplica`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaFacts {
    pub(crate) volume: Name,
    pub(crate) node: Name,
    pub(crate) pool: Name,
    pub(crate) required: Bytes,
    /// Zero: not made yet (or not reported).
    pub(crate) allocated: Bytes,
    pub(crate) thin: bool,
    pub(crate) state: ReplicaState,
    /// To be destroyed: takes room until it is, but is no copy of the volume any more.
    pub(crate) leaving: bool,
    /// Its data is gone: takes no room.
    pub(crate) gone: bool,
}

impl ReplicaFacts {
    pub(crate) fn of(replica: &api::LocalVolumeReplica, names: &mut Names) -> Self {
        let (spec, status) = (&replica.spec, replica.status.clone().unwrap_or_default());
        let leaving = spec.delete
            || matches!(
                status.state,
                api::ReplicaState::ToBeDeleted | api::ReplicaState::Deleted
            );
        Self {
            volume: names.get(&spec.volume_name),
            node: names.get(&spec.node_name),
            pool: names.get(&spec.pool_name),
            required: Bytes::from_api(spec.required_capacity_bytes),
            allocated: Bytes::from_api(status.allocated_capacity_bytes),
            thin: spec.thin,
            state: replica_state(&status),
            leaving,
            gone: status.state == api::ReplicaState::Deleted,
        }
    }
}

/// What the copy is good for. A copy that is being made counts as syncing: its node is the right place to wait.
/// Behind its peer it can still serve (reads go to the peer), so under DRBD "not ready" is only syncing.
fn replica_state(status: &api::LocalVolumeReplicaStatus) -> ReplicaState {
    let behind = status.ha_state.as_ref().is_some_and(|ha| {
        matches!(
            ha.state,
            api::HaDataState::Inconsistent | api::HaDataState::Up | api::HaDataState::Consistent
        )
    });
    match status.state {
        api::ReplicaState::Ready if status.synced => ReplicaState::UpToDate,
        api::ReplicaState::Ready | api::ReplicaState::Creating | api::ReplicaState::Unset => {
            ReplicaState::Syncing
        }
        api::ReplicaState::NotReady if behind => ReplicaState::Syncing,
        api::ReplicaState::NotReady
        | api::ReplicaState::Invalid
        | api::ReplicaState::ToBeDeleted
        | api::ReplicaState::Deleted
        | api::ReplicaState::Other(_) => ReplicaState::Broken,
    }
}

/// Of a `LocalVolume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeFacts {
    pub(crate) replicas: u32,
    /// Nodes that it shall be on; meaningful while the replicas are not there yet.
    pub(crate) nodes: Few,
    pub(crate) published: Option<Name>,
    pub(crate) leaving: bool,
}

impl VolumeFacts {
    pub(crate) fn of(volume: &api::LocalVolume, names: &mut Names) -> Self {
        let status = volume.status.clone().unwrap_or_default();
        let nodes = volume
            .spec
            .accessibility
            .iter()
            .flat_map(|accessibility| &accessibility.nodes);
        Self {
            replicas: u32::try_from(volume.spec.replica_number)
                .unwrap_or(0)
                .max(1),
            nodes: nodes.map(|node| names.get(node)).collect(),
            published: Some(status.published_node)
                .filter(|node| !node.is_empty())
                .map(|node| names.get(&node)),
            leaving: volume.spec.delete
                || matches!(
                    status.state,
                    api::VolumeState::ToBeDeleted | api::VolumeState::Deleted
                ),
        }
    }
}

/// Of a `LocalVolumeGroup`: what it may reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupFacts {
    pub(crate) owner: Name,
    pub(crate) nodes: Few,
    pub(crate) members: Vec<MemberFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberFacts {
    pub(crate) volume: Name,
    pub(crate) pool: Name,
    pub(crate) size: Bytes,
}

impl GroupFacts {
    /// Members without pool or size (groups of the former generation) reserve nothing.
    pub(crate) fn of(group: &api::LocalVolumeGroup, names: &mut Names) -> Self {
        let spec = &group.spec;
        let pods = if spec.pods.is_empty() {
            vec![group.metadata.name.clone().unwrap_or_default()]
        } else {
            spec.pods.clone()
        };
        let reserves = |member: &&api::VolumeGroupMember| {
            !member.local_volume.is_empty()
                && !member.pool_name.is_empty()
                && member.required_capacity_bytes > 0
        };
        let members = spec
            .volumes
            .iter()
            .filter(reserves)
            .map(|member| MemberFacts {
                volume: names.get(&member.local_volume),
                pool: names.get(&member.pool_name),
                size: Bytes::from_api(member.required_capacity_bytes),
            });
        let members = members.collect();
        let nodes = spec.accessibility.iter().flat_map(|a| &a.nodes);
        Self {
            owner: format!("{}/{}", spec.namespace, pods.join(",")).into(),
            nodes: nodes.map(|node| names.get(node)).collect(),
            members,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_ratio() {
        assert_eq!(ten_thousandths("2.5"), Some(25_000));
        assert_eq!(ten_thousandths("1"), Some(10_000));
        assert_eq!(ten_thousandths("1.123456"), Some(11_234));
        for wrong in ["", ".5", "x", "-1", "1,5", "99999999999999999999"] {
            assert_eq!(ten_thousandths(wrong), None, "{wrong:?}");
        }
    }
}
