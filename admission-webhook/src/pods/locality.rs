//! Where a pod's data is, as preferences for nodes.
//!
//! kube-scheduler adds up the weights of all preferences that a node fulfils, then scales by the best node's sum: weights count relative
//! to each other. Ours add up to at most [`CAP`], what one preference of the pod's author may weigh alone, so that they never drown what
//! the author wants, however many volumes there are.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::names;

use crate::facts::Copy;
use crate::pods::affinity::{NodeAffinity, OnLabel};
use crate::pools::Nodes;

/// Sum of all weights that we give a pod. The API allows 1 to 100 for one preference.
pub(crate) const CAP: i32 = 100;
/// Nodes that can serve the data now.
pub(crate) const UP_TO_DATE: i32 = 60;
/// Nodes whose copy is being made, is behind or can't be reached.
pub(crate) const BEHIND: i32 = 25;
/// Nodes in a zone with a copy: where a copy is made anew, it is made there rather than elsewhere.
pub(crate) const SAME_ZONE: i32 = 5;
/// Nodes with pools of the classes that the pod's new volumes ask for.
pub(crate) const POOLS: i32 = 10;

/// What a pod shall prefer, heaviest first, then by key and values; without what it prefers already.
pub(crate) fn preferences(
    volumes: &[&[Copy]],
    pools: &Nodes,
    present: &NodeAffinity,
) -> Vec<(i32, OnLabel)> {
    let mut weights: BTreeMap<OnLabel, i32> = BTreeMap::new();
    let mut add = |weight: i32, wanted: OnLabel| {
        let empty = wanted.values.as_ref().is_some_and(BTreeSet::is_empty);
        if weight > 0 && !empty {
            *weights.entry(wanted).or_default() += weight;
        }
    };
    let known: Vec<&[Copy]> = volumes.iter().filter(|v| !v.is_empty()).copied().collect();
    // Each volume has the same share; beyond as many as there are points, the first ones.
    let most = usize::try_from(UP_TO_DATE).unwrap_or(usize::MAX);
    let sharers = i32::try_from(known.len().min(most)).unwrap_or(1).max(1);
    for copies in known.into_iter().take(most) {
        let (current, behind): (Vec<_>, Vec<_>) = copies.iter().partition(|c| c.up_to_date);
        let least = i32::from(current.is_empty());
        // A node counts once for a volume, by the best copy that it has.
        let only_behind = behind
            .iter()
            .filter(|copy| !current.iter().any(|c| c.node == copy.node));
        add(
            UP_TO_DATE / sharers,
            OnLabel::nodes(current.iter().map(|copy| &*copy.node)),
        );
        add(
            (BEHIND / sharers).max(least),
            OnLabel::nodes(only_behind.map(|copy| &*copy.node)),
        );
        let zones = copies.iter().filter_map(|copy| copy.zone.as_deref());
        add(
            SAME_ZONE / sharers,
            OnLabel {
                key: names::labels::ZONE,
                values: Some(zones.map(str::to_owned).collect()),
            },
        );
    }
    match pools {
        Nodes::None => {}
        Nodes::Few(nodes) => add(POOLS, OnLabel::nodes(nodes.iter().map(|node| &**node))),
        Nodes::Many(_) => add(
            POOLS,
            OnLabel {
                key: names::LVM_TOPOLOGY_KEY,
                values: None,
            },
        ),
    }
    within_cap(weights, present)
}

