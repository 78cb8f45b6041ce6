//! A keyed work queue: brings what is asked and what is there together, key by key.
//!
//! Keys are deduplicated, one worker at a time for a key, failures are retried with exponential backoff and jitter.
//!
//! Why not `kube::runtime::Controller`: it brings its own watch and cache for each controller, where our processes share one watch
//! for each kind between several decisions ([`crate::store::Store`]); and its keys are objects, while ours are also pools and nodes.
//! Where one kind is watched for one purpose only, `Controller` does as well.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    fmt::Debug,
    future::Future,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet, time::Instant};

use crate::{shutdown::Shutdown, telemetry::chain};

/// What to do with a key after a successful run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until it is added again.
    Done,
    /// Run it again after this time, or earlier if it is added.
    RequeueAfter(Duration),
}

/// Pauses between retries of one key.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Pause after the first failure.
    pub min: Duration,
    /// Longest pause.
    pub max: Duration,
}

impl Default for Retry {
    /// A conflict is over in milliseconds; a broken disk is looked at twice a minute.
    fn default() -> Self {
        Self {
            min: Duration::from_millis(200),
            max: Duration::from_secs(30),
        }
    }
}

/// Where one key is.
struct Slot {
    running: bool,
    /// Added again while running.
    again: bool,
    /// When it is due, if it waits; the number makes the place in the queue unique.
    due: Option<(Instant, u64)>,
    backoff: Option<ExponentialBackoff>,
}

struct Inner<T> {
    slots: HashMap<T, Slot>,
    queue: BTreeMap<(Instant, u64), T>,
    next: u64,
}

/// The queue. Clones share one state.
pub struct Queue<T> {
    inner: Arc<Mutex<Inner<T>>>,
    wake: Arc<Notify>,
    retry: Retry,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            wake: self.wake.clone(),
            retry: self.retry,
        }
    }
}

impl<T> Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.inner.lock().queue.len())
            .finish_non_exhaustive()
    }
}

impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> Default for Queue<T> {
    fn default() -> Self {
        Self::new(Retry::default())
    }
}

impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(retry: Retry) -> Self {
        let inner = Inner {
            slots: HashMap::new(),
            queue: BTreeMap::new(),
            next: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            wake: Arc::default(),
            retry,
        }
    }

    /// Runs the key as soon as a worker is free. A key that waits is run once; one that is running is run again afterwards.
    ///
    /// A key that waits for its retry is run now: something has changed. Its pauses still grow if it fails again.
    pub fn add(&self, key: T) {
        self.add_after(key, Duration::ZERO);
    }

    /// Runs the key after `delay`, or earlier if it is due earlier already.
    pub fn add_after(&self, key: T, delay: Duration) {
        let mut inner = self.inner.lock();
        inner.schedule(key, Instant::now() + delay);
        drop(inner);
        self.wake.notify_one();
    }

    /// How many keys wait or run.
    #[must_use]
    pub fn len(&self) -> usize {
        let inner = self.inner.lock();
        inner
            .slots
            .values()
            .filter(|slot| slot.running || slot.due.is_some())
            .count()
    }

    /// Whether no key waits or runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `reconcile` for each key in tracked tasks, at most `workers` at a time, until shutdown; what runs then is finished.
    ///
    /// Errors are logged here, once. `reconcile` must bound its own time: a run that never ends blocks its key and a worker.
    pub fn run<F, R, E>(
        &self,
        name: &'static str,
        workers: usize,
        shutdown: &Shutdown,
        reconcile: F,
    ) where
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Action, E>> + Send + 'static,
        E: Error + Send + 'static,
    {
        let (this, token) = (self.clone(), shutdown.token());
        shutdown.run(name, async move {
            let mut running = JoinSet::new();
            loop {
                let (ready, next) = if running.len() < workers.max(1) {
                    this.take()
                } else {
                    (None, None)
                };
                if let Some(key) = ready {
                    let work = reconcile(key.clone());
                    running.spawn(async move { (key, work.await) });
                    continue;
                }
                let timer = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                // All branches are cancel-safe; what they found is looked at again in the next round.
                tokio::select! {
                    () = token.cancelled() => break,
                    () = this.wake.notified() => {}
                    () = timer => {}
                    Some(done) = running.join_next() => this.done(name, done?),
                }
            }
            while let Some(done) = running.join_next().await {
                this.done(name, done?);
            }
            Ok::<(), tokio::task::JoinError>(())
        });
    }

    /// The keys that wait, due or not, in no particular order. With [`Queue::start`] and [`Queue::finish`] for those who choose
    /// the order of work themselves instead of by [`Queue::run`], such as a simulation.
    #[must_use]
    pub fn waiting(&self) -> Vec<T> {
        self.inner.lock().queue.values().cloned().collect()
    }

    /// Takes a key that waits, whether it is due or not; false if it does not wait.
    #[must_use]
    pub fn start(&self, key: &T) -> bool {
        let mut inner = self.inner.lock();
        let Some(slot) = inner.slots.get_mut(key) else {
            return false;
        };
        let Some(due) = slot.due.take() else {
            return false;
        };
        slot.running = true;
        inner.queue.remove(&due);
        true
    }

    /// What the work on a key that was started came to.
    pub fn finish<E: Error + 'static>(&self, key: T, result: Result<Action, E>) {
        self.done("by hand", (key, result));
    }

    /// A key that is due, or else when the next one will be.
    fn take(&self) -> (Option<T>, Option<Instant>) {
        let mut inner = self.inner.lock();
        let Some((&(due, _), _)) = inner.queue.first_key_value() else {
            return (None, None);
        };
        if due > Instant::now() {
            return (None, Some(due));
        }
        let key = inner.queue.pop_first().map(|(_, key)| key);
        if let Some(slot) = key.as_ref().and_then(|key| inner.slots.get_mut(key)) {
            slot.due = None;
            slot.running = true;
        }
        (key, None)
    }

    fn done<E: Error + 'static>(&self, name: &'static str, (key, result): (T, Result<Action, E>)) {
        let mut inner = self.inner.lock();
        let Some(slot) = inner.slots.get_mut(&key) else {
            return;
        };
        slot.running = false;
        let again = std::mem::take(&mut slot.again);
        let pause = match result {
            Ok(action) => {
                slot.backoff = None;
                match action {
                    Action::Done => None,
                    Action::RequeueAfter(pause) => Some(pause),
                }
            }
            Err(error) => {
                let Retry { min, max } = self.retry;
                let builder = ExponentialBuilder::default()
                    .with_min_delay(min)
                    .with_max_delay(max)
                    .with_jitter()
                    .without_max_times();
                let pause = slot
                    .backoff
                    .get_or_insert_with(|| builder.build())
                    .next()
                    .unwrap_or(max);
                tracing::warn!(queue = name, ?key, error = %chain(&error), retry_in_ms = pause.as_millis(), "not done yet, trying again");
                Some(pause)
            }
        };
        let pause = if again { Some(Duration::ZERO) } else { pause };
        match pause {
            Some(pause) => inner.schedule(key, Instant::now() + pause),
            None => drop(inner.slots.remove(&key)),
        }
    }
}

