//! Folds watched cluster objects into the snapshot that placement decides on, and a pod with its claims into the question.
//!
//! Owns: what each object means for room, copies and reservations (see `account`), which claims are ours and what they ask
//! for (see `demand`), and what is decided but not reserved yet (see `pending`). Not here: watching (objects come in through [`Fold`]), deciding (placement), writing.
//!
//! One event touches one or two nodes of the snapshot and takes time in proportion to what is on them, not to the cluster.
//! The snapshot depends only on the objects that are there, not on the order in which they came.
//!
//! No pods are watched: who asks brings the pod, and reservations name their owner themselves.

mod account;
mod claim;
mod demand;
mod facts;
mod fold;
mod inventory;
mod links;
mod names;
mod pending;
mod suppose;

pub use demand::{Unknown, constraints};
pub use fold::{Fold, Key, Listing, reset};
pub use inventory::Inventory;
pub use suppose::Supposed;
