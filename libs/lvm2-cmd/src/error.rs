//! What went wrong, in words that a caller can act on.

use std::fmt;

use hawser_command::CommandError;

use crate::names::NameError;

/// A refusal that LVM or device-mapper gave, recognised from its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not enough free extents.
    NoSpace,
    /// Something of that name is there already.
    Exists,
    NotFound,
    /// Open, mounted, or carrying another device; for a physical volume: extents allocated.
    InUse,
    /// The physical volume belongs to a volume group already.
    AlreadyMember,
    /// The volume group lacks a physical volume.
    MissingPv,
    /// Two devices carry the same physical volume.
    DuplicatePv,
    /// The volume group is exported, or belongs to another system id.
    Foreign,
    /// Somebody else holds the volume group's lock.
    Locked,
    /// The device can't be a physical volume: filtered out, too small, held by another, gone.
    NotUsable,
    /// The device carries another's signature.
    Signature,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "not enough free extents",
            Self::Exists => "exists already",
            Self::NotFound => "not found",
            Self::InUse => "in use",
            Self::AlreadyMember => "belongs to a volume group already",
            Self::MissingPv => "a physical volume is missing",
            Self::DuplicatePv => "two devices carry the same physical volume",
            Self::Foreign => "the volume group is exported or another system's",
            Self::Locked => "the volume group is locked by another program",
            Self::NotUsable => "the device can't be used as a physical volume",
            Self::Signature => "the device carries a signature of something else",
        })
    }
}

/// Why a call gave no result. `object` is what it was about: `vg`, `vg/lv`, a device.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// The name can't be used; nothing was run.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A request that makes no sense whatever the system's state; nothing was run.
    #[error("{object}: {problem}")]
    Request { object: String, problem: String },
    /// The tool refused for a known reason.
    #[error("{object}: {refusal}")]
    Refused {
        object: String,
        refusal: Refusal,
        #[source]
        source: Box<CommandError>,
    },
    /// Removal left it alone.
    #[error(
        "{object}: not removed, since it has snapshots, which would go with it, or is another volume than the one to be removed"
    )]
    Spared { object: String },
    /// Any other failure of the tool.
    #[error("{object}: failed")]
    Command {
        object: String,
        #[source]
        source: Box<CommandError>,
    },
    /// The tool's answer is not understood.
    #[error("answer of {program} not understood: {problem}")]
    Answer { program: String, problem: String },
    /// The task that ran the tool was cut off by the end of the runtime.
    #[error("{object}: the program is shutting down")]
    Shutdown { object: String },
}

impl LvmError {
    pub(crate) fn from_command(object: impl Into<String>, error: CommandError) -> Self {
        let object = object.into();
        let refusal = match &error {
            CommandError::Failed(output) => recognise(&output.stderr_text()),
            // A change that ends at its deadline nearly always waited for the lock.
            CommandError::Deadline { stderr, .. } => recognise(&String::from_utf8_lossy(stderr)),
            CommandError::Spawn { .. }
            | CommandError::Stuck { .. }
            | CommandError::TooMuchOutput { .. }
            | CommandError::Io { .. } => None,
        };
        let source = Box::new(error);
        match refusal {
            Some(refusal) => Self::Refused {
                object,
                refusal,
                source,
            },
            None => Self::Command { object, source },
        }
    }

    /// The refusal, if it was one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            Self::Name(_)
            | Self::Request { .. }
            | Self::Spared { .. }
            | Self::Command { .. }
            | Self::Answer { .. }
            | Self::Shutdown { .. } => None,
        }
    }

    #[must_use]
    pub fn is(&self, refusal: Refusal) -> bool {
        self.refusal() == Some(refusal)
    }
}

/// What the tools say, from LVM's source and from recorded runs (`tests/recorded`), in lower case. In each line the first that
/// matches wins; more specific ones come first.
const MESSAGES: &[(&str, Refusal)] = &[
    ("insufficient free space", Refusal::NoSpace),
    (
        "insufficient suitable allocatable extents",
        Refusal::NoSpace,
    ),
    ("already exists in volume group", Refusal::Exists),
    ("a volume group called", Refusal::Exists),
    ("is already in volume group", Refusal::AlreadyMember),
    ("without -ff", Refusal::AlreadyMember),
    ("already in use on", Refusal::AlreadyMember),
    ("is used by vg", Refusal::AlreadyMember),
    ("belongs to a vg", Refusal::AlreadyMember),
    ("can't get lock for", Refusal::Locked),
    ("flock failed", Refusal::Locked),
    ("giving up waiting for lock", Refusal::Locked),
    ("with duplicates", Refusal::DuplicatePv),
    ("on duplicate devices", Refusal::DuplicatePv),
    ("is exported", Refusal::Foreign),
    ("with system id", Refusal::Foreign),
    ("foreign vg", Refusal::Foreign),
    ("while pvs are missing", Refusal::MissingPv),
    ("activation of partial lv", Refusal::MissingPv),
    ("contains a filesystem in use", Refusal::InUse),
    ("is used by another device", Refusal::InUse),
    ("still in use", Refusal::InUse),
    ("still contains", Refusal::InUse),
    (" in use.", Refusal::InUse),
    ("device or resource busy", Refusal::InUse),
    ("mounted filesystem?", Refusal::InUse),
    ("aborted wiping", Refusal::Signature),
    ("signature left on the device", Refusal::Signature),
    ("device has a signature", Refusal::Signature),
    ("no device found for", Refusal::NotUsable),
    ("excluded by", Refusal::NotUsable),
    ("device is not in a usable state", Refusal::NotUsable),
    ("device is partitioned", Refusal::NotUsable),
    ("device is too small", Refusal::NotUsable),
    ("cannot use /", Refusal::NotUsable),
    ("can't open /", Refusal::NotUsable),
    ("failed to find logical volume", Refusal::NotFound),
    ("failed to find physical volume", Refusal::NotFound),
    ("no such device or address", Refusal::NotFound),
    ("device does not exist", Refusal::NotFound),
];

/// Reads the tools' messages (in the C locale). A pure function of the text. Warnings are passed over: they tell the state of
/// other devices as well, so they say nothing of why this call failed.
pub(crate) fn recognise(stderr: &str) -> Option<Refusal> {
    stderr
        .lines()
        .map(|line| line.trim().to_ascii_lowercase())
        .filter(|line| !line.starts_with("warning:"))
        .find_map(|line| {
            if line.starts_with("volume group \"") && line.ends_with("\" not found") {
                return Some(Refusal::NotFound);
            }
            MESSAGES
                .iter()
                .find(|(part, _)| line.contains(part))
                .map(|(_, refusal)| *refusal)
        })
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
