//! `LocalDiskNode`: a node with disks, named like the Kubernetes node.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::resource;
use crate::{NodeState, PoolExtendRecords, Pools, StorageNodeCondition};

/// Which node it is.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalDiskNode",
    plural = "localdisknodes",
    shortname = "ldn",
    status = "LocalDiskNodeStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "FreeCapacity",
        type_ = "integer",
        json_path = ".status.freeCapacity"
    ),
    printcolumn(
        name = "TotalCapacity",
        type_ = "integer",
        json_path = ".status.totalCapacity"
    ),
    printcolumn(name = "TotalDisk", type_ = "integer", json_path = ".status.totalDisk"),
    printcolumn(name = "status", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskNodeSpec {
    /// The node's name, like `metadata.name`.
    pub node_name: String,
}

/// What disks the node has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskNodeStatus {
    /// Observations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StorageNodeCondition>,
    /// Size of the disks that can be claimed, bytes; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_capacity: Option<i64>,
    /// Number of the disks that can be claimed; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_disk: Option<i64>,
    /// What each pool of whole disks was extended by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pool_extend_records: PoolExtendRecords,
    /// Pools of whole disks, such as `LocalDisk_PoolHDD`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: Pools,
    /// What the node is doing; `Maintain` is set by operators and kept.
    #[serde(skip_serializing_if = "NodeState::is_unset")]
    pub state: NodeState,
    /// Size of all disks, bytes; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_capacity: Option<i64>,
    /// Number of all disks; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_disk: Option<i64>,
}

resource!(LocalDiskNode, LocalDiskNodeSpec, LocalDiskNodeStatus);
