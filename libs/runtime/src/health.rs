//! Whether this process is alive, and whether it is ready, with the reason why not.
//!
//! Parts register a named check and keep its state current. Not ready means "don't send me work yet"; not alive means "restart me".

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::shutdown::Shutdown;

type Name = Cow<'static, str>;

/// The checks of one process. Clones share one state.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    stopping: CancellationToken,
    checks: Mutex<Checks>,
}

#[derive(Default)]
struct Checks {
    /// Name to why it is not ready.
    ready: BTreeMap<Name, Option<Cow<'static, str>>>,
    /// Name to (last beat, longest silence).
    alive: BTreeMap<Name, (Instant, Duration)>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("not_ready", &self.not_ready())
            .finish()
    }
}

/// One line of the answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the check.
    pub name: Name,
    /// Why it fails; `None` if it is fine.
    pub problem: Option<String>,
}

impl Health {
    /// No checks yet, which counts as ready. Not ready any more once `shutdown` begins.
    #[must_use]
    pub fn new(shutdown: &Shutdown) -> Self {
        Self(Arc::new(Inner {
            stopping: shutdown.token(),
            checks: Mutex::default(),
        }))
    }

    /// Adds a readiness check, which is not ready at first. A name that is taken gets the same check.
    #[must_use]
    pub fn readiness(&self, name: impl Into<Name>) -> Readiness {
        let name = name.into();
        self.0
            .checks
            .lock()
            .ready
            .entry(name.clone())
            .or_insert(Some(Cow::Borrowed("not started yet")));
        Readiness {
            health: self.clone(),
            name,
        }
    }

    /// Adds a liveness check: whoever holds it has to call [`Watchdog::beat`] more often than every `limit`.
    #[must_use]
    pub fn watchdog(&self, name: impl Into<Name>, limit: Duration) -> Watchdog {
        let name = name.into();
        self.0
            .checks
            .lock()
            .alive
            .insert(name.clone(), (Instant::now(), limit));
        Watchdog {
            health: self.clone(),
            name,
        }
    }

    /// All readiness checks in order of their names.
    #[must_use]
    pub fn ready(&self) -> Vec<Check> {
        let checks = self.0.checks.lock();
        let mut all: Vec<Check> = checks
            .ready
            .iter()
            .map(|(name, problem)| Check {
                name: name.clone(),
                problem: problem.as_ref().map(ToString::to_string),
            })
            .collect();
        let stopping = self
            .0
            .stopping
            .is_cancelled()
            .then(|| "the process is stopping".to_owned());
        all.push(Check {
            name: Cow::Borrowed("shutdown"),
            problem: stopping,
        });
        all
    }

    /// All liveness checks in order of their names.
    #[must_use]
    pub fn alive(&self) -> Vec<Check> {
        let checks = self.0.checks.lock();
        checks
            .alive
            .iter()
            .map(|(name, (beat, limit))| {
                let silent = beat.elapsed();
                let problem = (silent > *limit).then(|| {
                    format!(
                        "no progress for {} s, limit {} s",
                        silent.as_secs(),
                        limit.as_secs()
                    )
                });
                Check {
                    name: name.clone(),
                    problem,
                }
            })
            .collect()
    }

    /// The readiness checks that fail.
    #[must_use]
    pub fn not_ready(&self) -> Vec<Check> {
        self.ready()
            .into_iter()
            .filter(|check| check.problem.is_some())
            .collect()
    }
}

/// Handle of one readiness check. Dropping it leaves the check as it is.
#[derive(Clone, Debug)]
pub struct Readiness {
    health: Health,
    name: Name,
}

impl Readiness {
    /// From now on fine.
    pub fn ready(&self) {
        self.set(None);
    }

    /// From now on not ready, because of `reason`.
    pub fn not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, problem: Option<Cow<'static, str>>) {
        let mut checks = self.health.0.checks.lock();
        let before = checks
            .ready
            .insert(self.name.clone(), problem.clone())
            .flatten();
        if before.is_some() != problem.is_some() {
            match problem {
                None => tracing::info!(check = %self.name, "ready"),
                Some(reason) => tracing::warn!(check = %self.name, %reason, "not ready any more"),
            }
        }
    }
}

/// Handle of one liveness check. Dropping it removes the check: the work that it watched over is done.
#[derive(Debug)]
pub struct Watchdog {
    health: Health,
    name: Name,
}

impl Watchdog {
    /// Says that there was progress.
    pub fn beat(&self) {
        if let Some((beat, _)) = self.health.0.checks.lock().alive.get_mut(&self.name) {
            *beat = Instant::now();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.health.0.checks.lock().alive.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(checks: &[Check]) -> Vec<&str> {
        checks.iter().map(|check| check.name.as_ref()).collect()
    }

    #[test]
    fn ready_only_when_every_check_is_and_not_while_stopping() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let health = Health::new(&shutdown);
        let (volumes, lease) = (health.readiness("volumes"), health.readiness("lease"));
        assert_eq!(names(&health.not_ready()), ["lease", "volumes"]);
        volumes.ready();
        lease.not_ready("held by provisioner-1");
        assert_eq!(
            health.not_ready()[0].problem.as_deref(),
            Some("held by provisioner-1")
        );
        lease.ready();
        assert!(health.not_ready().is_empty());
        shutdown.begin("test");
        assert_eq!(names(&health.not_ready()), ["shutdown"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watchdog_fails_and_a_dropped_one_does_not() {
        let health = Health::new(&Shutdown::new(Duration::from_secs(1)));
        let dog = health.watchdog("scan", Duration::from_secs(60));
        let failing = || {
            health
                .alive()
                .into_iter()
                .filter(|check| check.problem.is_some())
                .count()
        };
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(failing(), 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(failing(), 1);
        dog.beat();
        assert_eq!(failing(), 0);
        tokio::time::advance(Duration::from_secs(61)).await;
        drop(dog);
        assert_eq!(failing(), 0);
    }
}
