//! The quick way, by rows of numbers, says what looking at each node says; whatever happened to the cluster before.

mod common;

use common::{cluster, request, to_cluster};
use hawser_placement::{
    Bytes, Cluster, Evaluator, Hold, Node, PoolClass, Reason, Request, StorageState,
};
use proptest::prelude::*;

/// What happens to a cluster before it is asked.
#[derive(Clone, Debug)]
enum Change {
    Put(Node),
    Remove(usize),
    /// The node's pools are taken by somebody else's.
    Pools(usize, Node),
}

fn change() -> BoxedStrategy<Change> {
    let node = || (cluster(), 0..4usize).prop_map(|(nodes, n)| nodes[n % nodes.len()].clone());
    prop_oneof![
        3 => node().prop_map(Change::Put),
        2 => (0..4usize).prop_map(Change::Remove),
        1 => (0..4usize, node()).prop_map(|(n, other)| Change::Pools(n, other)),
    ]
    .boxed()
}

fn apply(cluster: &mut Cluster, change: Change) {
    match change {
        Change::Put(node) => cluster.insert(node),
        Change::Remove(n) => cluster.remove(&format!("n{n}")),
        Change::Pools(n, other) => cluster.update(&format!("n{n}"), |node| {
            node.pools = other.pools;
            node.reservations = other.reservations;
        }),
    }
}

fn holds() -> BoxedStrategy<Vec<Hold>> {
    let class = prop_oneof![Just(PoolClass::Hdd), Just(PoolClass::Ssd)];
    let hold = (0..5usize, class, 1..4u64, any::<bool>()).prop_map(|(n, class, size, thin)| Hold {
        node: format!("n{n}").into(),
        class,
        size: common::extents(size),
        thin,
    });
    prop::collection::vec(hold, 0..4).boxed()
}

/// Compares both ways for every node.
fn agree(cluster: &Cluster, request: &Request, holds: &[Hold]) -> Result<(), TestCaseError> {
    let mut evaluator = Evaluator::new(cluster, request).with_holds(holds);
    let mut plain = Evaluator::new(cluster, request).with_holds(holds);
    for node in cluster.nodes() {
        let id = cluster.id(&node.name).expect("it is there");
        let scored = plain.score(&node.name);
        match (evaluator.look(id), &scored) {
            (Ok(quick), Ok(score)) => prop_assert_eq!(quick, *score, "{}", node.name),
            (Err(lacks), Err(reasons)) if lacks.is_complete() => {
                let curable = reasons.iter().all(Reason::curable_by_preemption);
                prop_assert_eq!(
                    lacks.curable_by_preemption(),
                    curable,
                    "{}: {:?} {:?}",
                    node.name,
                    lacks,
                    reasons
                );
                let told = evaluator.reasons(id, lacks);
                prop_assert!(!told.is_empty(), "{lacks:?}");
                if told == *reasons {
                    let missing = reasons.iter().map(|why| u128::from(why.missing()));
                    prop_assert_eq!(
                        evaluator.missing(id, lacks),
                        missing.sum::<u128>(),
                        "{:?}",
                        told
                    );
                } else {
                    // The request is bound to other nodes: only that is told.
                    let bound = |why: &Reason| {
                        matches!(
                            why,
                            Reason::DataElsewhere { .. }
                                | Reason::NoCopies { .. }
                                | Reason::SourceElsewhere { .. }
                        )
                    };
                    prop_assert!(told.iter().all(bound), "{told:?}, but {reasons:?}");
                    prop_assert_eq!(evaluator.missing(id, lacks), 0);
                    let serving = node.storage == StorageState::Ready;
                    prop_assert!(
                        !serving || told.iter().all(|why| reasons.contains(why)),
                        "{:?}, but {:?}",
                        told,
                        reasons
                    );
                }
            }
            (Err(_), Err(_)) => {}
            (quick, score) => prop_assert!(false, "{}: {quick:?}, but {score:?}", node.name),
        }
        prop_assert_eq!(&plain.score_as(node), &scored);
    }
    Ok(())
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
    fn rows_say_what_nodes_say(
        nodes in cluster(),
        changes in prop::collection::vec(change(), 0..6),
        request in request(),
        holds in holds(),
    ) {
        let mut cluster = to_cluster(&nodes);
        for change in changes {
            apply(&mut cluster, change);
        }
        agree(&cluster, &request, &holds)?;
    }

    #[test]
    fn a_cluster_is_its_nodes_whatever_happened_before(
        nodes in cluster(),
        changes in prop::collection::vec(change(), 0..8),
        request in request(),
    ) {
        let mut cluster = to_cluster(&nodes);
        let kept = cluster.clone();
        for change in changes {
            apply(&mut cluster, change);
        }
        prop_assert_eq!(&kept, &to_cluster(&nodes), "a clone is left alone");
        let rebuilt: Cluster = cluster.nodes().map(|node| Node::clone(node)).collect();
        prop_assert_eq!(&rebuilt, &cluster);
        prop_assert_eq!(cluster.len(), cluster.nodes().count());
        let (mut a, mut b) = (Evaluator::new(&cluster, &request), Evaluator::new(&rebuilt, &request));
        for node in cluster.nodes() {
            prop_assert_eq!(a.verdict(&node.name), b.verdict(&node.name));
        }
    }
}

#[test]
fn odd_numbers_are_compared_alike() {
    let pool = |total: Option<u64>, used: u64| hawser_placement::Pool {
        extent: Bytes(0),
        used: Bytes(used),
        ..hawser_placement::Pool::new("p", PoolClass::Ssd, total.map(Bytes))
    };
    let nodes = [
        ("zero", pool(Some(0), 0)),
        ("full", pool(Some(u64::MAX), u64::MAX)),
        ("vast", pool(Some(u64::MAX), 0)),
        ("unknown", pool(None, 5)),
        ("overfull", pool(Some(5), 9)),
    ];
    let cluster: Cluster = nodes
        .into_iter()
        .map(|(name, pool)| common::a_node(name, vec![pool]))
        .chain([Node::new("bare"), {
            let mut node = common::a_node("limited", vec![]);
            node.storage = StorageState::Maintain;
            node.volume_limit = Some(u64::MAX);
            node
        }])
        .collect();
    for size in [0, 1, 5, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        let volume = |name: &str| common::a_new(name, PoolClass::Ssd, Bytes(size));
        for volumes in [vec![volume("a")], vec![volume("a"), volume("b")]] {
            let request = Request {
                volumes,
                ..Request::default()
            };
            agree(&cluster, &request, &[]).expect("both ways agree");
        }
    }
    let nothing = Request::default();
    agree(&cluster, &nothing, &[]).expect("both ways agree about nothing");
}
