//! An API server in memory, with typed objects: resourceVersions, compare-and-swap, finalizers, deletion marks, and for each kind
//! the log of its changes, which every watch reads at its own pace. No JSON, no schema: thousands of histories have to be cheap.

use std::{collections::BTreeMap, sync::Arc};

use hawser_api::{
    LocalDiskClaim, LocalStorageNode, LocalVolume, LocalVolumeExpand, LocalVolumeGroup,
    LocalVolumeReplica,
};
use hawser_runtime::index::Key;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use provisioner::remote::{Exactly, WriteError};

/// What happened to an object.
#[derive(Clone, Debug)]
pub(crate) enum Event<K> {
    Set(Arc<K>),
    Gone(Key),
}

/// All objects of a kind, and how they came to be so.
#[derive(Debug)]
pub(crate) struct Table<K> {
    pub(crate) objects: BTreeMap<Key, Arc<K>>,
    pub(crate) log: Vec<Event<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

/// A kind that the server has.
pub(crate) trait Stored:
    Resource<DynamicType = ()> + Clone + PartialEq + Send + Sync + 'static
{
    fn table(server: &Server) -> &Table<Self>;
    fn table_mut(server: &mut Server) -> &mut Table<Self>;
}

macro_rules! kinds {
    ($($field:ident: $kind:ty),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Server {
            pub(crate) version: u64,
            uids: u64,
            $(pub(crate) $field: Table<$kind>,)*
        }

        $(impl Stored for $kind {
            fn table(server: &Server) -> &Table<Self> {
                &server.$field
            }

            fn table_mut(server: &mut Server) -> &mut Table<Self> {
                &mut server.$field
            }
        })*
    };
}

kinds! {
    pods: Pod,
    claims: PersistentVolumeClaim,
    persistent: PersistentVolume,
    nodes: Node,
    classes: StorageClass,
    storage_nodes: LocalStorageNode,
    volumes: LocalVolume,
    replicas: LocalVolumeReplica,
    groups: LocalVolumeGroup,
    expansions: LocalVolumeExpand,
    disk_claims: LocalDiskClaim,
    leases: Lease,
}

fn what<K: Stored>(key: &Key) -> String {
    format!("{} {key}", K::kind(&()))
}

/// A moment: the n-th second.
pub(crate) fn moment(second: u64) -> Time {
    let second = i64::try_from(second).expect("histories are short");
    Time(Timestamp::from_second(1_767_225_600 + second).expect("a valid time"))
}

impl Server {
    pub(crate) fn get<K: Stored>(&self, key: &Key) -> Option<Arc<K>> {
        K::table(self).objects.get(key).cloned()
    }

    /// Of cluster scope.
    pub(crate) fn named<K: Stored>(&self, name: &str) -> Option<Arc<K>> {
        self.get(&Key::cluster(name))
    }

    pub(crate) fn list<K: Stored>(&self) -> Vec<Arc<K>> {
        K::table(self).objects.values().cloned().collect()
    }

    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn put<K: Stored>(&mut self, key: Key, mut object: K) -> Arc<K> {
        object.meta_mut().resource_version = Some(self.next());
        let object = Arc::new(object);
        let table = K::table_mut(self);
        table.log.push(Event::Set(object.clone()));
        table.objects.insert(key, object.clone());
        object
    }

    fn take<K: Stored>(&mut self, key: &Key, mut object: K) -> K {
        object.meta_mut().resource_version = Some(self.next());
        let table = K::table_mut(self);
        table.log.push(Event::Gone(key.clone()));
        table.objects.remove(key);
        object
    }

    pub(crate) fn create<K: Stored>(&mut self, mut object: K) -> Result<K, WriteError> {
        let key = Key::of(&object);
        if K::table(self).objects.contains_key(&key) {
            return Err(WriteError::Exists {
                what: what::<K>(&key),
            });
        }
        self.uids += 1;
        let meta = object.meta_mut();
        meta.uid = Some(format!("00000000-0000-4000-8000-{:012x}", self.uids));
        meta.creation_timestamp = Some(moment(self.version));
        Ok((*self.put(key, object)).clone())
    }

