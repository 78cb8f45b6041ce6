//! Waiting for the cluster: conditions with a deadline, and a reason when it passes.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::lab::Lab;

/// Asks `look` again and again until it says that all is well (`None`).
///
/// # Errors
/// If that takes longer than `patience`: `what`, and what `look` last gave as the reason.
pub(crate) async fn until<F, Fut>(what: &str, patience: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<String>>>,
{
    let deadline = Instant::now() + patience;
    loop {
        let reason = match look().await {
            Ok(None) => return Ok(()),
            Ok(Some(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("{what} took longer than {} s: {reason}", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the API server says that it is ready.
pub(crate) async fn api(lab: &Lab, patience: Duration) -> Result<()> {
    until("the API server", patience, || async {
        let client = lab.client().await?;
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let text = client
            .request_text(request)
            .await
            .context("asking /readyz")?;
        Ok((text != "ok").then_some(text))
    })
    .await
}

/// Waits until a node is Ready in the boot of this id.
pub(crate) async fn node(lab: &Lab, name: &str, boot: &str, patience: Duration) -> Result<()> {
    let nodes: Api<Node> = Api::all(lab.client().await?);
    until(&format!("node {name}"), patience, || async {
        Ok(not_ready(nodes.get_opt(name).await?.as_ref(), boot))
    })
    .await
}

/// Why a node is not Ready in the boot of this id.
fn not_ready(node: Option<&Node>, boot: &str) -> Option<String> {
    let Some(node) = node else {
        return Some("it has not registered itself".to_owned());
    };
    let Some(status) = &node.status else {
        return Some("it has no status".to_owned());
    };
    let seen = status.node_info.as_ref().map(|info| info.boot_id.as_str());
    if seen != Some(boot) {
        return Some("its kubelet has not reported since the boot".to_owned());
    }
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(ready.message.clone().unwrap_or_default()),
        None => Some("it has no condition Ready".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_node(boot: &str, ready: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "n1" },
            "status": {
                "nodeInfo": {
                    "architecture": "", "bootID": boot, "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""
                },
                "conditions": [{ "type": "Ready", "status": ready, "message": "why" }]
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_node_is_ready_in_its_present_boot_only() {
        assert_eq!(not_ready(Some(&a_node("b", "True")), "b"), None);
        assert!(
            not_ready(Some(&a_node("a", "True")), "b")
                .unwrap()
                .contains("since the boot")
        );
        assert_eq!(not_ready(Some(&a_node("b", "False")), "b").unwrap(), "why");
        assert!(not_ready(None, "b").is_some());
    }

    #[tokio::test]
    async fn a_wait_that_fails_says_why() {
        let mut left = 3;
        until("counting", Duration::from_secs(5), || {
            left -= 1;
            let reason = (left > 0).then(|| "not yet".to_owned());
            async move { Ok(reason) }
        })
        .await
        .unwrap();
        let error = until("the thing", Duration::ZERO, || async {
            Ok(Some("it sleeps".to_owned()))
        })
        .await
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the thing took longer than 0 s: it sleeps"
        );
    }
}
