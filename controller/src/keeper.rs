//! When what the controller remembers is written down.
//!
//! Each evaluation changes the readings, and those a restarted controller makes anew; writing them twice a second
//! would wear out a disk and fill an etcd. So what is compared with what was written last leaves them out: the memory is
//! written when a phase, a plan, its progress or a decision changed, and once a minute in any case, for what is learned.

use std::time::Duration;

use anyhow::Context as _;
use gma_core::decide::State;
use gma_core::ids::Timestamp;
use gma_core::measured::Learned;
use serde_json::Value;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::memory::{Memory, wall_unix_ms};
use crate::platform::Platform;

/// What is learned, and the time that counts, are lost for this long at most.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// A platform that has not written it within this has failed to.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What each evaluation changes, wherever it stands: the time, what was read, what was counted. Anything else that
/// changes is written down.
const READINGS: [&str; 11] = [
    "at",
    "reading",
    "unread",
    "counter",
    "lastSeen",
    "last_seen",
    "complaining",
    "paths",
    "countedTo",
    "alarmed",
    "inCloud",
];

/// Phases whose only content is what was read.
const PHASES_OF_READINGS: [&str; 3] = ["observing", "alarmed", "held"];

/// What was written last, and whether that works.
#[derive(Debug, Default)]
pub struct Keeper {
    written: Option<(Value, Timestamp)>,
    complaint: Option<String>,
}

/// What came of [`Keeper::keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// What counts was there already.
    Unchanged,
    /// It was written.
    Written,
    /// It was not.
    Failed,
}

// === impl Keeper ===

impl Keeper {
    /// Why the last write failed; none where it did not.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Writes down what changed. A failure that lasts is logged once.
    pub async fn keep<P: Platform>(
        &mut self,
        platform: &mut P,
        state: &State,
        learned: &Learned,
        now: Timestamp,
    ) -> Keeping {
        let result = self.try_keep(platform, state, learned, now).await;
        match result {
            Ok(keeping) => {
                if self.complaint.take().is_some() {
                    info!("the state is written down again");
                }
                keeping
            }
            Err(error) => {
                let complaint = format!("{error:#}");
                if self.complaint.as_ref() != Some(&complaint) {
                    warn!(
                        error = complaint,
                        "the state is not written down; until it is, nothing is changed"
                    );
                    self.complaint = Some(complaint);
                }
                Keeping::Failed
            }
        }
    }

    async fn try_keep<P: Platform>(
        &mut self,
        platform: &mut P,
        state: &State,
        learned: &Learned,
        now: Timestamp,
    ) -> anyhow::Result<Keeping> {
        let essence = essence(state).context("the state does not serialise")?;
        let is_due = self
            .written
            .as_ref()
            .is_none_or(|(written, at)| *written != essence || now.since(*at) >= AT_LEAST_EVERY);
        if !is_due {
            return Ok(Keeping::Unchanged);
        }
        let text = Memory::encode(state, learned, wall_unix_ms())?;
        timeout(TIMEOUT, platform.save(text))
            .await
            .context("the platform did not write it in time")??;
        self.written = Some((essence, now));
        Ok(Keeping::Written)
    }
}

/// The state without readings.
fn essence(state: &State) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(state)?;
    let edges = value.get_mut("edges").and_then(Value::as_object_mut);
    for edge in edges.into_iter().flat_map(|edges| edges.values_mut()) {
        if let Some(phase) = edge.get_mut("phase") {
            let kind = phase.get("kind").and_then(Value::as_str).unwrap_or_default();
            if PHASES_OF_READINGS.contains(&kind) {
                *phase = Value::Null;
            }
        }
    }
    strip(&mut value);
    Ok(value)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !READINGS.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
