//! Watches folded into indexes: deciding reads memory, never lists the API.
//!
//! One watch for each kind, with backoff; errors are logged and counted; an object that can't be parsed is logged and counted and
//! can't stop the stream. Readiness only when the first complete list has arrived.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::{
    Api, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    health::{Health, Readiness},
    metrics::Metrics,
    shutdown::Shutdown,
    telemetry::chain,
};

/// Which object of a kind: its namespace, if the kind has one, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `None` for kinds of cluster scope.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// The key of an object of cluster scope.
    #[must_use]
    pub fn cluster(name: impl Into<String>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }

    /// The key of an object in a namespace.
    #[must_use]
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// The key of this object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What a watch is folded into. No method has a default body, so that a wrapper can't forget to forward one.
///
/// Called from one task for each watch, in the order of the stream; must not block.
pub trait Index<K>: Send + Sync + 'static {
    /// The object is there, new or changed.
    fn apply(&self, object: Arc<K>);
    /// The object is gone.
    fn delete(&self, key: &Key);
    /// These, and only these, are there.
    ///
    /// `unreadable` names objects that are there too but can't be parsed: what is known of them from before stays, and they are never
    /// taken for deleted.
    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>);
}

impl<K, I: Index<K>> Index<K> for Arc<I> {
    fn apply(&self, object: Arc<K>) {
        I::apply(self, object);
    }

    fn delete(&self, key: &Key) {
        I::delete(self, key);
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        I::reset(self, objects, unreadable);
    }
}

/// Both, the first one first.
impl<K: Send + Sync + 'static, A: Index<K>, B: Index<K>> Index<K> for (A, B) {
    fn apply(&self, object: Arc<K>) {
        self.0.apply(object.clone());
        self.1.apply(object);
    }

    fn delete(&self, key: &Key) {
        self.0.delete(key);
        self.1.delete(key);
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        self.0.reset(objects.clone(), unreadable);
        self.1.reset(objects, unreadable);
    }
}

/// As [`Index`], for kinds with so many objects that a complete list of them should never be in memory at once.
pub trait Gradual<K>: Send + Sync + 'static {
    /// What is remembered of a list while it arrives.
    type Listing: Send + 'static;

    /// A complete list begins. One that has begun before and has not ended is void.
    fn begin(&self) -> Self::Listing;
    /// The list has this object. It may be taken in at once.
    fn listed(&self, listing: &mut Self::Listing, object: K);
    /// The list is complete: what it did not have is gone, but for `unreadable`, as in [`Index::reset`].
    fn end(&self, listing: Self::Listing, unreadable: &BTreeSet<Key>);
    /// The object is there, new or changed.
    fn apply(&self, object: K);
    /// The object is gone.
    fn delete(&self, key: &Key);
}

/// An index that takes complete lists in at once.
struct AtOnce<I>(I);

impl<K: Send + Sync + 'static, I: Index<K>> Gradual<K> for AtOnce<I> {
    type Listing = Vec<Arc<K>>;

    fn begin(&self) -> Self::Listing {
        Vec::new()
    }

    fn listed(&self, listing: &mut Self::Listing, object: K) {
        listing.push(Arc::new(object));
    }

    fn end(&self, listing: Self::Listing, unreadable: &BTreeSet<Key>) {
        self.0.reset(listing, unreadable);
    }

    fn apply(&self, object: K) {
        self.0.apply(Arc::new(object));
    }

    fn delete(&self, key: &Key) {
        self.0.delete(key);
    }
}

/// An object as watched: parsed, or its metadata with the reason why it can't be.
pub type Tolerant<K> = DeserializeGuard<K>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, Default)]
struct WatchMetrics {
    synced: Family<KindLabels, Gauge>,
    last_event: Family<KindLabels, Gauge>,
    errors: Family<KindLabels, Counter>,
    unreadable: Family<KindLabels, Counter>,
}

/// A failing watch tries again after half a minute at most, and such a try may take as long. So one that has not failed for this
/// long works, even if there was nothing to report.
const RECOVERED: Duration = Duration::from_secs(90);

/// From the first to the last failure, without an event in between.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

/// Starts watches and shares what they report to: readiness, metrics, shutdown.
#[derive(Clone, Debug)]
pub struct Watches {
    shutdown: Shutdown,
    health: Health,
    metrics: WatchMetrics,
    /// By kind.
    failing: Arc<Mutex<BTreeMap<String, Failing>>>,
}

