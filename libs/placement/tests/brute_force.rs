//! "Fits" is never wrong in either direction: compared with an enumeration of every assignment, written without any of the
//! library's arithmetic.

mod common;

use std::collections::BTreeSet;

use common::{cluster, request, to_cluster};
use hawser_placement::{
    Candidates, Cluster, Evaluator, NewVolume, Node, Plan, Pool, PoolHealth, ReplicaState, Request,
    StorageState, Verdict, choose,
};
use proptest::prelude::*;

/// What is left in every pool of every node.
#[derive(Clone)]
struct Left {
    pools: Vec<Vec<PoolLeft>>,
    node_slots: Vec<i128>,
}

#[derive(Clone)]
struct PoolLeft {
    thick: Option<i128>,
    thin: Option<i128>,
    slots: i128,
}

fn rounded(size: u64, pool: &Pool) -> i128 {
    let extent = i128::from(pool.extent.0);
    (i128::from(size) + extent - 1) / extent * extent
}

fn left(nodes: &[Node], request: &Request) -> Left {
    let foreign = |node: &Node| {
        // Of what has its place already nothing is to be placed, so that a reservation of it is as any other's.
        let mine: BTreeSet<_> = request
            .new_volumes()
            .map(|(volume, _)| volume.name.clone())
            .collect();
        node.reservations
            .iter()
            .filter(|held| !mine.contains(&held.volume))
            .cloned()
            .collect::<Vec<_>>()
    };
    let pool_left = |node: &Node, pool: &Pool| {
        let held: Vec<_> = foreign(node)
            .into_iter()
            .filter(|held| held.pool == pool.name)
            .collect();
        let sum = |thin: bool| {
            held.iter()
                .filter(|h| h.thin == thin)
                .map(|h| rounded(h.size.0, pool))
                .sum::<i128>()
        };
        PoolLeft {
            thick: pool
                .total
                .map(|total| i128::from(total.0) - i128::from(pool.used.0) - sum(false)),
            thin: pool
                .thin
                .map(|thin| i128::from(thin.limit.0) - i128::from(thin.promised.0) - sum(true)),
            slots: pool.volume_limit.map_or(i128::MAX, |limit| {
                i128::from(limit) - i128::from(pool.volumes) - held.len() as i128
            }),
        }
    };
    let node_slots = |node: &Node| {
        let used: i128 = node
            .pools
            .iter()
            .map(|pool| i128::from(pool.volumes))
            .sum::<i128>()
            + foreign(node).len() as i128;
        node.volume_limit
            .map_or(i128::MAX, |limit| i128::from(limit) - used)
    };
    Left {
        pools: nodes
            .iter()
            .map(|node| {
                node.pools
                    .iter()
                    .map(|pool| pool_left(node, pool))
                    .collect()
            })
            .collect(),
        node_slots: nodes.iter().map(node_slots).collect(),
    }
}

/// Puts one copy there, if it may be there.
fn put(left: &Left, nodes: &[Node], new: &NewVolume, node: usize, pool: usize) -> Option<Left> {
    let facts = &nodes[node].pools[pool];
    let ok = facts.class == new.class
        && facts.health != PoolHealth::Failed
        && facts
            .volume_size_limit
            .is_none_or(|limit| new.size <= limit)
        && nodes[node].storage == StorageState::Ready;
    let mut left = left.clone();
    let here = &mut left.pools[node][pool];
    let room = if new.thin {
        here.thin.as_mut()?
    } else {
        here.thick.as_mut()?
    };
    *room -= rounded(new.size.0, facts);
    here.slots -= 1;
    left.node_slots[node] -= 1;
    let here = &left.pools[node][pool];
    let room = if new.thin { here.thin? } else { here.thick? };
    (ok && room >= 0 && here.slots >= 0 && left.node_slots[node] >= 0).then_some(left)
}

fn allowed(request: &Request, new: &NewVolume, node: &Node) -> bool {
    new.anywhere
        || (request.constraints.selects(node) && request.constraints.untolerated(node).is_none())
}

