//! An API server in memory, for unit tests: keeps objects with resourceVersions, refuses stale writes, fails when told to.
//!
//! It knows GET, POST, PUT, merge PATCH and DELETE of objects by path, lists (without selectors), the status subresource, finalizers, and
//! generated names. It knows no schema, no watches, no server-side apply: such requests are answered with 501 and make
//! [`FakeApi::calls`] show them. It panics on its own defects only, since it runs in tests.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The server. Clones share one state.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    calls: Vec<String>,
    faults: VecDeque<Fault>,
    rejects: Vec<(String, u16)>,
}

/// What happens to the next request instead of being served.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with this status and nothing done.
    Refuse(u16),
    /// Done, but the answer is this status: the client can't know.
    LoseAnswer(u16),
    /// Never answered and nothing done.
    Hang,
    /// Served, after this time.
    Delay(Duration),
}

impl FakeApi {
    /// An empty server.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client of this server; its default namespace is `default`.
    #[must_use]
    pub fn client(&self) -> Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.serve(request).await) }
        });
        Client::new(service, "default")
    }

    /// Faults for the next requests, one each.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().faults.extend(faults);
    }

    /// Answers every request whose `METHOD path` contains `text` with `status` from now on; 0 ends that.
    pub fn reject(&self, text: &str, status: u16) {
        let mut state = self.0.lock();
        state.rejects.retain(|(present, _)| present != text);
        if status != 0 {
            state.rejects.push((text.to_owned(), status));
        }
    }

    /// Puts an object at a path such as `/api/v1/namespaces/ns/pods/a`, as somebody else's write.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.0.lock();
        state.stamp(&mut object);
        state.objects.insert(path.to_owned(), object);
    }

    /// The object at a path.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(path).cloned()
    }

    /// All paths that have an object, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.0.lock().objects.keys().cloned().collect()
    }

    /// `METHOD path` of all requests since the last call of this.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().calls)
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = parts.uri.path().trim_end_matches('/').to_owned();
        let call = format!("{} {path}", parts.method);
        let (fault, reject) = {
            let mut state = self.0.lock();
            state.calls.push(call.clone());
            let reject = state
                .rejects
                .iter()
                .find(|(text, _)| call.contains(text))
                .map(|(_, status)| *status);
            (state.faults.pop_front(), reject)
        };
        if let Some(status) = reject {
            return answer(status, &failure(status, "rejected by the test"));
        }
        match fault {
            Some(Fault::Refuse(status)) => {
                return answer(status, &failure(status, "refused by the test"));
            }
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::LoseAnswer(_)) | None => {}
        }
        let content = parts
            .headers
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (status, value) = self.0.lock().handle(&parts.method, &path, content, body);
        match fault {
            Some(Fault::LoseAnswer(status)) => {
                answer(status, &failure(status, "answer lost by the test"))
            }
            _ => answer(status, &value),
        }
    }
}

impl State {
    fn stamp(&mut self, object: &mut Value) {
        self.version += 1;
        let version = self.version;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{version}"));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
    }

    fn handle(&mut self, method: &Method, path: &str, content: &str, body: Value) -> (u16, Value) {
        match *method {
            Method::GET => self.read(path),
            Method::POST => self.create(path, body),
            Method::PUT => self.write(path, &body, |_| body.clone()),
            Method::PATCH if content.contains("merge-patch") => self.write(path, &body, |old| {
                let mut new = old.clone();
                merge(&mut new, &body);
                new
            }),
            Method::DELETE => self.delete(path, &body),
            _ => (
                501,
                failure(
                    501,
                    &format!("FakeApi does not know {method} with {content}"),
                ),
            ),
        }
    }

