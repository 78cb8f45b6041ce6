//! An index that sees our own writes at once, whatever the watch says later and in whatever order.
//!
//! Two decisions in a row must not both take the same room, so an answer of the API server is folded in like an event of the
//! watch. The watch then repeats it, perhaps after telling of older versions first: those are left out.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hawser_runtime::index::{Index, Key};
use kube::Resource;
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

/// A write that a list does not show is doubted only if it is older than this: the list may have been made before the write.
const LIST_TIME: Duration = Duration::from_secs(10);

/// What is known of one object's newest version.
#[derive(Clone, Copy)]
struct Mark {
    version: u64,
    /// When we wrote it, or when it went; `None` once the watch has caught up.
    own: Option<Instant>,
    /// We saw it go.
    gone: bool,
}

/// How long it is remembered that an object went: longer than an answer can be on its way.
const MEMORY: Duration = Duration::from_secs(300);

/// Sits before an index. Clones share one state.
pub struct Through<K> {
    inner: Arc<dyn Index<K>>,
    marks: Arc<Mutex<HashMap<Key, Mark>>>,
    doubts: mpsc::UnboundedSender<Key>,
}

impl<K> Clone for Through<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            marks: self.marks.clone(),
            doubts: self.doubts.clone(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Send + Sync + 'static> Through<K> {
    /// Before `inner`. The receiver gets keys of objects that should be asked for: they were written by us moments ago and a list
    /// lacks them. Tell the answer by [`Through::wrote`] or [`Through::removed`].
    pub fn new(inner: Arc<dyn Index<K>>) -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (doubts, receiver) = mpsc::unbounded_channel();
        (
            Self {
                inner,
                marks: Arc::default(),
                doubts,
            },
            receiver,
        )
    }

    /// The API server answered a change of ours with this object. If it is not known to be there, the answer may have been
    /// overtaken by its deletion: it is doubted.
    pub fn wrote(&self, object: K) {
        let key = Key::of(&object);
        let known = self.marks.lock().get(&key).is_some_and(|m| !m.gone);
        if self.confirmed(object) && !known {
            // The receiver only ends with the process.
            let _ = self.doubts.send(key);
        }
    }

    /// The API server answered a read of ours, or a creation, with this object. False if something newer is known.
    pub fn confirmed(&self, object: K) -> bool {
        let key = Key::of(&object);
        let version = version(&object);
        let mut marks = self.marks.lock();
        if version != UNORDERED && marks.get(&key).is_some_and(|mark| mark.version >= version) {
            return false;
        }
        let own = Some(Instant::now());
        marks.insert(
            key,
            Mark {
                version,
                own,
                gone: false,
            },
        );
        self.inner.apply(Arc::new(object));
        true
    }

    /// The newest version that is known of, before a read whose answer may be that there is no such object.
    #[must_use]
    pub fn known(&self, key: &Key) -> Option<u64> {
        self.marks.lock().get(key).map(|mark| mark.version)
    }

    /// The API server answered a read of ours with: there is no such object. `known`: what [`Through::known`] said before the
    /// read. If something else has been heard since, the answer may be the older news: it is doubted.
    pub fn absent(&self, key: &Key, known: Option<u64>) {
        if self.known(key) == known {
            self.removed(key, None);
        } else {
            // The receiver only ends with the process.
            let _ = self.doubts.send(key.clone());
        }
    }

    /// The API server let the object go, or does not have it. `last`: its last version, if known.
    pub fn removed(&self, key: &Key, last: Option<&K>) {
        let mut marks = self.marks.lock();
        let version = last
            .map_or(0, version)
            .max(marks.get(key).map_or(0, |mark| mark.version));
        marks.insert(
            key.clone(),
            Mark {
                version,
                own: Some(Instant::now()),
                gone: true,
            },
        );
        self.inner.delete(key);
    }
}

/// Of a server whose versions are no numbers: taken as they come, without protection against older ones.
const UNORDERED: u64 = 0;

fn version<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(UNORDERED)
}

impl<K: Resource<DynamicType = ()> + Send + Sync + 'static> Index<K> for Through<K> {
    fn apply(&self, object: Arc<K>) {
        let key = Key::of(&*object);
        let version = version(&*object);
        let mut marks = self.marks.lock();
        match marks.get_mut(&key) {
            _ if version == UNORDERED => {}
            Some(mark) if mark.version > version || (mark.gone && mark.version >= version) => {
                return;
            }
            Some(mark) if mark.version == version => {
                mark.own = None;
                return;
            }
            _ => drop(marks.insert(
                key,
                Mark {
                    version,
                    own: None,
                    gone: false,
                },
            )),
        }
        self.inner.apply(object);
    }

    fn delete(&self, key: &Key) {
        let mut marks = self.marks.lock();
        if marks
            .get(key)
            .is_some_and(|mark| mark.own.is_some() && !mark.gone)
        {
            // An older object of that name went; the one that we made is still to be told of.
            return;
        }
        let version = marks.get(key).map_or(0, |mark| mark.version);
        let own = Some(Instant::now());
        marks.insert(
            key.clone(),
            Mark {
                version,
                own,
                gone: true,
            },
        );
        if marks.len().is_multiple_of(256) {
            marks.retain(|_, m| !m.gone || m.own.is_some_and(|at| at.elapsed() < MEMORY));
        }
        self.inner.delete(key);
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        let mut marks = self.marks.lock();
        let listed: BTreeSet<Key> = objects.iter().map(|o| Key::of(&**o)).collect();
        let mut kept = unreadable.clone();
        let young = |mark: &Mark| mark.own.is_some_and(|at| at.elapsed() < LIST_TIME);
        marks.retain(|key, mark| {
            if listed.contains(key) || unreadable.contains(key) {
                return true;
            }
            let keep = young(mark);
            if keep && !mark.gone {
                kept.insert(key.clone());
                // The receiver only ends with the process.
                let _ = self.doubts.send(key.clone());
            }
            keep
        });
        let mut newer = Vec::with_capacity(objects.len());
        for object in objects {
            let key = Key::of(&*object);
            let version = version(&*object);
            match marks.get(&key) {
                _ if version == UNORDERED => newer.push(object),
                Some(mark) if mark.gone && mark.version >= version => {}
                Some(mark) if mark.version > version => drop(kept.insert(key)),
                _ => {
                    marks.insert(
                        key,
                        Mark {
                            version,
                            own: None,
                            gone: false,
                        },
                    );
                    newer.push(object);
                }
            }
        }
        self.inner.reset(newer, &kept);
    }
}

