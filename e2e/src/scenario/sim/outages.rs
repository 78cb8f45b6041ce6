//! Parts of the control plane are away or slow, one after the other: what users are told, that nothing is placed wrongly meanwhile, and that everything
//! runs once the part is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hawser_api::names::scheduling;

use crate::kit::{Pending, wait_for};
use crate::sim::nodes::Shape;
use crate::sim::witness::Seen;
use crate::sim::{Service, Sim, Wish, World, http, up};

const GIB: i64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(240);
/// Pods in each case.
const PODS: usize = 8;

pub(super) async fn run(sim: &Sim) -> Result<()> {
    webhook_away(sim).await?;
    extender_away(sim).await?;
    provisioner_away(sim).await?;
    provisioner_crashes(sim).await?;
    api_server_slow(sim).await?;
    api_server_hangs(sim).await
}

async fn world(sim: &Sim, namespace: &str) -> Result<World> {
    let world = World::open(sim, namespace).await?;
    // Two of four nodes have no room for any of the pods.
    let shapes = [("s1", 4), ("s2", 4), ("s3", 200), ("s4", 200)]
        .map(|(name, gib)| Shape::new(name, gib * GIB));
    world.nodes(&shapes).await?;
    Ok(world)
}

/// All run, nothing is wrong, and it is said how long that took.
async fn recovers(world: World, what: &str, pods: usize, back: Instant) -> Result<()> {
    world.all_run(pods, PATIENCE).await?;
    let took = back.elapsed().as_secs_f64();
    let (came_back, failures) = world.seen(|seen| (seen.came_back().len(), seen.failures()));
    world.sound().await?;
    println!(
        "  {what}: all {pods} pods run, {took:.1} s after it was back; {came_back} were sent to a node and came back; provisioning failed {failures} times"
    );
    world.close().await
}

/// Waits until users can read this in an event, and shows it.
async fn told(world: &World, reason: &str, part: &str) -> Result<()> {
    let what = format!("an event {reason} that says {part:?}");
    world
        .until(&what, PATIENCE, |seen| {
            let told = seen.told(reason, part);
            let Some(told) = told.first() else {
                return Err(seen.why_waiting());
            };
            println!(
                "  a user reads at {}: {}: {}",
                told.about, told.reason, told.message
            );
            Ok(())
        })
        .await
}

fn none_is_placed(seen: &Seen) -> Result<()> {
    ensure!(
        seen.scheduled() == 0,
        "{} pods were placed",
        seen.scheduled()
    );
    Ok(())
}

/// Pods are admitted as they are, and the default scheduler takes them. It knows no room: what it sends where there is none is refused there, and its
/// owner reads why. As that scheduler insists on the node that it chose first (`status.nominatedNodeName`), such a pod runs when it is made anew.
async fn webhook_away(sim: &Sim) -> Result<()> {
    let world = world(sim, "no-webhook").await?;
    sim.act(|sim| sim.stop(Service::Webhook)).await?;
    let during = Wish::many("during", PODS, &["10Gi"]);
    world.make(&during).await?;
    world
        .until(
            "each pod to run, or its owner to be told why not",
            PATIENCE,
            |seen| {
                let settled = |wish: &&Wish| {
                    let pod = seen.pods.get(&wish.pod);
                    pod.is_some_and(|pod| pod.running.is_some())
                        || seen
                            .told_of_claims(&wish.pod, "ProvisioningFailed")
                            .is_some()
                };
                match during.iter().find(|wish| !settled(wish)) {
                    None => Ok(()),
                    Some(_) => Err(seen.why_waiting()),
                }
            },
        )
        .await?;
    world.sound().await?;
    let run = world.seen(|seen| {
        let mut others = seen.pods.values().map(|pod| pod.scheduler.as_str());
        let other = others.find(|scheduler| *scheduler != scheduling::DEFAULT_SCHEDULER);
        ensure!(other.is_none(), "without the webhook, a pod got {other:?}");
        Ok(seen.running())
    })?;
    println!(
        "  webhook away: {run} of {PODS} pods run, by the default scheduler; the others are refused where there is no room"
    );
    if run < PODS {
        told(&world, "ProvisioningFailed", "can't be placed").await?;
    }
    sim.act(|sim| sim.start(Service::Webhook)).await?;
    sim.service_ready(Service::Webhook).await?;
    up::webhook_is_asked(&world.scope.client).await?;
    let back = Instant::now();
    let again = world.replace_waiting(&during).await?;
    println!("  webhook back: {again} pods that waited are made anew");
    world.make(&Wish::many("after", PODS, &["10Gi"])).await?;
    world
        .until(
            "new pods to be given to Hawser's scheduler",
            PATIENCE,
            |seen| {
                let after = seen
                    .pods
                    .iter()
                    .filter(|(name, _)| name.starts_with("after"));
                let ours = after.filter(|(_, pod)| pod.scheduler == scheduling::SCHEDULER);
                match ours.count() {
                    PODS => Ok(()),
                    less => Err(format!("{less} of {PODS} are")),
                }
            },
        )
        .await?;
    recovers(world, "webhook back", 2 * PODS, back).await
}

