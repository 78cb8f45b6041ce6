//! Keeps Secret, API server and our own HTTPS server in step: read, decide, write, publish, serve.
//!
//! Every replica does the same on a timer; writes are compare-and-swap, so they agree on one Secret.

use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use hawser_runtime::health::Readiness;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::telemetry::chain;
use hawser_runtime::tls::{TlsError, server_config};
use jiff::Timestamp;
use thiserror::Error;

use crate::certificate::cluster::{Cluster, Published};
use crate::certificate::issue::{IssueError, Names};
use crate::certificate::material::Material;
use crate::certificate::plan::plan;

/// Two small reads; a Secret or a bundle that somebody deleted is missed for so long.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// Instead, while a configuration is missing.
const SOON: Duration = Duration::from_secs(2);

/// How often one round tries again after another replica was faster. Each time somebody has made progress.
const ATTEMPTS: usize = 5;

/// The time, for tests to choose.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why there is no usable certificate now. The next round tries again.
#[derive(Debug, Error)]
pub enum KeeperError {
    #[error("can't read the certificates' Secret")]
    Read(#[source] kube::Error),
    #[error("can't write the certificates' Secret")]
    Write(#[source] kube::Error),
    #[error("can't put the certificate bundle into the webhook's configuration")]
    Publish(#[source] kube::Error),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Unusable(#[from] TlsError),
    #[error("others keep changing the certificates' Secret")]
    Contended,
}

/// Keeps one webhook's certificates.
pub struct Keeper<C> {
    cluster: C,
    names: Names,
    clock: Clock,
    served: Option<(Material, RustlsConfig)>,
    /// The bundle that was published by the end of the last round: by now every API server has heard of it.
    heard: String,
    /// Said once, not every round.
    complained: bool,
}

impl<C: Cluster + 'static> Keeper<C> {
    #[must_use]
    pub fn new(cluster: C, names: Names, clock: Clock) -> Self {
        Self {
            cluster,
            names,
            clock,
            served: None,
            heard: String::new(),
            complained: false,
        }
    }

    /// One round. What it returns is served from now on; repeating it right away changes nothing.
    pub async fn round(&mut self) -> Result<RustlsConfig, KeeperError> {
        let material = self.settle().await?;
        // Before it is served: the API server must trust it by then.
        match self
            .cluster
            .publish(&material.bundle)
            .await
            .map_err(KeeperError::Publish)?
        {
            Published::Already => self.complained = false,
            Published::Now => {
                self.complained = false;
                tracing::info!("certificate bundle published to the API server");
            }
            Published::NoWebhook if self.complained => {}
            Published::NoWebhook => {
                self.complained = true;
                tracing::warn!(
                    "a configuration of the webhook is missing: what it is for does not reach this webhook until it is applied"
                );
            }
        }
        let heard = std::mem::replace(&mut self.heard, material.bundle.clone());
        if let Some(config) = self.held_back(&material, &heard) {
            return Ok(config);
        }
        self.serve(material)
    }

    /// What goes on being served for one more round, since API servers may not have heard yet of the authority behind the new certificate: they
    /// learn of a changed configuration by a watch. What they would not accept either is not held on to.
    fn held_back(&self, material: &Material, heard: &str) -> Option<RustlsConfig> {
        let (served, config) = self.served.as_ref()?;
        let now = (self.clock)();
        let accepted = |certificate: &str, bundle: &str| {
            let both = Material {
                certificate: certificate.to_owned(),
                bundle: bundle.to_owned(),
                ..material.clone()
            };
            both.is_trusted(self.names.as_slice(), now)
        };
        let early = !accepted(&material.certificate, heard);
        let still = accepted(&served.certificate, &material.bundle);
        (early && still).then(|| config.clone())
    }

    /// The Secret's content once nothing has to change in it.
    async fn settle(&self) -> Result<Material, KeeperError> {
        for _ in 0..ATTEMPTS {
            let read = self.cluster.read().await.map_err(KeeperError::Read)?;
            let found = read.as_ref().and_then(|stored| stored.material.as_ref());
            match (
                plan(found, &self.heard, &self.names, (self.clock)())?,
                found,
            ) {
                (None, Some(found)) => return Ok(found.clone()),
                (Some((next, reason)), _) => {
                    if self
                        .cluster
                        .write(&next, read.as_ref())
                        .await
                        .map_err(KeeperError::Write)?
                    {
                        tracing::info!(reason, "certificates written");
                    }
                }
                (None, None) => {}
            }
        }
        Err(KeeperError::Contended)
    }

    fn serve(&mut self, material: Material) -> Result<RustlsConfig, KeeperError> {
        if let Some((served, config)) = &self.served
            && (&served.certificate, &served.certificate_key)
                == (&material.certificate, &material.certificate_key)
        {
            return Ok(config.clone());
        }
        let fresh = server_config(
            material.certificate.as_bytes(),
            material.certificate_key.as_bytes(),
        )?;
        let config = match &self.served {
            Some((_, config)) => {
                config.reload_from_config(fresh);
                tracing::info!("new certificate in use");
                config.clone()
            }
            None => RustlsConfig::from_config(fresh),
        };
        self.served = Some((material, config.clone()));
        Ok(config)
    }

    /// Rounds until the first one succeeds; `None` if the process stops before.
    pub async fn first(&mut self, ready: &Readiness, shutdown: &Shutdown) -> Option<RustlsConfig> {
        let token = shutdown.token();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            token.run_until_cancelled(ticks.tick()).await?;
            match token.run_until_cancelled(self.round()).await? {
                Ok(config) => {
                    return Some(config);
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "no certificate yet, trying again");
                    ready.not_ready("no certificate yet");
                }
            }
        }
    }

