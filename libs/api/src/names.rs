//! Names that live in clusters and on nodes: drivers, keys of labels and annotations, finalizers, leases, pools, tags.

use crate::PoolClass;

/// API group of every kind of this crate.
pub const GROUP: &str = "hwameistor.io";
/// Version of every kind of this crate.
pub const VERSION: &str = "v1alpha1";

/// CSI driver of logical volumes; also the provisioner named in storage classes.
pub const LVM_DRIVER: &str = "lvm.hwameistor.io";
/// CSI driver of whole disks; also the provisioner named in storage classes.
pub const DISK_DRIVER: &str = "disk.hwameistor.io";

/// Topology key of logical volumes: a node label, whose value is the node's name.
pub const LVM_TOPOLOGY_KEY: &str = "topology.lvm.hwameistor.io/node";
/// Topology key of whole disks: a node label, whose value is the node's name.
pub const DISK_TOPOLOGY_KEY: &str = "topology.disk.hwameistor.io/node";

/// Where everything is installed unless the user says otherwise.
pub const DEFAULT_NAMESPACE: &str = "hwameistor";

/// Key prefix of what Hawser adds to the API, and the group of the kinds that it adds.
pub const OWN_PREFIX: &str = "hawser.io";

/// Field managers of server-side apply, one per program.
pub mod managers {
    /// The controller of the cluster.
    pub const PROVISIONER: &str = "hawser-provisioner";
    /// The daemon of a node.
    pub const NODE_DAEMON: &str = "hawser-node-daemon";
    /// The webhook.
    pub const ADMISSION: &str = "hawser-admission-webhook";
}

/// Annotations.
pub mod annotations {
    /// On a claim, `true`: the second replica ignores the pod's affinity and tolerations.
    pub const SKIP_AFFINITY: &str = "hwameistor.io/skip-affinity-annotations";
    /// On a claim: affinity of the pod as JSON, written by the old scheduler; may be stale.
    pub const POD_AFFINITY: &str = "hwameistor.io/affinity-annotations";
    /// On a claim: tolerations of the pod as JSON, written by the old scheduler; may be stale.
    pub const POD_TOLERATIONS: &str = "hwameistor.io/tolerations-annotations";
    /// On a claim: the resize policy in force.
    pub const RESIZE_POLICY: &str = "hwameistor.io/resizepolicy";
    /// On a migration, volume or group: `need` or `forbid` the pod's affinity.
    pub const REPLICA_AFFINITY: &str = "hwameistor.io/replica-affinity";
    /// On a volume: `migrateStarted` or `migrateCompleted`.
    pub const MIGRATE_STATE: &str = "hwameistor.io/volume-migrate-state";
    /// On a volume, empty: do not restore again.
    pub const RESTORE_COMPLETED: &str = "hwameistor.io/snapshot-restore-completed";
    /// On a volume: it serves a dataset.
    pub const ACCELERATION_DATASET: &str = "hwameistor.io/acceleration-dataset";
    /// On a node: its address for replication.
    pub const STORAGE_IPV4: &str = "localstorage.hwameistor.io/storage-ipv4";
    /// On a replica: `<namespace>/<name>` of the claim.
    pub const CLAIM: &str = "hawser.io/claim";
    /// On a replica: counts the generations of a volume's copies.
    pub const GENERATION: &str = "hawser.io/generation";
    /// On a replica that was made anew, `true`: the copy was there before, so its node must find it and not make an empty one.
    pub const EXISTING: &str = "hawser.io/existing";
    /// On a volume whose name had to be derived: the name that CSI asked for.
    pub const CSI_NAME: &str = "hawser.io/csi-name";
    /// On a class of Kubernetes, `true`: for claims that name no class.
    pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
    /// The same in the way of before.
    pub const BETA_DEFAULT_CLASS: &str = "storageclass.beta.kubernetes.io/is-default-class";
    /// On a claim: the class, in the way of before `spec.storageClassName`; it wins over the field.
    pub const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    /// On a claim: the node that the scheduler chose.
    pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
}

/// Types of conditions that more than one program writes.
pub mod conditions {
    /// On a replica: whether its logical volume could be made. False only where nothing was.
    pub const CREATE: &str = "Create";
    /// On a volume and its replicas; there, and true, while limits are asked of a volume that exists: they are not kept, and it is
    /// usable all the same.
    pub const LIMITS_NOT_KEPT: &str = "LimitsNotKept";
}

