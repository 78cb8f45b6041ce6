//! Hawser on the lab: its manifests, applied as a user would (`kubectl apply -k`), with the images that were built from these sources.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use crate::command::run;
use crate::image::ImageArchive;
use crate::lab::Lab;
use crate::progress::Progress;
use crate::{ready, state};

/// Where Hawser's workloads run.
pub(crate) const NAMESPACE: &str = "hwameistor";
/// How long they may take to be ready.
const PATIENCE: Duration = Duration::from_secs(600);
/// An API server that does not answer one request within this time fails the command instead of holding it.
const REQUEST_TIMEOUT: &str = "--request-timeout=60s";

/// Applies `manifests/` of `workspace` with these images, and returns when every workload is ready. Nodes that lack an image get it first.
/// Doing it again with the same changes nothing.
///
/// # Errors
/// If the manifests are refused, or a workload does not become ready: then with what its pods say.
pub(crate) fn install(
    lab: &Lab,
    workspace: &Path,
    images: &[ImageArchive],
    progress: &Progress,
) -> Result<()> {
    load_missing(lab, images, progress)?;
    progress.say("applying Hawser's manifests");
    let overlay = write_overlay(lab, workspace, images)?;
    let mut apply = lab.kubectl()?;
    apply.args(["apply", REQUEST_TIMEOUT, "-k"]).arg(&overlay);
    lab.net
        .inside(|| run(&mut apply))
        .context("applying Hawser's manifests")?;
    progress.say("waiting for Hawser's workloads");
    lab.block_on(workloads(lab))?;
    state::update(lab.dir(), |state| {
        state.installed = true;
        Ok(())
    })?;
    progress.say("Hawser is ready");
    Ok(())
}

/// The kustomization that was applied last.
pub(crate) fn overlay_folder(lab: &Lab) -> PathBuf {
    lab.dir().join("manifests")
}

/// Applies once more what was installed last, and returns when every workload is ready. For use within [`Lab::block_on`].
pub(crate) async fn apply_again(lab: &Lab) -> Result<()> {
    let mut apply = lab.kubectl()?;
    apply
        .args(["apply", REQUEST_TIMEOUT, "-k"])
        .arg(overlay_folder(lab));
    run(&mut apply).context("applying Hawser's manifests again")?;
    workloads(lab).await
}

fn load_missing(lab: &Lab, images: &[ImageArchive], progress: &Progress) -> Result<()> {
    let mut missing: Vec<&ImageArchive> = Vec::new();
    for node in lab.nodes()? {
        let have = lab.images(&node)?;
        for image in images {
            if !have.contains(&image.name) && !missing.contains(&image) {
                missing.push(image);
            }
        }
    }
    for image in missing {
        progress.say(format!("loading {} on the nodes", image.name));
        lab.load(&image.path)?;
    }
    Ok(())
}

/// A kustomization of the manifests that names the lab's images.
fn write_overlay(lab: &Lab, workspace: &Path, images: &[ImageArchive]) -> Result<PathBuf> {
    let folder = overlay_folder(lab);
    std::fs::create_dir_all(&folder)?;
    let manifests = workspace.join("manifests").canonicalize()?;
    // kustomize takes no absolute paths.
    let text = overlay(&relative(&folder.canonicalize()?, &manifests), images);
    std::fs::write(folder.join("kustomization.yaml"), text)?;
    Ok(folder)
}

fn overlay(manifests: &Path, images: &[ImageArchive]) -> String {
    let images: Vec<serde_json::Value> = images
        .iter()
        .filter_map(|image| image.name.rsplit_once(':'))
        .map(|(name, tag)| serde_json::json!({ "name": name, "newName": name, "newTag": tag }))
        .collect();
    // JSON is YAML.
    serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [manifests],
        "images": images,
    })
    .to_string()
}

