//! Bodies of requests: how large, how slow and how many at once they may be.
//!
//! Large ones are let in few at a time, so that whoever sends them can't make the process grow; small ones are bounded by the number of
//! connections. A body says its length before it comes: API servers do, and what does not is refused unread.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An API server takes 3 MiB for one request. A review holds that object as JSON, which is larger than other encodings of it, and
/// for changes the stored one too, for which etcd takes 1.5 MiB.
pub const BODY_LIMIT: usize = 8 << 20;

/// A body above this counts as large. Reviews of usual pods have a tenth of it.
const LARGE: usize = 64 << 10;

/// How many large bodies are held at once: at most 32 MiB.
const LARGE_AT_ONCE: usize = 4;

/// How long a body may take to arrive, and to wait for its turn. The API server has given up by then: `timeoutSeconds` is 5.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A body that is not read.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error(
        "the request says no Content-Length: set it, so that its size is known before it is read"
    )]
    NoLength,
    #[error(
        "the body has {0} bytes: at most {BODY_LIMIT} are taken, an API server sends no larger review"
    )]
    TooLarge(u64),
    #[error("the body did not arrive within {:.1} s", .0.as_secs_f64())]
    Slow(Duration),
    #[error("too many large bodies at once: try again")]
    Busy,
    #[error("the body broke off: {0}")]
    Broken(#[source] axum::Error),
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        };
        // Whatever still comes on this connection is part of the body: nothing more is read from it.
        let close = [(axum::http::header::CONNECTION, "close")];
        (status, close, format!("{self}\n")).into_response()
    }
}

/// Reads bodies within the limits. Clones share them.
#[derive(Clone, Debug)]
pub struct Reader {
    large: Arc<Semaphore>,
    timeout: Duration,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(BODY_TIMEOUT)
    }
}

/// A body in memory, and its place among the large ones while it is held.
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// Bodies must arrive within `timeout`; tests choose a shorter one.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            timeout,
        }
    }

    /// Reads a body. What is refused by its length is refused before a byte of it is read.
    pub(crate) async fn read(&self, body: Body) -> Result<Held, BodyError> {
        let length = body.size_hint().exact().ok_or(BodyError::NoLength)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= BODY_LIMIT)
            .ok_or(BodyError::TooLarge(length))?;
        match tokio::time::timeout(self.timeout, self.collect(body, length)).await {
            Ok(result) => result,
            Err(_) if length > LARGE && self.large.available_permits() == 0 => Err(BodyError::Busy),
            Err(_) => Err(BodyError::Slow(self.timeout)),
        }
    }

    async fn collect(&self, mut body: Body, length: usize) -> Result<Held, BodyError> {
        let place = if length > LARGE {
            let place = self.large.clone().acquire_owned().await;
            Some(place.map_err(|_| BodyError::Busy)?)
        } else {
            None
        };
        // Grows as it arrives: a length alone costs nothing.
        let mut bytes = Vec::with_capacity(length.min(LARGE));
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Held {
            bytes,
            _place: place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_length_alone_decides_and_no_length_is_refused() {
        let reader = Reader::default();
        let fine = reader.read(Body::from(vec![b' '; BODY_LIMIT])).await;
        assert_eq!(fine.map(|held| held.bytes.len()).ok(), Some(BODY_LIMIT));
        let large = reader.read(Body::from(vec![b' '; BODY_LIMIT + 1])).await;
        assert!(matches!(large, Err(BodyError::TooLarge(_))));
        let endless = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        assert!(matches!(
            reader.read(Body::from_stream(endless)).await,
            Err(BodyError::NoLength)
        ));
    }
}
