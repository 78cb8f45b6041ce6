//! Persistent volumes: that a volume has one is noted on it; and if one was made by hand, or bound to another claim, the volume's
//! record of its claim follows.

use std::sync::Arc;

use hawser_runtime::{events::Severity, reconcile::Action};

use crate::{
    decide::volume::{is_unbound, mark_bound},
    objects::WriteError,
    state::{State, handle_of},
};

/// Looks at one persistent volume of ours.
pub async fn reconcile(state: Arc<State>, key: String) -> Result<Action, WriteError> {
    let Some(persistent) = state.persistent.get(&key) else {
        return Ok(Action::Done);
    };
    let volume = handle_of(&persistent).and_then(|handle| state.objects.volumes.store.get(handle));
    if let Some(volume) = volume.filter(|v| is_unbound(v)) {
        state.objects.change(&*volume, mark_bound).await?;
    }
    let bound = persistent
        .status
        .as_ref()
        .is_some_and(|s| s.phase.as_deref() == Some("Bound"));
    let claim = persistent.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let (true, Some(handle), Some(claim)) = (bound, handle_of(&persistent), claim) else {
        return Ok(Action::Done);
    };
    let Some(volume) = state.objects.volumes.store.get(handle) else {
        return Ok(Action::Done);
    };
    let (namespace, name) = (
        claim.namespace.clone().unwrap_or_default(),
        claim.name.clone().unwrap_or_default(),
    );
    if volume.spec.delete
        || (volume.spec.pvc_namespace == namespace && volume.spec.pvc_name == name)
    {
        return Ok(Action::Done);
    }
    let message = format!("belongs to claim {namespace}/{name} now");
    tracing::info!(volume = %handle, claim = %format!("{namespace}/{name}"), "volume has another claim");
    let change = state.objects.change(&*volume, |v| {
        v.spec.pvc_namespace = namespace;
        v.spec.pvc_name = name;
    });
    let volume = change.await?;
    state
        .events
        .record(&volume, Severity::Normal, "ClaimChanged", message);
    Ok(Action::Done)
}
