//! What went wrong, in words that a caller can act on.

use std::{fmt, path::PathBuf};

use hawser_command::{CommandError, Output};

use crate::metadata::Format;

/// A refusal by the kernel, recognised from its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No copy that is known to be current: this one is outdated, inconsistent, or the other must be asked.
    NotUpToDate,
    /// The other node is primary.
    TwoPrimaries,
    /// The other node may have newer data and could not be declared outdated.
    PeerNotOutdated,
    /// A process, a mount or another device holds it open.
    HeldOpen,
    /// The address and port belong to another connection of this node.
    AddressInUse,
    /// The lower device is in use by somebody else.
    LowerBusy,
    /// No metadata of this module's format.
    NoMetadata,
    /// A lower device is attached already.
    AlreadyAttached,
    /// No such resource.
    UnknownResource,
    /// No connection between these addresses.
    UnknownConnection,
    /// The activity log has to be applied first.
    UncleanMetadata,
    /// Anything else, with the kernel's number.
    Other(i32),
}

impl Refusal {
    /// `0: Failure: (158) Unknown resource`, `0: State change failed: (-2) Need access to UpToDate data`
    pub(crate) fn recognise(stderr: &str) -> Option<Self> {
        let (_, after) = stderr
            .split_once("Failure: (")
            .or_else(|| stderr.split_once("State change failed: ("))?;
        let number: i32 = after.split_once(')')?.0.parse().ok()?;
        Some(match number {
            -1 => Self::TwoPrimaries,
            -2 => Self::NotUpToDate,
            -7 => Self::PeerNotOutdated,
            -12 => Self::HeldOpen,
            102 => Self::AddressInUse,
            104 => Self::LowerBusy,
            119 => Self::NoMetadata,
            124 => Self::AlreadyAttached,
            158 => Self::UnknownResource,
            162 if stderr.contains("unknown connection") => Self::UnknownConnection,
            165 => Self::UncleanMetadata,
            other => Self::Other(other),
        })
    }

    /// Whether the same call may succeed in a moment, without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            // Seen once right at a cut, then gone.
            Self::TwoPrimaries | Self::PeerNotOutdated | Self::HeldOpen | Self::LowerBusy => true,
            Self::NotUpToDate
            | Self::AddressInUse
            | Self::NoMetadata
            | Self::AlreadyAttached
            | Self::UnknownResource
            | Self::UnknownConnection
            | Self::UncleanMetadata
            | Self::Other(_) => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUpToDate => f.write_str("no copy here that is known to be current"),
            Self::TwoPrimaries => f.write_str("the other node is primary"),
            Self::PeerNotOutdated => {
                f.write_str("the other node's copy could not be declared outdated")
            }
            Self::HeldOpen => f.write_str("held open"),
            Self::AddressInUse => {
                f.write_str("the address and port are in use by another connection")
            }
            Self::LowerBusy => f.write_str("the lower device is in use"),
            Self::NoMetadata => f.write_str("no metadata that this version of DRBD reads"),
            Self::AlreadyAttached => f.write_str("a device is attached already"),
            Self::UnknownResource => f.write_str("no such resource"),
            Self::UnknownConnection => f.write_str("no such connection"),
            Self::UncleanMetadata => f.write_str("the activity log has to be applied first"),
            Self::Other(number) => write!(f, "the kernel's reason is number {number}"),
        }
    }
}

/// Why a call gave no result. `object` is what it was about: a resource, a minor, a device.
#[derive(Debug, thiserror::Error)]
pub enum DrbdError {
    /// A name, number or path that can't be used; nothing was run.
    #[error("{object}: {problem}")]
    Request {
        /// What was given.
        object: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The kernel said no.
    #[error("can't {operation} {object}: {refusal}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why not.
        refusal: Refusal,
        /// The whole call with its messages.
        output: Box<Output>,
    },
    /// The program could not be run, did not end in time, or failed in a way that is not recognised.
    #[error("can't {operation} {object}")]
    Command {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The whole call with its messages.
        #[source]
        source: CommandError,
    },
    /// The module is not loaded.
    #[error("DRBD's kernel module is not loaded (no {}); load it with `modprobe drbd`", .0.display())]
    NoModule(PathBuf),
    /// A file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The output is not what we know.
    #[error("the output of {what} is not understood: {text:.200}")]
    Output {
        /// The program or file.
        what: &'static str,
        /// What it said.
        text: String,
    },
    /// There is metadata already, which may be all that tells two copies apart.
    #[error(
        "{device} carries DRBD metadata of format {format} already; wipe it first if it is not needed"
    )]
    MetadataPresent {
        /// The device.
        device: String,
        /// Which version of DRBD wrote it.
        format: Format,
    },
}

impl DrbdError {
    /// The kernel's refusal, if this is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Request { .. }
            | Self::Command { .. }
            | Self::NoModule(_)
            | Self::Read { .. }
            | Self::Output { .. }
            | Self::MetadataPresent { .. } => None,
        }
    }

    pub(crate) fn from_command(
        operation: &'static str,
        object: &str,
        source: CommandError,
    ) -> Self {
        let object = object.to_owned();
        match source {
            CommandError::Failed(output) => match Refusal::recognise(&output.stderr_text()) {
                Some(refusal) => Self::Refused {
                    operation,
                    object,
                    refusal,
                    output,
                },
                None => Self::Command {
                    operation,
                    object,
                    source: CommandError::Failed(output),
                },
            },
            source @ (CommandError::Spawn { .. }
            | CommandError::Deadline { .. }
            | CommandError::Stuck { .. }
            | CommandError::TooMuchOutput { .. }
            | CommandError::Io { .. }) => Self::Command {
                operation,
                object,
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_recognised_from_what_the_tools_said() {
        let recorded = [
            (
                include_str!("../tests/recorded/fail-unknown-resource.txt"),
                Refusal::UnknownResource,
            ),
            (
                include_str!("../tests/recorded/fail-already-attached.txt"),
                Refusal::AlreadyAttached,
            ),
            (
                include_str!("../tests/recorded/fail-not-up-to-date.txt"),
                Refusal::NotUpToDate,
            ),
            (
                include_str!("../tests/recorded/fail-address-in-use.txt"),
                Refusal::AddressInUse,
            ),
            (
                include_str!("../tests/recorded/fail-held-open.txt"),
                Refusal::HeldOpen,
            ),
            (
                include_str!("../tests/recorded/fail-down-held-open.txt"),
                Refusal::HeldOpen,
            ),
            (
                include_str!("../tests/recorded/fail-two-primaries.txt"),
                Refusal::TwoPrimaries,
            ),
            (
                include_str!("../tests/recorded/fail-unknown-connection.txt"),
                Refusal::UnknownConnection,
            ),
            (
                include_str!("../tests/recorded/fail-wrong-metadata.txt"),
                Refusal::NoMetadata,
            ),
        ];
        for (stderr, refusal) in recorded {
            assert_eq!(Refusal::recognise(stderr), Some(refusal), "{stderr}");
        }
        for stderr in [
            include_str!("../tests/recorded/fail-bad-argument.txt"),
            include_str!("../tests/recorded/fail-no-metadata.txt"),
        ] {
            assert_eq!(Refusal::recognise(stderr), None);
        }
        assert_eq!(
            Refusal::recognise("0: Failure: (999) New"),
            Some(Refusal::Other(999))
        );
    }
}
