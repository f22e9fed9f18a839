//! Status and events of one object, written by a task of its own, at a bounded rate: the controller's rounds never wait for
//! them, and a status that changes twice a second is not written twice a second.

use std::time::Duration;

use gma_core::decide::{Outcome, State};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::api::{EdgePlacement, EdgePlacementStatus, GROUP, VERSION};
use crate::error::{ActError, ask};
use crate::kube_api::{Id, Kube};
use crate::rule::MANAGER;
use crate::status::{essence, keep_transitions, not_ready};

/// Between writes of a status whose essence changed.
const SOON: Duration = Duration::from_secs(1);
/// Between writes where only readings changed.
const LATER: Duration = Duration::from_secs(30);
/// After a write that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Events that may come at once.
const BURST: u32 = 10;
/// And after those, one each.
const EVENT_EVERY: Duration = Duration::from_secs(10);
/// Events that wait; what is beyond is dropped: the status and the log have it.
const WAITING: usize = 32;
/// Bytes of an event's note; the API server takes 1,024.
const NOTE_BYTES: usize = 1000;

/// Tells of one object. Its task ends with it.
#[derive(Debug)]
pub(crate) struct Teller {
    status: watch::Sender<Option<EdgePlacementStatus>>,
    events: mpsc::Sender<Event>,
    /// Decisions that were told of: the highest that began, and those that are under way.
    begun: Option<u64>,
    running: Vec<u64>,
    _task: JoinSet<()>,
}

/// The task.
struct Writer {
    api: Api<EdgePlacement>,
    name: String,
    recorder: Recorder,
    object: ObjectReference,
    kube: Kube,
    written: EdgePlacementStatus,
    complaint: Option<String>,
}

/// Action of an event that is about the object itself.
const RECONCILE: &str = "Reconcile";

/// Lets [`BURST`] events pass, then one every [`EVENT_EVERY`].
struct Bucket {
    left: f64,
    at: Instant,
}

// === impl Teller ===

impl Teller {
    pub(crate) fn new(kube: &Kube, id: &Id) -> Self {
        let (status, statuses) = watch::channel(None);
        let (events, received) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        let writer = Writer::new(kube, id);
        task.spawn(writer.run(statuses, received));
        Self {
            status,
            events,
            begun: None,
            running: Vec::new(),
            _task: task,
        }
    }

    pub(crate) fn tell(&mut self, status: EdgePlacementStatus, state: &State) {
        self.status.send_replace(Some(status));
        let mut running = Vec::new();
        let mut newest = self.begun.unwrap_or(0);
        for edge in state.edges.values() {
            for decision in edge.decisions.iter().chain(edge.phase.plan()) {
                newest = newest.max(decision.id);
                let is_new = self.begun.is_some_and(|begun| decision.id > begun);
                let is_running = matches!(decision.outcome, Outcome::Running);
                let note = || format!("{}: {}", decision.edge, decision.sentence());
                if is_running {
                    running.push(decision.id);
                    if is_new {
                        self.say(EventType::Normal, "Decided", "Decide", &note());
                    }
                } else if is_new || self.running.contains(&decision.id) {
                    let (type_, reason) = match decision.outcome {
                        Outcome::RolledBack { .. } => (EventType::Warning, "RolledBack"),
                        Outcome::Abandoned { .. } => (EventType::Warning, "Abandoned"),
                        Outcome::Recommended => (EventType::Normal, "Recommended"),
                        Outcome::Kept | Outcome::Unverified | Outcome::Running => (EventType::Normal, "Done"),
                    };
                    self.say(type_, reason, "Decide", &note());
                }
            }
        }
        self.running = running;
        self.begun = Some(newest);
    }

    pub(crate) fn warn(&self, reason: &'static str, note: &str) {
        self.say(EventType::Warning, reason, RECONCILE, note);
    }

    pub(crate) fn inform(&self, reason: &'static str, note: &str) {
        self.say(EventType::Normal, reason, RECONCILE, note);
    }

    fn say(&self, type_: EventType, reason: &str, action: &str, note: &str) {
        let event = event(type_, reason, action, note);
        if self.events.try_send(event).is_err() {
            debug!(reason, "an event is left out: too many wait");
        }
    }
}

/// Says of an object that is not looked after why it is not: in its status, and by an event.
///
/// # Errors
/// See [`ActError`].
pub async fn tell_not_ready(kube: &Kube, id: &Id, reason: &str, message: &str) -> Result<(), ActError> {
    let mut writer = Writer::new(kube, id);
    writer.write(not_ready(id.generation, reason, message)).await?;
    say(kube, id, reason, message).await
}

