//! An API server in memory: create, get, list, watch, replace, patch, delete with resourceVersions, finalizers and
//! status subresources, as a tower service below `kube::Client`. It can refuse calls, lose answers, and stop answering at a
//! chosen write, which is how a crash between two steps is made.
//!
//! What it does not do: schema validation, defaulting, field management, admission.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::bytes::Bytes;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Where an object lies: the collection's path without the namespace (`apis/hwameistor.io/v1alpha1/localvolumes`), the
/// namespace (empty for cluster scope) and the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) collection: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One call that reached the server.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) place: Place,
    pub(crate) subresource: String,
    pub(crate) body: Value,
}

impl Call {
    pub(crate) fn is_write(&self) -> bool {
        matches!(
            self.verb,
            "create" | "replace" | "patch" | "delete" | "deletecollection"
        )
    }

    /// Whether it tells waiting pods that there is room, which a provisioner does once when it begins to lead.
    pub(crate) fn wakes(&self) -> bool {
        self.plural() == "csidrivers"
    }

    /// The plural of the kind, e.g. `localvolumes`.
    pub(crate) fn plural(&self) -> &str {
        self.place.collection.rsplit('/').next().unwrap_or_default()
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Carried out and answered.
    Served,
    /// Not carried out; answered with this status code.
    Refused(u16),
    /// Carried out; the answer is this status code.
    AnswerLost(u16),
    /// Not carried out, and never answered: the caller is about to be killed.
    Silence,
}

type Judge = Box<dyn FnMut(&Call) -> Fate + Send>;

struct Watcher {
    collection: String,
    namespace: String,
    sender: mpsc::UnboundedSender<Value>,
}

struct State {
    version: u64,
    uid: u64,
    objects: BTreeMap<Place, Value>,
    history: Vec<(u64, Place, &'static str, Value)>,
    watchers: Vec<Watcher>,
    calls: Vec<Call>,
    judge: Option<Judge>,
}

/// The server. Clones share the same objects.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                version: 1,
                uid: 0,
                objects: BTreeMap::new(),
                history: Vec::new(),
                watchers: Vec::new(),
                calls: Vec::new(),
                judge: None,
            })),
            changed: Arc::new(watch::channel(0).0),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Decides the fate of every later call.
    pub(crate) fn judge(&self, judge: impl FnMut(&Call) -> Fate + Send + 'static) {
        self.lock().judge = Some(Box::new(judge));
    }

    /// Serves every later call.
    pub(crate) fn serve_all(&self) {
        self.lock().judge = None;
    }

    /// Everything that was asked so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub(crate) fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    /// Tells of every change of any object.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Ends all watches, as an API server that restarts does.
    pub(crate) fn drop_watches(&self) {
        self.lock().watchers.clear();
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.list(plural)
            .into_iter()
            .find(|o| o["metadata"]["name"] == name && text(o, "namespace") == namespace)
    }

    /// All objects of a kind, by name.
    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        self.lock()
            .objects
            .iter()
            .filter(|(place, _)| place.collection.rsplit('/').next() == Some(plural))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Puts an object (as a user or another component would), or replaces it.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        let place = Place {
            collection: collection.to_owned(),
            namespace: text(&object, "namespace").to_owned(),
            name: text(&object, "name").to_owned(),
        };
        let mut state = self.lock();
        match state.objects.get(&place) {
            Some(old) => {
                for key in ["uid", "creationTimestamp"] {
                    if object["metadata"][key].is_null() {
                        object["metadata"][key] = old["metadata"][key].clone();
                    }
                }
                state.store(place, object);
            }
            None => {
                state.insert(place, object);
            }
        }
        drop(state);
        self.notify();
    }

    /// Changes an object in place; false if it is not there.
    pub(crate) fn edit(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let mut state = self.lock();
        let found = state.objects.iter().find(|(place, _)| {
            place.collection.rsplit('/').next() == Some(plural)
                && place.namespace == namespace
                && place.name == name
        });
        let Some((place, object)) = found.map(|(place, object)| (place.clone(), object.clone()))
        else {
            return false;
        };
        let mut object = object;
        change(&mut object);
        state.store(place, object);
        drop(state);
        self.notify();
        true
    }

    /// `kubectl delete`: with finalizers the object stays and is marked.
    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.lock();
        let place = state
            .objects
            .keys()
            .find(|p| {
                p.collection.rsplit('/').next() == Some(plural)
                    && p.namespace == namespace
                    && p.name == name
            })
            .cloned();
        if let Some(place) = place {
            state.delete(&place);
        }
        drop(state);
        self.notify();
    }

    fn notify(&self) {
        let version = self.lock().version;
        self.changed.send_replace(version);
    }

    async fn serve(self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap_or_default();
        let query: BTreeMap<String, String> =
            form_urlencoded(parts.uri.query().unwrap_or_default());
        let Some((place, subresource)) = parse_path(parts.uri.path()) else {
            return failure(StatusCode::NOT_FOUND, "NotFound", "no such path");
        };
        let watching = query.get("watch").is_some_and(|v| v == "true");
        let verb = match (&parts.method, place.name.is_empty(), watching) {
            (&Method::GET, true, true) => "watch",
            (&Method::GET, true, false) => "list",
            (&Method::GET, false, _) => "get",
            (&Method::POST, ..) => "create",
            (&Method::PUT, ..) => "replace",
            (&Method::PATCH, ..) => "patch",
            (&Method::DELETE, true, _) => "deletecollection",
            _ => "delete",
        };
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let call = Call {
            verb,
            place,
            subresource,
            body,
        };
        let fate = {
            let mut state = self.lock();
            let fate = state
                .judge
                .as_mut()
                .map_or(Fate::Served, |judge| judge(&call));
            state.calls.push(call.clone());
            fate
        };
        match fate {
            Fate::Served => self.carry_out(&call, &query, &parts),
            Fate::Refused(code) => failure(code_of(code), "Injected", "refused by the test"),
            Fate::AnswerLost(code) => {
                let _ = self.carry_out(&call, &query, &parts);
                failure(
                    code_of(code),
                    "Injected",
                    "carried out, answer lost by the test",
                )
            }
            Fate::Silence => std::future::pending().await,
        }
    }

    fn carry_out(
        &self,
        call: &Call,
        query: &BTreeMap<String, String>,
        parts: &http::request::Parts,
    ) -> Answer {
        let mut state = self.lock();
        let before = state.version;
        let answer = match call.verb {
            "watch" => state.watch(call, query),
            "list" => state.list(call, query),
            "get" => match state.objects.get(&call.place) {
                Some(object) => success(StatusCode::OK, object),
                None => missing(&call.place),
            },
            "create" => state.create(call),
            "replace" => state.replace(call),
            "patch" => state.patch(call, content_type(parts)),
            "deletecollection" => {
                let places = state.select(&call.place, query);
                for (place, _) in places {
                    state.delete(&place);
                }
                success(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                )
            }
            _ => {
                let wanted = call.body["preconditions"]["resourceVersion"]
                    .as_str()
                    .map(str::to_owned);
                let held = state
                    .objects
                    .get(&call.place)
                    .map(|o| text(o, "resourceVersion").to_owned());
                match (held, wanted) {
                    (None, _) => missing(&call.place),
                    (Some(held), Some(wanted)) if held != wanted => conflict(&call.place),
                    _ => {
                        let gone = state.delete(&call.place);
                        success(StatusCode::OK, &gone)
                    }
                }
            }
        };
        let changed = state.version != before;
        drop(state);
        if changed {
            self.notify();
        }
        answer
    }
}

