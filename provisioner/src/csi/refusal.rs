//! What a CSI caller gets instead of an answer: a gRPC code and one sentence for people. The only place that makes
//! [`tonic::Status`] values.

use tonic::{Code, Status};

use crate::{decide::size::SizeError, objects::WriteError};

/// A refusal or failure. The sentence names the object or field, its value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A field of the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// The request is right, the volume's state does not allow it.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// Another operation is under way: the caller repeats later.
    pub fn aborted(message: impl Into<String>) -> Self {
        Self::new(Code::Aborted, message)
    }

    pub fn out_of_range(message: impl Into<String>) -> Self {
        Self::new(Code::OutOfRange, message)
    }

    /// No room where the volume was asked for: the pod is scheduled anew.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// Not finished in time, still being worked on: the caller repeats.
    pub fn deadline(message: impl Into<String>) -> Self {
        Self::new(Code::DeadlineExceeded, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    #[must_use]
    pub fn no_such_volume(volume: &str) -> Self {
        Self::not_found(format!("volume {volume:?} does not exist"))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}

impl From<SizeError> for Refusal {
    fn from(error: SizeError) -> Self {
        let code = if error.is_malformed() {
            Code::InvalidArgument
        } else {
            Code::OutOfRange
        };
        Self::new(code, error.to_string())
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        let code = match &error {
            WriteError::Conflict { .. } | WriteError::Exists { .. } => Code::Aborted,
            WriteError::Gone { .. } => Code::NotFound,
            WriteError::NotLeader
            | WriteError::TimedOut { .. }
            | WriteError::Unavailable { .. } => Code::Unavailable,
            WriteError::Rejected { .. } => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
