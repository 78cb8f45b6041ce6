//! How the demonstration speaks: chapters, what happens in them, and what was checked.

use std::time::Instant;

/// Prints to stdout, with the seconds since the beginning.
pub(crate) struct Story {
    start: Instant,
    chapter: usize,
    checks: usize,
}

impl Story {
    pub(crate) fn begin() -> Self {
        Self {
            start: Instant::now(),
            chapter: 0,
            checks: 0,
        }
    }

    /// What the next lines are about.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!("\n{}. {title}", self.chapter);
    }

    /// Something that happened.
    pub(crate) fn tell(&self, text: impl AsRef<str>) {
        println!(
            "   {:>6.1}s  {}",
            self.start.elapsed().as_secs_f64(),
            text.as_ref()
        );
    }

    /// Something that was checked and holds.
    pub(crate) fn holds(&mut self, text: impl AsRef<str>) {
        self.checks += 1;
        println!(
            "   {:>6.1}s  OK: {}",
            self.start.elapsed().as_secs_f64(),
            text.as_ref()
        );
    }

    pub(crate) fn end(&self) {
        println!(
            "\nAll {} checks hold, after {:.0} s.",
            self.checks,
            self.start.elapsed().as_secs_f64()
        );
    }
}
