//! `GET /why` and `POST /simulate`: for people and their tools, on the address that kube-scheduler uses. One at a time and beside
//! the runtime's own threads, so that the scheduler does not wait for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use crate::pods::PodName;
use crate::problem::Problem;
use crate::simulate::{self, Options, manifest};
use crate::why::{self, Sources};

/// A manifest is some kilobytes; the API server takes objects up to 1.5 MiB, which placing does not depend on.
pub(super) const MANIFEST_LIMIT: usize = 1 << 20;

/// After that a simulation is ended, and tells how far it came.
const SIMULATE_FOR: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/why", get(why)).route(
        "/simulate",
        post(simulate).layer(DefaultBodyLimit::max(MANIFEST_LIMIT)),
    )
}

/// One's turn. Taken before the body is read, so that those who wait cost no memory.
struct Turn(OwnedSemaphorePermit);

impl FromRequestParts<Arc<App>> for Turn {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, app: &Arc<App>) -> Result<Self, StatusCode> {
        let turn = app.explaining.clone().acquire_owned().await;
        // The semaphore is never closed.
        turn.map(Self).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// How the answer is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Text,
}

/// The address's parameters, in their order.
type Parameters = Query<Vec<(String, String)>>;

async fn why(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
    turn: Turn,
) -> Response {
    let timer = app.requests.start("why");
    let (format, asked) = understand(&headers, parameters, &["pod", "format"]);
    let answer = match asked.and_then(|asked| pod_of(&asked)) {
        Err(problem) => Err(problem),
        Ok(pod) => {
            let (sources, starting): (Sources, _) = (app.sources.clone(), app.missing());
            apart(turn, move || why::why(&sources, &pod, starting)).await
        }
    };
    timer.finish(answer.as_ref().map_or_else(Problem::outcome, |_| "ok"));
    show(format, answer)
}

async fn simulate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
    turn: Turn,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let timer = app.requests.start("simulate");
    let (format, asked) = understand(&headers, parameters, &["namespace", "replicas", "format"]);
    let answer = match asked.and_then(|asked| Ok((options_of(&asked)?, asked))) {
        Err(problem) => Err(problem),
        Ok(((namespace, options), _)) => match (app.missing(), body) {
            (Some(why), _) => Err(Problem::Starting { why }),
            (None, Err(rejection)) => Err(not_read(&rejection)),
            (None, Ok(body)) => {
                let Sources {
                    inventory,
                    strategy,
                    ..
                } = app.sources.clone();
                apart(turn, move || {
                    let until = Instant::now() + SIMULATE_FOR;
                    let manifest = manifest::parse(&body, &namespace)?;
                    let go_on = || Instant::now() < until;
                    simulate::simulate(&inventory, strategy, manifest, &options, &go_on)
                })
                .await
            }
        },
    };
    timer.finish(answer.as_ref().map_or_else(Problem::outcome, |_| "ok"));
    show(format, answer)
}

/// Works where waiting for it holds up nobody else. The turn ends with the work, even if who asked has gone away.
async fn apart<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(move || {
        let answer = work();
        drop(turn.0);
        answer
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an explanation failed");
        let why = "this question could not be answered because of a fault in the extender; its log says more".to_owned();
        Err(Problem::Broken { why })
    })
}

fn not_read(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::TooLarge {
            limit: MANIFEST_LIMIT,
        };
    }
    Problem::Syntax {
        why: rejection.body_text(),
    }
}

/// The format, which is needed for the refusal, too, and the parameters if only known ones are there, each once.
fn understand(
    headers: &HeaderMap,
    parameters: Result<Parameters, axum::extract::rejection::QueryRejection>,
    known: &[&str],
) -> (Format, Result<Vec<(String, String)>, Problem>) {
    let mut format = accepted(headers);
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => {
            let why = rejection.body_text();
            return (format, Err(Problem::Syntax { why }));
        }
    };
    for (i, (name, value)) in parameters.iter().enumerate() {
        let wrong = |expected: String| Err(Problem::parameter(name, value.clone(), expected));
        if !known.contains(&name.as_str()) {
            let expected = format!("there is no such parameter, there are {}", known.join(", "));
            return (format, wrong(expected));
        }
        if parameters[..i].iter().any(|(earlier, _)| earlier == name) {
            return (format, wrong("it must be given once".to_owned()));
        }
        format = match (name.as_str(), value.as_str()) {
            ("format", "json") => Format::Json,
            ("format", "text") => Format::Text,
            ("format", _) => return (format, wrong("it must be json or text".to_owned())),
            _ => format,
        };
    }
    (format, Ok(parameters))
}

/// JSON, unless plain text is asked for first.
fn accepted(headers: &HeaderMap) -> Format {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let mut kinds = accepted.unwrap_or_default().split(',').map(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    });
    let known = kinds.find(|kind| kind == "text/plain" || kind == "application/json");
    match known.as_deref() {
        Some("text/plain") => Format::Text,
        _ => Format::Json,
    }
}

fn find<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = parameters.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

fn pod_of(parameters: &[(String, String)]) -> Result<PodName, Problem> {
    let expected = "ask with pod=NAMESPACE/NAME, such as /why?pod=default/db-0";
    let value = find(parameters, "pod");
    let wrong = || Problem::parameter("pod", value.map(str::to_owned), expected);
    let (namespace, name) = value
        .and_then(|value| value.split_once('/'))
        .ok_or_else(wrong)?;
    if !manifest::is_name(namespace) || !manifest::is_name(name) {
        return Err(wrong());
    }
    Ok(PodName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn options_of(parameters: &[(String, String)]) -> Result<(String, Options), Problem> {
    let namespace = find(parameters, "namespace").unwrap_or("default");
    if !manifest::is_name(namespace) {
        let expected = "a name has 1 to 253 lower case letters, digits, - and .";
        return Err(Problem::parameter(
            "namespace",
            namespace.to_owned(),
            expected,
        ));
    }
    let replicas = find(parameters, "replicas");
    let number = replicas.map(|value| {
        let number = value
            .parse()
            .ok()
            .filter(|n| (0..=simulate::REPLICAS).contains(n));
        let expected = format!("it must be a number from 0 to {}", simulate::REPLICAS);
        number.ok_or_else(|| Problem::parameter("replicas", value.to_owned(), expected))
    });
    let options = Options {
        replicas: number.transpose()?,
    };
    Ok((namespace.to_owned(), options))
}

fn show<T: Serialize + ToString>(format: Format, answer: Result<T, Problem>) -> Response {
    let text = |text: String| ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text);
    match (answer, format) {
        (Ok(answer), Format::Json) => Json(answer).into_response(),
        (Ok(answer), Format::Text) => text(answer.to_string()).into_response(),
        (Err(problem), Format::Json) => (problem.status(), Json(problem.body())).into_response(),
        (Err(problem), Format::Text) => {
            (problem.status(), text(format!("{problem}\n"))).into_response()
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
