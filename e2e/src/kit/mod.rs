//! What scenarios and the demonstration share: a namespace of their own, waiting with a reason, claims and pods, commands in pods, writers whose
//! acknowledged writes can be verified, disks of their own, and what to keep when something fails. Knows the lab and Kubernetes; decides nothing.

pub(crate) mod cleanup;
pub(crate) mod disks;
pub(crate) mod dump;
pub(crate) mod events;
pub(crate) mod faults;
pub(crate) mod nodes;
pub(crate) mod objects;
pub(crate) mod pods;
pub(crate) mod scope;
pub(crate) mod volumes;
pub(crate) mod wait;
pub(crate) mod writer;

pub(crate) use scope::Scope;
pub(crate) use wait::{Pending, wait_for};
