//! Volumes that can't be made, used or grown as asked.

use anyhow::{Context, Result, ensure};
use hawser_api::names;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use serde_json::json;

use super::{HUGE, NAME, PATIENCE, Stage, at_once, claim, class_at_once, pod, refused};
use crate::kit::Scope;
use crate::kit::pods::node_of;

/// A parameter that is wrong or unknown: the class is refused. One that is not served: said at the claim; where binding waits for a pod, at
/// the pod.
pub(super) async fn parameters(scope: &Scope, stage: &Stage) -> Result<String> {
    let wrong = [
        (
            "copies",
            ("replicaNumber", "2"),
            ["\"replicaNumber\" is \"2\"", "use 1"],
        ),
        (
            "convertible",
            ("convertible", "true"),
            ["\"convertible\" is \"true\"", "leave it out"],
        ),
    ];
    for (name, parameter, words) in [
        (
            "flavour",
            ("flavour", "sweet"),
            ["\"flavour\" (value \"sweet\") is unknown", "poolClass"],
        ),
        (
            "pool",
            ("poolClass", "TAPE"),
            ["\"poolClass\" is \"TAPE\"", "HDD, SSD or NVMe"],
        ),
    ] {
        let class = format!("{NAME}-{name}");
        let object = at_once(&class, &stage.disk_type, &parameter);
        refused(&scope.cluster::<StorageClass>(), &class, object, &words).await?;
    }
    // The first, so that the webhook has heard of it when its pod comes.
    let late = format!("{NAME}-late");
    scope
        .class(&late, &stage.disk_type, &[("replicaNumber", "2")])
        .await?;
    for (name, parameter, _) in &wrong {
        let class = format!("{NAME}-{name}");
        class_at_once(scope, &class, &stage.disk_type, parameter).await?;
        claim(scope, &class, &class, "ReadWriteOnce", "64Mi").await?;
    }
    claim(scope, &late, &late, "ReadWriteOnce", "64Mi").await?;
    pod(scope, &late, &late, json!({})).await?;

    let claims: Api<PersistentVolumeClaim> = scope.api();
    for (name, _, words) in &wrong {
        let object = format!("{NAME}-{name}");
        let words = ["ProvisioningFailed", words[0], words[1]];
        scope.told(&claims, &object, &words, PATIENCE).await?;
    }
    let class = format!("StorageClass {late}");
    let words = ["FailedScheduling", "\"replicaNumber\" is \"2\"", &class];
    scope
        .told(&scope.api::<Pod>(), &late, &words, PATIENCE)
        .await
}

/// As sentences have the class of a pool: `ssd`.
fn class_in_words(pool: &str) -> Result<String> {
    let class = names::pools::class_of(pool).context("the pool has no class")?;
    Ok(class.to_string().to_lowercase())
}

/// A claim larger than any pool: the pod says why, for every node, with numbers.
pub(super) async fn too_large(scope: &Scope, stage: &Stage) -> Result<String> {
    claim(scope, "huge", NAME, "ReadWriteOnce", HUGE).await?;
    pod(scope, "huge", "huge", json!({})).await?;
    let nodes = scope.lab.nodes()?.len();
    let pool = class_in_words(&stage.pools[0].name)?;
    let words = [
        "FailedScheduling",
        &format!("0/{nodes} nodes are available: {nodes} {pool} pool: "),
        "needs 100 TiB",
    ];
    let pods: Api<Pod> = scope.api();
    let said = scope.told(&pods, "huge", &words, PATIENCE).await?;
    let claims: Api<PersistentVolumeClaim> = scope.api();
    let phase = claims.get("huge").await?.status.and_then(|s| s.phase);
    ensure!(
        phase.as_deref() == Some("Pending"),
        "claim huge is {phase:?}"
    );
    Ok(said)
}

/// A claim for many nodes is served on one: its pods share that node and see each other's files; a pod that is forced onto
/// another node is told where the data is.
pub(super) async fn two_nodes(scope: &Scope) -> Result<String> {
    claim(scope, "shared", NAME, "ReadWriteMany", "64Mi").await?;
    for name in ["shared-a", "shared-b"] {
        pod(scope, name, "shared", json!({})).await?;
    }
    let home = node_of(&scope.pod_ready("shared-a", PATIENCE).await?);
    let other = node_of(&scope.pod_ready("shared-b", PATIENCE).await?);
    ensure!(
        home == other,
        "shared-a is on {home}, shared-b on {other}: one local volume is on one node"
    );
    let (write, read) = ("echo hello > /data/file && sync", "cat /data/file");
    scope.exec("shared-a", write, PATIENCE).await?;
    let seen = scope.exec("shared-b", read, PATIENCE).await?;
    ensure!(
        seen == "hello\n",
        "shared-b reads {seen:?} where shared-a wrote"
    );
    let away = scope.lab.nodes()?.into_iter().find(|node| *node != home);
    let away = away.context("there is no other node")?;
    // Past the scheduler, which would not put it there.
    pod(scope, "stray", "shared", json!({ "nodeName": away })).await?;
    let no_copy = format!("no copy on node {away}");
    let words = ["FailedAttachVolume", no_copy.as_str(), &home];
    let pods: Api<Pod> = scope.api();
    let said = scope.told(&pods, "stray", &words, PATIENCE).await?;
    super::delete(&pods, "stray").await?;
    let seen = scope.exec("shared-b", read, PATIENCE).await?;
    ensure!(seen == "hello\n", "shared-b reads {seen:?} afterwards");
    Ok(said)
}

/// Growth beyond the pool: said at the claim, the volume goes on in its old size; asking for less is then served.
pub(super) async fn growth(scope: &Scope) -> Result<String> {
    claim(scope, "grow", NAME, "ReadWriteOnce", "64Mi").await?;
    pod(scope, "grow", "grow", json!({})).await?;
    scope.pod_ready("grow", PATIENCE).await?;
    scope.ask("grow", HUGE).await?;
    let claims: Api<PersistentVolumeClaim> = scope.api();
    let words = [
        "VolumeResizeFailed",
        "can't grow to 100 TiB",
        "free, needs 100 TiB",
    ];
    let said = scope.told(&claims, "grow", &words, PATIENCE).await?;
    let size = scope.capacity_of("grow").await?;
    ensure!(
        size == "64Mi",
        "the claim has {size} after growth was refused"
    );
    scope
        .exec("grow", "echo x > /data/file && sync", PATIENCE)
        .await
        .context("writing after growth was refused")?;
    scope.ask("grow", "128Mi").await?;
    scope.until_has("grow", "128Mi", PATIENCE).await?;
    let kib = "df -P -k /data | tail -n 1 | awk '{print $2}'";
    let kib: u64 = scope.exec("grow", kib, PATIENCE).await?.trim().parse()?;
    ensure!(kib > 80 << 10, "the file system has {kib} KiB after growth");
    Ok(format!("{said}; then 128Mi was served"))
}
