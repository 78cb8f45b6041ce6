//! From flags to a process that serves: starts the parts in order and waits for the end.

use std::collections::HashMap;

use hawser_runtime::health::Health;
use hawser_runtime::index::Watches;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::{args as common, client, observability, telemetry, tls};

use crate::args::Args;
use crate::freshness::{Freshness, Staleness};
use crate::watch::{self, Shared};
use crate::{dump, serve, wire};

const COMPONENT: &str = "scheduler-extender";

/// Serves until a signal ends it.
pub async fn run() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = common::parse::<Args>();
    telemetry::init(&args.common)?;
    settings.log(COMPONENT);

    let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
    let (health, metrics) = (Health::new(&shutdown), Metrics::new(COMPONENT));
    let staleness = Staleness::new(args.stale_limit);
    let (inventory, pods) = if let Some(path) = &args.cluster_from {
        let dump = dump::read(path)?;
        tracing::info!(file = %path.display(), used = dump.used, ignored = dump.ignored, "serving from a dump");
        (Shared::new(dump.inventory), dump.pods)
    } else {
        let client = client::connect(&args.common, COMPONENT).await?;
        let inventory = Shared::default();
        let watches = Watches::new(&shutdown, &health, &metrics);
        watch::start(&watches, &client, &inventory);
        Freshness::new(client, watches, staleness.clone(), &health, &metrics).start(&shutdown);
        (inventory, HashMap::new())
    };
    let app = wire::App::new(inventory, args.strategy.into(), &health, &metrics)
        .with_staleness(staleness)
        .with_pods(pods);
    // Both addresses are taken before anything is served, so that a wrong one ends the program at once.
    let listener = serve::listen(args.listen)?;
    observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;
    serve::serve(
        listener,
        wire::router(app),
        serve::Limits::default(),
        &shutdown,
    )?;
    Ok(shutdown.finished().await?)
}
