//! What HTTP handlers and the control loop share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gma_core::ids::Timestamp;
use gma_telemetry::Telemetry;
use serde_json::Value;

use crate::metrics::ControllerMetrics;

/// State of the process.
#[derive(Debug)]
pub struct Shared {
    started: Instant,
    /// What the clock showed then.
    first: Timestamp,
    telemetry: Mutex<Telemetry>,
    /// The last round of the control loop, as served at `/api/v1/state`; none before the first.
    round: Mutex<Option<Arc<Round>>>,
    /// The controller's own metrics.
    pub metrics: ControllerMetrics,
}

impl Shared {
    /// Starts the process's clock at `first`: 0, or where an earlier controller's had come to by now.
    pub fn new(telemetry: Telemetry, first: Timestamp) -> Self {
        Self {
            started: Instant::now(),
            first,
            telemetry: Mutex::new(telemetry),
            round: Mutex::new(None),
            metrics: ControllerMetrics::default(),
        }
    }

    /// The only clock that the core and the telemetry see.
    pub fn now(&self) -> Timestamp {
        self.first.after(self.started.elapsed())
    }

    /// The telemetry. A panic elsewhere leaves it usable: each report is applied whole or not at all.
    pub fn telemetry(&self) -> MutexGuard<'_, Telemetry> {
        self.telemetry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last round, if there was one.
    pub fn round(&self) -> Option<Arc<Round>> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a round.
    pub fn publish(&self, round: Round) {
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(round));
    }
}

/// A round of the control loop in which the platform was seen.
#[derive(Debug)]
pub struct Round {
    /// When.
    pub at: Timestamp,
    /// What it saw and did, for people and tools.
    pub view: Value,
}
