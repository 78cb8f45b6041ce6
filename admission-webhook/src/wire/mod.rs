//! The webhook on the wire: an `AdmissionReview` v1 in, one out. What is answered is decided elsewhere.

mod body;
mod review;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hawser_api::names;
use hawser_runtime::metrics::Requests;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::claims::{self, Around};
use crate::classes;
use crate::facts::{Labels, labels_of};
use crate::gather::{Gatherer, Round};
use crate::objects;
use crate::pods::{self, PodView};
use crate::policy::{Book, Judgement, Occasion};
pub use body::{BODY_LIMIT, BODY_TIMEOUT, Reader};
pub(crate) use review::{Answer, BadReview, Because, Operation, Request};

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) gatherer: Gatherer,
    pub(crate) book: Book,
    pub(crate) requests: Requests,
    pub(crate) reader: Reader,
}

/// The routes as a value.
pub(crate) fn router(webhook: Webhook) -> Router {
    Router::new()
        .route(names::scheduling::WEBHOOK_PATH, post(mutate))
        .route(names::scheduling::VALIDATE_PATH, post(validate))
        .with_state(webhook)
}

async fn mutate(State(webhook): State<Webhook>, body: Body) -> Response {
    serve(&webhook, body, Path::Mutate).await
}

async fn validate(State(webhook): State<Webhook>, body: Body) -> Response {
    serve(&webhook, body, Path::Validate).await
}

#[derive(Clone, Copy)]
enum Path {
    Mutate,
    Validate,
}