    /// `None` as version: whatever it is now.
    pub(crate) fn replace<K: Stored>(
        &mut self,
        wanted: K,
        version: Option<&str>,
    ) -> Result<K, WriteError> {
        let key = Key::of(&wanted);
        let Some(now) = self.get::<K>(&key) else {
            return Err(WriteError::Gone {
                what: what::<K>(&key),
            });
        };
        if version.is_some() && now.meta().resource_version.as_deref() != version {
            return Err(WriteError::Conflict {
                what: what::<K>(&key),
            });
        }
        let mut wanted = wanted;
        wanted.meta_mut().resource_version = now.resource_version();
        wanted.meta_mut().uid = now.uid();
        if wanted == *now {
            return Ok(wanted);
        }
        let meta = wanted.meta();
        let ends = meta.deletion_timestamp.is_some() && wanted.finalizers().is_empty();
        Ok(if ends {
            self.take(&key, wanted)
        } else {
            (*self.put(key, wanted)).clone()
        })
    }

    /// Changes an object as somebody who retries until it is done; false if it is not there.
    pub(crate) fn edit<K: Stored>(&mut self, key: &Key, change: impl FnOnce(&mut K)) -> bool {
        let Some(now) = self.get::<K>(key) else {
            return false;
        };
        let mut wanted = (*now).clone();
        change(&mut wanted);
        self.replace(wanted, None).is_ok()
    }

    pub(crate) fn delete_exactly<K: Stored>(
        &mut self,
        seen: &K,
        exactly: Exactly,
    ) -> Result<Option<K>, WriteError> {
        let key = Key::of(seen);
        let Some(now) = self.get::<K>(&key) else {
            return Err(WriteError::Gone {
                what: what::<K>(&key),
            });
        };
        let version = exactly == Exactly::ThisVersion;
        if now.uid() != seen.uid() || (version && now.resource_version() != seen.resource_version())
        {
            return Err(WriteError::Conflict {
                what: what::<K>(&key),
            });
        }
        Ok(self.mark(&key, &now))
    }

    /// `kubectl delete`.
    pub(crate) fn delete<K: Stored>(&mut self, key: &Key) {
        if let Some(now) = self.get::<K>(key) {
            self.mark::<K>(key, &now);
        }
    }

    fn mark<K: Stored>(&mut self, key: &Key, now: &K) -> Option<K> {
        let mut object = now.clone();
        if object.finalizers().is_empty() {
            self.take(key, object);
            return None;
        }
        if object.meta().deletion_timestamp.is_none() {
            object.meta_mut().deletion_timestamp = Some(moment(self.version));
            return Some((*self.put(key.clone(), object)).clone());
        }
        Some(object)
    }
}

/// Where a watch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// `None`: nothing was listed yet.
    at: Option<usize>,
}

/// What a watch tells.
pub(crate) enum News<K> {
    List(Vec<Arc<K>>),
    Event(Event<K>),
}

impl Cursor {
    pub(crate) fn is_listed(self) -> bool {
        self.at.is_some()
    }

    pub(crate) fn is_current<K: Stored>(self, server: &Server) -> bool {
        self.at == Some(K::table(server).log.len())
    }

    /// The list at first, then one event after the other.
    pub(crate) fn next<K: Stored>(&mut self, server: &Server) -> Option<News<K>> {
        let table = K::table(server);
        let Some(at) = self.at else {
            self.at = Some(table.log.len());
            return Some(News::List(server.list()));
        };
        let event = table.log.get(at)?.clone();
        self.at = Some(at + 1);
        Some(News::Event(event))
    }

    /// The watch broke: the next news is a list.
    pub(crate) fn relist(&mut self) {
        self.at = None;
    }

    /// The last event that was told, to be told once more.
    pub(crate) fn last<K: Stored>(self, server: &Server) -> Option<Event<K>> {
        let at = self.at?.checked_sub(1)?;
        K::table(server).log.get(at).cloned()
    }
}

/// What one kind looks like to somebody whose watch lags.
#[derive(Debug)]
pub(crate) struct View<K> {
    pub(crate) cursor: Cursor,
    pub(crate) objects: BTreeMap<Key, Arc<K>>,
}

impl<K> Default for View<K> {
    fn default() -> Self {
        Self {
            cursor: Cursor::default(),
            objects: BTreeMap::new(),
        }
    }
}

impl<K: Stored> View<K> {
    /// Hears the next news, if there is any.
    pub(crate) fn hear(&mut self, server: &Server) -> bool {
        match self.cursor.next::<K>(server) {
            None => return false,
            Some(News::List(all)) => {
                self.objects = all.into_iter().map(|o| (Key::of(&*o), o)).collect();
            }
            Some(News::Event(Event::Set(object))) => {
                self.objects.insert(Key::of(&*object), object);
            }
            Some(News::Event(Event::Gone(key))) => drop(self.objects.remove(&key)),
        }
        true
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.objects.get(key)
    }
}
