//! How soon changes on a node show in its objects.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};

/// What half of the changes must not exceed.
const USUALLY: Duration = Duration::from_secs(2);
/// What none may: one that was not heard of would take until the periodic look, a minute. The rest is this machine's, which runs the whole cluster on two
/// cores.
const EVER: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Default)]
pub(super) struct Fresh(Vec<(&'static str, Duration)>);

impl Fresh {
    pub(super) fn note(&mut self, what: &'static str, took: Duration) {
        self.0.push((what, took));
    }

    /// All figures, in words.
    ///
    /// # Errors
    /// If they are too large, or there are none.
    pub(super) fn judge(&self) -> Result<String> {
        let mut words = String::new();
        for (what, took) in &self.0 {
            let _ = write!(words, "{what} {:.1} s; ", took.as_secs_f64());
        }
        let mut all: Vec<Duration> = self.0.iter().map(|(_, took)| *took).collect();
        all.sort_unstable();
        let median = all.get(all.len() / 2).copied().unwrap_or(Duration::MAX);
        let worst = all.last().copied().unwrap_or(Duration::MAX);
        ensure!(
            median <= USUALLY && worst <= EVER,
            "changes must show within {} s, each within {} s: {words}",
            USUALLY.as_secs(),
            EVER.as_secs()
        );
        let _ = write!(words, "median {:.1} s", median.as_secs_f64());
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seconds: &[u64]) -> Result<String> {
        let mut fresh = Fresh::default();
        for seconds in seconds {
            fresh.note("x", Duration::from_secs(*seconds));
        }
        fresh.judge()
    }

    #[test]
    fn a_slow_median_a_missed_change_and_no_figure_at_all_are_errors() {
        assert_eq!(
            judged(&[1, 4, 1]).unwrap(),
            "x 1.0 s; x 4.0 s; x 1.0 s; median 1.0 s"
        );
        for slow in [&[1, 3, 3][..], &[1, 1, 1, 60], &[]] {
            assert!(judged(slow).is_err(), "{slow:?}");
        }
    }
}
