//! Starting, feeding, reading, waiting, killing.

use std::io;
use std::pin::pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::time::timeout;

use crate::{Command, CommandError, Exit, Lane, Output};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MAX_STDERR: usize = 64 * 1024;
/// What is still in the pipes once the program is dead arrives at once; only a left-behind daemon keeps them open longer.
const PIPES_GRACE: Duration = Duration::from_millis(500);
/// How long a killed program may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(2);

pub(crate) async fn output(command: &Command) -> Result<Output, CommandError> {
    let argv = command.argv();
    if command.lane.as_ref().is_some_and(Lane::hangs) {
        return Err(CommandError::Stuck { argv });
    }
    let begin = Instant::now();
    let mut group = start(command).map_err(|source| CommandError::Spawn {
        argv: argv.clone(),
        source,
    })?;
    let mut stdout = Sink::new(command.max_output);
    let mut stderr = Sink::new(MAX_STDERR);
    let ended = timeout(
        command.deadline,
        converse(
            &mut group,
            command.stdin.as_deref(),
            &mut stdout,
            &mut stderr,
        ),
    )
    .await;
    let status = match ended {
        Ok(Ok(status)) => status,
        Ok(Err(source)) => return Err(CommandError::Io { argv, source }),
        Err(_elapsed) => {
            let gone = group.kill().await;
            tracing::warn!(?argv, deadline = ?command.deadline, gone, "program killed at its deadline");
            if let (false, Some(lane)) = (gone, &command.lane) {
                group.outlive(lane);
            }
            return Err(CommandError::Deadline {
                argv,
                deadline: command.deadline,
                gone,
                stderr: stderr.kept,
            });
        }
    };
    if stdout.overflowed {
        return Err(CommandError::TooMuchOutput {
            argv,
            limit: command.max_output,
        });
    }
    let output = Output {
        argv,
        exit: Exit::from(status),
        stdout: stdout.kept,
        stderr: stderr.kept,
        elapsed: begin.elapsed(),
    };
    tracing::debug!(argv = ?output.argv, exit = %output.exit, elapsed = ?output.elapsed, "program ended");
    Ok(output)
}

/// The child, which leads a process group of its own so that what it starts dies with it.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn signal(&self) {
        if let Some(leader) = self.leader {
            // The only failure is that nobody is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// Lets it block its lane until it is gone.
    fn outlive(mut self, lane: &Lane) {
        let hanging = lane.hold();
        tokio::spawn(async move {
            self.gone().await;
            drop(hanging);
        });
    }

    /// Waits until it is gone.
    async fn gone(&mut self) {
        if self.child.wait().await.is_ok() {
            // Reaped: the number may be another process's from here on.
            self.leader = None;
        }
    }

    /// Whether it is gone.
    async fn kill(&mut self) -> bool {
        self.signal();
        timeout(KILL_GRACE, self.gone()).await.is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that starts programs"
)]
fn start(command: &Command) -> io::Result<Group> {
    let mut process = tokio::process::Command::new(&command.program);
    process
        .args(&command.args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env("HOME", "/")
        .envs(command.env.iter().map(|(k, v)| (k, v)))
        .stdin(if command.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = process.spawn()?;
    let leader = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    Ok(Group { child, leader })
}

/// Feeds and reads while waiting, so that no side can block the other.
async fn converse(
    group: &mut Group,
    input: Option<&[u8]>,
    stdout: &mut Sink,
    stderr: &mut Sink,
) -> io::Result<std::process::ExitStatus> {
    let (stdin, out, err) = (
        group.child.stdin.take(),
        group.child.stdout.take(),
        group.child.stderr.take(),
    );
    let mut pipes = pin!(async {
        tokio::join!(feed(stdin, input), stdout.fill(out), stderr.fill(err));
    });
    let mut pipes_done = false;
    let status = loop {
        tokio::select! {
            status = group.child.wait() => break status?,
            () = &mut pipes, if !pipes_done => pipes_done = true,
        }
    };
    // Reaped: the number may be another process's from here on.
    group.leader = None;
    if !pipes_done && timeout(PIPES_GRACE, pipes).await.is_err() {
        tracing::debug!("a process left behind keeps the pipes open");
    }
    Ok(status)
}

async fn feed(stdin: Option<ChildStdin>, input: Option<&[u8]>) {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        // A program that ends without reading all its input is judged by its exit status.
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
    }
}

/// Keeps the first `limit` bytes and reads on past them.
struct Sink {
    limit: usize,
    kept: Vec<u8>,
    overflowed: bool,
}

impl Sink {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Vec::new(),
            overflowed: false,
        }
    }

    async fn fill<R: AsyncRead + Unpin>(&mut self, from: Option<R>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let room = self.limit - self.kept.len();
            self.kept.extend_from_slice(&buffer[..n.min(room)]);
            self.overflowed |= n > room;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test can make a process that outlives SIGKILL; this one outlives nobody having sent it.
    #[tokio::test]
    async fn while_a_killed_program_lives_no_other_of_its_lane_is_started() {
        let lane = Lane::default();
        let group = start(&Command::new("sleep").arg("600")).unwrap();
        let pid = group.leader.unwrap();
        group.outlive(&lane);
        let command = Command::new("true").lane(&lane);
        let refused = command.output().await.unwrap_err();
        assert!(matches!(refused, CommandError::Stuck { .. }), "{refused}");
        assert!(refused.to_string().contains("`true` was not started"));
        Command::new("true").output().await.unwrap();
        kill_process_group(pid, Signal::KILL).unwrap();
        while lane.hangs() {
            tokio::task::yield_now().await;
        }
        assert!(command.output().await.unwrap().exit.success());
    }

    #[tokio::test]
    async fn a_program_that_dies_at_its_deadline_blocks_nothing() {
        let lane = Lane::default();
        let command = Command::new("sleep")
            .arg("600")
            .deadline(Duration::from_millis(50))
            .lane(&lane);
        for _ in 0..2 {
            assert!(command.output().await.unwrap_err().is_deadline());
        }
    }
}
