//! The program that plays all simulated nodes: their daemons and their kubelets, from a few watches.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use hawser_runtime::health::Health;
use hawser_runtime::index::Watches;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::Config;
use kube::{Api, Client};

use super::kubelet::Kubelets;
use super::nodes::SIMULATED;
use super::storage::Storage;
use super::wrong::Wrong;

/// How often it is looked whether the first lists have arrived.
const POLL: Duration = Duration::from_millis(20);

/// What the simulator needs to know.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Play {
    /// How to reach the API server
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where to write down what must never be
    #[arg(long)]
    wrong: PathBuf,
}

/// Plays until it is told to end.
pub(crate) fn run(play: &Play) -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    // One thread does it, and leaves the other processor to what is tried.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(play))
}

async fn serve(play: &Play) -> Result<()> {
    let shutdown = Shutdown::on_signals(Duration::from_secs(1))?;
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("simulator"));
    let wrong = Wrong::open(&play.wrong)?;
    let config = Kubeconfig::read_from(&play.kubeconfig).context("reading the kubeconfig")?;
    let config =
        kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let storage = Storage::new(&client, &wrong);
    let kubelets = Kubelets::new(&client, &storage, &wrong);
    let watches = Watches::new(&shutdown, &health, &metrics);
    let (all, simulated) = (
        Config::default,
        Config::default().labels(&format!("{SIMULATED}=true")),
    );
    // Bound pods only: the queue of the scheduler is none of a kubelet's business.
    let bound = Config::default().fields("spec.nodeName!=");
    watches.watch_into(Api::all(client.clone()), all(), storage.replicas());
    watches.watch_into(Api::all(client.clone()), all(), storage.nodes());
    watches.watch_into(Api::all(client.clone()), simulated, kubelets.nodes.clone());
    watches.watch_into(Api::all(client.clone()), bound, kubelets.pods.clone());
    watches.watch_into(Api::all(client.clone()), all(), kubelets.claims.clone());
    watches.watch_into(Api::all(client.clone()), all(), kubelets.volumes.clone());
    while !health.not_ready().is_empty() && !shutdown.is_stopping() {
        tokio::time::sleep(POLL).await;
    }
    storage.start(&shutdown);
    kubelets.start(&shutdown);
    tracing::info!("playing");
    shutdown.finished().await?;
    Ok(())
}
