//! One decision at 5,000 nodes with 3 pools each: all nodes filtered and scored, as for one request of kube-scheduler.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hawser_placement::{
    BoundVolume, Bytes, Cluster, Evaluator, Name, NewVolume, Node, Pool, PoolClass, Replica,
    ReplicaState, Request, StorageState, Volume, VolumeKind,
};

const NODES: u64 = 5_000;

fn cluster() -> Cluster {
    let node = |i: u64| {
        let pool = |class: PoolClass| Pool {
            used: Bytes::gib(100 + i * 7919 % 800),
            volumes: 7,
            volume_limit: Some(1000),
            ..Pool::new(
                format!("LocalStorage_Pool{class}"),
                class,
                Some(Bytes::gib(1000)),
            )
        };
        Node {
            storage: StorageState::Ready,
            zone: Some(format!("zone-{}", i % 3).into()),
            pools: [PoolClass::Hdd, PoolClass::Ssd, PoolClass::Nvme]
                .map(pool)
                .to_vec(),
            ..Node::new(format!("worker-{i:05}.example.internal"))
        }
    };
    (0..NODES).map(node).collect()
}

fn a_volume(name: &str, kind: VolumeKind) -> Volume {
    Volume {
        name: format!("pvc-{name}").into(),
        claim: format!("shop/{name}").into(),
        kind,
    }
}

fn two_new(size: Bytes, copies: u8) -> Request {
    let new = |name: &str, class| {
        a_volume(
            name,
            VolumeKind::New(NewVolume {
                copies,
                ..NewVolume::new(class, size)
            }),
        )
    };
    Request {
        volumes: vec![new("data", PoolClass::Hdd), new("log", PoolClass::Ssd)],
        ..Request::default()
    }
}

fn two_existing(cluster: &Cluster) -> Request {
    let node = cluster
        .nodes()
        .map(|node| node.name.clone())
        .min()
        .expect("there are nodes");
    let copies = vec![Replica {
        node,
        state: ReplicaState::UpToDate,
    }];
    let bound = |name: &str| {
        a_volume(
            name,
            VolumeKind::Bound(BoundVolume {
                copies: copies.clone(),
                published: None,
            }),
        )
    };
    Request {
        volumes: vec![bound("data"), bound("log")],
        ..Request::default()
    }
}

/// As the extender does.
fn decide(cluster: &Cluster, request: &Request, names: &[Name]) -> usize {
    let mut evaluator = Evaluator::new(cluster, request);
    names
        .iter()
        .filter_map(|name| cluster.id(name))
        .filter(|id| evaluator.look(*id).is_ok())
        .count()
}

/// Every node itself, with reasons.
fn in_detail(cluster: &Cluster, request: &Request, names: &[Name]) -> usize {
    let mut evaluator = Evaluator::new(cluster, request);
    names
        .iter()
        .filter(|name| evaluator.score(name).is_ok())
        .count()
}

fn decisions(c: &mut Criterion) {
    let cluster = cluster();
    let mut names: Vec<Name> = cluster.nodes().map(|node| node.name.clone()).collect();
    names.sort();
    let cases = [
        (
            "two new volumes, most nodes fit",
            two_new(Bytes::gib(50), 1),
        ),
        (
            "two new volumes, no node fits",
            two_new(Bytes::gib(2000), 1),
        ),
        (
            "two new volumes with two copies",
            two_new(Bytes::gib(50), 2),
        ),
        ("two existing volumes", two_existing(&cluster)),
    ];
    let mut group = c.benchmark_group("filter 5000 nodes");
    group.sample_size(30);
    for (name, request) in &cases {
        group.bench_function(*name, |b| {
            b.iter(|| black_box(decide(&cluster, request, &names)));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("5000 nodes in detail");
    group.sample_size(30);
    for (name, request) in &cases {
        assert_eq!(
            decide(&cluster, request, &names),
            in_detail(&cluster, request, &names)
        );
        group.bench_function(*name, |b| {
            b.iter(|| black_box(in_detail(&cluster, request, &names)));
        });
    }
    group.finish();
    c.bench_function("clone of a cluster of 5000 nodes", |b| {
        b.iter(|| black_box(cluster.clone()));
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
