//! Not asking again what has not answered yet. A device that does not answer holds whoever asks it, and no signal ends that: each
//! further try would leave one more thread or process behind.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Work about one thing that may hang in the kernel: while a piece of it does, no other is begun. Clones share.
#[derive(Clone, Debug, Default)]
pub struct Lane(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Pieces that have outlasted everybody's patience.
    hanging: AtomicUsize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// There is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hangs {
    /// What was begun goes on by itself.
    #[error("there is no answer within {0:?}")]
    Late(Duration),
    /// Nothing was begun.
    #[error("an earlier try has not been answered yet")]
    Earlier,
}

/// A piece of work that hangs, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Hanging(Lane);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.0.hanging.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lane {
    /// Whether something hangs now.
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.0.hanging.load(Ordering::Acquire) > 0
    }

    pub(crate) fn hold(&self) -> Hanging {
        self.0.hanging.fetch_add(1, Ordering::AcqRel);
        Hanging(self.clone())
    }

    /// Runs work in a task of its own and waits for it, for its turn too, at most `patience`. One piece runs at a time. What does not
    /// end by then goes on, and until it has ended, every other call is refused at once.
    ///
    /// Cancel safety: work that was begun comes to its end.
    ///
    /// # Errors
    /// No answer in time, or an earlier piece hangs.
    pub async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Hangs> {
        if self.hangs() {
            return Err(Hangs::Earlier);
        }
        let end = Instant::now() + patience;
        let turn = timeout_at(end, self.0.turn.clone().lock_owned())
            .await
            .map_err(|_elapsed| Hangs::Earlier)?;
        let (answer, answered) = oneshot::channel();
        let lane = self.clone();
        tokio::spawn(async move {
            let _turn = turn;
            let mut work = pin!(work);
            if let Ok(done) = timeout_at(end, &mut work).await {
                // Nobody may be waiting any more.
                let _ = answer.send(Ok(done));
                return;
            }
            let _hanging = lane.hold();
            let _ = answer.send(Err(Hangs::Late(patience)));
            work.await;
        });
        // Without an answer the task was cut off by the end of the runtime, or by a panic, which is logged.
        answered.await.unwrap_or(Err(Hangs::Late(patience)))
    }
}

/// A lane for each of many things. Clones share. Lanes that nobody uses are forgotten.
#[derive(Debug)]
pub struct Lanes<K>(Arc<Mutex<HashMap<K, Lane>>>);

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Clone for Lanes<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Lanes<K> {
    /// The lane of this thing.
    #[must_use]
    pub fn of(&self, key: K) -> Lane {
        let mut lanes = self.0.lock();
        // What hangs or runs holds a clone.
        lanes.retain(|_, lane| Arc::strong_count(&lane.0) > 1);
        lanes.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Work that hangs until told otherwise, and counts how often it was begun.
    #[derive(Clone, Default)]
    struct Device {
        begun: Arc<AtomicUsize>,
        answers: Arc<Notify>,
    }

    impl Device {
        async fn read(self) -> &'static str {
            self.begun.fetch_add(1, Ordering::AcqRel);
            self.answers.notified().await;
            "data"
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::Acquire)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_not_begun_again_until_it_has_ended() {
        let (lane, device) = (Lane::default(), Device::default());
        let begin = Instant::now();
        let first = lane.run(PATIENCE, device.clone().read()).await;
        assert_eq!(first, Err(Hangs::Late(PATIENCE)));
        assert_eq!(begin.elapsed(), PATIENCE);
        for _ in 0..1000 {
            let refused = lane.run(PATIENCE, device.clone().read()).await;
            assert_eq!(refused, Err(Hangs::Earlier));
        }
        assert_eq!((begin.elapsed(), device.begun()), (PATIENCE, 1), "at once");
        device.answers.notify_one();
        while lane.hangs() {
            tokio::task::yield_now().await;
        }
        device.answers.notify_one();
        assert_eq!(lane.run(PATIENCE, device.clone().read()).await, Ok("data"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_at_once_begin_one_piece() {
        let (lane, device) = (Lane::default(), Device::default());
        let calls = (0..100).map(|_| {
            let (lane, device) = (lane.clone(), device.clone());
            tokio::spawn(async move { lane.run(PATIENCE, device.read()).await })
        });
        for call in calls.collect::<Vec<_>>() {
            assert!(call.await.unwrap().is_err());
        }
        assert_eq!(device.begun(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_leaves_the_work_to_its_end() {
        let (lane, device) = (Lane::default(), Device::default());
        let call = lane.run(PATIENCE, device.clone().read());
        assert!(
            tokio::time::timeout(Duration::from_secs(1), call)
                .await
                .is_err()
        );
        // One for that work, one for the next.
        device.answers.notify_one();
        device.answers.notify_one();
        assert_eq!(lane.run(PATIENCE, device.clone().read()).await, Ok("data"));
        assert_eq!(device.begun(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_are_apart_and_forgotten() {
        let (lanes, device) = (Lanes::default(), Device::default());
        let hung = lanes.of("sda").run(PATIENCE, device.clone().read()).await;
        assert_eq!(hung, Err(Hangs::Late(PATIENCE)));
        assert_eq!(lanes.of("sdb").run(PATIENCE, async { 1 }).await, Ok(1));
        assert!(lanes.of("sda").hangs(), "still the same lane");
        assert!(lanes.0.lock().len() <= 2);
        device.answers.notify_one();
        while lanes.of("sda").hangs() {
            tokio::task::yield_now().await;
        }
        let _ = lanes.of("sdc");
        assert!(!lanes.0.lock().contains_key("sdb"));
    }
}