impl<T: Clone + Eq + Hash> Inner<T> {
    fn schedule(&mut self, key: T, at: Instant) {
        self.next += 1;
        let place = (at, self.next);
        let slot = self.slots.entry(key.clone()).or_insert(Slot {
            running: false,
            again: false,
            due: None,
            backoff: None,
        });
        if slot.running {
            slot.again = true;
            return;
        }
        match slot.due {
            Some(due) if due.0 <= at => return,
            Some(due) => drop(self.queue.remove(&due)),
            None => {}
        }
        slot.due = Some(place);
        self.queue.insert(place, key);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use super::*;

    /// Records runs, and how many of one key were running at once.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<LogState>>);

    #[derive(Default)]
    struct LogState {
        runs: Vec<(&'static str, u128)>,
        running: Map<&'static str, usize>,
        most: usize,
        most_of_one_key: usize,
    }

    #[tokio::test(start_paused = true)]
    async fn driven_by_hand_any_key_that_waits_can_be_chosen() {
        let queue = Queue::<&'static str>::default();
        queue.add("a");
        queue.add_after("b", Duration::from_secs(60));
        assert!(queue.start(&"b") && !queue.start(&"b") && !queue.start(&"c"));
        assert_eq!(queue.waiting(), ["a"]);
        queue.add("b");
        assert_eq!(queue.waiting(), ["a"], "it runs, and will run again");
        queue.finish("b", Ok::<_, std::io::Error>(Action::Done));
        assert_eq!(queue.waiting(), ["a", "b"]);
        assert!(queue.start(&"b"));
        queue.finish("b", Ok::<_, std::io::Error>(Action::Done));
        assert_eq!(queue.waiting(), ["a"]);
    }

    struct Setup {
        queue: Queue<&'static str>,
        log: Log,
        shutdown: Shutdown,
        began: Instant,
    }

    /// Each run takes `work` and then ends with what `outcome` says for the number of runs so far.
    fn a_queue(
        workers: usize,
        work: Duration,
        outcome: fn(usize) -> Result<Action, std::io::Error>,
    ) -> Setup {
        let (queue, log, shutdown) = (
            Queue::default(),
            Log::default(),
            Shutdown::new(Duration::from_secs(60)),
        );
        let (shared, began) = (log.clone(), Instant::now());
        queue.run("test", workers, &shutdown, move |key: &'static str| {
            let log = shared.clone();
            async move {
                let number = log.begin(key, began);
                tokio::time::sleep_until(Instant::now() + work).await;
                log.end(key);
                outcome(number)
            }
        });
        Setup {
            queue,
            log,
            shutdown,
            began,
        }
    }

    impl Log {
        fn begin(&self, key: &'static str, began: Instant) -> usize {
            let mut log = self.0.lock();
            log.runs.push((key, began.elapsed().as_millis()));
            *log.running.entry(key).or_default() += 1;
            log.most_of_one_key = log.most_of_one_key.max(log.running[key]);
            let all = log.running.values().sum();
            log.most = log.most.max(all);
            log.runs.len()
        }

        fn end(&self, key: &'static str) {
            *self.0.lock().running.entry(key).or_default() -= 1;
        }

        /// Of one key, and of all.
        fn most(&self) -> (usize, usize) {
            let log = self.0.lock();
            (log.most_of_one_key, log.most)
        }

        fn runs(&self) -> Vec<(&'static str, u128)> {
            self.0.lock().runs.clone()
        }
    }

    async fn until(at: Instant, seconds: u64) {
        tokio::time::sleep_until(at + Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_deduplicated_and_one_runs_once_at_a_time() {
        let Setup {
            queue, log, began, ..
        } = a_queue(8, Duration::from_millis(100), |_| Ok(Action::Done));
        for _ in 0..5 {
            queue.add("a");
            queue.add("b");
        }
        tokio::time::sleep_until(began + Duration::from_millis(50)).await;
        queue.add("a");
        queue.add("a");
        until(began, 5).await;
        assert_eq!(log.runs(), [("a", 0), ("b", 0), ("a", 100)]);
        assert_eq!(log.most(), (1, 2));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_workers_than_allowed() {
        let Setup {
            queue, log, began, ..
        } = a_queue(2, Duration::from_millis(100), |_| Ok(Action::Done));
        for key in ["a", "b", "c", "d", "e"] {
            queue.add(key);
        }
        until(began, 5).await;
        assert_eq!((log.runs().len(), log.most()), (5, (1, 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_growing_pauses_and_a_success_ends_that() {
        let fail_four_times = |number| {
            if number < 5 {
                Err(std::io::Error::other("disk is away"))
            } else {
                Ok(Action::Done)
            }
        };
        let Setup {
            queue, log, began, ..
        } = a_queue(1, Duration::ZERO, fail_four_times);
        queue.add("a");
        until(began, 600).await;
        let times: Vec<u128> = log.runs().iter().map(|(_, at)| *at).collect();
        let pauses: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Each pause is doubled, and jitter adds up to as much again.
        let expected = [200, 400, 800, 1600];
        assert_eq!(pauses.len(), expected.len(), "{pauses:?}");
        for (pause, least) in pauses.iter().zip(expected) {
            assert!((least..=2 * least + 2).contains(pause), "{pauses:?}");
        }
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_does_not_wait_for_the_pause_to_end() {
        let once = |number| {
            Ok(if number == 1 {
                Action::RequeueAfter(Duration::from_secs(60))
            } else {
                Action::Done
            })
        };
        let Setup {
            queue, log, began, ..
        } = a_queue(1, Duration::ZERO, once);
        queue.add("a");
        until(began, 1).await;
        queue.add_after("a", Duration::from_secs(100));
        queue.add("a");
        until(began, 200).await;
        assert_eq!(log.runs(), [("a", 0), ("a", 1000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn requeued_keys_run_again_and_shutdown_lets_a_run_finish() {
        let Setup {
            queue,
            log,
            shutdown,
            began,
        } = a_queue(1, Duration::from_secs(2), |_| {
            Ok(Action::RequeueAfter(Duration::from_secs(8)))
        });
        queue.add("a");
        until(began, 11).await;
        shutdown.begin("test");
        shutdown.finished().await.unwrap();
        assert_eq!(log.runs(), [("a", 0), ("a", 10_000)]);
        assert_eq!(log.0.lock().running["a"], 0);
        assert!(began.elapsed() < Duration::from_secs(13));
    }
}
