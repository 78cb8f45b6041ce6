//! Whether a volume may be given to a node, and what a node is told with it. Pure.

use std::{collections::HashMap, sync::Arc};

use hawser_api::{LocalVolume, LocalVolumeReplica, ReplicaState};
use kube::ResourceExt;

use super::{replica, volume};

/// Keys of the publish context, as attachments of running clusters have them.
pub mod keys {
    pub const DEVICE: &str = "volumeReplicaDevicePath";
    pub const REPLICA: &str = "volumeReplicaName";
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub node: String,
    pub block: bool,
    /// Empty: ext4.
    pub fs_type: String,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is published so already.
    Already {
        context: HashMap<String, String>,
    },
    /// Record it, then answer.
    Grant {
        context: HashMap<String, String>,
        fs_type: String,
    },
    /// Published elsewhere: refuse, unless that is a leftover which no attachment backs.
    HeldBy {
        node: String,
    },
    No(No),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum No {
    #[error("volume {volume} is being deleted")]
    Deleting { volume: String },
    #[error(
        "volume {volume} is mirrored or convertible ({sign}), which this version does not support yet: using one copy by itself would make \
         the copies differ"
    )]
    Mirrored { volume: String, sign: String },
    #[error("volume {volume} has no copy on node {node}, its data is on {}; a local volume can only be used there", homes.join(", "))]
    Elsewhere {
        volume: String,
        node: String,
        homes: Vec<String>,
    },
    #[error("the copy of volume {volume} on node {node} is not ready: {why}")]
    NotReady {
        volume: String,
        node: String,
        why: String,
    },
    #[error("volume {volume} is published on node {node} as {as_} already; unpublish it first")]
    OtherAccess {
        volume: String,
        node: String,
        as_: &'static str,
    },
}

/// Decides from the volume and its replicas.
#[must_use]
pub fn decide(volume: &LocalVolume, replicas: &[Arc<LocalVolumeReplica>], ask: &Ask) -> Decision {
    let name = volume.name_any();
    if volume.spec.delete {
        return Decision::No(No::Deleting { volume: name });
    }
    if let Some(sign) = volume::mirrored(volume) {
        return Decision::No(No::Mirrored { volume: name, sign });
    }
    let Some(copy) = replicas.iter().find(|r| r.spec.node_name == ask.node) else {
        let mut homes: Vec<String> = replicas.iter().map(|r| r.spec.node_name.clone()).collect();
        if homes.is_empty() {
            homes = volume::wanted_nodes(volume);
        }
        return Decision::No(No::Elsewhere {
            volume: name,
            node: ask.node.clone(),
            homes,
        });
    };
    if let Some(holder) = volume::published_node(volume).filter(|holder| *holder != ask.node) {
        return Decision::HeldBy {
            node: holder.to_owned(),
        };
    }
    let status = copy.status.clone().unwrap_or_default();
    if status.state != ReplicaState::Ready || !status.synced || status.dev_path.is_empty() {
        let why =
            replica::problem(copy).unwrap_or_else(|| "the node is still making it".to_owned());
        return Decision::No(No::NotReady {
            volume: name,
            node: ask.node.clone(),
            why,
        });
    }
    let context: HashMap<String, String> = [
        (keys::DEVICE.to_owned(), status.dev_path),
        (keys::REPLICA.to_owned(), copy.name_any()),
    ]
    .into();
    let fs_type = match (ask.block, ask.fs_type.as_str()) {
        (true, _) => String::new(),
        (false, "") => "ext4".to_owned(),
        (false, other) => other.to_owned(),
    };
    let held = volume.status.clone().unwrap_or_default();
    if held.published_node != ask.node {
        return Decision::Grant { context, fs_type };
    }
    if held.raw_block != ask.block {
        let as_ = if held.raw_block {
            "a block device"
        } else {
            "a file system"
        };
        return Decision::No(No::OtherAccess {
            volume: name,
            node: ask.node.clone(),
            as_,
        });
    }
    Decision::Already { context }
}

