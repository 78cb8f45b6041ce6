//! What the decision needs to know of the cluster's objects, and nothing else of them.
//!
//! Claims, volumes and sets are many and large; of each only these few words are kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::names;
use hawser_runtime::index::{Index, Key};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use parking_lot::RwLock;

/// Which class a claim asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClassName {
    /// It says nothing: the cluster's default class, if there is one.
    Default,
    /// It asks for none: only a volume made by hand can be bound.
    None,
    /// This one.
    Named(String),
}

/// Labels of an object; most have none, which costs nothing.
pub(crate) type Labels = Option<Arc<BTreeMap<String, String>>>;

/// The labels of an object.
pub(crate) fn labels_of(meta: &ObjectMeta) -> Labels {
    let labels = meta.labels.as_ref().filter(|labels| !labels.is_empty());
    labels.cloned().map(Arc::new)
}

/// A claim: its class, its volume once it is bound, and its labels, by which policies choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) class: ClassName,
    pub(crate) volume: Option<String>,
    pub(crate) labels: Labels,
}

/// Whose volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Logical volumes.
    Lvm,
    /// Whole disks.
    Disk,
    /// Not ours.
    Foreign,
}

impl Driver {
    /// By the name of a driver or provisioner.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            names::LVM_DRIVER => Self::Lvm,
            names::DISK_DRIVER => Self::Disk,
            _ => Self::Foreign,
        }
    }
}

/// A volume: whose it is, and the name of its `LocalVolume` if it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) driver: Driver,
    pub(crate) handle: String,
}

/// A storage class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) driver: Driver,
    /// Kept for our own classes only.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Whether it is marked as the cluster's default.
    pub(crate) default: bool,
    /// Since when it exists.
    pub(crate) since: Option<Time>,
}

/// The copy of a volume on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) node: Arc<str>,
    /// The node's zone, if it has one.
    pub(crate) zone: Option<Arc<str>>,
    /// Whether its data can be served there now.
    pub(crate) up_to_date: bool,
}

/// A claim that a stateful set will make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) class: ClassName,
    pub(crate) labels: Labels,
}

/// A stateful set's templates for claims, by the template's name.
pub(crate) type Templates = BTreeMap<String, Template>;

/// An object reduced to what is needed of it.
pub(crate) trait Fact<K>: Sized + Send + Sync + 'static {
    /// `None`: the object is of no interest.
    fn of(object: &K) -> Option<Self>;
}

impl Fact<PersistentVolumeClaim> for Claim {
    fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        let spec = claim.spec.as_ref();
        let volume = spec
            .and_then(|spec| spec.volume_name.clone())
            .filter(|name| !name.is_empty());
        Some(Self {
            class: class_name(&claim.metadata, spec),
            volume,
            labels: labels_of(&claim.metadata),
        })
    }
}

impl Fact<PersistentVolume> for Volume {
    fn of(volume: &PersistentVolume) -> Option<Self> {
        let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        let driver = csi.map_or(Driver::Foreign, |csi| Driver::of(&csi.driver));
        let handle = match (driver, csi) {
            (Driver::Lvm | Driver::Disk, Some(csi)) => csi.volume_handle.clone(),
            _ => String::new(),
        };
        Some(Self { driver, handle })
    }
}

impl Fact<StorageClass> for Class {
    fn of(class: &StorageClass) -> Option<Self> {
        let driver = Driver::of(&class.provisioner);
        let parameters = match driver {
            Driver::Lvm | Driver::Disk => class.parameters.clone().unwrap_or_default(),
            Driver::Foreign => BTreeMap::new(),
        };
        let marks = class.metadata.annotations.as_ref();
        let default = marks
            .and_then(|marks| marks.get(names::annotations::DEFAULT_CLASS))
            .is_some_and(|v| v == "true");
        let since = class.metadata.creation_timestamp.clone();
        Some(Self {
            driver,
            parameters,
            default,
            since,
        })
    }
}

