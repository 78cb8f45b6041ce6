//! CSI Identity and Controller on a unix socket: requests parsed, decisions asked for, errors mapped to codes.

mod call;
mod controller;
pub mod create;
pub mod delete;
mod expand;
pub mod identity;
mod list;
mod publish;
pub mod refusal;
pub mod request;
pub mod room;
pub mod server;

use hawser_api::names;
use hawser_csi::v1::Topology;

/// The topology of a node.
#[must_use]
pub fn topology_of(node: String) -> Topology {
    Topology {
        segments: [(names::LVM_TOPOLOGY_KEY.to_owned(), node)].into(),
    }
}
