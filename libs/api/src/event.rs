//! `Event`: the audit trail of one resource, a list that grows. Not the Event of Kubernetes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::resource;
use crate::string_enum::string_enum;

string_enum! {
    /// What kind of thing an audit trail is about.
    pub enum AuditedType {
        /// The installation.
        Cluster = "Cluster",
        /// A node with pools.
        StorageNode = "StorageNode",
        /// A node with whole disks.
        DiskNode = "DiskNode",
        /// A pool.
        Pool = "Pool",
        /// A volume.
        Volume = "Volume",
        /// A whole-disk volume.
        DiskVolume = "DiskVolume",
        /// A disk.
        Disk = "Disk",
    }
}

/// What happened to one resource.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "Event",
    plural = "events",
    shortname = "evt",
    status = "EventStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    printcolumn(name = "type", type_ = "string", json_path = ".spec.resourceType"),
    printcolumn(name = "resource", type_ = "string", json_path = ".spec.resourceName")
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct EventSpec {
    /// Oldest first.
    pub records: Vec<EventRecord>,
    /// Name of the resource.
    pub resource_name: String,
    /// Kind of the resource.
    #[schemars(extend("enum" = ["Cluster", "StorageNode", "DiskNode", "Pool", "Volume", "DiskVolume", "Disk"]))]
    pub resource_type: AuditedType,
}

/// One step of one action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct EventRecord {
    /// What was done, such as `Create` or `Expand`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// Details of the action, JSON.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action_content: String,
    /// Joins the records of one action.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// `Submit`, `Start`, `Complete` or `Abort`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Details of the state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state_content: String,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Empty: the API declares it without content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default)]
#[schemars(!default, !remote)]
pub struct EventStatus {}

resource!(Event, EventSpec, EventStatus);
