//! What a reservation is for, case by case (docs/reservations.md), on the real wire.

use std::time::Duration;

use serde_json::json;
use tonic::Code;

use crate::support::{World, api::Fate, claim_request, nodes::GIB, on, request};

/// Two nodes, one small; nothing is noticed by a timer within a test.
fn a_world() -> World {
    let mut world = World::new(&[("n1", 10 * GIB), ("n2", 30 * GIB)]);
    world.settings.reservation_check = Duration::from_secs(3600);
    world.settings.unclaimed = Duration::from_secs(3600);
    world
}

/// Whether a stranger gets a volume of this size on a node; if so it is removed again.
async fn is_free(
    world: &World,
    provisioner: &crate::support::Provisioner,
    node: &str,
    gib: i64,
) -> bool {
    let mut ask = request("pvc-probe", gib * GIB);
    ask.accessibility_requirements = on(node);
    match provisioner.create(ask).await {
        Ok(_) => {
            provisioner.delete("pvc-probe").await.unwrap();
            world
                .until("the probe is gone", |w| w.volume("pvc-probe").is_none())
                .await;
            true
        }
        Err(status) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            false
        }
    }
}

fn groups(world: &World) -> Vec<String> {
    world.names("localvolumegroups")
}

fn uid(world: &World, pod: &str) -> String {
    let pod = world.api.get("pods", "shop", pod).unwrap();
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pods_that_share_a_claim_the_one_that_was_scheduled_is_served() {
    let world = a_world();
    let provisioner = world.start().await;
    let shared = world.claim("shared", 4 * GIB, Some("n1"));
    // The older pod would not fit on n1, and was not scheduled.
    world.claim("large", 9 * GIB, None);
    world.pod("older", &["shared", "large"]);
    let own = world.claim("own", 5 * GIB, Some("n1"));
    world.pod("scheduled", &["shared", "own"]);
    provisioner
        .create(claim_request(&shared, "shared", 4 * GIB, "n1"))
        .await
        .unwrap();
    assert_eq!(groups(&world), [uid(&world, "scheduled")]);
    assert!(!is_free(&world, &provisioner, "n1", 2).await);
    provisioner
        .create(claim_request(&own, "own", 5 * GIB, "n1"))
        .await
        .unwrap();
    // The other one follows the data, and is refused for want of room there.
    world.claim("large", 9 * GIB, Some("n1"));
    let large = world.claim("large", 9 * GIB, Some("n1"));
    let refused = provisioner
        .create(claim_request(&large, "large", 9 * GIB, "n1"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(world.nodes.overcommitted(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_deployment_shares_is_made_once_and_outlives_the_pod_that_it_was_made_for() {
    let world = a_world();
    let provisioner = world.start().await;
    let shared = world.claim("shared", 4 * GIB, Some("n1"));
    let own: Vec<String> = ["a", "b", "c"]
        .map(|pod| {
            let claim = format!("{pod}-scratch");
            let volume = world.ephemeral_claim(&claim, pod, GIB, Some("n1"));
            world.pod_with(pod, &["shared"], &["scratch"]);
            world.adopt(&claim, pod);
            volume
        })
        .into();
    for (pod, volume) in ["a", "b", "c"].iter().zip(&own) {
        let claim = format!("{pod}-scratch");
        provisioner
            .create(claim_request(volume, &claim, GIB, "n1"))
            .await
            .unwrap();
    }
    // Each pod's group reserves for the shared claim; it takes its room once: 10 - 4 - 3.
    assert_eq!(groups(&world).len(), 3);
    assert!(is_free(&world, &provisioner, "n1", 3).await);
    assert!(!is_free(&world, &provisioner, "n1", 4).await);
    world.api.delete("pods", "shop", "a");
    world.api.delete("pods", "shop", "b");
    world
        .until("two groups have their own volume only", |w| {
            let members = w.members();
            members.iter().filter(|m| **m == shared).count() == 1
        })
        .await;
    assert!(!is_free(&world, &provisioner, "n1", 4).await);
    provisioner
        .create(claim_request(&shared, "shared", 4 * GIB, "n1"))
        .await
        .unwrap();
    assert_eq!(world.nodes.overcommitted(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_volume_goes_where_the_pods_other_volume_is_or_nowhere() {
    let world = a_world();
    let provisioner = world.start().await;
    let old = world.claim("old", 7 * GIB, Some("n1"));
    world.pod("first", &["old"]);
    provisioner
        .create(claim_request(&old, "old", 7 * GIB, "n1"))
        .await
        .unwrap();
    world.bind("old", &old);
    world.api.delete("pods", "shop", "first");
    let new = world.claim("new", 3 * GIB, Some("n2"));
    world.pod("second", &["old", "new"]);
    let elsewhere = provisioner
        .create(claim_request(&new, "new", 3 * GIB, "n2"))
        .await
        .unwrap_err();
    assert_eq!(elsewhere.code(), Code::ResourceExhausted);
    assert!(
        elsewhere.message().contains("its data is on node n1"),
        "{elsewhere}"
    );
    world.claim("new", 3 * GIB, Some("n1"));
    provisioner
        .create(claim_request(&new, "new", 3 * GIB, "n1"))
        .await
        .unwrap();
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_reserves_where_its_source_is_and_is_not_filled_yet() {
    let world = a_world();
    let provisioner = world.start().await;
    let source = world.claim("source", 2 * GIB, Some("n1"));
    world.pod("first", &["source"]);
    provisioner
        .create(claim_request(&source, "source", 2 * GIB, "n1"))
        .await
        .unwrap();
    world.bind("source", &source);
    let plain = world.claim("plain", 2 * GIB, Some("n2"));
    let clone = world.claim("clone", 2 * GIB, Some("n2"));
    world
        .api
        .edit("persistentvolumeclaims", "shop", "clone", |c| {
            c["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "source"});
        });
    world.pod("second", &["plain", "clone"]);
    let elsewhere = provisioner
        .create(claim_request(&plain, "plain", 2 * GIB, "n2"))
        .await
        .unwrap_err();
    assert!(
        elsewhere.message().contains("its source is on node n1"),
        "{elsewhere}"
    );
    for claim in ["plain", "clone"] {
        world.select(claim, Some("n1"));
    }
    provisioner
        .create(claim_request(&plain, "plain", 2 * GIB, "n1"))
        .await
        .unwrap();
    assert!(world.members().contains(&clone));
    let mut ask = claim_request(&clone, "clone", 2 * GIB, "n1");
    ask.volume_content_source = Some(hawser_csi::v1::VolumeContentSource {
        r#type: Some(hawser_csi::v1::volume_content_source::Type::Volume(
            hawser_csi::v1::volume_content_source::VolumeSource { volume_id: source },
        )),
    });
    let refused = provisioner.create(ask).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused
            .message()
            .contains("leave the claim's dataSource out"),
        "{refused}"
    );
    assert!(world.volume(&clone).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_binds_at_once_is_placed_by_itself() {
    let world = a_world();
    world.class("now", "HDD", "Immediate");
    let provisioner = world.start().await;
    let volume = world.claim("data", 2 * GIB, None);
    world
        .api
        .edit("persistentvolumeclaims", "shop", "data", |c| {
            c["spec"]["storageClassName"] = json!("now");
        });
    world.claim("large", 29 * GIB, None);
    world.pod("db-0", &["data", "large"]);
    let mut ask = claim_request(&volume, "data", 2 * GIB, "n1");
    ask.accessibility_requirements = None;
    provisioner.create(ask).await.unwrap();
    assert_eq!(groups(&world), std::slice::from_ref(&volume));
    assert_eq!(world.members(), [volume]);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_volumes_are_reserved_with_the_rest() {
    let world = a_world();
    let provisioner = world.start().await;
    let data = world.claim("data", 4 * GIB, Some("n1"));
    let scratch = world.ephemeral_claim("db-0-scratch", "db-0", 5 * GIB, Some("n1"));
    world.pod_with("db-0", &["data"], &["scratch"]);
    world.adopt("db-0-scratch", "db-0");
    provisioner
        .create(claim_request(&data, "data", 4 * GIB, "n1"))
        .await
        .unwrap();
    let mut members = world.members();
    members.sort();
    let mut both = vec![data, scratch];
    both.sort();
    assert_eq!(members, both);
    assert!(!is_free(&world, &provisioner, "n1", 2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_retries_does_not_compete_with_what_is_reserved_for_it() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 4 * GIB, Some("n1"));
    let second = world.claim("log", 6 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    // The group is written, the volume is not: the pool is full by reservations.
    world.api.judge(|call| match (call.verb, call.plural()) {
        ("create", "localvolumes") => Fate::Refused(500),
        _ => Fate::Served,
    });
    let ask = || claim_request(&first, "data", 4 * GIB, "n1");
    for _ in 0..3 {
        let failed = provisioner.create(ask()).await.unwrap_err();
        assert_eq!(failed.code(), Code::Unavailable, "{failed}");
        assert_eq!(world.members().len(), 2);
    }
    world.api.serve_all();
    assert!(!is_free(&world, &provisioner, "n1", 1).await);
    provisioner.create(ask()).await.unwrap();
    provisioner
        .create(claim_request(&second, "log", 6 * GIB, "n1"))
        .await
        .unwrap();
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_ends_when_its_pod_does_without_a_timer() {
    for end in ["deleted", "finished", "replaced"] {
        let world = a_world();
        let provisioner = world.start().await;
        let first = world.claim("data", 2 * GIB, Some("n1"));
        world.claim("log", 7 * GIB, Some("n1"));
        world.pod("db-0", &["data", "log"]);
        provisioner
            .create(claim_request(&first, "data", 2 * GIB, "n1"))
            .await
            .unwrap();
        match end {
            "deleted" => world.api.delete("pods", "shop", "db-0"),
            "finished" => {
                world.api.edit("pods", "shop", "db-0", |p| {
                    p["status"]["phase"] = json!("Failed");
                });
            }
            _ => {
                world.api.delete("pods", "shop", "db-0");
                world.pod("db-0", &["data", "log"]);
            }
        }
        world
            .until("the reservation ends", |w| w.members() == [first.clone()])
            .await;
        assert!(is_free(&world, &provisioner, "n1", 8).await, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_goes_along_when_its_pod_is_scheduled_elsewhere() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 4 * GIB, Some("n1"));
    world.claim("log", 5 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    world.api.judge(|call| match (call.verb, call.plural()) {
        ("create", "localvolumes") => Fate::Refused(500),
        _ => Fate::Served,
    });
    let ask = |node: &str| claim_request(&first, "data", 4 * GIB, node);
    provisioner.create(ask("n1")).await.unwrap_err();
    world.api.serve_all();
    assert!(!is_free(&world, &provisioner, "n1", 2).await);
    for claim in ["data", "log"] {
        world.select(claim, Some("n2"));
    }
    provisioner.create(ask("n2")).await.unwrap();
    assert!(is_free(&world, &provisioner, "n1", 10).await);
    assert!(!is_free(&world, &provisioner, "n2", 22).await);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_backstop_ends_what_nobody_chooses_a_node_for() {
    let mut world = a_world();
    world.settings.reservation_check = Duration::from_millis(50);
    world.settings.unclaimed = Duration::from_millis(100);
    let provisioner = world.start().await;
    // One pod has a volume on the node already, the other has none.
    let made = world.claim("made", GIB, Some("n1"));
    let kept = world.claim("kept", 2 * GIB, Some("n1"));
    world.pod("tied", &["made", "kept"]);
    provisioner
        .create(claim_request(&made, "made", GIB, "n1"))
        .await
        .unwrap();
    world.select("kept", None);
    let free = world.claim("free", 3 * GIB, Some("n1"));
    world.pod("free", &["free"]);
    world.api.judge(|call| match (call.verb, call.plural()) {
        ("create", "localvolumes") => Fate::Refused(500),
        _ => Fate::Served,
    });
    provisioner
        .create(claim_request(&free, "free", 3 * GIB, "n1"))
        .await
        .unwrap_err();
    world.api.serve_all();
    world.select("free", None);
    world
        .until("the reservation without a node has ended", |w| {
            !w.members().contains(&free)
        })
        .await;
    assert!(world.members().contains(&kept), "{:?}", world.members());
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_survive_a_restart_and_a_change_of_leader() {
    let world = a_world();
    let first = world.start().await;
    let data = world.claim("data", 4 * GIB, Some("n1"));
    let log = world.claim("log", 5 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    first
        .create(claim_request(&data, "data", 4 * GIB, "n1"))
        .await
        .unwrap();
    drop(first);
    let second = world.start().await;
    assert!(!is_free(&world, &second, "n1", 2).await);
    second.permit.fixed(false);
    let third = world.start().await;
    assert!(!is_free(&world, &third, "n1", 2).await);
    third
        .create(claim_request(&log, "log", 5 * GIB, "n1"))
        .await
        .unwrap();
    assert_eq!(groups(&world), [uid(&world, "db-0")]);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_leader_sent_arrives_too_late_to_count() {
    for kind in ["localvolumegroups", "localvolumes"] {
        let world = a_world();
        let old = world.start().await;
        let data = world.claim("data", 6 * GIB, Some("n1"));
        world.pod("db-0", &["data"]);
        world
            .api
            .judge(move |call| match (call.verb, call.plural()) {
                ("create", plural) if plural == kind => Fate::Later,
                _ => Fate::Served,
            });
        let stuck = old
            .create(claim_request(&data, "data", 6 * GIB, "n1"))
            .await
            .unwrap_err();
        assert_eq!(stuck.code(), Code::Unavailable, "{stuck}");
        old.permit.fixed(false);
        world.api.serve_all();
        let new = world.start().await;
        // Another pod gets the room; of a pod that is gone nothing is kept.
        world.api.delete("pods", "shop", "db-0");
        world
            .until("nothing is reserved", |w| w.members().is_empty())
            .await;
        let other = world.claim("other", 6 * GIB, Some("n1"));
        world.pod("other", &["other"]);
        new.create(claim_request(&other, "other", 6 * GIB, "n1"))
            .await
            .unwrap();
        assert_eq!(world.api.arrive(), 1);
        world
            .until("what arrived late is gone", |w| {
                w.members() == [other.clone()] && w.volume(&data).is_none()
            })
            .await;
        assert_eq!(world.nodes.volumes().len(), 1);
        world.assert_consistent();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_whose_answer_was_lost_is_not_forgotten() {
    let world = a_world();
    let provisioner = world.start().await;
    let data = world.claim("data", 6 * GIB, Some("n1"));
    world.pod("db-0", &["data"]);
    // Neither the answer nor the watch tells of the group.
    world.api.judge(|call| match (call.verb, call.plural()) {
        ("create", "localvolumegroups") => Fate::Later,
        _ => Fate::Served,
    });
    provisioner
        .create(claim_request(&data, "data", 6 * GIB, "n1"))
        .await
        .unwrap_err();
    world.api.serve_all();
    assert!(!is_free(&world, &provisioner, "n1", 5).await);
    // It was written again meanwhile, so that it can't be any more.
    assert_eq!(world.api.arrive(), 0);
    assert_eq!(world.members(), std::slice::from_ref(&data));
    provisioner
        .create(claim_request(&data, "data", 6 * GIB, "n1"))
        .await
        .unwrap();
    provisioner.delete(&data).await.unwrap();
    world.until("all is gone", |w| w.dump().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_made_by_hand_gets_its_room_first() {
    let world = a_world();
    let _provisioner = world.start().await;
    let by_hand = |name: &str, gib: i64| {
        let object = json!({
            "apiVersion": "hwameistor.io/v1alpha1", "kind": "LocalVolume", "metadata": {"name": name},
            "spec": {"accessibility": {"nodes": ["n1"]}, "poolName": "LocalStorage_PoolHDD", "replicaNumber": 1,
                     "requiredCapacityBytes": gib * GIB},
        });
        world
            .api
            .put("apis/hwameistor.io/v1alpha1/localvolumes", object);
    };
    by_hand("vol-1", 6);
    world
        .until("the first is made", |w| {
            w.nodes.volumes().contains_key("vol-1")
        })
        .await;
    by_hand("vol-2", 6);
    world
        .until("the second is told that there is no room", |w| {
            let events = w.api.list("events");
            events
                .iter()
                .any(|e| e["reason"] == "NoRoom" && e["regarding"]["name"] == "vol-2")
        })
        .await;
    assert_eq!(world.nodes.volumes().len(), 1);
    assert_eq!(world.nodes.overcommitted(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_node_goes_before_it_is_made_is_given_up() {
    let mut world = a_world();
    world.settings.ready_timeout = Duration::from_millis(200);
    let provisioner = world.start().await;
    world.nodes.stop("n1");
    let data = world.claim("data", GIB, Some("n1"));
    world.pod("db-0", &["data"]);
    let late = provisioner
        .create(claim_request(&data, "data", GIB, "n1"))
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    world.api.delete("nodes", "", "n1");
    drop(provisioner);
    let provisioner = world.start().await;
    world
        .until("it is given up", |w| w.volume(&data).is_none())
        .await;
    world.select("data", Some("n2"));
    // Made within the call or soon after.
    let _ = provisioner
        .create(claim_request(&data, "data", GIB, "n2"))
        .await;
    world
        .until("it is made on the other node", |w| {
            w.nodes.volumes().contains_key(&data)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_nobody_comes_back_for_is_removed_only_if_it_was_never_bound() {
    for bound in [false, true] {
        let world = a_world();
        let provisioner = world.start().await;
        let data = world.claim("data", GIB, Some("n1"));
        world.pod("db-0", &["data"]);
        provisioner
            .create(claim_request(&data, "data", GIB, "n1"))
            .await
            .unwrap();
        let unbound = |w: &World| {
            let volume = w.volume(&data).unwrap();
            volume["metadata"]["annotations"]["hawser.io/unbound"] == "true"
        };
        assert!(unbound(&world));
        if bound {
            world.bind("data", &data);
            world.until("that is noted", |w| !unbound(w)).await;
            // Kept by an administrator, say, who makes another persistent volume for it later.
            world.api.delete("persistentvolumes", "", &data);
        }
        drop(provisioner);
        world.api.delete("pods", "shop", "db-0");
        world.api.delete("persistentvolumeclaims", "shop", "data");
        let provisioner = world.start().await;
        if bound {
            provisioner.create(request("pvc-x", GIB)).await.unwrap();
            assert_eq!(
                world.volume(&data).unwrap()["spec"]["delete"],
                serde_json::Value::Null
            );
        } else {
            world
                .until("it is removed", |w| w.volume(&data).is_none())
                .await;
        }
    }
}
