//! What has to be done to a volume: from its object, its replicas and what is known of the nodes to a list of steps.
//! Pure. Sizes are not changed here (see `expand`), and nothing is chosen here (see `reserve`).

use std::sync::Arc;

use hawser_api::{
    Condition, ConditionStatus, LocalVolume, LocalVolumeGroup, LocalVolumeReplica, ReplicaState,
    VolumeState,
    names::{self, annotations, finalizers, reasons},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::replica;

/// What is known about one volume.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    pub volume: &'a LocalVolume,
    /// All replicas that name the volume, in order of their names.
    pub replicas: &'a [Arc<LocalVolumeReplica>],
    /// The group that has the volume as a member.
    pub group: Option<&'a LocalVolumeGroup>,
    /// Nodes of the replicas, or of those to be, that Kubernetes does not have any more.
    pub lost_nodes: &'a [String],
    /// Nodes on which room is reserved for it.
    pub reserved: &'a [String],
    pub now: &'a Time,
}

/// One change. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Take the volume under protection.
    Protect,
    /// Ask a node for its copy. `existing`: the copy was there before, so the node must find it and not make it.
    CreateReplica { node: String, existing: bool },
    /// Note on a replica whose claim it is a copy for: its node writes that beside the data.
    FollowClaim { replica: String, claim: String },
    /// A copy that was never made has no room reserved, or its node is gone: room must be found first, or the volume is given up.
    FindRoom,
    /// Have a copy removed that nobody asks for and that was never made.
    RemoveStray { replica: String },
    /// Write what was observed.
    SetStatus(Summary),
    /// Tell the node to destroy its copy.
    RequestReplicaDeletion { replica: String },
    /// Delete the replica's object; it stays until its node has let go.
    DeleteReplica { replica: String },
    /// The replica's node is gone for good: nobody else will let go of it.
    AbandonReplica { replica: String },
    /// Ask the server whether a copy was recorded that is not known here; if so, nothing else is done now.
    LookForReplicas,
    /// Take the volume out of its group, and the group away with its last member.
    LeaveGroup { group: String },
    /// Let the volume's object go.
    Finish,
}

/// The part of a volume's status that follows from its replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub state: VolumeState,
    pub allocated_capacity_bytes: i64,
    pub replicas: Vec<String>,
    pub conditions: Vec<Condition>,
}

/// Condition types of a volume.
pub const READY: &str = "Ready";
pub const DELETION_HELD: &str = "DeletionHeld";

/// What is to be done now. Empty if everything is as it should be, or if somebody else has to act first.
#[must_use]
pub fn plan(observed: Observed<'_>) -> Vec<Step> {
    if observed.volume.spec.delete {
        plan_deletion(observed)
    } else {
        plan_life(observed)
    }
}

fn plan_life(observed: Observed<'_>) -> Vec<Step> {
    let Observed {
        volume, replicas, ..
    } = observed;
    if volume.metadata.deletion_timestamp.is_some() && volume.finalizers().is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let protected = volume.finalizers().iter().any(|f| f == finalizers::VOLUME);
    if !protected && volume.metadata.deletion_timestamp.is_none() {
        steps.push(Step::Protect);
    }
    let existing = was_made(volume);
    let wanted = wanted_nodes(volume);
    let missing = |node: &&String| replicas.iter().all(|r| r.spec.node_name != **node);
    let missing: Vec<&String> = wanted.iter().filter(missing).collect();
    let homeless = |node: &&String| !observed.reserved.contains(node);
    let lost = |node: &String| observed.lost_nodes.contains(node);
    if !existing && (missing.iter().any(homeless) || wanted.iter().any(lost)) {
        steps.push(Step::FindRoom);
    } else {
        steps.extend(missing.into_iter().map(|node| Step::CreateReplica {
            node: node.clone(),
            existing,
        }));
    }
    if let Some(claim) = claim(volume) {
        let stale = replicas
            .iter()
            .filter(|r| !r.spec.delete && r.annotations().get(annotations::CLAIM) != Some(&claim));
        steps.extend(stale.map(|r| Step::FollowClaim {
            replica: r.name_any(),
            claim: claim.clone(),
        }));
    }
    steps.extend(strays(replicas, &wanted));
    steps.extend(status_step(observed, summary(observed)));
    steps
}

