//! Waiting for a condition, with the reason it does not hold yet.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks. Scenarios wait for conditions; this is only how often they look.
const INTERVAL: Duration = Duration::from_millis(250);

/// Why a look does not satisfy yet; it becomes the message when the time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending(String);

impl Pending {
    pub(crate) fn because(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

/// What a look that worked found: a value, or why there is none yet.
pub(crate) type Look<T> = std::result::Result<T, Pending>;

/// Looks until `look` finds a value, for at most `patience`. A look that fails (the API server may be away for a moment) is a reason, not the end.
///
/// # Errors
/// When `patience` is over: what was waited for, how long, and the last reason.
pub(crate) async fn wait_for<T, F, Fut>(what: &str, patience: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>>>,
{
    let start = Instant::now();
    loop {
        let reason = match tokio::time::timeout(patience, look()).await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(Pending(reason)))) => reason,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "a look at it did not come back".to_owned(),
        };
        if start.elapsed() >= patience {
            bail!("waited {} s for {what}: {reason}", patience.as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_value_comes_back_once_there_is_one() {
        let mut looks = 0;
        let value = wait_for("three looks", Duration::from_secs(30), || {
            looks += 1;
            let look = if looks < 3 {
                Err(Pending::because("too few"))
            } else {
                Ok(looks)
            };
            async move { Ok(look) }
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }

    #[tokio::test]
    async fn the_last_reason_is_told() {
        let error = wait_for::<(), _, _>("rain", Duration::ZERO, || async {
            Ok(Err(Pending::because("the sky is blue")))
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for rain: the sky is blue");
    }

    #[tokio::test]
    async fn a_failed_look_is_a_reason() {
        let error = wait_for::<(), _, _>("rain", Duration::ZERO, || async {
            anyhow::bail!("no window")
        })
        .await
        .unwrap_err();
        assert!(error.to_string().ends_with("no window"), "{error}");
    }
}
