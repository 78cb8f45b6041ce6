//! The webhook on its real wire: routing, what is no review, policies and objects through the whole of it. Patches of pods: `tests/golden.rs`.

use axum::http::Request as HttpRequest;
use hawser_runtime::index::Index;
use hawser_runtime::metrics::Metrics;
use hawser_runtime::testing::FakeApi;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::gather::tests::a_cluster;
use crate::policy::tests::a_policy;

fn a_webhook(policies: &[(&str, Value)], api: &FakeApi) -> Webhook {
    let lookups = a_cluster();
    for (name, spec) in policies {
        lookups.policies.apply(a_policy(name, spec));
    }
    Webhook {
        gatherer: Gatherer::new(
            lookups,
            Some(api.client()),
            names::DEFAULT_NAMESPACE.to_owned(),
        ),
        book: Book::default(),
        requests: Requests::register(&Metrics::new("test"), "webhook", "reviews"),
        reader: Reader::default(),
    }
}

async fn send(webhook: &Webhook, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = HttpRequest::post(path).body(body.into()).unwrap();
    let response = router(webhook.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn a_review(group: &str, resource: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let namespaced = matches!(resource, "pods" | "persistentvolumeclaims");
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": group, "version": "v1", "kind": "Any" },
            "resource": { "group": group, "version": "v1", "resource": resource },
            "name": "it",
            "namespace": if namespaced { "shop" } else { "" },
            "operation": operation,
            "userInfo": { "username": "ann", "groups": ["system:authenticated"] },
            "object": object,
            "oldObject": old,
            "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" }
        }
    })
}

async fn ask(webhook: &Webhook, path: &str, review: &Value) -> Value {
    let (status, body) = send(webhook, path, review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (
            &answer["apiVersion"],
            &answer["kind"],
            &answer["response"]["uid"]
        ),
        (
            &json!("admission.k8s.io/v1"),
            &json!("AdmissionReview"),
            &review["request"]["uid"]
        )
    );
    answer["response"].take()
}

fn a_claim(size: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "it", "namespace": "shop" },
            "spec": { "storageClassName": "local-ssd", "resources": { "requests": { "storage": size } } } })
}

fn a_limit(mode: &str) -> Vec<(&'static str, Value)> {
    vec![(
        "small",
        json!({ "mode": mode, "restrict": { "size": { "max": "10Gi" } } }),
    )]
}

#[tokio::test]
async fn each_mode_on_the_wire() {
    let sentence = "20 GiB is more than StoragePolicy \"small\" allows: ask for 10 GiB or less";
    let api = FakeApi::new();
    let review = a_review(
        "",
        "persistentvolumeclaims",
        "CREATE",
        &a_claim("20Gi"),
        &json!(null),
    );

    let enforced = ask(&a_webhook(&a_limit("Enforce"), &api), "/validate", &review).await;
    assert_eq!(enforced["allowed"], false);
    assert_eq!(
        enforced["status"],
        json!({ "status": "Failure", "code": 403, "reason": "Forbidden", "message": sentence })
    );
    let warned = ask(&a_webhook(&a_limit("Warn"), &api), "/validate", &review).await;
    assert_eq!(
        (&warned["allowed"], &warned["warnings"]),
        (&json!(true), &json!([sentence]))
    );
    let audited = ask(&a_webhook(&a_limit("Audit"), &api), "/validate", &review).await;
    assert_eq!(
        (&audited["allowed"], &audited["warnings"]),
        (&json!(true), &Value::Null)
    );
    for answer in [enforced, warned, audited] {
        assert_eq!(
            answer["auditAnnotations"],
            json!({ "storagepolicy": sentence })
        );
    }
}

