//! What people meet: sentences, further copies, growth. Each case by hand, with the answer written out.

mod common;

use common::{a_new, a_node, a_pool, a_volume, extents, to_cluster};
use hawser_placement::selector::{Effect, Taint};
use hawser_placement::{
    BoundVolume, Bytes, Candidates, Constraints, Lack, NewVolume, Node, PoolClass, PoolHealth,
    Reason, Replica, ReplicaState, Request, Reservation, Reserved, Sentence, Share, StorageState,
    Verdict, VolumeKind, choose, evaluate, grow,
};

const SSD: PoolClass = PoolClass::Ssd;

fn asks(volumes: Vec<hawser_placement::Volume>) -> Request {
    Request {
        volumes,
        ..Request::default()
    }
}

fn a_bound(
    name: &str,
    copies: &[(&str, ReplicaState)],
    published: Option<&str>,
) -> hawser_placement::Volume {
    let copies = copies
        .iter()
        .map(|(node, state)| Replica {
            node: (*node).into(),
            state: *state,
        })
        .collect();
    a_volume(
        name,
        VolumeKind::Bound(BoundVolume {
            copies,
            published: published.map(Into::into),
        }),
    )
}

fn a_pair(name: &str, size: Bytes) -> hawser_placement::Volume {
    a_volume(
        name,
        VolumeKind::New(NewVolume {
            copies: 2,
            ..NewVolume::new(SSD, size)
        }),
    )
}

fn sentence(nodes: &[Node], request: &Request, node: &str) -> String {
    match evaluate(&to_cluster(nodes), request, node) {
        Verdict::NoFit { reasons } => Sentence::of(&reasons).to_string(),
        Verdict::Fit { score, plan } => format!("fits: {score:?} {plan:?}"),
    }
}

fn places(nodes: &[Node], request: &Request, node: &str) -> Vec<Vec<String>> {
    match evaluate(&to_cluster(nodes), request, node) {
        Verdict::Fit { plan, .. } => plan
            .volumes
            .iter()
            .map(|volume| {
                volume
                    .copies
                    .iter()
                    .map(|place| place.node.to_string())
                    .collect()
            })
            .collect(),
        Verdict::NoFit { reasons } => vec![vec![Sentence::of(&reasons).to_string()]],
    }
}

#[test]
fn two_claims_that_fit_alone_but_not_together() {
    let mut node = a_node("n1", vec![a_pool(SSD, Bytes::gib(100), Bytes::gib(45))]);
    node.reservations.push(Reservation {
        volume: "pvc-other".into(),
        owner: "default/other".into(),
        pool: "LocalStorage_PoolSSD".into(),
        size: Bytes::gib(10),
        thin: false,
    });
    let both = asks(vec![
        a_new("a", SSD, Bytes::gib(30)),
        a_new("b", SSD, Bytes::gib(30)),
    ]);
    let nodes = [node];
    assert_eq!(
        sentence(&nodes, &both, "n1"),
        "ssd pool: 45 of 100 GiB free, 10 reserved for default/other, 2 volumes need 60 together"
    );
    assert_eq!(
        places(&nodes, &asks(vec![a_new("a", SSD, Bytes::gib(30))]), "n1"),
        [["n1"]]
    );
    let Verdict::NoFit { reasons } = evaluate(&to_cluster(&nodes), &both, "n1") else {
        panic!()
    };
    assert!(reasons[0].curable_by_preemption());
    let room = Lack::Room {
        volumes: 2,
        needed: Bytes::gib(60),
        free: Bytes::gib(45),
        total: Bytes::gib(100),
        used: Bytes::gib(45),
        extent: Bytes::mib(4),
        reserved: Reserved {
            size: Bytes::gib(10),
            volumes: 1,
            owners: vec![Share {
                owner: "default/other".into(),
                size: Bytes::gib(10),
                volumes: 1,
            }],
            others: 0,
        },
    };
    assert_eq!(
        reasons,
        [Reason::Pool {
            pool: "LocalStorage_PoolSSD".into(),
            class: Some(SSD),
            lack: room
        }]
    );
}

