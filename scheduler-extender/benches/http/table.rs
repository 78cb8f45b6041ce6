//! Times and how they are shown.

use std::fmt::Write;
use std::time::Duration;

/// Of many repetitions, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    sorted: Vec<Duration>,
    /// Processor time of the server, all repetitions.
    cpu: Duration,
}

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>, cpu: Duration) -> Self {
        times.sort();
        Self { sorted: times, cpu }
    }

    /// The share (in thousandths) of repetitions that took no longer.
    fn at(&self, permille: usize) -> Duration {
        let index = (self.sorted.len() * permille)
            .div_ceil(1000)
            .saturating_sub(1);
        self.sorted.get(index).copied().unwrap_or_default()
    }

    fn cpu_each(&self) -> Duration {
        let count = u32::try_from(self.sorted.len()).unwrap_or(u32::MAX).max(1);
        self.cpu / count
    }

    /// The round whose p99 is in the middle.
    pub(crate) fn median(mut rounds: Vec<Self>) -> Option<Self> {
        rounds.sort_by_key(|times| times.at(990));
        let middle = rounds.len() / 2;
        rounds.into_iter().nth(middle)
    }
}

pub(crate) enum Row {
    Times(String, Times),
    Fact(String, String),
}

impl Row {
    pub(crate) fn times(what: impl Into<String>, times: Times) -> Self {
        Self::Times(what.into(), times)
    }

    pub(crate) fn fact(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Fact(what.into(), value.into())
    }
}

pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| µs | p50 | p99 | p99.9 | most | CPU of the server each | times |\n|---|---|---|---|---|---|---|\n",
    );
    // Writing into a String can't fail.
    for row in rows {
        let _ = match row {
            Row::Times(what, times) => {
                let [p50, p99, p999, most, cpu] = [
                    times.at(500),
                    times.at(990),
                    times.at(999),
                    times.at(1000),
                    times.cpu_each(),
                ]
                .map(|time| time.as_secs_f64() * 1e6);
                let count = times.sorted.len();
                writeln!(
                    out,
                    "| {what} | {p50:.1} | {p99:.1} | {p999:.1} | {most:.1} | {cpu:.1} | {count} |"
                )
            }
            Row::Fact(_, _) => Ok(()),
        };
    }
    out.push_str("\n| | |\n|---|---|\n");
    for row in rows {
        if let Row::Fact(what, value) = row {
            let _ = writeln!(out, "| {what} | {value} |");
        }
    }
    out
}
