//! `LocalVolumeReplica`: the copy of a volume on one node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_false, is_zero, resource};
use crate::string_enum::string_enum;
use crate::{Condition, VolumeEncrypt, VolumeQoS};

string_enum! {
    /// State of a replica.
    pub enum ReplicaState {
        /// Its devices are being made.
        Creating = "Creating",
        /// Can't be used now; the conditions say why.
        NotReady = "NotReady",
        /// Can be published.
        Ready = "Ready",
        /// Its data can't be trusted.
        Invalid = "Invalid",
        /// Asked to go; its space is still counted.
        ToBeDeleted = "ToBeDeleted",
        /// Its data is gone; the object goes next.
        Deleted = "Deleted",
    }
}

string_enum! {
    /// State of a replica's data under DRBD.
    pub enum HaDataState {
        /// Up to date.
        Consistent = "Consistent",
        /// Behind its peer.
        Inconsistent = "Inconsistent",
        /// Talking to its peer.
        Up = "Up",
        /// Without a disk.
        Down = "Down",
    }
}

/// What a replica shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolumeReplica",
    plural = "localvolumereplicas",
    shortname = "lvr",
    status = "LocalVolumeReplicaStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".spec.nodeName",
    selectable = ".spec.volumeName",
    printcolumn(
        name = "capacity",
        type_ = "integer",
        json_path = ".spec.requiredCapacityBytes"
    ),
    printcolumn(name = "node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "synced", type_ = "boolean", json_path = ".status.synced"),
    printcolumn(name = "device", type_ = "string", json_path = ".status.devPath"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeReplicaSpec {
    /// The request to destroy this copy. Deleting the object alone destroys nothing.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub delete: bool,
    /// The node that has the copy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// The pool, such as `LocalStorage_PoolSSD`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool_name: String,
    /// Size, bytes; 0: not given.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 4_194_304))]
    pub required_capacity_bytes: i64,
    /// Whether space is taken when written.
    #[serde(skip_serializing_if = "is_false")]
    pub thin: bool,
    /// The LVM name that a thin volume begins as a copy of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thin_origin_volume: String,
    /// Encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_encrypt: Option<VolumeEncrypt>,
    /// The `LocalVolume`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// Limits.
    #[serde(rename = "volumeQoS", skip_serializing_if = "Option::is_none")]
    pub volume_qos: Option<VolumeQoS>,
}

/// What a replica is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeReplicaStatus {
    /// Size of the logical volume, bytes; 0: none yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub allocated_capacity_bytes: i64,
    /// Observations; a failure is a condition `False` with the error in its message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Path of the logical volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dev_path: String,
    /// Physical volumes that it lies on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
    /// State of the data under DRBD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ha_state: Option<HaState>,
    /// Whether the device is open.
    #[serde(rename = "inuse", skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub in_use: bool,
    /// State.
    #[serde(skip_serializing_if = "ReplicaState::is_unset")]
    pub state: ReplicaState,
    /// Path of the logical volume below every other layer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storage_path: String,
    /// Whether the data is up to date.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub synced: bool,
}

/// State of a replica's data under DRBD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct HaState {
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// State.
    pub state: HaDataState,
}

resource!(
    LocalVolumeReplica,
    LocalVolumeReplicaSpec,
    LocalVolumeReplicaStatus
);