impl State {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn insert(&mut self, place: Place, mut object: Value) -> Value {
        self.uid += 1;
        let version = self.next_version();
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.uid);
        let metadata = object["metadata"]
            .as_object_mut()
            .expect("objects have metadata");
        metadata.entry("uid").or_insert(json!(uid));
        metadata
            .entry("creationTimestamp")
            .or_insert(json!("2026-01-01T00:00:00Z"));
        metadata.insert("resourceVersion".into(), json!(version.to_string()));
        self.objects.insert(place.clone(), object.clone());
        self.tell(version, place, "ADDED", object.clone());
        object
    }

    /// Stores a new version, unless nothing changed; removes what is marked for deletion and has no finalizer.
    fn store(&mut self, place: Place, mut object: Value) -> Value {
        if let Some(old) = self.objects.get(&place) {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if *old == object {
                return object;
            }
        }
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let marked = !object["metadata"]["deletionTimestamp"].is_null();
        if marked && !has_finalizers(&object) {
            self.objects.remove(&place);
            self.tell(version, place, "DELETED", object.clone());
        } else {
            self.objects.insert(place.clone(), object.clone());
            self.tell(version, place, "MODIFIED", object.clone());
        }
        object
    }

    fn delete(&mut self, place: &Place) -> Value {
        let Some(mut object) = self.objects.get(place).cloned() else {
            return Value::Null;
        };
        if has_finalizers(&object) {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
                return self.store(place.clone(), object);
            }
            return object;
        }
        self.objects.remove(place);
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.tell(version, place.clone(), "DELETED", object.clone());
        object
    }

    fn tell(&mut self, version: u64, place: Place, kind: &'static str, object: Value) {
        self.watchers.retain(|w| {
            if w.collection != place.collection
                || (!w.namespace.is_empty() && w.namespace != place.namespace)
            {
                return !w.sender.is_closed();
            }
            w.sender
                .send(json!({"type": kind, "object": object}))
                .is_ok()
        });
        self.history.push((version, place, kind, object));
    }

    fn select(&self, place: &Place, query: &BTreeMap<String, String>) -> Vec<(Place, Value)> {
        self.objects
            .iter()
            .filter(|(p, o)| {
                p.collection == place.collection
                    && (place.namespace.is_empty() || p.namespace == place.namespace)
                    && labels_match(o, query.get("labelSelector"))
                    && fields_match(o, query.get("fieldSelector"))
            })
            .map(|(p, o)| (p.clone(), o.clone()))
            .collect()
    }

    fn list(&self, call: &Call, query: &BTreeMap<String, String>) -> Answer {
        let items: Vec<Value> = self
            .select(&call.place, query)
            .into_iter()
            .map(|(_, o)| o)
            .collect();
        success(
            StatusCode::OK,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()}, "items": items}),
        )
    }

    fn watch(&mut self, call: &Call, query: &BTreeMap<String, String>) -> Answer {
        let from: u64 = query
            .get("resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        let (sender, receiver) = mpsc::unbounded_channel();
        for (version, place, kind, object) in &self.history {
            if *version > from
                && place.collection == call.place.collection
                && (call.place.namespace.is_empty() || place.namespace == call.place.namespace)
            {
                let _ = sender.send(json!({"type": kind, "object": object}));
            }
        }
        self.watchers.push(Watcher {
            collection: call.place.collection.clone(),
            namespace: call.place.namespace.clone(),
            sender,
        });
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await?;
            Some((event, receiver))
        })
        .map(|event| {
            let mut line = event.to_string();
            line.push('\n');
            Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from(line)))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn create(&mut self, call: &Call) -> Answer {
        let mut place = call.place.clone();
        let mut object = call.body.clone();
        if !object["metadata"].is_object() {
            return failure(StatusCode::BAD_REQUEST, "BadRequest", "no metadata");
        }
        if text(&object, "name").is_empty() {
            let name = format!("{}{:05x}", text(&object, "generateName"), self.uid + 1);
            object["metadata"]["name"] = json!(name);
        }
        text(&object, "name").clone_into(&mut place.name);
        if !place.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(place.namespace);
        }
        if self.objects.contains_key(&place) {
            return failure(
                StatusCode::CONFLICT,
                "AlreadyExists",
                &format!("{} already exists", place.name),
            );
        }
        if place.collection.contains("hwameistor.io") {
            // A status subresource: its part of a create is dropped.
            object.as_object_mut().map(|o| o.remove("status"));
        }
        let stored = self.insert(place, object);
        success(StatusCode::CREATED, &stored)
    }

    fn replace(&mut self, call: &Call) -> Answer {
        let Some(old) = self.objects.get(&call.place).cloned() else {
            return missing(&call.place);
        };
        let asked = text(&call.body, "resourceVersion");
        if !asked.is_empty() && asked != text(&old, "resourceVersion") {
            return conflict(&call.place);
        }
        let stored = self.store(
            call.place.clone(),
            merge_parts(&old, call.body.clone(), call),
        );
        success(StatusCode::OK, &stored)
    }

    fn patch(&mut self, call: &Call, content_type: &str) -> Answer {
        let old = self.objects.get(&call.place).cloned();
        let applying = content_type.contains("apply-patch");
        let Some(old) = old else {
            if applying && call.subresource.is_empty() {
                return self.create(call);
            }
            return missing(&call.place);
        };
        let mut new = old.clone();
        if content_type.contains("json-patch") {
            let Ok(patch) = serde_json::from_value::<json_patch::Patch>(call.body.clone()) else {
                return failure(StatusCode::BAD_REQUEST, "BadRequest", "not a JSON patch");
            };
            if let Err(error) = json_patch::patch(&mut new, &patch) {
                return failure(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid",
                    &error.to_string(),
                );
            }
        } else {
            let asked = text(&call.body, "resourceVersion");
            if !asked.is_empty() && asked != text(&old, "resourceVersion") {
                return conflict(&call.place);
            }
            json_patch::merge(&mut new, &call.body);
        }
        let stored = self.store(call.place.clone(), merge_parts(&old, new, call));
        success(StatusCode::OK, &stored)
    }
}

