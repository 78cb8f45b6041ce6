//! `CSIStorageCapacity` objects.

use std::time::{Duration, Instant};

use hawser_api::quantity;
use serde_json::Value;

use crate::support::{World, api::Fate, nodes::GIB, request};

/// How old what is published may be.
const FRESH: Duration = Duration::from_secs(5);

fn published(world: &World) -> Vec<(String, String, i64)> {
    let bytes = |o: &Value, key: &str| quantity::parse(o[key].as_str().unwrap()).unwrap();
    let mut all: Vec<_> = world
        .api
        .list("csistoragecapacities")
        .iter()
        .map(|o| {
            let node = o["nodeTopology"]["matchLabels"]["topology.lvm.hwameistor.io/node"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_eq!(bytes(o, "capacity"), bytes(o, "maximumVolumeSize"));
            (
                o["storageClassName"].as_str().unwrap().to_owned(),
                node,
                bytes(o, "capacity"),
            )
        })
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn capacities_follow_allocations_and_go_when_switched_off() {
    let mut world = World::new(&[("n1", 10 * GIB), ("n2", 4 * GIB)]);
    world.settings.publish_capacity = true;
    let provisioner = world.start().await;
    let entry = |node: &str, gib: i64| ("hdd".to_owned(), node.to_owned(), gib * GIB);
    world
        .until("both nodes are published", |w| {
            published(w) == [entry("n1", 10), entry("n2", 4)]
        })
        .await;
    let object = &world.api.list("csistoragecapacities")[0];
    assert_eq!(
        object["metadata"]["ownerReferences"][0]["kind"],
        "StorageClass"
    );
    assert_eq!(object["metadata"]["namespace"], "hwameistor");

    let mut first = request("pvc-1", 3 * GIB);
    first.accessibility_requirements = crate::support::on("n1");
    provisioner.create(first).await.unwrap();
    let allocated = Instant::now();
    world
        .until("what was taken is off", |w| {
            published(w) == [entry("n1", 7), entry("n2", 4)]
        })
        .await;
    assert!(allocated.elapsed() < FRESH, "{:?}", allocated.elapsed());
    provisioner.delete("pvc-1").await.unwrap();
    let freed = Instant::now();
    world
        .until("what was freed is back", |w| {
            published(w) == [entry("n1", 10), entry("n2", 4)]
        })
        .await;
    assert!(freed.elapsed() < FRESH, "{:?}", freed.elapsed());

    drop(provisioner);
    world.settings.publish_capacity = false;
    let _off = world.start().await;
    world
        .until("nothing is published", |w| published(w).is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_refused_hinders_no_other_and_is_tried_again_soon() {
    // Whichever of the two is written first.
    for (refused, other) in [("n1", "n2"), ("n2", "n1")] {
        let mut world = World::new(&[("n1", GIB), ("n2", GIB)]);
        world.settings.publish_capacity = true;
        world.api.judge(move |call| {
            let node = &call.body["nodeTopology"]["matchLabels"]["topology.lvm.hwameistor.io/node"];
            if call.plural() == "csistoragecapacities" && node == refused {
                Fate::Refused(500)
            } else {
                Fate::Served
            }
        });
        let _provisioner = world.start().await;
        let entry = |node: &str| ("hdd".to_owned(), node.to_owned(), GIB);
        world
            .until("the other one is published", |w| {
                published(w) == [entry(other)]
            })
            .await;
        world.api.serve_all();
        let served = Instant::now();
        world
            .until("both are", |w| published(w) == [entry("n1"), entry("n2")])
            .await;
        assert!(served.elapsed() < FRESH, "{:?}", served.elapsed());
    }
}
