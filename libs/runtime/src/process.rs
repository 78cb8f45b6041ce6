//! Facts about this process from /proc/self, as Prometheus' own client libraries name them.

use std::{fs, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// `USER_HZ`: fixed at 100 in the kernel's interface to user space on every architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// What /proc says about a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// CPU time used so far, user and system.
    pub cpu: Duration,
    /// Number of threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

impl ProcessFacts {
    /// Reads the facts of this process; what can't be read is zero.
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| {
            u64::try_from(entries.count()).unwrap_or(u64::MAX)
        });
        Self {
            open_fds,
            ..Self::parse(&status, &stat)
        }
    }

    fn parse(status: &str, stat: &str) -> Self {
        let kib = |key: &str| field(status, key).unwrap_or(0).saturating_mul(1024);
        // The program's name is in parentheses and may hold anything; fields are counted after it. utime is 14, stime 15.
        let ticks: u64 = stat.rsplit_once(')').map_or(0, |(_, rest)| {
            rest.split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|word| word.parse::<u64>().ok())
                .sum()
        });
        Self {
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            cpu: Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND)),
            threads: field(status, "Threads:").unwrap_or(0),
            open_fds: 0,
        }
    }
}

fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Registers as `process_*`, read anew at each scrape.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let facts = ProcessFacts::read();
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory size",
                facts.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory size",
                facts.virtual_bytes,
            ),
            ("process_threads", "Number of threads", facts.threads),
            (
                "process_open_fds",
                "Number of open file descriptors",
                facts.open_fds,
            ),
        ] {
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        let cpu = encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time used, user and system",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(facts.cpu.as_secs_f64()).encode(cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_parsed_also_when_the_name_has_spaces_and_parentheses() {
        let status = "Name:\tx\nVmSize:\t  20480 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n";
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 7 0 100 1 1";
        let facts = ProcessFacts::parse(status, stat);
        assert_eq!(
            (facts.resident_bytes, facts.virtual_bytes, facts.threads),
            (1 << 20, 20 << 20, 7)
        );
        assert_eq!(facts.cpu, Duration::from_secs(2));
        assert_eq!(ProcessFacts::parse("", ""), ProcessFacts::default());
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let facts = ProcessFacts::read();
        assert!(
            facts.resident_bytes > 100_000 && facts.open_fds >= 3 && facts.threads >= 1,
            "{facts:?}"
        );
    }
}