/// Nothing is placed without the extender, and users are told that it does not answer.
async fn extender_away(sim: &Sim) -> Result<()> {
    let world = world(sim, "no-extender").await?;
    sim.act(|sim| sim.stop(Service::Extender)).await?;
    world
        .make(&Wish::many("pod", PODS, &["10Gi", "1Gi"]))
        .await?;
    told(&world, "FailedScheduling", "connection refused").await?;
    world.seen(|seen| {
        ensure!(seen.chosen() == 0, "{} claims got a node", seen.chosen());
        none_is_placed(seen)
    })?;
    sim.act(|sim| sim.start(Service::Extender)).await?;
    let back = Instant::now();
    recovers(world, "extender away", PODS, back).await
}

/// Nodes are chosen, and no volume is made: the pods wait, and their claims say for whom.
async fn provisioner_away(sim: &Sim) -> Result<()> {
    let world = world(sim, "no-provisioner").await?;
    sim.act(|sim| {
        sim.stop(Service::Sidecar)?;
        sim.stop(Service::Provisioner)
    })
    .await?;
    world
        .make(&Wish::many("pod", PODS, &["10Gi", "1Gi"]))
        .await?;
    told(&world, "ExternalProvisioning", "lvm.hwameistor.io").await?;
    world.seen(none_is_placed)?;
    sim.act(|sim| {
        sim.start(Service::Provisioner)?;
        sim.start(Service::Sidecar)
    })
    .await?;
    let back = Instant::now();
    recovers(world, "provisioner away", PODS, back).await
}

/// The provisioner is killed again and again while it works.
async fn provisioner_crashes(sim: &Sim) -> Result<()> {
    let pods = 40;
    let world = world(sim, "provisioner-crashes").await?;
    world
        .make(&Wish::many("pod", pods, &["2Gi", "1Gi"]))
        .await?;
    for made in [1, 10, 20] {
        let what = format!("{made} pods to run");
        world
            .until(&what, PATIENCE, |seen| {
                if seen.running() >= made {
                    Ok(())
                } else {
                    Err(seen.why_waiting())
                }
            })
            .await?;
        sim.act(|sim| sim.crash(Service::Provisioner)).await?;
        sim.service_ready(Service::Provisioner).await?;
    }
    recovers(
        world,
        "provisioner killed three times",
        pods,
        Instant::now(),
    )
    .await
}

/// The API server stops for a second and more, again and again, while pods are made and placed.
async fn api_server_slow(sim: &Sim) -> Result<()> {
    let pods = 40;
    let world = world(sim, "slow-api").await?;
    let wishes = Wish::many("pod", pods, &["2Gi", "1Gi"]);
    let throttle = async {
        for _ in 0..15 {
            sim.act(|sim| sim.pause(Service::ApiServer)).await?;
            tokio::time::sleep(Duration::from_millis(1500)).await;
            sim.act(|sim| sim.resume(Service::ApiServer)).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok::<(), anyhow::Error>(())
    };
    let (throttled, made) = tokio::join!(throttle, world.make(&wishes));
    throttled?;
    made?;
    recovers(world, "API server slow", pods, Instant::now()).await
}

/// The API server hangs longer than leases last: the extender says that it knows only what was, the provisioner gives its leadership up, and both go on.
async fn api_server_hangs(sim: &Sim) -> Result<()> {
    let pods = 20;
    let world = world(sim, "hanging-api").await?;
    world
        .make(&Wish::many("pod", pods, &["2Gi", "1Gi"]))
        .await?;
    sim.act(|sim| sim.pause(Service::ApiServer)).await?;
    let told = extender_says_so().await;
    // Whatever came of it: what hangs is to go on.
    sim.act(|sim| sim.resume(Service::ApiServer)).await?;
    println!("  an operator reads at the extender's /readyz: {}", told?);
    let back = Instant::now();
    sim.ready().await?;
    recovers(world, "API server hung", pods, back).await
}

/// Waits until the extender's readiness names the API server.
async fn extender_says_so() -> Result<String> {
    let what = "the extender to say that the API server is silent";
    wait_for(what, PATIENCE, || async {
        let (status, body) = http::get(9811, "/readyz").await?;
        let line = body.lines().find(|line| line.contains("api server"));
        Ok(match line {
            Some(line) if status != 200 => Ok(line.trim().to_owned()),
            _ => Err(Pending::because(format!("it answers {status}: {body}"))),
        })
    })
    .await
}
