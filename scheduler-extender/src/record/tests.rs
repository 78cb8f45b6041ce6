//! What is kept, for how long, and what it takes.

use hawser_inventory::{Fold, Inventory};
use hawser_placement::{Bytes, NewVolume, PoolClass, Request, Volume, VolumeKind};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::*;

fn pod(name: &str, uid: &str) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "shop", "uid": uid } }))
        .unwrap()
}

fn shop(name: &str) -> PodName {
    PodName {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

fn known(records: &Records, name: &str) -> Option<(bool, bool)> {
    let decision = records.get(&shop(name))?;
    Some((decision.filtered.is_some(), decision.prioritized.is_some()))
}

fn names(nodes: usize) -> Vec<String> {
    (0..nodes)
        .map(|i| format!("worker-{i:05}.example.internal"))
        .collect()
}

fn add_node(inventory: &mut Inventory, name: &str) {
    let node: Node = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    inventory.apply(&node);
}

/// Nodes without storage.
fn cluster(nodes: usize) -> Inventory {
    let mut inventory = Inventory::new();
    for name in names(nodes) {
        add_node(&mut inventory, &name);
    }
    inventory
}

fn refused(inventory: &Inventory, names: &[String]) -> Outcome {
    let new = NewVolume::new(PoolClass::Ssd, Bytes::gib(1));
    let asks = Asks::Volumes(Request {
        volumes: vec![Volume {
            name: "pvc-1".into(),
            claim: "shop/data".into(),
            kind: VolumeKind::New(new),
        }],
        ..Request::default()
    });
    let filtered = decide::filter(inventory, &asks, names);
    Outcome::of(asks, filtered)
}

fn points(records: &Records, pod: &Pod, inventory: &Inventory, names: &[String]) {
    let nodes = Nodes::find(inventory.cluster(), names);
    records.prioritized(Some(pod), nodes, vec![3; names.len()]);
}

#[test]
fn the_last_decision_of_each_pod_is_kept_and_the_oldest_pod_goes_first() {
    let records = Records::with_limits(2, usize::MAX);
    let (inventory, names) = (cluster(1), names(1));
    let filter = |name: &str| {
        records.filtered(Some(pod(name, "1")), refused(&inventory, &names));
    };
    let prioritize = |name: &str, uid: &str| {
        points(&records, &pod(name, uid), &inventory, &names);
    };
    filter("a");
    filter("b");
    prioritize("a", "1");
    assert_eq!(
        (known(&records, "a"), known(&records, "b")),
        (Some((true, true)), Some((true, false)))
    );
    filter("c");
    assert_eq!(
        (known(&records, "a"), known(&records, "b")),
        (Some((true, true)), None),
        "a was touched later"
    );
    filter("a");
    assert_eq!(
        known(&records, "a"),
        Some((true, false)),
        "a new attempt begins anew"
    );
    prioritize("a", "2");
    assert_eq!(
        known(&records, "a"),
        Some((false, true)),
        "of another pod under the same name nothing is mixed in"
    );
    records.filtered(Some(Pod::default()), refused(&inventory, &names));
    records.filtered(None, refused(&inventory, &names));
    assert_eq!((records.extent().pods, records.extent().made), (2, 6));
}

#[test]
fn bytes_are_bounded_whatever_comes() {
    let records = Records::with_limits(usize::MAX, 1 << 20);
    let (inventory, names) = (cluster(500), names(500));
    for i in 0..100 {
        let pod = pod(&format!("p{i}"), "1");
        records.filtered(Some(pod.clone()), refused(&inventory, &names));
        points(&records, &pod, &inventory, &names);
        points(&records, &pod, &inventory, &names);
    }
    let ring = records.0.lock();
    assert!(
        ring.bytes <= 1 << 20 && ring.bytes > 1 << 19,
        "{}",
        ring.bytes
    );
    assert_eq!(
        ring.bytes,
        ring.entries
            .values()
            .map(|entry| entry.bytes.sum())
            .sum::<usize>()
    );
    assert_eq!(ring.latest.len(), ring.entries.len());
    drop(ring);
    let many: Vec<String> = names.iter().cycle().take(100_000).cloned().collect();
    records.filtered(Some(pod("huge", "1")), refused(&inventory, &many));
    assert_eq!(
        (known(&records, "huge"), records.extent().pods),
        (None, 0),
        "what alone is too large is not kept"
    );
}

#[test]
fn who_is_asked_about_again_and_again_takes_no_more_room() {
    let records = Records::default();
    let (inventory, names) = (cluster(5), names(5));
    let mut taken = Vec::new();
    for _ in 0..3 {
        points(&records, &pod("a", "1"), &inventory, &names);
        taken.push(records.0.lock().bytes);
    }
    assert_eq!(taken, [taken[0]; 3]);
}

#[test]
fn a_decision_about_thousands_of_nodes_is_small_and_names_no_node_twice() {
    let (inventory, names) = (cluster(5000), names(5000));
    let records = Records::default();
    let outcome = refused(&inventory, &names);
    assert!(outcome.size() < 250_000, "{}", outcome.size());
    records.filtered(Some(pod("a", "1")), outcome);
    let kept = records.get(&shop("a")).unwrap().filtered.unwrap();
    let Outcome::Judged(filtered) = &kept.outcome else {
        panic!("{kept:?}")
    };
    for (at, name) in names.iter().enumerate() {
        let kept = filtered.nodes().name(at).unwrap();
        assert_eq!(kept, name);
        let known = &inventory.cluster().get(name).unwrap().name;
        assert_eq!(kept.as_ptr(), known.as_ptr(), "one copy of each name");
    }
}

#[test]
fn names_stay_what_they_were_while_nodes_come_and_go() {
    let (mut inventory, names) = (cluster(3), names(3));
    let nodes = Nodes::find(inventory.cluster(), &names);
    let key = hawser_inventory::Key {
        namespace: None,
        name: names[1].clone(),
    };
    Fold::<Node>::remove(&mut inventory, &key);
    add_node(&mut inventory, "other");
    let kept: Vec<&str> = (0..3).filter_map(|at| nodes.name(at)).collect();
    assert_eq!(kept, names);
}

#[test]
fn of_names_that_nobody_knows_some_are_kept() {
    let many = names(decide::NAMED_UNKNOWN + 7);
    let nodes = Nodes::find(cluster(3).cluster(), &many);
    let kept: Vec<&str> = (0..many.len()).filter_map(|at| nodes.name(at)).collect();
    assert_eq!(kept, many[..decide::NAMED_UNKNOWN + 3]);
    assert_eq!((nodes.len(), nodes.name(many.len())), (many.len(), None));
}
