//! The hwameistor.io/v1alpha1 API: custom resources, labels, annotations, StorageClass parameters, extender wire types.
//!
//! Each kind is a struct of its name with `spec` and `status`; all are cluster scoped. `StoragePolicy` is of Hawser's own group. A stored object always decodes: see
//! `schema`. Optional texts, lists and flags are plain values whose empty form means absent; an `Option` number
//! is one whose absence is not zero. What is empty is not written, so write a whole status (replace or server-side apply),
//! not a merge patch, when a value may become empty.

#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns of one kind share their type: https://github.com/rust-lang/rust-clippy/issues/12537"
)]

mod schema;
mod string_enum;

mod common;
mod convert;
mod disk;
mod disk_action;
mod disk_claim;
mod disk_node;
mod disk_volume;
mod event;
mod expand;
mod group;
mod migrate;
mod policy;
mod pool;
mod replica;
mod resize_policy;
mod snapshot;
mod snapshot_restore;
mod storage_node;
mod thin_pool;
mod volume;

pub mod crd;
pub mod extender;
pub mod names;
pub mod parameters;
pub mod quantity;

pub use common::*;
pub use convert::*;
pub use disk::*;
pub use disk_action::*;
pub use disk_claim::*;
pub use disk_node::*;
pub use disk_volume::*;
pub use event::*;
pub use expand::*;
pub use group::*;
pub use migrate::*;
pub use policy::*;
pub use pool::*;
pub use replica::*;
pub use resize_policy::*;
pub use snapshot::*;
pub use snapshot_restore::*;
pub use storage_node::*;
pub use thin_pool::*;
pub use volume::*;
