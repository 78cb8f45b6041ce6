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
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// How often one round tries again after another replica was faster. Each time somebody has made progress.
const ATTEMPTS: usize = 5;

/// The time, for tests to choose.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why there is no usable certificate now. The next round tries again.
#[derive(Debug, Error)]
pub(crate) enum KeeperError {
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
pub(crate) struct Keeper<C> {
    cluster: C,
    names: Names,
    clock: Clock,
    served: Option<(Material, RustlsConfig)>,
    /// Said once, not every round.
    complained: bool,
}

impl<C: Cluster + 'static> Keeper<C> {
    pub(crate) fn new(cluster: C, names: Names, clock: Clock) -> Self {
        Self {
            cluster,
            names,
            clock,
            served: None,
            complained: false,
        }
    }

    /// One round. What it returns is served from now on; repeating it right away changes nothing.
    pub(crate) async fn round(&mut self) -> Result<RustlsConfig, KeeperError> {
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
                    "the webhook's configuration is missing: no pod reaches this webhook until it is applied"
                );
            }
        }
        self.serve(material)
    }

    /// The Secret's content once nothing has to change in it.
    async fn settle(&self) -> Result<Material, KeeperError> {
        for _ in 0..ATTEMPTS {
            let read = self.cluster.read().await.map_err(KeeperError::Read)?;
            let found = read.as_ref().and_then(|stored| stored.material.as_ref());
            match (plan(found, &self.names, (self.clock)())?, found) {
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
    pub(crate) async fn first(
        &mut self,
        ready: &Readiness,
        shutdown: &Shutdown,
    ) -> Option<RustlsConfig> {
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

    /// Rounds on a timer until shutdown. An error leaves what is served in use.
    pub(crate) fn follow(mut self, interval: Duration, shutdown: &Shutdown) {
        let token = shutdown.token();
        shutdown.spawn("certificates", async move {
            let mut ticks = tokio::time::interval(interval);
            while token.run_until_cancelled(ticks.tick()).await.is_some() {
                if let Some(Err(error)) = token.run_until_cancelled(self.round()).await { tracing::warn!(error = %chain(&error), "certificates not checked, trying again"); }
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
    use crate::certificate::issue::CERTIFICATE_LIFE;

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
        let (others, _) = plan(None, &names(), start()).unwrap().unwrap();
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
        let (renewed_by_other, _) = plan(Some(served(&one)), &names(), now).unwrap().unwrap();
        memory.0.lock().meanwhile.push(renewed_by_other.clone());
        one.round().await.unwrap();
        assert_eq!(served(&one), &renewed_by_other);
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
        keeper.round().await.unwrap();
        let state = memory.0.lock();
        let stored = state.stored.as_ref().unwrap().material.clone().unwrap();
        assert_eq!(served(&keeper), &stored);
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
