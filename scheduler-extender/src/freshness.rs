//! How old what is known may be. Watches report changes, and nothing while there are none, which looks the same as being cut off.
//! Three signs are watched: whether the API server answers a cheap question, whether a watch keeps failing, and (inside the
//! watches) whether a connection has been silent for longer than the server would let it be.
//!
//! What follows, by age:
//! - up to [`STALE`]: nothing. One lost answer is no outage.
//! - beyond it: not ready (check `fresh`), with the reason, and a metric. Decisions go on: stopping all scheduling is worse than
//!   deciding on knowledge that is minutes old, which is checked again when the volumes are made.
//! - beyond the limit (`--stale-limit`): no more decisions. `/filter` answers with an error, which reaches the pod's event and has
//!   the scheduler try again; `/prioritize` and `/preempt` answer as for a pod that nothing is known of.

use std::sync::Arc;
use std::time::Duration;

use hawser_runtime::health::{Health, Readiness};
use hawser_runtime::index::Watches;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::telemetry::chain;
use kube::Client;
use parking_lot::RwLock;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

/// How often the API server is asked whether it still answers.
pub(crate) const PROBE: Duration = Duration::from_secs(10);
/// Silence, or failures without interruption, after which what is known counts as old.
pub(crate) const STALE: Duration = Duration::from_secs(30);

/// What is old, and since when. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Staleness {
    /// `None`: never too old (a dump).
    limit: Option<Duration>,
    old: Arc<RwLock<Option<Old>>>,
}

/// The oldest of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Old {
    /// For people: what is not heard of.
    what: String,
    since: Instant,
}

impl Staleness {
    /// Beyond `limit` no decisions are made.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit: Some(limit),
            old: Arc::default(),
        }
    }

    /// As if this had not been heard of from now on.
    #[cfg(test)]
    pub(crate) fn pretend(&self, what: &str) {
        *self.old.write() = Some(Old {
            what: what.to_owned(),
            since: Instant::now(),
        });
    }

    /// Why nothing can be decided, if what is known is too old for that.
    #[must_use]
    pub fn too_old(&self) -> Option<String> {
        let (limit, old) = (self.limit?, self.old.read().clone()?);
        let age = old.since.elapsed();
        (age > limit).then(|| {
            format!(
                "storage scheduler decides nothing: {} for {} s, more than {} s (--stale-limit)",
                old.what,
                age.as_secs(),
                limit.as_secs()
            )
        })
    }
}

/// The longest of these that lasts for [`STALE`] or more.
fn oldest(answered: Instant, failing: Vec<(String, Instant)>) -> Option<Old> {
    let api = Old {
        what: "no answer from the API server".to_owned(),
        since: answered,
    };
    let watch = |(kind, since)| Old {
        what: format!("the watch of {kind} fails"),
        since,
    };
    let all = failing.into_iter().map(watch).chain([api]);
    all.filter(|old| old.since.elapsed() >= STALE)
        .min_by(|a, b| a.since.cmp(&b.since).then_with(|| a.what.cmp(&b.what)))
}

/// Keeps [`Staleness`], readiness and metrics up to date.
pub struct Freshness {
    client: Client,
    watches: Watches,
    staleness: Staleness,
    ready: Readiness,
    age: Gauge,
    silence: Gauge,
    answered: Instant,
}

impl Freshness {
    #[must_use]
    pub fn new(
        client: Client,
        watches: Watches,
        staleness: Staleness,
        health: &Health,
        metrics: &Metrics,
    ) -> Self {
        let (age, silence) = (Gauge::default(), Gauge::default());
        metrics.register(|registry| {
            registry.register(
                "extender_api_silence_seconds",
                "Seconds since the API server last answered",
                silence.clone(),
            );
            registry.register(
                "extender_stale_seconds",
                "How old what decisions are made on may be; 0 while everything that is watched is heard of",
                age.clone(),
            );
        });
        let ready = health.readiness("fresh");
        ready.ready();
        Self {
            client,
            watches,
            staleness,
            ready,
            age,
            silence,
            answered: Instant::now(),
        }
    }

