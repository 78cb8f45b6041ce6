//! Answers kube-scheduler: which nodes can take a pod's volumes, and which is best.
//!
//! `watch` (or `dump`) fills the inventory, `wire` parses requests, `decide` answers them. `why` and `simulate` explain to people
//! what is and what would be decided. Writes nothing, to nobody.

mod args;
mod decide;
mod dump;
mod pods;
mod problem;
mod record;
mod simulate;
mod verdict;
mod watch;
mod why;
mod wire;

use std::collections::HashMap;

use anyhow::Context;
use hawser_runtime::health::Health;
use hawser_runtime::index::Watches;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::{args as common, client, observability, telemetry, tls};

use crate::watch::{Freshness, Shared};

const COMPONENT: &str = "scheduler-extender";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = common::parse::<args::Args>();
    telemetry::init(&args.common)?;
    settings.log(COMPONENT);

    let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
    let (health, metrics) = (Health::new(&shutdown), Metrics::new(COMPONENT));
    let (inventory, pods) = if let Some(path) = &args.cluster_from {
        let dump = dump::read(path)?;
        tracing::info!(file = %path.display(), used = dump.used, ignored = dump.ignored, "serving from a dump");
        (Shared::new(dump.inventory), dump.pods)
    } else {
        let client = client::connect(&args.common, COMPONENT).await?;
        let inventory = Shared::default();
        watch::start(
            &Watches::new(&shutdown, &health, &metrics),
            &client,
            &inventory,
        );
        Freshness::start(&client, &health, &metrics, &shutdown);
        (inventory, HashMap::new())
    };
    let app = wire::App::new(inventory, args.strategy.into(), &health, &metrics).with_pods(pods);
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| {
            format!(
                "can't listen on {} (--listen); choose another address or end what uses it",
                args.listen
            )
        })?;
    observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;
    let server =
        axum::serve(listener, wire::router(app)).with_graceful_shutdown(shutdown.stopping());
    shutdown.run("extender server", async move { server.await });
    Ok(shutdown.finished().await?)
}
