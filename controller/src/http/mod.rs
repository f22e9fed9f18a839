//! What the controller serves: reports in; probes, metrics, the state and the page out.

mod events;
mod exposition;
mod page;
mod reports;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use gma_core::ids::Timestamp;
use gma_telemetry::Accounting;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::shared::Shared;

pub use serve::serve;

/// A slow client holds a handler no longer than this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A controller that has not seen its platform for this long is not ready.
const READY_AGE: Duration = Duration::from_secs(10);

/// What `/api/v1/state` answers; an event is the same without the accounting.
#[derive(Serialize)]
struct StateBody<'a> {
    now: Timestamp,
    round: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounting: Option<Accounting>,
}

/// Which object is asked for, where the controller looks after several.
#[derive(Debug, Deserialize)]
struct Which {
    /// `namespace/name`; absent: the oldest.
    object: Option<String>,
}

/// What `/api/v1/objects` answers.
#[derive(Serialize)]
struct ObjectsBody {
    /// `namespace/name` of each, the oldest first.
    objects: Vec<String>,
}

/// Every route, with limits on bodies and time.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/reports", post(reports::take))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/state", get(state))
        .route("/api/v1/objects", get(objects))
        // Its answer begins at once, and the time limit below is that of an answer's begin.
        .route("/api/v1/events", get(events::follow))
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .layer(DefaultBodyLimit::max(gma_telemetry::MAX_REPORT_BYTES))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(shared)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.seen().is_some_and(|age| age < READY_AGE) {
        "ready\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the platform was not seen in the last 10 s\n",
        )
            .into_response()
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match exposition::encode(&shared) {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")).into_response(),
    }
}

/// The last round, with the totals for accounting as they are now.
async fn state(State(shared): State<Arc<Shared>>, Query(which): Query<Which>) -> Response {
    let Some(shared) = shared.of(which.object.as_deref()) else {
        return unknown(&shared);
    };
    let accounting = shared.telemetry().accounting();
    let round = shared.round();
    let state = StateBody {
        now: shared.now(),
        round: round.as_deref().map(|round| &*round.view),
        accounting: Some(accounting),
    };
    Json(state).into_response()
}

async fn objects(State(shared): State<Arc<Shared>>) -> Response {
    let objects = shared.objects().into_iter().map(|(path, _)| path).collect();
    Json(ObjectsBody { objects }).into_response()
}

fn unknown(shared: &Shared) -> Response {
    let paths: Vec<String> = shared.objects().into_iter().map(|(path, _)| path).collect();
    let text = format!(
        "no such object is looked after; those that are: [{}]; give one as ?object=NAMESPACE/NAME, or none for the oldest\n",
        paths.join(", ")
    );
    (StatusCode::NOT_FOUND, text).into_response()
}
