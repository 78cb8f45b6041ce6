//! CSI Node service; makes this node's disks, pools and volumes match what is asked.

fn main() {}
