//! The volumes of one pod: reserved together, consumed one by one, let go with the pod.

use hawser_api::names::reasons;
use tonic::Code;

use crate::support::{World, claim_request, nodes::GIB, request};

fn a_world() -> World {
    World::new(&[("n1", 10 * GIB), ("n2", 30 * GIB)])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_of_a_pod_reserves_for_all_its_claims() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 6 * GIB, Some("n2"));
    let second = world.claim("log", 12 * GIB, Some("n2"));
    world.pod("db-0", &["data", "log"]);
    provisioner
        .create(claim_request(&first, "data", 6 * GIB, "n2"))
        .await
        .unwrap();
    let groups = world.api.list("localvolumegroups");
    assert_eq!(groups.len(), 1);
    assert_eq!(
        groups[0]["metadata"]["name"],
        world.api.get("pods", "shop", "db-0").unwrap()["metadata"]["uid"]
    );
    assert_eq!(groups[0]["spec"]["pods"][0], "db-0");
    let mut members = world.members();
    members.sort();
    let mut both = vec![first, second.clone()];
    both.sort();
    assert_eq!(members, both);

    // 30 - 6 - 12 reserved: 12 are left for others.
    let mut greedy = request("pvc-x", 13 * GIB);
    greedy.accessibility_requirements = crate::support::on("n2");
    let refused = provisioner.create(greedy).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("12 reserved for shop/db-0"),
        "{refused}"
    );

    provisioner
        .create(claim_request(&second, "log", 12 * GIB, "n2"))
        .await
        .unwrap();
    assert_eq!(world.api.list("localvolumegroups").len(), 1);
    assert_eq!(world.nodes.volumes().len(), 2);
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_fit_one_by_one_but_not_together_are_refused_at_the_first() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 6 * GIB, Some("n1"));
    world.claim("log", 6 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    let refused = provisioner
        .create(claim_request(&first, "data", 6 * GIB, "n1"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("2 volumes need 12 together"),
        "{refused}"
    );
    world.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_at_once_do_not_get_the_same_room() {
    let world = a_world();
    let provisioner = world.start().await;
    let mut calls = Vec::new();
    for pod in ["a", "b", "c", "d"] {
        let names: Vec<(String, String)> = ["data", "log"]
            .map(|claim| {
                let claim = format!("{claim}-{pod}");
                (world.claim(&claim, 5 * GIB, Some("n2")), claim)
            })
            .into();
        world.pod(pod, &[&names[0].1, &names[1].1]);
        for (volume, claim) in names {
            let mut client = provisioner.controller();
            let request = claim_request(&volume, &claim, 5 * GIB, "n2");
            calls.push((
                pod,
                tokio::spawn(async move { client.create_volume(request).await }),
            ));
        }
    }
    let mut served = std::collections::BTreeMap::new();
    for (pod, call) in calls {
        *served.entry(pod).or_insert(0) += usize::from(call.await.unwrap().is_ok());
    }
    // 30 GiB hold three pods with 10 GiB each; no pod gets one volume only.
    assert_eq!(
        served.values().filter(|n| **n == 2).count(),
        3,
        "{served:?}"
    );
    assert_eq!(
        served.values().filter(|n| **n == 0).count(),
        1,
        "{served:?}"
    );
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_ends_with_its_pod() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 2 * GIB, Some("n1"));
    world.claim("log", 7 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    provisioner
        .create(claim_request(&first, "data", 2 * GIB, "n1"))
        .await
        .unwrap();
    assert_eq!(world.members().len(), 2);
    world.api.delete("pods", "shop", "db-0");
    world
        .until("the reservation ends", |w| w.members() == [first.clone()])
        .await;
    let mut other = request("pvc-x", 8 * GIB);
    other.accessibility_requirements = crate::support::on("n1");
    provisioner.create(other).await.unwrap();
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_moves_with_the_choice_of_the_scheduler() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 2 * GIB, Some("n1"));
    let second = world.claim("log", 3 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    world
        .nodes
        .fail("n1", reasons::NO_SPACE, "the disk is broken");
    assert!(
        provisioner
            .create(claim_request(&first, "data", 2 * GIB, "n1"))
            .await
            .is_err()
    );
    world
        .until("the failed one is gone", |w| w.volume(&first).is_none())
        .await;
    // The sidecar takes the choice back, the scheduler chooses anew.
    world.claim("data", 2 * GIB, Some("n2"));
    world.claim("log", 3 * GIB, Some("n2"));
    provisioner
        .create(claim_request(&first, "data", 2 * GIB, "n2"))
        .await
        .unwrap();
    provisioner
        .create(claim_request(&second, "log", 3 * GIB, "n2"))
        .await
        .unwrap();
    let groups = world.api.list("localvolumegroups");
    assert!(
        groups
            .iter()
            .all(|g| g["spec"]["accessibility"]["nodes"][0] == "n2"),
        "{groups:?}"
    );
    world.assert_consistent();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_with_its_last_volume() {
    let world = a_world();
    let provisioner = world.start().await;
    let first = world.claim("data", 2 * GIB, Some("n1"));
    let second = world.claim("log", 2 * GIB, Some("n1"));
    world.pod("db-0", &["data", "log"]);
    provisioner
        .create(claim_request(&first, "data", 2 * GIB, "n1"))
        .await
        .unwrap();
    provisioner
        .create(claim_request(&second, "log", 2 * GIB, "n1"))
        .await
        .unwrap();
    provisioner.delete(&first).await.unwrap();
    world
        .until("one member is left", |w| w.members() == [second.clone()])
        .await;
    provisioner.delete(&second).await.unwrap();
    world.until("all is gone", |w| w.dump().is_empty()).await;
    world.assert_empty();
}
