//! Kubernetes Events: what happened to an object, where `kubectl describe` shows it.
//!
//! Never fails the caller and never blocks it. The same event again raises a count instead of making another object; a burst is
//! limited. What can't be written is logged, since an event is a courtesy and not a record.

use std::{collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{error::Category, shutdown::Shutdown, telemetry::chain};

/// Events that wait to be written; more are dropped and logged. A burst of this size is written within a minute.
const QUEUE: usize = 256;
/// A repeated event is written at most this often.
const REPEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How long an event is remembered for raising its count; the server forgets events after an hour.
const REMEMBER: Duration = Duration::from_secs(30 * 60);
/// Writes allowed at once, and then one for each [`REFILL`].
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_millis(200);
/// How long what still waits at the end may take. It must leave time for what ends after the tasks: giving up a lease, above all.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// Limits of the API.
const MAX_NOTE: usize = 1024;
const MAX_REASON: usize = 128;

/// Whether all is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Information.
    Normal,
    /// Somebody may have to act.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    severity: Severity,
    reason: String,
    message: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    uid: Option<String>,
}

struct Request {
    note: Note,
    object: ObjectReference,
}

/// Writes events in the name of one component. Clones share one queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Request>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("free", &self.queue.capacity())
            .finish()
    }
}

impl Recorder {
    /// Starts the writing task. `component` is who reports, such as `hawser-provisioner`; `instance` which one, such as the pod's name.
    #[must_use]
    pub fn new(
        client: Client,
        component: impl Into<String>,
        instance: impl Into<String>,
        shutdown: &Shutdown,
    ) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            component: component.into(),
            instance: instance.into(),
            known: HashMap::new(),
            tokens: BURST,
            refilled: Instant::now(),
        };
        shutdown.spawn("events", writer.run(requests, shutdown.token()));
        Self { queue }
    }

    /// Writes nothing, for tests and tools without an API server.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            queue: mpsc::channel(1).0,
        }
    }

    /// Says that something happened to `object`. `reason` is one word in `PascalCase` from a fixed set, `message` a sentence.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_ref(object.object_ref(&()), severity, reason, message);
    }

    /// As [`Recorder::record`], for an object of which only the reference is known.
    pub fn record_ref(
        &self,
        object: ObjectReference,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let note = Note {
            severity,
            reason: shorten(reason.to_owned(), MAX_REASON),
            message: shorten(message.into(), MAX_NOTE),
            kind: object.kind.clone().unwrap_or_default(),
            namespace: object.namespace.clone(),
            name: object.name.clone().unwrap_or_default(),
            uid: object.uid.clone(),
        };
        if let Err(error) = self.queue.try_send(Request { note, object }) {
            let why = match &error {
                mpsc::error::TrySendError::Full(_) => "too many events",
                mpsc::error::TrySendError::Closed(_) => "nobody writes them (any more)",
            };
            let Note {
                kind,
                name,
                reason,
                message,
                ..
            } = error.into_inner().note;
            tracing::warn!(%kind, %name, %reason, %message, why, "event not written");
        }
    }
}

