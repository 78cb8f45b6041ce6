//! Waiting for nodes to do their part: on indexes, with a deadline, without holding anything.

use std::{sync::Arc, time::Duration};

use hawser_api::{LocalVolume, ReplicaState};
use hawser_runtime::store::Store;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    decide::{replica, volume::wanted_nodes},
    state::State,
};

/// What has become of a volume.
#[derive(Clone, Debug)]
pub(crate) enum Readiness {
    /// Every wanted copy is ready and large enough.
    Ready {
        volume: Arc<LocalVolume>,
        allocated: i64,
    },
    /// A node gave up, or has failed for too long.
    Failed { why: String },
    /// It is being deleted, or gone.
    Leaving,
    /// The deadline came first.
    NotYet { why: String },
}

/// What the indexes say at this moment.
enum Glance {
    Ready {
        volume: Arc<LocalVolume>,
        allocated: i64,
    },
    Leaving,
    Waiting {
        why: String,
        failing: bool,
        lasting: bool,
    },
}

fn glance(state: &State, name: &str, size: i64) -> Glance {
    let Some(volume) = state.objects.volumes.store.get(name) else {
        return Glance::Leaving;
    };
    if volume.spec.delete {
        return Glance::Leaving;
    }
    let replicas = state.replicas_of(name);
    let mut allocated = i64::MAX;
    for node in wanted_nodes(&volume) {
        let Some(copy) = replicas.iter().find(|r| r.spec.node_name == node) else {
            let why = format!("its copy on node {node} is not recorded yet");
            return Glance::Waiting {
                why,
                failing: false,
                lasting: false,
            };
        };
        if replica::state(copy) == ReplicaState::Ready && replica::allocated(copy) >= size {
            allocated = allocated.min(replica::allocated(copy));
            continue;
        }
        return match replica::failure(copy) {
            Some(failure) => Glance::Waiting {
                why: format!("node {node}: {}", failure.message),
                failing: true,
                lasting: failure.lasting,
            },
            None => Glance::Waiting {
                why: format!("node {node} is still working on it"),
                failing: false,
                lasting: false,
            },
        };
    }
    Glance::Ready { volume, allocated }
}

/// Completes when any of the two has changed.
async fn either(a: &mut watch::Receiver<u64>, b: &mut watch::Receiver<u64>) {
    // Both are cancel-safe; what changed is looked at anew.
    tokio::select! {
        _ = a.changed() => {}
        _ = b.changed() => {}
    }
}

fn changes<A, B>(a: &Store<A>, b: &Store<B>) -> (watch::Receiver<u64>, watch::Receiver<u64>) {
    (a.changed(), b.changed())
}

/// Waits until every copy of the volume is ready with at least `size` bytes. A failure that is reported for `patience` without
/// interruption counts as lasting.
pub(crate) async fn until_ready(
    state: &State,
    name: &str,
    size: i64,
    patience: Duration,
    deadline: Instant,
) -> Readiness {
    let (mut volumes, mut replicas) =
        changes(&state.objects.volumes.store, &state.objects.replicas.store);
    let mut failing_since: Option<Instant> = None;
    loop {
        volumes.mark_unchanged();
        replicas.mark_unchanged();
        let (why, until) = match glance(state, name, size) {
            Glance::Ready { volume, allocated } => return Readiness::Ready { volume, allocated },
            Glance::Leaving => return Readiness::Leaving,
            Glance::Waiting {
                why,
                failing: false,
                ..
            } => {
                failing_since = None;
                (why, deadline)
            }
            Glance::Waiting {
                why, lasting: true, ..
            } => return Readiness::Failed { why },
            Glance::Waiting { why, .. } => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= patience {
                    return Readiness::Failed { why };
                }
                (why, deadline.min(since + patience))
            }
        };
        if Instant::now() >= deadline {
            return Readiness::NotYet { why };
        }
        let _ = timeout_at(until, either(&mut volumes, &mut replicas)).await;
    }
}

/// Waits until the volume's object is gone; false if the deadline came first.
pub(crate) async fn until_gone(state: &State, name: &str, deadline: Instant) -> bool {
    let mut volumes = state.objects.volumes.store.changed();
    loop {
        volumes.mark_unchanged();
        if state.objects.volumes.store.get(name).is_none() {
            return true;
        }
        if timeout_at(deadline, volumes.changed()).await.is_err() {
            return false;
        }
    }
}
