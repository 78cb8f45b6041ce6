//! DeleteVolume, and deletion by hand.

use serde_json::json;
use tonic::Code;

use crate::support::{World, nodes::GIB, on, request};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_leaves_nothing_and_its_room_is_free() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    for _ in 0..3 {
        provisioner.create(request("pvc-1", 2 * GIB)).await.unwrap();
        provisioner.delete("pvc-1").await.unwrap();
        world.assert_empty();
    }
    provisioner.delete("pvc-1").await.unwrap();
    provisioner.delete("never-was").await.unwrap();
    provisioner.delete("../../NOT/a name").await.unwrap();
    let empty = provisioner.delete("").await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_volume_is_kept() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    provisioner.publish("pvc-1", "n1").await.unwrap();
    attach(&world, "pvc-1", "n1");
    let refused = provisioner.delete("pvc-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("n1"), "{refused}");
    assert_ne!(world.volume("pvc-1").unwrap()["spec"]["delete"], true);
    provisioner.unpublish("pvc-1", "n1").await.unwrap();
    provisioner.delete("pvc-1").await.unwrap();
    world.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_publication_that_no_attachment_backs_does_not_hold_a_volume() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    provisioner.publish("pvc-1", "n1").await.unwrap();
    provisioner.delete("pvc-1").await.unwrap();
    world.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_keeps_the_room_until_it_is_done() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", 2 * GIB)).await.unwrap();
    world.nodes.stop("n1");
    provisioner.delete("pvc-1").await.unwrap();
    let object = world.volume("pvc-1").unwrap();
    assert_eq!(object["status"]["state"], "ToBeDeleted");
    assert_eq!(
        provisioner
            .create(request("pvc-2", GIB))
            .await
            .unwrap_err()
            .code(),
        Code::ResourceExhausted
    );
    assert_eq!(
        provisioner
            .create(request("pvc-1", 2 * GIB))
            .await
            .unwrap_err()
            .code(),
        Code::Aborted
    );
    provisioner.delete("pvc-1").await.unwrap();
    world.nodes.resume("n1");
    world.until("it is gone", |w| w.dump().is_empty()).await;
    provisioner.create(request("pvc-2", 2 * GIB)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_by_hand_is_the_field_and_not_the_object() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world.api.delete("localvolumes", "", "pvc-1");
    world
        .until("it is said that the data stays", |w| {
            let conditions = world_conditions(w, "pvc-1");
            conditions
                .iter()
                .any(|c| c["type"] == "DeletionHeld" && c["reason"] == "NotRequested")
        })
        .await;
    assert_eq!(world.nodes.volumes().len(), 1);
    world.api.edit("localvolumes", "", "pvc-1", |v| {
        v["spec"]["delete"] = json!(true)
    });
    world.until("all is gone", |w| w.dump().is_empty()).await;
    world.assert_empty();
}

fn world_conditions(world: &World, volume: &str) -> Vec<serde_json::Value> {
    let object = world.volume(volume).unwrap();
    object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hand_a_volume_in_use_waits_for_its_pods() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    provisioner.publish("pvc-1", "n1").await.unwrap();
    attach(&world, "pvc-1", "n1");
    world.api.edit("localvolumes", "", "pvc-1", |v| {
        v["spec"]["delete"] = json!(true)
    });
    world
        .until("it is said why it waits", |w| {
            world_conditions(w, "pvc-1")
                .iter()
                .any(|c| c["type"] == "DeletionHeld" && c["reason"] == "Published")
        })
        .await;
    assert_eq!(world.nodes.volumes().len(), 1);
    provisioner.unpublish("pvc-1", "n1").await.unwrap();
    world.until("all is gone", |w| w.dump().is_empty()).await;
    world.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_a_node_that_is_gone_can_be_deleted() {
    let world = World::new(&[("n1", 2 * GIB), ("n2", 2 * GIB)]);
    let provisioner = world.start().await;
    let mut there = request("pvc-1", GIB);
    there.accessibility_requirements = on("n1");
    provisioner.create(there).await.unwrap();
    world.nodes.stop("n1");
    world.api.delete("nodes", "", "n1");
    provisioner.delete("pvc-1").await.unwrap();
    world
        .until("its objects are gone", |w| w.dump().is_empty())
        .await;
}

/// What kube-controller-manager records.
fn attach(world: &World, volume: &str, node: &str) {
    world.api.put(
        "apis/storage.k8s.io/v1/volumeattachments",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": format!("csi-{volume}-{node}")},
            "spec": {"attacher": "lvm.hwameistor.io", "nodeName": node, "source": {"persistentVolumeName": volume}},
        }),
    );
}