#[cfg(test)]
mod tests {
    use hawser_runtime::store::Store;
    use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn a_map(name: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn a_setup() -> (
        Store<ConfigMap>,
        Through<ConfigMap>,
        mpsc::UnboundedReceiver<Key>,
    ) {
        let store = Store::new();
        let (through, doubts) = Through::new(Arc::new(store.clone()));
        (store, through, doubts)
    }

    fn versions(store: &Store<ConfigMap>) -> Vec<String> {
        store
            .list()
            .iter()
            .map(|m| m.metadata.resource_version.clone().unwrap())
            .collect()
    }

    #[test]
    fn older_events_do_not_undo_a_write() {
        let (store, through, _doubts) = a_setup();
        through.confirmed(a_map("a", 10));
        through.apply(Arc::new(a_map("a", 9)));
        assert_eq!(versions(&store), ["10"]);
        through.apply(Arc::new(a_map("a", 10)));
        through.apply(Arc::new(a_map("a", 11)));
        assert_eq!(versions(&store), ["11"]);
        through.confirmed(a_map("a", 10));
        assert_eq!(
            versions(&store),
            ["11"],
            "a late answer is older than the watch"
        );
    }

    #[test]
    fn what_we_removed_does_not_come_back_by_an_older_event() {
        let (store, through, _doubts) = a_setup();
        through.apply(Arc::new(a_map("a", 5)));
        through.removed(&Key::cluster("a"), Some(&a_map("a", 7)));
        through.apply(Arc::new(a_map("a", 6)));
        assert!(store.is_empty());
        through.delete(&Key::cluster("a"));
        through.apply(Arc::new(a_map("a", 8)));
        assert_eq!(versions(&store), ["8"], "a new object of that name");
    }

    #[test]
    fn an_answer_that_its_deletion_has_overtaken_does_not_come_back() {
        let (store, through, mut doubts) = a_setup();
        through.apply(Arc::new(a_map("a", 5)));
        through.apply(Arc::new(a_map("a", 6)));
        through.delete(&Key::cluster("a"));
        through.wrote(a_map("a", 6));
        assert!(store.is_empty() && doubts.try_recv().is_err());
        through.wrote(a_map("b", 7));
        assert_eq!(
            doubts.try_recv().unwrap(),
            Key::cluster("b"),
            "nothing is known of it"
        );
    }

    #[test]
    fn an_answer_that_nothing_is_there_does_not_undo_what_was_heard_since() {
        let (store, through, mut doubts) = a_setup();
        let key = Key::cluster("a");
        let before = through.known(&key);
        through.confirmed(a_map("a", 5));
        through.absent(&key, before);
        assert_eq!(versions(&store), ["5"]);
        assert_eq!(doubts.try_recv().unwrap(), key);
        through.absent(&key, through.known(&key));
        assert!(store.is_empty() && doubts.try_recv().is_err());
    }

    #[test]
    fn the_deletion_of_an_earlier_object_spares_the_new_one() {
        let (store, through, _doubts) = a_setup();
        through.confirmed(a_map("a", 12));
        through.delete(&Key::cluster("a"));
        assert_eq!(versions(&store), ["12"]);
        through.apply(Arc::new(a_map("a", 12)));
        through.delete(&Key::cluster("a"));
        assert!(store.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_lacks_a_fresh_write_raises_a_doubt_and_keeps_it() {
        let (store, through, mut doubts) = a_setup();
        through.confirmed(a_map("old", 1));
        tokio::time::advance(LIST_TIME + Duration::from_secs(1)).await;
        through.confirmed(a_map("fresh", 2));
        through.confirmed(a_map("listed", 5));
        through.reset(vec![Arc::new(a_map("listed", 3))], &BTreeSet::new());
        assert_eq!(versions(&store), ["2", "5"]);
        assert_eq!(doubts.try_recv().unwrap(), Key::cluster("fresh"));
        through.removed(&Key::cluster("fresh"), None);
        assert_eq!(versions(&store), ["5"]);
    }
}
