//! Metrics: one registry for a process, all ours under `hawser_`, and a guard that counts and times requests.
//!
//! Labels come from fixed sets (operations, [`crate::error::Category`] words), never from names of objects or texts of errors.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use tokio::time::Instant;

use crate::process::ProcessCollector;

/// The metrics of one process. Clones share one registry.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry with facts about the process and its build; `component` is the binary's name.
    #[must_use]
    pub fn new(component: &'static str) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let build = Info::new(vec![
            ("component", component),
            ("version", env!("CARGO_PKG_VERSION")),
        ]);
        registry.sub_registry_with_prefix("hawser").register(
            "build",
            "Which component and version this is",
            build,
        );
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers metrics; names get the prefix `hawser_`, counters the suffix `_total`. Register once: a name twice is two entries.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        let mut registry = self.0.lock();
        register(registry.sub_registry_with_prefix("hawser"));
    }

    /// All metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0.lock())?;
        Ok(out)
    }
}

/// Labels of a finished request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// What was asked, from a fixed set.
    pub operation: &'static str,
    /// `ok`, a word of [`crate::error::Category`], or `cancelled`.
    pub outcome: &'static str,
}

/// Labels of what is going on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    /// What was asked, from a fixed set.
    pub operation: &'static str,
}

/// Counts and times one family of requests, also those whose future was dropped.
#[derive(Clone, Debug)]
pub struct Requests {
    finished: Family<RequestLabels, Counter>,
    seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    running: Family<OperationLabels, Gauge>,
}

/// From an answer out of memory to a command that runs into its deadline.
fn buckets() -> Histogram {
    Histogram::new([
        0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        30.0, 60.0, 120.0,
    ])
}

impl Requests {
    /// Registers `hawser_<name>_requests_total`, `hawser_<name>_request_duration_seconds`, `hawser_<name>_requests_running`.
    #[must_use]
    pub fn register(metrics: &Metrics, name: &str, what: &str) -> Self {
        let requests = Self {
            finished: Family::default(),
            seconds: Family::new_with_constructor(buckets as fn() -> Histogram),
            running: Family::default(),
        };
        metrics.register(|registry| {
            let Self {
                finished,
                seconds,
                running,
            } = requests.clone();
            registry.register(
                format!("{name}_requests"),
                format!("Finished {what}, by outcome"),
                finished,
            );
            registry.register(
                format!("{name}_request_duration_seconds"),
                format!("Duration of {what}"),
                seconds,
            );
            registry.register(
                format!("{name}_requests_running"),
                format!("Number of {what} in progress"),
                running,
            );
        });
        requests
    }

    /// Begins a request. If the guard is dropped without [`Timer::finish`], the request counts as `cancelled`.
    #[must_use]
    pub fn start(&self, operation: &'static str) -> Timer {
        self.running
            .get_or_create(&OperationLabels { operation })
            .inc();
        Timer {
            requests: self.clone(),
            operation,
            outcome: "cancelled",
            began: Instant::now(),
        }
    }

    /// How many requests have ended this way.
    #[must_use]
    pub fn count(&self, operation: &'static str, outcome: &'static str) -> u64 {
        self.finished
            .get(&RequestLabels { operation, outcome })
            .map_or(0, |counter| counter.get())
    }
}

/// A request in progress.
#[derive(Debug)]
pub struct Timer {
    requests: Requests,
    operation: &'static str,
    outcome: &'static str,
    began: Instant,
}

impl Timer {
    /// Ends the request with an outcome from a fixed set.
    pub fn finish(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Ends the request as `ok`, or by the category of the error.
    pub fn finish_with<T, E>(
        self,
        result: &Result<T, E>,
        category: impl FnOnce(&E) -> crate::error::Category,
    ) {
        self.finish(
            result
                .as_ref()
                .map_or_else(|error| category(error).as_str(), |_| "ok"),
        );
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Self {
            requests,
            operation,
            outcome,
            began,
        } = self;
        let labels = OperationLabels { operation };
        requests.running.get_or_create(&labels).dec();
        requests
            .seconds
            .get_or_create(&labels)
            .observe(began.elapsed().as_secs_f64());
        requests
            .finished
            .get_or_create(&RequestLabels { operation, outcome })
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Category;

    #[test]
    fn a_dropped_request_counts_as_cancelled() {
        let metrics = Metrics::new("test");
        let requests = Requests::register(&metrics, "csi", "CSI calls");
        requests.start("CreateVolume").finish("ok");
        requests
            .start("CreateVolume")
            .finish_with(&Err::<(), _>(()), |()| Category::NoRoom);
        drop(requests.start("CreateVolume"));
        for outcome in ["ok", "no-room", "cancelled"] {
            assert_eq!(requests.count("CreateVolume", outcome), 1, "{outcome}");
        }
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(
                r#"hawser_csi_requests_total{operation="CreateVolume",outcome="cancelled"} 1"#
            ),
            "{text}"
        );
        assert!(
            text.contains(r#"hawser_csi_requests_running{operation="CreateVolume"} 0"#),
            "{text}"
        );
    }
}
