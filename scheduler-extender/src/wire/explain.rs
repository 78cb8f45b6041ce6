//! `GET /why` and `POST /simulate`: for people and their tools, on the address that kube-scheduler uses. One at a time and beside
//! the runtime's own threads, writing the answer included, so that the scheduler does not wait for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{App, body};
use crate::pods::PodName;
use crate::problem::Problem;
use crate::simulate::{self, Options, manifest};
use crate::why;

/// A manifest is some kilobytes; the API server takes objects up to 1.5 MiB, which placing does not depend on.
pub(super) const MANIFEST_LIMIT: usize = 1 << 20;

/// After that a simulation is ended, and tells how far it came.
const SIMULATE_FOR: Duration = Duration::from_secs(5);

/// What those who ask may take together.
#[derive(Clone)]
pub(super) struct Bounds {
    /// Held by who is told why, one at a time.
    turn: Arc<Semaphore>,
    pub(super) simulate_for: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            simulate_for: SIMULATE_FOR,
        }
    }
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/why", get(why))
        .route("/simulate", post(simulate))
}

/// One's turn. Taken before the body is read, so that those who wait cost no memory, and leave room for the scheduler's bodies.
struct Turn(OwnedSemaphorePermit);

impl FromRequestParts<Arc<App>> for Turn {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, app: &Arc<App>) -> Result<Self, StatusCode> {
        let turn = app.explaining.turn.clone().acquire_owned().await;
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
    parameters: Result<Parameters, QueryRejection>,
    turn: Turn,
) -> Response {
    let timer = app.requests.start("why");
    let (format, asked) = understand(&headers, parameters, &["pod", "format"]);
    let answer = match asked.and_then(|asked| pod_of(&asked)) {
        Err(problem) => Err(problem),
        Ok(pod) => {
            let (sources, not_now) = (app.sources.clone(), app.cannot_decide());
            apart(turn, format, move || why::why(&sources, &pod, not_now)).await
        }
    };
    timer.finish(answer.as_ref().map_or_else(Problem::outcome, |_| "ok"));
    show(format, answer)
}

async fn simulate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    parameters: Result<Parameters, QueryRejection>,
    turn: Turn,
    body: Body,
) -> Response {
    let timer = app.requests.start("simulate");
    let (format, asked) = understand(&headers, parameters, &["namespace", "replicas", "format"]);
    let answer = match asked.and_then(|asked| options_of(&asked)) {
        Err(problem) => Err(problem),
        Ok(asked) => simulated(&app, turn, format, asked, body).await,
    };
    timer.finish(answer.as_ref().map_or_else(Problem::outcome, |_| "ok"));
    show(format, answer)
}

async fn simulated(
    app: &App,
    turn: Turn,
    format: Format,
    (namespace, options): (String, Options),
    body: Body,
) -> Result<String, Problem> {
    if let Some(why) = app.cannot_decide() {
        return Err(Problem::NotNow { why });
    }
    let body = body::collect(body, MANIFEST_LIMIT, &app.bodies)
        .await
        .map_err(|refused| not_read(&refused))?;
    let (sources, patience) = (app.sources.clone(), app.explaining.simulate_for);
    apart(turn, format, move || {
        let until = Instant::now() + patience;
        let manifest = manifest::parse(&body.bytes, &namespace)?;
        drop(body);
        let go_on = || Instant::now() < until;
        simulate::simulate(
            &sources.inventory,
            sources.strategy,
            manifest,
            &options,
            &go_on,
        )
    })
    .await
}

/// Works, and writes the answer, where waiting for it holds up nobody else. The turn ends with the work, even if who asked has gone
/// away.
async fn apart<T: Serialize + ToString>(
    turn: Turn,
    format: Format,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<String, Problem> {
    let done = tokio::task::spawn_blocking(move || {
        let answer = work().and_then(|answer| match format {
            Format::Json => serde_json::to_string(&answer).map_err(|error| broken(&error)),
            Format::Text => Ok(answer.to_string()),
        });
        drop(turn.0);
        answer
    });
    done.await.unwrap_or_else(|error| Err(broken(&error)))
}

fn broken(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "an explanation failed");
    let why =
        "this question could not be answered because of a fault in the extender; its log says more";
    Problem::Broken {
        why: why.to_owned(),
    }
}

fn not_read(refused: &body::Refused) -> Problem {
    match refused {
        body::Refused::TooLarge => Problem::TooLarge {
            limit: MANIFEST_LIMIT,
        },
        body::Refused::Busy => Problem::NotNow {
            why: refused.to_string(),
        },
        body::Refused::Broken(_) => Problem::Syntax {
            why: refused.to_string(),
        },
    }
}

/// The format, which is needed for the refusal, too, and the parameters if only known ones are there, each once.
fn understand(
    headers: &HeaderMap,
    parameters: Result<Parameters, QueryRejection>,
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

fn show(format: Format, answer: Result<String, Problem>) -> Response {
    let kind = match format {
        Format::Json => "application/json",
        Format::Text => "text/plain; charset=utf-8",
    };
    let (status, text) = match (answer, format) {
        (Ok(text), _) => (StatusCode::OK, text),
        (Err(problem), Format::Json) => {
            let text = serde_json::to_string(&problem.body());
            (problem.status(), text.unwrap_or_default())
        }
        (Err(problem), Format::Text) => (problem.status(), format!("{problem}\n")),
    };
    (status, [(CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
