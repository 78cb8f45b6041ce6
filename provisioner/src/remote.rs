//! What is asked of the API server, behind two narrow traits: so a test can put a server of its own there, with answers that are
//! lost, late, or never come. Owns the mapping of errors; decides nothing and keeps nothing.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use hawser_api::{
    LocalDiskClaim, LocalVolume, LocalVolumeExpand, LocalVolumeGroup, LocalVolumeReplica,
    names::leases,
};
use hawser_runtime::{error::Category, patch::merge_diff, telemetry::chain};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::ClusterResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Why a call did not succeed, or is not known to have succeeded.
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

    /// Whether the call may have been carried out all the same, or may still be: its answer did not come.
    #[must_use]
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Unavailable { .. } => true,
            Self::NotLeader
            | Self::Conflict { .. }
            | Self::Exists { .. }
            | Self::Gone { .. }
            | Self::Rejected { .. } => false,
        }
    }

    /// Whether somebody else wrote the object: looked at again, it may do.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Exists { .. } | Self::Gone { .. } => true,
            Self::NotLeader
            | Self::TimedOut { .. }
            | Self::Unavailable { .. }
            | Self::Rejected { .. } => false,
        }
    }
}

/// Which part of an object a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Object,
    Status,
}

/// Which version of an object may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactly {
    /// Any version of the object that was seen.
    ThisObject,
    /// The version that was seen and no later one.
    ThisVersion,
}

/// The objects of one kind of ours, on the server.
#[async_trait]
pub trait Remote<K>: Send + Sync {
    /// The object as the server has it now.
    async fn get(&self, name: &str) -> Result<Option<K>, WriteError>;
    /// [`WriteError::Exists`] if there is one of its name.
    async fn create(&self, object: &K) -> Result<K, WriteError>;
    /// [`WriteError::Conflict`] unless the server has it as it was seen.
    async fn change(&self, seen: &K, wanted: &K, part: Part) -> Result<K, WriteError>;
    /// What is left of it: with finalizers it stays, marked. [`WriteError::Gone`] if it is not there.
    async fn delete(&self, seen: &K, exactly: Exactly) -> Result<Option<K>, WriteError>;
}

/// What else is asked: objects of Kubernetes that are read when a decision depends on them, and the lease that says whose
/// reservations count.
#[async_trait]
pub trait Outside: Send + Sync {
    async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PersistentVolumeClaim>, WriteError>;
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, WriteError>;
    /// The pods of the namespace that have no node yet.
    async fn waiting_pods(&self, namespace: &str) -> Result<Vec<Pod>, WriteError>;
    async fn persistent_exists(&self, name: &str) -> Result<bool, WriteError>;
    async fn node_exists(&self, name: &str) -> Result<bool, WriteError>;
    /// The lease [`leases::RESERVATIONS`].
    async fn reservations(&self) -> Result<Option<Lease>, WriteError>;
    /// Creates it if `lease` has no resourceVersion, else replaces that version; [`WriteError::is_overtaken`] if it is another.
    async fn write_reservations(&self, lease: &Lease) -> Result<Lease, WriteError>;
}

/// All of it.
#[derive(Clone)]
pub struct Remotes {
    pub volumes: Arc<dyn Remote<LocalVolume>>,
    pub replicas: Arc<dyn Remote<LocalVolumeReplica>>,
    pub groups: Arc<dyn Remote<LocalVolumeGroup>>,
    pub expansions: Arc<dyn Remote<LocalVolumeExpand>>,
    pub disk_claims: Arc<dyn Remote<LocalDiskClaim>>,
    pub outside: Arc<dyn Outside>,
}

impl Remotes {
    /// The API server that `client` is connected to; leases of ours are in `namespace`.
    #[must_use]
    pub fn of(client: &Client, namespace: &str) -> Self {
        Self {
            volumes: Arc::new(Kube::new(client)),
            replicas: Arc::new(Kube::new(client)),
            groups: Arc::new(Kube::new(client)),
            expansions: Arc::new(Kube::new(client)),
            disk_claims: Arc::new(Kube::new(client)),
            outside: Arc::new(KubeOutside {
                client: client.clone(),
                namespace: namespace.to_owned(),
            }),
        }
    }
}

struct Kube<K>(Api<K>);

impl<K: Resource<DynamicType = (), Scope = ClusterResourceScope>> Kube<K> {
    fn new(client: &Client) -> Self {
        Self(Api::all(client.clone()))
    }
}

pub(crate) fn named<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