/// What of `new` a write may change: status through `/status`, everything else through the object itself.
fn merge_parts(old: &Value, mut new: Value, call: &Call) -> Value {
    if call.subresource == "status" {
        let mut merged = old.clone();
        merged["status"] = new["status"].take();
        return merged;
    }
    let immutable = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "name",
        "namespace",
    ];
    for key in immutable {
        if old["metadata"][key].is_null() {
            new["metadata"].as_object_mut().map(|m| m.remove(key));
        } else {
            new["metadata"][key] = old["metadata"][key].clone();
        }
    }
    if call.place.collection.contains("hwameistor.io") {
        match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => {
                new.as_object_mut().map(|o| o.remove("status"));
            }
        }
    }
    new
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|f| !f.is_empty())
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

fn labels_match(object: &Value, selector: Option<&String>) -> bool {
    selector.is_none_or(|selector| {
        selector
            .split(',')
            .filter(|s| !s.is_empty())
            .all(|term| match term.split_once('=') {
                Some((key, value)) => {
                    object["metadata"]["labels"][key.trim_end_matches('=')].as_str()
                        == Some(value.trim_start_matches('='))
                }
                None => !object["metadata"]["labels"][term].is_null(),
            })
    })
}

fn fields_match(object: &Value, selector: Option<&String>) -> bool {
    selector.is_none_or(|selector| {
        selector.split(',').filter(|s| !s.is_empty()).all(|term| {
            let Some((path, value)) = term.split_once('=') else {
                return true;
            };
            let pointer = format!("/{}", path.replace('.', "/"));
            object
                .pointer(&pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                == value.trim_start_matches('=')
        })
    })
}

/// `/api/v1/...` and `/apis/GROUP/VERSION/...` into place and subresource.
fn parse_path(path: &str) -> Option<(Place, String)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let head = if *parts.first()? == "api" { 2 } else { 3 };
    let (prefix, mut rest) = parts.split_at_checked(head)?;
    let mut namespace = String::new();
    if rest.len() >= 3 && rest[0] == "namespaces" {
        rest[1].clone_into(&mut namespace);
        rest = &rest[2..];
    }
    let plural = rest.first()?;
    Some((
        Place {
            collection: format!("{}/{plural}", prefix.join("/")),
            namespace,
            name: rest.get(1).unwrap_or(&"").to_string(),
        },
        rest.get(2).unwrap_or(&"").to_string(),
    ))
}

fn form_urlencoded(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn content_type(parts: &http::request::Parts) -> &str {
    parts
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

fn code_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("tests use valid status codes")
}

fn success(code: StatusCode, object: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(object.to_string())).boxed_unsync());
    *answer.status_mut() = code;
    answer
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Answer {
    success(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code.as_u16()}),
    )
}

fn missing(place: &Place) -> Answer {
    failure(
        StatusCode::NOT_FOUND,
        "NotFound",
        &format!("{} \"{}\" not found", place.collection, place.name),
    )
}

fn conflict(place: &Place) -> Answer {
    failure(
        StatusCode::CONFLICT,
        "Conflict",
        &format!("{} \"{}\" has been modified", place.collection, place.name),
    )
}

impl tower::Service<Request<Body>> for FakeApi {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.serve(request).await) })
    }
}
