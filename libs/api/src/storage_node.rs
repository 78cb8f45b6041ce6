//! `LocalStorageNode`: a node with pools, named like the Kubernetes node.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::resource;
use crate::{NodeState, PoolExtendRecords, Pools, StorageNodeCondition, ThinPoolDescription};

/// Where the node is.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalStorageNode",
    plural = "localstoragenodes",
    shortname = "lsn",
    status = "LocalStorageNodeStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "ip", type_ = "string", json_path = ".spec.storageIP"),
    printcolumn(name = "status", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "PoolHDD FreeCap",
        type_ = "integer",
        json_path = ".status.pools.LocalStorage_PoolHDD.freeCapacityBytes",
        priority = 1
    ),
    printcolumn(
        name = "PoolSSD FreeCap",
        type_ = "integer",
        json_path = ".status.pools.LocalStorage_PoolSSD.freeCapacityBytes",
        priority = 1
    ),
    printcolumn(
        name = "PoolNVMe FreeCap",
        type_ = "integer",
        json_path = ".status.pools.LocalStorage_PoolNVMe.freeCapacityBytes",
        priority = 1
    ),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalStorageNodeSpec {
    /// The node's name, like `metadata.name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Address for replication, read once when the object is made.
    #[serde(rename = "storageIP", skip_serializing_if = "String::is_empty")]
    pub storage_ip: String,
    /// Zone and region.
    #[serde(rename = "topogoly", skip_serializing_if = "Option::is_none")]
    pub topology: Option<NodeTopology>,
}

/// Zone and region of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct NodeTopology {
    /// Region.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("default" = "default"))]
    pub region: String,
    /// Zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("default" = "default"))]
    pub zone: String,
}

/// What the node has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalStorageNodeStatus {
    /// Observations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StorageNodeCondition>,
    /// What each pool was extended by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pool_extend_records: PoolExtendRecords,
    /// The pools: every volume group whose name starts with `LocalStorage_Pool`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: Pools,
    /// What the node is doing; `Maintain` is set by operators and kept.
    #[serde(skip_serializing_if = "NodeState::is_unset")]
    pub state: NodeState,
    /// What each thin pool was extended by, by volume group, oldest first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub thin_pool_extend_records: BTreeMap<String, Vec<ThinPoolExtendRecord>>,
}

/// One extension of a thin pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct ThinPoolExtendRecord {
    /// What was asked for.
    pub description: ThinPoolDescription,
    /// The node.
    pub node_name: String,
    /// Uid of the `ThinPoolClaim`.
    pub uid: String,
}

resource!(
    LocalStorageNode,
    LocalStorageNodeSpec,
    LocalStorageNodeStatus
);
