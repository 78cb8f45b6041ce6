//! Many pods at once: what is asked of the API server for them.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{World, claim_request, nodes::GIB};

const PODS: usize = 150;
const NODES: usize = 15;

/// Reads by verb and plural since the calls were forgotten.
fn reads(world: &World) -> BTreeMap<(&'static str, String), usize> {
    let mut counts = BTreeMap::new();
    for call in world.api.calls().into_iter().filter(|c| !c.is_write()) {
        *counts
            .entry((call.verb, call.plural().to_owned()))
            .or_insert(0) += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once_cost_a_few_reads_each() {
    let names: Vec<String> = (0..NODES).map(|n| format!("n{n}")).collect();
    let nodes: Vec<(&str, i64)> = names.iter().map(|n| (n.as_str(), 20 * GIB)).collect();
    let mut world = World::new(&nodes);
    // Only placing is of interest: the nodes make nothing, and a call ends when its volume is recorded.
    world.settings.ready_timeout = Duration::from_millis(1);
    // Open reservations are compared with their pods and claims as often as outside of tests: not within this one.
    world.settings.reservation_check = Duration::from_secs(3600);
    for node in &names {
        world.nodes.stop(node);
    }
    let mut asked = Vec::new();
    for pod in 0..PODS {
        let node = &names[pod % NODES];
        let claims = ["data", "log"].map(|c| format!("{c}-{pod}"));
        for claim in &claims {
            let volume = world.claim(claim, GIB, Some(node));
            asked.push(claim_request(&volume, claim, GIB, node));
        }
        world.pod(&format!("db-{pod}"), &[&claims[0], &claims[1]]);
    }
    let provisioner = world.start().await;
    world.api.forget_calls();
    let began = std::time::Instant::now();
    // As many workers as external-provisioner has.
    for batch in asked.chunks(100) {
        let calls: Vec<_> = batch
            .iter()
            .map(|request| {
                let (mut client, request) = (provisioner.controller(), request.clone());
                tokio::spawn(async move { client.create_volume(request).await })
            })
            .collect();
        for call in calls {
            let status = call.await.unwrap().unwrap_err();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
        }
    }
    let counts = reads(&world);
    println!("{PODS} pods in {:?}: {counts:#?}", began.elapsed());
    let count = |verb, plural: &str| counts.get(&(verb, plural.to_owned())).copied().unwrap_or(0);
    // Neither a namespace's pods nor its claims are listed; of both, those that are meant are read.
    for plural in ["pods", "persistentvolumeclaims"] {
        assert_eq!(count("list", plural), 0, "{plural}");
        assert!(count("get", plural) <= 3 * 2 * PODS, "{plural}");
    }
    assert_eq!(world.api.list("localvolumes").len(), 2 * PODS);
    let members = world.members();
    assert_eq!(members.len(), 2 * PODS);
}