/// Cuts at a character's boundary.
fn shorten(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let mut end = limit - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An event that was written.
struct Known {
    namespace: String,
    name: String,
    count: i32,
    /// Repetitions that are not written yet.
    pending: i32,
    written: Instant,
}

struct Writer {
    client: Client,
    component: String,
    instance: String,
    known: HashMap<Note, Known>,
    tokens: u32,
    refilled: Instant,
}

impl Writer {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, token: CancellationToken) {
        let mut ticks = tokio::time::interval(REPEAT_INTERVAL);
        loop {
            // All branches are cancel-safe: a request is taken only when it is handled here.
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.handle(request).await,
                    None => break,
                },
                _ = ticks.tick() => self.flush(false).await,
                () = token.cancelled() => break,
            }
        }
        requests.close();
        let rest = async {
            while let Ok(request) = requests.try_recv() {
                self.handle(request).await;
            }
            self.flush(true).await;
        };
        if tokio::time::timeout(LAST_WRITES, rest).await.is_err() {
            tracing::warn!("some events were not written: there was no more time before the end");
        }
    }

    async fn handle(&mut self, Request { note, object }: Request) {
        if let Some(known) = self.known.get_mut(&note) {
            known.pending = known.pending.saturating_add(1);
            return;
        }
        self.limit().await;
        let event = self.event(&note, object);
        let api: Api<Event> = Api::namespaced(
            self.client.clone(),
            event.metadata.namespace.as_deref().unwrap_or("default"),
        );
        match api.create(&PostParams::default(), &event).await {
            Ok(created) => {
                let metadata = created.metadata;
                let known = Known {
                    namespace: metadata.namespace.unwrap_or_default(),
                    name: metadata.name.unwrap_or_default(),
                    count: 1,
                    pending: 0,
                    written: Instant::now(),
                };
                self.known.insert(note, known);
            }
            Err(error) => {
                tracing::warn!(kind = %note.kind, name = %note.name, reason = %note.reason, message = %note.message,
                error = %chain(&error), "event not written");
            }
        }
    }

    /// Writes the counts of repeated events, and forgets those that have not been repeated for long.
    async fn flush(&mut self, all: bool) {
        let due: Vec<Note> = self
            .known
            .iter()
            .filter(|(_, known)| {
                known.pending > 0 && (all || known.written.elapsed() >= REPEAT_INTERVAL)
            })
            .map(|(note, _)| note.clone())
            .collect();
        for note in due {
            self.limit().await;
            let Some(known) = self.known.get_mut(&note) else {
                continue;
            };
            known.count = known
                .count
                .saturating_add(std::mem::take(&mut known.pending));
            known.written = Instant::now();
            let series = EventSeries {
                count: known.count,
                last_observed_time: MicroTime(Timestamp::now()),
            };
            let api: Api<Event> = Api::namespaced(self.client.clone(), &known.namespace);
            let patch = Patch::Merge(json!({ "series": series }));
            if let Err(error) = api
                .patch(&known.name, &PatchParams::default(), &patch)
                .await
            {
                let gone = Category::of_kube(&error) == Category::NotFound;
                tracing::debug!(name = %known.name, gone, error = %chain(&error), "count of an event not written");
                // The next repetition makes a new object.
                self.known.remove(&note);
            }
        }
        self.known
            .retain(|_, known| known.pending > 0 || known.written.elapsed() < REMEMBER);
    }

    /// Waits until one more write is allowed.
    async fn limit(&mut self) {
        let refills = self.refilled.elapsed().as_millis() / REFILL.as_millis();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        self.refilled += REFILL.saturating_mul(refills);
        self.tokens = self.tokens.saturating_add(refills).min(BURST);
        if self.tokens == 0 {
            tokio::time::sleep_until(self.refilled + REFILL).await;
            self.refilled += REFILL;
            self.tokens = 1;
        }
        self.tokens -= 1;
    }

    fn event(&self, note: &Note, object: ObjectReference) -> Event {
        let now = Timestamp::now();
        // Events of objects of cluster scope live in the namespace default, where kubectl looks for them.
        let namespace = note
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let prefix: String = note.name.chars().take(180).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{prefix}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            action: Some(note.reason.clone()),
            reason: Some(note.reason.clone()),
            note: Some(note.message.clone()),
            type_: Some(note.severity.as_str().to_owned()),
            event_time: Some(MicroTime(now)),
            regarding: Some(object),
            reporting_controller: Some(self.component.clone()),
            reporting_instance: Some(shorten(self.instance.clone(), MAX_REASON)),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    use super::*;
    use crate::testing::{FakeApi, Fault};

    fn a_claim(name: &str) -> PersistentVolumeClaim {
        serde_json::from_value(
            json!({ "metadata": { "name": name, "namespace": "ns", "uid": "1" } }),
        )
        .unwrap()
    }

    fn a_recorder(server: &FakeApi) -> (Recorder, Shutdown) {
        let shutdown = Shutdown::new(Duration::from_mins(10));
        (
            Recorder::new(server.client(), "hawser-test", "pod-1", &shutdown),
            shutdown,
        )
    }

    async fn after(seconds: u64) {
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_again_raises_a_count() {
        let server = FakeApi::new();
        let (recorder, shutdown) = a_recorder(&server);
        let claim = a_claim("data");
        for _ in 0..40 {
            recorder.record(
                &claim,
                Severity::Warning,
                "NoRoom",
                "needs 10 GiB, 3 GiB are free",
            );
        }
        recorder.record(&claim, Severity::Normal, "Placed", "on n1");
        after(100).await;
        let paths = server.paths();
        assert_eq!(paths.len(), 2, "{paths:?}");
        let event = paths
            .iter()
            .map(|path| server.object(path).unwrap())
            .find(|event| event["reason"] == "NoRoom")
            .unwrap();
        assert_eq!(event["series"]["count"], 40);
        assert_eq!(
            (&event["type"], &event["regarding"]["name"]),
            (&json!("Warning"), &json!("data"))
        );
        assert_eq!(server.calls().len(), 3, "two objects and one count");
        recorder.record(
            &claim,
            Severity::Warning,
            "NoRoom",
            "needs 10 GiB, 3 GiB are free",
        );
        after(0).await;
        shutdown.begin("test");
        shutdown.finished().await.unwrap();
        let counts: Vec<_> = paths
            .iter()
            .map(|path| server.object(path).unwrap()["series"]["count"].clone())
            .collect();
        assert!(
            counts.contains(&json!(41)),
            "the count is written before the end: {counts:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_limited_and_nobody_waits() {
        let server = FakeApi::new();
        let (recorder, _shutdown) = a_recorder(&server);
        let began = Instant::now();
        for number in 0..2000 {
            recorder.record(
                &a_claim(&format!("c{number}")),
                Severity::Normal,
                "Placed",
                "on n1",
            );
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        after(1).await;
        let early = server.paths().len();
        assert!((25..=31).contains(&early), "{early}");
        after(120).await;
        assert_eq!(server.paths().len(), QUEUE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_does_not_hold_up_the_end() {
        let server = FakeApi::new();
        let (recorder, shutdown) = a_recorder(&server);
        for number in 0..QUEUE {
            let claim = a_claim(&format!("c{number}"));
            recorder.record(&claim, Severity::Normal, "Placed", "on n1");
        }
        after(0).await;
        let began = Instant::now();
        shutdown.begin("test");
        shutdown.finished().await.unwrap();
        assert!(
            began.elapsed() <= LAST_WRITES + Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        assert!(
            server.paths().len() >= 25,
            "what the limit allows is written"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_borne_and_an_event_of_cluster_scope_goes_to_default() {
        let server = FakeApi::new();
        let (recorder, _shutdown) = a_recorder(&server);
        server.inject([Fault::Refuse(403)]);
        let node = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some("n1".to_owned()),
            ..ObjectReference::default()
        };
        recorder.record_ref(node.clone(), Severity::Normal, "DiskFound", "first");
        recorder.record_ref(node, Severity::Normal, "DiskFound", "ä".repeat(2000));
        after(1).await;
        let paths = server.paths();
        assert_eq!(paths.len(), 1);
        assert!(
            paths[0].starts_with("/apis/events.k8s.io/v1/namespaces/default/events/n1."),
            "{paths:?}"
        );
        let text = server.object(&paths[0]).unwrap()["note"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(text.len() <= MAX_NOTE && text.ends_with('…'));
    }
}
