//! `LocalDiskVolume`: a whole disk as one volume. Without a status subresource: the status is written with the object.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_false, is_zero, resource};
use crate::string_enum::string_enum;
use crate::{Accessibility, DiskType};

string_enum! {
    /// State of a whole-disk volume.
    pub enum DiskVolumeState {
        /// A disk is being chosen.
        Creating = "Creating",
        /// The volume has its disk.
        Created = "Created",
        /// To be mounted.
        NotReady = "NotReady",
        /// Mounted, or unmounted again.
        Ready = "Ready",
        /// To be *unmounted*: the name misleads.
        ToBeMounted = "ToBeMounted",
        /// Asked to go.
        ToBeDeleted = "ToBeDeleted",
        /// Gone; the object goes next.
        Deleted = "Deleted",
    }
}

/// What kind of disk a volume needs, and where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalDiskVolume",
    plural = "localdiskvolumes",
    shortname = "ldv",
    status = "LocalDiskVolumeStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".spec.accessibility.nodes[0]"
    ),
    printcolumn(name = "Disk", type_ = "string", json_path = ".status.devPath"),
    printcolumn(
        name = "AllocatedCap",
        type_ = "integer",
        json_path = ".status.allocatedCapacityBytes"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.diskType"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.state")
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskVolumeSpec {
    /// Where the disk may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accessibility: Option<Accessibility>,
    /// Whether the disk may be wiped when the volume goes.
    #[serde(skip_serializing_if = "is_false")]
    pub can_wipe: bool,
    /// Class of the disk.
    pub disk_type: DiskType,
    /// `<namespace>/<name>` of the claim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub persistent_volume_claim_name: String,
    /// Least size of the disk, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub required_capacity_bytes: i64,
}

/// The disk that the volume got, and its mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskVolumeStatus {
    /// Size of the disk, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub allocated_capacity_bytes: i64,
    /// Links to the disk by their kind: `by-path`, `by-id`, `by-uuid`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dev_links: BTreeMap<String, Vec<String>>,
    /// Device path of the disk.
    pub dev_path: String,
    /// The `LocalDisk`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_disk_name: String,
    /// Where it is mounted or shall be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<DiskVolumeMount>,
    /// State.
    #[serde(skip_serializing_if = "DiskVolumeState::is_unset")]
    pub state: DiskVolumeState,
    /// Used, bytes; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_capacity_bytes: Option<i64>,
    /// The link by which the disk is used.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_path: String,
}

/// One mount of a whole-disk volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct DiskVolumeMount {
    /// Type of the file system.
    #[serde(rename = "fsTye", skip_serializing_if = "String::is_empty")]
    pub fs_type: String,
    /// Mount options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// `ToBeMounted`, `ToBeUnMount`, `Mounted` or `NotReady`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Where.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_path: String,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_cap: Option<DiskVolumeCapability>,
}

/// How a whole-disk volume is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct DiskVolumeCapability {
    /// The number of CSI's access mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<i32>,
    /// `Mount` or `Block`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_type: String,
}

resource!(LocalDiskVolume, LocalDiskVolumeSpec, LocalDiskVolumeStatus);