    /// Rounds on a timer until shutdown. An error leaves what is served in use. While a configuration is missing the next round comes soon:
    /// it is being applied, and what it is for fails until it has the bundle.
    pub fn follow(mut self, interval: Duration, shutdown: &Shutdown) {
        let token = shutdown.token();
        shutdown.spawn("certificates", async move {
            loop {
                let pause = if self.complained {
                    interval.min(SOON)
                } else {
                    interval
                };
                if token.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                if let Some(Err(error)) = token.run_until_cancelled(self.round()).await {
                    tracing::warn!(error = %chain(&error), "certificates not checked, trying again");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use jiff::SignedDuration;
    use parking_lot::Mutex;

    use super::*;
    use crate::certificate::cluster::Stored;
    use crate::certificate::issue::{AUTHORITY_LIFE, CERTIFICATE_LIFE};

    /// An API server in memory that refuses stale writes and lets others write in between.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        stored: Option<Stored>,
        versions: u64,
        bundle: Option<String>,
        no_webhook: bool,
        /// Takes effect after the next read: what another replica does meanwhile.
        meanwhile: Vec<Material>,
        writes: usize,
    }

    impl State {
        fn put(&mut self, material: Material) {
            self.versions += 1;
            self.stored = Some(Stored {
                material: Some(material),
                version: self.versions.to_string(),
            });
        }
    }

    #[async_trait]
    impl Cluster for Memory {
        async fn read(&self) -> Result<Option<Stored>, kube::Error> {
            let mut state = self.0.lock();
            let read = state.stored.clone();
            if let Some(material) = state.meanwhile.pop() {
                state.put(material);
            }
            Ok(read)
        }

        async fn write(
            &self,
            material: &Material,
            read: Option<&Stored>,
        ) -> Result<bool, kube::Error> {
            let mut state = self.0.lock();
            if state.stored.as_ref().map(|stored| &stored.version)
                != read.map(|stored| &stored.version)
            {
                return Ok(false);
            }
            state.put(material.clone());
            state.writes += 1;
            Ok(true)
        }

        async fn publish(&self, bundle: &str) -> Result<Published, kube::Error> {
            let mut state = self.0.lock();
            if state.no_webhook {
                return Ok(Published::NoWebhook);
            }
            let before = state.bundle.replace(bundle.to_owned());
            Ok(if before.as_deref() == Some(bundle) {
                Published::Already
            } else {
                Published::Now
            })
        }
    }

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn a_clock() -> (Clock, Arc<Mutex<Timestamp>>) {
        let time = Arc::new(Mutex::new(start()));
        let shared = time.clone();
        (Arc::new(move || *shared.lock()), time)
    }

    fn names() -> Names {
        Names::of_service("webhook", "storage")
    }

    fn a_keeper(memory: &Memory, clock: &Clock) -> Keeper<Memory> {
        Keeper::new(memory.clone(), names(), clock.clone())
    }

    fn served(keeper: &Keeper<Memory>) -> &Material {
        &keeper.served.as_ref().unwrap().0
    }

    #[tokio::test]
    async fn the_first_round_makes_publishes_and_serves_and_the_second_does_nothing() {
        let (memory, (clock, _)) = (Memory::default(), a_clock());
        let mut keeper = a_keeper(&memory, &clock);
        let first = keeper.round().await.unwrap().get_inner();
        let second = keeper.round().await.unwrap().get_inner();
        assert!(Arc::ptr_eq(&first, &second));
        let state = memory.0.lock();
        assert_eq!(state.writes, 1);
        assert_eq!(state.bundle.as_ref(), Some(&served(&keeper).bundle));
    }

    #[tokio::test]
    async fn two_replicas_that_start_at_once_serve_the_same() {
        let (memory, (clock, _)) = (Memory::default(), a_clock());
        // The other replica's certificates appear between our read and our write.
        let (others, _) = plan(None, "", &names(), start()).unwrap().unwrap();
        memory.0.lock().meanwhile.push(others.clone());
        let mut ours = a_keeper(&memory, &clock);
        ours.round().await.unwrap();
        assert_eq!(served(&ours), &others);
        assert_eq!(memory.0.lock().writes, 0);

        let mut other = a_keeper(&memory, &clock);
        other.round().await.unwrap();
        assert_eq!(served(&other), served(&ours));
    }

    #[tokio::test]
    async fn a_renewal_by_one_replica_is_taken_up_by_the_other_without_a_new_server() {
        let (memory, (clock, time)) = (Memory::default(), a_clock());
        let (mut one, mut two) = (a_keeper(&memory, &clock), a_keeper(&memory, &clock));
        let config = two.round().await.unwrap();
        one.round().await.unwrap();
        let before = config.get_inner();

        *time.lock() = start() + CERTIFICATE_LIFE * 2 / 3 + SignedDuration::from_hours(1);
        one.round().await.unwrap();
        two.round().await.unwrap();
        assert_eq!(served(&one), served(&two));
        assert_eq!(memory.0.lock().writes, 2);
        assert!(!Arc::ptr_eq(&before, &config.get_inner()));
    }

    #[tokio::test]
    async fn both_renewing_at_once_agree() {
        let (memory, (clock, time)) = (Memory::default(), a_clock());
        let mut one = a_keeper(&memory, &clock);
        one.round().await.unwrap();
        let now = start() + CERTIFICATE_LIFE * 2 / 3 + SignedDuration::from_hours(1);
        *time.lock() = now;
        let (renewed_by_other, _) = plan(Some(served(&one)), "", &names(), now)
            .unwrap()
            .unwrap();
        memory.0.lock().meanwhile.push(renewed_by_other.clone());
        one.round().await.unwrap();
        assert_eq!(served(&one), &renewed_by_other);
    }

    #[tokio::test]
    async fn a_certificate_of_a_new_authority_is_served_one_round_after_that_was_published() {
        let (memory, (clock, time)) = (Memory::default(), a_clock());
        let (mut one, mut two) = (a_keeper(&memory, &clock), a_keeper(&memory, &clock));
        for keeper in [&mut one, &mut two] {
            keeper.round().await.unwrap();
        }
        let before = served(&one).certificate.clone();
        // Both are due at once.
        *time.lock() = start() + AUTHORITY_LIFE * 2 / 3 + SignedDuration::from_hours(1);
        let renewed = with_new_leaf(&memory, *time.lock());
        memory.0.lock().put(renewed.clone());
        for keeper in [&mut one, &mut two] {
            keeper.round().await.unwrap();
            keeper.round().await.unwrap();
        }
        let before_authority = served(&one).certificate.clone();
        assert_ne!(before, before_authority);

        // A new authority, and a certificate of it, in one step: what a person may do by hand.
        let (anew, _) = plan(None, "", &names(), *time.lock()).unwrap().unwrap();
        let old = memory.0.lock().stored.clone().unwrap().material.unwrap();
        let bundle = format!("{}{}", anew.bundle, old.bundle);
        memory.0.lock().put(Material {
            bundle,
            ..anew.clone()
        });
        for keeper in [&mut one, &mut two] {
            keeper.round().await.unwrap();
            assert_eq!(served(keeper).certificate, before_authority, "too early");
        }
        for keeper in [&mut one, &mut two] {
            keeper.round().await.unwrap();
            assert_eq!(served(keeper).certificate, anew.certificate);
        }
    }

    /// What is stored, with a certificate that is fresh at this time.
    fn with_new_leaf(memory: &Memory, now: Timestamp) -> Material {
        let mut found = memory.0.lock().stored.clone().unwrap().material.unwrap();
        while let Some((next, _)) = plan(Some(&found), "", &names(), now).unwrap() {
            found = next;
        }
        found
    }

    /// Ten minutes apart, in both directions: nobody undoes the other's work, and both are believed by an API server between them.
    #[tokio::test]
    async fn replicas_whose_clocks_differ_agree() {
        for skew in [-10, 10].map(SignedDuration::from_mins) {
            let (memory, (clock, time)) = (Memory::default(), a_clock());
            let other: Clock = Arc::new({
                let clock = clock.clone();
                move || clock() + skew
            });
            let (mut one, mut two) = (a_keeper(&memory, &clock), a_keeper(&memory, &other));
            let mut at = start();
            let mut writes = 0;
            while at < start() + CERTIFICATE_LIFE * 3 {
                *time.lock() = at;
                for keeper in [&mut one, &mut two] {
                    keeper.round().await.unwrap();
                }
                for keeper in [&mut one, &mut two] {
                    keeper.round().await.unwrap();
                }
                assert_eq!(served(&one), served(&two), "{skew} at {at}");
                for api_server in [
                    at - SignedDuration::from_mins(10),
                    at + SignedDuration::from_mins(10),
                ] {
                    assert!(
                        served(&one).is_trusted(names().as_slice(), api_server),
                        "{skew} at {at}"
                    );
                }
                writes = memory.0.lock().writes;
                at += CERTIFICATE_LIFE / 6;
            }
            // The first, and one each two thirds of a life.
            assert_eq!(writes, 5, "{skew}");
        }
    }

    #[tokio::test]
    async fn a_secret_without_use_is_filled() {
        let (memory, (clock, _)) = (Memory::default(), a_clock());
        memory.0.lock().stored = Some(Stored {
            material: None,
            version: "0".to_owned(),
        });
        let mut keeper = a_keeper(&memory, &clock);
        keeper.round().await.unwrap();
        assert!(memory.0.lock().stored.as_ref().unwrap().material.is_some());
    }

    #[tokio::test]
    async fn a_deleted_secret_and_a_lost_bundle_come_back() {
        let (memory, (clock, _)) = (Memory::default(), a_clock());
        let mut keeper = a_keeper(&memory, &clock);
        keeper.round().await.unwrap();
        memory.0.lock().stored = None;
        memory.0.lock().bundle = Some("somebody else's".to_owned());
        let before = served(&keeper).clone();
        keeper.round().await.unwrap();
        // Not at once: the API server has just been told of the new authority, and trusts the old one too.
        assert_eq!(served(&keeper), &before);
        keeper.round().await.unwrap();
        let state = memory.0.lock();
        let stored = state.stored.as_ref().unwrap().material.clone().unwrap();
        assert_eq!(served(&keeper), &stored);
        assert!(stored.bundle.contains(&before.authority));
        assert_eq!(state.bundle, Some(stored.bundle));
    }

    #[tokio::test]
    async fn without_a_configuration_the_certificate_is_served_anyway() {
        let (memory, (clock, _)) = (Memory::default(), a_clock());
        memory.0.lock().no_webhook = true;
        assert!(a_keeper(&memory, &clock).round().await.is_ok());
    }

    #[tokio::test]
    async fn endless_contention_is_an_error_not_a_loop() {
        let (memory, (clock, _)) = (Memory::default(), a_clock());
        let useless = |_| Material {
            authority: "x".to_owned(),
            authority_key: "x".to_owned(),
            bundle: "x".to_owned(),
            certificate: "x".to_owned(),
            certificate_key: "x".to_owned(),
        };
        memory.0.lock().meanwhile = (0..20).map(useless).collect();
        assert!(matches!(
            a_keeper(&memory, &clock).round().await,
            Err(KeeperError::Contended)
        ));
    }
}
