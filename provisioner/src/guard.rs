//! One operation at a time for a volume: whoever comes second is told so, and does not wait.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

/// The names that are taken. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Guards(Arc<Mutex<HashSet<String>>>);

/// Holds a name until it is dropped, also by cancellation.
#[derive(Debug)]
pub struct Guard {
    guards: Guards,
    name: String,
}

impl Guards {
    /// Takes the name; `None` if it is taken.
    #[must_use]
    pub fn take(&self, name: &str) -> Option<Guard> {
        let fresh = self.0.lock().insert(name.to_owned());
        fresh.then(|| Guard {
            guards: self.clone(),
            name: name.to_owned(),
        })
    }

    /// Whether somebody holds the name.
    #[must_use]
    pub fn is_taken(&self, name: &str) -> bool {
        self.0.lock().contains(name)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.guards.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_again_when_its_guard_is_dropped() {
        let guards = Guards::default();
        let held = guards.take("a");
        assert!(
            held.is_some()
                && guards.take("a").is_none()
                && guards.take("b").is_some()
                && guards.is_taken("a")
        );
        drop(held);
        assert!(guards.take("a").is_some());
    }
}
