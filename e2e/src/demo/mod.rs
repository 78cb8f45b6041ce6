//! `cargo lab demo`: the main job on a real cluster, told so that a newcomer understands what happened. Every step is checked; the first that does not
//! hold ends the demonstration with an error.

mod story;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_api::{LocalVolumeReplica, names};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::kit::nodes;
use crate::kit::objects::{Pool, disk_type, human};
use crate::kit::pods::{node_of, uid_of};
use crate::kit::writer::{Writer, Written};
use crate::kit::{Pending, Scope, wait_for};
use crate::lab::Lab;
use story::Story;

const NAMESPACE: &str = "demo";
/// The claims of each pod: their name, where the pod has them mounted, and their file system.
const CLAIMS: [(&str, &str, &str); 2] = [("data", "/data", "ext4"), ("log", "/log", "xfs")];
const REPLICAS: usize = 3;
/// Acknowledged writes to wait for, in each volume, before something happens to it.
const WRITES: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs the demonstration on a lab that is up.
///
/// # Errors
/// The step that did not hold, and why.
pub(crate) async fn run(lab: &Lab) -> Result<()> {
    let mut story = Story::begin();
    let scope = Scope::open(lab, NAMESPACE).await?;
    let pools = disks_become_pools(&scope, &mut story).await?;
    claims_become_volumes(&scope, &mut story).await?;
    let written = pods_write(&scope, &mut story).await?;
    a_pod_comes_back(&scope, &mut story, &written).await?;
    a_node_loses_power(&scope, &mut story, &written).await?;
    a_claim_grows(&scope, &mut story, &written).await?;
    all_is_given_back(&scope, &mut story, &pools).await?;
    scope.close().await?;
    story.end();
    Ok(())
}

fn pod_name(index: usize) -> String {
    format!("db-{index}")
}

fn claim_name(claim: &str, pod: usize) -> String {
    format!("{claim}-db-{pod}")
}

async fn disks_become_pools(scope: &Scope, story: &mut Story) -> Result<Vec<Pool>> {
    story.chapter("Disks are found and claimed");
    for (node, disks) in scope.free_disks().await? {
        for disk in disks {
            story.tell(format!(
                "{node} has a blank {} of {}: {}",
                disk_type(&disk),
                human(disk.spec.capacity),
                disk.spec.device_path
            ));
        }
    }
    let pools = scope.ensure_pools().await?;
    for pool in &pools {
        story.tell(format!(
            "{}: pool {} of {} disks, {} of {} free",
            pool.node,
            pool.name,
            pool.disks,
            human(pool.free),
            human(pool.total)
        ));
    }
    for node in scope.lab.nodes()? {
        let there = scope
            .lab
            .sh(&node, "vgs --noheadings -o vg_name")?
            .checked()?;
        for pool in pools.iter().filter(|pool| pool.node == node) {
            ensure!(
                there.contains(&pool.name),
                "{node} reports {}, but LVM has only:\n{there}",
                pool.name
            );
        }
    }
    story.holds("every node has a pool, and LVM on the node agrees");
    Ok(pools)
}

async fn claims_become_volumes(scope: &Scope, story: &mut Story) -> Result<()> {
    story.chapter("A StatefulSet's claims become volumes, and its pods run where they are");
    let class = scope
        .pools()
        .await?
        .first()
        .context("there is no pool")?
        .name
        .clone();
    let class = names::pools::class_of(&class)
        .context("the pool has no class")?
        .to_string();
    for (_, _, file_system) in CLAIMS {
        scope
            .class(
                &format!("demo-{file_system}"),
                &class,
                &[("csi.storage.k8s.io/fstype", file_system)],
            )
            .await?;
    }
    let sets: Api<StatefulSet> = scope.api();
    Scope::apply(&sets, "db", stateful_set()).await?;
    story.tell("StatefulSet db: 3 pods, each on a node of its own, each with 2 claims: data (ext4) and log (xfs)");
    let mut nodes = Vec::new();
    for index in 0..REPLICAS {
        let pod = scope.pod_ready(&pod_name(index), PATIENCE).await?;
        let node = node_of(&pod);
        let scheduler = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.scheduler_name.clone());
        ensure!(
            scheduler.as_deref() == Some(names::scheduling::SCHEDULER),
            "pod {} was scheduled by {scheduler:?}: the webhook did not name Hawser's scheduler",
            pod_name(index)
        );
        for (claim, _, file_system) in CLAIMS {
            let volume = scope.volume_of(&claim_name(claim, index)).await?;
            let at = replica_nodes(scope, &volume).await?;
            ensure!(
                at == [node.clone()],
                "{volume} has replicas on {at:?}, its pod is on {node}"
            );
            story.tell(format!(
                "{} on {node}: {claim} is {volume} ({file_system})",
                pod_name(index)
            ));
        }
        nodes.push(node);
    }
    nodes.sort();
    nodes.dedup();
    ensure!(nodes.len() == REPLICAS, "the pods share nodes: {nodes:?}");
    story.holds("three pods on three nodes, each beside both of its volumes");
    Ok(())
}

