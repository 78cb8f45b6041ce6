//! The webhook's configurations and roles, as applied: their conditions are evaluated, and what they name is what the program does.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test; the lints' exception for tests does not reach its helper functions"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cel::{Context, Env};
use serde_json::{Value, json};

fn documents(file: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/admission");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// All webhooks of both configurations.
fn webhooks() -> Vec<Value> {
    let all = documents("webhook.yaml");
    let lists = all
        .iter()
        .map(|document| document["webhooks"].as_array().unwrap());
    lists.flatten().cloned().collect()
}

fn webhook(name: &str) -> Value {
    let all = webhooks();
    let found = all.iter().find(|webhook| webhook["name"] == name);
    found
        .unwrap_or_else(|| panic!("no webhook is called {name}"))
        .clone()
}

fn holds(expression: &str, request: &Value, object: &Value, old: &Value) -> bool {
    let env = Arc::new(Env::stdlib());
    let program = env
        .compile(expression)
        .unwrap_or_else(|e| panic!("{expression}: {e}"));
    let mut context = Context::with_env(env);
    for (name, value) in [("request", request), ("object", object), ("oldObject", old)] {
        context
            .add_variable(name, value)
            .unwrap_or_else(|e| panic!("{e}"));
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(outcome)) => outcome,
        other => panic!("{expression}: {other:?}"),
    }
}

/// Whether the API server would ask the webhook, as far as its conditions go.
fn asks(webhook: &Value, request: &Value, object: &Value, old: &Value) -> bool {
    let conditions = webhook["matchConditions"].as_array().unwrap();
    conditions.iter().all(|condition| {
        holds(
            condition["expression"].as_str().unwrap(),
            request,
            object,
            old,
        )
    })
}

fn by(user: &str, operation: &str) -> Value {
    json!({ "operation": operation, "userInfo": { "username": user } })
}

#[test]
fn pods_without_claims_and_those_with_a_node_stay_away() {
    let create = by("ann", "CREATE");
    let claim = json!([{ "name": "a", "emptyDir": {} }, { "name": "d", "persistentVolumeClaim": { "claimName": "c" } }]);
    let room = json!([{ "name": "r", "ephemeral": { "volumeClaimTemplate": {} } }]);
    let token = json!([{ "name": "t", "projected": {} }, { "name": "c", "configMap": {} }]);
    for (spec, mutated, validated) in [
        (json!({}), false, false),
        (json!({ "volumes": [] }), false, false),
        (json!({ "volumes": token }), false, false),
        (json!({ "volumes": claim }), true, true),
        (json!({ "volumes": room }), true, true),
        (json!({ "volumes": room, "nodeName": "" }), true, true),
        (json!({ "volumes": claim, "nodeName": "n1" }), false, true),
    ] {
        let pod = json!({ "metadata": { "name": "p" }, "spec": spec });
        for (name, wanted) in [
            ("hwameistor.io.mutate-hook", mutated),
            ("pods.validate.hawser.io", validated),
        ] {
            assert_eq!(
                asks(&webhook(name), &create, &pod, &json!(null)),
                wanted,
                "{name} {pod}"
            );
        }
    }
}

#[test]
fn claims_come_when_they_ask_for_room_and_when_they_leave_something_unsaid() {
    let sized = |size: &str| json!({ "spec": { "storageClassName": "a", "resources": { "requests": { "storage": size } } } });
    let (create, update) = (by("ann", "CREATE"), by("ann", "UPDATE"));
    let validate = webhook("claims.validate.hawser.io");
    assert!(asks(&validate, &create, &sized("1Gi"), &json!(null)));
    assert!(asks(&validate, &update, &sized("2Gi"), &sized("1Gi")));
    let mut bound = sized("1Gi");
    bound["spec"]["volumeName"] = json!("pvc-1");
    bound["metadata"] = json!({ "annotations": { "a": "b" } });
    assert!(!asks(&validate, &update, &bound, &sized("1Gi")));

    let mutate = webhook("claims.mutate.hawser.io");
    assert!(!asks(&mutate, &create, &sized("1Gi"), &json!(null)));
    for spec in [
        json!({}),
        json!({ "storageClassName": "a" }),
        json!({ "storageClassName": "a", "resources": {} }),
        json!({ "storageClassName": "a", "resources": { "requests": {} } }),
        json!({ "resources": { "requests": { "storage": "1Gi" } } }),
    ] {
        assert!(
            asks(&mutate, &create, &json!({ "spec": spec }), &json!(null)),
            "{spec}"
        );
    }
}

#[test]
fn only_classes_of_ours_come() {
    let create = by("ann", "CREATE");
    for (provisioner, wanted) in [
        ("lvm.hwameistor.io", true),
        ("disk.hwameistor.io", true),
        ("nfs.example", false),
    ] {
        let class = json!({ "provisioner": provisioner });
        assert_eq!(
            asks(
                &webhook("classes.validate.hawser.io"),
                &create,
                &class,
                &json!(null)
            ),
            wanted
        );
    }
}

