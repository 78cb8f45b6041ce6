//! Pods: waiting for them, and commands in them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{AttachParams, ListParams};
use tokio::io::AsyncReadExt;

use super::scope::Scope;
use super::wait::{Pending, wait_for};

impl Scope {
    /// Waits until a pod is Ready and returns it.
    ///
    /// # Errors
    /// When `patience` is over, with the pod's own conditions and its last event as the reason.
    pub(crate) async fn pod_ready(&self, name: &str, patience: Duration) -> Result<Pod> {
        self.pod_ready_unlike(name, None, patience).await
    }

    /// Waits until a pod of this name is Ready that is not the one of the given uid (a deleted one, which its StatefulSet makes again).
    ///
    /// # Errors
    /// As [`Scope::pod_ready`].
    pub(crate) async fn pod_ready_unlike(
        &self,
        name: &str,
        gone: Option<&str>,
        patience: Duration,
    ) -> Result<Pod> {
        let pods: Api<Pod> = self.api();
        wait_for(&format!("pod {name} to be ready"), patience, || async {
            let Some(pod) = pods.get_opt(name).await? else {
                return Ok(Err(Pending::because("there is no such pod")));
            };
            if gone.is_some() && pod.metadata.uid.as_deref() == gone {
                return Ok(Err(Pending::because("the former pod is still there")));
            }
            match not_ready(&pod) {
                None => Ok(Ok(pod)),
                Some(reason) => {
                    let event = self.last_event(name).await.unwrap_or_default();
                    Ok(Err(Pending::because(format!(
                        "{reason}; last event: {event}"
                    ))))
                }
            }
        })
        .await
    }

    /// The newest event about an object of the scenario's namespace, as `reason: message`; empty without one.
    pub(crate) async fn last_event(&self, object: &str) -> Result<String> {
        Ok(self.events(object).await?.pop().unwrap_or_default())
    }

    /// The events about an object of the scenario's namespace, oldest first, as `reason: message`.
    pub(crate) async fn events(&self, object: &str) -> Result<Vec<String>> {
        let events: Api<Event> = self.api();
        let about = ListParams::default().fields(&format!("involvedObject.name={object}"));
        let mut list = events.list(&about).await?.items;
        list.sort_by_key(|event| {
            let version = event.metadata.resource_version.as_deref();
            version.and_then(|version| version.parse::<u64>().ok())
        });
        Ok(list
            .into_iter()
            .map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                )
            })
            .collect())
    }

    /// Runs a shell script in a pod's first container and returns what it wrote to stdout.
    ///
    /// # Errors
    /// If it can't be started, takes longer than `patience`, or ends with another status than 0 (with what it wrote to stderr).
    pub(crate) async fn exec(&self, pod: &str, script: &str, patience: Duration) -> Result<String> {
        let run = async {
            let pods: Api<Pod> = self.api();
            let mut process = pods
                .exec(
                    pod,
                    ["sh", "-c", script],
                    &AttachParams::default().stderr(true),
                )
                .await?;
            let mut stdout = process.stdout().context("no stdout")?;
            let mut stderr = process.stderr().context("no stderr")?;
            let status = process.take_status().context("no status")?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err))?;
            let status = status
                .await
                .context("the connection ended without a status")?;
            if status.status.as_deref() != Some("Success") {
                bail!(
                    "{}: {}",
                    status.message.unwrap_or_default(),
                    String::from_utf8_lossy(&err).trim_end()
                );
            }
            Ok(String::from_utf8_lossy(&out).into_owned())
        };
        tokio::time::timeout(patience, run)
            .await
            .with_context(|| {
                format!(
                    "`{script}` in pod {pod} took longer than {} s",
                    patience.as_secs()
                )
            })?
            .with_context(|| format!("`{script}` in pod {pod}"))
    }
}

/// Why a pod is not ready; `None` when it is.
fn not_ready(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".to_owned());
    }
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if ready {
        return None;
    }
    let why = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition.status != "True")
        .map(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            format!("{} is {} {message}", condition.type_, condition.status)
        })
        .collect::<Vec<_>>()
        .join(", ");
    let phase = status
        .and_then(|status| status.phase.clone())
        .unwrap_or_else(|| "without a phase".to_owned());
    Some(format!("it is {phase}: {why}"))
}

/// The node that a pod runs on; empty before it is scheduled.
pub(crate) fn node_of(pod: &Pod) -> String {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .unwrap_or_default()
}

/// The uid of a pod.
pub(crate) fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_waits_says_for_what() {
        let pod: Pod = serde_json::from_value(json!({
            "status": { "phase": "Pending", "conditions": [
                { "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available" }
            ]}
        }))
        .unwrap();
        let reason = not_ready(&pod).unwrap();
        assert!(
            reason.contains("Pending") && reason.contains("0/3 nodes"),
            "{reason}"
        );
    }

    #[test]
    fn a_ready_pod_that_is_being_deleted_does_not_count() {
        let mut pod: Pod = serde_json::from_value(json!({
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] }
        }))
        .unwrap();
        assert_eq!(not_ready(&pod), None);
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(not_ready(&pod).is_some());
    }
}
