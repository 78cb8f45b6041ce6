//! Errors as gRPC statuses, after the tables of the CSI specification.

use hawser_runtime::telemetry::chain;
use tonic::Status;

use crate::mount::MountError;
use crate::replica::node::NodeError;

/// The status of an error of the node.
pub fn of_node(error: &NodeError) -> Status {
    match error {
        NodeError::NotFound { .. } => Status::not_found(error.to_string()),
        NodeError::Unusable(sentence) => Status::failed_precondition(sentence.clone()),
        NodeError::Mount(error) => of_mount(error),
        NodeError::Effect(_) | NodeError::Restless { .. } => {
            Status::internal(chain(error).to_string())
        }
    }
}

/// The status of an error of a mount or file system.
pub fn of_mount(error: &MountError) -> Status {
    let sentence = chain(error).to_string();
    match error {
        // A person has to look at it; trying again does not help.
        MountError::Damaged { .. } => Status::failed_precondition(sentence),
        // Another try may find it answering.
        MountError::NoAnswer { .. } => Status::unavailable(sentence),
        MountError::System { .. } | MountError::Tool(_) | MountError::Probe { .. } => {
            Status::internal(sentence)
        }
    }
}

/// Somebody else is at work on the volume.
pub fn busy(volume: &str) -> Status {
    Status::aborted(format!(
        "another operation on volume {volume} is under way: try again"
    ))
}
