//! Without Hawser's scheduler (the component `default-scheduler` of the manifests): the default one goes by published capacity and by the node affinity of
//! volumes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use crate::kit::{Pending, wait_for};
use crate::sim::nodes::Shape;
use crate::sim::world::CLASS;
use crate::sim::{Service, Sim, Wish, World};

const GIB: i64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) async fn run(sim: &Sim) -> Result<()> {
    ensure!(
        !sim.runs(Service::Scheduler) && !sim.runs(Service::Extender),
        "Hawser's scheduler runs although it is switched off"
    );
    let world = World::open(sim, "default-scheduler").await?;
    // Six nodes without room, which are idle, and two with room, which are busy.
    let mut shapes: Vec<Shape> = (1..=6)
        .map(|index| Shape::new(format!("s{index}"), 5 * GIB))
        .collect();
    shapes.extend([
        Shape::new("s7", 100 * GIB).busy(12),
        Shape::new("s8", 100 * GIB).busy(12),
    ]);
    world.nodes(&shapes).await?;
    capacity_is_published(&world, shapes.len()).await?;
    world.make(&Wish::many("pod", 10, &["10Gi"])).await?;
    world.all_run(10, PATIENCE).await?;
    world.sound().await?;
    world.seen(|seen| {
        for (name, pod) in &seen.pods {
            ensure!(
                pod.scheduler == "default-scheduler",
                "pod {name} was scheduled by {}",
                pod.scheduler
            );
        }
        let by_node = seen.by_node();
        ensure!(
            by_node.keys().all(|node| ["s7", "s8"].contains(node)),
            "pods run where there is no room: {by_node:?}"
        );
        println!(
            "  10 pods with a claim, room on two busy nodes of eight: by node {by_node:?}; {} came back, provisioning failed {} times",
            seen.came_back().len(),
            seen.failures()
        );
        Ok(())
    })?;
    comes_back_to_its_data(&world).await?;
    world.close().await
}

/// Waits until each node's capacity for the class is known.
async fn capacity_is_published(world: &World, nodes: usize) -> Result<()> {
    let capacities: Api<CSIStorageCapacity> = world.scope.cluster();
    let what = format!("the capacity of {nodes} nodes to be published");
    wait_for(&what, PATIENCE, || async {
        let all = capacities.list(&ListParams::default()).await?.items;
        let of_class = all
            .iter()
            .filter(|object| object.storage_class_name == CLASS)
            .count();
        Ok(if of_class == nodes {
            Ok(())
        } else {
            Err(Pending::because(format!("{of_class} are")))
        })
    })
    .await?;
    let class: Api<StorageClass> = world.scope.cluster();
    class.get(CLASS).await.context("the class")?;
    Ok(())
}

/// A pod that is made anew with the same claims runs where they are, though other nodes are idle.
async fn comes_back_to_its_data(world: &World) -> Result<()> {
    let pods: Api<Pod> = world.scope.api();
    let first = pods.get("pod-0").await?;
    let node = first
        .spec
        .and_then(|spec| spec.node_name)
        .unwrap_or_default();
    let uid = first.metadata.uid;
    pods.delete("pod-0", &DeleteParams::default()).await?;
    wait_for("the pod to go", PATIENCE, || async {
        Ok(match pods.get_opt("pod-0").await? {
            None => Ok(()),
            Some(_) => Err(Pending::because("it is still there")),
        })
    })
    .await?;
    world.make(&Wish::many("pod", 1, &["10Gi"])).await?;
    let what = "the pod to be back where its data is";
    wait_for(what, PATIENCE, || async {
        let Some(pod) = pods.get_opt("pod-0").await? else {
            return Ok(Err(Pending::because("there is none")));
        };
        let phase = pod
            .status
            .and_then(|status| status.phase)
            .unwrap_or_default();
        let now = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        Ok(if pod.metadata.uid != uid && phase == "Running" {
            Ok(now)
        } else {
            Err(Pending::because(format!("it is {phase} on {now:?}")))
        })
    })
    .await
    .and_then(|now| {
        ensure!(now == node, "the pod was on {node}, and is on {now} now");
        println!("  a pod that was deleted and made again is back on {node}");
        Ok(())
    })?;
    world.sound().await
}
