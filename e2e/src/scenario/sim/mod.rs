//! Scenarios on simulated nodes ([`crate::sim`]): what takes many nodes, or an outage of a part of the control plane. Each begins on a lab of its own, which
//! is up within seconds, so none sees what another has left.

mod conditions;
mod default_scheduler;
mod fill;
mod outages;
mod stock;

use std::time::Instant;

use anyhow::Result;

use super::{Arguments, DEADLINE, Outcome, Run};
use crate::down;
use crate::kit::dump;
use crate::lab::{Lab, Place};
use crate::progress::Progress;
use crate::sim::{Settings, Sim, up};

/// A scenario on simulated nodes.
pub(super) struct Simulated {
    name: &'static str,
    about: &'static str,
    routine: bool,
    /// Components of the manifests that are applied too.
    components: &'static [&'static str],
    run: fn(Sim) -> Run,
}

const SCENARIOS: &[Simulated] = &[
    Simulated {
        name: "sim-fill",
        about: "500 pods with 2 claims each at once, on nodes that they fill exactly: all run, nothing is over-committed",
        routine: false,
        components: &[],
        run: |sim| Box::pin(async move { fill::run(&sim).await }),
    },
    Simulated {
        name: "sim-stock",
        about: "cases in which Kubernetes' own scheduling by capacity fails: all pods run, no volume fails to be made",
        routine: false,
        components: &[],
        run: |sim| Box::pin(async move { stock::run(&sim).await }),
    },
    Simulated {
        name: "sim-conditions",
        about: "pods without claims never reach the webhook, by the API server's own count",
        routine: false,
        components: &[],
        run: |sim| Box::pin(async move { conditions::run(&sim).await }),
    },
    Simulated {
        name: "sim-outages",
        about: "webhook, extender, provisioner or API server away: users are told, nothing is placed wrongly, all runs afterwards",
        routine: false,
        components: &[],
        run: |sim| Box::pin(async move { outages::run(&sim).await }),
    },
    Simulated {
        name: "sim-default",
        about: "without Hawser's scheduler, the default one places pods by node affinity and published capacity",
        routine: false,
        components: &["default-scheduler"],
        run: |sim| Box::pin(async move { default_scheduler::run(&sim).await }),
    },
];

/// Names and what holds.
pub(super) fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    SCENARIOS
        .iter()
        .map(|scenario| (scenario.name, scenario.about))
}

/// The scenarios that were asked for.
pub(super) fn chosen(arguments: &Arguments) -> Vec<&'static Simulated> {
    let wanted = |scenario: &&Simulated| match &arguments.filter {
        Some(filter) => scenario.name.contains(filter.as_str()),
        None => scenario.routine || arguments.all,
    };
    let all = SCENARIOS.iter().filter(wanted);
    all.filter(|_| !arguments.no_lab).collect()
}

/// Runs them, one after the other.
///
/// # Errors
/// If no lab can be brought up.
pub(super) fn run(
    place: &Place,
    scenarios: &[&Simulated],
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Vec<Outcome>> {
    if scenarios.is_empty() {
        return Ok(Vec::new());
    }
    let place = up::place(place)?;
    let built = up::build(&place, progress)?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        println!("\nscenario {}: {}", scenario.name, scenario.about);
        let start = Instant::now();
        let settings = Settings {
            components: scenario.components.to_vec(),
            ..Settings::default()
        };
        let result = up::up(&place, &built, settings, progress).and_then(|sim| one(&sim, scenario));
        if let Err(error) = &result {
            println!("FAILED  {}: {error:#}", scenario.name);
            match Lab::at(&place).and_then(|lab| dump::dump(&lab, scenario.name)) {
                Ok(folder) => println!(
                    "        logs, objects and events are in {}",
                    folder.display()
                ),
                Err(error) => println!("        no logs could be kept: {error:#}"),
            }
        }
        outcomes.push(Outcome {
            name: scenario.name,
            took: start.elapsed(),
            passed: result.is_ok(),
        });
    }
    if !arguments.keep {
        down::down(&place, false, progress)?;
    }
    Ok(outcomes)
}

fn one(sim: &Sim, scenario: &Simulated) -> Result<()> {
    let (run, work) = (scenario.run, sim.clone());
    sim.lab.block_on(async move {
        match tokio::time::timeout(DEADLINE, run(work)).await {
            Ok(result) => result,
            Err(_) => anyhow::bail!("it takes longer than {} s", DEADLINE.as_secs()),
        }
    })
}
