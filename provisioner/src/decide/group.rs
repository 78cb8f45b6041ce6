//! The life of a group: which of its reservations still hold, and what its next form is. Pure.
//!
//! A member of a group whose volume exists is *consumed*. One whose volume does not exist yet is a *reservation*: it keeps room
//! for a pod that is on its way, and must not outlive that pod.

use hawser_api::{
    Accessibility, LocalVolume, LocalVolumeGroup, LocalVolumeGroupSpec, VolumeGroupMember,
    names::finalizers,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::fence;

/// What is known of the pod that a group was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// The group was made for a claim without a pod.
    None,
    /// It waits for its volumes.
    Waiting,
    /// It was bound to this node.
    On(String),
    /// Deleted, finished, or replaced by another of the same name.
    Gone,
}

/// What is known of the claim that a reservation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// The volume was asked for without naming a claim.
    Unnamed,
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

/// What a group is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub group: &'a LocalVolumeGroup,
    /// Whether its reservations are those of the provisioner that leads.
    pub counts: bool,
    /// It has waited long enough for a scheduler to choose a node for its claims.
    pub overdue: bool,
    pub pod: &'a PodState,
    pub facts: &'a [Fact],
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

/// Judges the members of a group.
#[must_use]
pub fn judge(case: Case<'_>) -> Verdict {
    let mut members = Vec::new();
    let mut dropped = Vec::new();
    for fact in case.facts {
        match ended(case, fact) {
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

fn ended(case: Case<'_>, fact: &Fact) -> Option<&'static str> {
    if fact.consumed {
        return None;
    }
    if !case.counts {
        return Some("it was made by a provisioner that had ceased to lead");
    }
    let here = |node: &String| places(case.group, &fact.member).first() == Some(node);
    match case.pod {
        PodState::Gone => return Some("its pod is gone"),
        PodState::On(node) if !here(node) => return Some("its pod runs on another node"),
        PodState::On(_) | PodState::Waiting | PodState::None => {}
    }
    // A pod that has a volume here can go nowhere else: it is not made to wait for room that it had already.
    let tied = *case.pod != PodState::None && case.facts.iter().any(|other| other.consumed);
    match &fact.claim {
        ClaimState::Gone => Some("its claim is gone"),
        ClaimState::Bound => Some("its claim has a volume"),
        ClaimState::Unnamed if case.overdue => Some("nobody came for it"),
        ClaimState::Waiting {
            selected_node: Some(node),
        } if !here(node) => Some("its pod goes to another node"),
        ClaimState::Waiting {
            selected_node: None,
        } if case.overdue && !tied => Some("no node was chosen for its claim"),
        ClaimState::Unnamed | ClaimState::Waiting { .. } => None,
    }
}

/// Whether the volume exists as a member of this group.
#[must_use]
pub fn is_consumed(group: &LocalVolumeGroup, volume: Option<&LocalVolume>) -> bool {
    volume
        .is_some_and(|v| v.spec.volume_group.is_empty() || v.spec.volume_group == group.name_any())
}

/// The members that hold: all of a group of this epoch; of another one those that are consumed.
pub fn holding<'a>(
    group: &'a LocalVolumeGroup,
    epoch: &str,
    consumed: impl Fn(&VolumeGroupMember) -> bool,
) -> Vec<&'a VolumeGroupMember> {
    let counts = fence::epoch(group) == epoch;
    let members = group.spec.volumes.iter();
    members.filter(|m| counts || consumed(m)).collect()
}

/// The members of `group` other than `volumes`.
#[must_use]
pub fn without(group: &LocalVolumeGroup, volumes: &[&str]) -> Vec<VolumeGroupMember> {
    let members = group.spec.volumes.iter();
    members
        .filter(|m| !volumes.contains(&m.local_volume.as_str()))
        .cloned()
        .collect()
}

/// The group's entry for a volume.
#[must_use]
pub fn member<'a>(group: &'a LocalVolumeGroup, volume: &str) -> Option<&'a VolumeGroupMember> {
    let mut members = group.spec.volumes.iter();
    members.find(|m| m.local_volume == volume)
}

/// The nodes of a group.
#[must_use]
pub fn nodes(group: &LocalVolumeGroup) -> &[String] {
    let nodes = group.spec.accessibility.as_ref();
    nodes.map_or(&[], |a| a.nodes.as_slice())
}

/// The nodes of a member's copies, the pod's first.
#[must_use]
pub fn places<'a>(group: &'a LocalVolumeGroup, member: &'a VolumeGroupMember) -> &'a [String] {
    if member.nodes.is_empty() {
        nodes(group)
    } else {
        &member.nodes
    }
}

/// Says of each member where it is, in as few words as possible, and of the group where its members are.
#[must_use]
pub fn arrange(mut members: Vec<VolumeGroupMember>) -> (Accessibility, Vec<VolumeGroupMember>) {
    let mut all: Vec<String> = Vec::new();
    for node in members.iter().flat_map(|m| &m.nodes) {
        if !all.contains(node) {
            all.push(node.clone());
        }
    }
    for member in &mut members {
        if member.nodes == all {
            member.nodes.clear();
        }
    }
    (Accessibility::nodes(all), members)
}

