//! Which nodes Kubernetes says a volume is attached to. Asked of the API server when a decision depends on it, which is rare:
//! a volume's own record (`publishedNode`) is what counts, and this tells whether that is a leftover.

use std::collections::BTreeSet;

use hawser_api::{LocalVolume, names};
use hawser_runtime::events::Severity;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{decide::volume::published_node, objects::WriteError, state::State};

/// A volume's handle and a node.
pub(crate) type Attachment = (String, String);

/// All attachments of our driver, also those that are being made or undone. Those whose persistent volume is not known (any
/// more) are left out.
pub(crate) async fn list(state: &State) -> Result<BTreeSet<Attachment>, WriteError> {
    let api: Api<VolumeAttachment> = Api::all(state.client.clone());
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(|error| WriteError::Unavailable {
            what: "list VolumeAttachments".to_owned(),
            why: hawser_runtime::telemetry::chain(&error).to_string(),
        })?;
    let ours = all
        .items
        .into_iter()
        .filter(|a| a.spec.attacher == names::LVM_DRIVER);
    let handle = |persistent: &str| {
        let known = state.persistent.get(persistent);
        // Volumes that were made by us have the handle as name.
        known
            .as_deref()
            .and_then(crate::state::handle_of)
            .map_or_else(|| persistent.to_owned(), str::to_owned)
    };
    Ok(ours
        .filter_map(|a| {
            Some((
                handle(a.spec.source.persistent_volume_name.as_deref()?),
                a.spec.node_name,
            ))
        })
        .collect())
}

/// Clears the record that the volume is published, if no attachment backs it. Returns the volume as it is then.
///
/// A record without attachment is left when an attachment was deleted by force, or by what ran here before.
pub(crate) async fn heal(state: &State, volume: &LocalVolume) -> Result<LocalVolume, WriteError> {
    let Some(node) = published_node(volume) else {
        return Ok(volume.clone());
    };
    let name = volume.name_any();
    if list(state)
        .await?
        .contains(&(name.clone(), node.to_owned()))
    {
        return Ok(volume.clone());
    }
    let message = format!(
        "was recorded as published on node {node}, and no attachment says so: record cleared"
    );
    tracing::info!(volume = %name, node, "stale publication cleared");
    state
        .events
        .record(volume, Severity::Normal, "PublicationCleared", message);
    clear(state, volume).await
}

/// Records that the volume is published nowhere.
pub(crate) async fn clear(state: &State, volume: &LocalVolume) -> Result<LocalVolume, WriteError> {
    state
        .objects
        .change_status(volume, |v| {
            let status = v.status.get_or_insert_default();
            status.published_node.clear();
            status.raw_block = false;
        })
        .await
}
