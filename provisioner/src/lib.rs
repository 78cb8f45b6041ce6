//! The provisioner: CSI Controller service and the cluster-wide controllers, in one process of which one leads.
//!
//! `csi` parses and answers, `decide` decides (pure), `objects` writes; `controllers` carry on from the objects alone.

pub mod app;
pub mod args;
mod attachments;
mod capacity;
mod controllers;
pub mod csi;
pub mod decide;
pub mod guard;
pub mod objects;
mod reserve;
mod since;
pub mod state;
pub mod through;
mod uninstall;
mod wait;
mod wake;
