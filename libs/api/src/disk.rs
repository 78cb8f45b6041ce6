//! `LocalDisk`: one block device of a node, as the node's daemon found it.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DiskType;
use crate::schema::{is_false, is_zero, resource};
use crate::string_enum::string_enum;

string_enum! {
    /// Whether the device is there.
    pub enum DiskState {
        /// Present on the node.
        Active = "Active",
        /// Was present once.
        Inactive = "Inactive",
        /// Can't be told.
        Unknown = "Unknown",
    }
}

string_enum! {
    /// How far a disk is given away.
    pub enum DiskClaimState {
        /// Just found.
        Pending = "Pending",
        /// May be claimed, unless reserved.
        Available = "Available",
        /// Belongs to the claim in `spec.claimRef`.
        Bound = "Bound",
        /// In the API but not written; `spec.reserved` holds the fact.
        Reserved = "Reserved",
    }
}

/// A block device: identity, capabilities, content, owner.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "hwameistor.io",
    version = "v1alpha1",
    kind = "LocalDisk",
    plural = "localdisks",
    shortname = "ld",
    status = "LocalDiskStatus",
    schema = "manual",
    derive = "PartialEq",
    derive = "Default",
    selectable = ".spec.nodeName",
    selectable = ".spec.preNodeName",
    printcolumn(name = "NodeMatch", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(
        name = "Capacity",
        type_ = "integer",
        json_path = ".spec.capacity",
        priority = 1
    ),
    printcolumn(
        name = "PreNodeMatch",
        type_ = "string",
        json_path = ".spec.preNodeName",
        priority = 1
    ),
    printcolumn(name = "DevicePath", type_ = "string", json_path = ".spec.devicePath"),
    printcolumn(
        name = "PreDevicePath",
        type_ = "string",
        json_path = ".spec.preDevicePath",
        priority = 1
    ),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.claimState"),
    printcolumn(
        name = "Health",
        type_ = "string",
        json_path = ".spec.smartInfo.overallHealth",
        priority = 1
    ),
    printcolumn(
        name = "Reserved",
        type_ = "boolean",
        json_path = ".spec.reserved",
        priority = 1
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(
        name = "age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
#[expect(clippy::struct_excessive_bools, reason = "the API has them")]
pub struct LocalDiskSpec {
    /// Size, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub capacity: i64,
    /// The claim that the disk is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_ref: Option<ObjectReference>,
    /// Symbolic links to the device, such as `/dev/disk/by-id/...`.
    pub dev_links: Vec<String>,
    /// Path of the device now, such as `/dev/sdb`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_path: String,
    /// What the device says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_attributes: Option<DiskAttributes>,
    /// Whether it is a volume of a RAID controller.
    #[serde(skip_serializing_if = "is_false")]
    pub is_raid: bool,
    /// Major device number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub major: String,
    /// Minor device number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub minor: String,
    /// The node that has the disk.
    pub node_name: String,
    /// Who may use the disk: `local-storage`, `local-disk-manager`, `system` (in use by the host); absent: whoever claims it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The partitions, or the file system on the whole disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partition_info: Vec<PartitionInfo>,
    /// Whether the disk holds a partition or a file system.
    #[serde(skip_serializing_if = "is_false")]
    pub partitioned: bool,
    /// Path when it was last seen, of an inactive disk.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pre_device_path: String,
    /// Node where it was last seen, of an inactive disk.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pre_node_name: String,
    /// The RAID controller's view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raid_info: Option<RaidInfo>,
    /// Never to be used.
    #[serde(skip_serializing_if = "is_false")]
    pub reserved: bool,
    /// Health as the disk reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smart_info: Option<SmartInfo>,
    /// Whether the device is there.
    #[serde(skip_serializing_if = "DiskState::is_unset")]
    #[schemars(extend("enum" = ["Active", "Inactive", "Unknown"]))]
    pub state: DiskState,
    /// Whether the disk can report its health.
    #[serde(skip_serializing_if = "is_false")]
    pub support_smart: bool,
    /// The identity from which the object's name is derived.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
}

/// What a device says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct DiskAttributes {
    /// `disk`, `partition`, `loop`, `dm`, `lvm`, `crypt` or `mpath`; only `disk` can be claimed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dev_type: String,
    /// Form factor, such as `2.5 inches`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub form_factor: String,
    /// Model.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model_name: String,
    /// PCI vendor of an NVMe disk.
    #[serde(rename = "pciVendorID", skip_serializing_if = "String::is_empty")]
    pub pci_vendor_id: String,
    /// Product family.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product: String,
    /// `ata`, `scsi`, `nvme`, `virtio`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Revolutions per minute; 0: none or unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub rotation_rate: i64,
    /// Serial number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
    /// Class of the disk; an edit by the user is kept if the serial number is known.
    #[serde(rename = "type", skip_serializing_if = "DiskType::is_unset")]
    pub type_: DiskType,
    /// Vendor.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vendor: String,
}

/// A partition, or the whole disk if it holds a file system itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct PartitionInfo {
    /// The file system on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FileSystemInfo>,
    /// Whether there is a file system.
    pub has_file_system: bool,
    /// Device path of the partition.
    pub path: String,
}

/// A file system found on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct FileSystemInfo {
    /// Type, or the kind of another signature that was found.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fs_type: String,
    /// Where it is mounted on the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mount_point: String,
}

/// The RAID controller's view of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct RaidInfo {
    /// The device of the array that the disk belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub raid_master: String,
}

/// Health as the disk reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(!default)]
pub struct SmartInfo {
    /// `Passed` or `Failed`; empty: unknown.
    pub overall_health: String,
}

/// How far the disk is given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, rename_all = "camelCase")]
#[schemars(!default, !remote)]
pub struct LocalDiskStatus {
    /// How far the disk is given away.
    #[serde(skip_serializing_if = "DiskClaimState::is_unset")]
    #[schemars(extend("enum" = ["Bound", "Reserved", "Available", "Pending"]))]
    pub claim_state: DiskClaimState,
}

resource!(LocalDisk, LocalDiskSpec, LocalDiskStatus);