/// A warning about an object that is not looked after.
///
/// # Errors
/// See [`ActError`].
pub async fn say(kube: &Kube, id: &Id, reason: &str, message: &str) -> Result<(), ActError> {
    kube.check_leading()?;
    let writer = Writer::new(kube, id);
    let event = event(EventType::Warning, reason, RECONCILE, message);
    ask("an event", writer.recorder.publish(&event, &writer.object)).await
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.split_at(note.floor_char_boundary(NOTE_BYTES)).0.to_owned()),
        action: action.to_owned(),
        secondary: None,
    }
}

// === impl Writer ===

impl Writer {
    fn new(kube: &Kube, id: &Id) -> Self {
        let (namespace, name) = &id.key;
        let client: Client = kube.client.clone();
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(kube.settings.identity.clone()),
        };
        Self {
            api: Api::namespaced(client.clone(), namespace),
            name: name.clone(),
            recorder: Recorder::new(client, reporter),
            object: ObjectReference {
                api_version: Some(format!("{GROUP}/{VERSION}")),
                kind: Some("EdgePlacement".to_owned()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid: Some(id.uid.clone()),
                ..ObjectReference::default()
            },
            kube: kube.clone(),
            written: EdgePlacementStatus::default(),
            complaint: None,
        }
    }

    async fn run(
        mut self,
        mut statuses: watch::Receiver<Option<EdgePlacementStatus>>,
        mut events: mpsc::Receiver<Event>,
    ) {
        let mut bucket = Bucket {
            left: f64::from(BURST),
            at: Instant::now(),
        };
        let mut not_before = Instant::now();
        let mut last = None;
        let mut ticks = tokio::time::interval(SOON);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.publish(&event, &mut bucket).await,
                    None => return,
                },
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let status = statuses.borrow_and_update().clone();
                    let Some(mut status) = status.filter(|_| now >= not_before) else { continue };
                    keep_transitions(&mut status, &self.written);
                    let is_urgent = essence(&status) != essence(&self.written);
                    let is_due = last.is_none_or(|last| now.duration_since(last) >= LATER);
                    if !is_urgent && (!is_due || status == self.written) {
                        continue;
                    }
                    let done = self.write(status).await;
                    self.complain(done.as_ref().err());
                    last = Some(now);
                    not_before = now + if done.is_ok() { SOON } else { AFTER_FAILURE };
                }
            }
        }
    }

    /// Whole: fields that are no longer told go.
    async fn write(&mut self, mut status: EdgePlacementStatus) -> Result<(), ActError> {
        self.kube.check_leading()?;
        let what = format!("the status of EdgePlacement {}", self.name);
        if self.written == EdgePlacementStatus::default() {
            // An earlier leader's conditions have not changed because another leads.
            let found = ask(&what, self.api.get_opt(&self.name)).await?;
            self.written = found.and_then(|found| found.status).unwrap_or_default();
            keep_transitions(&mut status, &self.written);
        }
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "EdgePlacement",
            "status": status,
        });
        // The status is the controller's alone.
        let parameters = PatchParams::apply(MANAGER).force();
        ask(
            &what,
            self.api
                .patch_status(&self.name, &parameters, &Patch::Apply(&body)),
        )
        .await?;
        self.written = status;
        Ok(())
    }

    fn complain(&mut self, error: Option<&ActError>) {
        let complaint = error.map(ToString::to_string);
        if complaint != self.complaint {
            if let Some(error) = &complaint {
                warn!(error, "the status is not written; it is tried again");
            }
            self.complaint = complaint;
        }
    }

    async fn publish(&mut self, event: &Event, bucket: &mut Bucket) {
        if !bucket.take(Instant::now()) || self.kube.check_leading().is_err() {
            debug!(reason = event.reason, "an event is left out");
            return;
        }
        if let Err(error) = ask("an event", self.recorder.publish(event, &self.object)).await {
            self.complain(Some(&error));
        }
    }
}

// === impl Bucket ===

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let refill = now.duration_since(self.at).as_secs_f64() / EVENT_EVERY.as_secs_f64();
        self.left = (self.left + refill).min(f64::from(BURST));
        self.at = now;
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_a_burst_and_then_one_by_one() {
        let begin = Instant::now();
        let mut bucket = Bucket {
            left: f64::from(BURST),
            at: begin,
        };
        let passed = (0..100).filter(|_| bucket.take(begin)).count();
        assert_eq!(passed, BURST as usize);
        let later = begin + EVENT_EVERY;
        assert!(bucket.take(later) && !bucket.take(later));
    }
}
