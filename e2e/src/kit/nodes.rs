//! What is on the nodes, past Kubernetes and Hawser.

use anyhow::{Result, ensure};

use crate::lab::Lab;

/// Lists what volumes leave on a node: logical volumes, device-mapper devices (but those of which the lab makes its disks), and mounts.
const VOLUMES: &str = "lvs --noheadings -o lv_name; dmsetup ls | grep -v -e 'No devices' -e '^shelf-'; \
                       findmnt -n -o TARGET | grep -e kubernetes.io~csi -e kubernetes.io/csi";

/// Fails if there is anything of a volume on any node.
pub(crate) fn no_volumes(lab: &Lab) -> Result<()> {
    for node in lab.nodes()? {
        let left = lab.sh(&node, VOLUMES)?.stdout;
        ensure!(left.trim().is_empty(), "{node} still has:\n{left}");
    }
    Ok(())
}
