//! Keeps the inventory in step with the API server, and says when it can't.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::{LocalStorageNode, LocalVolume, LocalVolumeGroup, LocalVolumeReplica};
use hawser_inventory::{Fold, Inventory};
use hawser_runtime::health::{Health, Readiness};
use hawser_runtime::index::{Index, Key, Watches};
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::telemetry::chain;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use parking_lot::{RwLock, RwLockReadGuard};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

/// How the readiness checks of watches begin.
pub(crate) const SYNCED: &str = "watch ";

/// The inventory: written by the watches, a few microseconds an event; read by the handlers, about a millisecond a decision.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<RwLock<Inventory>>);

impl Shared {
    pub(crate) fn new(inventory: Inventory) -> Self {
        Self(Arc::new(RwLock::new(inventory)))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inventory> {
        self.0.read()
    }
}

impl<K> Index<K> for Shared
where
    K: Resource + Send + Sync + 'static,
    Inventory: Fold<K>,
{
    fn apply(&self, object: Arc<K>) {
        self.0.write().apply(&*object);
    }

    fn delete(&self, key: &Key) {
        Fold::<K>::remove(&mut *self.0.write(), &known_as(key));
    }

    fn reset(&self, objects: Vec<Arc<K>>, unreadable: &BTreeSet<Key>) {
        let unreadable: BTreeSet<_> = unreadable.iter().map(known_as).collect();
        hawser_inventory::reset(
            &mut self.0.write(),
            objects.iter().map(|object| &**object),
            |key| unreadable.contains(key),
        );
    }
}

fn known_as(key: &Key) -> hawser_inventory::Key {
    hawser_inventory::Key {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// Starts one watch for each kind that decisions depend on.
pub(crate) fn start(watches: &Watches, client: &Client, inventory: &Shared) {
    macro_rules! watch {
        ($($kind:ty),+) => { $(
            watches.watch_into::<$kind, _>(Api::all(client.clone()), Config::default(), inventory.clone());
        )+ };
    }
    watch!(
        Node,
        PersistentVolume,
        PersistentVolumeClaim,
        StorageClass,
        LocalStorageNode,
        LocalVolume,
        LocalVolumeReplica,
        LocalVolumeGroup
    );
}

/// How often the API server is asked whether it still answers.
const PROBE: Duration = Duration::from_secs(10);
/// Silence after which what we know counts as old. One answer may be lost.
const STALE: Duration = Duration::from_secs(30);

/// Watches report changes, and nothing while there are none, which looks the same as being cut off. So the API server is asked a
/// cheap question at times; readiness (check `api server`) and a metric say if it does not answer. Decisions go on meanwhile:
/// stopping all scheduling is worse than deciding on knowledge half a minute old, which is checked again when volumes are made.
pub(crate) struct Freshness {
    client: Client,
    ready: Readiness,
    silence: Gauge,
    answered: Instant,
}

impl Freshness {
    pub(crate) fn start(client: &Client, health: &Health, metrics: &Metrics, shutdown: &Shutdown) {
        let silence: Gauge = Gauge::default();
        let what = "Seconds since the API server last answered; decisions may be as old";
        metrics.register(|registry| {
            registry.register("extender_api_silence_seconds", what, silence.clone());
        });
        let ready = health.readiness("api server");
        ready.ready();
        let freshness = Self {
            client: client.clone(),
            ready,
            silence,
            answered: Instant::now(),
        };
        shutdown.spawn("freshness", freshness.run(shutdown.clone()));
    }

    async fn run(mut self, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(PROBE);
        loop {
            tokio::select! {
                () = shutdown.stopping() => return,
                _ = ticks.tick() => self.probe().await,
            }
        }
    }

    async fn probe(&mut self) {
        match tokio::time::timeout(PROBE, self.client.apiserver_version()).await {
            Ok(Ok(_)) => self.answered = Instant::now(),
            Ok(Err(error)) => tracing::debug!(error = %chain(&error), "API server does not answer"),
            Err(_) => tracing::debug!("API server does not answer in time"),
        }
        let silent = self.answered.elapsed();
        self.silence
            .set(i64::try_from(silent.as_secs()).unwrap_or(i64::MAX));
        if silent < STALE {
            self.ready.ready();
        } else {
            let seconds = silent.as_secs();
            self.ready.not_ready(format!(
                "no answer for {seconds} s; decisions are made on what was known then"
            ));
        }
    }
}
