//! The extender at scale: what start, an event, a decision and a request over HTTP cost, on a dump that `cargo lab synth` wrote.
//!
//!     cargo lab synth --nodes 5000 --volumes 100000 --seed 1 -o /tmp/cluster.json
//!     cargo bench -p scheduler-extender --bench http -- --dump /tmp/cluster.json
//!
//! Prints a table in Markdown. Times are what the clock says, so other load on the machine shows in them; the columns of processor
//! time are less affected.

mod api;
mod client;
mod load;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use hawser_api::{LocalStorageNode, LocalVolumeReplica};
use hawser_placement::Strategy;
use hawser_runtime::health::Health;
use hawser_runtime::index::Gradual;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::process::ProcessFacts;
use hawser_runtime::shutdown::Shutdown;
use kube::Resource;
use scheduler_extender::watch::Shared;
use scheduler_extender::{dump, wire};
use serde::de::DeserializeOwned;

use load::{Load, Question};
use table::{Row, Times};

/// Measures the extender on a dump.
#[derive(Debug, Parser)]
struct Options {
    /// A cluster that `cargo lab synth` wrote: one object a line
    #[arg(long)]
    dump: PathBuf,
    /// How many ask at the same time, over HTTP
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// How many requests of each kind, in all
    #[arg(long, default_value_t = 4000)]
    requests: usize,
    /// How often all of it
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let load = Load::read(&options.dump)?;
    println!(
        "{} nodes, {} pending pods; {} requests of each kind, {} clients, {} rounds\n",
        load.nodes.len(),
        load.pods.len(),
        options.requests,
        options.clients,
        options.rounds
    );
    let mut rows = Vec::new();
    let inventory = start(&options, &mut rows)?;
    events(&load, &inventory, &mut rows)?;
    let questions = inside(&options, &load, &inventory, &mut rows)?;
    drop(inventory);
    client::run(&options, &questions, &mut rows)?;
    drop(questions);
    client::start_in_cluster(&options, &mut rows)?;
    println!("{}", table::markdown(&rows));
    Ok(())
}

/// Reads the dump in this process.
fn start(options: &Options, rows: &mut Vec<Row>) -> Result<Shared> {
    let before = ProcessFacts::read();
    let began = Instant::now();
    let dump = dump::read(&options.dump)?;
    let took = began.elapsed();
    let after = ProcessFacts::read();
    rows.push(Row::fact(
        "dump read in process",
        format!(
            "{:.2} s, {:.2} s of CPU, {} objects",
            took.as_secs_f64(),
            after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            dump.used
        ),
    ));
    Ok(Shared::new(dump.inventory))
}

/// Applies watch events to the inventory as the watches do.
fn events(load: &Load, inventory: &Shared, rows: &mut Vec<Row>) -> Result<()> {
    let replicas: Vec<LocalVolumeReplica> = parsed(&load.replicas)?;
    let mut changed = replicas.clone();
    for replica in &mut changed {
        let status = replica.status.get_or_insert_default();
        status.synced = !status.synced;
        replica.spec.required_capacity_bytes += 4 << 20;
    }
    rows.push(Row::times(
        "event: a replica changes",
        apply(inventory, &changed),
    ));
    apply(inventory, &replicas);
    let nodes: Vec<LocalStorageNode> = parsed(&load.storage)?;
    let mut changed = nodes.clone();
    for pool in changed
        .iter_mut()
        .flat_map(|node| node.status.iter_mut())
        .flat_map(|status| status.pools.values_mut())
    {
        pool.used_capacity_bytes += 4 << 20;
    }
    rows.push(Row::times(
        "event: a node reports its pools",
        apply(inventory, &changed),
    ));
    apply(inventory, &nodes);
    Ok(())
}

fn parsed<K: DeserializeOwned>(texts: &[String]) -> Result<Vec<K>> {
    texts
        .iter()
        .map(|text| Ok(serde_json::from_str(text)?))
        .collect()
}

fn apply<K: Resource + Clone>(inventory: &Shared, objects: &[K]) -> Times
where
    Shared: Gradual<K>,
{
    let (mut times, before) = (Vec::with_capacity(objects.len()), ProcessFacts::read().cpu);
    for object in objects {
        let object = object.clone();
        let began = Instant::now();
        inventory.apply(object);
        times.push(began.elapsed());
    }
    Times::new(times, ProcessFacts::read().cpu.saturating_sub(before))
}

/// Requests to the router in this process: parsing, deciding and writing the answer, without sockets.
fn inside(
    options: &Options,
    load: &Load,
    inventory: &Shared,
    rows: &mut Vec<Row>,
) -> Result<Vec<Question>> {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("bench"));
    let app = wire::App::new(inventory.clone(), Strategy::Spread, &health, &metrics);
    let router = wire::router(app);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let ask =
        |path: &'static str, body: &[u8]| runtime.block_on(client::in_process(&router, path, body));
    let questions = load.questions(|body| ask("/filter", body).map(|(answer, _)| answer))?;
    for kind in load::KINDS {
        let bodies: Vec<(&'static str, &[u8])> = questions
            .iter()
            .filter_map(|question| question.of(kind))
            .collect();
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            let (mut times, before) = (Vec::new(), ProcessFacts::read().cpu);
            for (path, body) in bodies.iter().cycle().take(options.requests) {
                times.push(ask(path, body)?.1);
            }
            rounds.push(Times::new(
                times,
                ProcessFacts::read().cpu.saturating_sub(before),
            ));
        }
        let times = Times::median(rounds).context("no rounds (--rounds)")?;
        rows.push(Row::times(format!("in process: {kind}"), times));
    }
    Ok(questions)
}
