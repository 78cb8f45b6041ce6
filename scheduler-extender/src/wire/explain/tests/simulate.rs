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

#[tokio::test]
async fn wrong_manifests_are_told_field_value_and_what_would_be_right() {
    let bakery = bakery();
    let set = |change: &dyn Fn(&mut Value)| {
        let mut set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" }, "spec": { "template": {} } });
        change(&mut set);
        set.to_string()
    };
    let cases: Vec<(String, u16, &str)> = vec![
        (
            String::new(),
            422,
            "manifest: kind is missing: a Pod, StatefulSet or Deployment is needed",
        ),
        (
            "{".to_owned(),
            400,
            "the body can't be read: it is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "a: [".to_owned(),
            400,
            "the body can't be read: it is not YAML: ",
        ),
        (
            "hello".to_owned(),
            422,
            "document 1: apiVersion is missing: an object of Kubernetes has one, such as apiVersion v1, kind Pod",
        ),
        (
            "{\"apiVersion\": 1}".to_owned(),
            422,
            "document 1: apiVersion is \"1\": an object of Kubernetes",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: { name: x }".to_owned(),
            422,
            "manifest: kind is \"Service\": a Pod, StatefulSet or Deployment is needed",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: 3".to_owned(),
            422,
            "List: items is \"3\": an array of objects is needed",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: [3]".to_owned(),
            422,
            "item 0 of the List: apiVersion is missing",
        ),
        (
            set(&|set| set["apiVersion"] = "apps/v1beta1".into()),
            422,
            "StatefulSet db: apiVersion is \"apps/v1beta1\": kind StatefulSet is read as apps/v1",
        ),
        (
            set(&|set| set["metadata"] = json!({})),
            422,
            "StatefulSet: metadata.name is missing: a name has 1 to 253 lower case letters, digits, - and .",
        ),
        (
            set(&|set| set["metadata"]["name"] = "D B".into()),
            422,
            "StatefulSet: metadata.name is \"D B\": a name has",
        ),
        (
            set(&|set| set["metadata"]["namespace"] = "A".into()),
            422,
            "StatefulSet: metadata.namespace is \"A\": a name has",
        ),
        (
            set(&|set| set["spec"]["replicas"] = "3".into()),
            422,
            "StatefulSet db: spec.replicas is \"3\": invalid type: string \"3\", expected i32",
        ),
        (
            set(&|set| set["spec"]["replicas"] = (-1).into()),
            422,
            "StatefulSet default/db: spec.replicas is -1: it must not be negative",
        ),
        (
            set(&|set| set["spec"]["replicas"] = 1001.into()),
            422,
            "StatefulSet default/db: spec.replicas is 1001: at most 1000 pods are simulated at once, here it would be 1001",
        ),
        (
            set(&|set| set["spec"]["volumeClaimTemplates"] = json!([{ "metadata": {} }])),
            422,
            "StatefulSet default/db: spec.volumeClaimTemplates[0].metadata.name is missing: a name has",
        ),
        (
            set(&|set| {
                set["spec"]["replicas"] = 1000.into();
                set["spec"]["volumeClaimTemplates"] = json!([{ "metadata": { "name": "a" } }, { "metadata": { "name": "b" } }, { "metadata": { "name": "c" } }]);
            }),
            422,
            "StatefulSet default/db: spec.replicas is 1000 times 3 claims: the claims of all pods are at most 2000, here 3000",
        ),
        (
            set(
                &|set| set["spec"]["template"]["spec"] = json!({ "containers": [], "volumes": [{ "persistentVolumeClaim": { "claimName": 7 } }] }),
            ),
            422,
            "StatefulSet db: spec.template.spec.volumes[0].persistentVolumeClaim.claimName is 7: invalid type: integer `7`, expected a string",
        ),
    ];
    for (body, status, error) in cases {
        let (got, answer) = post(&bakery, "/simulate", body.clone()).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let told = answer["error"].as_str().unwrap();
        assert_eq!(got.as_u16(), status, "{body}: {told}");
        assert!(told.starts_with(error), "{body}: {told}");
        if status == 422 {
            assert!(
                answer["field"].is_string()
                    && answer["value"].is_string()
                    && answer["expected"].is_string(),
                "{answer}"
            );
        }
    }
    for (query, error) in [
        (
            "replicas=x",
            "parameter replicas is \"x\": it must be a number from 0 to 1000",
        ),
        (
            "replicas=1001",
            "parameter replicas is \"1001\": it must be a number from 0 to 1000",
        ),
        ("namespace=A", "parameter namespace is \"A\": a name has"),
        (
            "pod=a/b",
            "parameter pod is \"a/b\": there is no such parameter, there are namespace, replicas, format",
        ),
    ] {
        let (status, answer) = post(&bakery, &format!("/simulate?{query}"), ovens()).await;
        assert!(
            status == StatusCode::BAD_REQUEST && answer.contains(&error.replace('"', "\\\"")),
            "{query}: {answer}"
        );
    }
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" } });
    let (status, answer) = post(&bakery, "/simulate?replicas=2", pod.to_string()).await;
    assert!(
        status == StatusCode::BAD_REQUEST && answer.contains("a Pod has no replicas"),
        "{answer}"
    );
}
