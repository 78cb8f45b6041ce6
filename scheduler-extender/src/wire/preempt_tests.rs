//! `/preempt` and which refusals evicting can cure, on `fixtures/evict.yaml`, in the JSON of kube-scheduler.

use serde_json::{Value, json};

use super::tests::{a_pod, health, post_to};
use super::*;

async fn ask(path: &str, body: Value) -> Value {
    let router = router(super::tests::app_of("evict.yaml", &health()));
    let (status, answer) = post_to(router, path, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer:?}");
    serde_json::from_slice(&answer).unwrap()
}

fn meta(pods: &[&str]) -> Value {
    let pods: Vec<Value> = pods.iter().map(|uid| json!({ "UID": uid })).collect();
    json!({ "Pods": pods, "NumPDBViolations": pods.len() })
}

/// As kube-scheduler sends it to an extender that is nodeCacheCapable.
fn by_uid(claims: &[&str], victims: &Value) -> Value {
    json!({ "Pod": a_pod(claims), "NodeNameToVictims": null, "NodeNameToMetaVictims": victims })
}

#[tokio::test]
async fn only_what_goes_with_the_victims_makes_room() {
    let kept = async |pods: &[&str]| {
        let body = by_uid(&["data"], &json!({ "full": meta(pods) }));
        ask("/preempt", body).await
    };
    let chosen = |pods: &[&str]| json!({ "NodeNameToMetaVictims": { "full": meta(pods) } });
    let none = json!({ "NodeNameToMetaVictims": {} });
    assert_eq!(
        kept(&["uid-v1"]).await,
        chosen(&["uid-v1"]),
        "its volume is deleted with it"
    );
    assert_eq!(
        kept(&["uid-v2"]).await,
        none,
        "its volume is kept by the reclaim policy"
    );
    assert_eq!(
        kept(&["uid-v3"]).await,
        none,
        "12 + 8 MiB are still too few"
    );
    assert_eq!(kept(&["uid-other"]).await, none, "it has no volume of ours");
    assert_eq!(
        kept(&["uid-v2", "uid-v1"]).await,
        chosen(&["uid-v2", "uid-v1"]),
        "all victims stay"
    );
}

#[tokio::test]
async fn each_node_is_judged_by_itself() {
    let victims = json!({
        "full": meta(&["uid-v1"]), "small": meta(&["uid-x"]), "roomy": meta(&["uid-y"]),
        "elsewhere": meta(&["uid-z"]), "silent": meta(&["uid-s"]), "unknown": meta(&["uid-u"])
    });
    let golden = json!({ "NodeNameToMetaVictims": {
        "full": meta(&["uid-v1"]), "roomy": meta(&["uid-y"]), "elsewhere": meta(&["uid-z"])
    } });
    assert_eq!(ask("/preempt", by_uid(&["data"], &victims)).await, golden);
    let golden = json!({ "NodeNameToMetaVictims": { "elsewhere": meta(&["uid-z"]) } });
    assert_eq!(
        ask("/preempt", by_uid(&["ledger"], &victims)).await,
        golden,
        "nobody is evicted where the pod's data is not"
    );
    let all = json!({ "NodeNameToMetaVictims": victims });
    assert_eq!(
        ask("/preempt", by_uid(&[], &victims)).await,
        all,
        "no volumes of ours"
    );
    let none = json!({ "NodeNameToMetaVictims": {} });
    assert_eq!(
        ask("/preempt", by_uid(&["unborn"], &victims)).await,
        none,
        "not yet known"
    );
    assert_eq!(ask("/preempt", by_uid(&["data"], &Value::Null)).await, none);
}

/// As kube-scheduler sends it to an extender that is not nodeCacheCapable; the answer is by uid in both cases.
#[tokio::test]
async fn victims_may_come_as_whole_pods() {
    let pod = |uid: &str| json!({ "metadata": { "name": uid, "namespace": "shop", "uid": uid }, "spec": { "containers": [] }, "status": {} });
    let body = json!({
        "Pod": a_pod(&["data"]),
        "NodeNameToVictims": {
            "full": { "Pods": [pod("uid-v1")], "NumPDBViolations": 1 },
            "small": { "Pods": [pod("uid-x")], "NumPDBViolations": 0 }
        },
        "NodeNameToMetaVictims": null
    });
    let golden = json!({ "NodeNameToMetaVictims": { "full": meta(&["uid-v1"]) } });
    assert_eq!(ask("/preempt", body).await, golden);
}

/// The scheduler looks for victims only on nodes that are not in `FailedAndUnresolvableNodes`.
#[tokio::test]
async fn only_what_evicting_can_cure_is_worth_a_search_for_victims() {
    let names = ["full", "small", "roomy", "elsewhere", "silent", "unknown"];
    let body = |claims: &[&str]| json!({ "Pod": a_pod(claims), "Nodes": null, "NodeNames": names });
    let answer = ask("/filter", body(&["data"])).await;
    let nodes = |field: &str| -> Vec<String> {
        answer[field].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(answer["NodeNames"], json!(["roomy", "elsewhere"]));
    assert_eq!(nodes("FailedNodes"), ["full"], "room can be made");
    assert_eq!(
        nodes("FailedAndUnresolvableNodes"),
        ["silent", "small", "unknown"],
        "a pool that is too small stays so"
    );
    let answer = ask("/filter", body(&["ledger"])).await;
    assert_eq!(
        answer["FailedNodes"],
        json!({}),
        "data does not move by evicting"
    );
}
