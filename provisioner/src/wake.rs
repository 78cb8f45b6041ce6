//! Wakes pods that wait for room, when there is more of it.
//!
//! kube-scheduler tries a pod that the extender has refused again when an object changes that it watches, or at the latest after
//! a minute. It watches none of ours: of a disk that was added, or a volume that was wiped, it hears nothing. So the time at
//! which room grew is written into an annotation of our `CSIDriver` object, every change of which wakes the pods that wait for
//! volumes (`framework.UnrollWildCardResource` and the events of the plugin `VolumeBinding`, Kubernetes 1.37).
//!
//! Where `CSIStorageCapacity` objects are published these do the same.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hawser_api::names;
use hawser_placement::{Cluster, PoolClass};
use hawser_runtime::telemetry::chain;
use k8s_openapi::{api::storage::v1::CSIDriver, jiff::Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{csi::room::room, state::State};

/// On our `CSIDriver`: when somewhere room grew.
const ROOM_GREW: &str = "hawser.io/room-grew";
/// How often room is measured at most, while it changes: room that is taken and given back between two measurements goes unseen.
const MEASURE: Duration = Duration::from_millis(100);
/// How often at most all waiting pods are tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(10);

/// The largest volume that can be made, by node and class.
type Room = BTreeMap<(String, PoolClass), u64>;

fn measure(cluster: &Cluster) -> Room {
    let classes = [PoolClass::Hdd, PoolClass::Ssd, PoolClass::Nvme];
    cluster
        .nodes()
        .flat_map(|node| classes.map(|class| (node, class)))
        .map(|(node, class)| ((node.name.to_string(), class), room(node, Some(class)).1))
        .filter(|(_, bytes)| *bytes > 0)
        .collect()
}

/// Whether anywhere there is more than there was.
fn grew(before: &Room, now: &Room) -> bool {
    now.iter()
        .any(|(place, bytes)| before.get(place).is_none_or(|was| bytes > was))
}

/// Follows the inventory until shutdown.
pub(crate) async fn keep_waking(state: Arc<State>, token: CancellationToken) {
    if state.settings.publish_capacity {
        return;
    }
    let mut changed = state.inventory.changed();
    // Nothing is known of what was before: pods are woken once when a provisioner begins to lead.
    let mut before = Room::new();
    // When growth that nobody was told of is told at the earliest.
    let mut due: Option<Instant> = None;
    let mut free = Instant::now();
    loop {
        changed.mark_unchanged();
        let now = measure(&state.inventory.cluster());
        if due.is_none() && grew(&before, &now) {
            due = Some(free);
        }
        before = now;
        if due.is_some_and(|due| due <= Instant::now()) {
            due = match tell(&state).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "waiting pods are not told that there is more room, trying again");
                    Some(Instant::now() + AGAIN)
                }
            };
            free = Instant::now() + PAUSE;
        }
        let next = async {
            tokio::time::sleep(MEASURE).await;
            match due {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, changed.changed()).await;
                }
                None => {
                    let _ = changed.changed().await;
                }
            }
        };
        if token.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

/// Writes the annotation. Without a `CSIDriver` object there is nobody to tell.
async fn tell(state: &State) -> Result<(), kube::Error> {
    let api: Api<CSIDriver> = Api::all(state.client.clone());
    let patch =
        json!({ "metadata": { "annotations": { ROOM_GREW: Timestamp::now().to_string() } } });
    let sent = api
        .patch_metadata(
            names::LVM_DRIVER,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await;
    match sent {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room_of(places: &[(&str, u64)]) -> Room {
        let place = |(node, bytes): &(&str, u64)| (((*node).to_owned(), PoolClass::Ssd), *bytes);
        places.iter().map(place).collect()
    }

    #[test]
    fn more_room_anywhere_is_growth_and_less_or_none_is_not() {
        let before = room_of(&[("n1", 5), ("n2", 5)]);
        for (now, expected) in [
            (room_of(&[("n1", 5), ("n2", 5)]), false),
            (room_of(&[("n1", 4)]), false),
            (room_of(&[("n1", 1), ("n2", 6)]), true),
            (room_of(&[("n1", 5), ("n2", 5), ("n3", 1)]), true),
        ] {
            assert_eq!(grew(&before, &now), expected, "{now:?}");
        }
    }
}
