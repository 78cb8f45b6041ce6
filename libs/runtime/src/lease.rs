//! Leadership by a Lease object: at most one holder at a time, also when clocks differ and the API server is away.
//!
//! Expiry is judged by our own monotonic clock since *we* last saw the record change, never by comparing wall clocks of two machines.
//! A holder that could not renew gives up (`renew_deadline`) before others may take over (`duration`).
//! The monotonic clock is tokio's, which tests can pause; the wall clock is only written, for people to read.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{PostParams, ResourceExt},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{args, error::Category, shutdown::Shutdown, telemetry::chain};

/// A try that takes longer is given up, so that several fit into the renew deadline.
const MAX_REQUEST: Duration = Duration::from_secs(10);

/// The timings of a lease as flags.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct LeaseArgs {
    /// How long after the holder's last sign of life another may take over.
    #[arg(long, env = "HAWSER_LEASE_DURATION", default_value = "30s", value_parser = args::duration)]
    pub lease_duration: Duration,

    /// How long the holder goes on without being able to renew. Must be shorter than the lease's duration.
    // 5 s are left for work in progress to end before another begins.
    #[arg(long, env = "HAWSER_LEASE_RENEW_DEADLINE", default_value = "25s", value_parser = args::duration)]
    pub lease_renew_deadline: Duration,

    /// How often the holder renews and the others look.
    // Several tries fit into the renew deadline; 12 small requests a minute.
    #[arg(long, env = "HAWSER_LEASE_RETRY_PERIOD", default_value = "5s", value_parser = args::duration)]
    pub lease_retry_period: Duration,
}

impl LeaseArgs {
    /// Whether these timings keep two holders apart.
    pub fn check(&self) -> Result<(), LeaseError> {
        let Self {
            lease_duration: duration,
            lease_renew_deadline: renew,
            lease_retry_period: retry,
        } = *self;
        let whole = duration.subsec_nanos() == 0 && i32::try_from(duration.as_secs()).is_ok();
        if whole && Duration::ZERO < retry && retry < renew && renew < duration {
            Ok(())
        } else {
            Err(LeaseError::Timings {
                duration,
                renew,
                retry,
            })
        }
    }
}

/// Which lease, who we are, and its timings.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Namespace of the Lease object.
    pub namespace: String,
    /// Name of the Lease object.
    pub name: String,
    /// Who we are; unique among all candidates, such as the pod's name.
    pub identity: String,
    /// How long after the holder's last renewal another may take over.
    pub duration: Duration,
    /// How long the holder goes on without being able to renew.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

/// Why a lease can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Timings that don't keep two holders apart.
    #[error(
        "lease timings are wrong: zero < --lease-retry-period ({retry:?}) < --lease-renew-deadline ({renew:?}) < --lease-duration ({duration:?}) is needed, with a duration of whole seconds"
    )]
    Timings {
        /// `--lease-duration`
        duration: Duration,
        /// `--lease-renew-deadline`
        renew: Duration,
        /// `--lease-retry-period`
        retry: Duration,
    },
    /// The identity is empty: all such candidates would be one.
    #[error(
        "the identity for lease {0} is empty; set --identity or POD_NAME to a name that no other replica has"
    )]
    NoIdentity(String),
    /// The process stops before the lease was won.
    #[error("stopping before lease {0} was won")]
    Stopping(String),
    /// Leadership was lost: renewals failed for too long, or another holds the lease.
    #[error("lost lease {name}: {reason}")]
    Lost {
        /// The lease.
        name: String,
        /// What happened.
        reason: String,
    },
}

impl LeaseError {
    /// What kind of failure this is.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Timings { .. } | Self::NoIdentity(_) => Category::Invalid,
            Self::Stopping(_) | Self::Lost { .. } => Category::Unavailable,
        }
    }
}

