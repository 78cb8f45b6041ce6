//! Better never scores worse: more room (where volumes are spread), a healthier pool, a healthier copy, less held by others.
//! On random clusters, also with several pools of a class, limits, thin pools, further copies and mixed strategies.

mod common;

use common::{cluster, request, to_cluster};
use hawser_placement::{
    Cluster, Evaluator, Hold, Node, PoolClass, PoolHealth, ReplicaState, Request, Score,
    Strategy as Order, VolumeKind,
};
use proptest::prelude::*;

fn score(nodes: &[Node], request: &Request, node: &str, holds: &[Hold]) -> Option<Score> {
    let cluster: Cluster = to_cluster(nodes);
    let mut evaluator = Evaluator::new(&cluster, request).with_holds(holds);
    evaluator.look(cluster.id(node)?).ok()
}

/// The request with everything spread.
fn spread(request: &Request) -> Request {
    let mut spread = request.clone();
    spread.strategy = Order::Spread;
    for volume in &mut spread.volumes {
        if let VolumeKind::New(new) = &mut volume.kind {
            new.strategy = None;
        }
    }
    spread
}

fn config() -> ProptestConfig {
    let seeds = proptest::test_runner::FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases: 1000,
        failure_persistence: Some(Box::new(seeds)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn more_room_never_scores_worse_under_spread(
        nodes in cluster(), request in request(), which in 0..4usize, pool in 0..2usize, more in 1..20u64, how in 0..4u8,
    ) {
        let request = spread(&request);
        let name = format!("n{which}");
        let mut roomier = nodes.clone();
        for node in roomier.iter_mut().filter(|node| *node.name == *name) {
            let Some(pool) = node.pools.get_mut(pool) else { continue };
            let more = common::extents(more);
            match how {
                0 => pool.total = pool.total.map(|total| total + more),
                1 => pool.used = pool.used.saturating_sub(more),
                2 => pool.volumes = 0,
                _ => pool.thin = pool.thin.map(|thin| hawser_placement::ThinPool { limit: thin.limit + more, ..thin }),
            }
        }
        prop_assert!(score(&roomier, &request, &name, &[]) >= score(&nodes, &request, &name, &[]));
    }

    #[test]
    fn fewer_reservations_of_others_never_score_worse_under_spread(
        nodes in cluster(), request in request(), which in 0..4usize,
    ) {
        let request = spread(&request);
        let name = format!("n{which}");
        let mut freer = nodes.clone();
        for node in freer.iter_mut().filter(|node| *node.name == *name) {
            node.reservations.retain(|held| request.owns(held));
        }
        prop_assert!(score(&freer, &request, &name, &[]) >= score(&nodes, &request, &name, &[]));
    }

    #[test]
    fn a_healthier_copy_never_scores_worse(nodes in cluster(), request in request(), which in 0..4usize) {
        let name = format!("n{which}");
        let mut healthier = request.clone();
        for volume in &mut healthier.volumes {
            if let VolumeKind::Bound(bound) = &mut volume.kind {
                for copy in bound.copies.iter_mut().filter(|copy| *copy.node == *name) {
                    copy.state = match copy.state {
                        ReplicaState::Broken => ReplicaState::Syncing,
                        ReplicaState::Syncing | ReplicaState::UpToDate => ReplicaState::UpToDate,
                    };
                }
            }
        }
        prop_assert!(score(&nodes, &healthier, &name, &[]) >= score(&nodes, &request, &name, &[]));
    }

    #[test]
    fn a_healthier_pool_never_scores_worse(nodes in cluster(), request in request(), which in 0..4usize, pool in 0..2usize) {
        // A failed pool is none: that it comes back changes the share of room that is left, up or down, as another pool would.
        let name = format!("n{which}");
        let mut healed = nodes.clone();
        for node in healed.iter_mut().filter(|node| *node.name == *name) {
            for pool in node.pools.get_mut(pool).into_iter().filter(|pool| pool.health == PoolHealth::Degraded) {
                pool.health = PoolHealth::Healthy;
            }
        }
        prop_assert!(score(&healed, &request, &name, &[]) >= score(&nodes, &request, &name, &[]));
    }

    #[test]
    fn what_is_held_refuses_nothing_and_never_scores_better_under_spread(
        nodes in cluster(), request in request(), which in 0..4usize, class in 0..2usize, size in 1..6u64, thin in any::<bool>(),
    ) {
        let name = format!("n{which}");
        let class = [PoolClass::Hdd, PoolClass::Ssd][class];
        let hold = Hold { node: name.as_str().into(), class, size: common::extents(size), thin };
        let (one, two) = ([hold.clone()], [hold.clone(), hold]);
        let before = score(&nodes, &request, &name, &[]);
        prop_assert_eq!(score(&nodes, &request, &name, &one).is_some(), before.is_some());
        let request = spread(&request);
        let scores = [&[][..], &one, &two].map(|holds| score(&nodes, &request, &name, holds));
        prop_assert!(scores[0] >= scores[1] && scores[1] >= scores[2], "{scores:?}");
        prop_assert!(scores.iter().flatten().all(|score| score.points() <= 10));
    }

    #[test]
    fn points_follow_scores(nodes in cluster(), request in request()) {
        let mut scores: Vec<Score> = nodes.iter().filter_map(|node| score(&nodes, &request, &node.name, &[])).collect();
        scores.sort();
        prop_assert!(scores.iter().map(|score| score.points()).is_sorted());
    }
}