/// The nodes with a replica of a volume.
async fn replica_nodes(scope: &Scope, volume: &str) -> Result<Vec<String>> {
    let replicas: Api<LocalVolumeReplica> = scope.cluster();
    let of_volume = ListParams::default().fields(&format!("spec.volumeName={volume}"));
    let list = replicas.list(&of_volume).await?;
    Ok(list
        .items
        .into_iter()
        .map(|replica| replica.spec.node_name)
        .collect())
}

/// Lets every pod write into both of its volumes.
async fn pods_write(scope: &Scope, story: &mut Story) -> Result<Vec<Vec<Written>>> {
    story.chapter("The pods write; each write is checksummed, and acknowledged only after fsync");
    let mut all = Vec::new();
    for index in 0..REPLICAS {
        let writers = start_writers(scope, index, "first");
        all.push(finish_writers(writers).await?);
    }
    let acknowledged: u64 = all
        .iter()
        .flatten()
        .map(|written| written.acknowledged)
        .sum();
    story.holds(format!(
        "{acknowledged} writes acknowledged in {} volumes",
        REPLICAS * CLAIMS.len()
    ));
    Ok(all)
}

fn start_writers(scope: &Scope, pod: usize, file: &str) -> Vec<Writer> {
    let seed = pod as u64 * 100;
    (seed..)
        .zip(CLAIMS)
        .map(|(seed, (_, mount, _))| {
            Writer::start(scope, &pod_name(pod), &format!("{mount}/{file}"), seed)
        })
        .collect()
}

async fn finish_writers(writers: Vec<Writer>) -> Result<Vec<Written>> {
    let mut written = Vec::new();
    for mut writer in writers {
        writer.reached(WRITES).await?;
        written.push(writer.stop());
    }
    Ok(written)
}

async fn verify(scope: &Scope, pod: usize, written: &[Written]) -> Result<u64> {
    let mut records = 0;
    for file in written {
        records += file.verify(scope, &pod_name(pod)).await?;
    }
    Ok(records)
}

async fn a_pod_comes_back(
    scope: &Scope,
    story: &mut Story,
    written: &[Vec<Written>],
) -> Result<()> {
    story.chapter("A pod is deleted");
    let pods: Api<Pod> = scope.api();
    let before = pods.get(&pod_name(0)).await?;
    pods.delete(&pod_name(0), &DeleteParams::default()).await?;
    let after = scope
        .pod_ready_unlike(&pod_name(0), Some(&uid_of(&before)), PATIENCE)
        .await?;
    ensure!(
        node_of(&before) == node_of(&after),
        "the pod was on {} and came back on {}",
        node_of(&before),
        node_of(&after)
    );
    let records = verify(scope, 0, &written[0]).await?;
    story.holds(format!(
        "db-0 came back on {} as another pod, with all {records} records",
        node_of(&after)
    ));
    Ok(())
}

async fn a_node_loses_power(
    scope: &Scope,
    story: &mut Story,
    written_before: &[Vec<Written>],
) -> Result<()> {
    story.chapter("A node loses its power while its pod writes");
    let pods: Api<Pod> = scope.api();
    let before = pods.get(&pod_name(1)).await?;
    let node = node_of(&before);
    let mut writers = start_writers(scope, 1, "power-cut");
    for writer in &mut writers {
        writer.reached(WRITES).await?;
    }
    let lab = scope.lab.clone();
    let name = node.clone();
    tokio::task::spawn_blocking(move || lab.power_cut(&name)).await??;
    let written: Vec<Written> = writers.into_iter().map(Writer::stop).collect();
    let acknowledged: u64 = written.iter().map(|file| file.acknowledged).sum();
    story.tell(format!(
        "{node} is off; {acknowledged} writes had been acknowledged until then"
    ));
    let lab = scope.lab.clone();
    let name = node.clone();
    tokio::task::spawn_blocking(move || lab.boot(&name)).await??;
    story.tell(format!("{node} boots"));
    let restarted = before_restarts(&before);
    let what = format!("pod db-1 to run again on {node}");
    wait_for(&what, PATIENCE, || async {
        let pod = pods.get(&pod_name(1)).await?;
        let again = uid_of(&pod) != uid_of(&before) || before_restarts(&pod) > restarted;
        Ok(if again {
            Ok(())
        } else {
            Err(Pending::because(
                "its container has not been started again yet",
            ))
        })
    })
    .await?;
    let after = scope.pod_ready(&pod_name(1), PATIENCE).await?;
    ensure!(
        node_of(&after) == node,
        "the pod came back on {}, not on {node}",
        node_of(&after)
    );
    let records = verify(scope, 1, &written).await?;
    let earlier = verify(scope, 1, &written_before[1]).await?;
    story.holds(format!(
        "db-1 is back on {node}; all {acknowledged} acknowledged writes are there, unchanged ({records} records in the files), and the {earlier} from before"
    ));
    Ok(())
}

