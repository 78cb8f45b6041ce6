//! How objects come in: one implementation of [`Fold`] per kind, and [`reset`] for a complete list.

use std::collections::HashSet;

use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_placement::Name;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Resource;

use crate::claim::{ClaimFacts, ClassFacts, PersistentFacts};
use crate::facts::{GroupFacts, NodeFacts, ReplicaFacts, StorageFacts, VolumeFacts};
use crate::inventory::{Claims, Inventory};

/// Which object of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `None` for kinds of cluster scope.
    pub namespace: Option<String>,
    pub name: String,
}

impl Key {
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    #[must_use]
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }
}

/// Takes in objects of one kind. Applying an object again, or an older one after a reset, is harmless: what counts is the last
/// call for each key.
pub trait Fold<K> {
    /// The object is there, new or changed.
    fn apply(&mut self, object: &K);
    /// The object is gone.
    fn remove(&mut self, key: &Key);
    /// The objects of this kind that are known.
    fn known(&self) -> Vec<Key>;
}

/// Exactly these objects are there now, and those for which `keep` says so (there, but unreadable).
pub fn reset<'a, K>(
    inventory: &mut Inventory,
    objects: impl IntoIterator<Item = &'a K>,
    keep: impl Fn(&Key) -> bool,
) where
    K: Resource + 'a,
    Inventory: Fold<K>,
{
    let mut listed = HashSet::new();
    for object in objects {
        listed.insert(Key::of(object));
        inventory.apply(object);
    }
    for key in Fold::<K>::known(inventory) {
        if !listed.contains(&key) && !keep(&key) {
            Fold::<K>::remove(inventory, &key);
        }
    }
}

/// A kind of cluster scope: facts by name.
macro_rules! fold_by_name {
    ($kind:ty, $facts:ident, $field:ident, $set:ident) => {
        impl Fold<$kind> for Inventory {
            fn apply(&mut self, object: &$kind) {
                let facts = $facts::of(object, &mut self.names);
                self.$set(name_of(object), Some(facts));
            }

            fn remove(&mut self, key: &Key) {
                self.$set(&key.name, None);
            }

            fn known(&self) -> Vec<Key> {
                self.$field
                    .keys()
                    .map(|name| Key {
                        namespace: None,
                        name: name.to_string(),
                    })
                    .collect()
            }
        }
    };
}

fold_by_name!(Node, NodeFacts, nodes, set_node);
fold_by_name!(LocalStorageNode, StorageFacts, storage, set_storage);
fold_by_name!(LocalVolumeReplica, ReplicaFacts, replicas, set_replica);
fold_by_name!(LocalVolume, VolumeFacts, volumes, set_volume);
fold_by_name!(LocalVolumeGroup, GroupFacts, groups, set_group);
fold_by_name!(
    PersistentVolume,
    PersistentFacts,
    persistent,
    set_persistent
);
fold_by_name!(StorageClass, ClassFacts, classes, set_class);

fn name_of(object: &impl Resource) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

impl Fold<PersistentVolumeClaim> for Inventory {
    fn apply(&mut self, object: &PersistentVolumeClaim) {
        let facts = ClaimFacts::of(object, &mut self.names);
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        self.set_claim(namespace, name_of(object), Some(facts));
    }

    fn remove(&mut self, key: &Key) {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        self.set_claim(namespace, &key.name, None);
    }

    fn known(&self) -> Vec<Key> {
        let of_namespace = |(namespace, claims): (&Name, &Claims)| {
            let namespace = namespace.clone();
            claims
                .keys()
                .map(move |name| Key::namespaced(&*namespace, &**name))
                .collect::<Vec<_>>()
        };
        self.claims.iter().flat_map(of_namespace).collect()
    }
}