async fn serve(webhook: &Webhook, body: Body, path: Path) -> Response {
    let operation = match path {
        Path::Mutate => "mutate",
        Path::Validate => "validate",
    };
    let held = match webhook.reader.read(body).await {
        Ok(held) => held,
        Err(error) => {
            tracing::warn!(%error, "body refused");
            webhook.requests.start(operation).finish("invalid");
            return error.into_response();
        }
    };
    // Timed from here on: how long a body takes to come is its sender's.
    let timer = webhook.requests.start(operation);
    match answer(webhook, &held.bytes, path).await {
        Ok((body, outcome)) => {
            timer.finish(outcome);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "review refused");
            timer.finish("invalid");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}

async fn answer(
    webhook: &Webhook,
    body: &[u8],
    path: Path,
) -> Result<(Vec<u8>, &'static str), BadReview> {
    let request = Request::parse(body)?;
    let round = webhook.gatherer.round();
    let answer = match path {
        Path::Mutate => change(webhook, &round, &request).await?,
        Path::Validate => allow(webhook, &round, &request).await?,
    };
    let outcome = if answer.refusals.is_empty() {
        "ok"
    } else {
        "denied"
    };
    tracing::debug!(
        target = ?request.target(),
        object = %format!("{}/{}", request.namespace(), request.name()),
        operation = request.operation.as_str(),
        changes = answer.patch.len(),
        warnings = answer.warnings.len(),
        refusals = answer.refusals.len(),
        "decided"
    );
    Ok((answer.body(&request.uid)?, outcome))
}

/// What new objects get. Everything else passes as it is.
async fn change(
    webhook: &Webhook,
    round: &Round<'_>,
    request: &Request<'_>,
) -> Result<Answer, BadReview> {
    let mut answer = Answer::default();
    if request.operation != Operation::Create {
        return Ok(answer);
    }
    let namespace = request.namespace();
    match request.target() {
        ("", "pods", "") => {
            let pod: PodView = request.object("pod")?;
            let decision = pods::decide(&pod, &round.pod(namespace, &pod).await);
            answer.patch = pods::patch(&pod, &decision);
            answer.warnings = decision.warnings;
        }
        ("", "persistentvolumeclaims", "") => {
            let claim: PersistentVolumeClaim = request.object("claim")?;
            let policies = &webhook.gatherer.lookups.policies;
            answer.patch = claims::mutate(round, policies, namespace, &claim).await;
        }
        _ => {}
    }
    Ok(answer)
}

/// Whether it may be, and what is to be said of it.
async fn allow(
    webhook: &Webhook,
    round: &Round<'_>,
    request: &Request<'_>,
) -> Result<Answer, BadReview> {
    let mut answer = Answer::default();
    let policies = &webhook.gatherer.lookups.policies;
    let (kind, judgement) = match request.target() {
        ("", "pods", "") if request.operation == Operation::Create => {
            let pod: PodView = request.object("pod")?;
            ("Pod", judge_pod(webhook, round, request, &pod).await)
        }
        ("", "persistentvolumeclaims", "") => {
            let judgement = judge_claim(webhook, round, request).await?;
            ("PersistentVolumeClaim", judgement)
        }
        ("storage.k8s.io", "storageclasses", "") => {
            if request.operation == Operation::Create {
                let class: StorageClass = request.object("storage class")?;
                classes::check(&class, &mut answer);
            }
            ("StorageClass", Judgement::default())
        }
        (names::GROUP, _, _) => {
            let judgement = objects::review(round, policies, request, &mut answer).await?;
            ("object", judgement)
        }
        _ => ("", Judgement::default()),
    };
    judgement.tell(&mut answer);
    if !request.is_dry_run() {
        let occasion = || occasion(kind, request);
        let now = Time(Timestamp::now());
        webhook.book.enter(&judgement, occasion, &now);
    }
    Ok(answer)
}

fn occasion(kind: &str, request: &Request<'_>) -> Occasion {
    let (_, plural, _) = request.target();
    let kind = if kind == "object" { plural } else { kind };
    let name = match request.name() {
        "" => "(to be named)",
        name => name,
    };
    let object = match request.namespace() {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    };
    Occasion {
        object,
        operation: request.operation.as_str(),
        user: request.user().to_owned(),
    }
}

async fn judge_claim(
    webhook: &Webhook,
    round: &Round<'_>,
    request: &Request<'_>,
) -> Result<Judgement, BadReview> {
    let policies = &webhook.gatherer.lookups.policies;
    let namespace = request.namespace();
    if policies.all().is_empty() {
        return Ok(Judgement::default());
    }
    let kind = "claim";
    match request.operation {
        Operation::Create => {
            let claim: PersistentVolumeClaim = request.object(kind)?;
            let Some(spec) = &claim.spec else {
                return Ok(Judgement::default());
            };
            let space = round.space(namespace).await;
            let labels = labels_of(&claim.metadata);
            let around = Around {
                namespace,
                space: &space,
                labels: &labels,
            };
            let claim = (&claim.metadata, spec);
            Ok(claims::judge_new(round, policies, &around, claim, "").await)
        }
        Operation::Update => {
            let (old, new) = (request.old_object(kind)?, request.object(kind)?);
            Ok(claims::judge_change(round, policies, namespace, &old, &new).await)
        }
        Operation::Delete | Operation::Connect => Ok(Judgement::default()),
    }
}

/// Policies on a pod: its ephemeral volumes are claims to be, and where one ties pods to their data, it must be tied by now.
async fn judge_pod(
    webhook: &Webhook,
    round: &Round<'_>,
    request: &Request<'_>,
    pod: &PodView,
) -> Judgement {
    let policies = &webhook.gatherer.lookups.policies;
    let all = policies.all();
    let mut judgement = Judgement::default();
    if all.is_empty() {
        return judgement;
    }
    let namespace = request.namespace();
    let space = round.space(namespace).await;
    if space.ignored {
        return judgement;
    }
    for (volume, template) in pod.templates() {
        let meta = template.metadata.clone().unwrap_or_default();
        let labels: Labels = labels_of(&meta);
        let around = Around {
            namespace,
            space: &space,
            labels: &labels,
        };
        let claim = (&meta, &template.spec);
        let what = format!("ephemeral volume {volume:?}: ");
        judgement.join(claims::judge_new(round, policies, &around, claim, &what).await);
    }
    let known = round.pod(namespace, pod).await;
    judgement.join(pods::judge_locality(pod, &known));
    judgement
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
