//! Pods: drawn to their data when they are made.

pub(crate) mod affinity;
mod decide;
pub(crate) mod locality;
mod patch;
mod view;

pub(crate) use decide::{Known, KnownClaim, Source, decide, judge_locality};
pub(crate) use patch::patch;
pub(crate) use view::PodView;
