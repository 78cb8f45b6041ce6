//! `LocalDiskAction`: what to do with every disk that matches a rule.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_zero, resource};
use crate::string_enum::string_enum;

string_enum! {
    /// What is done with the matching disks.
    pub enum DiskActionKind {
        /// Never use them.
        Reserve = "reserve",
    }
}

/// An action and the rule that picks its disks.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalDiskAction",
    plural = "localdiskactions",
    shortname = "lda",
    status = "LocalDiskActionStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(
        name = "MaxCapacity",
        type_ = "integer",
        json_path = ".spec.rule.maxCapacity"
    ),
    printcolumn(
        name = "MinCapacity",
        type_ = "integer",
        json_path = ".spec.rule.minCapacity"
    ),
    printcolumn(
        name = "DevicePath",
        type_ = "string",
        json_path = ".spec.rule.devicePath"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskActionSpec {
    /// What is done.
    #[schemars(extend("enum" = ["reserve"]))]
    pub action: DiskActionKind,
    /// Which disks; all that is given must hold, an empty rule matches none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<DiskRule>,
}

/// Picks disks by what may *not* be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct DiskRule {
    /// Glob over the device path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_path: String,
    /// Matches disks above this size, bytes; 0: not asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_capacity: i64,
    /// Matches disks below this size, bytes; 0: not asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_capacity: i64,
}

/// What the action did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskActionStatus {
    /// Names of the `LocalDisk` objects that matched last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest_matched_lds: Vec<String>,
}

resource!(LocalDiskAction, LocalDiskActionSpec, LocalDiskActionStatus);