#[test]
fn a_pod_does_not_compete_with_its_own_reservation() {
    let mut node = a_node("n1", vec![a_pool(SSD, extents(10), Bytes::ZERO)]);
    let reservation = |volume: &str| Reservation {
        volume: volume.into(),
        owner: "default/db-0".into(),
        pool: "LocalStorage_PoolSSD".into(),
        size: extents(5),
        thin: false,
    };
    node.reservations = vec![reservation("a"), reservation("b")];
    let nodes = [node];
    let own = asks(vec![
        a_new("a", SSD, extents(5)),
        a_new("b", SSD, extents(5)),
    ]);
    assert_eq!(places(&nodes, &own, "n1"), [["n1"], ["n1"]]);
    let others = asks(vec![a_new("c", SSD, extents(1))]);
    assert_eq!(
        sentence(&nodes, &others, "n1"),
        "ssd pool: 0 of 40 MiB free, 40 reserved for default/db-0, needs 4"
    );
}

#[test]
fn a_size_is_rounded_up_to_extents_and_a_torn_extent_is_not_free() {
    let node = |total: Bytes| [a_node("n1", vec![a_pool(SSD, total, Bytes::ZERO)])];
    let request = asks(vec![a_new("a", SSD, Bytes(extents(1).0 + 1))]);
    assert_eq!(places(&node(extents(2)), &request, "n1"), [["n1"]]);
    assert!(
        sentence(&node(Bytes(extents(2).0 - 1)), &request, "n1")
            .ends_with("4 of 7.9 MiB free, needs 8")
    );
}

#[test]
fn unknown_is_not_zero_and_says_so() {
    let unknown = hawser_placement::Pool::new("LocalStorage_PoolSSD", SSD, None);
    let nodes = [
        a_node("n1", vec![unknown]),
        a_node("n2", vec![]),
        Node::new("n3"),
    ];
    let request = asks(vec![a_new("a", SSD, extents(1))]);
    assert_eq!(
        sentence(&nodes, &request, "n1"),
        "ssd pool: its capacity is not known yet"
    );
    assert_eq!(
        sentence(&nodes, &request, "n2"),
        "no ssd pool for claim default/a"
    );
    assert_eq!(
        sentence(&nodes, &request, "n3"),
        "node has no storage (no LocalStorageNode)"
    );
    assert_eq!(
        sentence(&nodes, &request, "n4"),
        "node is not known to the storage scheduler yet"
    );
}

#[test]
fn existing_volumes_pin_the_pod_to_their_copies() {
    let nodes =
        ["n1", "n2", "n3"].map(|name| a_node(name, vec![a_pool(SSD, extents(10), Bytes::ZERO)]));
    let up = ReplicaState::UpToDate;
    let request = asks(vec![a_bound(
        "a",
        &[("n2", up), ("n1", ReplicaState::Syncing)],
        None,
    )]);
    assert_eq!(
        sentence(&nodes, &request, "n3"),
        "claim default/a: its data is on nodes n1 (syncing), n2"
    );
    let score = |node: &str| match evaluate(&to_cluster(&nodes), &request, node) {
        Verdict::Fit { score, .. } => score,
        Verdict::NoFit { reasons } => panic!("{reasons:?}"),
    };
    assert!(score("n2") > score("n1"));
    assert_eq!((score("n2").points(), score("n1").points()), (10, 1));
    let broken = asks(vec![a_bound("a", &[("n1", ReplicaState::Broken)], None)]);
    assert_eq!(
        sentence(&nodes, &broken, "n1"),
        "claim default/a: the copy here is not usable, see its LocalVolumeReplica"
    );
}

