//! Intake of reports.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use gma_core::ids::Timestamp;
use gma_telemetry::{Busy, Event, Ingested, node_of};
use tracing::{trace, warn};

use crate::shared::Shared;

/// Takes one report. What could be told from noise is answered with an ack, the rest with 400 and the reason.
pub(super) async fn take(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    let received = shared.now();
    let body = match body {
        Ok(body) => body,
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            shared.telemetry().refuse_too_large();
            let limit = gma_telemetry::MAX_REPORT_BYTES;
            warn!(limit, "report refused: it is too large");
            let text =
                format!("the report is larger than {limit} bytes; no filter of this project sends one\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
        Err(error) => return error.into_response(),
    };
    let taken = ingest(&shared, &body, received);
    let mut problem = None;
    match &taken.event {
        Event::Refused(refusal) => {
            warn!(error = %refusal, bytes = body.len(), "report refused");
            problem = Some(refusal.to_string());
        }
        Event::Busy(Busy::UnknownNode { node, is_first: true }) => {
            warn!(
                node,
                "a proxy that the platform does not list reports; it is asked to wait"
            );
        }
        Event::Stored {
            mismatch: Some(mismatch),
        } => {
            warn!(?mismatch, "a proxy's own locality is not that of its area");
        }
        event => trace!(?event, bytes = body.len(), "report taken"),
    }
    match taken.ack {
        Some(ack) => ([(header::CONTENT_TYPE, gma_telemetry::CONTENT_TYPE)], ack).into_response(),
        None => (
            StatusCode::BAD_REQUEST,
            format!("{}\n", problem.unwrap_or_default()),
        )
            .into_response(),
    }
}

/// One report, for every object in whose areas the proxy runs: each counts of it what is its own.
fn ingest(shared: &Arc<Shared>, body: &[u8], received: Timestamp) -> Ingested {
    let mut objects = shared.objects();
    if objects.len() > 1
        && let Some(node) = node_of(body)
    {
        let is_known = |one: &(String, Arc<Shared>)| one.1.telemetry().knows(&node);
        if objects.iter().any(is_known) {
            objects.retain(is_known);
        } else {
            objects.truncate(1);
        }
    }
    let ingest = |one: &Shared| one.telemetry().ingest(body, received, shared.now());
    let taken = objects.iter().map(|(_, one)| ingest(one)).reduce(Ingested::and);
    taken.unwrap_or_else(|| ingest(shared))
}
