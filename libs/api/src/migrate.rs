//! `LocalVolumeMigrate`: moves the replica of one node to another node. Removed once it is done.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OperationState;
use crate::schema::{is_false, is_zero, resource};

/// Which replica, and where to.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeMigrate",
    plural = "localvolumemigrates",
    shortname = "lvmigrate",
    status = "LocalVolumeMigrateStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "volume", type_ = "string", json_path = ".spec.volumeName"),
    printcolumn(name = "from", type_ = "string", json_path = ".spec.sourceNode"),
    printcolumn(name = "to", type_ = "string", json_path = ".status.targetNode"),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeMigrateSpec {
    /// Stop, and go back to where it was.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub abort: bool,
    /// Whether the volumes of the same group move too. Absent means true, so false must be written.
    #[serde(skip_serializing_if = "is_true")]
    #[schemars(extend("default" = true))]
    pub migrate_all_vols: bool,
    /// The node that is left.
    pub source_node: String,
    /// Any of these will do; empty: the best node.
    pub target_nodes_suggested: Vec<String>,
    /// The volume.
    pub volume_name: String,
}

impl Default for LocalVolumeMigrateSpec {
    /// As the API server would default it: the whole group moves.
    fn default() -> Self {
        Self {
            abort: false,
            migrate_all_vols: true,
            source_node: String::new(),
            target_nodes_suggested: Vec::new(),
            volume_name: String::new(),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_true(flag: &bool) -> bool {
    *flag
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeMigrateStatus {
    /// What hinders it, one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How many replicas the volume had before.
    #[serde(skip_serializing_if = "is_zero")]
    pub original_replica_number: i64,
    /// State.
    #[serde(skip_serializing_if = "OperationState::is_unset")]
    pub state: OperationState,
    /// The node that was chosen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_node: String,
    /// The volumes that move together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

resource!(
    LocalVolumeMigrate,
    LocalVolumeMigrateSpec,
    LocalVolumeMigrateStatus
);