/// `NAMESPACE/NAME` of the volume's claim, as recorded; `None` without one.
#[must_use]
pub fn claim(volume: &LocalVolume) -> Option<String> {
    let spec = &volume.spec;
    (!spec.pvc_name.is_empty()).then(|| format!("{}/{}", spec.pvc_namespace, spec.pvc_name))
}

/// What of a volume says that it lies on DRBD, as the generation before made mirrored and convertible ones: its logical volumes
/// must not be used by themselves then, nor grown, since DRBD's metadata lies at their ends. In words; `None` if nothing does.
#[must_use]
pub fn mirrored(volume: &LocalVolume) -> Option<String> {
    let spec = &volume.spec;
    if spec.convertible {
        return Some("spec.convertible is true".to_owned());
    }
    if spec.replica_number > 1 {
        return Some(format!("spec.replicaNumber is {}", spec.replica_number));
    }
    let config = spec.config.as_ref()?;
    if config.convertible {
        Some("spec.config.convertible is true".to_owned())
    } else if config.replicas.len() > 1 {
        Some(format!(
            "spec.config has {} replicas",
            config.replicas.len()
        ))
    } else if config.resource_id >= 0 {
        Some(format!("spec.config.resourceID is {}", config.resource_id))
    } else {
        None
    }
}

/// Copies on nodes that shall have none and that were never made: written by a provisioner that had ceased to lead.
pub fn strays(
    replicas: &[Arc<LocalVolumeReplica>],
    wanted: &[String],
) -> impl Iterator<Item = Step> {
    let stray =
        |r: &&Arc<LocalVolumeReplica>| !wanted.contains(&r.spec.node_name) && !replica::was_made(r);
    replicas.iter().filter(stray).map(|r| Step::RemoveStray {
        replica: r.name_any(),
    })
}

fn plan_deletion(observed: Observed<'_>) -> Vec<Step> {
    let Observed {
        volume,
        replicas,
        group,
        lost_nodes,
        ..
    } = observed;
    if let Some(node) = published_node(volume) {
        let message = format!(
            "deletion waits: the volume is published on node {node}; it goes once its pods have ended"
        );
        let held = Summary {
            conditions: vec![condition(
                observed,
                DELETION_HELD,
                true,
                "Published",
                &message,
            )],
            ..current(volume)
        };
        return status_step(observed, held).into_iter().collect();
    }
    let names = replicas.iter().map(|r| r.name_any()).collect();
    let state = if replicas.is_empty() {
        VolumeState::Deleted
    } else {
        VolumeState::ToBeDeleted
    };
    let message = if replicas.is_empty() {
        "the data is gone"
    } else {
        "the data is being destroyed on its node"
    };
    let going = Summary {
        state,
        replicas: names,
        conditions: vec![condition(observed, READY, false, "Deleting", message)],
        ..current(volume)
    };
    let mut steps: Vec<Step> = status_step(observed, going).into_iter().collect();
    for replica in replicas {
        let name = replica.name_any();
        if !replica.spec.delete {
            steps.push(Step::RequestReplicaDeletion {
                replica: name.clone(),
            });
        }
        if replica.metadata.deletion_timestamp.is_none() {
            steps.push(Step::DeleteReplica {
                replica: name.clone(),
            });
        }
        if lost_nodes.contains(&replica.spec.node_name) {
            steps.push(Step::AbandonReplica { replica: name });
        }
    }
    if replicas.is_empty() {
        steps.push(Step::LookForReplicas);
        steps.extend(group.map(|group| Step::LeaveGroup {
            group: group.name_any(),
        }));
        steps.push(Step::Finish);
    }
    steps
}

/// The nodes that shall have a copy.
#[must_use]
pub fn wanted_nodes(volume: &LocalVolume) -> Vec<String> {
    volume.wanted_nodes()
}

/// The node that has the volume published, if any.
#[must_use]
pub fn published_node(volume: &LocalVolume) -> Option<&str> {
    volume
        .status
        .as_ref()
        .map(|s| s.published_node.as_str())
        .filter(|n| !n.is_empty())
}

/// Whether the volume is marked as one that was made for a claim and has never had a persistent volume.
#[must_use]
pub fn is_unbound(volume: &LocalVolume) -> bool {
    let mark = volume.annotations().get(annotations::UNBOUND);
    mark.is_some_and(|text| text == "true")
}