#[test]
fn our_own_parts_never_wait_for_the_webhook_and_people_do_when_they_change_something() {
    let (objects, volumes) = (
        webhook("objects.validate.hawser.io"),
        webhook("volumes.validate.hawser.io"),
    );
    assert_eq!(
        (&objects["failurePolicy"], &volumes["failurePolicy"]),
        (&json!("Fail"), &json!("Ignore"))
    );
    let (old, new) = (json!({ "spec": { "a": 1 } }), json!({ "spec": { "a": 2 } }));
    let labelled = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "a": 1 } });
    let bare = json!({ "metadata": {} });
    for (user, operation, object, old_object, people, ourselves) in [
        ("ann", "CREATE", &new, &json!(null), true, false),
        ("ann", "UPDATE", &new, &old, true, false),
        ("ann", "UPDATE", &labelled, &old, false, false),
        ("ann", "UPDATE", &bare, &old, true, false),
        ("ann", "DELETE", &json!(null), &old, true, false),
        (
            "system:serviceaccount:hwameistor:hwameistor-local-storage",
            "UPDATE",
            &new,
            &old,
            false,
            true,
        ),
        (
            "system:serviceaccount:hwameistor-2:x",
            "UPDATE",
            &new,
            &old,
            true,
            false,
        ),
        (
            "system:serviceaccount:kube-system:generic-garbage-collector",
            "DELETE",
            &json!(null),
            &old,
            false,
            false,
        ),
    ] {
        let request = by(user, operation);
        assert_eq!(
            asks(&objects, &request, object, old_object),
            people,
            "{user} {operation}"
        );
        assert_eq!(
            asks(&volumes, &request, object, old_object),
            ourselves,
            "{user} {operation}"
        );
    }
}

#[test]
fn every_webhook_is_named_served_and_in_nobodys_way() {
    let mut seen = BTreeSet::new();
    for (document, path) in documents("webhook.yaml")
        .iter()
        .zip(["/mutate", "/validate"])
    {
        for webhook in document["webhooks"].as_array().unwrap() {
            let name = webhook["name"].as_str().unwrap();
            assert!(seen.insert(name.to_owned()), "{name} twice");
            let service = json!({ "name": "hwameistor-admission-controller", "namespace": "hwameistor", "path": path, "port": 443 });
            assert_eq!(webhook["clientConfig"]["service"], service, "{name}");
            assert_eq!(webhook["timeoutSeconds"], 5, "{name}");
            let namespaced = webhook["rules"][0]["scope"] == "Namespaced";
            let selector = webhook["namespaceSelector"].to_string();
            assert_eq!(
                namespaced,
                selector.contains("hwameistor.io/webhook") && selector.contains("kube-system"),
                "{name}: who may look away"
            );
            let fails = name == "objects.validate.hawser.io";
            assert_eq!(webhook["failurePolicy"] == "Fail", fails, "{name}");
        }
    }
    assert_eq!(seen.len(), 7);
}

/// What a role allows: group, resource, verb.
fn allowed() -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for document in documents("rbac.yaml") {
        for rule in document["rules"].as_array().into_iter().flatten() {
            let list = |key: &str| -> Vec<String> {
                let values = rule[key].as_array().unwrap().iter();
                values
                    .map(|value| value.as_str().unwrap().to_owned())
                    .collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    all.extend(
                        list("verbs")
                            .into_iter()
                            .map(|verb| (group.clone(), resource.clone(), verb)),
                    );
                }
            }
        }
    }
    all
}

#[test]
fn the_roles_allow_what_is_done_and_nothing_else() {
    let read = ["get", "list", "watch"];
    let mut wanted = BTreeSet::new();
    let mut want = |group: &str, resource: &str, verbs: &[&str]| {
        wanted.extend(
            verbs
                .iter()
                .map(|verb| (group.to_owned(), resource.to_owned(), (*verb).to_owned())),
        );
    };
    for resource in ["namespaces", "persistentvolumes", "persistentvolumeclaims"] {
        want("", resource, &read);
    }
    want("apps", "statefulsets", &read);
    want("storage.k8s.io", "storageclasses", &read);
    want("hwameistor.io", "localvolumereplicas", &read);
    want("hwameistor.io", "localstoragenodes", &read);
    want("hwameistor.io", "localvolumes", &["get"]);
    want("hawser.io", "storagepolicies", &read);
    want("hawser.io", "storagepolicies/status", &["patch"]);
    want("", "nodes", &["get"]);
    want("", "pods", &["get"]);
    want("", "secrets", &["create", "get", "update"]);
    want(
        "coordination.k8s.io",
        "leases",
        &["create", "get", "update"],
    );
    want(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        &["get", "update"],
    );
    want(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        &["get", "update"],
    );
    assert_eq!(allowed(), wanted);
}
