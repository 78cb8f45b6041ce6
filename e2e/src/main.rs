//! The lab: a real Kubernetes cluster on one machine, and the scenarios that run on it.

#[allow(dead_code, reason = "the command that runs checks comes with the lab")]
mod check;
#[allow(dead_code, reason = "the commands that build images come with the lab")]
mod image;

fn main() {}