/// Takes that mark off.
pub fn mark_bound(volume: &mut LocalVolume) {
    volume.annotations_mut().remove(annotations::UNBOUND);
}

/// Whether nobody can have written anything into the volume: it was never bound and never published.
#[must_use]
pub fn is_untouched(volume: &LocalVolume) -> bool {
    let used = volume
        .status
        .as_ref()
        .is_some_and(|s| !s.fs_type.is_empty() || !s.published_node.is_empty() || s.raw_block);
    is_unbound(volume) && !used
}

/// The state that was last written.
#[must_use]
pub fn state(volume: &LocalVolume) -> VolumeState {
    volume
        .status
        .as_ref()
        .map_or(VolumeState::Unset, |s| s.state.clone())
}

/// Whether the volume has ever been complete.
#[must_use]
pub fn was_made(volume: &LocalVolume) -> bool {
    volume
        .status
        .as_ref()
        .is_some_and(|s| s.allocated_capacity_bytes > 0)
}

fn current(volume: &LocalVolume) -> Summary {
    volume
        .status
        .as_ref()
        .map_or_else(Summary::default, |s| Summary {
            state: s.state.clone(),
            allocated_capacity_bytes: s.allocated_capacity_bytes,
            replicas: s.replicas.clone(),
            conditions: s.conditions.clone(),
        })
}

/// What the replicas say about the volume as a whole.
fn summary(observed: Observed<'_>) -> Summary {
    let Observed {
        volume, replicas, ..
    } = observed;
    let wanted = wanted_nodes(volume);
    let of_wanted = |node: &String| replicas.iter().find(|r| r.spec.node_name == *node);
    let missing = wanted.iter().any(|node| of_wanted(node).is_none());
    let ready = !missing
        && !wanted.is_empty()
        && replicas
            .iter()
            .all(|r| replica::state(r) == ReplicaState::Ready);
    let smallest = replicas
        .iter()
        .map(|r| replica::allocated(r))
        .min()
        .unwrap_or(0);
    let before = current(volume);
    // A copy that is being looked for keeps its size: the device did not shrink because its node is away.
    let allocated_capacity_bytes = if ready || smallest > 0 {
        smallest
    } else {
        before.allocated_capacity_bytes
    };
    let making = !was_made(volume) && !ready;
    let state = match (ready, making) {
        (true, _) => VolumeState::Ready,
        (false, true) => VolumeState::Creating,
        (false, false) => VolumeState::NotReady,
    };
    let condition = if ready {
        condition(
            observed,
            READY,
            true,
            "ReplicasReady",
            "every copy is ready",
        )
    } else {
        let problem = replicas.iter().find_map(|r| {
            replica::problem(r).map(|p| format!("copy on node {}: {p}", r.spec.node_name))
        });
        let reason = if making {
            "Creating"
        } else {
            "ReplicaNotReady"
        };
        let waiting = || {
            if wanted.is_empty() {
                return "spec.accessibility.nodes is empty; it must name the node that is to have the volume"
                    .to_owned();
            }
            format!(
                "waiting for node {} to make its copy ready",
                wanted.join(", ")
            )
        };
        condition(
            observed,
            READY,
            false,
            reason,
            &problem.unwrap_or_else(waiting),
        )
    };
    let mut copies: Vec<String> = replicas.iter().map(|r| r.name_any()).collect();
    copies.sort();
    let mut conditions = vec![condition];
    if volume.metadata.deletion_timestamp.is_some() {
        conditions.push(self::condition(
            observed,
            DELETION_HELD,
            true,
            "NotRequested",
            "the object was deleted, its data was not: set spec.delete to true to destroy the volume",
        ));
    }
    let limits = volume.spec.volume_qos.as_ref().and_then(|q| q.asked());
    if let Some((field, value)) = limits.filter(|_| !making) {
        let message = format!(
            "spec.volumeQoS.{field} is {value:?}: limits are not supported yet and not kept; set it to 0 or leave it out"
        );
        let kind = names::conditions::LIMITS_NOT_KEPT;
        conditions.push(self::condition(
            observed,
            kind,
            true,
            reasons::INVALID,
            &message,
        ));
    }
    Summary {
        state,
        allocated_capacity_bytes,
        replicas: copies,
        conditions,
    }
}