    fn read(&self, path: &str) -> (u16, Value) {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        // Names are lower case and collections have no object of their own: a path whose parent is a known collection is a missing object.
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(at, _)| {
                collection_of(at) == path || across_namespaces(at).is_some_and(|all| all == path)
            })
            .map(|(_, object)| object)
            .collect();
        if items.is_empty() && !is_collection(path) {
            return (404, failure(404, &format!("{path} not found")));
        }
        let version = self.version.to_string();
        (
            200,
            json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    fn create(&mut self, path: &str, mut object: Value) -> (u16, Value) {
        if object["metadata"]["name"].is_null()
            && let Some(prefix) = object["metadata"]["generateName"].as_str()
        {
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.version + 1));
        }
        let Some(name) = object["metadata"]["name"].as_str() else {
            return (422, failure(422, "name is required"));
        };
        let at = format!("{path}/{name}");
        if self.objects.contains_key(&at) {
            let mut status = failure(409, &format!("{at} already exists"));
            status["reason"] = json!("AlreadyExists");
            return (409, status);
        }
        if let Some(namespace) = path
            .split("/namespaces/")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
        {
            object["metadata"]["namespace"] = json!(namespace);
        }
        self.stamp(&mut object);
        self.objects.insert(at, object.clone());
        (201, object)
    }

    fn write(&mut self, path: &str, body: &Value, new: impl Fn(&Value) -> Value) -> (u16, Value) {
        let (at, status_only) = match path.strip_suffix("/status") {
            Some(at) => (at, true),
            None => (path, false),
        };
        let Some(old) = self.objects.get(at).cloned() else {
            return (404, failure(404, &format!("{at} not found")));
        };
        let asked = &body["metadata"]["resourceVersion"];
        if !asked.is_null() && *asked != old["metadata"]["resourceVersion"] {
            return (409, failure(409, "the object has been modified"));
        }
        let wanted = new(&old);
        let mut object = if status_only {
            old.clone()
        } else {
            wanted.clone()
        };
        if status_only {
            object["status"] = wanted["status"].clone();
        }
        if object == old {
            return (200, object);
        }
        self.stamp(&mut object);
        let finalized = object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty);
        if finalized && !object["metadata"]["deletionTimestamp"].is_null() {
            self.objects.remove(at);
        } else {
            self.objects.insert(at.to_owned(), object.clone());
        }
        (200, object)
    }

    fn delete(&mut self, path: &str, options: &Value) -> (u16, Value) {
        let Some(mut object) = self.objects.get(path).cloned() else {
            return (404, failure(404, &format!("{path} not found")));
        };
        for field in ["uid", "resourceVersion"] {
            let asked = &options["preconditions"][field];
            if !asked.is_null() && *asked != object["metadata"][field] {
                return (409, failure(409, &format!("precondition failed: {field}")));
            }
        }
        if object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            self.objects.remove(path);
        } else {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
            self.stamp(&mut object);
            self.objects.insert(path.to_owned(), object.clone());
        }
        (200, object)
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn collection_of(path: &str) -> &str {
    path.rsplit_once('/')
        .map_or("", |(collection, _)| collection)
}

/// `/apis/g/v/namespaces/ns/things/a` is also listed at `/apis/g/v/things`.
fn across_namespaces(path: &str) -> Option<String> {
    let (root, rest) = collection_of(path).split_once("/namespaces/")?;
    let (_, kind) = rest.split_once('/')?;
    Some(format!("{root}/{kind}"))
}

/// `/api/v1/things`, `/apis/g/v/things`, and the same with `namespaces/ns/` before the last part.
fn is_collection(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (["api", _, rest @ ..] | ["apis", _, _, rest @ ..]) = parts.as_slice() else {
        return false;
    };
    matches!(rest, [_] | ["namespaces", _, _])
}

fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        _ => "Unknown",
    };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message })
}

fn answer(status: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string().into_bytes()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, ListParams, PostParams},
    };

    use super::*;

    fn a_map(name: &str) -> ConfigMap {
        serde_json::from_value(json!({ "metadata": { "name": name, "finalizers": ["test/keep"] } }))
            .unwrap()
    }

    #[tokio::test]
    async fn stale_writes_are_refused_and_finalizers_hold_objects() {
        let server = FakeApi::new();
        let api: Api<ConfigMap> = Api::namespaced(server.client(), "ns");
        let first = api
            .create(&PostParams::default(), &a_map("a"))
            .await
            .unwrap();
        let mut second = first.clone();
        second.data = Some([("k".to_owned(), "v".to_owned())].into());
        second = api
            .replace("a", &PostParams::default(), &second)
            .await
            .unwrap();
        let stale = api
            .replace(
                "a",
                &PostParams::default(),
                &ConfigMap {
                    data: None,
                    ..first
                },
            )
            .await;
        assert!(matches!(stale, Err(kube::Error::Api(status)) if status.code == 409));

        api.delete("a", &DeleteParams::default()).await.unwrap();
        let mut held = api.get("a").await.unwrap();
        assert!(held.metadata.deletion_timestamp.is_some());
        assert_ne!(
            held.metadata.resource_version,
            second.metadata.resource_version
        );
        held.metadata.finalizers = None;
        api.replace("a", &PostParams::default(), &held)
            .await
            .unwrap();
        assert!(api.get_opt("a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn lists_are_of_one_namespace_or_of_all() {
        let server = FakeApi::new();
        for namespace in ["one", "two"] {
            let api: Api<ConfigMap> = Api::namespaced(server.client(), namespace);
            api.create(&PostParams::default(), &a_map("a"))
                .await
                .unwrap();
            assert_eq!(
                api.list(&ListParams::default()).await.unwrap().items.len(),
                1
            );
        }
        let all: Api<ConfigMap> = Api::all(server.client());
        assert_eq!(
            all.list(&ListParams::default()).await.unwrap().items.len(),
            2
        );
    }
}
