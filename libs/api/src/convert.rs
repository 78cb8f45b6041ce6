//! `LocalVolumeConvert`: one replica becomes two. Removed once it is done.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OperationState;
use crate::schema::{is_false, is_zero, resource};

/// Which volume, and how many replicas.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeConvert",
    plural = "localvolumeconverts",
    shortname = "lvconvert",
    status = "LocalVolumeConvertStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "volume", type_ = "string", json_path = ".spec.volumeName"),
    printcolumn(
        name = "replicas",
        type_ = "integer",
        json_path = ".spec.replicaNumber"
    ),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "abort", type_ = "boolean", json_path = ".spec.abort"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeConvertSpec {
    /// Stop, and go back to one replica.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub abort: bool,
    /// How many replicas: 2.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 2, max = 2))]
    pub replica_number: i64,
    /// The volume; those of the same group are converted with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeConvertStatus {
    /// What hinders it, one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// State.
    #[serde(skip_serializing_if = "OperationState::is_unset")]
    pub state: OperationState,
}

resource!(
    LocalVolumeConvert,
    LocalVolumeConvertSpec,
    LocalVolumeConvertStatus
);