impl Fact<StatefulSet> for Templates {
    fn of(set: &StatefulSet) -> Option<Self> {
        let templates = set
            .spec
            .as_ref()?
            .volume_claim_templates
            .as_deref()
            .unwrap_or_default();
        let classes = templates
            .iter()
            .filter_map(|template| {
                let meta = &template.metadata;
                let known = Template {
                    class: class_name(meta, template.spec.as_ref()),
                    labels: labels_of(meta),
                };
                Some((meta.name.clone()?, known))
            })
            .collect::<Self>();
        (!classes.is_empty()).then_some(classes)
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Its pods and claims are left as they are.
    pub(crate) ignored: bool,
    pub(crate) labels: Labels,
}

impl Fact<Namespace> for Space {
    fn of(namespace: &Namespace) -> Option<Self> {
        Some(Self {
            ignored: names::opts_out(namespace.metadata.labels.as_ref()),
            labels: labels_of(&namespace.metadata),
        })
    }
}

/// The class that a claim or a template for one asks for. The annotation of old wins over the field, as in Kubernetes.
pub(crate) fn class_name(meta: &ObjectMeta, spec: Option<&PersistentVolumeClaimSpec>) -> ClassName {
    let annotated = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(names::annotations::BETA_CLASS));
    match annotated
        .or_else(|| spec.and_then(|spec| spec.storage_class_name.as_ref()))
        .map(String::as_str)
    {
        None => ClassName::Default,
        Some("") => ClassName::None,
        Some(name) => ClassName::Named(name.to_owned()),
    }
}

/// The facts of all objects of one kind, kept current by a watch. Clones share one state.
#[derive(Debug)]
pub(crate) struct Facts<F>(Arc<RwLock<BTreeMap<Key, F>>>);

impl<F> Clone for Facts<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F> Default for Facts<F> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<F: Clone> Facts<F> {
    pub(crate) fn get(&self, key: &Key) -> Option<F> {
        self.0.read().get(key).cloned()
    }

    pub(crate) fn read<T>(&self, choose: impl FnOnce(&BTreeMap<Key, F>) -> T) -> T {
        choose(&self.0.read())
    }
}

impl<K, F> Index<K> for Facts<F>
where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
    F: Fact<K>,
{
    fn apply(&self, object: Arc<K>) {
        let key = Key::of(&*object);
        match F::of(&object) {
            Some(fact) => drop(self.0.write().insert(key, fact)),
            None => drop(self.0.write().remove(&key)),
        }
    }

    fn delete(&self, key: &Key) {
        self.0.write().remove(key);
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        let fresh = objects
            .iter()
            .filter_map(|object| Some((Key::of(&**object), F::of(object)?)));
        let mut fresh: BTreeMap<Key, F> = fresh.collect();
        let mut facts = self.0.write();
        for key in unreadable {
            if let Some(fact) = facts.remove(key) {
                fresh.insert(key.clone(), fact);
            }
        }
        *facts = fresh;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(name: &str, spec: &serde_json::Value) -> Arc<PersistentVolumeClaim> {
        Arc::new(
            serde_json::from_value(
                json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec }),
            )
            .unwrap(),
        )
    }

    #[test]
    fn absent_and_empty_class_differ() {
        let class = |value| Claim::of(&*claim("a", &value)).unwrap().class;
        assert_eq!(class(json!({})), ClassName::Default);
        assert_eq!(class(json!({ "storageClassName": "" })), ClassName::None);
        assert_eq!(
            class(json!({ "storageClassName": "ssd" })),
            ClassName::Named("ssd".to_owned())
        );
    }

    #[test]
    fn the_annotation_of_old_wins() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": { "name": "a", "annotations": { "volume.beta.kubernetes.io/storage-class": "old" } },
            "spec": { "storageClassName": "new" }
        }))
        .unwrap();
        assert_eq!(
            Claim::of(&claim).unwrap().class,
            ClassName::Named("old".to_owned())
        );
    }

    #[test]
    fn a_reset_forgets_what_is_gone_and_keeps_what_is_unreadable() {
        let facts = Facts::<Claim>::default();
        for name in ["stays", "goes", "broken"] {
            facts.apply(claim(name, &json!({ "storageClassName": name })));
        }
        let broken = Key::namespaced("shop", "broken");
        facts.reset(
            vec![claim("stays", &json!({ "volumeName": "v" }))],
            &BTreeSet::from([broken.clone()]),
        );
        assert_eq!(
            facts
                .get(&Key::namespaced("shop", "stays"))
                .unwrap()
                .volume
                .as_deref(),
            Some("v")
        );
        assert!(facts.get(&Key::namespaced("shop", "goes")).is_none());
        assert!(facts.get(&broken).is_some());
    }
}