/// A new group of these members, each of which says where it is.
#[must_use]
pub fn build(
    name: &str,
    namespace: &str,
    pod: Option<&str>,
    members: Vec<VolumeGroupMember>,
) -> LocalVolumeGroup {
    let (accessibility, volumes) = arrange(members);
    LocalVolumeGroup {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            finalizers: Some(vec![finalizers::VOLUME_GROUP.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: LocalVolumeGroupSpec {
            accessibility: Some(accessibility),
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

    fn a_member(volume: &str, nodes: &[&str]) -> VolumeGroupMember {
        VolumeGroupMember {
            local_volume: volume.into(),
            nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
            ..VolumeGroupMember::default()
        }
    }

    fn a_fact(volume: &str, consumed: bool, claim: ClaimState) -> Fact {
        Fact {
            member: a_member(volume, &["n1"]),
            consumed,
            claim,
        }
    }

    fn waiting(node: Option<&str>) -> ClaimState {
        ClaimState::Waiting {
            selected_node: node.map(str::to_owned),
        }
    }

    fn verdict(counts: bool, overdue: bool, pod: &PodState, facts: &[Fact]) -> Verdict {
        let members = facts.iter().map(|f| f.member.clone()).collect();
        judge(Case {
            group: &build("g", "shop", Some("p"), members),
            counts,
            overdue,
            pod,
            facts,
        })
    }

    fn judged(overdue: bool, pod: &PodState, facts: &[Fact]) -> Vec<&'static str> {
        match verdict(true, overdue, pod, facts) {
            Verdict::Keep => Vec::new(),
            Verdict::Shrink { dropped, .. } | Verdict::Remove { dropped } => {
                dropped.into_iter().map(|d| d.why).collect()
            }
        }
    }

    #[test]
    fn a_consumed_member_stays_whatever_happens_to_its_pod() {
        let facts = [a_fact("v", true, ClaimState::Gone)];
        assert_eq!(verdict(false, true, &PodState::Gone, &facts), Verdict::Keep);
    }

    #[test]
    fn a_reservation_ends_with_its_pod_its_claim_or_its_node() {
        let elsewhere = PodState::On("n2".into());
        let cases = [
            (&PodState::Gone, waiting(Some("n1")), "its pod is gone"),
            (
                &elsewhere,
                waiting(Some("n1")),
                "its pod runs on another node",
            ),
            (&PodState::Waiting, ClaimState::Gone, "its claim is gone"),
            (&PodState::None, ClaimState::Gone, "its claim is gone"),
            (
                &PodState::Waiting,
                ClaimState::Bound,
                "its claim has a volume",
            ),
            (
                &PodState::Waiting,
                waiting(Some("n2")),
                "its pod goes to another node",
            ),
        ];
        for (pod, claim, why) in cases {
            assert_eq!(judged(false, pod, &[a_fact("v", false, claim)]), [why]);
        }
        let held = [a_fact("v", false, waiting(Some("n1")))];
        assert!(judged(true, &PodState::Waiting, &held).is_empty());
        assert!(judged(true, &PodState::On("n1".into()), &held).is_empty());
    }

    #[test]
    fn a_claim_without_a_chosen_node_is_waited_for_a_while() {
        let fact = [a_fact("v", false, waiting(None))];
        assert!(judged(false, &PodState::Waiting, &fact).is_empty());
        assert_eq!(judged(true, &PodState::Waiting, &fact).len(), 1);
        let nobody = [a_fact("v", false, ClaimState::Unnamed)];
        assert!(judged(false, &PodState::None, &nobody).is_empty());
        assert_eq!(judged(true, &PodState::None, &nobody).len(), 1);
    }

    #[test]
    fn a_pod_with_a_volume_on_the_node_keeps_its_room_for_the_others_for_as_long_as_it_lives() {
        let facts = [
            a_fact("made", true, ClaimState::Bound),
            a_fact("other", false, waiting(None)),
        ];
        assert!(judged(true, &PodState::Waiting, &facts).is_empty());
        assert_eq!(judged(true, &PodState::Gone, &facts), ["its pod is gone"]);
    }

    #[test]
    fn what_a_former_leader_wrote_too_late_does_not_hold() {
        let facts = [
            a_fact("made", true, ClaimState::Bound),
            a_fact("other", false, waiting(Some("n1"))),
        ];
        let verdict = verdict(false, false, &PodState::Waiting, &facts);
        assert!(matches!(verdict, Verdict::Shrink { members, .. } if members.len() == 1));
    }

    #[test]
    fn a_group_shrinks_and_goes_with_its_last_member() {
        let facts = [
            a_fact("v1", true, ClaimState::Bound),
            a_fact("v2", false, ClaimState::Gone),
        ];
        let pod = &PodState::Waiting;
        let Verdict::Shrink { members, dropped } = verdict(true, false, pod, &facts) else {
            panic!("must shrink")
        };
        assert_eq!(
            (members[0].local_volume.as_str(), dropped[0].volume.as_str()),
            ("v1", "v2")
        );
        for rest in [&facts[1..], &[]] {
            let verdict = verdict(true, false, pod, rest);
            assert!(matches!(verdict, Verdict::Remove { .. }));
        }
    }

    #[test]
    fn members_say_where_they_are_only_if_it_is_not_where_all_are() {
        let group = build(
            "g",
            "shop",
            None,
            vec![a_member("v1", &["n1"]), a_member("v2", &["n1"])],
        );
        assert_eq!(nodes(&group), ["n1"]);
        assert!(group.spec.volumes.iter().all(|m| m.nodes.is_empty()));
        let members = vec![a_member("v1", &["n1", "n2"]), a_member("v2", &["n1", "n3"])];
        let group = build("g", "shop", None, members);
        assert_eq!(nodes(&group), ["n1", "n2", "n3"]);
        assert_eq!(places(&group, &group.spec.volumes[1]), ["n1", "n3"]);
    }
}
