//! CSI Controller service and the cluster-wide controllers.

fn main() {}
