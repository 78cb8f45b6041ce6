//! ControllerPublishVolume and ControllerUnpublishVolume.

use hawser_csi::v1::{ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest};
use serde_json::json;
use tonic::Code;

use crate::support::{World, block, mount, nodes::GIB, request};

async fn a_volume(world: &World) -> crate::support::Provisioner {
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    provisioner
}

fn status(world: &World) -> serde_json::Value {
    world.volume("pvc-1").unwrap()["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_given_to_its_node_and_taken_back() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = a_volume(&world).await;
    let context = provisioner.publish("pvc-1", "n1").await.unwrap();
    assert_eq!(
        context["volumeReplicaDevicePath"],
        "/dev/LocalStorage_PoolHDD/pvc-1"
    );
    assert!(context["volumeReplicaName"].starts_with("pvc-1-"));
    assert_eq!(
        (&status(&world)["publishedNode"], &status(&world)["fsType"]),
        (&json!("n1"), &json!("ext4"))
    );
    assert_eq!(provisioner.publish("pvc-1", "n1").await.unwrap(), context);
    provisioner.unpublish("pvc-1", "n9").await.unwrap();
    assert_eq!(
        status(&world)["publishedNode"],
        "n1",
        "unpublishing from elsewhere changes nothing"
    );
    provisioner.unpublish("pvc-1", "n1").await.unwrap();
    assert!(status(&world)["publishedNode"].is_null());
    provisioner.unpublish("pvc-1", "n1").await.unwrap();
    provisioner.unpublish("never-was", "n1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn as_block_device_then_as_file_system_is_refused_until_unpublished() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = a_volume(&world).await;
    let ask = |capability| ControllerPublishVolumeRequest {
        volume_id: "pvc-1".into(),
        node_id: "n1".into(),
        volume_capability: Some(capability),
        ..Default::default()
    };
    provisioner
        .controller()
        .controller_publish_volume(ask(block()))
        .await
        .unwrap();
    assert_eq!(status(&world)["rawblock"], true);
    let refused = provisioner
        .controller()
        .controller_publish_volume(ask(mount("xfs")))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let everywhere = ControllerUnpublishVolumeRequest {
        volume_id: "pvc-1".into(),
        ..Default::default()
    };
    provisioner
        .controller()
        .controller_unpublish_volume(everywhere)
        .await
        .unwrap();
    provisioner
        .controller()
        .controller_publish_volume(ask(mount("xfs")))
        .await
        .unwrap();
    assert_eq!(
        (&status(&world)["rawblock"], &status(&world)["fsType"]),
        (&json!(false), &json!("xfs"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_are_told_where_the_data_is() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = a_volume(&world).await;
    world.api.put(
        "api/v1/nodes",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}}),
    );
    let elsewhere = provisioner.publish("pvc-1", "n2").await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::FailedPrecondition);
    assert!(
        elsewhere.message().contains("n1") && elsewhere.message().contains("n2"),
        "{elsewhere}"
    );
    assert_eq!(
        provisioner.publish("pvc-1", "n9").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        provisioner.publish("pvc-9", "n1").await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_ready_is_not_given_out() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = a_volume(&world).await;
    world.nodes.stop("n1");
    let replica = world.names("localvolumereplicas").remove(0);
    world.api.edit("localvolumereplicas", "", &replica, |r| {
        r["status"]["state"] = json!("NotReady");
        r["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "Ready", "message": "the disk is gone"}]);
    });
    world
        .until("the volume is NotReady", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "NotReady"
        })
        .await;
    let refused = provisioner.publish("pvc-1", "n1").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("the disk is gone"), "{refused}");
    world.nodes.resume("n1");
    world
        .until("the volume is Ready", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
        })
        .await;
    provisioner.publish("pvc-1", "n1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_a_request_is_named() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    let good = ControllerPublishVolumeRequest {
        volume_id: "pvc-1".into(),
        node_id: "n1".into(),
        volume_capability: Some(mount("")),
        ..Default::default()
    };
    let cases = [
        (
            ControllerPublishVolumeRequest {
                volume_id: String::new(),
                ..good.clone()
            },
            "volume_id",
        ),
        (
            ControllerPublishVolumeRequest {
                node_id: String::new(),
                ..good.clone()
            },
            "node_id",
        ),
        (
            ControllerPublishVolumeRequest {
                volume_capability: None,
                ..good.clone()
            },
            "volume_capability",
        ),
        (
            ControllerPublishVolumeRequest {
                volume_capability: Some(mount("ntfs")),
                ..good.clone()
            },
            "ntfs",
        ),
        (
            ControllerPublishVolumeRequest {
                readonly: true,
                ..good
            },
            "readonly",
        ),
    ];
    for (request, field) in cases {
        let refused = provisioner
            .controller()
            .controller_publish_volume(request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_volume_of_before_is_neither_given_out_nor_grown() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = a_volume(&world).await;
    world.api.edit("localvolumes", "", "pvc-1", |v| {
        v["spec"]["convertible"] = json!(true);
    });
    // The API server's word counts, not the index's: no need to wait for that.
    let refused = provisioner.publish("pvc-1", "n1").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("spec.convertible is true"),
        "{refused}"
    );
    let refused = provisioner.expand("pvc-1", 2 * GIB).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("spec.convertible is true"),
        "{refused}"
    );
    assert!(status(&world)["publishedNode"].is_null());
    assert!(world.api.list("localvolumeexpands").is_empty());
    let replica = &world.api.list("localvolumereplicas")[0];
    assert_eq!(replica["spec"]["requiredCapacityBytes"], GIB);
    // It can be taken back, and its end can be asked for.
    provisioner.unpublish("pvc-1", "n1").await.unwrap();
    provisioner.delete("pvc-1").await.unwrap();
}
