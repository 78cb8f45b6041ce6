//! Claims for disks of a node that does not exist: nobody else would ever say so. All others belong to their node's daemon.

use std::{sync::Arc, time::Duration};

use hawser_api::ClaimPhase;
use hawser_runtime::{events::Severity, reconcile::Action};

use crate::{objects::WriteError, state::State};

/// How often the claim is looked at again: its node may be added.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Looks at one claim.
pub(crate) async fn reconcile(state: Arc<State>, key: String) -> Result<Action, WriteError> {
    let Some(claim) = state.objects.disk_claims.store.get(&key) else {
        return Ok(Action::Done);
    };
    let status = claim.status.clone().unwrap_or_default();
    let undecided = matches!(status.status, ClaimPhase::Unset | ClaimPhase::Pending);
    let node = &claim.spec.node_name;
    if !undecided
        || claim.metadata.deletion_timestamp.is_some()
        || state.knows_node(node)
        || state.storage_nodes.get(node).is_some()
    {
        return Ok(Action::Done);
    }
    let message = format!(
        "spec.nodeName is {node:?}; there is no node of that name. Correct it, or add the node"
    );
    if status.status != ClaimPhase::Pending || status.message != message {
        state
            .events
            .record(&*claim, Severity::Warning, "UnknownNode", message.clone());
        let write = state.objects.change_status(&*claim, |c| {
            let status = c.status.get_or_insert_default();
            status.status = ClaimPhase::Pending;
            status.message = message;
        });
        write.await?;
    }
    Ok(Action::RequeueAfter(LOOK_AGAIN))
}