impl Watches {
    /// Registers the metrics of watches. Make one for a process.
    #[must_use]
    pub fn new(shutdown: &Shutdown, health: &Health, metrics: &Metrics) -> Self {
        let watch = WatchMetrics::default();
        metrics.register(|registry| {
            let WatchMetrics {
                synced,
                last_event,
                errors,
                unreadable,
            } = watch.clone();
            registry.register(
                "watch_synced",
                "Whether the first complete list of a kind has arrived",
                synced,
            );
            registry.register(
                "watch_last_event_timestamp_seconds",
                "When the last event of a watch arrived; old while watch_errors grows means stale",
                last_event,
            );
            registry.register(
                "watch_errors",
                "Failed lists and watches, each tried again",
                errors,
            );
            registry.register(
                "watch_unreadable_objects",
                "Objects that could not be parsed and were left out",
                unreadable,
            );
        });
        Self {
            shutdown: shutdown.clone(),
            health: health.clone(),
            metrics: watch,
            failing: Arc::default(),
        }
    }

    /// Kinds whose watch fails, and since when. A watch that works again without anything to report counts as failing for
    /// [`RECOVERED`] longer; that the server has forgotten an old version is no failure.
    #[must_use]
    pub fn failing(&self) -> Vec<(String, Instant)> {
        let mut failing = self.failing.lock();
        failing.retain(|_, failing| failing.last.elapsed() < RECOVERED);
        failing
            .iter()
            .map(|(kind, failing)| (kind.clone(), failing.since))
            .collect()
    }

    /// Watches a kind and folds what happens into `index`, until shutdown. Adds the readiness check `watch <Kind>`, or
    /// `watch <Kind> by <field>` if it selects by one: two watches of a kind are ready each for itself.
    ///
    /// `Api::all(client)` or `Api::namespaced(client, ns)` is inferred to be of the tolerant type; selectors go into `config`.
    pub fn watch_into<K, I>(&self, api: Api<Tolerant<K>>, config: watcher::Config, index: I)
    where
        K: Resource<DynamicType = ()>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Send
            + Sync
            + 'static,
        I: Index<K>,
    {
        self.watch_gradually(api, config, AtOnce(index));
    }

    /// As [`Self::watch_into`], without ever keeping a complete list.
    pub fn watch_gradually<K, I>(&self, api: Api<Tolerant<K>>, config: watcher::Config, index: I)
    where
        K: Resource<DynamicType = ()>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Send
            + Sync
            + 'static,
        I: Gradual<K>,
    {
        let kind = watched(&K::kind(&()), &config);
        let fold = Fold {
            ready: self.health.readiness(Cow::Owned(format!("watch {kind}"))),
            labels: KindLabels { kind: kind.clone() },
            metrics: self.metrics.clone(),
            failing: self.failing.clone(),
            index,
            listing: None,
            unreadable: BTreeSet::new(),
            kind: PhantomData,
        };
        fold.ready.not_ready("the first list has not arrived yet");
        let stop = self.shutdown.stopping();
        let stream = watcher(api, config).default_backoff().take_until(stop);
        self.shutdown
            .spawn(format!("watch {kind}"), fold.run(stream));
    }
}

/// What a watch is called: its kind, and the fields (without their values) that it selects by.
fn watched(kind: &str, config: &watcher::Config) -> String {
    let Some(selector) = &config.field_selector else {
        return kind.to_owned();
    };
    let fields = selector
        .split(',')
        .filter_map(|term| term.split(['=', '!']).next())
        .collect::<Vec<_>>();
    format!("{kind} by {}", fields.join(" and "))
}

/// One watch: the state between the events of its stream.
struct Fold<K, I: Gradual<K>> {
    index: I,
    ready: Readiness,
    labels: KindLabels,
    metrics: WatchMetrics,
    failing: Arc<Mutex<BTreeMap<String, Failing>>>,
    listing: Option<I::Listing>,
    unreadable: BTreeSet<Key>,
    kind: PhantomData<fn(K)>,
}

impl<K: Resource<DynamicType = ()>, I: Gradual<K>> Fold<K, I> {
    async fn run(
        mut self,
        stream: impl futures::Stream<Item = Result<Event<Tolerant<K>>, watcher::Error>>,
    ) {
        let mut stream = std::pin::pin!(stream.into_stream());
        while let Some(item) = stream.next().await {
            match item {
                Ok(event) => self.event(event),
                Err(error) => self.error(&error),
            }
        }
    }

