//! Wrong questions to `POST /simulate`: which field, its value, and what would be right.

use super::*;

/// A StatefulSet with this change.
fn set(change: &dyn Fn(&mut Value)) -> String {
    let mut set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db" }, "spec": { "template": {} } });
    change(&mut set);
    set.to_string()
}

/// Bodies, with the status and the beginning of the sentence that they get.
async fn told(cases: Vec<(String, u16, &str)>) {
    let bakery = bakery();
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
}

#[tokio::test]
async fn what_is_no_manifest() {
    told(vec![
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
    ])
    .await;
}

#[tokio::test]
async fn wrong_fields() {
    told(vec![
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
    ])
    .await;
}

#[tokio::test]
async fn wrong_parameters() {
    let bakery = bakery();
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