#[test]
fn in_use_elsewhere_counts_only_while_that_node_lives() {
    let mut nodes = ["n1", "n2"].map(|name| a_node(name, vec![]));
    let up = ReplicaState::UpToDate;
    let request = asks(vec![a_bound("a", &[("n1", up), ("n2", up)], Some("n1"))]);
    assert_eq!(
        sentence(&nodes, &request, "n2"),
        "claim default/a: in use on node n1"
    );
    assert!(matches!(
        evaluate(&to_cluster(&nodes), &request, "n1"),
        Verdict::Fit { .. }
    ));
    nodes[0].storage = StorageState::Offline;
    assert!(matches!(
        evaluate(&to_cluster(&nodes), &request, "n2"),
        Verdict::Fit { .. }
    ));
    // The only copies being where nobody answers is no reason to keep the pod away from them for ever.
    let Verdict::Fit { score, .. } = evaluate(&to_cluster(&nodes), &request, "n1") else {
        panic!()
    };
    assert_eq!(score.points(), 0);
}

#[test]
fn maintenance_takes_no_new_volumes_and_keeps_the_old_ones() {
    let mut node = a_node("n1", vec![a_pool(SSD, extents(10), Bytes::ZERO)]);
    node.storage = StorageState::Maintain;
    let nodes = [node];
    let old = asks(vec![a_bound("a", &[("n1", ReplicaState::UpToDate)], None)]);
    assert!(matches!(
        evaluate(&to_cluster(&nodes), &old, "n1"),
        Verdict::Fit { .. }
    ));
    let new = asks(vec![a_new("b", SSD, extents(1))]);
    assert_eq!(
        sentence(&nodes, &new, "n1"),
        "storage of the node is in maintenance (LocalStorageNode state Maintain)"
    );
}

#[test]
fn further_copies_prefer_another_zone_and_stay_together() {
    let zoned = |name: &str, zone: &str, free: u64| {
        let mut node = a_node(name, vec![a_pool(SSD, extents(20), extents(20 - free))]);
        node.zone = Some(zone.into());
        node
    };
    let nodes = [
        zoned("n1", "a", 20),
        zoned("n2", "a", 20),
        zoned("n3", "b", 12),
        zoned("n4", "b", 6),
    ];
    let one = asks(vec![a_pair("v", extents(4))]);
    assert_eq!(
        places(&nodes, &one, "n1"),
        [["n1", "n3"]],
        "another zone, the emptier node"
    );
    assert_eq!(places(&nodes, &one, "n3"), [["n3", "n1"]], "ties by name");
    let two = asks(vec![a_pair("v", extents(6)), a_pair("w", extents(6))]);
    assert_eq!(
        places(&nodes, &two, "n1"),
        [["n1", "n3"], ["n1", "n3"]],
        "only n3 and n2 can take both"
    );
    let three = asks(vec![a_pair("v", extents(6)), a_pair("w", extents(7))]);
    assert_eq!(
        places(&nodes, &three, "n1"),
        [["n1", "n2"], ["n1", "n2"]],
        "together in this zone rather than spread over the other"
    );
}

#[test]
fn further_copies_go_where_the_pods_other_volumes_are() {
    let nodes =
        ["n1", "n2", "n3"].map(|name| a_node(name, vec![a_pool(SSD, extents(20), Bytes::ZERO)]));
    let up = ReplicaState::UpToDate;
    let request = asks(vec![
        a_bound("a", &[("n1", up), ("n3", up)], None),
        a_pair("b", extents(4)),
    ]);
    assert_eq!(places(&nodes, &request, "n1"), [["n1", "n3"]]);
}

#[test]
fn where_no_node_can_take_all_the_copies_are_spread() {
    let nodes = [("n1", 20), ("n2", 6), ("n3", 6)]
        .map(|(name, total)| a_node(name, vec![a_pool(SSD, extents(total), Bytes::ZERO)]));
    let request = asks(vec![a_pair("v", extents(4)), a_pair("w", extents(5))]);
    assert_eq!(
        places(&nodes, &request, "n1"),
        [["n1", "n3"], ["n1", "n2"]],
        "the larger one first, each where it is best off"
    );
}