#[tokio::test]
async fn what_is_judged_is_counted_but_for_dry_runs() {
    let webhook = a_webhook(&a_limit("Enforce"), &FakeApi::new());
    let mut review = a_review(
        "",
        "persistentvolumeclaims",
        "CREATE",
        &a_claim("20Gi"),
        &json!(null),
    );
    review["request"]["dryRun"] = json!(true);
    assert_eq!(ask(&webhook, "/validate", &review).await["allowed"], false);
    assert!(webhook.book.take().is_empty());

    review["request"]["dryRun"] = json!(false);
    ask(&webhook, "/validate", &review).await;
    let fine = a_review(
        "",
        "persistentvolumeclaims",
        "CREATE",
        &a_claim("1Gi"),
        &json!(null),
    );
    ask(&webhook, "/validate", &fine).await;
    let taken = webhook.book.take();
    let (name, counts) = &taken[0];
    assert_eq!(
        (name.as_str(), counts.matched, counts.denied),
        ("small", 2, 1)
    );
    let last = counts.last_violation.clone().unwrap();
    assert_eq!(
        (
            last.object.as_str(),
            last.operation.as_str(),
            last.user.as_str()
        ),
        ("PersistentVolumeClaim shop/it", "CREATE", "ann")
    );
}

#[tokio::test]
async fn pods_are_judged_by_their_ephemeral_volumes_and_by_what_ties_them() {
    let mut all = a_limit("Enforce");
    all.push(("near", json!({ "mode": "Enforce", "locality": "Required" })));
    let webhook = a_webhook(&all, &FakeApi::new());
    let pod = json!({ "metadata": { "name": "it" }, "spec": { "volumes": [
        { "name": "room", "ephemeral": { "volumeClaimTemplate": { "spec": {
            "storageClassName": "local-ssd", "resources": { "requests": { "storage": "20Gi" } }
        } } } },
        { "name": "data", "persistentVolumeClaim": { "claimName": "bound" } }
    ] } });
    let review = a_review("", "pods", "CREATE", &pod, &json!(null));
    let answer = ask(&webhook, "/validate", &review).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("ephemeral volume \"room\": 20 GiB is more than"),
        "{message}"
    );
    assert!(
        message.contains("; StoragePolicy \"near\" ties pods to the data of claim \"bound\""),
        "{message}"
    );

    // What the other path gives makes it right, but for the size.
    let patch = ask(&webhook, "/mutate", &review).await["patch"].take();
    let patch: k8s_openapi::ByteString = serde_json::from_value(patch).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
    let mut tied = pod.clone();
    json_patch::patch(&mut tied, &patch).unwrap();
    let answer = ask(
        &webhook,
        "/validate",
        &a_review("", "pods", "CREATE", &tied, &json!(null)),
    )
    .await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(!message.contains("ties pods"), "{message}");
    assert_eq!(webhook.book.take().len(), 2);
}

#[tokio::test]
async fn claims_get_their_defaults_on_the_wire() {
    let defaults = [(
        "p",
        json!({ "mode": "Enforce", "defaults": { "size": "3Gi" } }),
    )];
    let webhook = a_webhook(&defaults, &FakeApi::new());
    let mut claim = a_claim("1Gi");
    claim["spec"]["resources"] = json!({});
    let answer = ask(
        &webhook,
        "/mutate",
        &a_review("", "persistentvolumeclaims", "CREATE", &claim, &json!(null)),
    )
    .await;
    assert_eq!(answer["patchType"], "JSONPatch");
    let patch: k8s_openapi::ByteString = serde_json::from_value(answer["patch"].clone()).unwrap();
    let patch: Value = serde_json::from_slice(&patch.0).unwrap();
    assert_eq!(
        patch,
        json!([{ "op": "add", "path": "/spec/resources/requests", "value": { "storage": "3Gi" } }])
    );
}