/// The merge patch from one to the other; `None` if nothing differs in that part.
fn patch<K: Serialize + Resource<DynamicType = ()>>(
    seen: &K,
    wanted: &K,
    part: Part,
) -> Result<Option<Value>, WriteError> {
    let name = seen.name_any();
    let value = |object: &K| -> Result<Value, WriteError> {
        let broken = |e: serde_json::Error| WriteError::Rejected {
            what: format!("write {}", named::<K>(&name)),
            why: e.to_string(),
        };
        let mut value = serde_json::to_value(object).map_err(broken)?;
        if part == Part::Status {
            value = json!({ "status": value.get("status").cloned().unwrap_or_else(|| json!({})) });
        }
        Ok(value)
    };
    // A status that was never written differs from an empty one.
    let patch = merge_diff(&value(seen)?, &value(wanted)?);
    Ok(patch.map(|mut patch| {
        patch["metadata"]["resourceVersion"] = json!(seen.resource_version());
        patch
    }))
}

#[async_trait]
impl<K> Remote<K> for Kube<K>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    async fn get(&self, name: &str) -> Result<Option<K>, WriteError> {
        let found = self.0.get_opt(name).await;
        found.map_err(|e| WriteError::of(&e, "read", &named::<K>(name)))
    }

    async fn create(&self, object: &K) -> Result<K, WriteError> {
        let created = self.0.create(&PostParams::default(), object).await;
        created.map_err(|e| WriteError::of(&e, "create", &named::<K>(&object.name_any())))
    }

    async fn change(&self, seen: &K, wanted: &K, part: Part) -> Result<K, WriteError> {
        let name = seen.name_any();
        let Some(patch) = patch(seen, wanted, part)? else {
            return Ok(seen.clone());
        };
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let written = match part {
            Part::Object => self.0.patch(&name, &params, &patch).await,
            Part::Status => self.0.patch_status(&name, &params, &patch).await,
        };
        written.map_err(|e| WriteError::of(&e, "change", &named::<K>(&name)))
    }

    async fn delete(&self, seen: &K, exactly: Exactly) -> Result<Option<K>, WriteError> {
        let name = seen.name_any();
        let resource_version = match exactly {
            Exactly::ThisObject => None,
            Exactly::ThisVersion => seen.resource_version(),
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version,
            }),
            ..DeleteParams::default()
        };
        let answer = self.0.delete(&name, &params).await;
        let answer = answer.map_err(|e| WriteError::of(&e, "delete", &named::<K>(&name)))?;
        Ok(answer.left().filter(|left| !left.finalizers().is_empty()))
    }
}

struct KubeOutside {
    client: Client,
    /// Of the lease.
    namespace: String,
}

fn unavailable(what: String) -> impl FnOnce(kube::Error) -> WriteError {
    move |error| WriteError::Unavailable {
        what,
        why: chain(&error).to_string(),
    }
}

impl KubeOutside {
    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

#[async_trait]
impl Outside for KubeOutside {
    async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<PersistentVolumeClaim>, WriteError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        found.map_err(unavailable(format!("read claim {namespace}/{name}")))
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        found.map_err(unavailable(format!("read pod {namespace}/{name}")))
    }

    async fn waiting_pods(&self, namespace: &str) -> Result<Vec<Pod>, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let listed = api.list(&ListParams::default().fields(WAITING)).await;
        let listed = listed.map_err(unavailable(format!("list the pods of {namespace}")))?;
        Ok(listed.items)
    }

    async fn persistent_exists(&self, name: &str) -> Result<bool, WriteError> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let found = api.get_metadata_opt(name).await;
        let found = found.map_err(unavailable(format!("read PersistentVolume {name}")))?;
        Ok(found.is_some())
    }

    async fn node_exists(&self, name: &str) -> Result<bool, WriteError> {
        let api: Api<Node> = Api::all(self.client.clone());
        let found = api.get_metadata_opt(name).await;
        let found = found.map_err(unavailable(format!("read Node {name}")))?;
        Ok(found.is_some())
    }

    async fn reservations(&self) -> Result<Option<Lease>, WriteError> {
        let found = self.leases().get_opt(leases::RESERVATIONS).await;
        found.map_err(|e| WriteError::of(&e, "read", &named::<Lease>(leases::RESERVATIONS)))
    }

    async fn write_reservations(&self, lease: &Lease) -> Result<Lease, WriteError> {
        let (api, params) = (self.leases(), PostParams::default());
        let written = if lease.resource_version().is_some() {
            api.replace(leases::RESERVATIONS, &params, lease).await
        } else {
            api.create(&params, lease).await
        };
        written.map_err(|e| WriteError::of(&e, "write", &named::<Lease>(leases::RESERVATIONS)))
    }
}

/// Selects pods without a node.
pub(crate) const WAITING: &str = "spec.nodeName=";