/// Whether every copy of every new volume can be placed, the first ones on `at`. With `together`, all j-th copies on one node.
fn enumerate(left: &Left, nodes: &[Node], request: &Request, at: usize, together: bool) -> bool {
    let new: Vec<&NewVolume> = request.new_volumes().map(|(_, new)| new).collect();
    let items: Vec<(usize, u8)> = (0..new.len())
        .flat_map(|v| (0..new[v].copies).map(move |copy| (v, copy)))
        .collect();
    let mut chosen: Vec<usize> = Vec::new();
    go(
        left,
        nodes,
        request,
        &new,
        &items,
        at,
        together,
        &mut chosen,
    )
}

#[allow(
    clippy::too_many_arguments,
    reason = "a recursion without a struct reads better here"
)]
fn go(
    left: &Left,
    nodes: &[Node],
    request: &Request,
    new: &[&NewVolume],
    items: &[(usize, u8)],
    at: usize,
    together: bool,
    chosen: &mut Vec<usize>,
) -> bool {
    let Some(&(v, copy)) = items.get(chosen.len()) else {
        return true;
    };
    (0..nodes.len()).any(|node| {
        let same_volume = items
            .iter()
            .zip(chosen.iter())
            .any(|((other, _), on)| *other == v && *on == node);
        let right_place = if copy == 0 {
            node == at
        } else {
            allowed(request, new[v], &nodes[node])
        };
        let layer = items
            .iter()
            .zip(chosen.iter())
            .find(|((_, other), _)| *other == copy)
            .map(|(_, on)| *on);
        if same_volume || !right_place || (together && layer.is_some_and(|on| on != node)) {
            return false;
        }
        (0..nodes[node].pools.len()).any(|pool| {
            let Some(after) = put(left, nodes, new[v], node, pool) else {
                return false;
            };
            chosen.push(node);
            let done = go(&after, nodes, request, new, items, at, together, chosen);
            chosen.pop();
            done
        })
    })
}

fn existing_allow(nodes: &[Node], request: &Request, at: usize) -> bool {
    let alive = |name: &str| {
        nodes.iter().any(|node| {
            &*node.name == name
                && matches!(node.storage, StorageState::Ready | StorageState::Maintain)
        })
    };
    request.bound_volumes().all(|(_, bound)| {
        let here = bound.copies.iter().find(|copy| copy.node == nodes[at].name);
        let free = bound
            .published
            .as_ref()
            .is_none_or(|on| *on == nodes[at].name || !alive(on));
        here.is_some_and(|copy| copy.state != ReplicaState::Broken) && free
    })
}

fn oracle(nodes: &[Node], request: &Request, at: usize) -> bool {
    let sources = request.new_volumes().all(|(_, new)| {
        new.source
            .as_ref()
            .is_none_or(|source| source.contains(&nodes[at].name))
    });
    sources
        && existing_allow(nodes, request, at)
        && enumerate(&left(nodes, request), nodes, request, at, false)
}

/// Carries the plan out and says what is wrong with it.
fn carry_out(nodes: &[Node], request: &Request, at: usize, plan: &Plan) -> Result<(), String> {
    let mut left = left(nodes, request);
    for (volume, new) in request.new_volumes() {
        let planned = plan
            .volumes
            .iter()
            .find(|planned| planned.volume == volume.name)
            .ok_or("a volume is missing")?;
        let distinct: BTreeSet<_> = planned.copies.iter().map(|place| &place.node).collect();
        if distinct.len() != usize::from(new.copies) || planned.copies.len() != distinct.len() {
            return Err(format!("{}: {:?}", volume.name, planned.copies));
        }
        for (copy, place) in planned.copies.iter().enumerate() {
            let node = nodes
                .iter()
                .position(|node| node.name == place.node)
                .ok_or("unknown node")?;
            let pool = nodes[node]
                .pools
                .iter()
                .position(|pool| pool.name == place.pool)
                .ok_or("unknown pool")?;
            if (copy == 0) != (node == at) || (copy > 0 && !allowed(request, new, &nodes[node])) {
                return Err(format!("{} copy {copy} on {}", volume.name, place.node));
            }
            left = put(&left, nodes, new, node, pool)
                .ok_or_else(|| format!("{} does not fit at {place:?}", volume.name))?;
        }
    }
    (plan.volumes.len() == request.new_volumes().count())
        .then_some(())
        .ok_or_else(|| "a volume too many".to_owned())
}