/// A condition whose time is that of the last change of its status.
fn condition(
    observed: Observed<'_>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
) -> Condition {
    let status = if holds {
        ConditionStatus::True
    } else {
        ConditionStatus::False
    };
    let old = observed
        .volume
        .status
        .iter()
        .flat_map(|s| &s.conditions)
        .find(|c| c.type_ == type_ && c.status == status);
    let since = old
        .and_then(|c| c.last_transition_time.clone())
        .unwrap_or_else(|| observed.now.clone());
    Condition {
        last_transition_time: Some(since),
        message: message.to_owned(),
        observed_generation: None,
        reason: reason.to_owned(),
        status,
        type_: type_.to_owned(),
    }
}

fn status_step(observed: Observed<'_>, summary: Summary) -> Option<Step> {
    let written = observed.volume.status.is_some() && current(observed.volume) == summary;
    (!written).then_some(Step::SetStatus(summary))
}

#[cfg(test)]
mod tests {
    use hawser_api::{
        Accessibility, LocalVolumeReplicaSpec, LocalVolumeReplicaStatus, LocalVolumeSpec,
        LocalVolumeStatus,
    };
    use k8s_openapi::jiff::Timestamp;
    use kube::api::ObjectMeta;

    use super::*;

    fn a_volume(nodes: &[&str]) -> LocalVolume {
        LocalVolume {
            metadata: ObjectMeta {
                name: Some("v".into()),
                finalizers: Some(vec![finalizers::VOLUME.into()]),
                ..ObjectMeta::default()
            },
            spec: LocalVolumeSpec {
                accessibility: Some(Accessibility::nodes(nodes.iter().copied())),
                replica_number: i64::try_from(nodes.len()).unwrap(),
                ..LocalVolumeSpec::default()
            },
            status: None,
        }
    }

