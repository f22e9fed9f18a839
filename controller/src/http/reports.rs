//! Intake of reports.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use gma_telemetry::{Busy, Event};
use tracing::{trace, warn};

use crate::shared::Shared;

/// Takes one report. What could be told from noise is answered with an ack, the rest with 400 and the reason.
pub(super) async fn take(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let received = shared.now();
    let taken = {
        let mut telemetry = shared.telemetry();
        telemetry.ingest(&body, received, shared.now())
    };
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
