//! The provisioner: CSI Controller service and the cluster-wide controllers, in one process of which one leads.
//!
//! `csi` parses and answers, `decide` decides (pure), `objects` writes to `remote`; `controllers` carry on from the objects alone.

pub mod app;
pub mod args;
mod attachments;
mod capacity;
pub mod controllers;
pub mod csi;
pub mod decide;
pub mod guard;
pub mod objects;
pub mod remote;
pub mod reserve;
mod since;
pub mod state;
pub mod through;
mod uninstall;
mod wait;
pub mod waiting;
mod wake;
