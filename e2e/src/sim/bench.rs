//! `cargo lab sim bench`: what scheduling costs with the extender, without it, and without it but with Kubernetes' own check of capacity. The three are
//! measured in turns on the same nodes, so that what else the machine does falls on all of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use kube::Api;
use kube::api::ListParams;

use super::lab::{PATIENCE, Sim};
use super::nodes::{self, Shape};
use super::world::{Wish, World};
use super::{Service, Settings, up};
use crate::bench::table;
use crate::kit::{Pending, wait_for};
use crate::lab::Place;
use crate::progress::Progress;
use crate::{down, host};

const GIB: i64 = 1 << 30;
/// For the pods of one round to be scheduled.
const ROUND: Duration = Duration::from_secs(900);
/// Of the rate without the extender.
const GOAL_RATE: f64 = 0.95;
/// Milliseconds of the extender's processor time a pod.
const GOAL_CPU: f64 = 1.0;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of simulated nodes
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=5000))]
    nodes: u16,
    /// Pods a round, each with one claim
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pods: u16,
    /// Rounds of each way
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
}

/// A way to schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Extender,
    Bare,
    Capacity,
}

impl Way {
    const ALL: [Self; 3] = [Self::Bare, Self::Extender, Self::Capacity];

    fn name(self) -> &'static str {
        match self {
            Self::Extender => "with the extender",
            Self::Bare => "without it",
            Self::Capacity => "without it, with the scheduler's own capacity check",
        }
    }

    fn settings(self) -> Settings {
        Settings {
            components: if self == Self::Capacity {
                vec!["publish-capacity"]
            } else {
                Vec::new()
            },
            extender: self == Self::Extender,
            unthrottled: true,
        }
    }
}

/// What one round showed.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Pods a second.
    rate: f64,
    /// Milliseconds a pod.
    scheduler: f64,
    extender: f64,
    provisioner: f64,
    /// Pods that were sent to a node and came back.
    came_back: f64,
}

/// Takes all figures and prints them.
///
/// # Errors
/// If pods are not scheduled, or something is placed wrongly.
pub(super) fn run(place: &Place, options: &Options, progress: &Progress) -> Result<()> {
    host::check_root()?;
    up::is_free(place)?;
    let built = up::build(place, progress)?;
    let sim = up::up(place, &built, Way::ALL[0].settings(), progress)?;
    let text = sim.lab.block_on(measure(sim.clone(), options.clone()));
    down::down(place, false, progress)?;
    println!("{}", text?);
    Ok(())
}

async fn measure(sim: Sim, options: Options) -> Result<String> {
    // Room for all pods on each node: the capacity check must have no reason to refuse any.
    let shapes: Vec<Shape> = (1..=options.nodes)
        .map(|index| Shape::new(format!("s{index}"), i64::from(options.pods) * GIB))
        .collect();
    nodes::create(&sim.lab.client().await?, &shapes).await?;
    // The class stays, and capacity is published for it.
    World::open(&sim, "prepare").await?.close().await?;
    let mut rounds: Vec<(Way, Round)> = Vec::new();
    for number in 1..=options.rounds {
        for way in Way::ALL {
            sim.set(way.settings()).await?;
            capacity_is_known(&sim, way, &options).await?;
            let round = one(&sim, &options).await?;
            println!(
                "  round {number}, {}: {:.1} pods/s; milliseconds a pod: scheduler {:.2}, extender {:.2}, provisioner {:.2}",
                way.name(),
                round.rate,
                round.scheduler,
                round.extender,
                round.provisioner
            );
            rounds.push((way, round));
        }
    }
    Ok(report(&rounds, &options))
}

/// Waits until the scheduler can have seen the capacity of every node, or none.
async fn capacity_is_known(sim: &Sim, way: Way, options: &Options) -> Result<()> {
    let capacities: Api<CSIStorageCapacity> = Api::all(sim.lab.client().await?);
    let wanted = if way == Way::Capacity {
        usize::from(options.nodes)
    } else {
        0
    };
    let what = format!("{wanted} CSIStorageCapacity objects of the class");
    wait_for(&what, PATIENCE, || async {
        let all = capacities.list(&ListParams::default()).await?.items;
        let of_class = all
            .iter()
            .filter(|object| object.storage_class_name == super::world::CLASS)
            .count();
        Ok(if of_class == wanted {
            Ok(())
        } else {
            Err(Pending::because(format!("there are {of_class}")))
        })
    })
    .await
}

