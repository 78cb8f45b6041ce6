//! ControllerExpandVolume, and expansion by hand.

use std::time::Duration;

use hawser_csi::v1::{CapacityRange, ControllerExpandVolumeRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Provisioner, World, block, mount, nodes::GIB, request};

async fn a_volume(world: &World) -> Provisioner {
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    provisioner
}

fn sizes(world: &World) -> (Value, Value) {
    let replica = &world.api.list("localvolumereplicas")[0];
    (
        world.volume("pvc-1").unwrap()["spec"]["requiredCapacityBytes"].clone(),
        replica["spec"]["requiredCapacityBytes"].clone(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_grows_and_the_operation_is_gone_when_done() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = a_volume(&world).await;
    let grown = provisioner.expand("pvc-1", 3 * GIB).await.unwrap();
    assert_eq!(
        (grown.capacity_bytes, grown.node_expansion_required),
        (3 * GIB, true)
    );
    assert_eq!(sizes(&world), (json!(3 * GIB), json!(3 * GIB)));
    world
        .until("the operation is gone", |w| {
            w.api.list("localvolumeexpands").is_empty()
        })
        .await;
    world
        .until("the status says so", |w| {
            w.volume("pvc-1").unwrap()["status"]["allocatedCapacityBytes"] == 3 * GIB
        })
        .await;
    assert_eq!(
        provisioner
            .expand("pvc-1", 3 * GIB)
            .await
            .unwrap()
            .capacity_bytes,
        3 * GIB
    );
    assert_eq!(
        provisioner
            .expand("pvc-1", GIB)
            .await
            .unwrap()
            .capacity_bytes,
        3 * GIB,
        "it is larger than asked already"
    );
    let device = ControllerExpandVolumeRequest {
        volume_id: "pvc-1".into(),
        capacity_range: Some(CapacityRange {
            required_bytes: 4 * GIB,
            limit_bytes: 0,
        }),
        volume_capability: Some(block()),
        ..Default::default()
    };
    let grown = provisioner
        .controller()
        .controller_expand_volume(device)
        .await
        .unwrap()
        .into_inner();
    assert!(!grown.node_expansion_required);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_is_refused_and_a_smaller_retry_works() {
    let world = World::new(&[("n1", 4 * GIB)]);
    let provisioner = a_volume(&world).await;
    let refused = provisioner.expand("pvc-1", 5 * GIB).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(
        refused.message().contains("3 of 4 GiB free, needs 4"),
        "{refused}"
    );
    assert_eq!(sizes(&world), (json!(GIB), json!(GIB)));
    assert_eq!(
        provisioner
            .expand("pvc-1", 3 * GIB)
            .await
            .unwrap()
            .capacity_bytes,
        3 * GIB
    );
    world
        .until("the operation is gone", |w| {
            w.api.list("localvolumeexpands").is_empty()
        })
        .await;
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_can_not_grow_it_gives_the_room_back() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = a_volume(&world).await;
    world
        .nodes
        .fail("n1", "Expand", "lvextend failed: the disk does not answer");
    let refused = provisioner.expand("pvc-1", 8 * GIB).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(refused.message().contains("does not answer"), "{refused}");
    assert_eq!(sizes(&world), (json!(GIB), json!(GIB)));
    provisioner.create(request("pvc-2", GIB)).await.unwrap_err();
    world.nodes.mend("n1");
    provisioner.expand("pvc-1", 2 * GIB).await.unwrap();
    provisioner.create(request("pvc-3", 8 * GIB)).await.unwrap();
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_waited_for_and_the_user_may_ask_for_less() {
    let mut world = World::new(&[("n1", 10 * GIB)]);
    world.settings.ready_timeout = Duration::from_millis(300);
    let provisioner = a_volume(&world).await;
    world.nodes.stop("n1");
    let late = provisioner.expand("pvc-1", 8 * GIB).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(
        sizes(&world).1,
        json!(8 * GIB),
        "the room is held while the node may still do it"
    );
    let late = provisioner.expand("pvc-1", 2 * GIB).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    world
        .until("less is asked of the node", |w| {
            sizes(w).1 == json!(2 * GIB)
        })
        .await;
    world.nodes.resume("n1");
    world
        .until("the node has grown it", |w| {
            w.nodes.volumes()["pvc-1"] == 2 * GIB
        })
        .await;
    assert_eq!(
        provisioner
            .expand("pvc-1", 2 * GIB)
            .await
            .unwrap()
            .capacity_bytes,
        2 * GIB
    );
    world
        .until("the operation is gone", |w| {
            w.api.list("localvolumeexpands").is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_by_name() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = a_volume(&world).await;
    let ask = |required_bytes, limit_bytes| ControllerExpandVolumeRequest {
        volume_id: "pvc-1".into(),
        capacity_range: Some(CapacityRange {
            required_bytes,
            limit_bytes,
        }),
        ..Default::default()
    };
    let cases = [
        (
            ControllerExpandVolumeRequest {
                volume_id: String::new(),
                ..ask(GIB, 0)
            },
            Code::InvalidArgument,
            "volume_id is empty",
        ),
        (
            ControllerExpandVolumeRequest {
                capacity_range: None,
                ..ask(GIB, 0)
            },
            Code::InvalidArgument,
            "capacity_range is missing",
        ),
        (
            ControllerExpandVolumeRequest {
                volume_id: "pvc-9".into(),
                ..ask(GIB, 0)
            },
            Code::NotFound,
            "\"pvc-9\" does not exist",
        ),
        (
            ControllerExpandVolumeRequest {
                volume_capability: Some(mount("ntfs")),
                ..ask(2 * GIB, 0)
            },
            Code::InvalidArgument,
            "fs_type is \"ntfs\"",
        ),
        (ask(0, 0), Code::InvalidArgument, "required_bytes is 0"),
        (ask(-1, 0), Code::InvalidArgument, "required_bytes is -1"),
        (ask(2 * GIB, -1), Code::InvalidArgument, "limit_bytes is -1"),
        (
            ask(2 * GIB, GIB),
            Code::InvalidArgument,
            "limit_bytes is 1073741824, below required_bytes 2147483648",
        ),
        (
            ask(i64::MAX, 0),
            Code::OutOfRange,
            "required_bytes is 9223372036854775807; the largest volume",
        ),
        (
            ask(i64::MAX - i64::MAX % (4 << 20), 0),
            Code::OutOfRange,
            "free",
        ),
        (
            ask(GIB / 2, GIB / 2),
            Code::OutOfRange,
            "can't shrink to limit_bytes (512 MiB)",
        ),
    ];
    for (request, code, word) in cases {
        let refused = provisioner
            .controller()
            .controller_expand_volume(request.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}: {refused}");
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
    assert_eq!(sizes(&world), (json!(GIB), json!(GIB)), "nothing changed");
    assert_eq!(world.nodes.volumes()["pvc-1"], GIB);
}

fn by_hand(world: &World, volume: &str, size: i64) {
    world.api.put(
        "apis/hwameistor.io/v1alpha1/localvolumeexpands",
        json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolumeExpand", "metadata": {"name": "by-hand"},
            "spec": {"volumeName": volume, "requiredCapacityBytes": size},
        }),
    );
}

fn state(world: &World) -> (String, String) {
    let status = world
        .api
        .get("localvolumeexpands", "", "by-hand")
        .unwrap_or_default()["status"]
        .clone();
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hand_it_grows_fails_with_a_reason_or_is_aborted() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let _provisioner = a_volume(&world).await;
    by_hand(&world, "pvc-1", 2 * GIB);
    world
        .until("it has grown", |w| {
            w.nodes.volumes()["pvc-1"] == 2 * GIB && w.api.list("localvolumeexpands").is_empty()
        })
        .await;

    for (volume, size, why) in [
        ("pvc-9", 2 * GIB, "pvc-9"),
        ("", 2 * GIB, "spec.volumeName is \"\""),
        ("../pods/x", 2 * GIB, "spec.volumeName is \"../pods/x\""),
        ("pvc-1", GIB, "shrink"),
        ("pvc-1", 0, "spec.requiredCapacityBytes is 0"),
        ("pvc-1", -5, "spec.requiredCapacityBytes is -5"),
        ("pvc-1", i64::MAX, "the largest volume"),
        ("pvc-1", 99 * GIB, "free"),
    ] {
        by_hand(&world, volume, size);
        world
            .until("it has failed", |w| {
                state(w).0 == "Failed" && state(w).1.contains(why)
            })
            .await;
        world.api.delete("localvolumeexpands", "", "by-hand");
    }

    world.nodes.stop("n1");
    by_hand(&world, "pvc-1", 9 * GIB);
    world
        .until("the room is taken", |w| sizes(w).1 == json!(9 * GIB))
        .await;
    world.api.edit("localvolumeexpands", "", "by-hand", |e| {
        e["spec"]["abort"] = json!(true)
    });
    world
        .until("it is gone", |w| {
            w.api.list("localvolumeexpands").is_empty()
        })
        .await;
    assert_eq!(sizes(&world), (json!(2 * GIB), json!(2 * GIB)));
}
