//! A model of the whole: the product's placement, inventory, reservations, calls and controllers, under every interleaving that a
//! seed can make of users, kube-scheduler, external-provisioner, node daemons, crashes, changes of leader, watches that lag and
//! answers that are lost. After each step the rules of `check` must hold.
//!
//! Real: everything of the provisioner but its wire and its controllers of other things (expansions, disks, attachments); the
//! inventory and placement, for the extender too. Modelled: the API server (`server`), the way to it (`network`), nodes
//! (`nodes`), kube-scheduler (`scheduler`), external-provisioner (in `process` and `world`), Kubernetes' controllers (`users`).
//!
//! `HAWSER_MODEL_HISTORIES` says how many histories are run, `HAWSER_SEED` from which seed on (see CONTRIBUTING.md).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::doc_markdown,
    clippy::items_after_statements,
    clippy::too_many_lines,
    reason = "all of this crate is tests, its helpers too: a surprise ends the test where it is seen"
)]

mod breaks;
mod burst;
mod check;
mod explore;
mod found;
mod network;
mod nodes;
mod objects;
mod process;
mod scheduler;
mod server;
mod step;
mod users;
mod world;

use std::time::Instant;

use breaks::Break;
use explore::{Bench, History, show};
use step::Step;
use world::{Config, Counts, Rule};

/// In the normal run of the tests.
const HISTORIES: u64 = 10_000;
/// Within which a fault that was built in on purpose has to be found.
const ENOUGH: u64 = 3_000;

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no command line of its own"
)]
fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is {text:?}; it must be a whole number"))
}

/// These steps, on nodes with so many GiB of HDD and SSD, break no rule.
fn holds(nodes: &[(i64, i64)], steps: &[Step]) {
    let history = History {
        config: Config {
            nodes: nodes.to_vec(),
            broken: None,
        },
        steps: steps.to_vec(),
    };
    let bench = Bench::new();
    if let (_, Some(violation), _) = history.run(&bench, false) {
        panic!("{}", show(&bench, &history, &violation));
    }
}

#[test]
fn no_history_breaks_a_rule() {
    let (histories, first) = (
        setting("HAWSER_MODEL_HISTORIES", HISTORIES),
        setting("HAWSER_SEED", 1),
    );
    // One is enough, unless somebody cures several at a time.
    let most = usize::try_from(setting("HAWSER_MODEL_FAILURES", 1)).unwrap_or(1);
    println!("{histories} histories, seeds from {first}");
    let (bench, began) = (Bench::new(), Instant::now());
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for seed in first..first.saturating_add(histories) {
        let history = History::of(seed, None);
        let (of_history, violation, _) = history.run(&bench, false);
        counts.add(&of_history);
        if let Some(violation) = violation {
            let small = bench.shrink(history, violation.rule);
            let (_, violation, _) = small.run(&bench, false);
            let violation = violation.expect("a shrunk history fails");
            failures.push(format!("seed {seed}: {}", show(&bench, &small, &violation)));
            if failures.len() >= most {
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let steps: u64 = counts.steps.values().sum();
    println!(
        "{histories} histories, {steps} steps, in {:?}",
        began.elapsed()
    );
    for (name, count) in counts.events.iter().chain(&counts.steps) {
        println!("{count:>10} {name}");
    }
}

/// The fault is found, by one of these rules. `known`: nodes and steps of a history that shows it, found and made small before;
/// if it shows it no more, because what happens in the model has changed, another one is looked for.
fn is_found(broken: Break, rules: &[Rule], (nodes, steps): Known<'_>) {
    let bench = Bench::new();
    let known = History {
        config: Config {
            nodes: nodes.to_vec(),
            broken: Some(broken),
        },
        steps: steps.to_vec(),
    };
    if let (_, Some(violation), _) = known.run(&bench, false) {
        assert!(rules.contains(&violation.rule), "{broken:?}: {violation:?}");
        println!("{broken:?}: {violation:?}");
        return;
    }
    let enough = setting("HAWSER_MODEL_ENOUGH", ENOUGH);
    for seed in 1..=enough {
        let history = History::of(seed, Some(broken));
        let (_, violation, _) = history.run(&bench, false);
        if let Some(violation) = violation {
            assert!(rules.contains(&violation.rule), "{broken:?}: {violation:?}");
            let small = bench.shrink(history, violation.rule);
            let (nodes, steps) = (&small.config.nodes, &small.steps);
            println!("{broken:?}: seed {seed}: {violation:?}\n    (&{nodes:?}, &{steps:?})");
            return;
        }
    }
    panic!("{broken:?} is not found in {enough} histories");
}

/// Nodes and steps.
type Known<'a> = (&'a [(i64, i64)], &'a [Step]);

/// No history is known, so one is looked for.
const SEARCH: Known<'static> = (&[(10, 0)], &[]);

#[test]
fn a_provisioner_that_ignores_the_reservations_of_others_is_found() {
    is_found(
        Break::OthersReservations,
        &[Rule::NeverOvercommitted, Rule::Agreement],
        SEARCH,
    );
}

#[test]
fn reservations_that_are_not_joint_are_found() {
    is_found(
        Break::NotJoint,
        &[
            Rule::NobodyWaitsInVain,
            Rule::EndsWithPod,
            Rule::NeverOvercommitted,
            Rule::NothingLeft,
            Rule::Agreement,
        ],
        SEARCH,
    );
}

#[test]
fn reservations_that_nobody_ends_are_found() {
    is_found(
        Break::KeeperSleeps,
        &[
            Rule::EndsWithPod,
            Rule::NobodyWaitsInVain,
            Rule::NothingLeft,
        ],
        SEARCH,
    );
}

#[test]
fn an_extender_that_does_not_see_reservations_is_found() {
    is_found(Break::ExtenderBlind, &[Rule::Agreement], SEARCH);
}

#[test]
fn two_leaders_that_nothing_keeps_apart_are_found() {
    is_found(Break::NoEpochs, &[Rule::NeverOvercommitted], SEARCH);
}

#[test]
fn writes_that_are_not_made_for_a_version_are_found() {
    is_found(
        Break::NoVersions,
        &[
            Rule::NeverOvercommitted,
            Rule::PromisesKept,
            Rule::NobodyWaitsInVain,
            Rule::NothingLeft,
            Rule::EndsWithPod,
            Rule::Rest,
        ],
        SEARCH,
    );
}

#[test]
fn lost_answers_that_are_forgotten_are_found() {
    is_found(
        Break::LostAnswersForgotten,
        &[Rule::NeverOvercommitted],
        SEARCH,
    );
}

#[test]
fn copies_that_are_made_unasked_are_found() {
    is_found(
        Break::CopiesUnasked,
        &[Rule::NeverOvercommitted, Rule::NothingLeft],
        SEARCH,
    );
}

#[test]
fn volumes_that_end_without_a_look_for_their_copies_are_found() {
    is_found(
        Break::NoLook,
        &[Rule::NeverOvercommitted, Rule::NothingLeft],
        SEARCH,
    );
}
