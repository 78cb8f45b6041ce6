//! Since when something holds without interruption, by name. Kept in memory only: after a restart it counts anew, which at
//! worst makes us wait longer.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What holds since when.
#[derive(Debug, Default)]
pub(crate) struct Since(Mutex<HashMap<String, Instant>>);

impl Since {
    /// Records whether it holds now; returns for how long it has.
    pub(crate) fn update(&self, name: &str, holds: bool) -> Duration {
        let mut since = self.0.lock();
        if !holds {
            since.remove(name);
            return Duration::ZERO;
        }
        since
            .entry(name.to_owned())
            .or_insert_with(Instant::now)
            .elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_counts_from_the_first_time_and_anew_after_an_interruption() {
        let since = Since::default();
        assert_eq!(since.update("a", true), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(since.update("a", true), Duration::from_secs(3));
        assert_eq!(since.update("b", true), Duration::ZERO);
        since.update("a", false);
        assert_eq!(since.update("a", true), Duration::ZERO);
    }
}