/// How often a pod's containers were started again.
fn before_restarts(pod: &Pod) -> i32 {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|container| container.restart_count)
        .sum()
}

async fn a_claim_grows(scope: &Scope, story: &mut Story, written: &[Vec<Written>]) -> Result<()> {
    story.chapter("Claims grow while they are used");
    let claims: Api<PersistentVolumeClaim> = scope.api();
    for (claim, mount, file_system) in CLAIMS {
        let name = claim_name(claim, 2);
        let patch = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
        claims
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let size = wait_for(&format!("claim {name} to have 2Gi"), PATIENCE, || async {
            let claim = claims.get(&name).await?;
            let capacity = claim
                .status
                .and_then(|status| status.capacity)
                .and_then(|capacity| capacity.get("storage").cloned())
                .map(|quantity| quantity.0)
                .unwrap_or_default();
            if capacity != "2Gi" {
                return Ok(Err(Pending::because(format!("it has {capacity}"))));
            }
            let script = format!("df -P -k {mount} | tail -n 1 | awk '{{print $2}}'");
            let kib: i64 = scope
                .exec(&pod_name(2), &script, PATIENCE)
                .await?
                .trim()
                .parse()?;
            // ext4 and xfs take a part of the device for themselves; a fifth is far more than either does.
            Ok(if kib * 1024 > (2_i64 << 30) / 5 * 4 {
                Ok(kib * 1024)
            } else {
                Err(Pending::because(format!(
                    "the file system has {}",
                    human(kib * 1024)
                )))
            })
        })
        .await?;
        story.tell(format!(
            "{name} ({file_system}): 1Gi to 2Gi; in the pod, {mount} now has {}",
            human(size)
        ));
    }
    let records = verify(scope, 2, &written[2]).await?;
    story.holds(format!(
        "both file systems of db-2 grew under the running pod, and its {records} records are unchanged"
    ));
    Ok(())
}

async fn all_is_given_back(scope: &Scope, story: &mut Story, before: &[Pool]) -> Result<()> {
    story.chapter("The StatefulSet and its claims are deleted");
    let sets: Api<StatefulSet> = scope.api();
    sets.delete("db", &DeleteParams::foreground()).await?;
    let claims: Api<PersistentVolumeClaim> = scope.api();
    claims
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    wait_for(
        "every byte of the pools to be free again",
        PATIENCE,
        || async {
            let now = scope.pools().await?;
            let differs = before.iter().find(|pool| !now.contains(pool));
            Ok(match differs {
                None => Ok(()),
                Some(pool) => {
                    let now = now
                        .iter()
                        .find(|other| other.node == pool.node && other.name == pool.name);
                    Err(Pending::because(format!("{pool:?} is now {now:?}")))
                }
            })
        },
    )
    .await?;
    nodes::no_volumes(&scope.lab)?;
    story.holds("the pools are as they were, and no volume, device or mount is left on any node");
    Ok(())
}

/// Three pods, on a node each, with two claims each.
fn stateful_set() -> serde_json::Value {
    let labels = json!({ "app": "db" });
    let templates: Vec<_> = CLAIMS
        .iter()
        .map(|(claim, _, file_system)| {
            json!({
                "metadata": { "name": claim },
                "spec": {
                    "storageClassName": format!("demo-{file_system}"),
                    "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": "1Gi" } },
                },
            })
        })
        .collect();
    let mounts: Vec<_> = CLAIMS
        .iter()
        .map(|(claim, mount, _)| json!({ "name": claim, "mountPath": mount }))
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": "db", "namespace": NAMESPACE },
        "spec": {
            "serviceName": "db",
            "replicas": REPLICAS,
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": labels } },
                    ] } },
                    "containers": [{
                        "name": "db",
                        "image": format!("{}:{}", crate::image::base::BUSYBOX.0, crate::image::base::BUSYBOX.1),
                        "imagePullPolicy": "Never",
                        "command": ["sleep", "2147483647"],
                        "volumeMounts": mounts,
                    }],
                },
            },
            "volumeClaimTemplates": templates,
        },
    })
}
