//! Objects of a volume of one thick copy as HwameiStor wrote them: without Hawser's finalizers, conditions, annotations and node affinity.

use hawser_api::names;
use serde_json::{Value, json};

use crate::image::base::BUSYBOX;

/// Bytes of a MiB.
pub(super) const MIB: i64 = 1 << 20;
/// What HwameiStor's names of copies end in: six characters by chance.
const SUFFIX: &str = "x7k2mq";

/// The volume.
pub(super) struct Old {
    /// `pvc-UID`: also the handle, the persistent volume, the logical volume.
    pub(super) volume: String,
    pub(super) claim_uid: String,
    pub(super) claim: String,
    pub(super) namespace: String,
    /// The pod that uses it.
    pub(super) pod: String,
    pub(super) node: String,
    /// The node's address for replication.
    pub(super) ip: String,
    pub(super) pool: String,
    /// The pool's class.
    pub(super) class: String,
    /// Paths of the pool's disks.
    pub(super) disks: Vec<String>,
    pub(super) mib: i64,
}

impl Old {
    pub(super) fn replica_name(&self) -> String {
        format!("{}-{SUFFIX}", self.volume)
    }

    /// HwameiStor named groups by chance; this name is as good.
    pub(super) fn group(&self) -> String {
        self.claim_uid.clone()
    }

    fn bytes(&self) -> i64 {
        self.mib * MIB
    }

    fn device(&self) -> String {
        format!("/dev/{}/{}", self.pool, self.volume)
    }

    fn accessibility(&self) -> Value {
        json!({ "nodes": [self.node], "regions": ["default"], "zones": ["default"] })
    }

    fn object(kind: &str, name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": kind,
            "metadata": { "name": name }, "spec": spec,
        })
    }

    pub(super) fn replica(&self) -> Value {
        let spec = json!({
            "delete": false, "nodeName": self.node, "poolName": self.pool, "volumeName": self.volume,
            "requiredCapacityBytes": self.bytes(), "volumeQoS": {},
        });
        Self::object("LocalVolumeReplica", &self.replica_name(), &spec)
    }

    pub(super) fn replica_status(&self) -> Value {
        json!({
            "allocatedCapacityBytes": self.bytes(), "devPath": self.device(), "storagePath": self.device(),
            "disks": self.disks, "inuse": true, "state": "Ready", "synced": true,
        })
    }

    pub(super) fn local_volume(&self) -> Value {
        let spec = json!({
            "accessibility": self.accessibility(),
            "config": {
                "convertible": false, "initialized": true, "readyToInitialize": true, "version": 1, "resourceID": -1,
                "requiredCapacityBytes": self.bytes(), "volumeName": self.volume,
                "replicas": [{ "hostname": self.node, "id": 1, "ip": self.ip, "primary": true }],
            },
            "convertible": false, "delete": false, "poolName": self.pool,
            "pvcName": self.claim, "pvcNamespace": self.namespace, "replicaNumber": 1,
            "requiredCapacityBytes": self.bytes(), "volumeQoS": {}, "volumegroup": self.group(),
        });
        Self::object("LocalVolume", &self.volume, &spec)
    }

    pub(super) fn volume_status(&self) -> Value {
        json!({
            "allocatedCapacityBytes": self.bytes(), "publishedNode": self.node, "fsType": "ext4", "rawblock": false,
            "replicas": [self.replica_name()], "state": "Ready",
        })
    }

    pub(super) fn local_volume_group(&self) -> Value {
        let spec = json!({
            "accessibility": self.accessibility(), "namespace": self.namespace, "pods": [self.pod],
            "volumes": [{ "localvolume": self.volume, "pvc": self.claim }],
        });
        let mut object = Self::object("LocalVolumeGroup", &self.group(), &spec);
        object["metadata"]["finalizers"] = json!([names::finalizers::VOLUME_GROUP]);
        object
    }

    pub(super) fn persistent_volume(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {
                "name": self.volume,
                "annotations": { "pv.kubernetes.io/provisioned-by": names::LVM_DRIVER },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": { "storage": format!("{}Mi", self.mib) },
                "persistentVolumeReclaimPolicy": "Delete", "storageClassName": self.claim, "volumeMode": "Filesystem",
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": self.namespace, "name": self.claim, "uid": self.claim_uid,
                },
                "csi": {
                    "driver": names::LVM_DRIVER, "fsType": "ext4", "volumeHandle": self.volume,
                    "volumeAttributes": {
                        "convertible": "false", "poolClass": self.class, "poolType": "REGULAR", "replicaNumber": "1",
                        "striped": "true", "volumeKind": "LVM",
                        "csi.storage.k8s.io/pv/name": self.volume, "csi.storage.k8s.io/pvc/name": self.claim,
                        "csi.storage.k8s.io/pvc/namespace": self.namespace,
                        "storage.kubernetes.io/csiProvisionerIdentity": "1700000000000-8081-lvm.hwameistor.io",
                    },
                },
            },
        })
    }
}

/// A pod that has a folder of its node, where the volume is mounted: what a pod of before is to the node's daemon.
pub(super) fn pod(name: &str, node: &str, folder: &str, at: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": format!("{}:{}", BUSYBOX.0, BUSYBOX.1), "imagePullPolicy": "Never",
                "command": ["sleep", "2147483647"], "volumeMounts": [{ "name": "data", "mountPath": at }],
            }],
            "volumes": [{ "name": "data", "hostPath": { "path": folder, "type": "Directory" } }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_api::{LocalVolume, LocalVolumeGroup, LocalVolumeReplica, ReplicaState};
    use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
    use serde::de::DeserializeOwned;

    fn an_old() -> Old {
        Old {
            volume: "pvc-1".into(),
            claim_uid: "1".into(),
            claim: "data".into(),
            namespace: "shop".into(),
            pod: "p".into(),
            node: "n1".into(),
            ip: "10.0.0.1".into(),
            pool: "LocalStorage_PoolHDD".into(),
            class: "HDD".into(),
            disks: vec!["/dev/sdc".into()],
            mib: 64,
        }
    }

    fn read<K: DeserializeOwned>(object: &Value, status: Option<Value>) -> K {
        let mut object = object.clone();
        if let Some(status) = status {
            object["status"] = status;
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_objects_are_of_their_kinds_and_speak_of_one_volume() {
        let old = an_old();
        let replica: LocalVolumeReplica = read(&old.replica(), Some(old.replica_status()));
        let volume: LocalVolume = read(&old.local_volume(), Some(old.volume_status()));
        let group: LocalVolumeGroup = read(&old.local_volume_group(), None);
        let persistent: PersistentVolume = read(&old.persistent_volume(), None);
        let status = replica.status.unwrap();
        assert_eq!(
            (status.state, status.allocated_capacity_bytes),
            (ReplicaState::Ready, 64 << 20)
        );
        assert_eq!(replica.spec.volume_name, "pvc-1");
        assert_eq!(volume.spec.volume_group, group.metadata.name.unwrap());
        assert_eq!(volume.spec.config.unwrap().replicas[0].hostname, "n1");
        assert_eq!(group.spec.volumes[0].local_volume, "pvc-1");
        let spec = persistent.spec.unwrap();
        assert_eq!(spec.csi.unwrap().volume_handle, "pvc-1");
        assert!(spec.node_affinity.is_none(), "HwameiStor set none");
        assert!(replica.metadata.finalizers.is_none(), "HwameiStor set none");
        let _: Pod = read(&pod("p", "n1", "/run/x", "/data"), None);
    }
}
