//! A real provisioner, called over its socket, in a cluster in memory: each call first, repeated, conflicting, concurrent, and
//! killed between any two steps.

mod capacity;
mod crash;
mod create;
mod delete;
mod expand;
mod joint;
mod leader;
mod objects;
mod publish;
mod read;
mod support;
mod wrong;
