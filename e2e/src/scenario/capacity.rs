//! The component `publish-capacity`, for clusters that schedule without Hawser's scheduler: with it there is a `CSIStorageCapacity` object for each class and
//! node, which follows each allocation within seconds; without it, as delivered, there is none.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hawser_api::{LocalVolumeReplica, names, quantity};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::command::output;
use crate::install::{self, NAMESPACE};
use crate::kit::faults::on;
use crate::kit::objects::Pool;
use crate::kit::volumes::{Mode, delete, remove};
use crate::kit::{Pending, Scope, cleanup, nodes, wait_for};
use crate::lab::Lab;

/// The namespace, the class and the claim.
const NAME: &str = "capacity";
const PATIENCE: Duration = Duration::from_secs(180);
/// How far behind an allocation what is published may be.
const BEHIND: Duration = Duration::from_secs(5);
/// How often allocation and publication are looked at; together.
const LOOK: Duration = Duration::from_millis(100);
const MIB: i64 = 1 << 20;
const DEPLOYMENT: &str = "deployment/hwameistor-local-storage-csi-controller";

/// Runs the scenario.
///
/// # Errors
/// What does not hold.
pub(super) async fn run(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, NAME).await?;
    let pools = scope.ensure_pools().await?;
    let first = pools.first().context("there is no pool")?.name.clone();
    let ours = pools.iter().filter(|pool| pool.name == first);
    let result = story(&scope, &ours.cloned().collect::<Vec<_>>()).await;
    cleanup::after(lab, NAME, result, clean(&scope, &pools)).await
}

async fn story(scope: &Scope, pools: &[Pool]) -> Result<()> {
    class(scope, pools).await?;
    published(scope, &[])
        .await
        .context("as delivered, nothing is published")?;
    switch(scope, true).await.context("switching it on")?;
    published(scope, pools)
        .await
        .context("with the component, every pool's room is published")?;
    println!("  published: {}", words(pools));
    let followed = [
        ("made", made_or_grown(scope, pools, Step::Make, 64).await?),
        ("grown", made_or_grown(scope, pools, Step::Grow, 192).await?),
        ("deleted", gone(scope, pools).await?),
    ];
    for (what, behind) in followed {
        println!(
            "  a volume is {what}: published {:.1} s later",
            behind.as_secs_f64()
        );
        ensure!(
            behind <= BEHIND,
            "what is published followed a volume that was {what} after {:.1} s; {} s are allowed",
            behind.as_secs_f64(),
            BEHIND.as_secs()
        );
    }
    switch(scope, false).await.context("switching it off")?;
    published(scope, &[])
        .await
        .context("without the component, nothing stays published")?;
    println!("  switched off: nothing is published any more");
    Ok(())
}

/// A class of the pools, whose volumes are made without a pod.
async fn class(scope: &Scope, pools: &[Pool]) -> Result<()> {
    let pool = pools.first().context("there is no pool")?;
    let class = names::pools::class_of(&pool.name).context("the pool has no class")?;
    let object = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": NAME },
        "provisioner": names::LVM_DRIVER, "parameters": { "poolClass": class.to_string(), "replicaNumber": "1" },
        "volumeBindingMode": "Immediate", "allowVolumeExpansion": true, "reclaimPolicy": "Delete",
    });
    Scope::apply(&scope.cluster::<StorageClass>(), NAME, object).await?;
    Ok(())
}

/// Applies the manifests with the component or without, restarts the provisioners, which take settings when they start, and waits for them.
async fn switch(scope: &Scope, component: bool) -> Result<()> {
    let overlay = install::overlay_folder(&scope.lab);
    let folder = if component {
        with_component(&overlay)?
    } else {
        overlay
    };
    let folder = folder.display().to_string();
    kubectl(scope, &["apply", "--request-timeout=60s", "-k", &folder]).await?;
    let namespace = format!("--namespace={NAMESPACE}");
    kubectl(scope, &["rollout", "restart", &namespace, DEPLOYMENT]).await?;
    let patience = format!("--timeout={}s", PATIENCE.as_secs());
    let wait = ["rollout", "status", &namespace, &patience, DEPLOYMENT];
    kubectl(scope, &wait).await?;
    let drivers: Api<CSIDriver> = scope.cluster();
    let spec = drivers.get(names::LVM_DRIVER).await?.spec;
    ensure!(
        spec.storage_capacity == Some(component),
        "CSIDriver says storageCapacity {:?}, {component} was applied",
        spec.storage_capacity
    );
    Ok(())
}