    fn event(&mut self, event: Event<Tolerant<K>>) {
        self.metrics
            .last_event
            .get_or_create(&self.labels)
            .set(Timestamp::now().as_second());
        self.failing.lock().remove(&self.labels.kind);
        match event {
            Event::Init => {
                self.listing = Some(self.index.begin());
                self.unreadable.clear();
            }
            Event::InitApply(object) => match self.readable(object) {
                Ok(object) => {
                    let begin = || self.index.begin();
                    let listing = self.listing.get_or_insert_with(begin);
                    self.index.listed(listing, object);
                }
                Err(key) => drop(self.unreadable.insert(key)),
            },
            Event::InitDone => {
                let listing = self.listing.take().unwrap_or_else(|| self.index.begin());
                self.index.end(listing, &self.unreadable);
                tracing::debug!(kind = %self.labels.kind, "watch synced");
                self.unreadable.clear();
                self.metrics.synced.get_or_create(&self.labels).set(1);
                self.ready.ready();
            }
            Event::Apply(object) => {
                if let Ok(object) = self.readable(object) {
                    self.index.apply(object);
                }
            }
            Event::Delete(object) => self.index.delete(&Key::of(&object)),
        }
    }

    /// The object without its managed fields, which nobody here reads and which are much of its size.
    fn readable(&self, object: Tolerant<K>) -> Result<K, Key> {
        match object.0 {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                Ok(object)
            }
            Err(invalid) => {
                let key = Key {
                    namespace: invalid.metadata.namespace,
                    name: invalid.metadata.name.unwrap_or_default(),
                };
                self.metrics.unreadable.get_or_create(&self.labels).inc();
                tracing::warn!(kind = %self.labels.kind, object = %key, error = %invalid.error, "object can't be parsed and is left out");
                Err(key)
            }
        }
    }

    fn error(&self, error: &watcher::Error) {
        self.metrics.errors.get_or_create(&self.labels).inc();
        // The server forgets old versions after some minutes; listing again is the normal way on.
        let expired = matches!(error, watcher::Error::WatchError(status) if status.code == 410);
        if expired {
            tracing::debug!(kind = %self.labels.kind, "watch expired, listing again");
        } else {
            let now = Instant::now();
            let failing = Failing {
                since: now,
                last: now,
            };
            let mut all = self.failing.lock();
            all.entry(self.labels.kind.clone()).or_insert(failing).last = now;
            tracing::warn!(kind = %self.labels.kind, error = %chain(error), "watch failed, trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Store;

    fn a_map(name: &str, data: &Value) -> Tolerant<ConfigMap> {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "data": data}))
            .unwrap()
    }

    fn good(name: &str) -> Tolerant<ConfigMap> {
        a_map(name, &json!({"key": "value"}))
    }

    fn bad(name: &str) -> Tolerant<ConfigMap> {
        a_map(name, &json!("not a map"))
    }

    struct Setup {
        store: Store<ConfigMap>,
        health: Health,
        metrics: Metrics,
        fold: Fold<ConfigMap, AtOnce<Store<ConfigMap>>>,
        watches: Watches,
    }

    fn a_setup() -> Setup {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let (health, metrics) = (Health::new(&shutdown), Metrics::new("test"));
        let watches = Watches::new(&shutdown, &health, &metrics);
        let store = Store::new();
        let fold = Fold {
            index: AtOnce(store.clone()),
            ready: health.readiness("watch ConfigMap"),
            labels: KindLabels {
                kind: "ConfigMap".to_owned(),
            },
            metrics: watches.metrics.clone(),
            failing: watches.failing.clone(),
            listing: None,
            unreadable: BTreeSet::new(),
            kind: PhantomData,
        };
        Setup {
            store,
            health,
            metrics,
            fold,
            watches,
        }
    }

    #[test]
    fn watches_of_one_kind_are_told_apart_by_what_they_select() {
        let by =
            |selector: &str| watched("LocalDisk", &watcher::Config::default().fields(selector));
        assert_eq!(
            watched("LocalDisk", &watcher::Config::default()),
            "LocalDisk"
        );
        assert_eq!(by("spec.nodeName=n1"), "LocalDisk by spec.nodeName");
        assert_eq!(
            by("spec.preNodeName==n1,spec.nodeName!=n2"),
            "LocalDisk by spec.preNodeName and spec.nodeName"
        );
    }

    fn names(store: &Store<ConfigMap>) -> Vec<String> {
        store
            .list()
            .iter()
            .map(|map| map.metadata.name.clone().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_malformed_object_does_not_stop_the_stream() {
        let Setup {
            store,
            health,
            metrics,
            fold,
            ..
        } = a_setup();
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(bad("b"))),
            Ok(Event::InitApply(good("a"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(bad("a"))),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Apply(good("c"))),
        ];
        fold.run(stream::iter(events)).await;
        assert_eq!(
            names(&store),
            ["a", "c"],
            "the last good version of a stays"
        );
        assert!(health.not_ready().is_empty());
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"hawser_watch_unreadable_objects_total{kind="ConfigMap"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"hawser_watch_errors_total{kind="ConfigMap"} 1"#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_second_list_replaces_all_but_what_became_unreadable() {
        let Setup { store, fold, .. } = a_setup();
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(good("stays"))),
            Ok(Event::InitApply(good("goes"))),
            Ok(Event::InitApply(good("breaks"))),
            Ok(Event::InitDone),
            Ok(Event::Init),
            Ok(Event::InitApply(bad("breaks"))),
            Ok(Event::InitApply(good("stays"))),
            Ok(Event::InitDone),
        ];
        fold.run(stream::iter(events)).await;
        assert_eq!(names(&store), ["breaks", "stays"]);
    }

    #[tokio::test]
    async fn not_ready_before_the_first_list_is_complete_and_a_broken_object_can_be_deleted() {
        let Setup {
            store,
            health,
            mut fold,
            ..
        } = a_setup();
        fold.event(Event::Init);
        fold.event(Event::InitApply(good("a")));
        assert_eq!(health.not_ready().len(), 1);
        assert!(store.list().is_empty());
        fold.event(Event::InitDone);
        assert_eq!((health.not_ready().len(), store.list().len()), (0, 1));
        fold.event(Event::Delete(bad("a")));
        assert!(store.list().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_fails_from_its_first_failure_until_an_event_or_long_quiet() {
        let Setup {
            watches, mut fold, ..
        } = a_setup();
        let began = Instant::now();
        let expired: kube::core::Status = serde_json::from_value(json!({"code": 410})).unwrap();
        fold.error(&watcher::Error::WatchError(Box::new(expired)));
        assert!(watches.failing().is_empty(), "the normal way on");
        fold.error(&watcher::Error::NoResourceVersion);
        tokio::time::advance(Duration::from_secs(60)).await;
        fold.error(&watcher::Error::NoResourceVersion);
        tokio::time::advance(RECOVERED.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(watches.failing(), [("ConfigMap".to_owned(), began)]);
        fold.event(Event::Apply(good("a")));
        assert!(watches.failing().is_empty());
        fold.error(&watcher::Error::NoResourceVersion);
        tokio::time::advance(RECOVERED).await;
        assert!(
            watches.failing().is_empty(),
            "nothing to report, but no failure either"
        );
    }

    /// Takes lists in one by one.
    #[derive(Default)]
    struct OneByOne(Mutex<BTreeSet<String>>);

    impl Gradual<ConfigMap> for OneByOne {
        type Listing = BTreeSet<String>;

        fn begin(&self) -> Self::Listing {
            BTreeSet::new()
        }

        fn listed(&self, listing: &mut Self::Listing, object: ConfigMap) {
            listing.insert(object.metadata.name.clone().unwrap());
            self.apply(object);
        }

        fn end(&self, listing: Self::Listing, unreadable: &BTreeSet<Key>) {
            let stays = |name: &String| {
                listing.contains(name) || unreadable.contains(&Key::namespaced("ns", name.as_str()))
            };
            self.0.lock().retain(stays);
        }

        fn apply(&self, object: ConfigMap) {
            self.0.lock().insert(object.metadata.name.unwrap());
        }

        fn delete(&self, key: &Key) {
            self.0.lock().remove(&key.name);
        }
    }

    #[tokio::test]
    async fn a_gradual_index_sees_each_object_as_it_comes_and_the_end_of_the_list() {
        let Setup { fold, health, .. } = a_setup();
        let mut fold = Fold::<ConfigMap, OneByOne> {
            index: OneByOne::default(),
            ready: fold.ready,
            labels: fold.labels,
            metrics: fold.metrics,
            failing: fold.failing,
            listing: None,
            unreadable: BTreeSet::new(),
            kind: PhantomData,
        };
        let known = |fold: &Fold<ConfigMap, OneByOne>| -> Vec<String> {
            fold.index.0.lock().iter().cloned().collect()
        };
        fold.event(Event::Init);
        fold.event(Event::InitApply(good("a")));
        assert_eq!(known(&fold), ["a"], "at once");
        assert_eq!(health.not_ready().len(), 1, "but not ready");
        fold.event(Event::InitApply(good("b")));
        fold.event(Event::InitApply(good("c")));
        fold.event(Event::InitDone);
        assert!(health.not_ready().is_empty());
        fold.event(Event::Init);
        fold.event(Event::InitApply(bad("b")));
        fold.event(Event::InitApply(good("a")));
        fold.error(&watcher::Error::NoResourceVersion);
        fold.event(Event::Init);
        fold.event(Event::InitApply(good("d")));
        fold.event(Event::InitApply(bad("b")));
        fold.event(Event::InitDone);
        assert_eq!(
            known(&fold),
            ["b", "d"],
            "what the last list had; the unreadable stays"
        );
    }
}
