//! The CSI project's own conformance suite (csi-sanity of csi-test v5) against the driver as it runs in the cluster: once for mounted, once for block volumes.
//!
//! It runs on the node on which the provisioner runs, and talks to both of the driver's sockets. Its volumes carry no topology, so the other nodes are put
//! in maintenance meanwhile: then every volume lands on this node.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::{LocalStorageNode, names};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::json;

use crate::agent::Piece;
use crate::kit::pods::{node_of, uid_of};
use crate::kit::{Pending, Scope, wait_for};
use crate::lab::Lab;

/// Where the provisioner's pods and their lease are.
const NAMESPACE: &str = "hwameistor";
/// Where the suite works on the node.
const FOLDER: &str = "/var/lib/kubelet/plugins/csi-sanity";
/// How long the suite may take for one kind of volume; it ends itself then.
const SUITE: Duration = Duration::from_secs(600);
/// What it may take beyond that to write its report.
const GRACE: Duration = Duration::from_secs(60);
/// Why the suite may skip a spec, as it says itself: capabilities that Hawser does not offer yet, and one option of the suite that is off, since the
/// spec fills a node with as many volumes as it can hold.
const MAY_SKIP: &[&str] = &[
    "Snapshot not supported",
    "CreateSnapshot not supported",
    "DeleteSnapshot not supported",
    "ListSnapshots not supported",
    "Volume Cloning not supported",
    "Modify volume not supported",
    "Modify Volume not supported",
    "ControllerModifyVolume not supported",
    "NodeGetStorageHealth not supported",
    "GetSnapshot not supported",
    "GroupControllerService not supported",
    "ControllerPublishVolume.readonly field not supported",
    "testnodevolumeattachlimit not enabled",
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
        .and_then(|pool| names::pools::class_of(&pool.name))
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
            let left = lab.sh(&node, "lvs --noheadings -o lv_name")?.checked()?;
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
        let (report, output) = tokio::task::spawn_blocking(move || {
            let mut output = Vec::new();
            lab.sh_within(&node, &script, SUITE + GRACE, |piece| {
                let (Piece::Stdout(bytes) | Piece::Stderr(bytes)) = piece;
                output.extend_from_slice(bytes);
            })?;
            let report = lab.sh(&node, &format!("cat {FOLDER}/report.json"))?.stdout;
            anyhow::Ok((report, String::from_utf8_lossy(&output).into_owned()))
        })
        .await??;
        let summary = judge(&report).with_context(|| {
            format!(
                "csi-sanity, {access} volumes; it said:\n{}",
                tail(&output, 100)
            )
        })?;
        println!("  csi-sanity, {access} volumes: {summary}");
    }
    Ok(())
}

/// The suite's command on the node.
fn script(socket: &str, access: &str, pool_class: &str) -> String {
    format!(
        "mkdir -p {FOLDER} && cd {FOLDER} && rm -rf mount staging report.json && \
         printf 'poolClass: {pool_class}\\nreplicaNumber: \"1\"\\n' > parameters.yaml && \
         /programs/csi-sanity --csi.endpoint=/var/lib/kubelet/plugins/lvm.hwameistor.io/csi.sock --csi.controllerendpoint={socket} \
         --csi.mountdir={FOLDER}/mount --csi.stagingdir={FOLDER}/staging --csi.testvolumeparameters=parameters.yaml \
         --csi.testvolumesize=67108864 --csi.testvolumeexpandsize=134217728 --csi.testvolumeaccesstype={access} \
         --ginkgo.no-color --ginkgo.v --ginkgo.timeout={} --ginkgo.json-report=report.json 2>&1",
        format_args!("{}s", SUITE.as_secs())
    )
}

/// Where the leading provisioner's CSI socket is: its node, and the path there. The others refuse all calls.
async fn provisioner_socket(scope: &Scope) -> Result<(String, String)> {
    let leases: Api<Lease> = Api::namespaced(scope.client.clone(), NAMESPACE);
    let lease = leases.get(names::leases::STORAGE_MASTER).await?;
    let leader = lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .context("no provisioner leads")?;
    let pods: Api<Pod> = Api::namespaced(scope.client.clone(), NAMESPACE);
    let pod = pods
        .get(&leader)
        .await
        .with_context(|| format!("looking for the leader {leader}"))?;
    let (node, uid) = (node_of(&pod), uid_of(&pod));
    let volumes = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir");
    let found = scope
        .lab
        .sh(&node, &format!("ls {volumes}/*/csi.sock"))?
        .checked()?;
    Ok((node, found.trim().to_owned()))
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

/// How many specs passed, and which were skipped why. An error if one failed, or was skipped for a reason that is none.
fn judge(report: &str) -> Result<String> {
    let suites: Vec<Suite> = serde_json::from_str(report).context("reading the suite's report")?;
    let specs = suites.into_iter().flat_map(|suite| suite.specs);
    let (mut passed, mut wrong) = (0, Vec::new());
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for spec in specs.filter(|spec| spec.kind == "It") {
        let why = spec.failure.message;
        match spec.state.as_str() {
            "passed" => passed += 1,
            "skipped" if MAY_SKIP.contains(&why.as_str()) => {
                *skipped.entry(why).or_default() += 1;
            }
            // The suite's author marked it as not to be run.
            "pending" => {
                let why = "pending in the suite itself".to_owned();
                *skipped.entry(why).or_default() += 1;
            }
            state => wrong.push(format!(
                "{state}: {} {}: {why}",
                spec.containers.join(" "),
                spec.text
            )),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(passed > 0, "no spec has run");
    let reasons: Vec<String> = skipped
        .iter()
        .map(|(why, count)| format!("{count} x {why}"))
        .collect();
    Ok(format!(
        "{passed} passed, 0 failed, {} skipped ({})",
        skipped.values().sum::<usize>(),
        reasons.join("; ")
    ))
}

/// What is read of a report of Ginkgo, the suite's framework.
#[derive(Deserialize)]
struct Suite {
    #[serde(rename = "SpecReports", default)]
    specs: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(rename = "LeafNodeType")]
    kind: String,
    #[serde(rename = "LeafNodeText", default)]
    text: String,
    #[serde(rename = "ContainerHierarchyTexts", default)]
    containers: Vec<String>,
    state: String,
    #[serde(default)]
    failure: Failure,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(state: &str, message: &str) -> Value {
        json!({
            "LeafNodeType": "It", "LeafNodeText": "should work", "ContainerHierarchyTexts": ["Node Service"],
            "State": state, "Failure": { "Message": message },
        })
    }

    fn judged(specs: &[Value]) -> Result<String> {
        judge(&json!([{ "SpecReports": specs }]).to_string())
    }

    #[test]
    fn what_passed_and_what_may_be_skipped_is_counted() {
        let known = spec("skipped", MAY_SKIP[0]);
        let before = json!({ "LeafNodeType": "BeforeSuite", "State": "passed" });
        let said = judged(&[before, spec("passed", ""), known.clone(), known]).unwrap();
        assert!(said.starts_with("1 passed, 0 failed, 2 skipped"), "{said}");
        assert!(said.contains("2 x Snapshot not supported"), "{said}");
    }

    #[test]
    fn failures_panics_and_unknown_skips_are_errors_with_the_spec() {
        for (state, why) in [("failed", "x"), ("panicked", "x"), ("skipped", "x")] {
            let error = judged(&[spec("passed", ""), spec(state, why)]).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains(&format!("{state}: Node Service should work: x")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_report_in_which_nothing_ran_is_an_error() {
        assert!(judged(&[]).is_err());
        assert!(judge("").is_err());
    }
}
