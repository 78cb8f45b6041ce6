//! The life of a group: which of its reservations still hold, and what its next form is. Pure.
//!
//! A member of a group whose volume exists is *consumed*. One whose volume does not exist yet is a *reservation*: it keeps room
//! for a pod that is on its way, and must not outlive that pod.

use hawser_api::{
    Accessibility, LocalVolumeGroup, LocalVolumeGroupSpec, VolumeGroupMember, names::finalizers,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What is known of the pod that a group was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// The group was made for a claim without a pod.
    None,
    /// It waits for its volumes or runs.
    Alive,
    /// Deleted, finished, or replaced by another of the same name.
    Gone,
}

/// What is known of the claim that a reservation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimState {
    Gone,
    /// It has a volume.
    Bound,
    /// Without a volume; the node that the scheduler chose, if any.
    Waiting {
        selected_node: Option<String>,
    },
}

/// A member and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub member: VolumeGroupMember,
    /// Whether the volume exists and belongs to this group.
    pub consumed: bool,
    /// Of the claim; only looked at for reservations.
    pub claim: ClaimState,
}

/// What to do with a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Keep these members only.
    Shrink {
        members: Vec<VolumeGroupMember>,
        dropped: Vec<Dropped>,
    },
    /// No member is left.
    Remove {
        dropped: Vec<Dropped>,
    },
}

/// A reservation that ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub volume: String,
    pub why: &'static str,
}

/// Judges the members of a group on `nodes`. `overdue`: it has waited long enough for a scheduler to choose a node for its claims.
#[must_use]
pub fn judge(nodes: &[String], overdue: bool, pod: PodState, facts: &[Fact]) -> Verdict {
    let mut members = Vec::new();
    let mut dropped = Vec::new();
    for fact in facts {
        match ended(nodes, overdue, pod, fact) {
            None => members.push(fact.member.clone()),
            Some(why) => dropped.push(Dropped {
                volume: fact.member.local_volume.clone(),
                why,
            }),
        }
    }
    match (members.is_empty(), dropped.is_empty()) {
        (true, _) => Verdict::Remove { dropped },
        (false, true) => Verdict::Keep,
        (false, false) => Verdict::Shrink { members, dropped },
    }
}

fn ended(nodes: &[String], overdue: bool, pod: PodState, fact: &Fact) -> Option<&'static str> {
    if fact.consumed {
        return None;
    }
    match (&fact.claim, pod) {
        (_, PodState::Gone) => Some("its pod is gone"),
        (ClaimState::Gone, PodState::Alive) => Some("its claim is gone"),
        (ClaimState::Gone, PodState::None) if overdue => Some("nobody came for it"),
        (ClaimState::Bound, _) => Some("its claim has a volume"),
        (
            ClaimState::Waiting {
                selected_node: Some(node),
            },
            _,
        ) if !nodes.contains(node) => Some("its pod goes to another node"),
        (
            ClaimState::Waiting {
                selected_node: None,
            },
            _,
        ) if overdue => Some("no node was chosen for its claim"),
        (ClaimState::Gone | ClaimState::Waiting { .. }, _) => None,
    }
}

/// The members of `group` that keep room for somebody else than `volumes`, or are consumed.
#[must_use]
pub fn without(group: &LocalVolumeGroup, volumes: &[&str]) -> Vec<VolumeGroupMember> {
    group
        .spec
        .volumes
        .iter()
        .filter(|m| !volumes.contains(&m.local_volume.as_str()))
        .cloned()
        .collect()
}

/// The reservation for a volume, in any group: the group and the member.
pub fn reservation<'a>(
    groups: impl IntoIterator<Item = &'a LocalVolumeGroup>,
    volume: &str,
) -> Option<(&'a LocalVolumeGroup, &'a VolumeGroupMember)> {
    groups.into_iter().find_map(|group| {
        let member = group
            .spec
            .volumes
            .iter()
            .find(|m| m.local_volume == volume)?;
        Some((group, member))
    })
}

