//! What is on the nodes, past Kubernetes and Hawser.

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;

/// Lists what volumes leave on a node: logical volumes, device-mapper devices (but those of which the lab makes its disks), and mounts.
/// A look that fails is an error, not an empty list.
const VOLUMES: &str = "set -e -o pipefail; lvs --noheadings -o lv_name; \
                       dmsetup ls | { grep -v -e 'No devices' -e '^shelf-' || test $? = 1; }; \
                       findmnt -n -o TARGET | { grep -e kubernetes.io~csi -e kubernetes.io/csi || test $? = 1; }";

/// Fails if there is anything of a volume on any node.
pub(crate) fn no_volumes(lab: &Lab) -> Result<()> {
    for node in lab.nodes()? {
        let left = lab
            .sh(&node, VOLUMES)?
            .checked()
            .with_context(|| format!("looking for what volumes left on {node}"))?;
        ensure!(left.trim().is_empty(), "{node} still has:\n{left}");
    }
    Ok(())
}
