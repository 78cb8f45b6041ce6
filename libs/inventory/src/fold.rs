//! How objects come in: one implementation of [`Fold`] per kind, and [`reset`] for a complete list.

use std::collections::HashSet;

use foldhash::fast::RandomState;
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
    /// Objects of this kind that are known and not among those for which `listed` says so, by namespace (empty for kinds of
    /// cluster scope) and name.
    fn missing(&self, listed: &dyn Fn(&Name, &Name) -> bool) -> Vec<Key>;
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
    let mut listing = Listing::default();
    for object in objects {
        listing.add(inventory, object);
    }
    listing.end::<K>(inventory, keep);
}

/// What a complete list of one kind has shown so far, for taking it in object by object.
#[derive(Debug, Default)]
pub struct Listing(HashSet<(Name, Name), RandomState>);

impl Listing {
    /// The list has this object, which is there from now on.
    pub fn add<K: Resource>(&mut self, inventory: &mut Inventory, object: &K)
    where
        Inventory: Fold<K>,
    {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let namespace = inventory.names.get(namespace);
        let name = inventory.names.get(name_of(object));
        self.0.insert((namespace, name));
        inventory.apply(object);
    }

    /// The list is complete: what it did not have is gone, but for those for which `keep` says so (there, but unreadable).
    pub fn end<K>(self, inventory: &mut Inventory, keep: impl Fn(&Key) -> bool)
    where
        Inventory: Fold<K>,
    {
        let listed =
            |namespace: &Name, name: &Name| self.0.contains(&(namespace.clone(), name.clone()));
        for key in Fold::<K>::missing(inventory, &listed) {
            if !keep(&key) {
                Fold::<K>::remove(inventory, &key);
            }
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

            fn missing(&self, listed: &dyn Fn(&Name, &Name) -> bool) -> Vec<Key> {
                let nowhere = Name::from("");
                let names = self.$field.keys();
                names
                    .filter(|name| !listed(&nowhere, name))
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

    fn missing(&self, listed: &dyn Fn(&Name, &Name) -> bool) -> Vec<Key> {
        let of_namespace = |(namespace, claims): (&Name, &Claims)| {
            let missing = claims.keys().filter(|name| !listed(namespace, name));
            missing
                .map(|name| Key::namespaced(&**namespace, &**name))
                .collect::<Vec<_>>()
        };
        self.claims.iter().flat_map(of_namespace).collect()
    }
}