impl LeaseConfig {
    /// Checks the timings: retry period < renew deadline < duration, in whole seconds as the API has it.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        identity: impl Into<String>,
        args: &LeaseArgs,
    ) -> Result<Self, LeaseError> {
        let LeaseArgs {
            lease_duration: duration,
            lease_renew_deadline: renew,
            lease_retry_period: retry,
        } = *args;
        let name = name.into();
        let identity = identity.into();
        args.check()?;
        if identity.is_empty() {
            return Err(LeaseError::NoIdentity(name));
        }
        Ok(Self {
            namespace: namespace.into(),
            name,
            identity,
            duration,
            renew_deadline: renew,
            retry_period: retry,
        })
    }
}

/// What was last seen in the Lease object, and when we saw it change.
#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    since: Instant,
}

/// What one try came to.
#[derive(Debug, PartialEq)]
enum Try {
    /// We hold it; the time is from before the request was sent.
    Held { from: Instant },
    /// Another holds it.
    Other(String),
    /// Somebody was faster, or the server could not be asked.
    Failed(String),
}

/// A candidate for one lease.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    config: LeaseConfig,
    seen: Option<Seen>,
}

impl Candidate {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(client: Client, config: LeaseConfig) -> Self {
        Self {
            api: Api::namespaced(client, &config.namespace),
            config,
            seen: None,
        }
    }

    /// Waits until the lease is ours, then renews it until the process has drained, and releases it.
    ///
    /// `waiting` is told who holds it, each time that changes, for readiness and logs.
    pub async fn acquire(
        mut self,
        shutdown: &Shutdown,
        waiting: impl Fn(&str),
    ) -> Result<Leader, LeaseError> {
        let token = shutdown.token();
        let mut said = String::new();
        loop {
            let outcome = token.run_until_cancelled(self.attempt()).await;
            let reason = match outcome {
                None => return Err(LeaseError::Stopping(self.config.name)),
                Some(Try::Held { from }) => return Ok(self.lead(from, shutdown)),
                Some(Try::Other(holder)) => format!("held by {holder}"),
                Some(Try::Failed(reason)) => reason,
            };
            if reason != said {
                tracing::info!(lease = %self.config.name, %reason, "waiting for leadership");
                waiting(&reason);
                said = reason;
            }
            if token
                .run_until_cancelled(tokio::time::sleep(self.config.retry_period))
                .await
                .is_none()
            {
                return Err(LeaseError::Stopping(self.config.name));
            }
        }
    }

    /// One try to take or to renew the lease.
    async fn attempt(&mut self) -> Try {
        let from = Instant::now();
        let limit = self.config.renew_deadline.min(MAX_REQUEST);
        match tokio::time::timeout(limit, self.request(from)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Try::Failed(format!("lease {}: {}", self.config.name, chain(&error))),
            Err(_) => Try::Failed(format!(
                "lease {}: the API server did not answer in time",
                self.config.name
            )),
        }
    }

    async fn request(&mut self, from: Instant) -> Result<Try, kube::Error> {
        let Some(current) = self.api.get_opt(&self.config.name).await? else {
            let lease = self.record(None);
            return self.written(self.api.create(&PostParams::default(), &lease).await, from);
        };
        self.observe(current.clone());
        let spec = current.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        if let Some(holder) = holder.filter(|holder| *holder != self.config.identity)
            && !self.expired()
        {
            return Ok(Try::Other(holder));
        }
        let lease = self.record(Some(&current));
        self.written(
            self.api
                .replace(&self.config.name, &PostParams::default(), &lease)
                .await,
            from,
        )
    }

    /// Remembers the record; the time counts anew whenever anything in it has changed.
    fn observe(&mut self, lease: Lease) {
        let changed = self
            .seen
            .as_ref()
            .is_none_or(|seen| seen.lease.spec != lease.spec || seen.lease.uid() != lease.uid());
        if changed {
            self.seen = Some(Seen {
                lease,
                since: Instant::now(),
            });
        }
    }

