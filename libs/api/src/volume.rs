//! `LocalVolume`: a volume of the cluster, named like its PersistentVolume.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{is_false, is_zero, resource};
use crate::{Accessibility, Condition, VolumeEncrypt, VolumeQoS, VolumeState};

/// What a volume shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalVolume",
    plural = "localvolumes",
    shortname = "lv",
    status = "LocalVolumeStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "pool", type_ = "string", json_path = ".spec.poolName"),
    printcolumn(
        name = "replicas",
        type_ = "integer",
        json_path = ".spec.replicaNumber"
    ),
    printcolumn(
        name = "capacity",
        type_ = "integer",
        json_path = ".spec.requiredCapacityBytes"
    ),
    printcolumn(
        name = "used",
        type_ = "integer",
        json_path = ".status.usedCapacityBytes"
    ),
    printcolumn(name = "state", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "resource",
        type_ = "integer",
        json_path = ".spec.config.resourceID",
        priority = 1
    ),
    printcolumn(
        name = "published",
        type_ = "string",
        json_path = ".status.publishedNode"
    ),
    printcolumn(
        name = "fstype",
        type_ = "string",
        json_path = ".status.fsType",
        priority = 1
    ),
    printcolumn(
        name = "group",
        type_ = "string",
        json_path = ".spec.volumegroup",
        priority = 1
    ),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeSpec {
    /// The nodes that shall have a replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accessibility: Option<Accessibility>,
    /// The replicas in detail, once chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<VolumeConfig>,
    /// Whether one replica can become two while the volume is in use.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub convertible: bool,
    /// The request to delete the volume with its data. Deleting the object alone destroys nothing.
    #[serde(skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub delete: bool,
    /// The pool, such as `LocalStorage_PoolSSD`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool_name: String,
    /// Name of the claim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pvc_name: String,
    /// Namespace of the claim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pvc_namespace: String,
    /// How many replicas; 0: not given.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1, max = 4))]
    pub replica_number: i64,
    /// Size, bytes; 0: not given.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 4_194_304))]
    pub required_capacity_bytes: i64,
    /// Whether space is taken when written.
    #[serde(skip_serializing_if = "is_false")]
    pub thin: bool,
    /// What a thin volume begins as a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thin_origin: Option<ThinOrigin>,
    /// Encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_encrypt: Option<VolumeEncrypt>,
    /// Limits.
    #[serde(rename = "volumeQoS", skip_serializing_if = "Option::is_none")]
    pub volume_qos: Option<VolumeQoS>,
    /// The `LocalVolumeGroup` that the volume belongs to.
    #[serde(rename = "volumegroup", skip_serializing_if = "String::is_empty")]
    pub volume_group: String,
}

/// The replicas of a volume in detail. Can't be derived from the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct VolumeConfig {
    /// Whether the replicas lie on DRBD.
    pub convertible: bool,
    /// Whether the first data is in place.
    pub initialized: bool,
    /// Whether every replica's device exists.
    pub ready_to_initialize: bool,
    /// One entry per replica.
    pub replicas: Vec<VolumeConfigReplica>,
    /// Size, bytes.
    pub required_capacity_bytes: i64,
    /// Number of the DRBD resource, added to the start port; -1: none.
    #[serde(rename = "resourceID")]
    #[schemars(schema_with = "crate::schema::plain_integer")]
    pub resource_id: i64,
    /// Counts changes of this structure.
    #[schemars(schema_with = "crate::schema::plain_integer")]
    pub version: i64,
    /// The volume's name again.
    pub volume_name: String,
}

/// One replica of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct VolumeConfigReplica {
    /// The node's name.
    pub hostname: String,
    /// DRBD node id, from 1.
    #[schemars(schema_with = "crate::schema::plain_integer")]
    pub id: i64,
    /// The node's address for replication.
    pub ip: String,
    /// Whether it was written first.
    pub primary: bool,
}

/// What a thin volume begins as a copy of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct ThinOrigin {
    /// Name of the volume or snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin_id: String,
    /// `volume` or `snapshot`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin_type: String,
}

/// What a volume is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalVolumeStatus {
    /// Size of the device that pods get, bytes; 0: none yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub allocated_capacity_bytes: i64,
    /// Observations. An addition of Hawser.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Type of the file system that it was published with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fs_type: String,
    /// The node that has it published.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub published_node: String,
    /// Whether it was published as a block device.
    #[serde(rename = "rawblock")]
    #[schemars(extend("default" = false))]
    pub raw_block: bool,
    /// Names of its `LocalVolumeReplica` objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// State.
    #[serde(skip_serializing_if = "VolumeState::is_unset")]
    pub state: VolumeState,
    /// Inodes of the file system; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_inode: Option<i64>,
    /// Used room of the file system, bytes; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_capacity_bytes: Option<i64>,
    /// Used inodes; `None`: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_inode: Option<i64>,
}

resource!(LocalVolume, LocalVolumeSpec, LocalVolumeStatus);

impl LocalVolume {
    /// The nodes that shall have a copy: as recorded in detail, else the first of the nodes that were chosen.
    #[must_use]
    pub fn wanted_nodes(&self) -> Vec<String> {
        let detailed: Vec<String> = self
            .spec
            .config
            .iter()
            .flat_map(|config| &config.replicas)
            .map(|replica| replica.hostname.clone())
            .filter(|node| !node.is_empty())
            .collect();
        if !detailed.is_empty() {
            return detailed;
        }
        let count = usize::try_from(self.spec.replica_number.max(1)).unwrap_or(1);
        let chosen = self.spec.accessibility.iter().flat_map(|a| &a.nodes);
        chosen.take(count).cloned().collect()
    }
}
