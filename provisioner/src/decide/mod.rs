//! Decisions: pure functions from what was observed to what is to be done. No API calls, no clock but the one handed in.

pub mod claimant;
pub mod expand;
pub mod fence;
pub mod group;
pub mod name;
pub mod page;
pub mod publish;
pub mod replica;
pub mod reserve;
pub mod size;
pub mod volume;
