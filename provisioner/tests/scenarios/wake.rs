//! Pods that wait for room are woken when there is more.

use serde_json::json;

use crate::support::{World, nodes::GIB, on, request};

const DRIVERS: &str = "apis/storage.k8s.io/v1/csidrivers";

fn told(world: &World) -> Option<String> {
    let driver = world.api.get("csidrivers", "", "lvm.hwameistor.io")?;
    let told = driver["metadata"]["annotations"]["hawser.io/room-grew"].as_str();
    told.map(str::to_owned)
}

fn a_driver(world: &World) {
    let driver = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": { "name": "lvm.hwameistor.io" }, "spec": {},
    });
    world.api.put(DRIVERS, driver);
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_freed_is_told_and_room_that_is_taken_is_not() {
    let world = World::new(&[("n1", 10 * GIB)]);
    a_driver(&world);
    let provisioner = world.start().await;
    world
        .until("waiting pods are woken at the start", |w| told(w).is_some())
        .await;
    let first = told(&world);
    let mut wish = request("pvc-1", 3 * GIB);
    wish.accessibility_requirements = on("n1");
    provisioner.create(wish).await.unwrap();
    assert_eq!(told(&world), first, "taking room wakes nobody");
    // Room elsewhere, which is seen after what was taken: so that what is given back will be seen as growth.
    world.nodes.add("n2", &[("HDD", 10 * GIB)]);
    world
        .until("waiting pods are woken by another node's room", |w| {
            told(w) != first
        })
        .await;
    let second = told(&world);
    provisioner.delete("pvc-1").await.unwrap();
    world
        .until("waiting pods are woken by the freed room", |w| {
            told(w) != second
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn published_capacities_wake_by_themselves() {
    let mut world = World::new(&[("n1", 10 * GIB)]);
    a_driver(&world);
    world.settings.publish_capacity = true;
    let _provisioner = world.start().await;
    world
        .until("capacities are published", |w| {
            !w.api.list("csistoragecapacities").is_empty()
        })
        .await;
    assert_eq!(told(&world), None);
}
