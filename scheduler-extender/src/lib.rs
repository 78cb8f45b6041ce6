//! Answers kube-scheduler: which nodes can take a pod's volumes, and which is best.
//!
//! `watch` (or `dump`) fills the inventory, `wire` parses requests and writes answers, `decide` decides, `recent` remembers what was
//! answered moments ago, `serve` listens. Writes nothing to the cluster. A library so that benchmarks and tests reach the parts;
//! the program is `main`.

pub mod app;
pub mod args;
pub mod decide;
pub mod dump;
mod freshness;
pub mod recent;
pub mod serve;
pub mod watch;
pub mod wire;

pub use freshness::{Freshness, Staleness};
