//! Small clusters and requests, as strategies. Sizes are in extents of 4 MiB so that packing is tight and often fails.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_placement::selector::{Effect, Taint, Toleration, TolerationOperator};
use hawser_placement::{
    BoundVolume, Bytes, Cluster, Constraints, NewVolume, Node, Pool, PoolClass, PoolHealth,
    Replica, ReplicaState, Request, Reservation, StorageState, Strategy as Order, ThinPool, Volume,
    VolumeKind,
};
use proptest::prelude::*;

pub(crate) fn extents(n: u64) -> Bytes {
    Bytes::mib(4 * n)
}

pub(crate) fn a_volume(name: &str, kind: VolumeKind) -> Volume {
    Volume {
        name: name.into(),
        claim: format!("default/{name}").into(),
        kind,
    }
}

pub(crate) fn a_new(name: &str, class: PoolClass, size: Bytes) -> Volume {
    a_volume(name, VolumeKind::New(NewVolume::new(class, size)))
}

pub(crate) fn a_node(name: &str, pools: Vec<Pool>) -> Node {
    Node {
        storage: StorageState::Ready,
        pools,
        ..Node::new(name)
    }
}

pub(crate) fn a_pool(class: PoolClass, total: Bytes, used: Bytes) -> Pool {
    Pool {
        used,
        ..Pool::new(format!("LocalStorage_Pool{class}"), class, Some(total))
    }
}

fn class() -> BoxedStrategy<PoolClass> {
    prop_oneof![3 => Just(PoolClass::Hdd), 1 => Just(PoolClass::Ssd)].boxed()
}

fn pool(index: usize) -> BoxedStrategy<Pool> {
    let limits = (
        prop::option::weighted(0.2, 0..4u64),
        prop::option::weighted(0.2, 1..6u64),
    );
    let state = (prop::option::weighted(0.9, 0..10u64), 0..3u64, 0..10u8);
    let thin = prop::option::weighted(0.3, (0..8u64, 0..3u64));
    (class(), state, limits, thin, 0..2u64, any::<bool>())
        .prop_map(
            move |(class, (total, used, health), limits, thin, volumes, large)| Pool {
                extent: if large { extents(2) } else { extents(1) },
                used: extents(used),
                volumes,
                volume_limit: limits.0,
                volume_size_limit: limits.1.map(extents),
                thin: thin.map(|(limit, promised)| ThinPool {
                    limit: extents(limit),
                    promised: extents(promised),
                }),
                health: match health {
                    0 => PoolHealth::Failed,
                    1 => PoolHealth::Degraded,
                    _ => PoolHealth::Healthy,
                },
                ..Pool::new(format!("pool{index}"), class, total.map(extents))
            },
        )
        .boxed()
}

fn reservation() -> BoxedStrategy<Reservation> {
    (0..12usize, 0..2usize, 1..4u64, any::<bool>())
        .prop_map(|(volume, pool, size, thin)| Reservation {
            volume: format!("v{volume}").into(),
            owner: "default/other".into(),
            pool: format!("pool{pool}").into(),
            size: extents(size),
            thin,
        })
        .boxed()
}

fn node(index: usize) -> BoxedStrategy<Node> {
    let pools = prop_oneof![2 => (pool(0)).prop_map(|a| vec![a]), 2 => (pool(0), pool(1)).prop_map(|(a, b)| vec![a, b])];
    let place = (prop::option::of(0..2usize), 0..5u8, 0..5u8);
    (
        pools,
        place,
        prop::collection::vec(reservation(), 0..3),
        prop::option::weighted(0.2, 0..5u64),
        0..8u8,
    )
        .prop_map(
            move |(pools, (zone, label, taint), reservations, volume_limit, storage)| Node {
                labels: Arc::new(BTreeMap::from([(
                    "disk".into(),
                    if label == 0 { "slow" } else { "fast" }.into(),
                )])),
                taints: (taint == 0)
                    .then(|| Taint {
                        key: "dedicated".into(),
                        value: "db".into(),
                        effect: Effect::NoSchedule,
                    })
                    .into_iter()
                    .collect(),
                zone: zone.map(|zone| format!("z{zone}").into()),
                storage: match storage {
                    0 => StorageState::Offline,
                    1 => StorageState::Maintain,
                    _ => StorageState::Ready,
                },
                volume_limit,
                pools,
                reservations,
                ..Node::new(format!("n{index}"))
            },
        )
        .boxed()
}

