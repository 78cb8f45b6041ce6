//! The only way to write to the API server: checks that we still lead, writes, and folds the answer into the indexes at once.
//!
//! Every error names the verb and the object. Conflicts are not retried here: whoever decided decides anew.

use std::{fmt::Debug, sync::Arc};

use hawser_api::{
    LocalDiskClaim, LocalVolume, LocalVolumeExpand, LocalVolumeGroup, LocalVolumeReplica,
};
use hawser_runtime::{
    index::{Index, Key},
    lease::Leader,
    store::Store,
};
use kube::{Resource, ResourceExt, core::ClusterResourceScope};
use parking_lot::{Mutex, RwLock};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::mpsc, time::Instant};

pub use crate::remote::WriteError;
use crate::{
    remote::{Exactly, Part, Remote},
    through::Through,
};

/// Whether this process may write. Clones share one state.
#[derive(Clone, Default)]
pub struct Permit(Arc<RwLock<Option<Leader>>>, Arc<RwLock<Option<bool>>>);

impl Permit {
    /// Nobody leads yet: nothing may be written.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// For as long as this leadership lasts.
    pub fn grant(&self, leader: Leader) {
        *self.0.write() = Some(leader);
    }

    /// Decided by hand, for tests and tools that run alone.
    pub fn fixed(&self, allowed: bool) {
        *self.1.write() = Some(allowed);
    }

    #[must_use]
    pub fn holds(&self) -> bool {
        let fixed = *self.1.read();
        fixed.unwrap_or_else(|| {
            self.0
                .read()
                .as_ref()
                .is_some_and(|leader| leader.is_valid_at(Instant::now()))
        })
    }
}

/// One kind: where it is read and how it is written.
pub struct Kind<K> {
    remote: Arc<dyn Remote<K>>,
    pub store: Store<K>,
    through: Through<K>,
    doubts: Mutex<Option<mpsc::UnboundedReceiver<Key>>>,
}

impl<K> Kind<K> {
    /// What the watch of this kind is folded into.
    #[must_use]
    pub fn index(&self) -> Through<K> {
        self.through.clone()
    }
}

/// A kind that the provisioner writes.
pub trait Managed:
    Resource<DynamicType = (), Scope = ClusterResourceScope>
    + Clone
    + Debug
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    fn of(objects: &Objects) -> &Kind<Self>;
    /// Whether the two have the same status.
    fn same_status(&self, other: &Self) -> bool;
}

/// All kinds that the provisioner writes.
pub struct Objects {
    permit: Permit,
    pub volumes: Kind<LocalVolume>,
    pub replicas: Kind<LocalVolumeReplica>,
    pub groups: Kind<LocalVolumeGroup>,
    pub expansions: Kind<LocalVolumeExpand>,
    pub disk_claims: Kind<LocalDiskClaim>,
}

macro_rules! managed {
    ($($kind:ty => $field:ident),* $(,)?) => {
        $(impl Managed for $kind {
            fn of(objects: &Objects) -> &Kind<Self> {
                &objects.$field
            }

            fn same_status(&self, other: &Self) -> bool {
                self.status == other.status
            }
        })*
    };
}

managed! {
    LocalVolume => volumes,
    LocalVolumeReplica => replicas,
    LocalVolumeGroup => groups,
    LocalVolumeExpand => expansions,
    LocalDiskClaim => disk_claims,
}

/// Whether an object can have this name (a DNS subdomain); what can't is not there.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().copied().all(inner)
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl<K> Kind<K>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Send + Sync + 'static,
{
    /// On `remote`, folded into what `index` makes of the store.
    pub fn new(
        remote: Arc<dyn Remote<K>>,
        index: impl FnOnce(Store<K>) -> Arc<dyn Index<K>>,
    ) -> Self {
        let store = Store::new();
        let (through, doubts) = Through::new(index(store.clone()));
        Self {
            remote,
            store,
            through,
            doubts: Mutex::new(Some(doubts)),
        }
    }

    /// Resolves doubts of the index (see [`Through::new`]) by asking the server. Ends with the index; to be called once.
    pub fn resolve_doubts(&self) -> impl Future<Output = ()> + Send + 'static {
        let (doubts, through) = (self.doubts.lock().take(), self.through.clone());
        let remote = self.remote.clone();
        async move {
            let Some(mut doubts) = doubts else { return };
            while let Some(key) = doubts.recv().await {
                let known = through.known(&key);
                match remote.get(&key.name).await {
                    Ok(Some(object)) => drop(through.confirmed(object)),
                    Ok(None) => through.absent(&key, known),
                    Err(error) => {
                        tracing::warn!(object = %key, %error, "can't tell whether the object exists");
                    }
                }
            }
        }
    }
}

