//! What the controllers do about objects that others make or change.

use serde_json::json;

use crate::support::{World, nodes::GIB, request};

const GROUP: &str = "apis/hwameistor.io/v1alpha1";

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_for_disks_of_no_node_is_pending_and_says_why() {
    let world = World::new(&[("n1", GIB)]);
    for (name, node) in [("good", "n1"), ("wrong", "n9")] {
        world.api.put(
            &format!("{GROUP}/localdiskclaims"),
            json!({
                "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalDiskClaim", "metadata": {"name": name},
                "spec": {"nodeName": node, "owner": "local-storage"},
            }),
        );
    }
    let _provisioner = world.start().await;
    world
        .until("the claim is answered", |w| {
            let claim = w.api.get("localdiskclaims", "", "wrong").unwrap();
            claim["status"]["status"] == "Pending"
                && claim["status"]["message"]
                    .as_str()
                    .unwrap()
                    .contains("\"n9\"")
        })
        .await;
    world
        .until("there is an event", |w| {
            w.api
                .list("events")
                .iter()
                .any(|e| e["reason"] == "UnknownNode")
        })
        .await;
    assert!(
        world.api.get("localdiskclaims", "", "good").unwrap()["status"].is_null(),
        "its node's daemon answers that one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_follows_the_claim_that_it_is_bound_to() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world.api.put(
        "api/v1/persistentvolumes",
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "by-hand"},
            "spec": {
                "csi": {"driver": "lvm.hwameistor.io", "volumeHandle": "pvc-1"},
                "claimRef": {"namespace": "shop", "name": "catalog-again"},
            },
            "status": {"phase": "Bound"},
        }),
    );
    world
        .until("the volume names the claim", |w| {
            let spec = w.volume("pvc-1").unwrap()["spec"].clone();
            (&spec["pvcNamespace"], &spec["pvcName"]) == (&json!("shop"), &json!("catalog-again"))
        })
        .await;
    world
        .until("its copy is told, for the tag beside the data", |w| {
            let copy = &w.api.list("localvolumereplicas")[0];
            copy["metadata"]["annotations"]["hawser.io/claim"] == "shop/catalog-again"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_former_generation_are_taken_over_as_they_are() {
    let world = World::new(&[("n1", 10 * GIB)]);
    world.api.put(
        &format!("{GROUP}/localvolumegroups"),
        json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolumeGroup",
            "metadata": {"name": "4a4a", "finalizers": ["hwameistor.io/localvolumegroup-protection"]},
            "spec": {"namespace": "shop", "pods": ["gone"], "accessibility": {"nodes": ["n1"]},
                     "volumes": [{"localvolume": "pvc-old", "pvc": "data"}]},
        }),
    );
    world.api.put(
        &format!("{GROUP}/localvolumes"),
        json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolume", "metadata": {"name": "pvc-old"},
            "spec": {"accessibility": {"nodes": ["n1"]}, "poolName": "LocalStorage_PoolHDD", "replicaNumber": 1,
                     "requiredCapacityBytes": GIB, "volumegroup": "4a4a", "pvcName": "data", "pvcNamespace": "shop"},
            "status": {"rawblock": false, "state": "Ready", "allocatedCapacityBytes": GIB, "fsType": "xfs", "publishedNode": "n1"},
        }),
    );
    world.api.put(
        &format!("{GROUP}/localvolumereplicas"),
        json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolumeReplica", "metadata": {"name": "pvc-old-x7k2ab"},
            "spec": {"nodeName": "n1", "poolName": "LocalStorage_PoolHDD", "requiredCapacityBytes": GIB, "volumeName": "pvc-old"},
        }),
    );
    let provisioner = world.start().await;
    world
        .until("the volume is protected", |w| {
            w.volume("pvc-old").unwrap()["metadata"]["finalizers"][0]
                == "hwameistor.io/localvolume-protection"
        })
        .await;
    world
        .until("its copy is listed", |w| {
            w.volume("pvc-old").unwrap()["status"]["replicas"] == json!(["pvc-old-x7k2ab"])
        })
        .await;
    assert_eq!(
        world.api.list("localvolumereplicas").len(),
        1,
        "no second copy"
    );
    assert_eq!(world.volume("pvc-old").unwrap()["status"]["fsType"], "xfs");
    assert_eq!(world.members(), ["pvc-old"]);
    provisioner.delete("pvc-old").await.unwrap();
    world.until("all is gone", |w| w.dump().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_lost_is_looked_for_and_not_made_anew() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world
        .until("the volume is Ready", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
        })
        .await;
    let replica = world.names("localvolumereplicas").remove(0);
    world.api.edit("localvolumereplicas", "", &replica, |r| {
        r["metadata"]["finalizers"] = json!([])
    });
    world.api.delete("localvolumereplicas", "", &replica);
    world
        .until("it is back", |w| {
            w.api.get("localvolumereplicas", "", &replica).is_some()
        })
        .await;
    let back = world.api.get("localvolumereplicas", "", &replica).unwrap();
    assert_eq!(
        back["metadata"]["annotations"]["hawser.io/existing"],
        "true"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_when_nothing_changes() {
    let world = World::new(&[("n1", 10 * GIB)]);
    let provisioner = world.start().await;
    provisioner.create(request("pvc-1", GIB)).await.unwrap();
    world
        // The event is the last thing that is written about it.
        .until("the volume is Ready and has been announced", |w| {
            w.volume("pvc-1").unwrap()["status"]["state"] == "Ready"
                && w.api
                    .calls()
                    .iter()
                    .any(|call| call.is_write() && call.body["reason"] == "VolumeReady")
        })
        .await;
    drop(provisioner);
    world.api.forget_calls();
    let _again = world.start().await;
    world.api.drop_watches();
    world
        .until("the watches are back", |w| {
            w.api.calls().iter().filter(|c| c.verb == "watch").count() > 10
        })
        .await;
    let wrote: Vec<_> = world
        .api
        .calls()
        .into_iter()
        .filter(|c| c.is_write() && !c.wakes())
        .collect();
    assert!(wrote.is_empty(), "{wrote:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guard_against_uninstalling_is_put_up_and_belongs_to_a_definition() {
    let world = World::new(&[]);
    world.api.put(
        "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "localvolumes.hwameistor.io", "uid": "crd-uid"},
        }),
    );
    let provisioner = world.start().await;
    let both = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];
    world
        .until("the guard is up", |w| {
            both.iter().all(|k| w.api.list(k).len() == 3)
        })
        .await;
    for object in both.iter().flat_map(|k| world.api.list(k)) {
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "crd-uid");
    }
    let policies = world.api.list(both[0]);
    let says = policies[0]["spec"]["validations"][0]["messageExpression"]
        .as_str()
        .unwrap();
    assert!(says.contains("still describes data"), "{says}");
    let versions = || -> Vec<_> {
        let all = both.iter().flat_map(|k| world.api.list(k));
        all.map(|o| o["metadata"]["resourceVersion"].clone())
            .collect()
    };
    let before = versions();
    drop(provisioner);
    world.api.forget_calls();
    let _again = world.start().await;
    world
        .until("it is applied again", |w| {
            w.api
                .calls()
                .iter()
                .filter(|c| both.contains(&c.plural()))
                .count()
                == 6
        })
        .await;
    assert_eq!(before, versions(), "nothing changes");
}
