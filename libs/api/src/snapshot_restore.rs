//! `LocalVolumeSnapshotRestore` and `LocalVolumeReplicaSnapshotRestore`: data goes from a snapshot into a volume, for the
//! volume and for its copy on one node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OperationState;
use crate::schema::{is_false, resource};
use crate::string_enum::string_enum;

string_enum! {
    /// What a restore does.
    pub enum RestoreType {
        /// The source volume goes back to the snapshot, which is used up.
        Rollback = "rollback",
        /// Another volume gets the snapshot's data.
        Create = "create",
    }
}

/// From which snapshot into which volume.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeSnapshotRestore",
    plural = "localvolumesnapshotrestores",
    shortname = "lvsrestore",
    shortname = "lvsnaprestore",
    status = "LocalVolumeSnapshotRestoreStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "targetvolume",
        type_ = "string",
        json_path = ".spec.targetVolume"
    ),
    printcolumn(
        name = "sourcesnapshot",
        type_ = "string",
        json_path = ".spec.sourceVolumeSnapshot"
    ),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeSnapshotRestoreSpec {
    /// Stop.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub abort: bool,
    /// What is done.
    #[schemars(extend("enum" = ["rollback", "create"]))]
    pub restore_type: RestoreType,
    /// The `LocalVolumeSnapshot`.
    pub source_volume_snapshot: String,
    /// The pool of the target; of a rollback it follows from the snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_pool_name: String,
    /// The target; of a rollback it follows from the snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_volume: String,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeSnapshotRestoreStatus {
    /// What hinders it, one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// State.
    #[serde(skip_serializing_if = "OperationState::is_unset")]
    pub state: OperationState,
    /// Names of its `LocalVolumeReplicaSnapshotRestore` objects.
    #[serde(
        rename = "volumeReplicaSnapshotRestore",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub replica_restores: Vec<String>,
}

resource!(
    LocalVolumeSnapshotRestore,
    LocalVolumeSnapshotRestoreSpec,
    LocalVolumeSnapshotRestoreStatus
);

/// The part of a restore on one node.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeReplicaSnapshotRestore",
    plural = "localvolumereplicasnapshotrestores",
    shortname = "lvrsrestore",
    shortname = "lvrsnaprestore",
    status = "LocalVolumeReplicaSnapshotRestoreStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "nodeName", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(
        name = "targetvolume",
        type_ = "string",
        json_path = ".spec.targetVolume"
    ),
    printcolumn(
        name = "sourcesnapshot",
        type_ = "string",
        json_path = ".spec.sourceVolumeSnapshot"
    ),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeReplicaSnapshotRestoreSpec {
    /// Stop.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub abort: bool,
    /// The node.
    pub node_name: String,
    /// What is done.
    #[schemars(extend("default" = "create", "enum" = ["rollback", "create"]))]
    pub restore_type: RestoreType,
    /// The `LocalVolumeReplicaSnapshot`.
    pub source_volume_replica_snapshot: String,
    /// The `LocalVolumeSnapshot`.
    pub source_volume_snapshot: String,
    /// The pool of the target.
    pub target_pool_name: String,
    /// The target.
    pub target_volume: String,
    /// The `LocalVolumeSnapshotRestore` that this is a part of.
    pub volume_snapshot_restore: String,
}

/// How far the part on one node has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeReplicaSnapshotRestoreStatus {
    /// What hinders it, one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// State.
    #[serde(skip_serializing_if = "OperationState::is_unset")]
    pub state: OperationState,
}

resource!(
    LocalVolumeReplicaSnapshotRestore,
    LocalVolumeReplicaSnapshotRestoreSpec,
    LocalVolumeReplicaSnapshotRestoreStatus
);
