//! Scenarios: what must hold on a real cluster, each a function that fails with a reason. And `cargo lab test`, which runs the checks of the sources and
//! then the scenarios, on one lab, in the order of the list.

mod adoption;
mod capacity;
mod cluster;
mod crash;
mod disks;
mod faults;
mod sanity;
mod sim;
mod uninstall;
mod volume_modes;
mod wiping;
mod wrong_input;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::check;
use crate::down;
use crate::kit::{Scope, dump};
use crate::lab::{Lab, Place};
use crate::progress::Progress;
use crate::up::{self, Options};

/// No scenario may take longer.
const DEADLINE: Duration = Duration::from_secs(1500);

/// A scenario under way.
type Run = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A scenario.
struct Scenario {
    /// What a filter matches, and what its failure's folder is named after.
    name: &'static str,
    /// What holds when it passes.
    about: &'static str,
    /// Whether it runs without being asked for by name or by `--all`: those that have been seen to pass on a busy machine of two cores.
    routine: bool,
    /// Whether Hawser has to be installed.
    hawser: bool,
    run: fn(Lab) -> Run,
}

/// All scenarios, in the order in which they run.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cluster",
        about: "the lab is a cluster: nodes are Ready, Services and DNS work across nodes",
        routine: true,
        hawser: false,
        run: |lab| Box::pin(async move { cluster::run(&lab).await }),
    },
    Scenario {
        name: "faults",
        about: "the lab's faults do what they say: power cut, failed and pulled disk, partitions, hang",
        routine: true,
        hawser: false,
        run: |lab| Box::pin(async move { faults::run(&lab).await }),
    },
    Scenario {
        name: "pools",
        about: "Hawser runs on a new cluster; blank disks are found, claimed, and become pools",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { pools(&lab).await }),
    },
    Scenario {
        name: "main-job",
        about: "the demonstration: from blank disks to a StatefulSet that survives, and back",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { crate::demo::run(&lab).await }),
    },
    Scenario {
        name: "wrong-input",
        about: "who asks for what can't be gets a sentence that names it, where its author looks, and nothing changes",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { wrong_input::run(&lab).await }),
    },
    Scenario {
        name: "disks",
        about: "disks that are new, renamed, doubled or failing: they show at once, keep their names, and go to nobody while they can't be read",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { disks::run(&lab).await }),
    },
    Scenario {
        name: "volume-modes",
        about: "ext4, xfs, btrfs and block: shared on a node, read-only, by one pod alone, grown while written to, with every byte unchanged",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { volume_modes::run(&lab).await }),
    },
    Scenario {
        name: "wiping",
        about: "a new volume shows nothing of what its disks held before, or of deleted volumes",
        routine: false,
        hawser: true,
        run: |lab| Box::pin(async move { wiping::run(&lab).await }),
    },
    Scenario {
        name: "capacity",
        about: "with the component publish-capacity, CSIStorageCapacity objects follow each allocation within 5 s",
        routine: false,
        hawser: true,
        run: |lab| Box::pin(async move { capacity::run(&lab).await }),
    },
    Scenario {
        name: "adoption",
        about: "a volume of HwameiStor's is taken over while it is mounted, grows, moves to Hawser's way, and goes with its claim",
        routine: false,
        hawser: true,
        run: |lab| Box::pin(async move { adoption::run(&lab).await }),
    },
    Scenario {
        name: "csi-sanity",
        about: "the CSI project's conformance suite passes, for mounted and for block volumes",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { sanity::run(&lab).await }),
    },
    Scenario {
        name: "crash",
        about: "provisioner and node-daemon killed at random while volumes are written to: no acknowledged write lost, nothing doubled or left",
        routine: false,
        hawser: true,
        run: |lab| Box::pin(async move { crash::run(&lab, seed()).await }),
    },
    Scenario {
        name: "uninstall",
        about: "kubectl delete -k is refused while a volume is there, and leaves nothing else behind without one",
        routine: true,
        hawser: true,
        run: |lab| Box::pin(async move { uninstall::run(&lab).await }),
    },
];

/// Blank disks become pools, as the API and as LVM on the nodes see it.
async fn pools(lab: &Lab) -> Result<()> {
    let scope = Scope::open(lab, "pools").await?;
    let pools = scope.ensure_pools().await?;
    for pool in &pools {
        let report = lab
            .sh(
                &pool.node,
                &format!("vgs --noheadings -o pv_count {}", pool.name),
            )?
            .checked()?;
        ensure!(
            report.trim() == pool.disks.to_string(),
            "{} reports {} disks in {}, LVM has {}",
            pool.node,
            pool.disks,
            pool.name,
            report.trim()
        );
    }
    scope.close().await
}

/// What `cargo lab test` takes.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Arguments {
    /// Only the checks and scenarios whose name contains this
    filter: Option<String>,
    /// List what there is, and run nothing
    #[arg(long)]
    list: bool,
    /// Only the checks of the sources, no scenarios
    #[arg(long)]
    no_lab: bool,
    /// Also the scenarios that are not routine yet
    #[arg(long)]
    all: bool,
    /// Keep the lab up afterwards, whatever the outcome; one that was up before stays anyway
    #[arg(long)]
    keep: bool,
}

