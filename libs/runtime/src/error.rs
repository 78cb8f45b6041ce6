//! One vocabulary for what kind of failure an error is: for events, log fields, metric labels, and whether to try again.
//!
//! Each error enum of ours answers `fn category(&self) -> Category` by an exhaustive match. Mapping to gRPC codes is left to
//! the crates that speak gRPC.

use std::fmt;

/// The kinds of failure. A fixed set: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// What was asked is wrong and stays wrong until the asker changes it.
    Invalid,
    /// What was asked is right, but this version can't do it.
    Unsupported,
    /// The thing named is not there.
    NotFound,
    /// It is there already, and differs from what was asked.
    AlreadyExists,
    /// Somebody else changed or holds it right now.
    Conflict,
    /// It is in a state in which this can't be done, such as in use; somebody has to act first.
    Precondition,
    /// Not enough room or another limit is reached.
    NoRoom,
    /// We are not allowed to.
    Denied,
    /// A part that we depend on is not there right now: API server, peer, daemon.
    Unavailable,
    /// A deadline passed; the outcome is not known.
    Timeout,
    /// A disk or device failed.
    Device,
    /// A tool or an API said something that we don't understand, or an invariant of ours is broken.
    Internal,
}

impl Category {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::Unsupported,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Precondition,
        Self::NoRoom,
        Self::Denied,
        Self::Unavailable,
        Self::Timeout,
        Self::Device,
        Self::Internal,
    ];

    /// The word used as metric label and log field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::Conflict => "conflict",
            Self::Precondition => "precondition",
            Self::NoRoom => "no-room",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Device => "device",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request can succeed later although nobody corrects it.
    #[must_use]
    pub fn retry(self) -> bool {
        match self {
            Self::Conflict
            | Self::Precondition
            | Self::NoRoom
            | Self::Denied
            | Self::Unavailable
            | Self::Timeout
            | Self::Device
            | Self::Internal => true,
            Self::Invalid | Self::Unsupported | Self::NotFound | Self::AlreadyExists => false,
        }
    }

    /// The category of a failed call to the API server.
    #[must_use]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest are the client's own: configuration, encoding, defects"
    )]
    pub fn of_kube(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match (status.code, status.reason.as_str()) {
                (404 | 410, _) => Self::NotFound,
                (409, "AlreadyExists") => Self::AlreadyExists,
                (409, _) => Self::Conflict,
                (403, _) if status.message.contains("exceeded quota") => Self::NoRoom,
                (401 | 403, _) => Self::Denied,
                (400 | 413 | 422, _) => Self::Invalid,
                (408 | 504, _) => Self::Timeout,
                (429 | 500..=599, _) => Self::Unavailable,
                _ => Self::Internal,
            },
            kube::Error::Auth(_) => Self::Denied,
            kube::Error::Service(source) if source.is::<tower::timeout::error::Elapsed>() => {
                Self::Timeout
            }
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
                Self::Unavailable
            }
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::core::Status;

    use super::*;

    fn api(code: u16, reason: &str, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
    }

    #[test]
    fn words_are_distinct_and_fit_for_labels() {
        let words: BTreeSet<_> = Category::ALL
            .iter()
            .map(|category| category.as_str())
            .collect();
        assert_eq!(words.len(), Category::ALL.len());
        assert!(
            words
                .iter()
                .all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        );
    }

    #[test]
    fn api_answers_have_categories() {
        assert_eq!(
            Category::of_kube(&api(404, "NotFound", "")),
            Category::NotFound
        );
        assert_eq!(
            Category::of_kube(&api(409, "AlreadyExists", "")),
            Category::AlreadyExists
        );
        assert_eq!(
            Category::of_kube(&api(409, "Conflict", "")),
            Category::Conflict
        );
        assert_eq!(
            Category::of_kube(&api(403, "Forbidden", "exceeded quota: storage")),
            Category::NoRoom
        );
        assert_eq!(
            Category::of_kube(&api(403, "Forbidden", "no")),
            Category::Denied
        );
        assert_eq!(
            Category::of_kube(&api(422, "Invalid", "")),
            Category::Invalid
        );
        assert_eq!(
            Category::of_kube(&api(503, "ServiceUnavailable", "")),
            Category::Unavailable
        );
        assert_eq!(
            Category::of_kube(&api(504, "Timeout", "")),
            Category::Timeout
        );
    }
}
