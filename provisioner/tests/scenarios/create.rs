//! CreateVolume of one volume.

use hawser_api::names;
use tonic::Code;

use crate::support::{
    SOON, World, claim_request,
    nodes::{GIB, MIB},
    on, request,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_made_on_the_node_that_was_chosen() {
    let world = World::new(&[("n1", 10 * GIB), ("n2", 20 * GIB)]);
    let provisioner = world.start().await;
    let name = world.claim("data", GIB + 1, Some("n1"));
    let volume = provisioner
        .create(claim_request(&name, "data", GIB + 1, "n1"))
        .await
        .unwrap();
    assert_eq!(
        (volume.volume_id.as_str(), volume.capacity_bytes),
        (name.as_str(), GIB + 4 * MIB)
    );
    assert_eq!(
        volume.accessible_topology[0].segments[names::LVM_TOPOLOGY_KEY],
        "n1"
    );
    assert_eq!(volume.volume_context["csi.storage.k8s.io/pvc/name"], "data");
    assert_eq!(volume.volume_context["poolClass"], "HDD");

    let object = world.volume(&name).unwrap();
    let spec = &object["spec"];
    assert_eq!(
        (&spec["pvcName"], &spec["pvcNamespace"]),
        (&"data".into(), &"shop".into())
    );
    assert_eq!(
        (&spec["poolName"], &spec["replicaNumber"]),
        (&"LocalStorage_PoolHDD".into(), &1.into())
    );
    assert_eq!(spec["config"]["replicas"][0]["hostname"], "n1");
    assert_eq!(spec["config"]["replicas"][0]["ip"], "10.0.0.1");
    let replica = &world.api.list("localvolumereplicas")[0];
    assert_eq!(
        replica["metadata"]["annotations"][names::annotations::CLAIM],
        "shop/data"
    );
    assert_eq!(
        replica["metadata"]["finalizers"][0],
        names::finalizers::REPLICA
    );
    world
        .until("the volume is Ready", |w| {
            w.volume(&name).unwrap()["status"]["state"] == "Ready"
        })
        .await;
    assert_eq!(
        world.volume(&name).unwrap()["status"]["allocatedCapacityBytes"],
        GIB + 4 * MIB
    );
    assert_eq!(world.members(), [name]);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_answers_the_same_and_writes_nothing() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    let first = provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world
        .until("the volume is Ready", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
        })
        .await;
    world.api.forget_calls();
    let again = provisioner.create(request("pvc-1", GIB)).await.unwrap();
    assert_eq!(first, again);
    let writes: Vec<_> = world
        .api
        .calls()
        .into_iter()
        .filter(|c| c.is_write() && c.plural() != "events")
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_with_another_size_or_class_is_refused() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    let larger = provisioner
        .create(request("pvc-1", 2 * GIB))
        .await
        .unwrap_err();
    assert_eq!(larger.code(), Code::AlreadyExists);
    assert!(
        larger.message().contains("1 GiB") && larger.message().contains("2 GiB"),
        "{larger}"
    );
    let mut limited = request("pvc-1", 4 * MIB);
    limited.capacity_range.as_mut().unwrap().limit_bytes = 8 * MIB;
    assert_eq!(
        provisioner.create(limited).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let mut other = request("pvc-1", GIB);
    other.parameters.insert("poolClass".into(), "SSD".into());
    assert_eq!(
        provisioner.create(other).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_call_at_the_same_time_is_told_to_wait_and_others_go_on() {
    let world = World::new(&[("n1", 10 * GIB), ("n2", 10 * GIB)]);
    let provisioner = world.start().await;
    world.nodes.stop("n1");
    let mut slow = request("pvc-1", GIB);
    slow.accessibility_requirements = on("n1");
    let mut client = provisioner.controller();
    let held = slow.clone();
    let first = tokio::spawn(async move { client.create_volume(held).await });
    world
        .until("the first call has made the object", |w| {
            w.volume("pvc-1").is_some()
        })
        .await;
    assert_eq!(
        provisioner.create(slow).await.unwrap_err().code(),
        Code::Aborted
    );
    let mut quick = request("pvc-2", GIB);
    quick.accessibility_requirements = on("n2");
    provisioner.create(quick).await.unwrap();
    world.nodes.resume("n1");
    first.await.unwrap().unwrap();
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_never_take_more_than_there_is() {
    let world = World::new(&[("n1", 5 * GIB), ("n2", 5 * GIB)]);
    let provisioner = world.start().await;
    let calls: Vec<_> = (0..20)
        .map(|i| {
            let mut client = provisioner.controller();
            tokio::spawn(async move {
                client
                    .create_volume(request(&format!("pvc-{i}"), GIB))
                    .await
            })
        })
        .collect();
    let mut made = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => made += 1,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
    }
    assert_eq!(made, 10, "all the room is used");
    assert_eq!(world.nodes.volumes().len(), 10);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_says_how_much_is_missing_and_leaves_nothing() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    let name = world.claim("data", 3 * GIB, Some("n1"));
    world.pod("db-0", &["data"]);
    let refused = provisioner
        .create(claim_request(&name, "data", 3 * GIB, "n1"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .contains("node n1: hdd pool: 2 of 2 GiB free, needs 3"),
        "{refused}"
    );
    world.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_and_a_class_that_no_node_has_are_named() {
    let world = World::new(&[("n1", 2 * GIB)]);
    let provisioner = world.start().await;
    let mut elsewhere = request("pvc-1", GIB);
    elsewhere.accessibility_requirements = on("n9");
    let refused = provisioner.create(elsewhere).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("n9"), "{refused}");
    let mut ssd = request("pvc-1", GIB);
    ssd.parameters.insert("poolClass".into(), "SSD".into());
    let refused = provisioner.create(ssd).await.unwrap_err();
    assert!(refused.message().contains("no ssd pool"), "{refused}");
    world.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_can_not_make_it_sends_the_pod_elsewhere() {
    let world = World::new(&[("n1", 10 * GIB), ("n2", 10 * GIB)]);
    let provisioner = world.start().await;
    for (reason, message) in [
        (names::reasons::NO_SPACE, "the disk is full"),
        (names::reasons::STEP_FAILED, "lvcreate failed: device busy"),
    ] {
        world.nodes.fail("n1", reason, message);
        let mut first = request("pvc-1", GIB);
        first.accessibility_requirements = on("n1");
        let refused = provisioner.create(first).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains(message), "{refused}");
        world
            .until("nothing is left of it", |w| w.dump().is_empty())
            .await;
    }
    let mut second = request("pvc-1", GIB);
    second.accessibility_requirements = on("n2");
    provisioner.create(second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_silent_is_waited_for_and_the_retry_goes_on_from_there() {
    let mut world = World::new(&[("n1", 10 * GIB)]);
    world.settings.ready_timeout = std::time::Duration::from_millis(200);
    let provisioner = world.start().await;
    world.nodes.stop("n1");
    let late = provisioner.create(request("pvc-1", GIB)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(late.message().contains("n1"), "{late}");
    world.nodes.resume("n1");
    world
        .until("the node has made it", |w| w.nodes.volumes().len() == 1)
        .await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    assert_eq!(world.nodes.volumes().len(), 1);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_an_earlier_attempt_on_another_node_gives_way_unless_it_was_used() {
    let world = World::new(&[("n1", 10 * GIB), ("n2", 10 * GIB)]);
    let provisioner = world.start().await;
    let mut first = request("pvc-1", GIB);
    first.accessibility_requirements = on("n1");
    provisioner.create(first).await.unwrap();
    let mut moved = request("pvc-1", GIB);
    moved.accessibility_requirements = on("n2");
    assert_eq!(
        provisioner.create(moved.clone()).await.unwrap_err().code(),
        Code::Aborted
    );
    world
        .until("the first one is gone", |w| w.volume("pvc-1").is_none())
        .await;
    // Its last traces may still be on their way to the provisioner, which then asks to be called again.
    let (mut changes, moment) = (world.api.changes(), std::time::Duration::from_millis(50));
    let again = async {
        loop {
            match provisioner.create(moved.clone()).await {
                Err(status) if status.code() == Code::Aborted => {
                    let _ = tokio::time::timeout(moment, changes.changed()).await;
                }
                answer => return answer,
            }
        }
    };
    let volume = tokio::time::timeout(SOON, again).await.unwrap().unwrap();
    assert_eq!(
        volume.accessible_topology[0].segments[names::LVM_TOPOLOGY_KEY],
        "n2"
    );

    provisioner.publish("pvc-1", "n2").await.unwrap();
    let mut back = request("pvc-1", GIB);
    back.accessibility_requirements = on("n1");
    assert_eq!(
        provisioner.create(back).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    assert!(world.volume("pvc-1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_get_a_name_made_from_them_and_keep_theirs() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    let long = "A".repeat(128);
    let volume = provisioner.create(request(&long, GIB)).await.unwrap();
    assert!(volume.volume_id.starts_with("vol-"), "{}", volume.volume_id);
    let object = world.volume(&volume.volume_id).unwrap();
    assert_eq!(
        object["metadata"]["annotations"][names::annotations::CSI_NAME],
        long
    );
    assert_eq!(
        provisioner.create(request(&long, GIB)).await.unwrap(),
        volume
    );
}