#[tokio::test]
async fn classes_and_objects_of_ours_are_checked_and_the_rest_passes() {
    let webhook = a_webhook(&[], &FakeApi::new());
    let class = json!({ "metadata": { "name": "it" }, "provisioner": "lvm.hwameistor.io", "parameters": {} });
    let review = |operation: &str| {
        a_review(
            "storage.k8s.io",
            "storageclasses",
            operation,
            &class,
            &class,
        )
    };
    let refused = ask(&webhook, "/validate", &review("CREATE")).await;
    assert_eq!(
        (&refused["allowed"], &refused["status"]["code"]),
        (&json!(false), &json!(422))
    );
    assert_eq!(
        ask(&webhook, "/validate", &review("UPDATE")).await["allowed"],
        true
    );

    let volume =
        json!({ "metadata": { "name": "it" }, "spec": { "poolName": "LocalStorage_PoolSSD" } });
    let delete = a_review(
        "hwameistor.io",
        "localvolumes",
        "DELETE",
        &json!(null),
        &volume,
    );
    let refused = ask(&webhook, "/validate", &delete).await;
    assert!(
        refused["status"]["message"]
            .as_str()
            .unwrap()
            .starts_with("LocalVolume \"it\": deleting the object destroys no data"),
        "{refused}"
    );
    for path in ["/mutate", "/validate"] {
        for (group, resource) in [
            ("", "configmaps"),
            ("apps", "pods"),
            ("hwameistor.io", "events"),
            ("hawser.io", "storagepolicies"),
        ] {
            for operation in ["CREATE", "UPDATE", "DELETE", "CONNECT"] {
                let review = a_review(
                    group,
                    resource,
                    operation,
                    &json!({ "spec": 7 }),
                    &json!([]),
                );
                let answer = ask(&webhook, path, &review).await;
                assert_eq!(
                    answer["allowed"], true,
                    "{path} {group} {resource} {operation}"
                );
                assert_eq!(answer["patch"], Value::Null);
            }
        }
    }
}

#[tokio::test]
async fn changes_and_subresources_of_pods_pass_as_they_are() {
    let webhook = a_webhook(&[], &FakeApi::new());
    let pod = json!({ "metadata": { "name": "it" }, "spec": { "volumes": [
        { "name": "data", "persistentVolumeClaim": { "claimName": "bound" } }
    ] } });
    let create = a_review("", "pods", "CREATE", &pod, &json!(null));
    assert_ne!(
        ask(&webhook, "/mutate", &create).await["patch"],
        Value::Null
    );
    let update = a_review("", "pods", "UPDATE", &pod, &pod);
    assert_eq!(
        ask(&webhook, "/mutate", &update).await["patch"],
        Value::Null
    );
    let mut eviction = create;
    eviction["request"]["subResource"] = json!("eviction");
    assert_eq!(
        ask(&webhook, "/mutate", &eviction).await["patch"],
        Value::Null
    );
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_the_reason() {
    let webhook = a_webhook(&[], &FakeApi::new());
    let changed = |change: fn(&mut Value)| {
        let mut review = a_review("", "pods", "CREATE", &json!({ "spec": {} }), &json!(null));
        change(&mut review);
        review.to_string()
    };
    for (body, reason) in [
        (
            String::new(),
            "the body is no AdmissionReview: EOF while parsing",
        ),
        (
            "{}".to_owned(),
            "the body is no AdmissionReview: missing field `apiVersion`",
        ),
        ("[1, 2]".to_owned(), "the body is no AdmissionReview: "),
        (
            changed(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1")),
            "the body is \"admission.k8s.io/v1beta1\"",
        ),
        (
            changed(|review| drop(review.as_object_mut().unwrap().remove("request"))),
            "the AdmissionReview has no request",
        ),
        (
            changed(|review| review["request"]["object"] = json!(null)),
            "the AdmissionReview's request has no object",
        ),
        (
            changed(|review| review["request"]["object"]["spec"] = json!(7)),
            "the AdmissionReview's object is no pod: ",
        ),
        (
            changed(|review| review["request"]["operation"] = json!("DANCE")),
            "the body is no AdmissionReview: unknown variant",
        ),
    ] {
        let (status, text) = send(&webhook, "/mutate", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{reason}");
        assert!(
            text.starts_with(reason),
            "{text:?} begins otherwise than {reason:?}"
        );
    }
}

#[tokio::test]
async fn other_paths_methods_and_huge_bodies_are_refused() {
    let webhook = a_webhook(&[], &FakeApi::new());
    let get = HttpRequest::get("/mutate").body(Body::empty()).unwrap();
    let answer = router(webhook.clone()).oneshot(get).await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        send(&webhook, "/", Body::empty()).await.0,
        StatusCode::NOT_FOUND
    );
    for path in ["/mutate", "/validate"] {
        let (status, text) = send(&webhook, path, vec![b' '; BODY_LIMIT + 1]).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text.contains("at most 8388608 are taken"), "{text}");
    }
}
