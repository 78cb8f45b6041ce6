//! Answers kube-scheduler: which nodes can take a pod's volumes, and which is best.
//!
//! `watch` (or `dump`) fills the inventory, `wire` parses requests and writes answers, `decide` decides, `recent` remembers what was
//! answered moments ago, `serve` listens. `why` and `simulate` explain to people what was (`record`), is and would be decided.
//! Writes nothing to the cluster. A library so that benchmarks and tests reach the parts;
//! the program is `main`.

pub mod app;
pub mod args;
pub mod decide;
pub mod dump;
mod freshness;
pub mod pods;
mod problem;
pub mod recent;
mod record;
pub mod serve;
mod simulate;
mod verdict;
pub mod watch;
mod why;
pub mod wire;

pub use freshness::{Freshness, Staleness};