/// Reasons of a replica's conditions that do not hold: what a node's daemon writes, and the provisioner acts on.
pub mod reasons {
    /// The pool has too few free extents.
    pub const NO_SPACE: &str = "NoSpace";
    /// The node has no volume group of the pool's name, or more than one.
    pub const NO_POOL: &str = "NoPool";
    /// The object asks for what can't be, or is not served.
    pub const INVALID: &str = "Invalid";
    /// A logical volume of somebody else has the name, or ours is in another pool.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// The logical volume was made once and is not there.
    pub const DATA_LOST: &str = "DataLost";
    /// A disk of the pool is missing, or does not read.
    pub const DISK_FAILED: &str = "DiskFailed";
    /// Other logical volumes depend on this one's blocks: snapshots, or the thin pool that it is in.
    pub const HAS_SNAPSHOTS: &str = "HasSnapshots";
    /// Somebody has it open.
    pub const IN_USE: &str = "InUse";
    /// Blocks are being zeroed; goes on by itself.
    pub const ZEROING: &str = "Zeroing";
    /// A tool or the kernel refused; tried again.
    pub const STEP_FAILED: &str = "StepFailed";

    /// Those that waiting does not cure: a new volume has to go to another node.
    pub const LASTING: [&str; 4] = [NO_SPACE, NO_POOL, INVALID, NAME_TAKEN];
}

/// Labels.
pub mod labels {
    /// On a node, `false`: no storage daemon there.
    pub const NODE_ENABLE: &str = "lvm.hwameistor.io/enable";
    /// On a node or pod, `start`: force its pods off.
    pub const FAILOVER: &str = "hwameistor.io/failover";
    /// On a node `disable`: cordon does not migrate. On a pod `start`: migrate its volumes.
    pub const EVICTION: &str = "hwameistor.io/eviction";
    /// On a namespace, `ignore`: its pods and claims are left as they are. On a pod or an object of ours: this one is.
    pub const WEBHOOK: &str = "hwameistor.io/webhook";
    /// The value of [`WEBHOOK`] that keeps the webhook away.
    pub const WEBHOOK_IGNORE: &str = "ignore";
    /// On a node: its name, set by kubelet.
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    /// On a node: its zone.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// On a node: its region.
    pub const REGION: &str = "topology.kubernetes.io/region";
}

/// Finalizers.
pub mod finalizers {
    /// On a volume, held by the provisioner.
    pub const VOLUME: &str = "hwameistor.io/localvolume-protection";
    /// On a replica, held until its data is gone.
    pub const REPLICA: &str = "hwameistor.io/localvolumereplica-protection";
    /// On a group of volumes, held by the provisioner.
    pub const VOLUME_GROUP: &str = "hwameistor.io/localvolumegroup-protection";
    /// On a restore.
    pub const RESTORE: &str = "provisioner.hwameistor.io/restoring-protection";
    /// On a migration made by eviction.
    pub const EVICTION: &str = "hwameistor.io/eviction-protect";
    /// On a job that copies data.
    pub const SYNC_JOB: &str = "hwameistor.io/sync-job-protect";
    /// On a whole-disk volume.
    pub const DISK_VOLUME: &str = "localdisk.hwameistor.io/finalizer";
}

/// Leases. Taking those of the former generation keeps the two apart.
pub mod leases {
    /// The provisioner that leads.
    pub const STORAGE_MASTER: &str = "hwameistor-local-storage-master";
    /// The disk manager that leads.
    pub const DISK_MASTER: &str = "hwameistor-local-disk-manager-master";
    /// The scheduler that leads.
    pub const SCHEDULER: &str = "hwameistor-scheduler";
    /// The evictor that leads.
    pub const EVICTOR: &str = "hwameistor-volume-evictor";
    /// The failover assistant that leads.
    pub const FAILOVER: &str = "hwameistor-failover-assistant";
    /// The auditor that leads.
    pub const AUDITOR: &str = "hwameistor-auditor";
    /// The webhook that sums up what all replicas of it have counted.
    pub const ADMISSION: &str = "hawser-admission-webhook";

    /// The heartbeat of a node's storage daemon.
    #[must_use]
    pub fn storage_worker(node: &str) -> String {
        format!("hwameistor-local-storage-worker-{}", sanitised(node))
    }

    /// The heartbeat of a node's disk daemon.
    #[must_use]
    pub fn disk_worker(node: &str) -> String {
        format!("hwameistor-local-disk-manager-worker-{}", sanitised(node))
    }

    /// Every character other than `[A-Za-z0-9-]` becomes `-`.
    fn sanitised(node: &str) -> String {
        node.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' {
                    c
                } else {
                    '-'
                }
            })
            .collect()
    }
}

/// Pools: volume groups, and folders of whole disks.
pub mod pools {
    use super::PoolClass;

    /// Every volume group whose name starts so is a pool.
    pub const VG_PREFIX: &str = "LocalStorage_Pool";
    /// Pools of whole disks.
    pub const DISK_PREFIX: &str = "LocalDisk_Pool";
    /// The thin pool in a volume group.
    pub const THIN_POOL: &str = "LocalStorage_ThinPool";
    /// How many volumes a pool may hold.
    pub const MAX_VOLUMES: i64 = 1000;
    /// `PoolStatus::type_`.
    pub const REGULAR: &str = "REGULAR";