    /// Goes on until the process stops.
    pub fn start(self, shutdown: &Shutdown) {
        shutdown.spawn("freshness", self.run(shutdown.clone()));
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
        let seconds = |since: Instant| i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX);
        self.silence.set(seconds(self.answered));
        let old = oldest(self.answered, self.watches.failing());
        match &old {
            None => {
                self.age.set(0);
                self.ready.ready();
            }
            Some(old) => {
                self.age.set(seconds(old.since));
                self.ready.not_ready(format!(
                    "{} for {} s; decisions are made on what was known then",
                    old.what,
                    seconds(old.since)
                ));
            }
        }
        *self.staleness.old.write() = old;
    }
}

#[cfg(test)]
mod tests {
    use hawser_runtime::testing::FakeApi;

    use super::*;

    struct Setup {
        api: FakeApi,
        health: Health,
        metrics: Metrics,
        staleness: Staleness,
        shutdown: Shutdown,
    }

    /// Started, with an API server that answers.
    fn a_setup() -> Setup {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let (health, metrics) = (Health::new(&shutdown), Metrics::new("test"));
        let (api, staleness) = (FakeApi::new(), Staleness::new(Duration::from_secs(300)));
        api.put(
            "/version",
            serde_json::json!({
                "major": "1", "minor": "37", "gitVersion": "v1.37.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                "goVersion": "", "compiler": "", "platform": ""
            }),
        );
        let watches = Watches::new(&shutdown, &health, &metrics);
        Freshness::new(api.client(), watches, staleness.clone(), &health, &metrics)
            .start(&shutdown);
        Setup {
            api,
            health,
            metrics,
            staleness,
            shutdown,
        }
    }

    fn problem(health: &Health) -> Option<String> {
        health
            .not_ready()
            .into_iter()
            .next()
            .and_then(|check| check.problem)
    }

    fn metric(metrics: &Metrics, name: &str) -> i64 {
        let text = metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_after_half_a_minute_and_decisions_end_after_the_limit() {
        let Setup {
            api,
            health,
            metrics,
            staleness,
            shutdown,
        } = a_setup();
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!((problem(&health), staleness.too_old()), (None, None));
        assert_eq!(metric(&metrics, "hawser_extender_stale_seconds"), 0);

        api.reject("GET /version", 503);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(problem(&health), None, "not for a lost answer");
        tokio::time::sleep(Duration::from_secs(20)).await;
        let why = problem(&health).unwrap();
        assert!(
            why.starts_with("no answer from the API server for "),
            "{why}"
        );
        assert_eq!(staleness.too_old(), None, "decisions go on");
        let age = metric(&metrics, "hawser_extender_stale_seconds");
        assert!((30..=45).contains(&age), "{age}");

        tokio::time::sleep(Duration::from_secs(300)).await;
        let why = staleness.too_old().unwrap();
        assert!(
            why.starts_with(
                "storage scheduler decides nothing: no answer from the API server for "
            ) && why.ends_with("more than 300 s (--stale-limit)"),
            "{why}"
        );

        api.reject("GET /version", 0);
        tokio::time::sleep(PROBE).await;
        assert_eq!((problem(&health), staleness.too_old()), (None, None));
        assert_eq!(metric(&metrics, "hawser_extender_stale_seconds"), 0);
        shutdown.begin("test");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_counts() {
        let now = Instant::now();
        tokio::time::advance(Duration::from_secs(100)).await;
        let ago = |seconds: u64| now + Duration::from_secs(100 - seconds);
        let watch = |kind: &str, seconds| (kind.to_owned(), ago(seconds));
        assert_eq!(oldest(ago(5), vec![watch("Node", 29)]), None);
        let old = oldest(ago(31), vec![watch("Node", 29), watch("LocalVolume", 60)]).unwrap();
        assert_eq!(old.what, "the watch of LocalVolume fails");
        let old = oldest(ago(80), vec![watch("LocalVolume", 60)]).unwrap();
        assert_eq!(old.what, "no answer from the API server");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dump_does_not_age() {
        assert_eq!(Staleness::default().too_old(), None);
    }
}