fn within_cap(weights: BTreeMap<OnLabel, i32>, present: &NodeAffinity) -> Vec<(i32, OnLabel)> {
    let mut sorted: Vec<(i32, OnLabel)> = weights.into_iter().map(|(w, n)| (n, w)).collect();
    sorted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut left = CAP - present.weight_of_ours().clamp(0, CAP);
    let mut chosen = Vec::new();
    for (weight, wanted) in sorted {
        if present.prefers(&wanted) {
            continue;
        }
        let weight = weight.min(left);
        if weight > 0 {
            left -= weight;
            chosen.push((weight, wanted));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::affinity::PREFERRED;

    fn a_copy(node: &str, up_to_date: bool) -> Copy {
        Copy {
            node: node.into(),
            zone: None,
            up_to_date,
        }
    }

    fn in_zone(node: &str, zone: &str) -> Copy {
        Copy {
            zone: Some(zone.into()),
            ..a_copy(node, true)
        }
    }

    fn of(volumes: &[&[Copy]], pools: &Nodes) -> Vec<(i32, Value)> {
        let chosen = preferences(volumes, pools, &NodeAffinity::default());
        chosen
            .into_iter()
            .map(|(weight, wanted)| (weight, wanted.json()))
            .collect()
    }

    fn many() -> Nodes {
        Nodes::Many(Arc::default())
    }

    fn on(nodes: &[&str]) -> Value {
        json!({ "key": "topology.lvm.hwameistor.io/node", "operator": "In", "values": nodes })
    }

    #[test]
    fn up_to_date_before_behind_before_the_same_zone() {
        let copies = [in_zone("n1", "east"), a_copy("n2", false)];
        assert_eq!(
            of(&[&copies], &Nodes::None),
            [
                (60, on(&["n1"])),
                (25, on(&["n2"])),
                (
                    5,
                    json!({ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["east"] })
                ),
            ]
        );
    }

    #[test]
    fn volumes_share_and_those_on_the_same_nodes_add_up() {
        let (one, other) = ([a_copy("n1", true)], [a_copy("n2", true)]);
        assert_eq!(
            of(&[&one, &other], &Nodes::None),
            [(30, on(&["n1"])), (30, on(&["n2"]))]
        );
        assert_eq!(of(&[&one, &one], &Nodes::None), [(60, on(&["n1"]))]);
        assert_eq!(of(&[&one, &[]], &Nodes::None), [(60, on(&["n1"]))]);
    }

    #[test]
    fn new_volumes_draw_less_than_data() {
        let few = Nodes::Few(BTreeSet::from(["n8".into(), "n9".into()]));
        let data = [a_copy("n1", false)];
        assert_eq!(
            of(&[&data], &few),
            [(25, on(&["n1"])), (10, on(&["n8", "n9"]))]
        );
        assert_eq!(
            of(&[], &many()),
            [(
                10,
                json!({ "key": "topology.lvm.hwameistor.io/node", "operator": "Exists" })
            )]
        );
        assert_eq!(of(&[], &Nodes::None), []);
    }

    fn copies() -> impl Strategy<Value = Vec<Copy>> {
        let copy = ("n[1-9]", prop::option::of("z[12]"), any::<bool>());
        let copy = copy.prop_map(|(node, zone, up_to_date)| Copy {
            node: node.into(),
            zone: zone.map(Into::into),
            up_to_date,
        });
        prop::collection::vec(copy, 0..4)
    }

    proptest! {
        #[test]
        fn all_together_weigh_at_most_one_preference_of_the_user(
            volumes in prop::collection::vec(copies(), 0..200),
            many in any::<bool>(),
            theirs in prop::collection::vec(1..=100_i32, 0..3),
        ) {
            let volumes: Vec<&[Copy]> = volumes.iter().map(Vec::as_slice).collect();
            let theirs: Vec<Value> = theirs.iter().map(|weight| {
                json!({ "weight": weight, "preference": { "matchExpressions": [on(&["n0"])] } })
            }).collect();
            let affinity = json!({ "nodeAffinity": { PREFERRED: theirs } });
            let present = NodeAffinity::of(Some(&affinity));
            let pools = if many { super::tests::many() } else { Nodes::None };
            let chosen = preferences(&volumes, &pools, &present);
            let sum: i32 = chosen.iter().map(|(weight, _)| weight).sum();
            let room = CAP - present.weight_of_ours().min(CAP);
            prop_assert!(sum <= room, "{sum} of {room}");
            prop_assert!(chosen.iter().all(|(weight, _)| (1..=100).contains(weight)));
            // Wherever there is data, something draws to it.
            if theirs.is_empty() && volumes.iter().any(|copies| !copies.is_empty()) {
                prop_assert!(!chosen.is_empty());
            }
        }

        #[test]
        fn a_node_that_is_up_to_date_weighs_more_than_one_that_is_behind(others in prop::collection::vec(copies(), 0..20)) {
            let ours = [a_copy("current", true), a_copy("late", false)];
            let mut volumes: Vec<&[Copy]> = vec![&ours];
            volumes.extend(others.iter().map(Vec::as_slice));
            let chosen = preferences(&volumes, &Nodes::None, &NodeAffinity::default());
            let weight = |node: &str| -> i32 {
                let fits = |wanted: &OnLabel| wanted.values.as_ref().is_some_and(|v| v.contains(node));
                chosen.iter().filter(|(_, wanted)| fits(wanted)).map(|(weight, _)| weight).sum()
            };
            prop_assert!(weight("current") > weight("late"));
        }
    }
}