/// One line of the final table.
struct Outcome {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// The seed of what scenarios choose at random: `HAWSER_SEED`, or another one each time. Scenarios print it.
fn seed() -> u64 {
    let fresh = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| now.as_secs())
    };
    std::env::var_os("HAWSER_SEED")
        .and_then(|text| text.to_str().and_then(|text| text.parse().ok()))
        .unwrap_or_else(fresh)
}

/// Runs checks and scenarios, and ends with a line that counts them.
///
/// # Errors
/// If one failed, or the lab could not be brought up.
pub(crate) fn test(place: &Place, arguments: &Arguments, progress: &Progress) -> Result<()> {
    if arguments.list {
        let checks = check::CHECKS.iter().map(|check| (check.name, check.about));
        let scenarios = SCENARIOS
            .iter()
            .map(|scenario| (scenario.name, scenario.about));
        checks
            .chain(scenarios)
            .chain(sim::list())
            .for_each(|(name, about)| println!("{name:<14} {about}"));
        return Ok(());
    }
    let filter = arguments.filter.as_deref();
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| !arguments.no_lab && wanted(scenario, arguments))
        .collect();
    // Before the checks, which take minutes.
    let _reserved = if chosen.is_empty() {
        None
    } else {
        Some(up::reserve(place)?)
    };
    let mut outcomes = checks(place, filter, progress)?;
    let simulated = sim::chosen(arguments);
    if !chosen.is_empty() {
        let found_up = up::is_up(place)?;
        // Scenarios of the lab itself run on a lab that is up in either shape.
        let options = Options {
            bare: chosen.iter().all(|scenario| !scenario.hawser),
            ..Options::default()
        };
        let lab = up::up(place, &options, progress)?;
        outcomes.extend(chosen.iter().map(|scenario| one(&lab, scenario)));
        if found_up {
            progress.say(format!("lab {} was up before, and stays", lab.name));
        } else if !arguments.keep {
            down::down(place, false, progress)?;
        }
    }
    outcomes.extend(sim::run(place, &simulated, arguments, progress)?);
    summary(&outcomes)
}

fn checks(place: &Place, filter: Option<&str>, progress: &Progress) -> Result<Vec<Outcome>> {
    let any = check::CHECKS
        .iter()
        .any(|check| filter.is_none_or(|filter| check.name.contains(filter)));
    if !any {
        return Ok(Vec::new());
    }
    let context = check::Context {
        workspace: up::workspace()?,
        go_bin: up::programs(place, progress)?,
    };
    let outcomes = check::run(&context, filter);
    Ok(outcomes
        .into_iter()
        .map(|outcome| Outcome {
            name: outcome.name,
            took: outcome.took,
            passed: outcome.result.is_ok(),
        })
        .collect())
}

/// Whether a scenario was asked for: by a part of its name, or by being routine.
fn wanted(scenario: &Scenario, arguments: &Arguments) -> bool {
    match &arguments.filter {
        Some(filter) => scenario.name.contains(filter.as_str()),
        None => scenario.routine || arguments.all,
    }
}

/// Runs one scenario; when it fails, keeps what is needed to understand why.
fn one(lab: &Lab, scenario: &Scenario) -> Outcome {
    println!("\nscenario {}: {}", scenario.name, scenario.about);
    let start = Instant::now();
    let run = scenario.run;
    let work = lab.clone();
    let result = lab.block_on(async move {
        let limit = format!("it takes longer than {} s", DEADLINE.as_secs());
        match tokio::time::timeout(DEADLINE, run(work)).await {
            Ok(result) => result,
            Err(_) => anyhow::bail!(limit),
        }
    });
    let took = start.elapsed();
    if let Err(error) = &result {
        println!("FAILED  {}: {error:#}", scenario.name);
        match dump::dump(lab, scenario.name) {
            Ok(folder) => println!(
                "        logs, objects and events are in {}",
                folder.display()
            ),
            Err(error) => println!("        no logs could be kept: {error:#}"),
        }
    }
    Outcome {
        name: scenario.name,
        took,
        passed: result.is_ok(),
    }
}

fn summary(outcomes: &[Outcome]) -> Result<()> {
    println!();
    for outcome in outcomes {
        let word = if outcome.passed { "ok" } else { "FAILED" };
        println!(
            "{word:<7} {:<14} {:>7.1} s",
            outcome.name,
            outcome.took.as_secs_f64()
        );
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let failed = outcomes.len() - passed;
    println!("\n{passed} passed, {failed} failed");
    ensure!(
        !outcomes.is_empty(),
        "nothing has this name: see `cargo lab test --list`"
    );
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_among_checks_and_scenarios() {
        let mut names: Vec<_> = check::CHECKS.iter().map(|check| check.name).collect();
        names.extend(SCENARIOS.iter().map(|scenario| scenario.name));
        names.extend(sim::list().map(|(name, _)| name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn one_failure_fails_the_run() {
        let outcome = |passed| Outcome {
            name: "x",
            took: Duration::ZERO,
            passed,
        };
        assert!(summary(&[outcome(true)]).is_ok());
        assert!(summary(&[outcome(true), outcome(false)]).is_err());
        assert!(summary(&[]).is_err());
    }
}
