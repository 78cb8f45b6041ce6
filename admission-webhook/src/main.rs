//! Gives pods the locality of their volumes at admission.
//!
//! `wire` (HTTPS, `AdmissionReview`) -> `lookups` (what is known of the pod's claims) -> `decide` (pure) -> `patch`.
//! `certificate` keeps the webhook's own certificates. Writes nothing but its Secret and the bundle in its own configuration.

mod args;
mod certificate;
mod decide;
mod facts;
mod lookups;
mod patch;
mod server;
mod wire;

use std::sync::Arc;

use hawser_runtime::health::Health;
use hawser_runtime::index::Watches;
use hawser_runtime::metrics::{Metrics, Requests};
use hawser_runtime::shutdown::Shutdown;
use hawser_runtime::{args as flags, client, observability, telemetry, tls};

use crate::args::Args;
use crate::certificate::{CHECK_INTERVAL, Keeper, KubeCluster, Names};
use crate::lookups::{Gatherer, Lookups};
use crate::wire::{Webhook, router};

// Two are plenty for small requests; the default, one for each core, costs memory on large machines.
#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    tls::install_provider();
    let (args, settings) = flags::parse::<Args>();
    telemetry::init(&args.common)?;
    settings.log("admission-webhook");

    let shutdown = Shutdown::on_signals(args.common.drain_timeout)?;
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("admission-webhook"));
    // Before the first probe can be answered: no checks at all would count as ready.
    let ready = health.readiness("certificate");
    ready.not_ready("no certificate yet");
    observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;
    let client = client::connect(&args.common, "admission-webhook").await?;

    let lookups = Lookups::default();
    lookups.watch(&client, &Watches::new(&shutdown, &health, &metrics));
    let gatherer = Gatherer::new(lookups, Some(client.clone()), args.namespace.clone());
    let requests = Requests::register(&metrics, "webhook", "admission reviews");

    let names = Names::of_service(&args.service, &args.namespace);
    let cluster = KubeCluster::new(client, args.namespace);
    let mut keeper = Keeper::new(cluster, names, Arc::new(jiff::Timestamp::now));
    if let Some(config) = keeper.first(&ready, &shutdown).await {
        let address = server::serve(
            args.listen,
            config,
            router(Webhook { gatherer, requests }),
            server::LINGER.min(args.common.drain_timeout / 2),
            &shutdown,
        )?;
        ready.ready();
        tracing::info!(%address, "serving admission reviews");
        keeper.follow(CHECK_INTERVAL, &shutdown);
    }
    shutdown.finished().await?;
    Ok(())
}
