//! Ending well: one token that says "stop", the tasks that are waited for, and a deadline for them.
//!
//! Not here: what each task does when told to stop. A task gets the token and returns when it has brought its work to an end.

use std::{
    collections::BTreeMap, error::Error, fmt, future::Future, io, sync::Arc, time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

use crate::telemetry::chain;

/// Why the process does not end with status 0.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// A task that has to live as long as the process ended with an error, or panicked.
    #[error("{task} failed: {reason}")]
    TaskFailed {
        /// The name given at [`Shutdown::run`].
        task: String,
        /// The error with its sources.
        reason: String,
    },
    /// Tasks were still running at the end of the drain deadline.
    #[error("still running {seconds} s after the stop was asked for: {tasks}")]
    DrainTimedOut {
        /// The deadline.
        seconds: u64,
        /// Names of the tasks.
        tasks: String,
    },
}

/// Tells all parts to stop, and waits for them. Clones share one state.
#[derive(Clone)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    drain: Duration,
    state: Arc<Mutex<State>>,
}

/// For what is done after all tasks have ended, such as giving back a lease: the rest of kubelet's grace period.
const END_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Default)]
struct State {
    at_end: Vec<(String, BoxFuture<'static, ()>)>,
    next: u64,
    running: BTreeMap<u64, String>,
    failure: Option<(String, String)>,
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("stopping", &self.token.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Shutdown {
    /// Without signal handlers, for tests; `drain` is how long [`Shutdown::finished`] waits for tasks.
    #[must_use]
    pub fn new(drain: Duration) -> Self {
        let (token, tracker) = (CancellationToken::new(), TaskTracker::new());
        Self {
            token,
            tracker,
            drain,
            state: Arc::default(),
        }
    }

    /// Stops on SIGTERM and SIGINT. A second signal ends the process at once with status 130, for impatient people.
    pub fn on_signals(drain: Duration) -> io::Result<Self> {
        let shutdown = Self::new(drain);
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            stop.begin(next().await);
            let second = next().await;
            tracing::warn!(signal = second, "second signal: ending without draining");
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    /// Tells everything to stop. Repeating it does nothing.
    pub fn begin(&self, reason: &str) {
        if !self.token.is_cancelled() {
            tracing::info!(reason, "stopping");
            self.token.cancel();
        }
    }

    /// The token that is cancelled when the process has to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Completes when the process has to stop.
    pub fn stopping(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// Whether the process has to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Runs a task that [`Shutdown::finished`] waits for. It has to end by itself once [`Shutdown::token`] is cancelled.
    ///
    /// If it panics, the process stops: half a daemon is worse than a restarted one.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.run(name, async move {
            task.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// As [`Shutdown::spawn`], for a task that may fail; a failure stops the process and is what [`Shutdown::finished`] returns.
    pub fn run<E: Error + Send + 'static>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let name = name.into();
        let id = {
            let mut state = self.state.lock();
            state.next += 1;
            let id = state.next;
            state.running.insert(id, name.clone());
            id
        };
        let this = self.clone();
        let inner = tokio::spawn(task);
        self.tracker.spawn(async move {
            let failure = match inner.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(chain(&error).to_string()),
                Err(joined) => Some(joined.to_string()),
            };
            let mut state = this.state.lock();
            state.running.remove(&id);
            if let Some(reason) = failure {
                tracing::error!(task = %name, %reason, "task failed");
                let _ = state.failure.get_or_insert((name, reason));
                drop(state);
                this.begin("a task failed");
            }
        });
    }

    /// Runs `last` once all tasks have ended. Not run if they did not end in time: what it gives back may still be in use.
    pub fn at_end(&self, name: impl Into<String>, last: impl Future<Output = ()> + Send + 'static) {
        self.state.lock().at_end.push((name.into(), Box::pin(last)));
    }

    /// Waits until the process has to stop, then for the tasks, at most for the drain deadline, then runs what is left for the end.
    pub async fn finished(self) -> Result<(), ShutdownError> {
        self.token.cancelled().await;
        self.tracker.close();
        let drained = tokio::time::timeout(self.drain, self.tracker.wait()).await;
        if drained.is_ok() {
            let last = std::mem::take(&mut self.state.lock().at_end);
            for (name, last) in last {
                if tokio::time::timeout(END_TIMEOUT, last).await.is_err() {
                    tracing::warn!(task = %name, "did not end in time");
                }
            }
        }
        let state = self.state.lock();
        if let Some((task, reason)) = state.failure.clone() {
            return Err(ShutdownError::TaskFailed { task, reason });
        }
        if drained.is_err() {
            let tasks = state
                .running
                .values()
                .cloned()
                .collect::<Vec<_>>()
                .join(", ");
            return Err(ShutdownError::DrainTimedOut {
                seconds: self.drain.as_secs(),
                tasks,
            });
        }
        tracing::info!("stopped");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_in_progress_is_waited_for() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let done = Arc::new(Mutex::new(false));
        let (token, flag) = (shutdown.token(), done.clone());
        shutdown.spawn("writer", async move {
            token.cancelled().await;
            tokio::time::advance(Duration::from_secs(5)).await;
            *flag.lock() = true;
        });
        shutdown.begin("test");
        shutdown.finished().await.unwrap();
        assert!(*done.lock());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_after_all_tasks_and_not_at_all_if_one_goes_on() {
        for (task_seconds, ended) in [(5, true), (11, false)] {
            let shutdown = Shutdown::new(Duration::from_secs(10));
            let log: Arc<Mutex<Vec<&str>>> = Arc::default();
            let (task, end) = (log.clone(), log.clone());
            shutdown.at_end("lease", async move { end.lock().push("end") });
            shutdown.spawn("task", async move {
                tokio::time::sleep_until(
                    tokio::time::Instant::now() + Duration::from_secs(task_seconds),
                )
                .await;
                task.lock().push("task");
            });
            shutdown.begin("test");
            assert_eq!(shutdown.finished().await.is_ok(), ended);
            assert_eq!(
                *log.lock(),
                if ended { vec!["task", "end"] } else { vec![] }
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_do_not_end_are_named() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.spawn("stuck", std::future::pending());
        shutdown.begin("test");
        let error = shutdown.finished().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "still running 10 s after the stop was asked for: stuck"
        );
    }

    #[tokio::test]
    async fn a_failed_task_stops_the_process_and_is_the_result() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.run("server", async { Err(io::Error::other("address in use")) });
        let error = shutdown.finished().await.unwrap_err();
        assert_eq!(error.to_string(), "server failed: address in use");
    }

    #[tokio::test]
    async fn a_panic_stops_the_process() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.spawn("worker", async { panic!("broken invariant") });
        let error = shutdown.finished().await.unwrap_err().to_string();
        assert!(
            error.starts_with("worker failed") && error.contains("panic"),
            "{error}"
        );
    }
}
