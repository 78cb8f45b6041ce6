//! The Node service on the wire: checks requests, takes the volume, and runs the operation to its end even if the caller goes away.

use std::sync::Arc;
use std::time::Duration;

use hawser_csi::v1::node_server::Node as NodeRpc;
use hawser_csi::v1::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodeGetStorageHealthRequest, NodeGetStorageHealthResponse, NodeGetVolumeHealthRequest,
    NodeGetVolumeHealthResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;

use super::Settings;
use super::request::{KubeletDir, capability, required_bytes, volume_id};
use super::status::busy;
use crate::replica::node::Node;

/// How long a call waits for the volume's upkeep.
const UPKEEP: Duration = Duration::from_secs(60);

/// The service. Clones share.
#[derive(Clone)]
pub struct NodeService {
    pub(super) node: Arc<Node>,
    pub(super) node_name: String,
    pub(super) kubelet: KubeletDir,
}

impl NodeService {
    /// A service over this node's volumes.
    pub fn new(settings: &Settings, node: Arc<Node>) -> Self {
        Self {
            node,
            node_name: settings.node_name.clone(),
            kubelet: KubeletDir::new(&settings.kubelet_dir),
        }
    }

    /// Runs an operation alone on its volume, in a task of its own: kubelet gives up after two minutes and asks again, and what it
    /// gave up on must neither be cut off in the middle nor run twice.
    async fn alone<T: Send + 'static>(
        &self,
        operation: &'static str,
        volume: &str,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let taken = tokio::time::timeout(UPKEEP, self.node.locks.for_call(volume)).await;
        let guard = taken.ok().flatten().ok_or_else(|| busy(volume))?;
        let span = tracing::info_span!("csi", operation, volume);
        let listener = self.node.listener.clone();
        let name = volume.to_owned();
        let task = async move {
            let result = work.await;
            drop(guard);
            match &result {
                Ok(_) => tracing::info!("done"),
                Err(status) => log(status),
            }
            // Whether the volume is in use is part of its replica's status.
            listener(&name);
            result
        };
        let result = tokio::spawn(task.instrument(span)).await;
        let answer = result.unwrap_or_else(|error| {
            Err(Status::internal(format!(
                "{operation} was cut off: {error}"
            )))
        });
        answer.map(Response::new)
    }
}

/// A wrong request is its sender's matter, the rest is ours.
fn log(status: &Status) {
    let (code, message) = (status.code(), status.message());
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        tracing::error!(?code, message, "failed");
    } else {
        tracing::info!(?code, message, "refused");
    }
}

#[tonic::async_trait]
impl NodeRpc for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?.to_owned();
        let path = self
            .kubelet
            .check("staging_target_path", &request.staging_target_path)?;
        let capability = capability(request.volume_capability.as_ref())?;
        let (this, name) = (self.clone(), volume.clone());
        let work = async move {
            this.stage(&name, &path, &capability).await?;
            Ok(NodeStageVolumeResponse {})
        };
        self.alone("stage", &volume, work).await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?.to_owned();
        let path = self
            .kubelet
            .check("staging_target_path", &request.staging_target_path)?;
        let this = self.clone();
        let work = async move {
            this.unmount_all(&path).await?;
            Ok(NodeUnstageVolumeResponse {})
        };
        self.alone("unstage", &volume, work).await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?.to_owned();
        let target = self.kubelet.check("target_path", &request.target_path)?;
        // Empty for attachments of before staging was offered.
        let staging = match request.staging_target_path.as_str() {
            "" => None,
            path => Some(self.kubelet.check("staging_target_path", path)?),
        };
        let capability = capability(request.volume_capability.as_ref())?;
        let (this, name) = (self.clone(), volume.clone());
        let work = async move {
            this.publish(
                &name,
                staging.as_deref(),
                &target,
                &capability,
                request.readonly,
            )
            .await?;
            Ok(NodePublishVolumeResponse {})
        };
        self.alone("publish", &volume, work).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?.to_owned();
        let target = self.kubelet.check("target_path", &request.target_path)?;
        let this = self.clone();
        let work = async move {
            this.unpublish(&target).await?;
            Ok(NodeUnpublishVolumeResponse {})
        };
        self.alone("unpublish", &volume, work).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?;
        if request.volume_path.is_empty() {
            return Err(Status::invalid_argument(
                "volume_path is empty: a path where the volume is published is required",
            ));
        }
        self.stats(volume, std::path::Path::new(&request.volume_path))
            .await
            .map(Response::new)
    }

    async fn node_get_volume_health(
        &self,
        request: Request<NodeGetVolumeHealthRequest>,
    ) -> Result<Response<NodeGetVolumeHealthResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?;
        self.volume_health(volume).await.map(Response::new)
    }

    async fn node_get_storage_health(
        &self,
        _request: Request<NodeGetStorageHealthRequest>,
    ) -> Result<Response<NodeGetStorageHealthResponse>, Status> {
        Err(Status::unimplemented(
            "GET_STORAGE_HEALTH is not offered: LocalStorageNode objects show the health of pools",
        ))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = volume_id(&request.volume_id)?.to_owned();
        if request.volume_path.is_empty() {
            return Err(Status::invalid_argument(
                "volume_path is empty: a path where the volume is published is required",
            ));
        }
        let required = required_bytes(request.capacity_range.as_ref())?;
        let block = match request.volume_capability.as_ref() {
            None => None,
            given => Some(capability(given)?.access == super::request::Access::Block),
        };
        let (this, name) = (self.clone(), volume.clone());
        let work = async move {
            let capacity_bytes = this
                .expand(&name, &request.volume_path, required, block)
                .await?;
            Ok(NodeExpandVolumeResponse { capacity_bytes })
        };
        self.alone("expand", &volume, work).await
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        Ok(Response::new(super::info::capabilities()))
    }

    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.info().await.map(Response::new)
    }
}
