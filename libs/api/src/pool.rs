//! Pools of a node, as both kinds of nodes report them: a volume group, or the whole disks of one class.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::is_zero;
use crate::string_enum::string_enum;
use crate::{Condition, ConditionStatus, DiskType, LocalDiskClaimSpec, PoolClass};

string_enum! {
    /// State of a disk in a pool.
    pub enum PoolDiskState {
        /// Free.
        Available = "Available",
        /// Holds data; always so for the physical volumes of a volume group.
        InUse = "InUse",
        /// Gone or failed.
        Offline = "Offline",
    }
}

/// Pools by name, such as `LocalStorage_PoolSSD`.
pub type Pools = BTreeMap<String, PoolStatus>;

/// What each pool was extended by, by pool name, oldest first. Can't be derived from the disks.
pub type PoolExtendRecords = BTreeMap<String, Vec<LocalDiskClaimSpec>>;

/// One pool. Sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PoolStatus {
    /// Class of its disks.
    #[schemars(extend("enum" = ["HDD", "SSD", "NVMe"]))]
    pub class: PoolClass,
    /// Its disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<PoolDisk>,
    /// What can still be allocated, bytes.
    pub free_capacity_bytes: i64,
    /// How many more volumes it may hold.
    pub free_volume_count: i64,
    /// Its name, the key of the map again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `/dev/<volume group>`, or the folder of whole disks.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The thin pool in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thin_pool: Option<ThinPoolStatus>,
    /// Its size, bytes.
    pub total_capacity_bytes: i64,
    /// How many volumes it may hold at most.
    pub total_volume_count: i64,
    /// `REGULAR`.
    #[serde(rename = "type")]
    #[schemars(extend("default" = "REGULAR", "enum" = ["REGULAR"]))]
    pub type_: String,
    /// What is allocated, bytes, whoever allocated it.
    pub used_capacity_bytes: i64,
    /// How many volumes it holds.
    pub used_volume_count: i64,
    /// The largest volume that it may hold, bytes.
    pub volume_capacity_bytes_limit: i64,
    /// Names of the volumes in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// One disk of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PoolDisk {
    /// Its size, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub capacity_bytes: i64,
    /// Its device path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dev_path: String,
    /// Its state.
    #[serde(skip_serializing_if = "PoolDiskState::is_unset")]
    pub state: PoolDiskState,
    /// Its class.
    #[serde(rename = "type", skip_serializing_if = "DiskType::is_unset")]
    pub type_: DiskType,
}

/// A thin pool in a volume group. Sizes are bytes, ratios and percents decimal numbers as text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct ThinPoolStatus {
    /// What is promised, in parts of the size.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_provision_ratio: String,
    /// Written share of the data.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_percent: String,
    /// Written share of the metadata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata_percent: String,
    /// Size of the metadata, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub metadata_size: i64,
    /// `LocalStorage_ThinPool`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What may be promised at most, in parts of the size.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub over_provision_ratio: String,
    /// Size of the data, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: i64,
    /// Whether the pool is about to be full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Condition>,
    /// Names of the volumes in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thin_volumes: Vec<String>,
    /// What is promised, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_provisioned_size: i64,
}

/// One observation about a node's storage. Older than, and not the same as, the usual condition of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct StorageNodeCondition {
    /// When the status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// When the condition was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A word in CamelCase for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// `Available`, `UnAvailable`, `Progressing`, `ExpandFailure` or `ExpandSuccess`.
    #[serde(rename = "type")]
    pub type_: String,
}
