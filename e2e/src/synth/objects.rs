//! The plan as objects, in the form that an API server has them.

use hawser_api::names;
use serde_json::{Value, json};

use super::plan::{EXTENT, Node, Pending, Pod, Pool, Volume, pool_name};

const MADE_AT: &str = "2026-01-01T00:00:00Z";
const SCHEDULER: &str = "hwameistor-scheduler";
/// Of what waits.
const NAMESPACE: &str = "pending";

fn ours(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
        "kind": kind,
        "metadata": { "name": name, "creationTimestamp": MADE_AT }
    })
}

pub(super) fn classes() -> Vec<Value> {
    let class = |name: &str, parameters: Value| {
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": { "name": name, "creationTimestamp": MADE_AT },
            "provisioner": names::LVM_DRIVER,
            "parameters": parameters,
            "reclaimPolicy": "Delete",
            "allowVolumeExpansion": true,
            "volumeBindingMode": "WaitForFirstConsumer"
        })
    };
    let of = |class: &str| json!({ "poolClass": class, "replicaNumber": "1" });
    let packed =
        json!({ "poolClass": "SSD", "replicaNumber": "1", "hawser.io/placement": "binpack" });
    let mut foreign = class("shared", json!({}));
    foreign["provisioner"] = "nfs.example.com".into();
    vec![
        class("local-hdd", of("HDD")),
        class("local-ssd", of("SSD")),
        class("local-nvme", of("NVMe")),
        class("local-ssd-packed", packed),
        foreign,
    ]
}

pub(super) fn node(node: &Node) -> Value {
    let mut taints = Vec::new();
    if node.dedicated {
        taints.push(json!({ "key": "dedicated", "value": "database", "effect": "NoSchedule" }));
    }
    if node.cordoned {
        taints.push(json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "creationTimestamp": MADE_AT,
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": node.instance,
                "topology.kubernetes.io/region": "region-1",
                "topology.kubernetes.io/zone": node.zone,
                "topology.kubernetes.io/rack": format!("rack-{:02}", node.rack),
                "topology.lvm.hwameistor.io/node": node.name,
            },
            "annotations": { "csi.volume.kubernetes.io/nodeid": format!("{{\"{}\":\"{}\"}}", names::LVM_DRIVER, node.name) }
        },
        "spec": { "unschedulable": node.cordoned, "taints": taints },
        "status": {
            "capacity": { "cpu": "64", "memory": "263856000Ki", "pods": "110" },
            "allocatable": { "cpu": "64", "memory": "263753600Ki", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": MADE_AT, "lastTransitionTime": MADE_AT }]
        }
    })
}

pub(super) fn storage_node(node: &Node) -> Value {
    let pools: serde_json::Map<String, Value> = node
        .pools
        .iter()
        .map(|pool| (pool.name(), self::pool(pool)))
        .collect();
    let mut object = ours("LocalStorageNode", &node.name);
    object["spec"] = json!({ "hostname": node.name, "storageIP": "10.0.0.1", "topogoly": { "region": "region-1", "zone": node.zone } });
    object["status"] = json!({ "state": node.state, "pools": pools });
    object
}

fn pool(pool: &Pool) -> Value {
    let free = pool.total - pool.used;
    let state = if pool.failed { "Offline" } else { "InUse" };
    json!({
        "name": pool.name(),
        "class": pool.class,
        "type": "REGULAR",
        "path": format!("/dev/{}", pool.name()),
        "disks": [{ "devPath": "/dev/sdb", "capacityBytes": pool.total, "state": state, "type": pool.class }],
        "totalCapacityBytes": pool.total,
        "usedCapacityBytes": pool.used,
        "freeCapacityBytes": free,
        "volumeCapacityBytesLimit": pool.total,
        "totalVolumeCount": 1000,
        "usedVolumeCount": pool.volumes.len(),
        "freeVolumeCount": 1000usize.saturating_sub(pool.volumes.len()),
        "volumes": pool.volumes,
    })
}

pub(super) fn group(node: &Node, pod: &Pod) -> Value {
    let member = |volume: &Volume| {
        json!({
            "localvolume": volume.name(), "pvc": volume.claim,
            "poolName": pool_name(volume.class), "requiredCapacityBytes": volume.size
        })
    };
    let members: Vec<Value> = pod.volumes.iter().map(member).collect();
    let mut object = ours("LocalVolumeGroup", &format!("{}-{}", pod.name, pod.uid));
    object["spec"] = json!({
        "namespace": pod.namespace, "pods": [pod.name],
        "accessibility": { "nodes": [node.name], "regions": ["default"], "zones": ["default"] },
        "volumes": members
    });
    object
}

