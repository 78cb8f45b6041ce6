//! What a CSI caller gets instead of an answer: a gRPC code and one sentence for people. The only place that makes
//! [`tonic::Status`] values.

use hawser_api::parameters::ParameterError;
use tonic::{Code, Status};

use crate::{decide::size::SizeError, objects::WriteError};

/// A refusal or failure. The sentence names the object or field, its value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    /// What is logged instead of the message, if that holds what must not be logged.
    logged: Option<String>,
    /// Only because somebody else wrote the object first: the same attempt on the object as it is now may do.
    conflict: bool,
}

/// How often an attempt starts again because somebody else was faster: the controllers write a volume's status a few times
/// while it comes to life.
const MOST_CONFLICTS: usize = 10;

/// Makes the attempt, and makes it again if all that hindered it was another write of the same object.
pub async fn persist<T, F: Future<Output = Result<T, Refusal>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Refusal> {
    let mut conflicts = 0;
    loop {
        match attempt().await {
            Err(refusal) if refusal.conflict && conflicts < MOST_CONFLICTS => conflicts += 1,
            other => return other,
        }
    }
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            logged: None,
            conflict: false,
        }
    }

    /// The parameter `key` is wrong.
    pub fn parameter(key: &str, message: impl Into<String>) -> Self {
        Self {
            logged: Some(format!("parameter {key:?} is refused")),
            ..Self::invalid(message)
        }
    }

    /// What may be logged: values of parameters may name secrets.
    #[must_use]
    pub fn logged(&self) -> &str {
        self.logged.as_deref().unwrap_or(&self.message)
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

impl From<ParameterError> for Refusal {
    fn from(error: ParameterError) -> Self {
        Self::parameter(error.parameter(), error.to_string())
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
        let conflict = matches!(error, WriteError::Conflict { .. });
        Self {
            conflict,
            ..Self::new(code, error.to_string())
        }
    }
}