fn is_together(plan: &Plan) -> bool {
    let layer = |j: usize| {
        plan.volumes
            .iter()
            .filter_map(|volume| volume.copies.get(j))
            .map(|place| &place.node)
            .collect::<BTreeSet<_>>()
    };
    (1..4).all(|j| layer(j).len() <= 1)
}

fn config() -> ProptestConfig {
    let seeds = proptest::test_runner::FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases: 2000,
        failure_persistence: Some(Box::new(seeds)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn fits_if_and_only_if_enumeration_finds_a_way(nodes in cluster(), request in request()) {
        let snapshot: Cluster = to_cluster(&nodes);
        let mut evaluator = Evaluator::new(&snapshot, &request);
        for at in 0..nodes.len() {
            let verdict = evaluator.verdict(&nodes[at].name);
            prop_assert_eq!(matches!(verdict, Verdict::Fit { .. }), oracle(&nodes, &request, at), "{}: {:?}", nodes[at].name, verdict);
            match verdict {
                Verdict::Fit { plan, score } => {
                    prop_assert_eq!(carry_out(&nodes, &request, at, &plan), Ok(()));
                    prop_assert!(score.points() <= 10);
                    if enumerate(&left(&nodes, &request), &nodes, &request, at, true) {
                        prop_assert!(is_together(&plan), "copies could be kept together: {:?}", plan);
                    }
                }
                Verdict::NoFit { reasons } => prop_assert!(!reasons.is_empty()),
            }
        }
    }

    #[test]
    fn choose_agrees_with_evaluate_and_takes_the_best(nodes in cluster(), request in request()) {
        let snapshot = to_cluster(&nodes);
        for node in &nodes {
            let chosen = choose(&snapshot, &request, Candidates::Selected(&node.name));
            match Evaluator::new(&snapshot, &request).verdict(&node.name) {
                Verdict::Fit { score, plan } => {
                    let chosen = chosen.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
                    prop_assert_eq!((chosen.score, chosen.plan, chosen.node), (score, plan, node.name.clone()));
                }
                Verdict::NoFit { reasons } => prop_assert_eq!(&chosen.unwrap_err().nodes[0].1, &reasons),
            }
        }
        let names: Vec<_> = nodes.iter().map(|node| node.name.clone()).collect();
        let may = |node: &&Node| request.constraints.selects(node) && request.constraints.untolerated(node).is_none();
        let best = nodes.iter().filter(may)
            .filter_map(|node| Evaluator::new(&snapshot, &request).score(&node.name).ok().map(|score| (std::cmp::Reverse(score), node.name.clone())))
            .min();
        let chosen = choose(&snapshot, &request, Candidates::Among(&names));
        prop_assert_eq!(chosen.as_ref().ok().map(|chosen| (std::cmp::Reverse(chosen.score), chosen.node.clone())), best);
        prop_assert_eq!(choose(&snapshot, &request, Candidates::Any), chosen);
    }

    #[test]
    fn the_order_of_everything_given_is_irrelevant(nodes in cluster(), request in request(), turn in 0..4usize) {
        let straight = to_cluster(&nodes);
        let mut turned = request.clone();
        turned.volumes.reverse();
        let len = turned.volumes.len();
        turned.volumes.rotate_left(turn % len);
        let mut shuffled = nodes.clone();
        shuffled.reverse();
        for node in &mut shuffled {
            node.pools.reverse();
            node.reservations.reverse();
        }
        let shuffled_cluster = to_cluster(&shuffled);
        let (mut a, mut b) = (Evaluator::new(&straight, &request), Evaluator::new(&shuffled_cluster, &turned));
        for node in nodes.iter().rev() {
            prop_assert_eq!(a.verdict(&node.name), b.verdict(&node.name));
        }
        for node in &nodes {
            prop_assert_eq!(a.verdict(&node.name), Evaluator::new(&straight, &request).verdict(&node.name), "asking order");
        }
    }
}
