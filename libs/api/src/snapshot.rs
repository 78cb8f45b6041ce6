//! `LocalVolumeSnapshot` and `LocalVolumeReplicaSnapshot`: a snapshot of a volume, and its copy on one node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_false, is_zero, resource};
use crate::{Accessibility, Condition, SnapshotAttributes, VolumeState};

/// What a snapshot shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeSnapshot",
    plural = "localvolumesnapshots",
    shortname = "lvs",
    status = "LocalVolumeSnapshotStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "Capacity",
        type_ = "integer",
        json_path = ".status.allocatedCapacityBytes"
    ),
    printcolumn(
        name = "SourceVolume",
        type_ = "string",
        json_path = ".spec.sourceVolume"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Merging", type_ = "string", json_path = ".status.attr.merging"),
    printcolumn(name = "Invalid", type_ = "string", json_path = ".status.attr.invalid"),
    printcolumn(name = "Age", type_ = "date", json_path = ".status.creationTime")
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeSnapshotSpec {
    /// The nodes that have the source.
    pub accessibility: Accessibility,
    /// The request to delete the snapshot with its data.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub delete: bool,
    /// Copy-on-write room, bytes.
    #[schemars(range(min = 4_194_304))]
    pub required_capacity_bytes: i64,
    /// The volume.
    pub source_volume: String,
    /// Whether the source is thin.
    #[serde(skip_serializing_if = "is_false")]
    pub thin: bool,
}

/// What a snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeSnapshotStatus {
    /// Room that it takes, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub allocated_capacity_bytes: i64,
    /// What LVM says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr: Option<SnapshotAttributes>,
    /// When it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// What hinders it, one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Names of its `LocalVolumeReplicaSnapshot` objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replica_snapshots: Vec<String>,
    /// State.
    #[serde(skip_serializing_if = "VolumeState::is_unset")]
    pub state: VolumeState,
}

resource!(
    LocalVolumeSnapshot,
    LocalVolumeSnapshotSpec,
    LocalVolumeSnapshotStatus
);

/// What the copy of a snapshot on one node shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeReplicaSnapshot",
    plural = "localvolumereplicasnapshots",
    shortname = "lvrs",
    status = "LocalVolumeReplicaSnapshotStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "Capacity",
        type_ = "integer",
        json_path = ".status.allocatedCapacityBytes"
    ),
    printcolumn(name = "NodeName", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(
        name = "SourceVolume",
        type_ = "string",
        json_path = ".spec.sourceVolume"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Merging", type_ = "string", json_path = ".status.attr.merging"),
    printcolumn(name = "Invalid", type_ = "string", json_path = ".status.attr.invalid"),
    printcolumn(name = "Age", type_ = "date", json_path = ".status.creationTime"),
    printcolumn(
        name = "SourceVolumeReplica",
        type_ = "string",
        json_path = ".spec.sourceVolumeReplica",
        priority = 1
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeReplicaSnapshotSpec {
    /// The request to destroy this copy.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub delete: bool,
    /// The node.
    pub node_name: String,
    /// The pool.
    #[schemars(extend("enum" = ["LocalStorage_PoolHDD", "LocalStorage_PoolSSD", "LocalStorage_PoolNVMe"]))]
    pub pool_name: String,
    /// Copy-on-write room, bytes.
    #[schemars(range(min = 4_194_304))]
    pub required_capacity_bytes: i64,
    /// The volume.
    pub source_volume: String,
    /// The volume's replica on the node.
    pub source_volume_replica: String,
    /// The `LocalVolumeSnapshot`.
    pub volume_snapshot_name: String,
}

/// What the copy of a snapshot on one node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeReplicaSnapshotStatus {
    /// Room that it takes, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub allocated_capacity_bytes: i64,
    /// What LVM says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr: Option<SnapshotAttributes>,
    /// Observations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// What hinders it, one sentence (the API calls it the reason).
    #[serde(rename = "reason", skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// State.
    #[serde(skip_serializing_if = "VolumeState::is_unset")]
    pub state: VolumeState,
}

resource!(
    LocalVolumeReplicaSnapshot,
    LocalVolumeReplicaSnapshotSpec,
    LocalVolumeReplicaSnapshotStatus
);
