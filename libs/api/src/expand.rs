//! `LocalVolumeExpand`: makes a volume larger. Removed once it is done.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OperationState;
use crate::schema::{is_false, is_zero, resource};

/// Which volume, and how large.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeExpand",
    plural = "localvolumeexpands",
    shortname = "lvexpand",
    status = "LocalVolumeExpandStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "newCapacity",
        type_ = "integer",
        json_path = ".spec.requiredCapacityBytes"
    ),
    printcolumn(name = "abort", type_ = "boolean", json_path = ".spec.abort"),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "subs", type_ = "string", json_path = ".status.subs"),
    printcolumn(name = "message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeExpandSpec {
    /// Stop, and leave the volume as it is.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub abort: bool,
    /// New size, bytes; 0: not given.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 4_194_304))]
    pub required_capacity_bytes: i64,
    /// The volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeExpandStatus {
    /// Size of the volume now, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub allocated_capacity_bytes: i64,
    /// What hinders it, one sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// State.
    #[serde(skip_serializing_if = "OperationState::is_unset")]
    pub state: OperationState,
    /// The replicas that are being expanded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subs: Vec<String>,
}

resource!(
    LocalVolumeExpand,
    LocalVolumeExpandSpec,
    LocalVolumeExpandStatus
);