/// The way from the folder `from` to `to`; both absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let names = |path: &Path| -> Vec<_> {
        path.components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .map(|part| part.as_os_str().to_owned())
            .collect()
    };
    let (from, to) = (names(from), names(to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut way: PathBuf = from[common..].iter().map(|_| "..").collect();
    way.extend(&to[common..]);
    way
}

/// Waits until every Deployment and DaemonSet of Hawser runs what its newest template says.
async fn workloads(lab: &Lab) -> Result<()> {
    let client = lab.client().await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let all = ListParams::default();
    ready::until("Hawser's workloads", PATIENCE, || async {
        let mut late: Vec<String> = Vec::new();
        late.extend(deployments.list(&all).await?.iter().filter_map(deployment));
        late.extend(daemons.list(&all).await?.iter().filter_map(daemon_set));
        if late.is_empty() {
            return Ok(None);
        }
        late.extend(pods.list(&all).await?.iter().filter_map(pod));
        Ok(Some(late.join("; ")))
    })
    .await
}

/// Why a Deployment is not ready.
fn deployment(deployment: &Deployment) -> Option<String> {
    let wanted = deployment.spec.as_ref()?.replicas.unwrap_or(1);
    let status = deployment.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation);
    let updated = status
        .and_then(|status| status.updated_replicas)
        .unwrap_or(0);
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let total = status.and_then(|status| status.replicas).unwrap_or(0);
    let fine = seen >= deployment.metadata.generation
        && updated == wanted
        && ready == wanted
        && total == wanted;
    (!fine).then(|| {
        format!(
            "Deployment {}: {ready} of {wanted} ready",
            deployment.name_any()
        )
    })
}

/// Why a DaemonSet is not ready.
fn daemon_set(daemons: &DaemonSet) -> Option<String> {
    let Some(status) = &daemons.status else {
        return Some(format!("DaemonSet {}: not begun", daemons.name_any()));
    };
    let wanted = status.desired_number_scheduled;
    let fine = status.observed_generation >= daemons.metadata.generation
        && wanted > 0
        && status.updated_number_scheduled == Some(wanted)
        && status.number_ready == wanted;
    (!fine).then(|| {
        format!(
            "DaemonSet {}: {} of {wanted} ready",
            daemons.name_any(),
            status.number_ready
        )
    })
}

/// What the containers of a pod that is not ready say.
fn pod(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let says: Vec<String> = status
        .container_statuses
        .iter()
        .flatten()
        .filter(|container| !container.ready)
        .map(|container| {
            let state = container.state.as_ref();
            let waiting = state.and_then(|state| state.waiting.as_ref());
            let ended = container
                .last_state
                .as_ref()
                .and_then(|state| state.terminated.as_ref());
            let reason = waiting
                .and_then(|waiting| waiting.reason.clone())
                .unwrap_or_else(|| "not ready".to_owned());
            let last = ended
                .map(|ended| format!(", ended before with status {}", ended.exit_code))
                .unwrap_or_default();
            format!("{} {reason}{last}", container.name)
        })
        .collect();
    (!says.is_empty()).then(|| format!("pod {}: {}", pod.name_any(), says.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_way_between_folders_goes_over_what_they_share() {
        let way = relative(Path::new("/var/cache/a/b"), Path::new("/var/src/m"));
        assert_eq!(way, Path::new("../../../src/m"));
        assert_eq!(relative(Path::new("/a"), Path::new("/a/b")), Path::new("b"));
    }

    #[test]
    fn the_overlay_names_each_image_with_its_tag() {
        let image = ImageArchive {
            name: "localhost:5000/hawser/x:abc".into(),
            path: "/x.tar".into(),
            digest: "sha256:0".into(),
        };
        let text = overlay(Path::new("../m"), &[image]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["images"][0]["name"], "localhost:5000/hawser/x");
        assert_eq!(value["images"][0]["newTag"], "abc");
    }

    #[test]
    fn a_workload_is_ready_when_its_newest_generation_runs_everywhere() {
        let make = |observed: i64, ready: i32| -> DaemonSet {
            serde_json::from_value(json!({
                "metadata": { "name": "d", "generation": 2 },
                "status": { "observedGeneration": observed, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                    "numberMisscheduled": 0, "numberReady": ready, "updatedNumberScheduled": 3 }
            }))
            .unwrap()
        };
        assert_eq!(daemon_set(&make(2, 3)), None);
        assert!(daemon_set(&make(1, 3)).is_some());
        assert_eq!(
            daemon_set(&make(2, 1)).unwrap(),
            "DaemonSet d: 1 of 3 ready"
        );
    }

    #[test]
    fn a_pod_says_which_container_waits_for_what() {
        let bad: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "status": { "containerStatuses": [
                { "name": "a", "ready": true, "image": "", "imageID": "", "restartCount": 0 },
                { "name": "b", "ready": false, "image": "", "imageID": "", "restartCount": 1,
                  "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": { "exitCode": 2 } } }
            ] }
        }))
        .unwrap();
        assert_eq!(
            pod(&bad).unwrap(),
            "pod p: b CrashLoopBackOff, ended before with status 2"
        );
    }
}