async fn kubectl(scope: &Scope, arguments: &[&str]) -> Result<String> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    on(&scope.lab, move |lab| {
        output(lab.kubectl()?.args(&arguments))
    })
    .await
}

/// A kustomization beside the lab's own that adds the component to it.
fn with_component(overlay: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(overlay.join("kustomization.yaml"))
        .with_context(|| format!("reading {}", overlay.display()))?;
    let folder = overlay.with_file_name("manifests-publish-capacity");
    std::fs::create_dir_all(&folder)?;
    let text = component(&serde_json::from_str(&text)?)?;
    std::fs::write(folder.join("kustomization.yaml"), text.to_string())?;
    Ok(folder)
}

/// The same kustomization with the component. Its folders are relative, so it must lie beside the other.
fn component(kustomization: &Value) -> Result<Value> {
    let mut wanted = kustomization.clone();
    let manifests = wanted["resources"][0]
        .as_str()
        .context("the lab's kustomization names no manifests")?;
    wanted["components"] = json!([format!("{manifests}/components/publish-capacity")]);
    Ok(wanted)
}

/// Node and bytes, sorted.
type Room = Vec<(String, i64)>;

/// What is published of the scenario's class.
async fn room(scope: &Scope) -> Result<Room> {
    let objects: Api<CSIStorageCapacity> = Api::namespaced(scope.client.clone(), NAMESPACE);
    let list = objects.list(&ListParams::default()).await?;
    read(&list.items)
}

/// The objects of the scenario's class.
///
/// # Errors
/// If one is not of one node, or its sizes are none.
fn read(objects: &[CSIStorageCapacity]) -> Result<Room> {
    let mut room = Vec::new();
    for object in objects.iter().filter(|o| o.storage_class_name == NAME) {
        let labels = object.node_topology.as_ref().and_then(|topology| {
            // Nothing else in the selector: it would be narrower.
            topology.match_expressions.is_none().then_some(())?;
            topology.match_labels.as_ref()
        });
        let node = labels
            .filter(|labels| labels.len() == 1)
            .and_then(|labels| labels.get(names::LVM_TOPOLOGY_KEY))
            .with_context(|| format!("{:?} is not of one node", object.node_topology))?;
        let bytes = |size: &Option<_>| -> Result<i64> {
            let size: &k8s_openapi::apimachinery::pkg::api::resource::Quantity =
                size.as_ref().context("an object without a size")?;
            Ok(quantity::parse(&size.0)?)
        };
        let capacity = bytes(&object.capacity)?;
        let largest = bytes(&object.maximum_volume_size)?;
        ensure!(
            largest == capacity,
            "{node} has room for {capacity} bytes in its one pool, and {largest} for the largest volume"
        );
        room.push((node.clone(), capacity));
    }
    room.sort();
    Ok(room)
}

/// Waits until what is published is the room of these pools.
async fn published(scope: &Scope, pools: &[Pool]) -> Result<()> {
    let wanted = free(pools);
    wait_for("the published room", PATIENCE, || async {
        let room = room(scope).await?;
        Ok(if room == wanted {
            Ok(())
        } else {
            Err(Pending::because(format!("{room:?}, not {wanted:?}")))
        })
    })
    .await
}

fn free(pools: &[Pool]) -> Room {
    let mut room: Room = pools
        .iter()
        .map(|pool| (pool.node.clone(), pool.free))
        .collect();
    room.sort();
    room
}

fn words(pools: &[Pool]) -> String {
    let words: Vec<String> = free(pools)
        .into_iter()
        .map(|(node, bytes)| format!("{node} {bytes}"))
        .collect();
    words.join(", ")
}

/// The scenario's only replica: its node, and the bytes that it requires.
async fn replica(scope: &Scope, pools: &[Pool]) -> Result<Option<(String, i64)>> {
    let replicas: Api<LocalVolumeReplica> = scope.cluster();
    let list = replicas.list(&ListParams::default()).await?;
    let ours = list
        .into_iter()
        .find(|r| pools.iter().any(|pool| pool.name == r.spec.pool_name));
    Ok(ours.map(|r| (r.spec.node_name, r.spec.required_capacity_bytes)))
}

#[derive(Clone, Copy)]
enum Step {
    Make,
    Grow,
}