/// The nodes of a group.
#[must_use]
pub fn nodes(group: &LocalVolumeGroup) -> &[String] {
    group
        .spec
        .accessibility
        .as_ref()
        .map_or(&[], |a| a.nodes.as_slice())
}

/// A new group.
#[must_use]
pub fn build(
    name: &str,
    namespace: &str,
    pod: Option<&str>,
    nodes: Vec<String>,
    volumes: Vec<VolumeGroupMember>,
) -> LocalVolumeGroup {
    LocalVolumeGroup {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            finalizers: Some(vec![finalizers::VOLUME_GROUP.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: LocalVolumeGroupSpec {
            accessibility: Some(Accessibility::nodes(nodes)),
            namespace: namespace.to_owned(),
            pods: pod.map(str::to_owned).into_iter().collect(),
            volumes,
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_fact(volume: &str, consumed: bool, claim: ClaimState) -> Fact {
        Fact {
            member: VolumeGroupMember {
                local_volume: volume.into(),
                ..VolumeGroupMember::default()
            },
            consumed,
            claim,
        }
    }

    fn waiting(node: Option<&str>) -> ClaimState {
        ClaimState::Waiting {
            selected_node: node.map(str::to_owned),
        }
    }

    fn judged(overdue: bool, pod: PodState, facts: &[Fact]) -> Vec<&'static str> {
        match judge(&["n1".to_owned()], overdue, pod, facts) {
            Verdict::Keep => Vec::new(),
            Verdict::Shrink { dropped, .. } | Verdict::Remove { dropped } => {
                dropped.into_iter().map(|d| d.why).collect()
            }
        }
    }

    #[test]
    fn a_consumed_member_stays_whatever_happens_to_its_pod() {
        let facts = [a_fact("v", true, ClaimState::Gone)];
        assert_eq!(judge(&[], true, PodState::Gone, &facts), Verdict::Keep);
    }

    #[test]
    fn a_reservation_ends_with_its_pod_its_claim_or_its_node() {
        let cases = [
            (PodState::Gone, waiting(Some("n1")), "its pod is gone"),
            (PodState::Alive, ClaimState::Gone, "its claim is gone"),
            (PodState::Alive, ClaimState::Bound, "its claim has a volume"),
            (
                PodState::Alive,
                waiting(Some("n2")),
                "its pod goes to another node",
            ),
        ];
        for (pod, claim, why) in cases {
            assert_eq!(judged(false, pod, &[a_fact("v", false, claim)]), [why]);
        }
        assert!(
            judged(
                true,
                PodState::Alive,
                &[a_fact("v", false, waiting(Some("n1")))]
            )
            .is_empty()
        );
    }

    #[test]
    fn a_claim_without_a_chosen_node_is_waited_for_a_while() {
        let fact = [a_fact("v", false, waiting(None))];
        assert!(judged(false, PodState::Alive, &fact).is_empty());
        assert_eq!(judged(true, PodState::Alive, &fact).len(), 1);
        let nobody = [a_fact("v", false, ClaimState::Gone)];
        assert!(judged(false, PodState::None, &nobody).is_empty());
        assert_eq!(judged(true, PodState::None, &nobody).len(), 1);
    }

    #[test]
    fn a_group_shrinks_and_goes_with_its_last_member() {
        let facts = [
            a_fact("v1", true, ClaimState::Bound),
            a_fact("v2", false, ClaimState::Gone),
        ];
        let Verdict::Shrink { members, dropped } = judge(&[], false, PodState::Alive, &facts)
        else {
            panic!("must shrink")
        };
        assert_eq!(
            (members[0].local_volume.as_str(), dropped[0].volume.as_str()),
            ("v1", "v2")
        );
        assert!(matches!(
            judge(&[], false, PodState::Alive, &facts[1..]),
            Verdict::Remove { .. }
        ));
        assert!(matches!(
            judge(&[], false, PodState::Alive, &[]),
            Verdict::Remove { .. }
        ));
    }
}
