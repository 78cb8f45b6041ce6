//! `LocalDiskClaim`: asks for disks of one node, for an owner.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use thiserror::Error;

use crate::DiskType;
use crate::names::owners;
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

/// What makes no sense in a claim for disks, whatever disks there are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiskClaimError {
    /// Nobody would get them.
    #[error("spec.owner is empty; local-storage makes the disks part of a pool")]
    NoOwner,
    /// The host would get them.
    #[error("spec.owner is system, which stands for the host itself; use local-storage")]
    SystemOwner,
    /// A size below zero.
    #[error("spec.description.capacity is {0}; it is the least size of a disk in bytes, 0 or more")]
    Capacity(i64),
    /// No class of disks.
    #[error("spec.description.diskType is {0:?}; it can be HDD, SSD or NVMe, in this spelling")]
    DiskType(String),
    /// No path of a device.
    #[error("spec.description.devicePaths has {0:?}; a device's path is like /dev/sdb")]
    DevicePath(String),
    /// No description, which would be every disk.
    #[error(
        "spec.description is empty, which would be every disk; give diskType, capacity, devicePaths or localDiskNames"
    )]
    EveryDisk,
}

impl DiskClaimError {
    /// The field that is wrong.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoOwner | Self::SystemOwner => "spec.owner",
            Self::Capacity(_) => "spec.description.capacity",
            Self::DiskType(_) => "spec.description.diskType",
            Self::DevicePath(_) => "spec.description.devicePaths",
            Self::EveryDisk => "spec.description",
        }
    }
}

impl LocalDiskClaimSpec {
    /// Checks what can be checked without the disks; the first thing that is wrong. Webhook and node daemon ask this alike.
    pub fn check(&self) -> Result<(), DiskClaimError> {
        match self.owner.as_str() {
            "" => return Err(DiskClaimError::NoOwner),
            owners::SYSTEM => return Err(DiskClaimError::SystemOwner),
            _ => {}
        }
        let description = self.description.clone().unwrap_or_default();
        if description.capacity < 0 {
            return Err(DiskClaimError::Capacity(description.capacity));
        }
        if let DiskType::Other(other) = &description.disk_type {
            return Err(DiskClaimError::DiskType(other.clone()));
        }
        for path in &description.device_paths {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return Err(DiskClaimError::DevicePath(path.clone()));
            }
        }
        if description == DiskClaimDescription::default() && self.disk_refs.is_empty() {
            return Err(DiskClaimError::EveryDisk);
        }
        Ok(())
    }
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
