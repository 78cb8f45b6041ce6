//! Processor time of a process, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};

/// The unit of /proc/PID/stat on Linux: `USER_HZ` is 100 on every architecture that Kubernetes runs on (`man 5 proc`, `man 7 time`).
const TICKS_A_SECOND: u64 = 100;

/// User and system time of all threads of a process since it was started, in steps of 10 ms.
pub(super) fn used(pid: i32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let line = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    parse(&line).with_context(|| format!("{path} has no times: {line}"))
}

/// Fields 14 and 15 (`man 5 proc`).
fn parse(line: &str) -> Option<Duration> {
    // The name in parentheses may itself hold spaces and parentheses; after it comes field 3.
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let milliseconds = (ticks(14)? + ticks(15)?) * 1000 / TICKS_A_SECOND;
    Some(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let line = "812 (a ) b) S 1 810 810 0 -1 4194560 1 2 3 4 150 27 7 8 20 0 1 0 4711 99 0";
        assert_eq!(parse(line), Some(Duration::from_millis(1770)));
        assert_eq!(parse("812 (x) S"), None);
        assert!(used(i32::try_from(std::process::id()).unwrap()).is_ok());
    }
}
