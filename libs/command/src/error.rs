//! Why a program gave no good answer.

use std::io;
use std::time::Duration;

use crate::output::{Output, command_line, one_line};

/// Each variant names the whole command line.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program could not be started.
    #[error("cannot start `{}`", command_line(argv))]
    Spawn {
        argv: Vec<String>,
        #[source]
        source: io::Error,
    },
    /// It ended with something other than exit status 0.
    #[error("`{}` ended with {}: {}", .0.command_line(), .0.exit, one_line(&.0.stderr))]
    Failed(Box<Output>),
    /// It was still running at the deadline, and was killed.
    #[error("`{}` did not end within {deadline:?} and was killed{}: {}", command_line(argv),
        if *gone { "" } else { " (but it does not die, so it waits for the kernel)" }, one_line(stderr))]
    Deadline {
        argv: Vec<String>,
        deadline: Duration,
        /// Whether it is known to be dead. A process in uninterruptible sleep outlives SIGKILL.
        gone: bool,
        stderr: Vec<u8>,
    },
    /// It was not started: an earlier program of its lane was killed and does not die.
    #[error(
        "`{}` was not started: an earlier one was killed and does not die, so it waits for a device that does not answer",
        command_line(argv)
    )]
    Stuck { argv: Vec<String> },
    /// It wrote more to standard output than was allowed.
    #[error("`{}` wrote more than {limit} bytes", command_line(argv))]
    TooMuchOutput { argv: Vec<String>, limit: usize },
    /// Waiting for it or talking to it failed.
    #[error("lost touch with `{}`", command_line(argv))]
    Io {
        argv: Vec<String>,
        #[source]
        source: io::Error,
    },
}

impl CommandError {
    /// The program's end, if it ended by itself.
    #[must_use]
    pub fn failed(&self) -> Option<&Output> {
        match self {
            Self::Failed(output) => Some(output),
            Self::Spawn { .. }
            | Self::Deadline { .. }
            | Self::Stuck { .. }
            | Self::TooMuchOutput { .. }
            | Self::Io { .. } => None,
        }
    }

    /// The program is not installed.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// It ran into its deadline.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }
}
