//! ListVolumes, ControllerGetVolume, health, GetCapacity, ValidateVolumeCapabilities, Identity.

use hawser_api::names;
use hawser_csi::v1::{
    ControllerGetVolumeHealthRequest, ControllerGetVolumeRequest,
    ControllerListVolumeHealthRequest, GetCapacityRequest, GetPluginCapabilitiesRequest,
    GetPluginInfoRequest, ListVolumesRequest, Topology, ValidateVolumeCapabilitiesRequest,
};
use serde_json::json;
use tonic::Code;

use crate::support::{SOON, World, mount, nodes::GIB, request};

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_listed_in_pages_with_the_node_that_uses_them() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    for i in 1..=5 {
        provisioner
            .create(request(&format!("pvc-{i}"), GIB))
            .await
            .unwrap();
    }
    provisioner.publish("pvc-3", "n1").await.unwrap();
    let mut client = provisioner.controller();
    let first = client
        .list_volumes(ListVolumesRequest {
            max_entries: 3,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let ids = |entries: &[hawser_csi::v1::list_volumes_response::Entry]| -> Vec<String> {
        entries
            .iter()
            .map(|e| e.volume.as_ref().unwrap().volume_id.clone())
            .collect()
    };
    assert_eq!(ids(&first.entries), ["pvc-1", "pvc-2", "pvc-3"]);
    assert_eq!(
        first.entries[2].status.as_ref().unwrap().published_node_ids,
        ["n1"]
    );
    provisioner.delete("pvc-2").await.unwrap();
    let request = ListVolumesRequest {
        max_entries: 3,
        starting_token: first.next_token,
    };
    let second = client.list_volumes(request).await.unwrap().into_inner();
    assert_eq!(
        (ids(&second.entries), second.next_token.as_str()),
        (vec!["pvc-4".into(), "pvc-5".into()], "")
    );

    let foreign = ListVolumesRequest {
        starting_token: "invalid-token".into(),
        ..Default::default()
    };
    assert_eq!(
        client.list_volumes(foreign).await.unwrap_err().code(),
        Code::Aborted
    );
    let negative = ListVolumesRequest {
        max_entries: -1,
        ..Default::default()
    };
    assert_eq!(
        client.list_volumes(negative).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_can_not_be_used_is_said_to_be_ill() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world
        .until("the volume is Ready", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
        })
        .await;
    let mut client = provisioner.controller();
    let get = || ControllerGetVolumeRequest {
        volume_id: "pvc-1".into(),
    };
    let answer = client
        .controller_get_volume(get())
        .await
        .unwrap()
        .into_inner();
    assert!(!answer.status.unwrap().volume_condition.unwrap().abnormal);

    world.nodes.stop("n1");
    let replica = world.names("localvolumereplicas").remove(0);
    world.api.edit("localvolumereplicas", "", &replica, |r| {
        r["status"]["state"] = json!("NotReady");
        r["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "Ready", "message": "I/O errors"}]);
    });
    world
        .until("the volume is NotReady", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "NotReady"
        })
        .await;
    // The answer to the provisioner's write may still be on its way to it.
    let told = async {
        loop {
            let answer = client.controller_get_volume(get()).await.unwrap();
            let status = answer.into_inner().status.unwrap();
            let condition = status.volume_condition.unwrap();
            if condition.abnormal {
                return condition.message;
            }
            tokio::task::yield_now().await;
        }
    };
    let message = tokio::time::timeout(SOON, told).await.expect("it is told");
    assert!(message.contains("I/O errors"), "{message}");
    let health = client.controller_get_volume_health(ControllerGetVolumeHealthRequest {
        volume_id: "pvc-1".into(),
        ..Default::default()
    });
    assert_eq!(
        health
            .await
            .unwrap()
            .into_inner()
            .volume_health
            .unwrap()
            .health_statuses
            .len(),
        1
    );
    let ill = client
        .controller_list_volume_health(ControllerListVolumeHealthRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(ill.entries.len(), 1);

    for (id, code) in [("", Code::InvalidArgument), ("pvc-9", Code::NotFound)] {
        let request = ControllerGetVolumeRequest {
            volume_id: id.into(),
        };
        assert_eq!(
            client
                .controller_get_volume(request)
                .await
                .unwrap_err()
                .code(),
            code
        );
        let request = ControllerGetVolumeHealthRequest {
            volume_id: id.into(),
            ..Default::default()
        };
        assert_eq!(
            client
                .controller_get_volume_health(request)
                .await
                .unwrap_err()
                .code(),
            code
        );
    }
}

fn room_on(node: &str) -> GetCapacityRequest {
    GetCapacityRequest {
        parameters: request("x", 0).parameters,
        accessible_topology: Some(Topology {
            segments: [(names::LVM_TOPOLOGY_KEY.to_owned(), node.to_owned())].into(),
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_told_by_node_and_class_and_follows_what_is_taken() {
    let world = World::new(&[("n1", 10 * GIB), ("n2", 4 * GIB)]);
    let provisioner = world.start().await;
    let mut client = provisioner.controller();
    let all = client
        .get_capacity(GetCapacityRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (all.available_capacity, all.maximum_volume_size),
        (14 * GIB, Some(10 * GIB))
    );
    let mut on_first = request("pvc-1", 3 * GIB);
    on_first.accessibility_requirements = crate::support::on("n1");
    provisioner.create(on_first).await.unwrap();
    let first = client
        .get_capacity(room_on("n1"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (first.available_capacity, first.maximum_volume_size),
        (7 * GIB, Some(7 * GIB))
    );
    assert_eq!(
        client
            .get_capacity(room_on("n9"))
            .await
            .unwrap()
            .into_inner()
            .available_capacity,
        0
    );
    let mut ssd = room_on("n1");
    ssd.parameters.insert("poolClass".into(), "SSD".into());
    assert_eq!(
        client
            .get_capacity(ssd)
            .await
            .unwrap()
            .into_inner()
            .available_capacity,
        0
    );
    let mut wrong = room_on("n1");
    wrong.parameters.insert("poolClass".into(), "TAPE".into());
    assert_eq!(
        client.get_capacity(wrong).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_confirmed_or_the_objection_is_said() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    let mut client = provisioner.controller();
    let ask = |id: &str, capabilities| ValidateVolumeCapabilitiesRequest {
        volume_id: id.into(),
        volume_capabilities: capabilities,
        ..Default::default()
    };
    let yes = client
        .validate_volume_capabilities(ask("pvc-1", vec![mount("xfs")]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(yes.confirmed.unwrap().volume_capabilities.len(), 1);
    let no = client
        .validate_volume_capabilities(ask("pvc-1", vec![mount("ntfs")]))
        .await
        .unwrap()
        .into_inner();
    assert!(
        no.confirmed.is_none() && no.message.contains("ntfs"),
        "{no:?}"
    );
    for (request, code) in [
        (ask("", vec![mount("")]), Code::InvalidArgument),
        (ask("pvc-1", Vec::new()), Code::InvalidArgument),
        (ask("pvc-9", vec![mount("")]), Code::NotFound),
    ] {
        assert_eq!(
            client
                .validate_volume_capabilities(request)
                .await
                .unwrap_err()
                .code(),
            code
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_says_who_it_is() {
    let world = World::new(&[]);
    let provisioner = world.start().await;
    let mut client = provisioner.identity();
    let info = client
        .get_plugin_info(GetPluginInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.name, "lvm.hwameistor.io");
    let capabilities = client
        .get_plugin_capabilities(GetPluginCapabilitiesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(capabilities.capabilities.len(), 3);
}
