//! `LocalDiskClaim`: asks for disks of one node, for an owner.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DiskType;
use crate::schema::{is_zero, resource};
use crate::string_enum::string_enum;

string_enum! {
    /// How far a claim for disks has come.
    pub enum ClaimPhase {
        /// Waits for a disk that matches; `status.message` says what is missing.
        Pending = "Pending",
        /// More disks are being added.
        Extending = "Extending",
        /// Disks are chosen, their owner has not taken them in yet.
        Bound = "Bound",
        /// The owner has taken the disks in.
        Consumed = "Consumed",
        /// Asked to go.
        ToBeDeleted = "ToBeDeleted",
        /// Done with; the object goes next.
        Deleted = "Deleted",
    }
}

/// Which disks of which node, for whom. All that is given in the description must hold.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalDiskClaim",
    plural = "localdiskclaims",
    shortname = "ldc",
    status = "LocalDiskClaimStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".spec.nodeName",
    printcolumn(name = "NodeMatch", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.status"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner")
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskClaimSpec {
    /// What the disks must be like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<DiskClaimDescription>,
    /// The disks that were chosen; given by the user: exactly these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disk_refs: Vec<ObjectReference>,
    /// The node that has the disks.
    pub node_name: String,
    /// Who gets the disks: `local-storage` makes them part of a pool, `local-disk-manager` serves them whole, another
    /// owner sets the status to `Consumed` itself.
    pub owner: String,
}

/// What claimed disks must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct DiskClaimDescription {
    /// Least size of each disk, bytes; 0: any.
    #[serde(skip_serializing_if = "is_zero")]
    pub capacity: i64,
    /// Device paths, compared as whole strings; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_paths: Vec<String>,
    /// Class; absent: any.
    #[serde(skip_serializing_if = "DiskType::is_unset")]
    pub disk_type: DiskType,
    /// Names of `LocalDisk` objects; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_disk_names: Vec<String>,
}

/// How far the claim has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskClaimStatus {
    /// Why the claim waits or failed, one sentence. An addition of Hawser.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How far the claim has come.
    #[serde(skip_serializing_if = "ClaimPhase::is_unset")]
    #[schemars(extend("enum" = ["Bound", "Pending", "Extending", "Consumed", "ToBeDeleted", "Deleted"]))]
    pub status: ClaimPhase,
}

resource!(LocalDiskClaim, LocalDiskClaimSpec, LocalDiskClaimStatus);
