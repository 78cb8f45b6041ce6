//! `DeleteVolume`: records the request and waits a moment. The node destroys the data in its own time; until then the volume stays
//! visible and its room stays counted, so answering early gives nothing away.

use std::{sync::Arc, time::Duration};

use hawser_csi::v1::{DeleteVolumeRequest, DeleteVolumeResponse};
use tokio::time::Instant;

use super::{create::request_deletion, refusal::Refusal, request};
use crate::{state::State, wait};

/// How long the answer waits for a volume that is destroyed quickly.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves the call. A volume that is not there (any more) is deleted.
pub(super) async fn delete(
    state: Arc<State>,
    request: DeleteVolumeRequest,
) -> Result<DeleteVolumeResponse, Refusal> {
    let id = request::volume_id(&request.volume_id)?.to_owned();
    drop(request);
    serve(state, id).await
}

/// Has the volume destroyed.
pub async fn serve(state: Arc<State>, id: String) -> Result<DeleteVolumeResponse, Refusal> {
    let _guard = state
        .guards
        .take(&id)
        .ok_or_else(|| Refusal::aborted(format!("another call is working on volume {id:?}")))?;
    if !crate::decide::name::is_volume_name(&id) {
        return Ok(DeleteVolumeResponse {});
    }
    request_deletion(&state, &id).await?;
    if !wait::until_gone(&state, &id, Instant::now() + PATIENCE).await {
        tracing::info!(volume = %id, "its node still destroys the data");
    }
    Ok(DeleteVolumeResponse {})
}
