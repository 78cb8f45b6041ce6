//! HTTP: parses requests, maps errors to status codes, measures. The router is a value, so tests call it in process.

mod answer;
mod asked;
mod body;
mod explain;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use hawser_api::extender::ExtenderPreemptionArgs;
use hawser_placement::Strategy;
use hawser_runtime::error::Category;
use hawser_runtime::health::Health;
use hawser_runtime::metrics::{Metrics, Requests};
use tokio::time::Instant;
use tower_http::timeout::TimeoutLayer;

use crate::decide::{self, Asks, Filtered, Nodes};
use crate::freshness::Staleness;
use crate::pods::{PodFacts, PodName};
use crate::record::{Outcome, Records};
use crate::watch::{SYNCED, Shared};
use crate::why::Sources;
use asked::{Asked, Candidates, Text};

/// For a request to arrive completely; kube-scheduler itself has given up by then.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the handlers need.
#[derive(Clone)]
pub struct App {
    sources: Sources,
    health: Health,
    requests: Requests,
    staleness: Staleness,
    bodies: body::Budget,
    explaining: explain::Bounds,
}

impl App {
    #[must_use]
    pub fn new(inventory: Shared, strategy: Strategy, health: &Health, metrics: &Metrics) -> Self {
        let requests = Requests::register(metrics, "extender", "calls of kube-scheduler");
        let sources = Sources {
            inventory,
            strategy,
            recent: Arc::default(),
            records: Records::default(),
            pods: Arc::default(),
        };
        Self {
            sources,
            health: health.clone(),
            requests,
            staleness: Staleness::default(),
            bodies: body::Budget::default(),
            explaining: explain::Bounds::default(),
        }
    }

    /// These pods are known, too, when somebody asks why.
    #[must_use]
    pub fn with_pods(mut self, pods: HashMap<PodName, PodFacts>) -> Self {
        self.sources.pods = Arc::new(pods);
        self
    }

    /// Refuses to decide while this says that what is known is too old.
    #[must_use]
    pub fn with_staleness(self, staleness: Staleness) -> Self {
        Self { staleness, ..self }
    }

    /// Why no decision can be made: a kind of object has never been listed, or was last heard of too long ago. Knowledge that is a
    /// little old is another matter: a decision on it is checked again when the volume is made.
    fn cannot_decide(&self) -> Option<String> {
        let checks = self.health.not_ready().into_iter();
        let missing = checks
            .into_iter()
            .find(|check| check.name.starts_with(SYNCED));
        if let Some(missing) = missing {
            let why = missing.problem.unwrap_or_default();
            return Some(format!(
                "storage scheduler is starting: {}: {why}",
                missing.name
            ));
        }
        self.staleness.too_old()
    }
}

/// The routes that kube-scheduler calls, and those for people.
pub fn router(app: App) -> Router {
    router_within(app, TIMEOUT)
}

/// As [`router`], for requests that arrive completely, and are answered, within `timeout`.
pub fn router_within(app: App, timeout: Duration) -> Router {
    Router::new()
        .route("/filter", post(filter))
        .route("/prioritize", post(prioritize))
        .route("/preempt", post(preempt))
        .merge(explain::routes())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            timeout,
        ))
        .with_state(Arc::new(app))
}

async fn filter(State(app): State<Arc<App>>, body: Body) -> Response {
    respond(&app, "filter", body, |body| {
        let mut asked = Asked::parse(body)?;
        let (answer, asks, filtered) = match asked.take_candidates() {
            Candidates::Names(names) => {
                let (asks, filtered) = filtered(&app, &asked, &names);
                (answer::filtered(&filtered, &names), asks, filtered)
            }
            Candidates::Nodes(nodes) => {
                let (asks, filtered) = filtered(&app, &asked, &Candidates::of_nodes(&nodes));
                let answer = answer::filtered_nodes(&filtered, nodes);
                (answer, asks, filtered)
            }
        };
        let outcome = Outcome::of(asks, filtered);
        app.sources.records.filtered(asked.pod, outcome);
        Ok(answer)
    })
    .await
}

