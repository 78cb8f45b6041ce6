//! The ready-made index: all objects of one kind by name, with notice of changes and groupings by anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::Hash,
    sync::Arc,
};

use kube::Resource;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::index::{Index, Key};

/// What happened to one object. `old` or `new` is missing when it was created or deleted.
#[derive(Debug)]
pub struct Change<'a, K> {
    /// Which object.
    pub key: &'a Key,
    /// As it was.
    pub old: Option<&'a Arc<K>>,
    /// As it is.
    pub new: Option<&'a Arc<K>>,
}

type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// All objects of one kind, as last seen. Clones share one state.
pub struct Store<K>(Arc<Inner<K>>);

struct Inner<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    /// Serialises writers, so that listeners see changes in order.
    writing: Mutex<()>,
    listeners: RwLock<Vec<Listener<K>>>,
    generation: watch::Sender<u64>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("objects", &self.0.objects.read().len())
            .finish_non_exhaustive()
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Store<K> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            objects: RwLock::default(),
            writing: Mutex::default(),
            listeners: RwLock::default(),
            generation: watch::Sender::new(0),
        }))
    }

    /// The object of cluster scope with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        self.get_key(&Key::cluster(name))
    }

    /// The object with this name in this namespace.
    #[must_use]
    pub fn get_in(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&Key::namespaced(namespace, name))
    }

    /// The object with this key.
    #[must_use]
    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.0.objects.read().get(key).cloned()
    }

    /// All objects in order of namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.objects.read().values().cloned().collect()
    }

    /// The objects that `wanted` accepts, in order of namespace and name.
    #[must_use]
    pub fn filter(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.0
            .objects
            .read()
            .values()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.objects.read().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A receiver whose value grows with each change. Changes in quick succession may be seen as one.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Calls `listener` for each object there is (as created) and then after each change, in order; it must not block
    /// and must not write to this store. An object that was listed again unchanged (same resourceVersion) is no change.
    pub fn on_change(&self, listener: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        let _writing = self.0.writing.lock();
        for (key, object) in self.0.objects.read().iter() {
            listener(&Change {
                key,
                old: None,
                new: Some(object),
            });
        }
        self.0.listeners.write().push(Box::new(listener));
    }

    /// A secondary index, kept current: objects by what `groups` says of them (any number of groups for each).
    ///
    /// `groups` has to be pure: an object's old groups are found by asking it again.
    pub fn group_by<G>(&self, groups: impl Fn(&K) -> Vec<G> + Send + Sync + 'static) -> Groups<K, G>
    where
        K: Send + Sync + 'static,
        G: Ord + Hash + Send + Sync + 'static,
    {
        let members: Members<K, G> = Arc::default();
        let shared = members.clone();
        self.on_change(move |change| {
            let mut members = shared.write();
            for group in change.old.map(|old| groups(old)).into_iter().flatten() {
                if let Some(keys) = members.get_mut(&group) {
                    keys.remove(change.key);
                    if keys.is_empty() {
                        members.remove(&group);
                    }
                }
            }
            if let Some(new) = change.new {
                for group in groups(new) {
                    members
                        .entry(group)
                        .or_default()
                        .insert(change.key.clone(), new.clone());
                }
            }
        });
        Groups { members }
    }

    /// Makes the changes, then tells the listeners, then the receivers.
    fn change(&self, changes: Vec<(Key, Option<Arc<K>>)>) {
        let mut done = Vec::with_capacity(changes.len());
        {
            let mut objects = self.0.objects.write();
            for (key, new) in changes {
                let old = match &new {
                    Some(object) => objects.insert(key.clone(), object.clone()),
                    None => objects.remove(&key),
                };
                done.push((key, old, new));
            }
        }
        for (key, old, new) in &done {
            if old.is_some() || new.is_some() {
                let change = Change {
                    key,
                    old: old.as_ref(),
                    new: new.as_ref(),
                };
                self.0
                    .listeners
                    .read()
                    .iter()
                    .for_each(|listener| listener(&change));
            }
        }
        if !done.is_empty() {
            self.0.generation.send_modify(|generation| *generation += 1);
        }
    }
}

impl<K: Resource + Send + Sync + 'static> Store<K> {
    /// A store that holds these objects, for tests and for serving from a dump.
    #[must_use]
    pub fn of(objects: impl IntoIterator<Item = K>) -> Self {
        let store = Self::new();
        store.reset(
            objects.into_iter().map(Arc::new).collect(),
            &BTreeSet::new(),
        );
        store
    }
}

