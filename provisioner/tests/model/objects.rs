//! Objects of users and of Kubernetes, and reading them.

use hawser_api::{LocalStorageNode, LocalVolume, names};
use hawser_runtime::index::Key;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::ResourceExt;
use provisioner::decide::{claimant::selected_node, volume::wanted_nodes};
use serde_json::{Value, json};

pub(crate) const GIB: i64 = 1 << 30;
/// Where users' objects are.
pub(crate) const SHOP: &str = "shop";
/// Keeps a claim for as long as pods use it.
pub(crate) const PVC_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Stands for kubelet, which lets a pod go when it has ended.
pub(crate) const KUBELET: &str = "model/kubelet";
/// A label of the first node, which some pods select.
pub(crate) const SPECIAL: &str = "special";

/// A storage class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One copy on HDD.
    One,
    /// Two copies on HDD, which the parser of parameters does not let through yet.
    Two,
    /// One copy on SSD.
    Fast,
    /// One copy on HDD, bound at once.
    Now,
}

impl Class {
    pub(crate) const ALL: [Self; 4] = [Self::One, Self::Two, Self::Fast, Self::Now];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Fast => "fast",
            Self::Now => "now",
        }
    }

    pub(crate) fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        let name = claim.spec.as_ref()?.storage_class_name.as_deref()?;
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    pub(crate) fn copies(self) -> u8 {
        if self == Self::Two { 2 } else { 1 }
    }

    pub(crate) fn pool(self) -> &'static str {
        if self == Self::Fast { "SSD" } else { "HDD" }
    }

    pub(crate) fn object(self) -> StorageClass {
        let binding = if self == Self::Now {
            "Immediate"
        } else {
            "WaitForFirstConsumer"
        };
        of(json!({
            "metadata": {"name": self.name()}, "provisioner": names::LVM_DRIVER, "volumeBindingMode": binding,
            "parameters": {"poolClass": self.pool(), "replicaNumber": "1"},
        }))
    }
}

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the model makes objects of their kind")
}

pub(crate) fn pool_name(class: &str) -> String {
    format!("{}{class}", names::pools::VG_PREFIX)
}

pub(crate) fn a_node(name: &str, special: bool) -> Node {
    let labels = if special {
        json!({SPECIAL: "yes"})
    } else {
        json!({})
    };
    of(json!({"metadata": {"name": name, "labels": labels}}))
}

pub(crate) fn a_storage_node(name: &str) -> LocalStorageNode {
    of(json!({"metadata": {"name": name}, "spec": {"hostname": name, "storageIP": "10.0.0.1"}}))
}

/// A claim; `owner`: the pod (name and uid) whose ephemeral volume it is.
pub(crate) fn a_claim(
    name: &str,
    class: Class,
    gib: i64,
    source: Option<&str>,
    owner: Option<(&str, &str)>,
) -> PersistentVolumeClaim {
    let owners: Vec<Value> = owner
        .iter()
        .map(|(name, uid)| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": true}))
        .collect();
    let mut claim = json!({
        "metadata": {"name": name, "namespace": SHOP, "finalizers": [PVC_PROTECTION], "ownerReferences": owners},
        "spec": {
            "storageClassName": class.name(), "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": (gib * GIB).to_string()}},
        },
    });
    if let Some(source) = source {
        claim["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": source});
    }
    of(claim)
}

/// A pod that uses claims, and has ephemeral volumes of these names.
pub(crate) fn a_pod(name: &str, claims: &[String], ephemeral: &[String], special: bool) -> Pod {
    let claims = claims
        .iter()
        .map(|c| json!({"name": c, "persistentVolumeClaim": {"claimName": c}}));
    let ephemeral = ephemeral
        .iter()
        .map(|v| json!({"name": v, "ephemeral": {}}));
    let volumes: Vec<Value> = claims.chain(ephemeral).collect();
    let selector = if special {
        json!({SPECIAL: "yes"})
    } else {
        json!({})
    };
    of(json!({
        "metadata": {"name": name, "namespace": SHOP},
        "spec": {"containers": [], "volumes": volumes, "nodeSelector": selector},
        "status": {"phase": "Pending"},
    }))
}

/// The persistent volume that external-provisioner makes of an answer.
pub(crate) fn a_persistent(volume: &LocalVolume, claim: &ClaimInfo) -> PersistentVolume {
    of(json!({
        "metadata": {"name": volume.name_any(), "annotations": {"nodes": wanted_nodes(volume).join(",")}},
        "spec": {
            "csi": {"driver": names::LVM_DRIVER, "volumeHandle": volume.name_any()},
            "claimRef": {"namespace": SHOP, "name": claim.name, "uid": claim.uid},
            "persistentVolumeReclaimPolicy": "Delete",
        },
    }))
}

/// The nodes that a persistent volume can be used on.
pub(crate) fn persistent_nodes(persistent: &PersistentVolume) -> Vec<String> {
    let nodes = persistent.annotations().get("nodes");
    let nodes = nodes.into_iter().flat_map(|all| all.split(','));
    nodes.map(str::to_owned).collect()
}

/// What external-provisioner keeps of a claim while it works on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimInfo {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) class: Class,
    pub(crate) bytes: i64,
    pub(crate) selected: Option<String>,
}

impl ClaimInfo {
    pub(crate) fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        Some(Self {
            name: claim.name_any(),
            uid: claim.uid()?,
            class: Class::of(claim)?,
            bytes: size(claim),
            selected: selected_node(claim).map(str::to_owned),
        })
    }

    pub(crate) fn volume(&self) -> String {
        format!("pvc-{}", self.uid)
    }
}

/// Bytes.
pub(crate) fn size(claim: &PersistentVolumeClaim) -> i64 {
    let requests = claim
        .spec
        .as_ref()
        .and_then(|s| s.resources.as_ref()?.requests.as_ref());
    let storage = requests.and_then(|r| r.get("storage"));
    storage
        .and_then(|q| q.0.parse().ok())
        .expect("the model writes plain numbers")
}

pub(crate) fn in_shop(name: &str) -> Key {
    Key::namespaced(SHOP, name)
}

/// Whether the pod uses the claim.
pub(crate) fn uses(pod: &Pod, claim: &str) -> bool {
    provisioner::decide::claimant::claims_of(pod).any(|c| c == claim)
}

/// Whether the pod's selector allows the node.
pub(crate) fn selects(pod: &Pod, node: &Node) -> bool {
    let wanted = pod.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    let mut wanted = wanted.into_iter().flatten();
    wanted.all(|(key, value)| node.labels().get(key) == Some(value))
}
