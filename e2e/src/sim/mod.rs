//! Simulated nodes: what takes hundreds of nodes is tried without booting them.
//!
//! Real are etcd, the API server, the controller manager, both schedulers, csi-provisioner, and Hawser's extender, webhook and provisioner, each a process
//! with the arguments, settings and rights that the manifests give its container. One program plays the nodes: it is their kubelets and their node daemons,
//! and says what must never be. Owns the processes, the played nodes and the checks; what is to hold is said in `scenario::sim`, what is measured in [`bench`].

mod audit;
pub(crate) mod bench;
mod cli;
mod cpu;
mod deployed;
mod disks;
pub(crate) mod http;
mod kubelet;
mod lab;
pub(crate) mod nodes;
mod play;
pub(crate) mod service;
mod storage;
pub(crate) mod up;
pub(crate) mod witness;
pub(crate) mod world;
mod wrong;

pub(crate) use cli::{Command, run};
pub(crate) use lab::Sim;
pub(crate) use service::{Service, Settings};
pub(crate) use world::{Wish, World};
