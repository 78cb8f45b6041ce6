//! Writing objects without overwriting others: merge patches of what differs, nothing when nothing differs.
//!
//! Patches carry only the differing fields, so fields that this version does not know survive, and the resourceVersion they were
//! computed from, so that a change made meanwhile is a conflict and not lost.

use std::fmt::Debug;

use backon::{BackoffBuilder, ExponentialBuilder};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::error::Category;

/// How often [`update`] starts again after a conflict.
const MAX_CONFLICTS: usize = 5;

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The API server refused or could not be reached.
    #[error("can't {verb} {kind} {name}")]
    Api {
        /// `read`, `change` or `change the status of`.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What the client says.
        #[source]
        source: kube::Error,
    },
    /// The value can't be written as JSON: a defect of ours.
    #[error("{kind} {name} can't be written as JSON")]
    Json {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

impl PatchError {
    /// What kind of failure this is.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Api { source, .. } => Category::of_kube(source),
            Self::Json { .. } => Category::Internal,
        }
    }
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub enum Written<K> {
    /// It was so already; nothing was sent.
    Unchanged(K),
    /// The object as it is now.
    Changed(K),
}

impl<K> Written<K> {
    /// The object as it is now.
    pub fn into_inner(self) -> K {
        match self {
            Self::Unchanged(object) | Self::Changed(object) => object,
        }
    }

    /// Whether something was sent.
    pub fn changed(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}

/// The JSON merge patch (RFC 7386) that turns `from` into `to`; `None` if they are equal.
///
/// In objects, a null or missing field is the same. Lists are replaced as a whole.
#[must_use]
pub fn merge_diff(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let mut patch = Map::new();
    for key in from
        .keys()
        .filter(|key| !from[*key].is_null() && to.get(*key).is_none_or(Value::is_null))
    {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, wanted) in to.iter().filter(|(_, value)| !value.is_null()) {
        match from.get(key).filter(|value| !value.is_null()) {
            None => {
                patch.insert(key.clone(), wanted.clone());
            }
            Some(present) => {
                if let Some(difference) = merge_diff(present, wanted) {
                    patch.insert(key.clone(), difference);
                }
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Makes the status subresource of `current` equal to `wanted`. Sends nothing if it is.
///
/// If the object has changed meanwhile this is a [`Category::Conflict`]: whoever owns the status decides anew on the new object.
pub async fn status<K, S>(api: &Api<K>, current: &K, wanted: &S) -> Result<Written<K>, PatchError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    S: Serialize,
{
    let wanted = serde_json::to_value(wanted).map_err(|source| json_error(current, source))?;
    let object = serde_json::to_value(current).map_err(|source| json_error(current, source))?;
    let present = object.get("status").cloned().unwrap_or(Value::Null);
    let difference = match (&present, &wanted) {
        (Value::Null, Value::Object(_)) => merge_diff(&json!({}), &wanted),
        _ => merge_diff(&present, &wanted),
    };
    let Some(difference) = difference else {
        return Ok(Written::Unchanged(current.clone()));
    };
    let patch = versioned(current, json!({ "status": difference }));
    let name = current.name_any();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(Written::Changed)
        .map_err(|source| api_error::<K>("change the status of", &name, source))
}

/// Applies `change` to the object called `name` and writes what differs, outside of the status subresource.
///
/// `seen` spares the first read. After a conflict the object is read again and `change` applied anew, at most five times;
/// so `change` may run several times and decides each time on the object that it gets.
pub async fn update<K>(
    api: &Api<K>,
    name: &str,
    seen: Option<K>,
    change: impl Fn(&mut K),
) -> Result<Written<K>, PatchError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(std::time::Duration::from_millis(20))
        .with_max_times(MAX_CONFLICTS)
        .with_jitter()
        .build();
    let mut seen = seen;
    loop {
        let current = match seen.take() {
            Some(object) => object,
            None => api
                .get(name)
                .await
                .map_err(|source| api_error::<K>("read", name, source))?,
        };
        let mut wanted = current.clone();
        change(&mut wanted);
        let from = serde_json::to_value(&current).map_err(|source| json_error(&current, source))?;
        let to = serde_json::to_value(&wanted).map_err(|source| json_error(&current, source))?;
        let Some(difference) = merge_diff(&from, &to) else {
            return Ok(Written::Unchanged(current));
        };
        let patch = versioned(&current, difference);
        match api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(object) => return Ok(Written::Changed(object)),
            Err(source) => match (Category::of_kube(&source), pauses.next()) {
                (Category::Conflict, Some(pause)) => tokio::time::sleep(pause).await,
                _ => return Err(api_error::<K>("change", name, source)),
            },
        }
    }
}

/// Adds a finalizer, if it is not there.
pub fn add_finalizer<K: Resource>(object: &mut K, finalizer: &str) {
    let finalizers = object.finalizers_mut();
    if !finalizers.iter().any(|present| present == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
}

/// Removes a finalizer, if it is there.
pub fn remove_finalizer<K: Resource>(object: &mut K, finalizer: &str) {
    object
        .finalizers_mut()
        .retain(|present| present != finalizer);
}

/// Adds the resourceVersion of `current`, which makes the server refuse the patch if the object has changed.
fn versioned<K: Resource>(current: &K, mut patch: Value) -> Value {
    if let Some(version) = current.resource_version() {
        patch["metadata"]["resourceVersion"] = Value::String(version);
    }
    patch
}

fn api_error<K: Resource<DynamicType = ()>>(
    verb: &'static str,
    name: &str,
    source: kube::Error,
) -> PatchError {
    PatchError::Api {
        verb,
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source,
    }
}

fn json_error<K: Resource<DynamicType = ()>>(object: &K, source: serde_json::Error) -> PatchError {
    PatchError::Json {
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        source,
    }
}