/// The volume, its replica, its persistent volume and its claim.
pub(super) fn volume(node: &Node, pod: &Pod, volume: &Volume) -> [Value; 4] {
    let name = volume.name();
    let (pool, published) = (
        pool_name(volume.class),
        if volume.state == "Ready" {
            &*node.name
        } else {
            ""
        },
    );
    let mut local = ours("LocalVolume", &name);
    local["spec"] = json!({
        "accessibility": { "nodes": [node.name], "regions": ["default"], "zones": ["default"] },
        "poolName": pool, "pvcName": volume.claim, "pvcNamespace": pod.namespace, "replicaNumber": 1,
        "requiredCapacityBytes": volume.size, "volumegroup": format!("{}-{}", pod.name, pod.uid)
    });
    local["status"] = json!({
        "state": volume.state, "allocatedCapacityBytes": volume.size, "publishedNode": published,
        "fsType": "xfs", "rawblock": false, "replicas": [format!("{name}-aaaaaa")]
    });
    let mut replica = ours("LocalVolumeReplica", &format!("{name}-aaaaaa"));
    replica["spec"] = json!({
        "volumeName": name, "nodeName": node.name, "poolName": pool, "requiredCapacityBytes": volume.size
    });
    replica["status"] = json!({
        "state": volume.state, "synced": volume.state == "Ready", "allocatedCapacityBytes": volume.size,
        "devPath": format!("/dev/{pool}/{name}"), "storagePath": format!("/dev/{pool}/{name}"), "inuse": true
    });
    let class = class_of(volume.class);
    let quantity = format!("{}Mi", volume.size / EXTENT * (EXTENT >> 20));
    let persistent = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name, "creationTimestamp": MADE_AT, "annotations": { "pv.kubernetes.io/provisioned-by": names::LVM_DRIVER } },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": quantity },
            "claimRef": { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": pod.namespace, "name": volume.claim, "uid": volume.uid },
            "csi": { "driver": names::LVM_DRIVER, "volumeHandle": name, "fsType": "xfs" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": names::LVM_TOPOLOGY_KEY, "operator": "In", "values": [node.name] }
            ] }] } },
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": class, "volumeMode": "Filesystem"
        },
        "status": { "phase": "Bound" }
    });
    let mut claim = self::claim(&pod.namespace, &volume.claim, &volume.uid, class, &quantity);
    claim["metadata"]["annotations"] = json!({
        "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
        "volume.kubernetes.io/selected-node": node.name, "volume.kubernetes.io/storage-provisioner": names::LVM_DRIVER
    });
    claim["spec"]["volumeName"] = name.into();
    claim["status"] = json!({ "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": { "storage": quantity } });
    [local, replica, persistent, claim]
}

fn class_of(pool: &str) -> &'static str {
    match pool {
        "HDD" => "local-hdd",
        "NVMe" => "local-nvme",
        _ => "local-ssd",
    }
}

fn claim(namespace: &str, name: &str, uid: &str, class: &str, quantity: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "namespace": namespace, "name": name, "uid": uid, "creationTimestamp": MADE_AT },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeMode": "Filesystem",
            "resources": { "requests": { "storage": quantity } }
        },
        "status": { "phase": "Pending" }
    })
}

/// The claims, then the pod.
pub(super) fn pending(pod: &Pending) -> [Value; 3] {
    let claim = |(name, uid, class, size): &(String, String, &'static str, u64)| {
        claim(NAMESPACE, name, uid, class, &format!("{}Gi", size >> 30))
    };
    let uses = |volume: &str, claim: &str| json!({ "name": volume, "persistentVolumeClaim": { "claimName": claim } });
    let mut spec = json!({
        "containers": [{
            "name": "db", "image": "registry.example.com/db:1", "args": ["--data=/data", "--log=/log"],
            "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } } }],
            "resources": { "requests": { "cpu": "500m", "memory": "1Gi" } },
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }, { "name": "log", "mountPath": "/log" }],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"
        }],
        "volumes": [
            uses("data", &pod.claims[0].0),
            uses("log", &pod.claims[1].0),
            { "name": "token", "projected": { "defaultMode": 420, "sources": [{ "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } }] } }
        ],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default", "schedulerName": SCHEDULER, "priority": 0, "enableServiceLinks": true,
        "tolerations": [
            { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }
        ]
    });
    if let Some(zone) = pod.zone {
        spec["nodeSelector"] = json!({ "topology.kubernetes.io/zone": zone });
    }
    if let (true, Some(tolerations)) = (pod.tolerates, spec["tolerations"].as_array_mut()) {
        tolerations.push(json!({ "key": "dedicated", "operator": "Exists" }));
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": NAMESPACE, "name": pod.name, "uid": pod.uid, "creationTimestamp": MADE_AT,
            "labels": { "app": "db", "apps.kubernetes.io/pod-index": "0" }
        },
        "spec": spec,
        "status": { "phase": "Pending", "qosClass": "Burstable" }
    });
    let [data, log] = &pod.claims;
    [claim(data), claim(log), object]
}