pub(crate) fn cluster() -> BoxedStrategy<Vec<Node>> {
    (node(0), node(1), node(2), node(3))
        .prop_flat_map(|(a, b, c, d)| {
            (2..=4usize).prop_map(move |n| {
                [a.clone(), b.clone(), c.clone(), d.clone()]
                    .into_iter()
                    .take(n)
                    .collect()
            })
        })
        .boxed()
}

fn new_volume(copies: std::ops::RangeInclusive<u8>) -> BoxedStrategy<VolumeKind> {
    let source = prop::option::weighted(
        0.1,
        prop::collection::vec((0..4usize).prop_map(|n| format!("n{n}").into()), 1..3),
    );
    (
        class(),
        1..5u64,
        prop::bool::weighted(0.2),
        copies,
        source,
        (
            prop::bool::weighted(0.2),
            prop::option::weighted(0.3, prop_oneof![Just(Order::Spread), Just(Order::BinPack)]),
        ),
    )
        .prop_map(
            |(class, size, thin, copies, source, (anywhere, strategy))| {
                VolumeKind::New(NewVolume {
                    strategy,
                    class,
                    size: Bytes(extents(size).0 - 1),
                    thin,
                    copies,
                    source,
                    anywhere,
                })
            },
        )
        .boxed()
}

fn bound_volume() -> BoxedStrategy<VolumeKind> {
    let state = prop_oneof![
        Just(ReplicaState::UpToDate),
        Just(ReplicaState::Syncing),
        Just(ReplicaState::Broken)
    ];
    let copy = (0..4usize, state).prop_map(|(node, state)| Replica {
        node: format!("n{node}").into(),
        state,
    });
    let published = prop::option::weighted(0.2, (0..4usize).prop_map(|n| format!("n{n}").into()));
    (prop::collection::vec(copy, 0..4), published)
        .prop_map(|(mut copies, published)| {
            copies.sort_by(|a, b| a.node.cmp(&b.node));
            copies.dedup_by(|a, b| a.node == b.node);
            VolumeKind::Bound(BoundVolume { copies, published })
        })
        .boxed()
}

fn constraints() -> BoxedStrategy<Constraints> {
    (prop::bool::weighted(0.3), any::<bool>())
        .prop_map(|(select, tolerate)| Constraints {
            node_selector: select
                .then(|| ("disk".to_owned(), "fast".to_owned()))
                .into_iter()
                .collect(),
            node_affinity: None,
            tolerations: tolerate
                .then(|| Toleration {
                    key: "dedicated".into(),
                    operator: TolerationOperator::Exists,
                    ..Toleration::default()
                })
                .into_iter()
                .collect(),
        })
        .boxed()
}

pub(crate) fn request() -> BoxedStrategy<Request> {
    let few = prop::collection::vec(new_volume(1..=3), 1..=2);
    let many = prop::collection::vec(new_volume(1..=2), 3..=3);
    let new = prop_oneof![few, many];
    let bound =
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(bound_volume(), 1..3)];
    let order = prop_oneof![Just(Order::Spread), Just(Order::BinPack)];
    (new, bound, constraints(), order)
        .prop_map(|(new, bound, constraints, strategy)| Request {
            volumes: new
                .into_iter()
                .chain(bound)
                .enumerate()
                .map(|(i, kind)| a_volume(&format!("v{i}"), kind))
                .collect(),
            constraints,
            strategy,
        })
        .boxed()
}

pub(crate) fn to_cluster(nodes: &[Node]) -> Cluster {
    nodes.iter().cloned().collect()
}
