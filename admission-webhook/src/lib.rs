//! Gives pods the locality of their volumes at admission, gives claims their defaults, and refuses what policies or sense forbid.
//!
//! `wire` (HTTPS, `AdmissionReview`) -> `gather` (what is known of the cluster) -> `pods`, `claims`, `classes`, `objects`, `policy` (pure) -> the
//! answer. `certificate` keeps the webhook's own certificates. Writes nothing but its Secret, the bundle in its own configurations, and the
//! status of policies.
//!
//! A library so that tests and the load example run the same code as the program; what is public is for them.

pub mod app;
pub mod args;
pub mod certificate;
mod claims;
mod classes;
mod copies;
mod facts;
mod gather;
mod objects;
mod pods;
mod policy;
mod pools;
pub mod server;
mod wire;

pub use wire::{BODY_LIMIT, BODY_TIMEOUT, Reader};