    /// Whether the holder has been silent for as long as *it* said that its lease lasts.
    fn expired(&self) -> bool {
        let Some(seen) = &self.seen else { return false };
        let seconds = seen
            .lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds)
            .unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        seen.since.elapsed() >= duration
    }

    /// The record that makes us the holder.
    fn record(&self, current: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = current
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(&self.config.identity);
        let transitions = old.lease_transitions.unwrap_or(0);
        let metadata = match current {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                name: Some(self.config.name.clone()),
                ..ObjectMeta::default()
            },
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.duration.as_secs()).ok(),
            acquire_time: if ours {
                old.acquire_time
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(if ours || current.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            preferred_holder: old.preferred_holder,
            strategy: old.strategy,
        };
        Lease {
            metadata,
            spec: Some(spec),
        }
    }

    fn written(
        &mut self,
        result: Result<Lease, kube::Error>,
        from: Instant,
    ) -> Result<Try, kube::Error> {
        match result {
            Ok(lease) => {
                self.observe(lease);
                Ok(Try::Held { from })
            }
            Err(error)
                if matches!(
                    Category::of_kube(&error),
                    Category::Conflict | Category::AlreadyExists
                ) =>
            {
                Ok(Try::Failed(format!(
                    "lease {}: another candidate was faster",
                    self.config.name
                )))
            }
            Err(error) => Err(error),
        }
    }

    fn lead(self, from: Instant, shutdown: &Shutdown) -> Leader {
        tracing::info!(lease = %self.config.name, identity = %self.config.identity, "leadership won");
        let (sender, state) = watch::channel(State {
            valid_until: from + self.config.renew_deadline,
            lost: None,
        });
        let leader = Leader {
            name: self.config.name.clone().into(),
            generation: self
                .seen
                .as_ref()
                .and_then(|seen| seen.lease.spec.as_ref()?.lease_transitions)
                .unwrap_or(0),
            state,
        };
        // Renewed while the process drains, and released only when nothing of ours works on any more.
        let drained = CancellationToken::new();
        let name = format!("lease {}", self.config.name);
        let renewing = tokio::spawn(self.hold(sender, drained.clone()));
        shutdown.at_end(name, async move {
            drained.cancel();
            // Err is a panic, which is reported by the panic itself; the lease then expires.
            let _ = renewing.await;
        });
        leader
    }

    async fn hold(mut self, state: watch::Sender<State>, drained: CancellationToken) {
        if let Some(reason) = drained.run_until_cancelled(self.renew(&state)).await {
            tracing::error!(lease = %self.config.name, %reason, "leadership lost");
            state.send_modify(|state| state.lost = Some(reason));
        } else {
            state.send_modify(|state| state.lost = Some("released at shutdown".to_owned()));
            self.release().await;
        }
    }

    /// Renews until that fails for too long; returns why.
    async fn renew(&mut self, state: &watch::Sender<State>) -> String {
        let mut problem = "no renewal was tried".to_owned();
        loop {
            let end = state.borrow().valid_until;
            tokio::time::sleep_until((Instant::now() + self.config.retry_period).min(end)).await;
            if Instant::now() >= end {
                return format!(
                    "not renewed for {} s ({problem})",
                    self.config.renew_deadline.as_secs()
                );
            }
            match tokio::time::timeout_at(end, self.attempt()).await {
                Ok(Try::Held { from }) => {
                    state
                        .send_modify(|state| state.valid_until = from + self.config.renew_deadline);
                }
                Ok(Try::Other(holder)) => return format!("it is held by {holder}"),
                Ok(Try::Failed(reason)) => {
                    tracing::warn!(lease = %self.config.name, %reason, "renewal failed, trying again");
                    problem = reason;
                }
                Err(_) => "the API server did not answer in time".clone_into(&mut problem),
            }
        }
    }

    /// Lets others take over at once. If it fails they wait until the lease has expired.
    async fn release(&self) {
        let Some(seen) = &self.seen else { return };
        let mut lease = seen.lease.clone();
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match self
            .api
            .replace(&self.config.name, &PostParams::default(), &lease)
            .await
        {
            Ok(_) => tracing::info!(lease = %self.config.name, "leadership released"),
            Err(error) => {
                tracing::warn!(lease = %self.config.name, error = %chain(&error), "lease not released, it will expire");
            }
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    valid_until: Instant,
    lost: Option<String>,
}

/// Leadership, as long as it lasts. Clones are the same leadership.
#[derive(Clone, Debug)]
pub struct Leader {
    name: Arc<str>,
    generation: i32,
    state: watch::Receiver<State>,
}

impl Leader {
    /// Whether nobody else can be leader at that moment, as far as is known now. Ask right before what must not be done twice.
    #[must_use]
    pub fn is_valid_at(&self, when: Instant) -> bool {
        let state = self.state.borrow();
        state.lost.is_none() && when < state.valid_until
    }

    /// Number of the leadership: higher than that of every earlier holder.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Completes when leadership is over (also by shutdown), with the reason. Use it with [`Shutdown::run`] to end the process.
    pub async fn lost(mut self) -> LeaseError {
        let reason = match self.state.wait_for(|state| state.lost.is_some()).await {
            Ok(state) => state.lost.clone().unwrap_or_default(),
            Err(_) => "the renewing task ended".to_owned(),
        };
        LeaseError::Lost {
            name: self.name.to_string(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{FakeApi, Fault};

    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/master";

    fn a_config(identity: &str) -> LeaseConfig {
        let seconds = Duration::from_secs;
        let args = LeaseArgs {
            lease_duration: seconds(30),
            lease_renew_deadline: seconds(25),
            lease_retry_period: seconds(5),
        };
        LeaseConfig::new("ns", "master", identity, &args).unwrap()
    }

    struct Member {
        shutdown: Shutdown,
        task: tokio::task::JoinHandle<Result<Leader, LeaseError>>,
    }

    fn a_member(server: &FakeApi, identity: &str) -> Member {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let (candidate, stop) = (
            Candidate::new(server.client(), a_config(identity)),
            shutdown.clone(),
        );
        let task = tokio::spawn(async move { candidate.acquire(&stop, |_| {}).await });
        Member { shutdown, task }
    }

    async fn won(member: &mut Member) -> Leader {
        (&mut member.task).await.unwrap().unwrap()
    }

    fn holder(server: &FakeApi) -> String {
        server.object(LEASE).unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    async fn after(seconds: u64) {
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_one_leads_renews_and_keeps_others_out() {
        let server = FakeApi::new();
        let mut first = a_member(&server, "one");
        let leader = won(&mut first).await;
        let second = a_member(&server, "two");
        after(300).await;
        assert!(leader.is_valid_at(Instant::now()));
        assert_eq!(holder(&server), "one");
        assert!(!second.task.is_finished());
        assert_eq!(leader.generation(), 0);
        let spec = &server.object(LEASE).unwrap()["spec"];
        assert_eq!(spec["leaseDurationSeconds"], 30);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_releases_after_the_drain_and_another_takes_over_at_once() {
        let server = FakeApi::new();
        let mut first = a_member(&server, "one");
        let leader = won(&mut first).await;
        let mut second = a_member(&server, "two");
        after(1).await;
        let still = leader.clone();
        first.shutdown.spawn("work", async move {
            after(8).await;
            assert!(still.is_valid_at(Instant::now()), "leader while draining");
        });
        first.shutdown.begin("test");
        after(7).await;
        assert_eq!(holder(&server), "one");
        first.shutdown.finished().await.unwrap();
        assert!(!leader.is_valid_at(Instant::now()));
        let began = Instant::now();
        let next = won(&mut second).await;
        assert!(
            began.elapsed() <= Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
        assert_eq!((holder(&server).as_str(), next.generation()), ("two", 1));
        assert!(leader.lost().await.to_string().contains("released"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_not_renew_gives_up_before_another_takes_over() {
        let server = FakeApi::new();
        let mut first = a_member(&server, "one");
        let leader = won(&mut first).await;
        server.reject("PUT", 503);
        let mut second = a_member(&server, "two");
        after(24).await;
        assert!(leader.is_valid_at(Instant::now()));
        after(2).await;
        assert!(!leader.is_valid_at(Instant::now()));
        let error = leader.lost().await.to_string();
        assert!(
            error.contains("not renewed for 25 s")
                && error.contains("refused") | error.contains("rejected"),
            "{error}"
        );
        assert_eq!(holder(&server), "one");
        server.reject("PUT", 0);
        let next = won(&mut second).await;
        assert_eq!((holder(&server).as_str(), next.generation()), ("two", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_costs_the_leadership_in_time() {
        let server = FakeApi::new();
        let leader = won(&mut a_member(&server, "one")).await;
        let end = Instant::now() + Duration::from_secs(25);
        server.inject(std::iter::repeat_n(Fault::Hang, 20));
        let error = leader.clone().lost().await.to_string();
        assert!(Instant::now() <= end + Duration::from_millis(5), "{error}");
        assert!(!leader.is_valid_at(end));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_is_followed_after_its_own_duration_and_not_by_the_wall_clock() {
        let server = FakeApi::new();
        // renewTime is ages ago by the wall clock: the holder's clock may be wrong, so only our own observation counts.
        server.put(LEASE, json!({"metadata": {"name": "master", "namespace": "ns"}, "spec": {"holderIdentity": "dead",
            "leaseDurationSeconds": 60, "leaseTransitions": 4, "renewTime": "2001-01-01T00:00:00.000000Z"}}));
        let began = Instant::now();
        let leader = won(&mut a_member(&server, "one")).await;
        let waited = began.elapsed().as_secs();
        assert!((60..=66).contains(&waited), "{waited}");
        assert_eq!(leader.generation(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_come_at_once_one_leads() {
        let server = FakeApi::new();
        server.inject(std::iter::repeat_n(
            Fault::Delay(Duration::from_millis(50)),
            4,
        ));
        let (first, second) = (a_member(&server, "one"), a_member(&server, "two"));
        after(100).await;
        assert_eq!(
            usize::from(first.task.is_finished()) + usize::from(second.task.is_finished()),
            1
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_taken_by_force_is_noticed() {
        let server = FakeApi::new();
        let leader = won(&mut a_member(&server, "one")).await;
        let mut object = server.object(LEASE).unwrap();
        object["spec"]["holderIdentity"] = json!("thief");
        server.put(LEASE, object);
        let error = leader.lost().await.to_string();
        assert_eq!(error, "lost lease master: it is held by thief");
        assert_eq!(holder(&server), "thief");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_lost_is_no_lost_lease() {
        let server = FakeApi::new();
        server.inject([Fault::Delay(Duration::ZERO), Fault::LoseAnswer(504)]);
        let leader = won(&mut a_member(&server, "one")).await;
        assert_eq!((holder(&server).as_str(), leader.generation()), ("one", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_the_wait() {
        let server = FakeApi::new();
        let _leader = won(&mut a_member(&server, "one")).await;
        let second = a_member(&server, "two");
        after(1).await;
        second.shutdown.begin("test");
        assert!(matches!(
            second.task.await.unwrap(),
            Err(LeaseError::Stopping(_))
        ));
    }

    #[test]
    fn wrong_timings_and_empty_identities_are_refused() {
        let seconds = Duration::from_secs;
        for (duration, renew, retry) in [(30, 30, 5), (30, 25, 25), (30, 25, 0), (25, 30, 5)] {
            let args = LeaseArgs {
                lease_duration: seconds(duration),
                lease_renew_deadline: seconds(renew),
                lease_retry_period: seconds(retry),
            };
            assert!(matches!(
                LeaseConfig::new("ns", "l", "me", &args),
                Err(LeaseError::Timings { .. })
            ));
        }
        let args = LeaseArgs {
            lease_duration: seconds(30),
            lease_renew_deadline: seconds(25),
            lease_retry_period: seconds(5),
        };
        let error = LeaseConfig::new("ns", "l", "", &args).unwrap_err();
        assert!(error.to_string().contains("--identity"), "{error}");
    }
}
