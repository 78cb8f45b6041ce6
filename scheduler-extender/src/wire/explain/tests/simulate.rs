//! `POST /simulate`.

use super::*;

#[tokio::test]
async fn a_stateful_set_is_placed_pod_by_pod() {
    let bakery = bakery();
    let before = parsed(post(&bakery, "/filter", args("db-2").to_string()).await);
    let answer = parsed(post(&bakery, "/simulate", ovens()).await);
    let nodes: Vec<&Value> = answer["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| &pod["node"])
        .collect();
    assert_eq!(
        nodes,
        [&json!("oven-1"), &json!("oven-2"), &Value::Null],
        "{answer}"
    );
    assert_eq!(
        (&answer["placed"], &answer["notPlaced"]),
        (&json!(2), &json!(1))
    );
    let third = &answer["pods"][2];
    assert_eq!(
        third["sentence"],
        "none of 3 nodes can hold the volumes: \
         1: hdd pool: 0 of 10 GiB free, 2 reserved for default/ovens-1, needs 2; \
         1: hdd pool: 1 of 5 GiB free, 4 reserved for default/db-1 and default/ovens-0, needs 2; \
         1: the pod's node selector or affinity does not select the node"
    );
    let reasons: Vec<&Value> = third["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["reasons"][0]["reason"])
        .collect();
    assert_eq!(
        reasons,
        [
            &json!("NotSelected"),
            &json!("PoolRoom"),
            &json!("PoolRoom")
        ],
        "by the nodes' names"
    );
    let first = json!({
        "pod": "default/ovens-0", "outcome": "Placed", "node": "oven-1",
        "score": { "points": 5, "tier": "Good", "upToDate": 0, "room": 200 },
        "asks": [{ "claim": "default/dough-ovens-0", "volume": null, "kind": "New", "class": "HDD", "bytes": 2_u64 << 30, "thin": false, "copies": 1 }],
        "volumes": [{ "claim": "default/dough-ovens-0", "copies": [{ "node": "oven-1", "pool": "LocalStorage_PoolHDD" }] }],
        "alsoFit": 1, "refusedNodes": 1,
        "refused": [{
            "count": 1, "nodes": ["counter"], "curableByPreemption": false, "reasons": [{ "reason": "NotSelected" }],
            "sentence": "the pod's node selector or affinity does not select the node"
        }]
    });
    assert_eq!(answer["pods"][0], first);
    assert_eq!(
        answer["workloads"],
        json!([{ "kind": "StatefulSet", "namespace": "default", "name": "ovens", "replicas": 3 }])
    );
    assert_eq!(answer["ignored"], json!(["v1 Service ovens"]));
    assert_eq!(
        answer["setButNotConsidered"],
        json!(["StatefulSet default/ovens: spec.template.spec.containers[].resources"])
    );
    assert_eq!(
        parsed(post(&bakery, "/filter", args("db-2").to_string()).await),
        before,
        "nothing was taken"
    );

    let five = parsed(post(&bakery, "/simulate?replicas=5&namespace=shop", ovens()).await);
    assert_eq!(
        (&five["notPlaced"], &five["pods"][4]["pod"]),
        (&json!(3), &json!("shop/ovens-4"))
    );
    assert_eq!(
        five["pods"][4]["waitsFor"], "shop/ovens-2",
        "pods of the set come one after the other"
    );
}

#[tokio::test]
async fn a_page_of_a_simulation() {
    let (status, page) = post(&bakery(), "/simulate?format=text", ovens()).await;
    assert_eq!(status, StatusCode::OK);
    let golden = "\
StatefulSet default/ovens, 3 pods
2 of 3 pods would find a node for their volumes

default/ovens-0: oven-1, 5 points; 1 more would do
  claim default/dough-ovens-0: new, 2.0 GiB of an hdd pool: LocalStorage_PoolHDD on oven-1
  not counter: the pod's node selector or affinity does not select the node

default/ovens-1: oven-2, 4 points; 0 more would do
  claim default/dough-ovens-1: new, 2.0 GiB of an hdd pool: LocalStorage_PoolHDD on oven-2
  not counter: the pod's node selector or affinity does not select the node
  not oven-1: hdd pool: 1 of 5 GiB free, 4 reserved for default/db-1 and default/ovens-0, needs 2

default/ovens-2: nowhere: none of 3 nodes can hold the volumes: ";
    assert!(page.starts_with(golden), "{page}");
    assert!(page.contains("\nnot considered: StatefulSet default/ovens: spec.template.spec.containers[].resources\n"), "{page}");
}

#[tokio::test]
async fn pods_and_deployments_with_claims_of_all_kinds() {
    let bakery = bakery();
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" },
        "spec": { "replicas": 2, "selector": {}, "template": { "spec": {
            "containers": [],
            "volumes": [
                { "name": "shared", "persistentVolumeClaim": { "claimName": "menu" } },
                { "name": "tmp", "ephemeral": { "volumeClaimTemplate": { "spec": { "resources": { "requests": { "storage": "1Gi" } } } } } }
            ]
        } } }
    });
    let answer = parsed(post(&bakery, "/simulate", manifest.to_string()).await);
    assert_eq!(answer["pods"][0]["outcome"], "Unknown");
    assert_eq!(
        answer["pods"][0]["reasons"],
        json!([{ "reason": "ClaimMissing", "claim": "default/menu" }])
    );

    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "menu" },
        "spec": { "storageClassName": "hdd", "resources": { "requests": { "storage": "1Gi" } } }
    });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [claim, manifest] });
    let answer = parsed(post(&bakery, "/simulate", list.to_string()).await);
    let pods = &answer["pods"];
    assert_eq!(
        (&pods[0]["node"], &pods[1]["node"]),
        (&json!("oven-1"), &json!("oven-1")),
        "they share a claim: {answer}"
    );
    assert_eq!(
        pods[1]["asks"][0]["kind"], "Existing",
        "the first pod's volume is there when the second comes"
    );
    assert_eq!(
        pods[1]["refused"][1]["reasons"][0]["reason"],
        "DataElsewhere"
    );
    let three = parsed(post(&bakery, "/simulate?replicas=3", list.to_string()).await);
    assert_eq!(
        three["pods"][2]["outcome"], "Nowhere",
        "3 GiB: 1 shared and 2 of their own: {three}"
    );

    let bound = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "db-0", "namespace": "default" },
        "spec": { "containers": [], "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data-db-0" } }] }
    });
    let answer = parsed(post(&bakery, "/simulate", bound.to_string()).await);
    assert_eq!(
        (&answer["pods"][0]["pod"], &answer["pods"][0]["node"]),
        (&json!("default/db-0"), &json!("oven-2"))
    );
}
