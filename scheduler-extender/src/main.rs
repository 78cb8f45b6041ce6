//! Answers kube-scheduler: which nodes can take a pod's volumes, and which is best.

fn main() {}