#[cfg(test)]
mod tests {
    use hawser_api::{
        LocalVolumeReplicaSpec, LocalVolumeReplicaStatus, LocalVolumeSpec, LocalVolumeStatus,
    };
    use kube::api::ObjectMeta;

    use super::*;

    fn a_volume(published: &str, raw_block: bool) -> LocalVolume {
        LocalVolume {
            metadata: ObjectMeta {
                name: Some("v".into()),
                ..ObjectMeta::default()
            },
            spec: LocalVolumeSpec::default(),
            status: Some(LocalVolumeStatus {
                published_node: published.into(),
                raw_block,
                ..LocalVolumeStatus::default()
            }),
        }
    }

    fn a_copy(node: &str, state: ReplicaState) -> Arc<LocalVolumeReplica> {
        Arc::new(LocalVolumeReplica {
            metadata: ObjectMeta {
                name: Some(format!("v-{node}")),
                ..ObjectMeta::default()
            },
            spec: LocalVolumeReplicaSpec {
                node_name: node.into(),
                volume_name: "v".into(),
                ..LocalVolumeReplicaSpec::default()
            },
            status: Some(LocalVolumeReplicaStatus {
                state,
                synced: true,
                dev_path: "/dev/LocalStorage_PoolHDD/v".into(),
                ..LocalVolumeReplicaStatus::default()
            }),
        })
    }

    fn ask(node: &str, block: bool) -> Ask {
        Ask {
            node: node.into(),
            block,
            fs_type: String::new(),
        }
    }

    #[test]
    fn a_ready_copy_is_granted_and_a_repeat_changes_nothing() {
        let copies = [a_copy("n1", ReplicaState::Ready)];
        let Decision::Grant { context, fs_type } =
            decide(&a_volume("", false), &copies, &ask("n1", false))
        else {
            panic!("grant")
        };
        assert_eq!(
            (context[keys::REPLICA].as_str(), fs_type.as_str()),
            ("v-n1", "ext4")
        );
        assert_eq!(context[keys::DEVICE], "/dev/LocalStorage_PoolHDD/v");
        assert!(matches!(
            decide(&a_volume("n1", false), &copies, &ask("n1", false)),
            Decision::Already { .. }
        ));
    }

    #[test]
    fn other_nodes_and_other_access_are_refused_by_name() {
        let copies = [
            a_copy("n1", ReplicaState::Ready),
            a_copy("n2", ReplicaState::Ready),
        ];
        assert_eq!(
            decide(&a_volume("n1", false), &copies, &ask("n2", false)),
            Decision::HeldBy { node: "n1".into() }
        );
        let Decision::No(no) = decide(&a_volume("", false), &copies, &ask("n3", false)) else {
            panic!("no")
        };
        assert!(no.to_string().contains("n1, n2"), "{no}");
        let Decision::No(no) = decide(&a_volume("n1", true), &copies, &ask("n1", false)) else {
            panic!("no")
        };
        assert!(no.to_string().contains("block device"), "{no}");
    }

    #[test]
    fn a_mirrored_volume_is_not_given_out_beneath_drbd() {
        let copies = [a_copy("n1", ReplicaState::Ready)];
        for published in ["", "n1"] {
            let mut volume = a_volume(published, false);
            volume.spec.convertible = true;
            let Decision::No(no) = decide(&volume, &copies, &ask("n1", false)) else {
                panic!("no")
            };
            assert!(no.to_string().contains("spec.convertible is true"), "{no}");
        }
    }

    #[test]
    fn a_copy_that_is_not_ready_is_not_given_out() {
        for state in [
            ReplicaState::Unset,
            ReplicaState::Creating,
            ReplicaState::NotReady,
            ReplicaState::Invalid,
        ] {
            let decision = decide(
                &a_volume("", false),
                &[a_copy("n1", state)],
                &ask("n1", true),
            );
            assert!(matches!(decision, Decision::No(No::NotReady { .. })));
        }
    }
}
