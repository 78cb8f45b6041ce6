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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakeApi, Fault};

    const POD: &str = "/api/v1/namespaces/ns/pods/a";
    const MAP: &str = "/api/v1/namespaces/ns/configmaps/a";

    #[tokio::test]
    async fn a_status_is_sent_only_if_different_and_fields_unknown_to_us_survive() {
        let server = FakeApi::new();
        server.put(POD, json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"phase": "Pending", "fromTheFuture": 1}}));
        let api: Api<Pod> = Api::namespaced(server.client(), "ns");
        let pod = api.get("a").await.unwrap();
        let mut wanted = pod.status.clone().unwrap();
        let _ = server.calls();
        assert!(!status(&api, &pod, &wanted).await.unwrap().changed());
        assert!(server.calls().is_empty());

        wanted.phase = Some("Running".to_owned());
        let pod = status(&api, &pod, &wanted).await.unwrap().into_inner();
        let stored = server.object(POD).unwrap();
        assert_eq!(
            (
                &stored["status"]["phase"],
                &stored["status"]["fromTheFuture"]
            ),
            (&json!("Running"), &json!(1))
        );
        assert_eq!(server.calls(), [format!("PATCH {POD}/status")]);

        wanted.phase = None;
        status(&api, &pod, &wanted).await.unwrap();
        assert!(server.object(POD).unwrap()["status"].get("phase").is_none());
    }

    #[tokio::test]
    async fn a_status_computed_from_an_old_object_is_a_conflict() {
        let server = FakeApi::new();
        server.put(POD, json!({"metadata": {"name": "a", "namespace": "ns"}}));
        let api: Api<Pod> = Api::namespaced(server.client(), "ns");
        let old = api.get("a").await.unwrap();
        server.put(
            POD,
            json!({"metadata": {"name": "a", "namespace": "ns"}, "status": {"phase": "Failed"}}),
        );
        let error = status(&api, &old, &json!({"phase": "Running"}))
            .await
            .unwrap_err();
        assert_eq!(error.category(), Category::Conflict);
        assert_eq!(error.to_string(), "can't change the status of Pod a");
        assert_eq!(server.object(POD).unwrap()["status"]["phase"], "Failed");
    }

    fn set(key: &str) -> impl Fn(&mut ConfigMap) {
        move |map| {
            map.data
                .get_or_insert_default()
                .insert(key.to_owned(), "1".to_owned());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_survives_conflicts_without_losing_others_writes() {
        let server = FakeApi::new();
        server.put(MAP, json!({"metadata": {"name": "a", "namespace": "ns"}}));
        let api: Api<ConfigMap> = Api::namespaced(server.client(), "ns");
        let stale = api.get("a").await.unwrap();
        update(&api, "a", None, set("theirs")).await.unwrap();
        let map = update(&api, "a", Some(stale), set("ours")).await.unwrap();
        assert!(map.changed());
        assert_eq!(map.into_inner().data.unwrap().len(), 2);
        let _ = server.calls();
        assert!(
            !update(&api, "a", None, set("ours"))
                .await
                .unwrap()
                .changed()
        );
        assert_eq!(server.calls(), [format!("GET {MAP}")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_gives_up_after_some_conflicts_and_at_once_on_other_errors() {
        let server = FakeApi::new();
        server.put(MAP, json!({"metadata": {"name": "a", "namespace": "ns"}}));
        server.reject("PATCH", 409);
        let api: Api<ConfigMap> = Api::namespaced(server.client(), "ns");
        let error = update(&api, "a", None, set("x")).await.unwrap_err();
        assert_eq!(error.category(), Category::Conflict);
        assert_eq!(
            server
                .calls()
                .iter()
                .filter(|call| call.starts_with("PATCH"))
                .count(),
            MAX_CONFLICTS + 1
        );
        server.inject([Fault::Refuse(403)]);
        assert_eq!(
            update(&api, "a", None, set("x"))
                .await
                .unwrap_err()
                .category(),
            Category::Denied
        );
        assert_eq!(server.calls().len(), 1);
    }

    #[test]
    fn finalizers_are_a_set() {
        let mut pod = Pod::default();
        add_finalizer(&mut pod, "a/b");
        add_finalizer(&mut pod, "a/b");
        assert_eq!(pod.finalizers(), ["a/b"]);
        remove_finalizer(&mut pod, "a/b");
        assert!(pod.finalizers().is_empty());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// As the API server merges, by RFC 7386.
    fn merged(target: &Value, patch: &Value) -> Value {
        let Value::Object(fields) = patch else {
            return patch.clone();
        };
        let mut result = target.as_object().cloned().unwrap_or_default();
        for (key, value) in fields {
            if value.is_null() {
                result.remove(key);
            } else {
                let present = result.get(key).cloned().unwrap_or(Value::Null);
                result.insert(key.clone(), merged(&present, value));
            }
        }
        Value::Object(result)
    }

    /// Nulls inside of objects mean "not there".
    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let kept = map.iter().filter(|(_, value)| !value.is_null());
                Value::Object(
                    kept.map(|(key, value)| (key.clone(), without_nulls(value)))
                        .collect(),
                )
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => value.clone(),
        }
    }

    proptest! {
        #[test]
        fn the_difference_applied_gives_what_was_wanted(from in json_value(), to in json_value()) {
            prop_assume!(from.is_object() && to.is_object());
            let result = merge_diff(&from, &to).map_or(from.clone(), |patch| merged(&from, &patch));
            prop_assert_eq!(without_nulls(&result), without_nulls(&to));
            prop_assert_eq!(merge_diff(&to, &to), None);
        }
    }
}
