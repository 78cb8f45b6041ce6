//! The cluster-wide controllers. Each observes from the indexes, asks `decide` what to do, and does it; a key that failed is
//! tried again with growing pauses, and what has changed is looked at at once.

pub(crate) mod binding;
pub(crate) mod disk_claim;
pub(crate) mod expand;
pub(crate) mod group;
pub(crate) mod publication;
pub(crate) mod volume;

use std::sync::Arc;

use hawser_runtime::shutdown::Shutdown;

use crate::{capacity, state::State, uninstall, wake};

/// Keys worked on at the same time, by each controller. The API server is what is waited for.
const WORKERS: usize = 16;

/// Starts all controllers; they run until shutdown. To be called once the indexes have had their first lists.
pub(crate) fn start(state: &Arc<State>, shutdown: &Shutdown) {
    macro_rules! run {
        ($queue:ident, $name:literal, $reconcile:path) => {
            let shared = state.clone();
            state
                .queues
                .$queue
                .run($name, WORKERS, shutdown, move |key: String| {
                    $reconcile(shared.clone(), key)
                });
        };
    }
    run!(volumes, "volumes", volume::reconcile);
    run!(groups, "groups", group::reconcile);
    run!(expansions, "expansions", expand::reconcile);
    run!(disk_claims, "disk claims", disk_claim::reconcile);
    run!(bindings, "bindings", binding::reconcile);
    let token = shutdown.token();
    shutdown.spawn("publications", publication::sweep(state.clone(), token));
    let token = shutdown.token();
    shutdown.spawn(
        "uninstall guard",
        uninstall::keep_guard(state.client.clone(), token),
    );
    let token = shutdown.token();
    shutdown.spawn("capacity", capacity::publish(state.clone(), token));
    let token = shutdown.token();
    shutdown.spawn("waking", wake::keep_waking(state.clone(), token));
}
