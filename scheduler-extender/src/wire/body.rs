//! Takes a request's body in, within limits: of one body, and of all bodies that are on their way. What is too large is refused by
//! its announced length, before anything of it is read; what does not say its length, as soon as it goes beyond. A client that
//! sends slowly costs what it has sent, until the time for a request is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;

use http_body_util::BodyExt;

/// 5,000 names take 300 KB and a Pod at most 1.5 MB; whole nodes (15 KB each) are for clusters of some hundreds.
pub(super) const LIMIT: usize = 8 << 20;

/// Of all bodies together. kube-scheduler sends one or two at a time.
pub(super) const LIMIT_OF_ALL: usize = 32 << 20;

/// Room that is made at once for a body that says it is long; the rest comes as it arrives.
const FIRST: usize = 1 << 20;

/// How many bytes of bodies are in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// How many bytes are taken now.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of the budget, given back when dropped.
struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    fn more(&mut self, bytes: usize) -> Result<(), Refused> {
        let add = |taken: usize| {
            let sum = taken.checked_add(bytes)?;
            (sum <= LIMIT_OF_ALL).then_some(sum)
        };
        let counter = &self.budget.0;
        match counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Refused::Busy),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body that has arrived; it counts until it is dropped.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _share: Share,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "the body has more than {LIMIT} bytes; let the scheduler send names of nodes (nodeCacheCapable: true)"
    )]
    TooLarge,
    #[error("more than {LIMIT_OF_ALL} bytes of requests are on their way already; try again")]
    Busy,
    #[error("the body broke off: {0}")]
    Broken(String),
}

impl Refused {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// `limit`: of this body.
pub(super) async fn collect(
    mut body: Body,
    limit: usize,
    budget: &Budget,
) -> Result<Whole, Refused> {
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(Refused::TooLarge);
    }
    let mut share = Share {
        budget: budget.clone(),
        bytes: 0,
    };
    let exact = announced
        .exact()
        .and_then(|exact| usize::try_from(exact).ok());
    let mut all: Option<Vec<u8>> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refused::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = all.as_ref().map_or(0, Vec::len);
        if so_far + data.len() > limit {
            return Err(Refused::TooLarge);
        }
        share.more(data.len())?;
        if all.is_none() && exact == Some(data.len()) {
            // Everything at once: nothing to put together.
            return Ok(Whole {
                bytes: data,
                _share: share,
            });
        }
        let first = exact.unwrap_or(0).min(FIRST);
        all.get_or_insert_with(|| Vec::with_capacity(first))
            .extend_from_slice(&data);
    }
    Ok(Whole {
        bytes: all.unwrap_or_default().into(),
        _share: share,
    })
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes
            .iter()
            .map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; *size])))
            .collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn bodies_are_put_together_and_given_back() {
        let budget = Budget::default();
        let whole = collect(chunks(&[3, 0, 4]), LIMIT, &budget)
            .await
            .ok()
            .unwrap();
        assert_eq!((whole.bytes.len(), budget.taken()), (7, 7));
        let at_once = collect(Body::from("12345"), LIMIT, &budget)
            .await
            .ok()
            .unwrap();
        assert_eq!((at_once.bytes.len(), budget.taken()), (5, 12));
        drop((whole, at_once));
        assert_eq!(budget.taken(), 0);
        assert!(
            collect(Body::empty(), LIMIT, &budget)
                .await
                .ok()
                .unwrap()
                .bytes
                .is_empty()
        );
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_by_its_length_or_when_it_goes_beyond() {
        let budget = Budget::default();
        let announced = Body::from(vec![b' '; LIMIT + 1]);
        assert_eq!(
            collect(announced, LIMIT, &budget).await.err(),
            Some(Refused::TooLarge)
        );
        let silent = chunks(&[LIMIT, 1]);
        assert_eq!(
            collect(silent, LIMIT, &budget).await.err(),
            Some(Refused::TooLarge)
        );
        assert_eq!(budget.taken(), 0, "nothing is kept");
        assert!(collect(chunks(&[LIMIT]), LIMIT, &budget).await.is_ok());
    }

    #[tokio::test]
    async fn all_together_have_a_limit_too() {
        let budget = Budget::default();
        let mut kept = Vec::new();
        for _ in 0..LIMIT_OF_ALL / LIMIT {
            kept.push(
                collect(chunks(&[LIMIT]), LIMIT, &budget)
                    .await
                    .ok()
                    .unwrap(),
            );
        }
        assert_eq!(
            collect(chunks(&[1]), LIMIT, &budget).await.err(),
            Some(Refused::Busy)
        );
        kept.pop();
        assert!(collect(chunks(&[1]), LIMIT, &budget).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let parts = [
            Ok(Bytes::from_static(b"{")),
            Err(std::io::Error::other("reset")),
        ];
        let refused = collect(
            Body::from_stream(stream::iter(parts)),
            LIMIT,
            &Budget::default(),
        )
        .await;
        assert_eq!(
            refused.err().map(|refused| refused.status()),
            Some(StatusCode::BAD_REQUEST)
        );
    }
}