    /// The volume group of a class; `None` unless the class is one of HDD, SSD, NVMe.
    #[must_use]
    pub fn volume_group(class: &PoolClass) -> Option<String> {
        PoolClass::KNOWN
            .contains(class)
            .then(|| format!("{VG_PREFIX}{class}"))
    }

    /// The class of a volume group; `None` if the group is no pool, `Other` if it was named by hand.
    #[must_use]
    pub fn class_of(volume_group: &str) -> Option<PoolClass> {
        volume_group.strip_prefix(VG_PREFIX).map(PoolClass::from)
    }
}

/// Owners of disks, in `LocalDisk` and `LocalDiskClaim`.
pub mod owners {
    /// The disk becomes part of a pool.
    pub const LOCAL_STORAGE: &str = "local-storage";
    /// The disk is served whole.
    pub const LOCAL_DISK_MANAGER: &str = "local-disk-manager";
    /// The host uses the disk.
    pub const SYSTEM: &str = "system";
}

/// LVM tags. `@` is LVM's own sigil and is not part of them.
pub mod tags {
    /// `hawser.io/volume=<volume>`.
    pub const VOLUME: &str = "hawser.io/volume=";
    /// `hawser.io/claim=<namespace>/<name>`.
    pub const CLAIM: &str = "hawser.io/claim=";
    /// `hawser.io/replica=<replica>`.
    pub const REPLICA: &str = "hawser.io/replica=";
    /// `hawser.io/generation=<number>`.
    pub const GENERATION: &str = "hawser.io/generation=";
    /// The volume's data is being destroyed.
    pub const WIPING: &str = "hawser.io/wiping";
}

/// Device-mapper names.
pub mod devices {
    /// Follows the volume's name: `<volume>-front`.
    pub const FRONT_SUFFIX: &str = "-front";
    /// Begins the UUID of a front device, so that LVM takes it for a logical volume and does not look inside.
    ///
    /// What follows `LVM-` holds no further hyphen ([`front_uuid`]): libblkid takes `LVM-<id>-<suffix>` for a device private to LVM and reports it as
    /// empty whatever it holds (`sysfs_devno_is_dm_private` of util-linux). A volume with data would then look blank, and would be formatted again.
    pub const FRONT_UUID_PREFIX: &str = "LVM-hawser_front_";

    /// The UUID of a volume's front device. Volumes are named as Kubernetes objects are, without underscores: two volumes never share a UUID.
    #[must_use]
    pub fn front_uuid(volume: &str) -> String {
        format!("{FRONT_UUID_PREFIX}{}", volume.replace('-', "_"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_front_is_lvms_but_not_private_to_it() {
            let uuid = front_uuid("pvc-208c2c5c-c177-43a1-b8e5-ace270a04544");
            let id = uuid.strip_prefix("LVM-").unwrap();
            assert!(
                !id.contains('-'),
                "libblkid would report the device as empty: {uuid}"
            );
            assert!(uuid.starts_with(FRONT_UUID_PREFIX));
            // The kernel's limit is 128 characters with the final zero.
            assert!(front_uuid(&"v".repeat(100)).len() < 128);
        }
    }
}

/// The scheduler and the webhook.
pub mod scheduling {
    /// Our scheduler, in users' manifests and in running pods.
    pub const SCHEDULER: &str = "hwameistor-scheduler";
    /// The scheduler that a pod gets when it names none.
    pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
    /// ConfigMap with the scheduler's configuration.
    pub const CONFIG_MAP: &str = "hwameistor-scheduler-config";
    /// Key in that ConfigMap.
    pub const CONFIG_KEY: &str = "hwameistor-scheduler-config.yaml";
    /// The `MutatingWebhookConfiguration`.
    pub const WEBHOOK_CONFIGURATION: &str = "hwameistor-admission-mutate";
    /// The webhook in it.
    pub const WEBHOOK: &str = "hwameistor.io.mutate-hook";
    /// The webhook's Service.
    pub const WEBHOOK_SERVICE: &str = "hwameistor-admission-controller";
    /// The webhook's Secret.
    pub const WEBHOOK_SECRET: &str = "hwameistor-admission-ca";
    /// The `ValidatingWebhookConfiguration`.
    pub const VALIDATING_CONFIGURATION: &str = "hwameistor-admission-validate";
    /// The webhook's path for what it changes.
    pub const WEBHOOK_PATH: &str = "/mutate";
    /// The webhook's path for what it only allows or refuses.
    pub const VALIDATE_PATH: &str = "/validate";
    /// The webhook's port.
    pub const WEBHOOK_PORT: u16 = 18443;
}

/// Whether these labels, of a namespace, a pod or an object of ours, say that the webhook is to leave it as it is.
#[must_use]
pub fn opts_out(labels: Option<&std::collections::BTreeMap<String, String>>) -> bool {
    labels
        .and_then(|labels| labels.get(labels::WEBHOOK))
        .is_some_and(|value| value == labels::WEBHOOK_IGNORE)
}
