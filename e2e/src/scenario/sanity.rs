//! The CSI project's own conformance suite (csi-sanity of csi-test v5) against the driver as it runs in the cluster: once for mounted, once for block volumes.
//!
//! It runs on the node on which the provisioner runs, and talks to both of the driver's sockets. Its volumes carry no topology, so the other nodes are put
//! in maintenance meanwhile: then every volume lands on this node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::LocalStorageNode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::agent::Piece;
use crate::kit::pods::{node_of, uid_of};
use crate::kit::{Pending, Scope, wait_for};
use crate::lab::Lab;

/// Namespace and label of the provisioner's pods.
const NAMESPACE: &str = "hwameistor";
const PROVISIONER: &str = "app.kubernetes.io/component=provisioner";
/// Skipped specs that are not for want of a capability are failures too. These capabilities are not asked for yet.
const SKIPPED_FOR: &[&str] = &[
    "Snapshot",
    "snapshot",
    "clone",
    "Clone",
    "ModifyVolume",
    "volume source",
    "Group",
];

/// Runs the suite for mounted and for block volumes.
///
/// # Errors
/// With the failed specs, or with a spec that was skipped for something else than a capability that is not offered.
pub(crate) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, "sanity").await?;
    let pools = scope.ensure_pools().await?;
    let pool_class = pools
        .first()
        .and_then(|pool| hawser_api::names::pools::class_of(&pool.name))
        .context("no pool has a class")?
        .to_string();
    let (node, socket) = provisioner_socket(&scope).await?;
    maintain_others(&scope, &node, "Maintain").await?;
    let result = both(lab, &node, &socket, &pool_class).await;
    maintain_others(&scope, &node, "Ready").await?;
    result?;
    wait_for(
        "the suite's volumes to be gone",
        Duration::from_secs(120),
        || async {
            let left = lab.sh(&node, "lvs --noheadings -o lv_name")?.stdout;
            Ok(if left.trim().is_empty() {
                Ok(())
            } else {
                Err(Pending::because(format!("{node} still has {left}")))
            })
        },
    )
    .await?;
    scope.close().await
}

async fn both(lab: &Lab, node: &str, socket: &str, pool_class: &str) -> Result<()> {
    for access in ["mount", "block"] {
        let lab = lab.clone();
        let (node, script) = (node.to_owned(), script(socket, access, pool_class));
        let (status, output) = tokio::task::spawn_blocking(move || {
            let mut output = Vec::new();
            let status = lab.sh_streamed(&node, &script, |piece| {
                let (Piece::Stdout(bytes) | Piece::Stderr(bytes)) = piece;
                output.extend_from_slice(bytes);
            })?;
            anyhow::Ok((status, String::from_utf8_lossy(&output).into_owned()))
        })
        .await??;
        let summary =
            judge(&output, status).with_context(|| format!("csi-sanity, {access} volumes"))?;
        println!("  csi-sanity, {access} volumes: {summary}");
    }
    Ok(())
}

/// The suite's command on the node.
fn script(socket: &str, access: &str, pool_class: &str) -> String {
    let folder = "/var/lib/kubelet/plugins/csi-sanity";
    format!(
        "mkdir -p {folder} && cd {folder} && rm -rf mount staging && \
         printf 'poolClass: {pool_class}\\nreplicaNumber: \"1\"\\n' > parameters.yaml && \
         /programs/csi-sanity --csi.endpoint=/var/lib/kubelet/plugins/lvm.hwameistor.io/csi.sock --csi.controllerendpoint={socket} \
         --csi.mountdir={folder}/mount --csi.stagingdir={folder}/staging --csi.testvolumeparameters=parameters.yaml \
         --csi.testvolumesize=67108864 --csi.testvolumeexpandsize=134217728 --csi.testvolumeaccesstype={access} \
         --ginkgo.no-color --ginkgo.v 2>&1"
    )
}

/// Where the leading provisioner's CSI socket is: its node, and the path there.
async fn provisioner_socket(scope: &Scope) -> Result<(String, String)> {
    let pods: Api<Pod> = Api::namespaced(scope.client.clone(), NAMESPACE);
    let list = pods
        .list(&ListParams::default().labels(PROVISIONER))
        .await?;
    for pod in list {
        let (node, uid) = (node_of(&pod), uid_of(&pod));
        let volumes = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir");
        let found = scope.lab.sh(&node, &format!("ls {volumes}/*/csi.sock"))?;
        if let Some(socket) = found.stdout.lines().next() {
            return Ok((node, socket.trim().to_owned()));
        }
    }
    anyhow::bail!("no pod with {PROVISIONER} has a CSI socket")
}

async fn maintain_others(scope: &Scope, node: &str, state: &str) -> Result<()> {
    let nodes: Api<LocalStorageNode> = scope.cluster();
    for other in scope.lab.nodes()?.iter().filter(|other| *other != node) {
        let patch = json!({ "status": { "state": state } });
        nodes
            .patch_status(other, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
    }
    Ok(())
}

/// The suite's summary line, if nothing failed and what was skipped was skipped for a capability that is not offered.
fn judge(output: &str, status: i32) -> Result<String> {
    let summary = output
        .lines()
        .find(|line| line.contains("Passed") && line.contains("Failed") && line.contains("Skipped"))
        .with_context(|| format!("no summary (exit status {status}):\n{}", tail(output, 60)))?
        .trim()
        .to_owned();
    let failed: Vec<&str> = output
        .lines()
        .filter(|line| line.trim_start().starts_with("[FAIL]"))
        .collect();
    ensure!(
        status == 0 && failed.is_empty(),
        "{summary}\n{}\n{}",
        failed.join("\n"),
        tail(output, 200)
    );
    let unexpected: Vec<&str> = output
        .lines()
        .filter(|line| {
            line.contains("[SKIPPED]") && !SKIPPED_FOR.iter().any(|known| line.contains(known))
        })
        .filter(|line| line.contains("[It]"))
        .collect();
    ensure!(
        unexpected.is_empty(),
        "skipped for no known reason:\n{}",
        unexpected.join("\n")
    );
    Ok(summary)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "\u{2022} [0.010 seconds]\nRan 60 of 92 Specs in 12.3 seconds\nSUCCESS! -- 60 Passed | 0 Failed | 1 Pending | 31 Skipped\nPASS\n";

    #[test]
    fn a_clean_run_gives_its_summary() {
        assert!(judge(PASSED, 0).unwrap().contains("60 Passed"));
    }

    #[test]
    fn a_failed_spec_or_status_is_an_error() {
        assert!(judge(PASSED, 1).is_err());
        let failed = format!("[FAIL] Node Service [It] should work\n{PASSED}");
        assert!(judge(&failed, 0).is_err());
    }

    #[test]
    fn output_without_a_summary_is_an_error() {
        assert!(
            judge("panic: no", 2)
                .unwrap_err()
                .to_string()
                .contains("panic: no")
        );
    }

    #[test]
    fn a_skip_for_an_unknown_reason_is_an_error() {
        let odd = format!("[SKIPPED] Node Service [It] NodeStage\n{PASSED}");
        assert!(judge(&odd, 0).is_err());
        let known = format!("[SKIPPED] CreateSnapshot [It] should\n{PASSED}");
        assert!(judge(&known, 0).is_ok());
    }
}