impl<K: Resource + Send + Sync + 'static> Index<K> for Store<K> {
    fn apply(&self, object: Arc<K>) {
        let _writing = self.0.writing.lock();
        self.change(vec![(Key::of(&*object), Some(object))]);
    }

    fn delete(&self, key: &Key) {
        let _writing = self.0.writing.lock();
        self.change(vec![(key.clone(), None)]);
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        let _writing = self.0.writing.lock();
        let mut gone: BTreeSet<Key> = self.0.objects.read().keys().cloned().collect();
        let mut changes = Vec::new();
        for object in objects {
            let key = Key::of(&*object);
            gone.remove(&key);
            let version = &object.meta().resource_version;
            let same = version.is_some()
                && self
                    .get_key(&key)
                    .is_some_and(|old| old.meta().resource_version == *version);
            if !same {
                changes.push((key, Some(object)));
            }
        }
        changes.extend(
            gone.into_iter()
                .filter(|key| !unreadable.contains(key))
                .map(|key| (key, None)),
        );
        self.change(changes);
    }
}

type Members<K, G> = Arc<RwLock<BTreeMap<G, BTreeMap<Key, Arc<K>>>>>;

/// A secondary index made by [`Store::group_by`]. Clones share one state.
pub struct Groups<K, G> {
    members: Members<K, G>,
}

impl<K, G> Clone for Groups<K, G> {
    fn clone(&self) -> Self {
        Self {
            members: self.members.clone(),
        }
    }
}

impl<K, G> fmt::Debug for Groups<K, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups")
            .field("groups", &self.members.read().len())
            .finish()
    }
}

impl<K, G: Ord> Groups<K, G> {
    /// The objects of one group in order of namespace and name.
    pub fn get<Q: Ord + ?Sized>(&self, group: &Q) -> Vec<Arc<K>>
    where
        G: std::borrow::Borrow<Q>,
    {
        self.members
            .read()
            .get(group)
            .map(|members| members.values().cloned().collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn a_pod(name: &str, node: &str, version: &str) -> Pod {
        let mut pod = Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("ns".to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
        pod
    }

    fn by_node(pod: &Pod) -> Vec<String> {
        pod.spec
            .iter()
            .filter_map(|spec| spec.node_name.clone())
            .collect()
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter()
            .map(|pod| pod.metadata.name.as_deref().unwrap())
            .collect()
    }

    #[test]
    fn groups_follow_moves_and_deletions() {
        let store = Store::of([a_pod("a", "n1", "1"), a_pod("b", "n1", "2")]);
        let nodes = store.group_by(by_node);
        assert_eq!(names(&nodes.get("n1")), ["a", "b"]);
        store.apply(Arc::new(a_pod("a", "n2", "3")));
        assert_eq!(
            (names(&nodes.get("n1")), names(&nodes.get("n2"))),
            (vec!["b"], vec!["a"])
        );
        store.delete(&Key::namespaced("ns", "b"));
        assert!(nodes.get("n1").is_empty());
        store.reset(vec![], &BTreeSet::new());
        assert!(nodes.get("n2").is_empty() && store.is_empty());
    }

    #[test]
    fn a_reset_reports_only_differences() {
        let store = Store::of([
            a_pod("same", "n1", "1"),
            a_pod("changed", "n1", "1"),
            a_pod("gone", "n1", "1"),
        ]);
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = seen.clone();
        store.on_change(move |change| {
            let what = match (change.old, change.new) {
                (None, Some(_)) => "+",
                (Some(_), None) => "-",
                _ => "~",
            };
            log.lock().push(format!("{what}{}", change.key));
        });
        seen.lock().clear();
        let mut generation = store.changed();
        generation.mark_unchanged();
        let again = [
            a_pod("same", "n1", "1"),
            a_pod("changed", "n1", "2"),
            a_pod("new", "n1", "1"),
        ];
        store.reset(again.into_iter().map(Arc::new).collect(), &BTreeSet::new());
        assert_eq!(*seen.lock(), ["~ns/changed", "+ns/new", "-ns/gone"]);
        assert!(generation.has_changed().unwrap());
        assert_eq!(names(&store.list()), ["changed", "new", "same"]);
        assert!(store.get_in("ns", "same").is_some() && store.get("same").is_none());
    }
}