fn filtered(app: &App, asked: &Asked<'_>, names: &[Text<'_>]) -> (Asks, Filtered) {
    let sources = &app.sources;
    let (asks, filtered) = if let Some(error) = app.cannot_decide() {
        // Said in the answer, not by a status code, so that it reaches the pod's event.
        (Asks::not_yet(error.clone()), Filtered::failed(error))
    } else {
        let inventory = sources.inventory.read();
        let asks = Asks::of(&inventory, sources.strategy, asked.pod.as_ref());
        let filtered = decide::filter(&inventory, &asks, names);
        // Where one node is left, the scheduler takes it without asking for points.
        if let (Some(only), Some(request)) = (filtered.only_one(), asks.request()) {
            let only = [names[only].as_ref()];
            let mut recent = sources.recent.lock();
            recent.note(Instant::now().into_std(), uid(asked), request, only);
        }
        (asks, filtered)
    };
    if !filtered.error.is_empty() {
        tracing::info!(error = %filtered.error, "no decision");
    }
    (asks, filtered)
}

async fn prioritize(State(app): State<Arc<App>>, body: Body) -> Response {
    respond(&app, "prioritize", body, |body| {
        let mut asked = Asked::parse(body)?;
        let candidates = asked.take_candidates();
        let names = match &candidates {
            Candidates::Names(names) => names,
            Candidates::Nodes(nodes) => &Candidates::of_nodes(nodes),
        };
        let Some((nodes, points)) = points(&app, &asked, names) else {
            return Ok(answer::prioritized(names, &vec![0; names.len()]));
        };
        let answer = answer::prioritized(names, &points);
        let records = &app.sources.records;
        records.prioritized(asked.pod.as_ref(), nodes, points);
        Ok(answer)
    })
    .await
}

/// `None`: all nodes are equal, or nothing can be said.
fn points(app: &App, asked: &Asked<'_>, names: &[Text<'_>]) -> Option<(Nodes, Vec<u8>)> {
    if app.cannot_decide().is_some() {
        return None;
    }
    let (now, pod, sources) = (Instant::now().into_std(), uid(asked), &app.sources);
    let inventory = sources.inventory.read();
    let asks = Asks::of(&inventory, sources.strategy, asked.pod.as_ref());
    let request = asks.request()?;
    let nodes = Nodes::find(inventory.cluster(), names);
    let mut holds = inventory.holds(request);
    holds.extend(sources.recent.lock().of_others(now, pod, &inventory));
    let points = decide::prioritize(&inventory, request, &holds, &nodes);
    let most = points.iter().copied().max().unwrap_or(0);
    let best = names
        .iter()
        .zip(&points)
        .filter(|(_, points)| **points == most);
    let best = best.map(|(name, _)| name.as_ref());
    sources.recent.lock().note(now, pod, request, best);
    Some((nodes, points))
}

fn uid<'a>(asked: &'a Asked<'_>) -> &'a str {
    let pod = asked.pod.as_ref();
    pod.and_then(|pod| pod.metadata.uid.as_deref())
        .unwrap_or_default()
}

async fn preempt(State(app): State<Arc<App>>, body: Body) -> Response {
    respond(&app, "preempt", body, |body| {
        let Json(args) = Json::<ExtenderPreemptionArgs>::from_bytes(body)?;
        let inventory = app.sources.inventory.read();
        let asks = match app.cannot_decide() {
            Some(error) => Asks::not_yet(error),
            None => Asks::of(&inventory, app.sources.strategy, args.pod.as_ref()),
        };
        let result = decide::preempt(&inventory, &asks, args);
        Ok(serde_json::to_vec(&result).unwrap_or_default())
    })
    .await
}

/// Takes the body in, has it answered with JSON, maps what goes wrong to a status and a sentence.
async fn respond(
    app: &App,
    operation: &'static str,
    body: Body,
    answer: impl FnOnce(&[u8]) -> Result<Vec<u8>, JsonRejection>,
) -> Response {
    let timer = app.requests.start(operation);
    let answered = match body::collect(body, body::LIMIT, &app.bodies).await {
        Ok(body) => answer(&body.bytes).map_err(|why| (why.status(), why.body_text())),
        Err(refused) => Err((refused.status(), refused.to_string())),
    };
    match answered {
        Ok(json) => {
            timer.finish("ok");
            ([(CONTENT_TYPE, "application/json")], json).into_response()
        }
        Err((status, why)) => {
            tracing::warn!(operation, error = %why, "request is not understood");
            timer.finish(Category::Invalid.as_str());
            (status, why).into_response()
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod preempt_tests;
#[cfg(test)]
mod tests;