impl Objects {
    #[must_use]
    pub fn new(
        permit: Permit,
        volumes: Kind<LocalVolume>,
        replicas: Kind<LocalVolumeReplica>,
        groups: Kind<LocalVolumeGroup>,
        expansions: Kind<LocalVolumeExpand>,
        disk_claims: Kind<LocalDiskClaim>,
    ) -> Self {
        Self {
            permit,
            volumes,
            replicas,
            groups,
            expansions,
            disk_claims,
        }
    }

    #[must_use]
    pub fn may_write(&self) -> bool {
        self.permit.holds()
    }

    fn check(&self) -> Result<(), WriteError> {
        if self.permit.holds() {
            Ok(())
        } else {
            Err(WriteError::NotLeader)
        }
    }

    /// The object as the server has it now.
    pub async fn read<K: Managed>(&self, name: &str) -> Result<Option<K>, WriteError> {
        // Names come from callers, and become a part of the URL: `../other` would be another object.
        if !is_object_name(name) {
            return Ok(None);
        }
        let (kind, key) = (K::of(self), Key::cluster(name));
        let known = kind.through.known(&key);
        let found = kind.remote.get(name).await?;
        match &found {
            Some(object) => drop(kind.through.confirmed(object.clone())),
            None if kind.store.get(name).is_some() => kind.through.absent(&key, known),
            None => {}
        }
        Ok(found)
    }

    /// Creates the object; [`WriteError::Exists`] if there is one of its name.
    pub async fn create<K: Managed>(&self, object: &K) -> Result<K, WriteError> {
        self.check()?;
        let kind = K::of(self);
        let created = kind.remote.create(object).await?;
        kind.through.confirmed(created.clone());
        Ok(created)
    }

    /// Makes a change to the object as it was seen; a conflict if it is not so any more, no call if the change changes nothing.
    pub async fn change<K: Managed>(
        &self,
        seen: &K,
        change: impl FnOnce(&mut K),
    ) -> Result<K, WriteError> {
        let mut wanted = seen.clone();
        change(&mut wanted);
        if *seen == wanted {
            return Ok(wanted);
        }
        self.send(seen, &wanted, Part::Object).await
    }

    /// As [`Objects::change`], for the status.
    pub async fn change_status<K: Managed>(
        &self,
        seen: &K,
        change: impl FnOnce(&mut K),
    ) -> Result<K, WriteError> {
        let mut wanted = seen.clone();
        change(&mut wanted);
        if seen.same_status(&wanted) {
            return Ok(wanted);
        }
        self.send(seen, &wanted, Part::Status).await
    }

    async fn send<K: Managed>(&self, seen: &K, wanted: &K, part: Part) -> Result<K, WriteError> {
        self.check()?;
        let (kind, key) = (K::of(self), Key::of(seen));
        let known = kind.through.known(&key);
        match kind.remote.change(seen, wanted, part).await {
            Ok(written) => {
                self.fold(&written);
                Ok(written)
            }
            Err(error) => {
                // The index may have it from an answer that its deletion had overtaken.
                if matches!(error, WriteError::Gone { .. }) {
                    kind.through.absent(&key, known);
                }
                Err(error)
            }
        }
    }

    /// Folds in an answer; an object that was marked for deletion and has lost its last finalizer is gone with that answer.
    fn fold<K: Managed>(&self, object: &K) {
        let kind = K::of(self);
        if object.meta().deletion_timestamp.is_some() && object.finalizers().is_empty() {
            kind.through.removed(&Key::of(object), Some(object));
        } else {
            kind.through.wrote(object.clone());
        }
    }

    /// Asks for the object's deletion; one that has finalizers stays for now. Fine if it is gone already.
    pub async fn delete<K: Managed>(&self, seen: &K) -> Result<(), WriteError> {
        self.delete_exactly(seen, Exactly::ThisObject).await
    }

    /// As [`Objects::delete`], with a choice of what counts as the same.
    pub async fn delete_exactly<K: Managed>(
        &self,
        seen: &K,
        exactly: Exactly,
    ) -> Result<(), WriteError> {
        self.check()?;
        let kind = K::of(self);
        let key = Key::cluster(seen.name_any());
        match kind.remote.delete(seen, exactly).await {
            Ok(Some(left)) => kind.through.wrote(left),
            Ok(None) | Err(WriteError::Gone { .. }) => kind.through.removed(&key, Some(seen)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
