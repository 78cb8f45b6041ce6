//! `cargo lab sim`: simulated nodes by hand.

use anyhow::Result;
use hawser_api::quantity;

use super::lab::Sim;
use super::nodes::{self, Shape};
use super::{Settings, bench, play, up};
use crate::lab::Place;
use crate::progress::Progress;
use crate::{down, host};

/// What can be done.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Bring up a control plane with Hawser and simulated nodes, under the lab's name and `-sim`
    Up(Options),
    /// Stop it
    Down,
    /// Measure what scheduling costs with the extender, without it, and with Kubernetes' own check of capacity
    Bench(bench::Options),
    /// Play the nodes (`up` starts this)
    #[command(hide = true)]
    Play(play::Play),
}

/// How it is to be.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of nodes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=5000))]
    nodes: u16,
    /// Size of each node's pool of SSDs
    #[arg(long, default_value = "100Gi", value_parser = size)]
    pool: i64,
    /// Publish `CSIStorageCapacity` objects, and run without Hawser's scheduler
    #[arg(long)]
    default_scheduler: bool,
}

fn size(text: &str) -> Result<i64, String> {
    quantity::parse(text).map_err(|error| error.to_string())
}

/// Runs what was asked for.
pub(crate) fn run(at: &Place, command: &Command, progress: &Progress) -> Result<()> {
    match command {
        Command::Up(options) => by_hand(&up::place(at)?, options, progress),
        Command::Down => down::down(&up::place(at)?, false, progress),
        Command::Bench(options) => bench::run(&up::place(at)?, options, progress),
        Command::Play(play) => play::run(play),
    }
}

fn by_hand(place: &Place, options: &Options, progress: &Progress) -> Result<()> {
    host::check_root()?;
    up::is_free(place)?;
    let settings = Settings {
        components: if options.default_scheduler {
            vec!["default-scheduler"]
        } else {
            Vec::new()
        },
        ..Settings::default()
    };
    let built = up::build(place, progress)?;
    let sim = up::up(place, &built, settings, progress)?;
    populate(&sim, options)?;
    progress.say(format!(
        "{} nodes are simulated, after {:.0} s. Try: cargo lab --name {} kubectl get nodes",
        options.nodes,
        progress.elapsed().as_secs_f64(),
        place.name
    ));
    Ok(())
}

fn populate(sim: &Sim, options: &Options) -> Result<()> {
    let shapes: Vec<Shape> = (1..=options.nodes)
        .map(|index| Shape::new(format!("s{index}"), options.pool))
        .collect();
    let lab = sim.lab.clone();
    sim.lab
        .block_on(async move { nodes::create(&lab.client().await?, &shapes).await })
}