async fn one(sim: &Sim, options: &Options) -> Result<Round> {
    let world = World::open(sim, "bench").await?;
    let pods = usize::from(options.pods);
    let wishes = Wish::many("pod", pods, &["1Gi"]);
    // The scheduler hangs while pods are made, so that making them is not measured.
    sim.act(|sim| sim.pause(Service::Scheduler)).await?;
    let made = world.make(&wishes).await;
    let before = usage(sim)?;
    let begin = Instant::now();
    sim.act(|sim| sim.resume(Service::Scheduler)).await?;
    made?;
    world
        .until(&format!("{pods} pods to be scheduled"), ROUND, |seen| {
            let scheduled = seen.scheduled();
            if scheduled == pods {
                Ok(())
            } else {
                Err(format!("{scheduled} are; {}", seen.why_waiting()))
            }
        })
        .await?;
    let after = usage(sim)?;
    let last = world.seen(|seen| seen.pods.values().filter_map(|pod| pod.scheduled).max());
    let took = last.map_or_else(|| begin.elapsed(), |last| last.duration_since(begin));
    world.all_run(pods, ROUND).await?;
    world.sound().await?;
    let came_back = world.seen(|seen| seen.came_back().len());
    world.close().await?;
    let count = f64::from(options.pods);
    let each = |index: usize| {
        let spent: Duration = after[index].saturating_sub(before[index]);
        spent.as_secs_f64() * 1000.0 / count
    };
    Ok(Round {
        rate: count / took.as_secs_f64(),
        scheduler: each(0),
        extender: each(1),
        provisioner: each(2),
        came_back: f64::from(u32::try_from(came_back)?),
    })
}

/// Processor time of scheduler, extender and provisioner; none of the extender if it does not run.
fn usage(sim: &Sim) -> Result<[Duration; 3]> {
    let extender = if sim.runs(Service::Extender) {
        sim.cpu(Service::Extender)?
    } else {
        Duration::ZERO
    };
    Ok([
        sim.cpu(Service::Scheduler)?,
        extender,
        sim.cpu(Service::Provisioner)?,
    ])
}

fn median(rounds: &[(Way, Round)], way: Way, figure: fn(&Round) -> f64) -> f64 {
    let of_way = rounds.iter().filter(|(of, _)| *of == way);
    let values: Vec<f64> = of_way.map(|(_, round)| figure(round)).collect();
    table::median(&values)
}

/// A table in Markdown, and a line that holds the goals against it.
fn report(rounds: &[(Way, Round)], options: &Options) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "{} simulated nodes, {} pods a round with a claim each, medians of {} rounds in turns\n\n\
         | | pods/s | scheduler, ms a pod | extender, ms a pod | provisioner, ms a pod | came back |\n|---|---|---|---|---|---|\n",
        options.nodes, options.pods, options.rounds
    );
    for way in Way::ALL {
        let of = |figure: fn(&Round) -> f64| median(rounds, way, figure);
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.2} | {:.2} | {:.2} | {:.0} |",
            way.name(),
            of(|round| round.rate),
            of(|round| round.scheduler),
            of(|round| round.extender),
            of(|round| round.provisioner),
            of(|round| round.came_back),
        );
    }
    let rate = |way| median(rounds, way, |round| round.rate);
    let ratio = rate(Way::Extender) / rate(Way::Bare).max(f64::MIN_POSITIVE);
    let cpu = median(rounds, Way::Extender, |round| round.extender);
    let word = |met: bool| if met { "met" } else { "NOT met" };
    let _ = write!(
        text,
        "\nrate with the extender: {ratio:.2} of the rate without (goal {GOAL_RATE} or more: {}); extender: {cpu:.2} ms a pod (goal under {GOAL_CPU}: {})",
        word(ratio >= GOAL_RATE),
        word(cpu < GOAL_CPU),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_held_against_medians() {
        let round = |rate, extender| Round {
            rate,
            extender,
            ..Round::default()
        };
        let options = Options {
            nodes: 500,
            pods: 100,
            rounds: 3,
        };
        let rounds = [
            (Way::Bare, round(100.0, 0.0)),
            (Way::Extender, round(20.0, 0.5)),
            (Way::Extender, round(97.0, 0.6)),
            (Way::Extender, round(98.0, 1.7)),
        ];
        let text = report(&rounds, &options);
        assert!(
            text.contains("0.97 of the rate without (goal 0.95 or more: met)"),
            "{text}"
        );
        assert!(text.contains("0.60 ms a pod (goal under 1: met)"), "{text}");
        let slow = [
            (Way::Bare, round(100.0, 0.0)),
            (Way::Extender, round(94.0, 1.0)),
        ];
        assert_eq!(report(&slow, &options).matches("NOT met").count(), 2);
    }
}