#[test]
fn the_refusal_of_further_copies_counts_causes() {
    let with =
        |name: &str, total: u64| a_node(name, vec![a_pool(SSD, extents(total), Bytes::ZERO)]);
    let mut nodes = vec![
        with("n1", 10),
        with("n2", 1),
        with("n3", 10),
        with("n4", 10),
        with("n5", 10),
        a_node("n6", vec![]),
    ];
    nodes[2].storage = StorageState::Offline;
    nodes[3].taints.push(Taint {
        key: "dedicated".into(),
        value: "gpu".into(),
        effect: Effect::NoSchedule,
    });
    let label = |node: &mut Node, value: &str| {
        std::sync::Arc::make_mut(&mut node.labels).insert("disk".into(), value.into());
    };
    label(&mut nodes[4], "slow");
    for node in nodes
        .iter_mut()
        .filter(|node| !node.labels.contains_key("disk"))
    {
        label(node, "fast");
    }
    nodes.push(Node::new("n7"));
    let constraints = Constraints {
        node_selector: [("disk".to_owned(), "fast".to_owned())].into(),
        ..Constraints::default()
    };
    let mut request = Request {
        constraints,
        ..asks(vec![a_pair("a", extents(2))])
    };
    assert_eq!(
        sentence(&nodes, &request, "n1"),
        "claim default/a: 2 copies on different nodes wanted, 1 of 6 nodes with storage can take one (1 not serving, \
         1 not selected by the pod's node selector or affinity, 1 tainted, 1 without such a pool, 1 without room)"
    );
    let VolumeKind::New(new) = &mut request.volumes[0].kind else {
        panic!()
    };
    new.anywhere = true;
    assert_eq!(
        places(&nodes, &request, "n1"),
        [["n1", "n4"]],
        "the claim disregards the pod's selector and tolerations"
    );
}

#[test]
fn a_clone_starts_where_its_source_is() {
    let nodes = ["n1", "n2"].map(|name| a_node(name, vec![a_pool(SSD, extents(20), Bytes::ZERO)]));
    let clone = NewVolume {
        source: Some(vec!["n2".into()]),
        ..NewVolume::new(SSD, extents(1))
    };
    let request = asks(vec![a_volume("a", VolumeKind::New(clone))]);
    assert_eq!(
        sentence(&nodes, &request, "n1"),
        "claim default/a: its source is on node n2"
    );
    assert_eq!(
        choose(&to_cluster(&nodes), &request, Candidates::Any)
            .unwrap()
            .node,
        "n2".into()
    );
}

#[test]
fn without_a_scheduler_taints_and_selectors_are_checked_here() {
    let mut nodes =
        ["n1", "n2"].map(|name| a_node(name, vec![a_pool(SSD, extents(20), Bytes::ZERO)]));
    nodes[0].taints.push(Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: String::new(),
        effect: Effect::NoSchedule,
    });
    let request = asks(vec![a_new("a", SSD, extents(1))]);
    let cluster = to_cluster(&nodes);
    assert_eq!(
        choose(&cluster, &request, Candidates::Any).unwrap().node,
        "n2".into()
    );
    assert_eq!(
        choose(&cluster, &request, Candidates::Selected("n1"))
            .unwrap()
            .node,
        "n1".into()
    );
    let refusal = choose(&cluster, &request, Candidates::Among(&["n1".into()])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "node n1: the pod does not tolerate taint node.kubernetes.io/unschedulable:NoSchedule"
    );
}

#[test]
fn a_refusal_by_many_nodes_counts_equal_sentences() {
    let small = |name: &str| a_node(name, vec![a_pool(SSD, extents(1), Bytes::ZERO)]);
    let cluster = to_cluster(&[small("n1"), small("n2"), a_node("n3", vec![])]);
    let refusal = choose(
        &cluster,
        &asks(vec![a_new("a", SSD, extents(2))]),
        Candidates::Any,
    )
    .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "none of 3 nodes can hold the volumes: 1: no ssd pool for claim default/a; \
         2: ssd pool: 4 of 4 MiB free, needs 8"
    );
    let nowhere = choose(
        &to_cluster(&[]),
        &asks(vec![a_new("a", SSD, extents(2))]),
        Candidates::Any,
    )
    .unwrap_err();
    assert_eq!(nowhere.to_string(), "there is no node to choose from");
}

