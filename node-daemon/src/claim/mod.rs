//! Giving disks away: `LocalDiskClaim` objects of this node.
//!
//! Owns: which disks a claim gets, binding them, the claim's states up to its end. Does not own: the disks' objects
//! otherwise (`disk`), nor how a disk gets into a pool (`pool`).

pub mod decide;
pub mod keep;
