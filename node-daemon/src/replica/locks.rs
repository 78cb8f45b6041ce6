//! One operation per volume at a time, and none waits for another volume's.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// The volumes that are being worked on. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    held: Arc<Mutex<HashSet<String>>>,
}

/// Holds a volume until dropped.
#[derive(Debug)]
pub struct Guard {
    locks: Locks,
    volume: String,
}

impl Locks {
    /// Takes a volume, or `None` if somebody else has it.
    pub fn try_lock(&self, volume: &str) -> Option<Guard> {
        let taken = self.held.lock().insert(volume.to_owned());
        taken.then(|| Guard {
            locks: self.clone(),
            volume: volume.to_owned(),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.locks.held.lock().remove(&self.volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_for_a_volume_and_others_are_not_disturbed() {
        let locks = Locks::default();
        let guard = locks.try_lock("a").unwrap();
        assert!(locks.clone().try_lock("a").is_none());
        assert!(locks.try_lock("b").is_some());
        drop(guard);
        assert!(locks.try_lock("a").is_some());
    }
}
