//! The order of things: socket first (it says "not ready"), then leadership, then the indexes, then the work.

use std::{sync::Arc, time::Duration};

use hawser_api::names::leases;
use hawser_runtime::{
    client,
    health::Health,
    lease::{Candidate, LeaseConfig, LeaseError},
    metrics::Metrics,
    observability,
    shutdown::Shutdown,
};

use crate::{
    args::Args,
    controllers,
    csi::{identity::Slot, server},
    objects::Permit,
    reserve::takeover,
    state::{Settings, State},
};

/// How often it is looked whether the first lists have arrived.
const SYNC_POLL: Duration = Duration::from_millis(20);

/// Runs until shutdown, or until leadership is lost, which is an error: whoever restarts us starts from the objects alone.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let (health, metrics) = (Health::new(&shutdown), Metrics::new("provisioner"));
    observability::serve(args.common.http_listen, &health, &metrics, &shutdown).await?;
    let client = client::connect(&args.common, "provisioner").await?;
    let lease = LeaseConfig::new(
        &args.namespace,
        leases::STORAGE_MASTER,
        &args.identity,
        &args.lease,
    )?;
    let slot = Slot::default();
    server::serve(&args.csi_socket, &slot, &metrics, &shutdown)?;

    let (stop, permit) = (shutdown.clone(), Permit::none());
    let settings = Settings {
        ready_timeout: args.ready_timeout,
        publish_capacity: args.publish_capacity,
        ..Settings::new(&args.namespace, &args.identity)
    };
    shutdown.run("leadership", async move {
        let leader = match Candidate::new(client.clone(), lease)
            .acquire(&stop, |_| {})
            .await
        {
            Ok(leader) => leader,
            Err(LeaseError::Stopping(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        permit.grant(leader.clone());
        lead(client, permit, settings, &slot, &health, &metrics, &stop).await;
        let lost = leader.lost().await;
        // At shutdown leadership is given up on purpose.
        if stop.is_stopping() {
            Ok(())
        } else {
            Err(lost)
        }
    });
    shutdown.finished().await?;
    Ok(())
}

/// Starts the work of the leader. Returns when calls are served.
pub async fn lead(
    client: kube::Client,
    permit: Permit,
    settings: Settings,
    slot: &Slot,
    health: &Health,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Arc<State> {
    let state = State::start(client, permit, settings, shutdown, health, metrics);
    while !state.is_serving() && !shutdown.is_stopping() {
        tokio::time::sleep(SYNC_POLL).await;
    }
    let taking = takeover::until_done(&state);
    if shutdown.token().run_until_cancelled(taking).await != Some(true) {
        return state;
    }
    controllers::start(&state, shutdown);
    slot.fill(state.clone());
    tracing::info!("serving");
    state
}
