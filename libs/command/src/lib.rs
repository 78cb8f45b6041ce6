//! Runs a program with a deadline, without a shell or standard input, and keeps argv and output.
//!
//! Owns: starting, waiting, killing, and what is remembered of it. Does not own: what any program's output means; that is
//! the business of the driver of that program (`lvm2-cmd`, `drbd-cmd`, ...).
//!
//! What a caller can rely on:
//! - Never a shell; standard input is empty unless bytes are given, so a prompt gets end-of-file instead of hanging.
//! - The environment is `PATH` (the usual system folders), `LC_ALL=C`, `HOME=/` and what [`Command::env`] adds; nothing is
//!   inherited, so a message reads the same everywhere.
//! - Both pipes are read while waiting. A daemon that the program leaves behind with the pipes open does not hold us up.
//! - At the deadline, and when the future is dropped, the program's whole process group is killed.
//! - A program that does not die, since it waits for a device that does not answer, is not started again and again ([`Lane`]).

mod error;
mod lane;
mod output;
mod run;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

pub use error::CommandError;
pub use lane::{Hangs, Lane, Lanes};
pub use output::{Exit, Output};

/// Standard output beyond this is refused ([`CommandError::TooMuchOutput`]) unless [`Command::max_output`] says otherwise.
pub const DEFAULT_MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// Deadline unless [`Command::deadline`] says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// A program to be run. Building it has no effect; [`Command::run`] and [`Command::output`] start it, each call anew.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
    max_output: usize,
    lane: Option<Lane>,
}

impl Command {
    /// `program` is a path, or a name looked up in the system folders (`/usr/sbin`, `/usr/bin`, ...).
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            deadline: DEFAULT_DEADLINE,
            max_output: DEFAULT_MAX_OUTPUT,
            lane: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Bytes for the program's standard input (a passphrase, a dm table). They are never logged or kept in an error.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// How long the program may run before it is killed.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many bytes of standard output are accepted.
    #[must_use]
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = bytes;
        self
    }

    /// Refuses to start ([`CommandError::Stuck`]) while something of this lane hangs; if this program outlives its being killed, it is
    /// what hangs.
    #[must_use]
    pub fn lane(mut self, lane: &Lane) -> Self {
        self.lane = Some(lane.clone());
        self
    }

    /// Program and arguments as text, for logs, errors and golden tests.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        std::iter::once(&self.program)
            .chain(&self.args)
            .map(|a| a.to_string_lossy().into_owned())
            .collect()
    }

    /// Runs the program; any exit status other than 0 is [`CommandError::Failed`].
    ///
    /// Cancel safety: dropping the future kills the program's process group.
    pub async fn run(&self) -> Result<Output, CommandError> {
        let output = self.output().await?;
        if output.exit.success() {
            Ok(output)
        } else {
            Err(CommandError::Failed(Box::new(output)))
        }
    }

    /// Runs the program and returns its output whatever its exit status was (programs like `blkid` answer with it).
    ///
    /// Cancel safety: dropping the future kills the program's process group.
    pub async fn output(&self) -> Result<Output, CommandError> {
        run::output(self).await
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("argv", &self.argv())
            .field("deadline", &self.deadline)
            .field("stdin_bytes", &self.stdin.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}
