//! `LocalStorageNode` and `LocalDiskNode`: a node that has data keeps its objects, which hold what can't be told from the disks.

use hawser_api::{LocalDiskNode, LocalStorageNode};
use kube::ResourceExt;

use super::{Fault, Kind, fixed};
use crate::gather::{Found, Round};

/// What is known around a node.
#[derive(Debug)]
pub(super) struct Known {
    /// Whether the cluster has the node.
    node: Found<()>,
    /// Volumes that have data there.
    volumes: Vec<String>,
}

async fn known(round: &Round<'_>, name: &str) -> Known {
    Known {
        node: round.node(name).await,
        volumes: round.volumes_on(name),
    }
}

fn no_node(name: &str, known: &Known) -> Vec<Fault> {
    if known.node != Found::Missing {
        return Vec::new();
    }
    vec![Fault::invalid(
        "metadata.name",
        format!(
            "there is no node {name:?}: the object has the name of its node, and the node's daemon makes it"
        ),
    )]
}

impl Kind for LocalStorageNode {
    const NAME: &'static str = "LocalStorageNode";
    type Known = Known;

    async fn known(round: &Round<'_>, _: Option<&Self>, new: &Self) -> Known {
        known(round, &new.name_any()).await
    }

    fn faults(&self, known: &Known) -> Vec<Fault> {
        no_node(&self.name_any(), known)
    }

    fn step(old: &Self, new: &Self, _: &Known) -> Vec<Fault> {
        let mut faults = Vec::new();
        fixed(
            "spec.hostname",
            (&old.spec.hostname, &new.spec.hostname),
            "it is the name of the node",
            &mut faults,
        );
        faults
    }

    fn held(&self, known: &Known) -> Vec<Fault> {
        // A node that is no more takes its objects along, whatever was on it.
        let Some(volume) = known
            .volumes
            .first()
            .filter(|_| known.node != Found::Missing)
        else {
            return Vec::new();
        };
        vec![Fault::in_use(
            "delete",
            format!(
                "it has {} volumes, LocalVolume {volume:?} among them: give them up first, or remove the node from the cluster",
                known.volumes.len()
            ),
        )]
    }
}

impl Kind for LocalDiskNode {
    const NAME: &'static str = "LocalDiskNode";
    type Known = Known;

    async fn known(round: &Round<'_>, _: Option<&Self>, new: &Self) -> Known {
        known(round, &new.name_any()).await
    }

    fn faults(&self, known: &Known) -> Vec<Fault> {
        no_node(&self.name_any(), known)
    }

    fn step(old: &Self, new: &Self, _: &Known) -> Vec<Fault> {
        let mut faults = Vec::new();
        fixed(
            "spec.nodeName",
            (&old.spec.node_name, &new.spec.node_name),
            "it is the name of the node",
            &mut faults,
        );
        faults
    }

    fn held(&self, known: &Known) -> Vec<Fault> {
        let records = self
            .status
            .as_ref()
            .is_some_and(|s| !s.pool_extend_records.is_empty());
        if !records || known.node == Found::Missing {
            return Vec::new();
        }
        vec![Fault::in_use(
            "delete",
            "it records which disks were given to the node's pools, which nothing else does: remove the node from the cluster first",
        )]
    }
}
