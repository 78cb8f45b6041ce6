//! Cases in which Kubernetes' own scheduling by capacity was measured to fail, since it looks at each claim by itself, and at what was published a while
//! ago: pods get one of their volumes on a node without room for the other, and never run. And that processors have their say still.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::sim::nodes::{self, Shape};
use crate::sim::{Sim, Wish, World};

const GIB: i64 = 1 << 30;
/// Room for one claim of 30 GiB, not for two; and for two.
const FOR_ONE: i64 = 45 * GIB;
const FOR_BOTH: i64 = 60 * GIB;
const TWO_CLAIMS: [&str; 2] = ["30Gi", "30Gi"];
const PODS: usize = 25;
/// Of a node's 16 processors: scoring avoids it, and the pods still fit.
const BUSY: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn run(sim: &Sim) -> Result<()> {
    one_in_four(sim).await?;
    one_grows(sim).await?;
    exactly_full(sim).await?;
    processors_count(sim).await
}

/// Says how it went, and fails if anything failed on the way.
async fn judge(world: World, what: &str, pods: usize, begin: Instant) -> Result<()> {
    world.all_run(pods, PATIENCE).await?;
    let took = begin.elapsed().as_secs_f64();
    let (came_back, failures) = world.seen(|seen| (seen.came_back().len(), seen.failures()));
    let refused = world.sim.refusals().await?;
    println!(
        "  {what}: {pods} pods ran after {took:.1} s; {came_back} were sent to a node and came back; \
         {failures} events ProvisioningFailed, {refused} calls refused for lack of room until now"
    );
    world.sound().await?;
    ensure!(
        failures == 0,
        "{what}: provisioning failed {failures} times"
    );
    ensure!(
        refused < 0.5,
        "{what}: {refused} volumes had no room where they were sent"
    );
    world.close().await
}

/// Of every four nodes three have room for one claim only, and the fourth, which has room for both, is busy.
async fn one_in_four(sim: &Sim) -> Result<()> {
    let world = World::open(sim, "one-in-four").await?;
    let shapes: Vec<Shape> = (1..=4 * PODS)
        .map(|index| match index % 4 {
            0 => Shape::new(format!("s{index}"), FOR_BOTH).busy(BUSY),
            _ => Shape::new(format!("s{index}"), FOR_ONE),
        })
        .collect();
    world.nodes(&shapes).await?;
    let begin = world.make(&Wish::many("pod", PODS, &TWO_CLAIMS)).await?;
    judge(
        world,
        "one node in four has room for both claims, and is busy",
        PODS,
        begin,
    )
    .await
}

/// No node has room for both claims, until one grows. Until then no claim gets a node.
async fn one_grows(sim: &Sim) -> Result<()> {
    let world = World::open(sim, "one-grows").await?;
    let shapes: Vec<Shape> = (1..=20)
        .map(|index| Shape::new(format!("s{index}"), FOR_ONE))
        .collect();
    world.nodes(&shapes).await?;
    world.make(&Wish::many("pod", PODS, &TWO_CLAIMS)).await?;
    let what = "each pod to be told that it fits nowhere";
    world
        .until(what, PATIENCE, |seen| {
            let told = seen.told("FailedScheduling", "0/20 nodes");
            let pods: std::collections::BTreeSet<_> = told.iter().map(|told| &told.about).collect();
            if pods.len() == PODS {
                Ok(())
            } else {
                Err(format!("{} were; {}", pods.len(), seen.why_waiting()))
            }
        })
        .await?;
    world.seen(|seen| {
        ensure!(
            seen.chosen() == 0,
            "{} claims got a node without room",
            seen.chosen()
        );
        let told = seen.told("FailedScheduling", "0/20 nodes");
        println!(
            "  a user reads: {}",
            told.first().map_or("", |told| &told.message)
        );
        Ok(())
    })?;
    let begin = Instant::now();
    nodes::resize(&world.scope.client, "s7", 50 * 30 * GIB).await?;
    judge(world, "nothing fits, then one node grows", PODS, begin).await
}

/// 20 pods at once on 4 nodes that they fill exactly, one of which is busy.
async fn exactly_full(sim: &Sim) -> Result<()> {
    let world = World::open(sim, "exactly-full").await?;
    let shape = |index: usize| Shape::new(format!("s{index}"), 5 * 10 * GIB);
    let shapes = [shape(1), shape(2), shape(3), shape(4).busy(BUSY)];
    world.nodes(&shapes).await?;
    let begin = world.make(&Wish::many("pod", 20, &["10Gi"])).await?;
    judge(
        world,
        "4 nodes are filled exactly, one of them busy",
        20,
        begin,
    )
    .await
}

/// Where volumes fit everywhere, the busy node gets the fewest pods.
async fn processors_count(sim: &Sim) -> Result<()> {
    let world = World::open(sim, "processors").await?;
    let shape = |index: usize| Shape::new(format!("s{index}"), 1000 * GIB);
    let shapes = [shape(1), shape(2), shape(3), shape(4).busy(BUSY)];
    world.nodes(&shapes).await?;
    let begin = world.make(&Wish::many("pod", 24, &["1Gi"])).await?;
    world.all_run(24, PATIENCE).await?;
    world.seen(|seen| {
        let by_node = seen.by_node();
        let on = |node: &str| by_node.get(node).copied().unwrap_or(0);
        println!("  room everywhere, s4 is busy: pods by node {by_node:?}");
        let fewest = ["s1", "s2", "s3"].map(on).into_iter().min().unwrap_or(0);
        ensure!(
            on("s4") < fewest,
            "the busy node got {} pods, the others at least {fewest}",
            on("s4")
        );
        Ok(())
    })?;
    judge(world, "room everywhere", 24, begin).await
}
