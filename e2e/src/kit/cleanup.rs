//! How a scenario ends: what failed is kept before it is cleaned up, and cleaning up never hides why it failed.

use std::future::Future;

use anyhow::{Context, Result};

use super::dump;
use super::faults::on;
use crate::lab::Lab;

/// Cleans up after a scenario's work, whatever came of it. Of work that failed, everything is kept first, since cleaning up would take it away.
///
/// # Errors
/// That of the work; or that of cleaning up; or both in one.
pub(crate) async fn after(
    lab: &Lab,
    title: &'static str,
    result: Result<()>,
    cleanup: impl Future<Output = Result<()>>,
) -> Result<()> {
    if result.is_err() {
        match on(lab, move |lab| dump::dump(lab, title)).await {
            Ok(folder) => println!("  before it was cleaned up: {}", folder.display()),
            Err(error) => println!("  nothing could be kept: {error:#}"),
        }
    }
    joined(result, cleanup.await)
}

fn joined(result: Result<()>, cleaned: Result<()>) -> Result<()> {
    match (result, cleaned) {
        (Ok(()), cleaned) => cleaned.context("cleaning up"),
        (failed, Ok(())) => failed,
        (Err(error), Err(also)) => {
            Err(error.context(format!("cleaning up failed too ({also:#}), after")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn neither_failure_hides_the_other() {
        assert!(joined(Ok(()), Ok(())).is_ok());
        let said = |result, cleaned| format!("{:#}", joined(result, cleaned).unwrap_err());
        assert_eq!(said(Err(anyhow!("a")), Ok(())), "a");
        assert_eq!(said(Ok(()), Err(anyhow!("b"))), "cleaning up: b");
        let both = said(Err(anyhow!("a")), Err(anyhow!("b")));
        assert!(both.contains("(b)") && both.ends_with(": a"), "{both}");
    }
}
