//! `LocalVolumeGroup`: the volumes of one pod, which belong together on one node. Not an LVM volume group.
//!
//! An entry whose `LocalVolume` does not exist yet is a reservation: its room counts as used for everybody else.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Accessibility;
use crate::schema::{is_zero, resource};

/// The volumes of a pod, and where they are.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeGroup",
    plural = "localvolumegroups",
    shortname = "lvg",
    status = "LocalVolumeGroupStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "pod", type_ = "string", json_path = ".spec.pods"),
    printcolumn(name = "namespace", type_ = "string", json_path = ".spec.namespace"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeGroupSpec {
    /// The nodes that have, or shall have, the volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accessibility: Option<Accessibility>,
    /// Namespace of the pods and claims.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Names of the pods that use the volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// The volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeGroupMember>,
}

/// One volume of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct VolumeGroupMember {
    /// Name of the `LocalVolume`.
    #[serde(rename = "localvolume", skip_serializing_if = "String::is_empty")]
    pub local_volume: String,
    /// The nodes of its copies, if not all of the group's. An addition of Hawser.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The pool in which room is reserved. An addition of Hawser.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool_name: String,
    /// Name of the claim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pvc: String,
    /// How much room is reserved, bytes; 0: none. An addition of Hawser.
    #[serde(skip_serializing_if = "is_zero")]
    pub required_capacity_bytes: i64,
}

/// Empty: the API declares it without content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default)]
#[schemars(!default, !remote)]
pub struct LocalVolumeGroupStatus {}

resource!(
    LocalVolumeGroup,
    LocalVolumeGroupSpec,
    LocalVolumeGroupStatus
);
