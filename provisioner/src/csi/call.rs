//! What surrounds each call: a span, metrics, a log line for failures, and a task of its own, so that a caller that hangs up
//! does not stop work half way.

use std::{future::Future, sync::Arc};

use hawser_runtime::metrics::Requests;
use tonic::{Code, Response, Status};
use tracing::Instrument;

use super::refusal::Refusal;
use crate::state::State;

/// Runs `work` to its end even if the caller goes away; refuses it if this process does not serve.
pub(super) async fn run<T, F>(
    state: &Arc<State>,
    requests: &Requests,
    operation: &'static str,
    volume: &str,
    work: impl FnOnce(Arc<State>) -> F,
) -> Result<Response<T>, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    let timer = requests.start(operation);
    let span = tracing::info_span!("csi", operation, volume);
    let result = if state.is_serving() {
        let task = tokio::spawn(work(state.clone()).instrument(span.clone()));
        task.await.unwrap_or_else(|error| {
            Err(Refusal::new(
                Code::Internal,
                format!("{operation} ended unexpectedly: {error}"),
            ))
        })
    } else {
        Err(Refusal::unavailable(
            "this provisioner does not lead, or has not read the cluster's state yet; try again",
        ))
    };
    timer.finish(
        result
            .as_ref()
            .map_or_else(|refusal| word(refusal.code), |_| "ok"),
    );
    if let Err(refusal) = &result {
        span.in_scope(|| log(refusal));
    }
    result.map(Response::new).map_err(Status::from)
}

/// The caller gets the whole message; values of parameters stay between it and us.
fn log(refusal: &Refusal) {
    let code = word(refusal.code);
    match refusal.code {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            tracing::error!(code, error = refusal.logged(), "call failed");
        }
        Code::Unavailable | Code::DeadlineExceeded => {
            tracing::warn!(code, error = refusal.logged(), "call not done");
        }
        Code::Aborted => tracing::debug!(code, error = refusal.logged(), "call not done"),
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => tracing::info!(code, error = refusal.logged(), "call refused"),
    }
}

/// The code as a metric label.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument => "invalid",
        Code::DeadlineExceeded => "timeout",
        Code::NotFound => "not-found",
        Code::AlreadyExists => "already-exists",
        Code::PermissionDenied | Code::Unauthenticated => "denied",
        Code::ResourceExhausted => "no-room",
        Code::FailedPrecondition => "precondition",
        Code::Aborted => "conflict",
        Code::OutOfRange => "out-of-range",
        Code::Unimplemented => "unsupported",
        Code::Unavailable => "unavailable",
        Code::Internal | Code::Unknown | Code::DataLoss => "internal",
    }
}
