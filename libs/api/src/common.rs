//! Parts that several kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_false, is_zero};
use crate::string_enum::string_enum;

string_enum! {
    /// The class of a disk, which is also the class of the pool that it belongs to. Case counts.
    pub enum PoolClass {
        /// Rotational.
        HDD = "HDD",
        /// Solid state, not NVMe.
        SSD = "SSD",
        /// Solid state, attached by NVMe.
        NVMe = "NVMe",
    }
}

/// The class of a disk; the same set as that of pools.
pub type DiskType = PoolClass;

string_enum! {
    /// State of a volume, and of a snapshot of a volume.
    pub enum VolumeState {
        /// Replicas or capacity are being made.
        Creating = "Creating",
        /// Exists, but can't be used now.
        NotReady = "NotReady",
        /// Every replica is ready.
        Ready = "Ready",
        /// Asked to go; its space is still counted.
        ToBeDeleted = "ToBeDeleted",
        /// Its data is gone; the object goes next.
        Deleted = "Deleted",
    }
}

string_enum! {
    /// State of an operation that is an object: expand, convert, migrate, restore.
    pub enum OperationState {
        /// Accepted.
        Submitted = "Submitted",
        /// Being carried out.
        InProgress = "InProgress",
        /// Migration: the new replica is being made.
        AddReplica = "AddReplica",
        /// Migration: the new replica receives the data.
        SyncReplica = "SyncReplica",
        /// Migration: the old replica is being removed.
        PruneReplica = "PruneReplica",
        /// Done.
        Completed = "Completed",
        /// An abort was asked for and is under way.
        ToBeAborted = "ToBeAborted",
        /// Cancelled before it began.
        Cancelled = "Cancelled",
        /// Aborted; what was there before is there again.
        Aborted = "Aborted",
        /// Can't be done; the message says why.
        Failed = "Failed",
    }
}

string_enum! {
    /// Truth of a condition.
    pub enum ConditionStatus {
        /// Holds.
        True = "True",
        /// Does not hold.
        False = "False",
        /// Can't be told.
        Unknown = "Unknown",
    }
}

string_enum! {
    /// What a storage or disk node is doing.
    pub enum NodeState {
        /// Serves volumes.
        Ready = "Ready",
        /// Set by an operator: keeps what it has, gets nothing new.
        Maintain = "Maintain",
        /// Its daemon holds no current lease.
        Offline = "Offline",
    }
}

/// One observation about an object, in the usual Kubernetes form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct Condition {
    /// When the status last changed.
    #[schemars(with = "Time")]
    pub last_transition_time: Option<Time>,
    /// A sentence for people; may be empty.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// The generation of the spec that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// A word in CamelCase for programs.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// Whether the condition holds.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: ConditionStatus,
    /// What the condition is about.
    #[serde(rename = "type")]
    #[schemars(
        length(max = 316),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        )
    )]
    pub type_: String,
}

/// Where a volume or group may be: the nodes count, regions and zones are recorded only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct Accessibility {
    /// Node names; the first one is the primary of a replicated volume.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Region names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("default" = ["default"]))]
    pub regions: Vec<String>,
    /// Zone names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("default" = ["default"]))]
    pub zones: Vec<String>,
}

impl Default for Accessibility {
    /// No node; region and zone as the API server would default them.
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            regions: vec!["default".to_owned()],
            zones: vec!["default".to_owned()],
        }
    }
}

impl Accessibility {
    /// Accessible from these nodes.
    pub fn nodes<N: Into<String>>(nodes: impl IntoIterator<Item = N>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// Encryption of a volume at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct VolumeEncrypt {
    /// Whether the volume is encrypted.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub enable: bool,
    /// `<namespace>/<name>` of the Secret whose data key `key` is the passphrase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret: String,
    /// `LUKS`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    #[schemars(extend("default" = "LUKS", "enum" = ["LUKS"]))]
    pub type_: String,
}

/// Limits of a volume, each for reads and for writes alike; absent, empty or `0`: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct VolumeQoS {
    /// Operations per second, a Kubernetes quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iops: String,
    /// Bytes per second, a Kubernetes quantity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub throughput: String,
}

impl VolumeQoS {
    /// The first limit that is asked, by field and value. What can't be read as a number asks for something, too.
    #[must_use]
    pub fn asked(&self) -> Option<(&'static str, &str)> {
        [
            ("iops", self.iops.as_str()),
            ("throughput", self.throughput.as_str()),
        ]
        .into_iter()
        .find(|(_, value)| !value.is_empty() && !matches!(crate::quantity::parse(value), Ok(0)))
    }
}

/// What LVM says about a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct SnapshotAttributes {
    /// Its copy-on-write room overflowed; the data is lost.
    #[serde(skip_serializing_if = "is_false")]
    pub invalid: bool,
    /// It is being merged back into its origin.
    #[serde(skip_serializing_if = "is_false")]
    pub merging: bool,
}

/// A thin pool that is wanted in a volume group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct ThinPoolDescription {
    /// Size of the pool's data, GiB.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub capacity: i64,
    /// How many times its size the pool may promise, a decimal number of at least 1.0.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub over_provision_ratio: String,
    /// Size of the pool's metadata, GiB; 0: the tool's choice.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(
        schema_with = "crate::schema::plain_integer",
        range(min = 1, max = 1_048_576)
    )]
    pub pool_metadata_size: i64,
    /// The volume group, for example `LocalStorage_PoolSSD`.
    pub pool_name: String,
}
