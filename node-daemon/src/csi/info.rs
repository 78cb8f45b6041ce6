//! What this node is and can.

use std::collections::HashMap;

use hawser_api::names::{LVM_TOPOLOGY_KEY, pools};
use hawser_csi::v1::node_service_capability::rpc::Type as Rpc;
use hawser_csi::v1::{
    NodeGetCapabilitiesResponse, NodeGetInfoResponse, NodeServiceCapability, Topology,
    node_service_capability,
};
use tonic::Status;

use super::service::NodeService;
use super::status::of_node;

/// Pools that a node has at most: one for each class of disks.
const CLASSES: i64 = 3;

/// What the service offers. The health of a volume is offered in both ways: `VOLUME_CONDITION` is what Kubernetes up to 1.36 asks
/// for, `GET_VOLUME_HEALTH` what came after.
pub fn capabilities() -> NodeGetCapabilitiesResponse {
    let rpcs = [
        Rpc::StageUnstageVolume,
        Rpc::ExpandVolume,
        Rpc::GetVolumeStats,
        Rpc::VolumeCondition,
        Rpc::GetVolumeHealth,
        Rpc::SingleNodeMultiWriter,
    ];
    let capability = |rpc: Rpc| NodeServiceCapability {
        r#type: Some(node_service_capability::Type::Rpc(
            node_service_capability::Rpc { r#type: rpc.into() },
        )),
    };
    NodeGetCapabilitiesResponse {
        capabilities: rpcs.map(capability).to_vec(),
    }
}

/// How many volumes a node with so many pools can hold: placement puts at most [`pools::MAX_VOLUMES`] into one. Before there is a
/// pool, what it could get to, since kubelet asks when the driver registers and may never ask again.
fn max_volumes(pool_count: usize) -> i64 {
    let count = i64::try_from(pool_count).unwrap_or(CLASSES);
    pools::MAX_VOLUMES * if count == 0 { CLASSES } else { count }
}

impl NodeService {
    pub(super) async fn info(&self) -> Result<NodeGetInfoResponse, Status> {
        let actual = self.node.observe().await.map_err(|error| of_node(&error))?;
        let count = actual
            .report
            .vgs
            .iter()
            .filter(|vg| vg.name.starts_with(pools::VG_PREFIX))
            .count();
        let segments = HashMap::from([(LVM_TOPOLOGY_KEY.to_owned(), self.node_name.clone())]);
        Ok(NodeGetInfoResponse {
            node_id: self.node_name.clone(),
            max_volumes_per_node: max_volumes(count),
            accessible_topology: Some(Topology { segments }),
        })
    }
}
