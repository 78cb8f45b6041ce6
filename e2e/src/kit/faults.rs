//! The lab's own doings (faults, commands on nodes) from within a scenario. They block, some for minutes; a scenario's other tasks go on meanwhile.

use anyhow::{Context, Result};

use crate::lab::Lab;

/// Does something with the lab on a thread of its own.
///
/// # Errors
/// Those of `work`, or if it panics.
pub(crate) async fn on<T: Send + 'static>(
    lab: &Lab,
    work: impl FnOnce(&Lab) -> Result<T> + Send + 'static,
) -> Result<T> {
    let lab = lab.clone();
    tokio::task::spawn_blocking(move || work(&lab))
        .await
        .context("the thread that works on the lab")?
}

/// Runs a script on a node and returns what it wrote; a status other than 0 is an error.
///
/// # Errors
/// As [`Lab::sh`], or with the script's status and what it wrote to stderr.
pub(crate) async fn sh(lab: &Lab, node: &str, script: impl Into<String>) -> Result<String> {
    let (node, script) = (node.to_owned(), script.into());
    on(lab, move |lab| {
        lab.sh(&node, &script)?
            .checked()
            .with_context(|| format!("on node {node}: {script}"))
    })
    .await
}
