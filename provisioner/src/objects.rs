//! The only way to write to the API server: checks that we still lead, writes, and folds the answer into the indexes at once.
//!
//! Every error names the verb and the object. Conflicts are not retried here: whoever decided decides anew.

use std::{fmt::Debug, sync::Arc};

use hawser_api::{
    LocalDiskClaim, LocalVolume, LocalVolumeExpand, LocalVolumeGroup, LocalVolumeReplica,
};
use hawser_runtime::{
    error::Category, index::Key, lease::Leader, patch::merge_diff, store::Store, telemetry::chain,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::ClusterResourceScope,
};
use parking_lot::RwLock;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use crate::through::Through;

/// Why a write did not happen, or is not known to have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("this provisioner does not lead (any more); another one will carry on")]
    NotLeader,
    #[error("{what} changed meanwhile; trying again decides anew")]
    Conflict { what: String },
    #[error("{what} exists already")]
    Exists { what: String },
    #[error("{what} does not exist any more")]
    Gone { what: String },
    #[error("the API server did not answer in time to: {what}")]
    TimedOut { what: String },
    #[error("the API server can't be asked to {what} now: {why}")]
    Unavailable { what: String, why: String },
    #[error("the API server refused to {what}: {why}")]
    Rejected { what: String, why: String },
}

impl WriteError {
    fn of(error: &kube::Error, verb: &str, object: &str) -> Self {
        let what = format!("{verb} {object}");
        let why = || chain(error).to_string();
        match Category::of_kube(error) {
            Category::NotFound => Self::Gone {
                what: object.to_owned(),
            },
            Category::AlreadyExists => Self::Exists {
                what: object.to_owned(),
            },
            Category::Conflict => Self::Conflict {
                what: object.to_owned(),
            },
            Category::Timeout => Self::TimedOut { what },
            Category::Unavailable => Self::Unavailable { what, why: why() },
            Category::Invalid
            | Category::Unsupported
            | Category::Precondition
            | Category::NoRoom
            | Category::Denied
            | Category::Device
            | Category::Internal => Self::Rejected { what, why: why() },
        }
    }
}

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
    pub api: Api<K>,
    pub store: Store<K>,
    through: Through<K>,
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
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    fn of(objects: &Objects) -> &Kind<Self>;
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

fn named<K: Managed>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

impl<K> Kind<K>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    /// Doubts of the index (see [`Through::new`]) are resolved by asking the server, in a task that ends with the index.
    pub fn new(
        client: &Client,
        index: impl FnOnce(Store<K>) -> Arc<dyn hawser_runtime::index::Index<K>>,
    ) -> Self {
        let store = Store::new();
        let (through, doubts) = Through::new(index(store.clone()));
        let api: Api<K> = Api::all(client.clone());
        tokio::spawn(resolve(api.clone(), through.clone(), doubts));
        Self {
            api,
            store,
            through,
        }
    }
}

async fn resolve<K>(api: Api<K>, through: Through<K>, mut doubts: mpsc::UnboundedReceiver<Key>)
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    while let Some(key) = doubts.recv().await {
        match api.get_opt(&key.name).await {
            Ok(Some(object)) => drop(through.confirmed(object)),
            Ok(None) => through.removed(&key, None),
            Err(error) => {
                tracing::warn!(object = %key, error = %chain(&error), "can't tell whether the object exists");
            }
        }
    }
}

/// Which part of an object a patch is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Object,
    Status,
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
        let kind = K::of(self);
        let found = kind
            .api
            .get_opt(name)
            .await
            .map_err(|e| WriteError::of(&e, "read", &named::<K>(name)))?;
        match &found {
            Some(object) => drop(kind.through.confirmed(object.clone())),
            None if kind.store.get(name).is_some() => {
                kind.through.removed(&Key::cluster(name), None);
            }
            None => {}
        }
        Ok(found)
    }

    /// Creates the object; [`WriteError::Exists`] if there is one of its name.
    pub async fn create<K: Managed>(&self, object: &K) -> Result<K, WriteError> {
        self.check()?;
        let kind = K::of(self);
        let name = object.name_any();
        let created = kind.api.create(&PostParams::default(), object).await;
        let created = created.map_err(|e| WriteError::of(&e, "create", &named::<K>(&name)))?;
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
        self.send(seen, &wanted, Part::Status).await
    }

    async fn send<K: Managed>(&self, seen: &K, wanted: &K, part: Part) -> Result<K, WriteError> {
        let name = seen.name_any();
        let value = |object: &K| -> Result<Value, WriteError> {
            let broken = |e: serde_json::Error| WriteError::Rejected {
                what: format!("write {}", named::<K>(&name)),
                why: e.to_string(),
            };
            let mut value = serde_json::to_value(object).map_err(broken)?;
            if part == Part::Status {
                value =
                    json!({ "status": value.get("status").cloned().unwrap_or_else(|| json!({})) });
            }
            Ok(value)
        };
        // A status that was never written differs from an empty one.
        let Some(mut patch) = merge_diff(&value(seen)?, &value(wanted)?) else {
            return Ok(seen.clone());
        };
        self.check()?;
        patch["metadata"]["resourceVersion"] = json!(seen.resource_version());
        let kind = K::of(self);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let written = match part {
            Part::Object => kind.api.patch(&name, &params, &patch).await,
            Part::Status => kind.api.patch_status(&name, &params, &patch).await,
        };
        let written = written.map_err(|e| WriteError::of(&e, "change", &named::<K>(&name)))?;
        self.fold(&written);
        Ok(written)
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
        self.check()?;
        let kind = K::of(self);
        let name = seen.name_any();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match kind.api.delete(&name, &params).await {
            Ok(answer) => {
                match answer.left() {
                    Some(object) if !object.finalizers().is_empty() => kind.through.wrote(object),
                    Some(object) => kind.through.removed(&Key::cluster(&name), Some(&object)),
                    None => kind.through.removed(&Key::cluster(&name), Some(seen)),
                }
                Ok(())
            }
            Err(error) => {
                let error = WriteError::of(&error, "delete", &named::<K>(&name));
                if matches!(error, WriteError::Gone { .. }) {
                    kind.through.removed(&Key::cluster(&name), Some(seen));
                    return Ok(());
                }
                Err(error)
            }
        }
    }
}
