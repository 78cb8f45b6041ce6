//! What `cargo lab test` runs before the scenarios: everything that can be said about the sources without a cluster.
//!
//! A check has a name, takes the project's folder and either passes or says what is wrong where. Checks change nothing.

mod cargo;
mod graph;
mod licences;
mod manifests;
mod settings;
mod tree;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::command::with_args;

/// What checks may use.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The project's folder.
    pub(crate) workspace: PathBuf,
    /// Folder with kubectl and the Go programs of the manifests' sidecars.
    pub(crate) go_bin: PathBuf,
}

/// One check.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    /// Short, lower case, with hyphens: what a filter matches.
    pub(crate) name: &'static str,
    /// What passes, for `--list`.
    pub(crate) about: &'static str,
    run: fn(&Context) -> Result<()>,
}

/// How a check ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) result: Result<()>,
}

/// All checks, the cheap ones first.
pub(crate) const CHECKS: [Check; 14] = [
    Check {
        name: "format",
        about: "rustfmt has nothing to change",
        run: cargo::format,
    },
    Check {
        name: "file-sizes",
        about: "no source file has more than 800 lines",
        run: tree::sizes,
    },
    Check {
        name: "orphans",
        about: "every .rs file is part of a crate",
        run: tree::orphans,
    },
    Check {
        name: "texts",
        about: "no paths of one machine, no merge markers, no unfinished code",
        run: tree::texts,
    },
    Check {
        name: "arrows",
        about: "crates depend on each other in the allowed direction only",
        run: graph::arrows,
    },
    Check {
        name: "licences",
        about: "dependencies are under allowed licences, and none is banned",
        run: licences::licences,
    },
    Check {
        name: "tools",
        about: "Containerfiles and the lab take the node's tools from one list",
        run: manifests::containerfiles,
    },
    Check {
        name: "kustomize",
        about: "manifests build, and images are named as they are made",
        run: manifests::build,
    },
    Check {
        name: "settings",
        about: "settings of the example arrive in what it builds",
        run: settings::arrive,
    },
    Check {
        name: "confined",
        about: "pods run as nobody and read-only, but for the node daemon's",
        run: settings::confined,
    },
    Check {
        name: "clippy",
        about: "clippy finds nothing",
        run: cargo::clippy,
    },
    Check {
        name: "unit-tests",
        about: "unit and property tests pass",
        run: cargo::test,
    },
    Check {
        name: "generated",
        about: "generated files are as they would be generated now",
        run: cargo::generated,
    },
    Check {
        name: "flags",
        about: "flags in the manifests exist in the programs",
        run: manifests::flags,
    },
];

/// Runs the checks whose name contains `filter`, telling each as it ends; the outcome of each.
pub(crate) fn run(context: &Context, filter: Option<&str>) -> Vec<Outcome> {
    let chosen = CHECKS
        .iter()
        .filter(|check| filter.is_none_or(|filter| check.name.contains(filter)));
    chosen.map(|check| run_one(context, check)).collect()
}

fn run_one(context: &Context, check: &Check) -> Outcome {
    let begin = Instant::now();
    let result = (check.run)(context);
    let outcome = Outcome {
        name: check.name,
        took: begin.elapsed(),
        result,
    };
    let seconds = outcome.took.as_secs_f64();
    match &outcome.result {
        Ok(()) => println!(
            "ok      {:<12} {seconds:>6.1} s  {}",
            check.name, check.about
        ),
        Err(error) => println!("FAILED  {:<12} {seconds:>6.1} s\n{error:#}", check.name),
    }
    outcome
}

/// Runs a program in the project's folder, its output on the terminal.
fn show(context: &Context, program: &str, args: &[&str]) -> Result<()> {
    let status = command(context, program, args)
        .status()
        .with_context(|| format!("running {program}"))?;
    ensure!(status.success(), "`{program} {}`: {status}", args.join(" "));
    Ok(())
}

/// Runs a program in the project's folder and returns what it wrote to standard output.
fn output(context: &Context, program: &str, args: &[&str]) -> Result<String> {
    crate::command::output(&mut command(context, program, args))
}

fn command(context: &Context, program: &str, args: &[&str]) -> Command {
    let mut command = with_args(program, args);
    command.current_dir(&context.workspace);
    command
}

/// Fails with all findings, one a line; passes if there are none.
fn none_of(findings: &[String]) -> Result<()> {
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_a_filter_takes_a_part_of_one() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
        let context = Context {
            workspace: PathBuf::from("/nonexistent"),
            go_bin: PathBuf::new(),
        };
        let outcomes = run(&context, Some("file-si"));
        assert_eq!(outcomes.len(), 1);
        assert!(
            outcomes[0].result.is_err(),
            "a check of a folder that is not there can't pass"
        );
    }
}
