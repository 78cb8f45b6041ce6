//! Leftover publications: a volume that is recorded as published on a node, and no attachment says so, could go nowhere else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::ResourceExt;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    attachments::{self, Attachment},
    decide::volume::published_node,
    objects::WriteError,
    state::State,
};

/// A leftover is cleared when it is seen twice, this far apart: an attachment may be about to be recorded.
const PERIOD: Duration = Duration::from_secs(60);

/// Looks at all publications, until shutdown.
pub(crate) async fn sweep(state: Arc<State>, token: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspects = BTreeSet::new();
    while token.run_until_cancelled(ticks.tick()).await.is_some() {
        match look(&state, &suspects).await {
            Ok(found) => suspects = found,
            Err(error) => tracing::warn!(%error, "publications not checked"),
        }
    }
}

/// Clears what was suspect before and is still; returns what is suspect now.
async fn look(
    state: &State,
    before: &BTreeSet<Attachment>,
) -> Result<BTreeSet<Attachment>, WriteError> {
    let published = state
        .objects
        .volumes
        .store
        .filter(|v| published_node(v).is_some());
    if published.is_empty() {
        return Ok(BTreeSet::new());
    }
    let attached = attachments::list(state).await?;
    let mut suspects = BTreeSet::new();
    for volume in published {
        let node = published_node(&volume).unwrap_or_default().to_owned();
        let record = (volume.name_any(), node);
        // Without a persistent volume Kubernetes has no say: somebody drives us by hand.
        if attached.contains(&record) || state.persistent_of(&record.0).is_empty() {
            continue;
        }
        if !before.contains(&record) {
            suspects.insert(record);
            continue;
        }
        match attachments::heal(state, &volume).await {
            Ok(_) | Err(WriteError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(suspects)
}