#[test]
fn growth_needs_room_for_the_difference_only() {
    let mut pool = a_pool(SSD, extents(10), extents(8));
    let name = "LocalStorage_PoolSSD";
    let grown = |pool: &hawser_placement::Pool, from: u64, to: u64| {
        let cluster = to_cluster(&[a_node("n1", vec![pool.clone()])]);
        grow(&cluster, "n1", name, (extents(from), extents(to)), |_| {
            false
        })
        .map_err(|reasons| Sentence::of(&reasons).to_string())
    };
    assert_eq!(grown(&pool, 4, 6), Ok(()));
    assert_eq!(
        grown(&pool, 4, 7),
        Err("ssd pool: 8 of 40 MiB free, needs 12".to_owned())
    );
    pool.health = PoolHealth::Failed;
    assert_eq!(grown(&pool, 4, 4), Ok(()), "nothing to do needs nothing");
    assert!(grown(&pool, 4, 5).unwrap_err().contains("has failed"));
    pool.name = "LocalStorage_PoolHDD".into();
    assert_eq!(
        grown(&pool, 4, 5),
        Err("pool LocalStorage_PoolSSD: is not there any more".to_owned())
    );
}

#[test]
fn the_largest_volume_that_can_be_made() {
    let mut node = a_node("n1", vec![a_pool(SSD, extents(10), extents(2))]);
    assert_eq!(node.available(SSD), Some(extents(8)));
    assert_eq!(node.available(PoolClass::Hdd), None);
    node.pools[0].volume_size_limit = Some(extents(3));
    assert_eq!(node.available(SSD), Some(extents(3)));
    node.pools[0].volume_limit = Some(0);
    assert_eq!(node.available(SSD), Some(Bytes::ZERO));
    node.pools[0] = hawser_placement::Pool::new("p", SSD, None);
    assert_eq!(node.available(SSD), None);
}

#[test]
fn contrived_sets_end_in_time_and_honestly() {
    let pool = |i: usize| hawser_placement::Pool::new(format!("p{i}"), SSD, Some(extents(100)));
    let nodes = [a_node("n1", (0..10).map(pool).collect())];
    // Each takes more than half a pool, so eleven do not fit into ten; that all orders fail is too much to try.
    let volumes = |n: u64| {
        (0..n)
            .map(|i| a_new(&format!("v{i:02}"), SSD, extents(51 + i)))
            .collect()
    };
    let verdict = |n: u64| evaluate(&to_cluster(&nodes), &asks(volumes(n)), "n1");
    assert!(matches!(verdict(10), Verdict::Fit { .. }));
    assert_eq!(
        verdict(11),
        Verdict::NoFit {
            reasons: vec![Reason::Undecided { volumes: 11 }]
        }
    );
}

#[test]
fn a_shared_claim_that_has_its_place_keeps_its_reservation() {
    // Claim a is being made (its volume has a place, its copy does not exist yet): the room is promised to it, also in the eyes
    // of a second pod that uses claim a and wants a new one beside it.
    let mut node = a_node("n1", vec![a_pool(SSD, extents(10), Bytes::ZERO)]);
    node.reservations = vec![Reservation {
        volume: "a".into(),
        owner: "default/db-0".into(),
        pool: "LocalStorage_PoolSSD".into(),
        size: extents(6),
        thin: false,
    }];
    let nodes = [node];
    let second = |size: u64| {
        asks(vec![
            a_bound("a", &[("n1", ReplicaState::Syncing)], None),
            a_new("b", SSD, extents(size)),
        ])
    };
    assert_eq!(places(&nodes, &second(4), "n1"), [["n1"]]);
    assert_eq!(
        sentence(&nodes, &second(5), "n1"),
        "ssd pool: 16 of 40 MiB free, 24 reserved for default/db-0, needs 20"
    );
}