/// Makes the claim, or has it grow, to so many MiB; returns how far behind the allocation (the replica's object) what is published was.
async fn made_or_grown(scope: &Scope, pools: &[Pool], step: Step, to: i64) -> Result<Duration> {
    let size = format!("{to}Mi");
    match step {
        Step::Make => {
            let mode = Mode::Filesystem;
            scope
                .claim(NAME, NAME, &size, "ReadWriteOnce", mode)
                .await?;
        }
        Step::Grow => {
            scope.until_bound(NAME, PATIENCE).await?;
            scope.ask(NAME, &size).await?;
        }
    }
    let bytes = to * MIB;
    behind(
        scope,
        &format!("a volume of {size} and what is published of it"),
        || async {
            Ok(replica(scope, pools)
                .await?
                .filter(|(_, required)| *required == bytes))
        },
        |(node, _)| {
            let mut wanted = free(pools);
            for (name, room) in &mut wanted {
                if name == node {
                    *room -= bytes;
                }
            }
            wanted
        },
    )
    .await
}

/// Deletes the claim; returns how far behind the end of its replica what is published was.
async fn gone(scope: &Scope, pools: &[Pool]) -> Result<Duration> {
    scope.until_bound(NAME, PATIENCE).await?;
    delete(&scope.api::<PersistentVolumeClaim>(), NAME).await?;
    behind(
        scope,
        "the volume to go, and what is published of it",
        || async {
            Ok(match replica(scope, pools).await? {
                None => Some(()),
                Some(_) => None,
            })
        },
        |()| free(pools),
    )
    .await
}

/// Looks at an allocation and at what is published until both are there; the time between them, zero if what is published came first.
async fn behind<T, F, Fut>(
    scope: &Scope,
    what: &str,
    mut allocated: F,
    wanted: impl Fn(&T) -> Room,
) -> Result<Duration>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    let mut since: Option<(Instant, T)> = None;
    loop {
        if since.is_none() {
            since = allocated().await?.map(|seen| (Instant::now(), seen));
        }
        let now = room(scope).await?;
        if let Some((then, seen)) = &since
            && now == wanted(seen)
        {
            return Ok(then.elapsed());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "waited {} s for {what}: allocated {}, published {now:?}",
            PATIENCE.as_secs(),
            since.is_some()
        );
        tokio::time::sleep(LOOK).await;
    }
}

async fn clean(scope: &Scope, pools: &[Pool]) -> Result<()> {
    let drivers: Api<CSIDriver> = scope.cluster();
    let spec = drivers.get(names::LVM_DRIVER).await?.spec;
    if spec.storage_capacity == Some(true) {
        switch(scope, false).await?;
    }
    remove(&scope.api::<PersistentVolumeClaim>(), NAME, PATIENCE).await?;
    scope.until_pools(pools, PATIENCE).await?;
    scope.sweep_classes(NAME).await?;
    nodes::no_volumes(&scope.lab)?;
    scope.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: &str, topology: &Value, capacity: &str) -> CSIStorageCapacity {
        serde_json::from_value(json!({
            "metadata": {}, "storageClassName": class, "nodeTopology": topology,
            "capacity": capacity, "maximumVolumeSize": capacity,
        }))
        .unwrap()
    }

    #[test]
    fn objects_of_the_class_are_read_whatever_unit_they_use() {
        let on = |node: &str| json!({ "matchLabels": { names::LVM_TOPOLOGY_KEY: node } });
        let objects = [
            object(NAME, &on("n2"), "1Gi"),
            object(NAME, &on("n1"), "1048576"),
            object("other", &on("n1"), "1Ti"),
        ];
        let wanted = [("n1".to_owned(), 1 << 20), ("n2".to_owned(), 1 << 30)];
        assert_eq!(read(&objects).unwrap(), wanted);
    }

    #[test]
    fn an_object_of_no_node_or_of_more_than_one_is_an_error() {
        let key = names::LVM_TOPOLOGY_KEY;
        for topology in [
            json!({}),
            json!({ "matchLabels": { "kubernetes.io/hostname": "n1" } }),
            json!({ "matchLabels": { key: "n1", "zone": "a" } }),
            json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": ["n1", "n2"] }] }),
        ] {
            let error = read(&[object(NAME, &topology, "1Gi")]).unwrap_err();
            assert!(error.to_string().contains("not of one node"), "{error}");
        }
    }

    #[test]
    fn the_component_lies_in_the_manifests_that_the_lab_applied() {
        let lab = json!({ "resources": ["../../src/manifests"], "images": [{ "name": "a" }] });
        let with = component(&lab).unwrap();
        assert_eq!(
            with["components"],
            json!(["../../src/manifests/components/publish-capacity"])
        );
        assert_eq!(
            (&with["resources"], &with["images"]),
            (&lab["resources"], &lab["images"])
        );
        assert!(component(&json!({})).is_err());
    }
}
