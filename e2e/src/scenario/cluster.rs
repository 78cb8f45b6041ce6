//! The lab is a cluster like any other: nodes are Ready, pods on different nodes reach each other by a Service's name, and the API.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::image::base::BUSYBOX;
use crate::kit::{Pending, Scope, wait_for};
use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(120);
/// For one command in a pod.
const SOON: Duration = Duration::from_secs(30);

/// Runs the scenario.
///
/// # Errors
/// What does not hold.
pub(crate) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, "cluster").await?;
    let nodes = lab.nodes()?;
    nodes_are_ready(&scope, &nodes).await?;
    let pods: Api<Pod> = scope.api();
    for node in &nodes {
        Scope::apply(&pods, &format!("web-{node}"), web(node)).await?;
    }
    Scope::apply(&scope.api::<Service>(), "web", service()).await?;
    for node in &nodes {
        scope.pod_ready(&format!("web-{node}"), PATIENCE).await?;
    }
    for node in &nodes {
        a_service_answers(&scope, node, &nodes).await?;
    }
    commands_in_pods_have_a_status(&scope, &nodes[0]).await?;
    scope.close().await
}

async fn nodes_are_ready(scope: &Scope, expected: &[String]) -> Result<()> {
    let nodes: Api<Node> = scope.cluster();
    let ready: BTreeSet<String> = nodes
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter(|node| {
            let status = node.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
        .filter_map(|node| node.metadata.name)
        .collect();
    ensure!(
        ready == expected.iter().cloned().collect(),
        "the lab has the nodes {expected:?}, Ready are {ready:?}"
    );
    Ok(())
}

/// A pod on a node that says the node's name to whoever asks.
fn web(node: &str) -> Value {
    let (image, tag) = BUSYBOX;
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("web-{node}"), "labels": { "app": "web" } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web",
                "image": format!("{image}:{tag}"),
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", format!("mkdir /www && echo {node} > /www/index.html && exec httpd -f -p 8080 -h /www")],
                "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
            }],
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

/// From the pod on `from`, the Service is found by its name and every node's pod answers behind it.
async fn a_service_answers(scope: &Scope, from: &str, nodes: &[String]) -> Result<()> {
    let pod = format!("web-{from}");
    let name = format!("web.{}.svc.cluster.local", scope.namespace);
    let what = format!("{name} to be answered by the pods of all nodes, seen from {from}");
    let script = format!(
        "nslookup {name} >&2 && for i in 1 2 3 4 5 6 7 8 9 10 11 12; do wget -T 5 -qO- http://{name}/; done"
    );
    wait_for(&what, PATIENCE, || async {
        let answers = scope.exec(&pod, &script, SOON).await?;
        let seen: BTreeSet<&str> = answers.split_whitespace().collect();
        Ok(if nodes.iter().all(|node| seen.contains(node.as_str())) {
            Ok(())
        } else {
            Err(Pending::because(format!(
                "of twelve tries only by {seen:?}"
            )))
        })
    })
    .await?;
    // The server speaks TLS only, and says so to who does not.
    let api = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 kubernetes.default.svc.cluster.local 443";
    let answer = scope.exec(&pod, api, SOON).await?;
    ensure!(
        answer.contains("to an HTTPS server"),
        "the API server's Service answers {answer:?}"
    );
    Ok(())
}

async fn commands_in_pods_have_a_status(scope: &Scope, node: &str) -> Result<()> {
    let pod = format!("web-{node}");
    let Err(error) = scope
        .exec(&pod, "echo out; echo why >&2; exit 7", SOON)
        .await
    else {
        anyhow::bail!("a command that ended with status 7 counts as a success");
    };
    let text = format!("{error:#}");
    ensure!(
        text.contains('7') && text.contains("why"),
        "the error of a failed command lacks its status or its stderr: {text}"
    );
    Ok(())
}
