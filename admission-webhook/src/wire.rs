//! The webhook on the wire: an `AdmissionReview` v1 in, one out. What a pod gets is decided elsewhere.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hawser_api::names;
use hawser_runtime::metrics::Requests;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use kube::core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, Operation, SerializePatchError,
};
use serde_json::Value;
use thiserror::Error;

use crate::decide::decide;
use crate::lookups::Gatherer;
use crate::patch::patch;

/// An API server takes 3 MiB for one request; a review wraps it and may hold the old object too.
const BODY_LIMIT: usize = 8 << 20;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) gatherer: Gatherer,
    pub(crate) requests: Requests,
}

/// The routes as a value.
pub(crate) fn router(webhook: Webhook) -> Router {
    Router::new()
        .route(names::scheduling::WEBHOOK_PATH, post(mutate))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(webhook)
}

/// A body that is no review. Answered with status 400.
#[derive(Debug, Error)]
enum BadReview {
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[source] serde_json::Error),
    #[error(
        "the body is {api_version:?} {kind:?}: it must be \"admission.k8s.io/v1\" \"AdmissionReview\""
    )]
    Version { api_version: String, kind: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
    #[error("the AdmissionReview's request has no object")]
    NoObject,
    #[error("the AdmissionReview's object is no pod: {0}")]
    NoPod(#[source] serde_json::Error),
    #[error("the patch can't be written: {0}")]
    Patch(#[source] SerializePatchError),
}

async fn mutate(State(webhook): State<Webhook>, body: Bytes) -> Response {
    let timer = webhook.requests.start("mutate");
    match review(&webhook.gatherer, &body).await {
        Ok(response) => {
            timer.finish("ok");
            axum::Json(response.into_review()).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "review refused");
            timer.finish("invalid");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}

async fn review(gatherer: &Gatherer, body: &[u8]) -> Result<AdmissionResponse, BadReview> {
    let request = parse(body)?;
    let response = AdmissionResponse::from(&request);
    if !is_pod_creation(&request) {
        return Ok(response);
    }
    let namespace = request.namespace.clone().unwrap_or_default();
    let raw = request.object.ok_or(BadReview::NoObject)?;
    let raw: Value = serde_json::to_value(raw).map_err(BadReview::NoPod)?;
    let pod: Pod = serde_json::from_value(raw.clone()).map_err(BadReview::NoPod)?;

    let decision = decide(&pod, &gatherer.gather(&namespace, &pod).await);
    let patch = patch(&raw, &decision);
    let changes = patch.0.len();
    let name = pod
        .metadata
        .name
        .as_deref()
        .or(pod.metadata.generate_name.as_deref())
        .unwrap_or_default();
    tracing::debug!(pod = %format!("{namespace}/{name}"), changes, warnings = decision.warnings.len(), "decided");

    let mut response = response;
    if changes > 0 {
        response = response.with_patch(patch).map_err(BadReview::Patch)?;
    }
    if !decision.warnings.is_empty() {
        response.warnings = Some(decision.warnings);
    }
    Ok(response)
}

fn parse(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, BadReview> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(BadReview::Json)?;
    let types = &review.types;
    if types.api_version != "admission.k8s.io/v1" || types.kind != "AdmissionReview" {
        return Err(BadReview::Version {
            api_version: types.api_version.clone(),
            kind: types.kind.clone(),
        });
    }
    review.try_into().map_err(|_| BadReview::NoRequest)
}

/// Anything else is none of our business, and passes as it is.
fn is_pod_creation(request: &AdmissionRequest<DynamicObject>) -> bool {
    let resource = &request.resource;
    (
        resource.group.as_str(),
        resource.version.as_str(),
        resource.resource.as_str(),
    ) == ("", "v1", "pods")
        && request.sub_resource.as_deref().is_none_or(str::is_empty)
        && request.operation == Operation::Create
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use hawser_runtime::metrics::Metrics;
    use http_body_util::BodyExt;
    use serde_json::json;
    use tower::ServiceExt;

    use super::*;
    use crate::lookups::tests::a_cluster;

    fn a_router() -> Router {
        let gatherer = Gatherer::new(a_cluster(), None, names::DEFAULT_NAMESPACE.to_owned());
        router(Webhook {
            gatherer,
            requests: Requests::register(&Metrics::new("test"), "webhook", "reviews"),
        })
    }

    async fn post(body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::post("/mutate")
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap();
        let response = a_router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn a_review(namespace: &str, object: &Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
                "requestResource": { "group": "", "version": "v1", "resource": "pods" },
                "name": "db-0",
                "namespace": namespace,
                "operation": "CREATE",
                "userInfo": { "username": "system:serviceaccount:kube-system:statefulset-controller" },
                "object": object,
                "oldObject": null,
                "dryRun": false,
                "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" }
            }
        })
    }

    /// A pod as the API server sends it: defaulted, with fields that this program never looks at.
    fn a_pod(volumes: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "db-0",
                "namespace": "shop",
                "labels": { "app": "db" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db",
                    "uid": "9be07d13-2f6c-4c1b-95d0-1a7e4f30c2ab", "controller": true, "blockOwnerDeletion": true
                }]
            },
            "spec": {
                "containers": [{ "name": "db", "image": "registry.example/db:1", "resources": {} }],
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "fieldOfTomorrow": { "kept": true },
                "volumes": volumes
            },
            "status": {}
        })
    }

    fn claims(names: &[&str]) -> Value {
        names
            .iter()
            .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }))
            .collect()
    }

    /// What the API server gets back: the patch, as JSON, and the warnings.
    async fn answer(namespace: &str, pod: &Value) -> (Value, Vec<String>) {
        let (status, body) = post(a_review(namespace, pod).to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let review: AdmissionReview<DynamicObject> = serde_json::from_str(&body).unwrap();
        assert_eq!(review.types.api_version, "admission.k8s.io/v1");
        let response = review.response.unwrap();
        assert!(response.allowed);
        assert_eq!(response.uid, "705ab4f5-6393-11e8-b7cc-42010a800002");
        let patch = response
            .patch
            .map_or(Value::Null, |patch| serde_json::from_slice(&patch).unwrap());
        (patch, response.warnings.unwrap_or_default())
    }

    async fn patch_of(pod: &Value) -> Value {
        let (patch, warnings) = answer("shop", pod).await;
        assert!(warnings.is_empty(), "{warnings:?}");
        // A second pass over what came out changes nothing.
        if let Ok(patch) = serde_json::from_value::<json_patch::Patch>(patch.clone()) {
            let mut patched = pod.clone();
            json_patch::patch(&mut patched, &patch).unwrap();
            assert_eq!(
                patched["spec"]["fieldOfTomorrow"],
                pod["spec"]["fieldOfTomorrow"]
            );
            assert_eq!(answer("shop", &patched).await.0, Value::Null);
        }
        patch
    }

    #[tokio::test]
    async fn a_pod_with_a_bound_claim_prefers_its_data() {
        insta::assert_json_snapshot!(patch_of(&a_pod(&claims(&["bound"]))).await);
    }

    #[tokio::test]
    async fn what_the_user_prefers_comes_first() {
        let mut pod = a_pod(&claims(&["bound", "static"]));
        pod["spec"]["schedulerName"] = json!("mine");
        pod["spec"]["affinity"] = json!({
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] }
                ] },
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    { "weight": 7, "preference": { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] } }
                ]
            },
            "podAntiAffinity": {}
        });
        insta::assert_json_snapshot!(patch_of(&pod).await);
    }

    #[tokio::test]
    async fn claims_to_come_bring_our_scheduler() {
        insta::assert_json_snapshot!(
            patch_of(&a_pod(&claims(&["data-db-0", "log-files-db-0"]))).await
        );
        let ephemeral = json!([{ "name": "room", "ephemeral": { "volumeClaimTemplate": {
            "spec": { "storageClassName": "local-ssd", "accessModes": ["ReadWriteOnce"],
                      "resources": { "requests": { "storage": "2Gi" } } }
        } } }]);
        let wanted = json!([{ "op": "replace", "path": "/spec/schedulerName", "value": "hwameistor-scheduler" }]);
        for volumes in [ephemeral, claims(&["fresh"]), claims(&["plain"])] {
            assert_eq!(patch_of(&a_pod(&volumes)).await, wanted, "{volumes}");
        }
    }

    #[tokio::test]
    async fn pods_without_our_volumes_are_left_alone() {
        let other =
            json!([{ "name": "x", "emptyDir": {} }, { "name": "y", "configMap": { "name": "z" } }]);
        for volumes in [
            json!(null),
            other,
            claims(&["files", "none", "never-heard-of"]),
        ] {
            assert_eq!(patch_of(&a_pod(&volumes)).await, Value::Null, "{volumes}");
        }
        for namespace in ["quiet", "kube-system", "hwameistor"] {
            assert_eq!(
                answer(namespace, &a_pod(&claims(&["bound"]))).await.0,
                Value::Null,
                "{namespace}"
            );
        }
    }

    #[tokio::test]
    async fn a_claim_that_will_be_refused_is_a_warning() {
        let (_, warnings) = answer("shop", &a_pod(&claims(&["pair"]))).await;
        let wanted = concat!(
            r#"claim "pair" will get no volume: storage class "local-pair": parameter "replicaNumber" is "2", "#,
            "which this version does not serve: use 1"
        );
        assert_eq!(warnings, [wanted]);
    }

    #[tokio::test]
    async fn what_is_no_creation_of_a_pod_passes_as_it_is() {
        let pod = a_pod(&claims(&["bound"]));
        for (pointer, value) in [
            ("/request/operation", json!("UPDATE")),
            ("/request/subResource", json!("eviction")),
            (
                "/request/resource",
                json!({ "group": "apps", "version": "v1", "resource": "pods" }),
            ),
            (
                "/request/resource",
                json!({ "group": "", "version": "v1", "resource": "configmaps" }),
            ),
        ] {
            let mut review = a_review("shop", &pod);
            match review.pointer_mut(pointer) {
                Some(present) => *present = value,
                None => review["request"]["subResource"] = value,
            }
            let (status, body) = post(review.to_string()).await;
            assert_eq!(status, StatusCode::OK);
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&body["response"]["allowed"], &body["response"]["patch"]),
                (&json!(true), &Value::Null),
                "{pointer}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_review_is_refused_with_the_reason() {
        let changed = |change: fn(&mut Value)| {
            let mut review = a_review("shop", &a_pod(&claims(&["bound"])));
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
            let (status, text) = post(body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{reason}");
            assert!(
                text.starts_with(reason),
                "{text:?} begins otherwise than {reason:?}"
            );
        }
    }

    #[tokio::test]
    async fn other_paths_methods_and_huge_bodies_are_refused() {
        let send = |request: Request<Body>| a_router().oneshot(request);
        let get = send(Request::get("/mutate").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
        let other = send(Request::post("/").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(other.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            post(vec![b' '; BODY_LIMIT + 1]).await.0,
            StatusCode::PAYLOAD_TOO_LARGE
        );
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            proptest::prop_assert!(parse(&body).is_err());
        }
    }
}