    fn a_copy(node: &str, state: ReplicaState, allocated: i64) -> Arc<LocalVolumeReplica> {
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
                allocated_capacity_bytes: allocated,
                ..LocalVolumeReplicaStatus::default()
            }),
        })
    }

    fn planned(volume: &LocalVolume, replicas: &[Arc<LocalVolumeReplica>]) -> Vec<Step> {
        planned_with(volume, replicas, &[])
    }

    fn planned_with(
        volume: &LocalVolume,
        replicas: &[Arc<LocalVolumeReplica>],
        lost_nodes: &[String],
    ) -> Vec<Step> {
        plan(Observed {
            volume,
            replicas,
            group: None,
            lost_nodes,
            reserved: &["n1".to_owned(), "n2".to_owned()],
            now: &Time(Timestamp::UNIX_EPOCH),
        })
    }

    /// Writes what the plan says is to be written.
    fn written(volume: &LocalVolume, steps: &[Step]) -> LocalVolume {
        let mut volume = volume.clone();
        for step in steps {
            if let Step::SetStatus(summary) = step {
                let status = volume.status.get_or_insert_default();
                status.state = summary.state.clone();
                status.allocated_capacity_bytes = summary.allocated_capacity_bytes;
                status.replicas.clone_from(&summary.replicas);
                status.conditions.clone_from(&summary.conditions);
            }
        }
        volume
    }

    #[test]
    fn a_new_volume_gets_its_copies_and_a_second_look_finds_nothing_to_do() {
        let volume = a_volume(&["n1", "n2"]);
        let steps = planned(&volume, &[]);
        let copies: Vec<_> = steps
            .iter()
            .filter(|s| {
                matches!(
                    s,
                    Step::CreateReplica {
                        existing: false,
                        ..
                    }
                )
            })
            .collect();
        assert_eq!(copies.len(), 2);
        let ready = [
            a_copy("n1", ReplicaState::Ready, 8),
            a_copy("n2", ReplicaState::Ready, 4),
        ];
        let steps = planned(&volume, &ready);
        let volume = written(&volume, &steps);
        assert_eq!(state(&volume), VolumeState::Ready);
        assert_eq!(volume.status.as_ref().unwrap().allocated_capacity_bytes, 4);
        assert_eq!(planned(&volume, &ready), []);
    }

    #[test]
    fn no_copy_is_asked_for_where_no_room_is_reserved() {
        let volume = a_volume(&["n1", "n3"]);
        let steps = planned(&volume, &[]);
        assert!(steps.contains(&Step::FindRoom), "{steps:?}");
        let created = |s: &Step| matches!(s, Step::CreateReplica { .. });
        assert!(!steps.iter().any(created), "{steps:?}");
        // What was made before needs no room.
        let copies = [
            a_copy("n1", ReplicaState::Ready, 8),
            a_copy("n3", ReplicaState::Ready, 8),
        ];
        let volume = written(&volume, &planned(&volume, &copies));
        let lost = Step::CreateReplica {
            node: "n3".into(),
            existing: true,
        };
        assert!(planned(&volume, &copies[..1]).contains(&lost));
    }

    #[test]
    fn only_what_was_never_bound_nor_published_is_untouched() {
        let mut volume = a_volume(&["n1"]);
        assert!(!is_untouched(&volume), "made before there was the mark");
        let mark = annotations::UNBOUND.to_owned();
        volume.annotations_mut().insert(mark, "true".to_owned());
        assert!(is_untouched(&volume));
        let mut published = volume.clone();
        published.status.get_or_insert_default().fs_type = "xfs".into();
        assert!(!is_untouched(&published));
        mark_bound(&mut volume);
        assert!(!is_untouched(&volume) && !is_unbound(&volume));
    }

    #[test]
    fn a_volume_whose_node_went_before_it_was_made_is_not_waited_for() {
        let volume = a_volume(&["n1"]);
        let unmade = [a_copy("n1", ReplicaState::Unset, 0)];
        let lost = ["n1".to_owned()];
        assert!(planned_with(&volume, &unmade, &lost).contains(&Step::FindRoom));
        let made = [a_copy("n1", ReplicaState::Ready, 8)];
        let volume = written(&volume, &planned(&volume, &made));
        assert!(!planned_with(&volume, &made, &lost).contains(&Step::FindRoom));
    }

    #[test]
    fn a_copy_that_nobody_wants_goes_unless_it_was_made() {
        let volume = a_volume(&["n1"]);
        let stray = Step::RemoveStray {
            replica: "v-n9".into(),
        };
        let here = a_copy("n1", ReplicaState::Ready, 8);
        let with = |allocated| {
            planned(
                &volume,
                &[here.clone(), a_copy("n9", ReplicaState::Unset, allocated)],
            )
        };
        assert!(with(0).contains(&stray));
        assert!(!with(8).contains(&stray));
    }

    #[test]
    fn a_volume_made_by_hand_without_a_node_says_what_it_lacks() {
        let volume = a_volume(&[]);
        let volume = written(&volume, &planned(&volume, &[]));
        let status = volume.status.unwrap();
        assert_eq!(status.state, VolumeState::Creating);
        let message = &status.conditions[0].message;
        assert!(
            message.contains("spec.accessibility.nodes is empty"),
            "{message}"
        );
    }

    #[test]
    fn a_copy_that_fails_makes_the_volume_not_ready_and_keeps_its_size() {
        let ready = [a_copy("n1", ReplicaState::Ready, 8)];
        let volume = a_volume(&["n1"]);
        let volume = written(&volume, &planned(&volume, &ready));
        let failed = [a_copy("n1", ReplicaState::NotReady, 0)];
        let volume = written(&volume, &planned(&volume, &failed));
        assert_eq!(state(&volume), VolumeState::NotReady);
        assert_eq!(volume.status.as_ref().unwrap().allocated_capacity_bytes, 8);
        let steps = planned(&volume, &[]);
        let lost = Step::CreateReplica {
            node: "n1".into(),
            existing: true,
        };
        assert!(
            steps.contains(&lost),
            "looked for, not made anew: {steps:?}"
        );
    }

    #[test]
    fn deletion_ends_when_the_nodes_have_let_go() {
        let mut volume = a_volume(&["n1"]);
        volume.spec.delete = true;
        let copies = [a_copy("n1", ReplicaState::Ready, 8)];
        let steps = planned(&volume, &copies);
        assert!(steps.contains(&Step::RequestReplicaDeletion {
            replica: "v-n1".into()
        }));
        assert!(
            !steps.contains(&Step::Finish)
                && !steps
                    .iter()
                    .any(|s| matches!(s, Step::AbandonReplica { .. }))
        );
        let steps = planned_with(&volume, &copies, &["n1".to_owned()]);
        assert!(steps.contains(&Step::AbandonReplica {
            replica: "v-n1".into()
        }));
        assert_eq!(planned(&volume, &[]).last(), Some(&Step::Finish));
    }

    #[test]
    fn copies_follow_the_claim_of_their_volume() {
        let mut volume = a_volume(&["n1"]);
        volume.spec.pvc_namespace = "shop".into();
        volume.spec.pvc_name = "data".into();
        let copy = a_copy("n1", ReplicaState::Ready, 8);
        let step = Step::FollowClaim {
            replica: "v-n1".into(),
            claim: "shop/data".into(),
        };
        assert!(planned(&volume, std::slice::from_ref(&copy)).contains(&step));
        let mut told = (*copy).clone();
        told.metadata.annotations =
            Some([(annotations::CLAIM.to_owned(), "shop/data".to_owned())].into());
        let steps = planned(&volume, &[Arc::new(told.clone())]);
        assert!(!steps.contains(&step), "{steps:?}");
        told.spec.delete = true;
        volume.spec.pvc_name = "other".into();
        let steps = planned(&volume, &[Arc::new(told)]);
        assert!(
            !steps.iter().any(|s| matches!(s, Step::FollowClaim { .. })),
            "{steps:?}"
        );
    }

    #[test]
    fn limits_that_are_not_kept_are_told_while_they_are_asked() {
        let mut volume = a_volume(&["n1"]);
        let ready = [a_copy("n1", ReplicaState::Ready, 8)];
        volume.spec.volume_qos = Some(hawser_api::VolumeQoS {
            iops: "0".into(),
            throughput: "20Mi".into(),
        });
        let volume = written(&volume, &planned(&volume, &ready));
        let status = volume.status.clone().unwrap();
        assert_eq!(status.state, VolumeState::Ready);
        let told = status
            .conditions
            .iter()
            .find(|c| c.type_ == "LimitsNotKept");
        assert!(
            told.is_some_and(|c| c.message.contains("spec.volumeQoS.throughput is \"20Mi\"")),
            "{told:?}"
        );
        assert_eq!(planned(&volume, &ready), []);
        let mut volume = volume;
        volume.spec.volume_qos = None;
        let volume = written(&volume, &planned(&volume, &ready));
        assert_eq!(volume.status.unwrap().conditions.len(), 1);
    }

    #[test]
    fn every_sign_of_drbd_counts() {
        use hawser_api::{VolumeConfig, VolumeConfigReplica};
        let plain = VolumeConfig {
            resource_id: -1,
            replicas: vec![VolumeConfigReplica::default()],
            ..VolumeConfig::default()
        };
        let with = |config: VolumeConfig| {
            let mut volume = a_volume(&["n1"]);
            volume.spec.config = Some(config);
            volume
        };
        assert_eq!(mirrored(&a_volume(&["n1"])), None);
        assert_eq!(mirrored(&with(plain.clone())), None);
        let mut convertible = a_volume(&["n1"]);
        convertible.spec.convertible = true;
        let two = VolumeConfig {
            replicas: vec![VolumeConfigReplica::default(); 2],
            ..plain.clone()
        };
        let drbd = VolumeConfig {
            convertible: true,
            ..plain.clone()
        };
        let number = VolumeConfig {
            resource_id: 0,
            ..plain
        };
        for (volume, sign) in [
            (a_volume(&["n1", "n2"]), "spec.replicaNumber is 2"),
            (convertible, "spec.convertible is true"),
            (with(drbd), "spec.config.convertible is true"),
            (with(two), "spec.config has 2 replicas"),
            (with(number), "spec.config.resourceID is 0"),
        ] {
            assert_eq!(mirrored(&volume).as_deref(), Some(sign));
        }
    }

    #[test]
    fn what_is_published_is_not_deleted_and_says_so_once() {
        let mut volume = a_volume(&["n1"]);
        volume.spec.delete = true;
        volume.status = Some(LocalVolumeStatus {
            published_node: "n1".into(),
            state: VolumeState::Ready,
            ..LocalVolumeStatus::default()
        });
        let copies = [a_copy("n1", ReplicaState::Ready, 8)];
        let steps = planned(&volume, &copies);
        assert!(
            matches!(steps.as_slice(), [Step::SetStatus(s)] if s.state == VolumeState::Ready),
            "{steps:?}"
        );
        assert_eq!(planned(&written(&volume, &steps), &copies), []);
    }
}
