//! Many pods at once on nodes that they fill exactly: whoever decides on what was true a moment ago sends pods to nodes that are full by now.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::sim::nodes::Shape;
use crate::sim::{Sim, Wish, World};

const GIB: i64 = 1 << 30;
const NODES: usize = 50;
const PODS: usize = 500;
/// What a pod's two claims ask for, and their sum.
const SIZES: [&str; 2] = ["1Gi", "2Gi"];
const EACH: i64 = 3 * GIB;
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) async fn run(sim: &Sim) -> Result<()> {
    let world = World::open(sim, "fill").await?;
    let a_node = i64::try_from(PODS / NODES)?;
    let shapes: Vec<Shape> = (1..=NODES)
        .map(|index| Shape::new(format!("s{index}"), a_node * EACH))
        .collect();
    world.nodes(&shapes).await?;
    let begin = world.make(&Wish::many("pod", PODS, &SIZES)).await?;
    let asked = begin.elapsed();
    world.all_run(PODS, PATIENCE).await?;
    let took = begin.elapsed();
    let (came_back, failures) = world.seen(|seen| (seen.came_back().len(), seen.failures()));
    println!(
        "  {PODS} pods with 2 claims each, asked for within {:.0} s, all ran after {:.0} s; {came_back} were sent to a node and came back; \
         provisioning failed {failures} times",
        asked.as_secs_f64(),
        took.as_secs_f64()
    );
    world.sound().await?;
    world.seen(|seen| {
        let uneven: Vec<_> = seen
            .by_node()
            .into_iter()
            .filter(|(_, count)| *count != PODS / NODES)
            .collect();
        ensure!(
            uneven.is_empty(),
            "nodes hold other numbers of pods than fit: {uneven:?}"
        );
        Ok(())
    })?;
    ensure!(
        came_back * 100 < PODS,
        "{came_back} of {PODS} pods were sent to a node and came back: the goal is under 1 %"
    );
    world.close().await
}
