//! What a person sees while the lab works: one line for each step, with the seconds since the start.

use std::time::{Duration, Instant};

/// Prints steps to stderr, so that stdout stays free for results. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Says what happens now, or what has happened.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        eprintln!("[{}] {}", seconds(self.start.elapsed()), text.as_ref());
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:>6.1}s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_line_up() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "   1.2s");
        assert_eq!(seconds(Duration::from_millis(612_340)), " 612.3s");
    }
}
