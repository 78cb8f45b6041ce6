//! HTTP: parses requests, maps errors to status codes, measures. The router is a value, so tests call it in process.

mod explain;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use hawser_api::extender::{ExtenderArgs, ExtenderPreemptionArgs};
use hawser_placement::Strategy;
use hawser_runtime::error::Category;
use hawser_runtime::health::Health;
use hawser_runtime::metrics::{Metrics, Requests};
use tokio::sync::Semaphore;
use tower_http::timeout::TimeoutLayer;

use crate::decide::{self, Filtered};
use crate::pods::{PodFacts, PodName};
use crate::record::Records;
use crate::watch::{SYNCED, Shared};
use crate::why::Sources;

/// 5,000 names take 300 KB and a Pod at most 1.5 MB; whole nodes (15 KB each) are for clusters of some hundreds.
const BODY_LIMIT: usize = 8 << 20;

/// For a request to arrive completely; kube-scheduler itself has given up by then.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct App {
    sources: Sources,
    /// Held by who is told why, one at a time.
    explaining: Arc<Semaphore>,
    health: Health,
    requests: Requests,
}

impl App {
    pub(crate) fn new(
        inventory: Shared,
        strategy: Strategy,
        health: &Health,
        metrics: &Metrics,
    ) -> Self {
        let requests = Requests::register(metrics, "extender", "calls of kube-scheduler");
        let sources = Sources {
            inventory,
            strategy,
            records: Records::default(),
            pods: Arc::default(),
        };
        Self {
            sources,
            explaining: Arc::new(Semaphore::new(1)),
            health: health.clone(),
            requests,
        }
    }

    /// These pods are known, too, when somebody asks why.
    pub(crate) fn with_pods(mut self, pods: HashMap<PodName, PodFacts>) -> Self {
        self.sources.pods = Arc::new(pods);
        self
    }

    /// Why no decision can be made: a kind of object has never been listed. Old knowledge is another matter: a decision on
    /// it is checked again when the volume is made.
    fn missing(&self) -> Option<String> {
        let missing = self
            .health
            .not_ready()
            .into_iter()
            .find(|check| check.name.starts_with(SYNCED))?;
        let why = missing.problem.unwrap_or_default();
        Some(format!(
            "storage scheduler is starting: {}: {why}",
            missing.name
        ))
    }
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/filter", post(filter))
        .route("/prioritize", post(prioritize))
        .route("/preempt", post(preempt))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .merge(explain::routes())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            TIMEOUT,
        ))
        .with_state(Arc::new(app))
}

type Body<T> = Result<Json<T>, JsonRejection>;

async fn filter(State(app): State<Arc<App>>, body: Body<ExtenderArgs>) -> Response {
    answer(&app, "filter", body, |args| {
        // Said in the answer, not by a status code, so that it reaches the pod's event.
        let Filtered {
            result,
            pod,
            outcome,
        } = match app.missing() {
            Some(error) => Filtered::failed(args.pod, error, None),
            None => decide::filter(&app.sources.inventory.read(), app.sources.strategy, args),
        };
        if !result.error.is_empty() {
            tracing::info!(error = %result.error, "no decision");
        }
        let response = Json(result).into_response();
        app.sources.records.filtered(pod, outcome);
        response
    })
}

async fn prioritize(State(app): State<Arc<App>>, body: Body<ExtenderArgs>) -> Response {
    answer(&app, "prioritize", body, |args| {
        let list = decide::prioritize(&app.sources.inventory.read(), app.sources.strategy, &args);
        let response = Json(&list).into_response();
        app.sources.records.prioritized(args.pod.as_ref(), list);
        response
    })
}

async fn preempt(State(app): State<Arc<App>>, body: Body<ExtenderPreemptionArgs>) -> Response {
    answer(&app, "preempt", body, |args| {
        Json(decide::preempt(
            &app.sources.inventory.read(),
            app.sources.strategy,
            args,
        ))
        .into_response()
    })
}

fn answer<T>(
    app: &App,
    operation: &'static str,
    body: Body<T>,
    decide: impl FnOnce(T) -> Response,
) -> Response {
    let timer = app.requests.start(operation);
    match body {
        Ok(Json(args)) => {
            let response = decide(args);
            timer.finish("ok");
            response
        }
        Err(rejection) => {
            tracing::warn!(operation, error = %rejection.body_text(), "request is not understood");
            timer.finish(Category::Invalid.as_str());
            (rejection.status(), rejection.body_text()).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
