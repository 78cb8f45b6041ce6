//! Processes that the lab started, told apart from strangers by their start time, and what can be done to them.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::command::shown;

/// A process, for as long as it lives: a later process of the same number has another start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// What it does: `etcd`, `node n1`.
    pub(crate) role: String,
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot, as /proc/PID/stat says.
    pub(crate) start: u64,
}

/// One line of /proc/PID/stat, as far as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    name: String,
    state: char,
    parent: i32,
    group: i32,
    start: u64,
}

fn parse_stat(line: &str) -> Option<Stat> {
    let pid = line.split(' ').next()?.parse().ok()?;
    // The name in parentheses may itself hold spaces and parentheses.
    let (before, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        pid,
        name: before.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

fn stat_of(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn all_stats() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat_of)
        .collect()
}

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C at the lab's terminal does not reach it, with its output in `log`.
    pub(crate) fn start(role: &str, command: &mut Command, log: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {role}: `{}`", shown(command)))?;
        let pid = i32::try_from(child.id()).context("a process number above 2^31")?;
        let stat = stat_of(pid).with_context(|| format!("{role} vanished at start"))?;
        Ok(Self {
            role: role.to_owned(),
            pid,
            start: stat.start,
        })
    }

    /// Whether it runs (a zombie does not).
    pub(crate) fn is_alive(&self) -> bool {
        stat_of(self.pid).is_some_and(|stat| stat.start == self.start && stat.state != 'Z')
    }

    /// The processes that it has started and that run.
    pub(crate) fn children(&self) -> Vec<Self> {
        let stats = all_stats();
        let own = stats
            .into_iter()
            .filter(|stat| stat.parent == self.pid && stat.state != 'Z');
        own.map(|stat| Self {
            role: format!("{} below {}", stat.name, self.role),
            pid: stat.pid,
            start: stat.start,
        })
        .collect()
    }

    /// This process and everything below it or in its group, except what is named `without`, as (pid, start time).
    fn tree(&self, without: &str) -> Vec<(i32, u64)> {
        if stat_of(self.pid).is_none_or(|stat| stat.start != self.start) {
            return Vec::new();
        }
        let stats = all_stats();
        let members = tree_of(self.pid, &stats);
        members
            .into_iter()
            .filter(|stat| stat.name != without)
            .map(|stat| (stat.pid, stat.start))
            .collect()
    }

    /// Sends `signal` to the whole tree except what is named `without`, again and again until no new member shows up.
    pub(crate) fn signal_tree(&self, signal: Signal, without: &str) -> Result<()> {
        let mut done: Vec<(i32, u64)> = Vec::new();
        loop {
            let new: Vec<_> = self
                .tree(without)
                .into_iter()
                .filter(|member| !done.contains(member))
                .collect();
            if new.is_empty() {
                return Ok(());
            }
            for (pid, start) in &new {
                signal_if(*pid, *start, signal)?;
            }
            done.extend(new);
        }
    }

    /// Kills the tree at once and returns when all of it is gone.
    pub(crate) fn kill(&self) -> Result<()> {
        let members = self.tree("");
        self.signal_tree(Signal::KILL, "")?;
        wait_gone(&self.role, &members)
    }
}

fn tree_of(root: i32, stats: &[Stat]) -> Vec<&Stat> {
    let mut members: Vec<&Stat> = stats.iter().filter(|stat| stat.pid == root).collect();
    loop {
        let more: Vec<&Stat> = stats
            .iter()
            .filter(|stat| {
                let below = members.iter().any(|member| member.pid == stat.parent);
                let known = members.iter().any(|member| member.pid == stat.pid);
                (below || stat.group == root) && !known
            })
            .collect();
        if more.is_empty() {
            return members;
        }
        members.extend(more);
    }
}

fn signal_if(pid: i32, start: u64, signal: Signal) -> Result<()> {
    if stat_of(pid).is_none_or(|stat| stat.start != start) {
        return Ok(());
    }
    let Some(target) = Pid::from_raw(pid) else {
        return Ok(());
    };
    match kill_process(target, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signalling process {pid}")),
    }
}

/// Kills all of `members` (pid, start time) and waits until they are gone.
pub(crate) fn kill_all(what: &str, members: &[(i32, u64)]) -> Result<()> {
    for (pid, start) in members {
        signal_if(*pid, *start, Signal::KILL)?;
    }
    wait_gone(what, members)
}

fn wait_gone(what: &str, members: &[(i32, u64)]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let lives = |(pid, start): &(i32, u64)| {
        stat_of(*pid).is_some_and(|stat| stat.start == *start && !matches!(stat.state, 'Z' | 'X'))
    };
    while members.iter().any(lives) {
        ensure!(
            Instant::now() < deadline,
            "{what}: processes {:?} still there 20 s after SIGKILL",
            members
                .iter()
                .filter(|member| lives(member))
                .map(|(pid, _)| pid)
                .collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// All processes whose network namespace is the one with this inode, as (pid, start time), without the calling process.
pub(crate) fn in_network(inode: u64) -> Vec<(i32, u64)> {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    all_stats()
        .into_iter()
        .filter(|stat| stat.pid != me)
        .filter(|stat| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(format!("/proc/{}/ns/net", stat.pid))
                .is_ok_and(|meta| meta.ino() == inode)
        })
        .map(|stat| (stat.pid, stat.start))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::with_args;

    #[test]
    fn stat_lines_with_odd_names_are_read() {
        let line = "812 (a ) b) S 1 810 810 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 0";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                pid: 812,
                name: "a ) b".to_owned(),
                state: 'S',
                parent: 1,
                group: 810,
                start: 4711
            })
        );
        assert_eq!(parse_stat("812 (x"), None);
    }

    #[test]
    fn a_tree_has_children_and_group_members_but_no_strangers() {
        let stat = |pid, parent, group| Stat {
            pid,
            name: "x".to_owned(),
            state: 'S',
            parent,
            group,
            start: 1,
        };
        let stats = [
            stat(10, 1, 10),
            stat(11, 10, 10),
            stat(12, 11, 12),
            stat(13, 1, 10),
            stat(14, 1, 14),
        ];
        let mut pids: Vec<i32> = tree_of(10, &stats).iter().map(|stat| stat.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [10, 11, 12, 13]);
    }

    #[test]
    fn a_killed_tree_is_gone_and_a_recycled_number_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = with_args("sh", ["-c", "sleep 1000 & sleep 1000"]);
        let process = Process::start("sleeper", &mut command, &folder.path().join("log")).unwrap();
        assert!(process.is_alive());
        let other = Process {
            start: process.start + 1,
            ..process.clone()
        };
        other.kill().unwrap();
        assert!(process.is_alive(), "another start time is another process");
        process.kill().unwrap();
        assert!(!process.is_alive());
    }
}
