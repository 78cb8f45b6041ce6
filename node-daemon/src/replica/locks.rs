//! One operation per volume at a time, and none waits for another volume's.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who works on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A CSI call. It may take minutes; a second one is told to come again.
    Call,
    /// Our own upkeep, which is over soon: calls wait for it rather than fail.
    Upkeep,
}

/// The volumes that are being worked on. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    held: Arc<Mutex<HashMap<String, Holder>>>,
    released: Arc<Notify>,
}

/// Holds a volume until dropped.
#[derive(Debug)]
pub struct Guard {
    locks: Locks,
    volume: String,
}

impl Locks {
    /// Takes a volume, or tells who has it.
    fn take(&self, volume: &str, holder: Holder) -> Result<Guard, Holder> {
        let mut held = self.held.lock();
        if let Some(other) = held.get(volume) {
            return Err(*other);
        }
        held.insert(volume.to_owned(), holder);
        Ok(Guard {
            locks: self.clone(),
            volume: volume.to_owned(),
        })
    }

    /// Takes a volume for upkeep, or `None` if somebody has it.
    pub fn for_upkeep(&self, volume: &str) -> Option<Guard> {
        self.take(volume, Holder::Upkeep).ok()
    }

    /// Takes a volume for a call, after upkeep if that has it; `None` if another call has it. Cancel-safe.
    pub async fn for_call(&self, volume: &str) -> Option<Guard> {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            // Listen before looking, so that a release in between is not missed.
            released.as_mut().enable();
            match self.take(volume, Holder::Call) {
                Ok(guard) => return Some(guard),
                Err(Holder::Call) => return None,
                Err(Holder::Upkeep) => released.await,
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.locks.held.lock().remove(&self.volume);
        self.locks.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_for_a_volume_and_others_are_not_disturbed() {
        let locks = Locks::default();
        let guard = locks.for_call("a").await.unwrap();
        assert!(locks.for_call("a").await.is_none());
        assert!(locks.for_upkeep("a").is_none());
        assert!(locks.for_upkeep("b").is_some());
        drop(guard);
        assert!(locks.for_upkeep("a").is_some());
    }

    #[tokio::test]
    async fn a_call_waits_for_upkeep() {
        let locks = Locks::default();
        let upkeep = locks.for_upkeep("a").unwrap();
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.for_call("a").await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(upkeep);
        let call = waiting.await.unwrap().unwrap();
        assert!(locks.for_upkeep("a").is_none());
        drop(call);
        assert!(locks.for_upkeep("a").is_some());
    }
}
