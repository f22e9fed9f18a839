//! What HTTP handlers and the control loop share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gma_core::ids::Timestamp;
use gma_telemetry::{Directory, Telemetry};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::{ControllerMetrics, Prediction};

/// Pages that follow at a time: each costs a copy of the view twice a second.
pub const MAX_FOLLOWERS: usize = 32;

/// State of the process; where it looks after several objects, of each of them too, with telemetry and rounds of its own.
#[derive(Debug)]
pub struct Shared {
    started: Instant,
    /// What the clock showed then.
    first: Timestamp,
    telemetry: Mutex<Telemetry>,
    /// The last round of the control loop, as served at `/api/v1/state`; none before the first.
    round: watch::Sender<Option<Arc<Round>>>,
    /// When the platform was seen last.
    seen: Mutex<Option<Timestamp>>,
    /// A permit for each page that may follow.
    pub(crate) followers: Arc<Semaphore>,
    /// Ends what would follow for ever.
    pub(crate) ending: CancellationToken,
    /// Of the last round.
    predictions: Mutex<Vec<Prediction>>,
    /// The controller's own metrics.
    pub metrics: Arc<ControllerMetrics>,
    /// Objects, the oldest first; none on a platform that has only one application.
    members: Mutex<Vec<Member>>,
}

/// An object of the process.
#[derive(Debug)]
struct Member {
    uid: String,
    /// `namespace/name`.
    path: String,
    /// When it was created: sorts by age.
    created: String,
    /// Whether it is looked after now.
    is_steered: bool,
    shared: Arc<Shared>,
}

impl Shared {
    /// Starts the process's clock at `first`: 0, or where an earlier controller's had come to by now.
    pub fn new(telemetry: Telemetry, first: Timestamp) -> Self {
        Self {
            started: Instant::now(),
            first,
            telemetry: Mutex::new(telemetry),
            round: watch::Sender::new(None),
            seen: Mutex::new(None),
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            ending: CancellationToken::new(),
            predictions: Mutex::default(),
            metrics: Arc::default(),
            members: Mutex::default(),
        }
    }

    /// What an object has of its own: what it was reported goes on where it was looked after before.
    pub fn enter(&self, uid: &str, path: &str, created: &str) -> Arc<Self> {
        let mut members = self.members();
        if let Some(known) = members.iter_mut().find(|member| member.uid == uid) {
            known.is_steered = true;
            return Arc::clone(&known.shared);
        }
        let shared = Arc::new(Self {
            started: self.started,
            first: self.first,
            telemetry: Mutex::new(Telemetry::new(gma_telemetry::Config::default())),
            round: watch::Sender::new(None),
            seen: Mutex::new(None),
            followers: Arc::clone(&self.followers),
            ending: self.ending.clone(),
            predictions: Mutex::default(),
            metrics: Arc::clone(&self.metrics),
            members: Mutex::default(),
        });
        members.push(Member {
            uid: uid.to_owned(),
            path: path.to_owned(),
            created: created.to_owned(),
            is_steered: true,
            shared: Arc::clone(&shared),
        });
        members.sort_by(|a, b| (&a.created, &a.path).cmp(&(&b.created, &b.path)));
        shared
    }

    /// An object is no longer looked after.
    pub fn leave(&self, uid: &str) {
        let mut members = self.members();
        if let Some(member) = members.iter_mut().find(|member| member.uid == uid) {
            member.is_steered = false;
            member.shared.stand_by();
        }
    }

    /// Forgets objects that are gone.
    pub fn retain(&self, uids: &BTreeSet<&str>) {
        self.members().retain(|member| uids.contains(member.uid.as_str()));
    }

    /// Objects that are looked after, the oldest first, by `namespace/name`.
    pub fn objects(&self) -> Vec<(String, Arc<Self>)> {
        let members = self.members();
        let steered = members.iter().filter(|member| member.is_steered);
        steered
            .map(|member| (member.path.clone(), Arc::clone(&member.shared)))
            .collect()
    }

    /// The object with this name; without a name the oldest, or the process where it has no objects.
    pub fn of(self: &Arc<Self>, object: Option<&str>) -> Option<Arc<Self>> {
        let mut objects = self.objects().into_iter();
        match object {
            Some(object) => objects.find(|(path, _)| path == object).map(|(_, shared)| shared),
            None => Some(
                objects
                    .next()
                    .map_or_else(|| Arc::clone(self), |(_, shared)| shared),
            ),
        }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a round knows of its predictions, for `/metrics`.
    pub fn set_predictions(&self, predictions: Vec<Prediction>) {
        *self.locked_predictions() = predictions;
    }

    /// What the last round knew of its predictions.
    pub fn predictions(&self) -> Vec<Prediction> {
        self.locked_predictions().clone()
    }

    fn locked_predictions(&self) -> MutexGuard<'_, Vec<Prediction>> {
        self.predictions.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.round.borrow().clone()
    }

    /// The last round and those to come; who is slow misses some.
    pub fn rounds(&self) -> watch::Receiver<Option<Arc<Round>>> {
        self.round.subscribe()
    }

    /// The platform is there, as a controller that only stands by sees it too.
    pub fn saw_platform(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.now());
    }

    /// How long ago the platform was seen; none: never.
    pub fn seen(&self) -> Option<Duration> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map(|seen| self.now().since(seen))
    }

    /// Answers every report as busy, and shows no round: nothing is steered, no object either.
    pub fn stand_by(&self) {
        for member in &mut *self.members() {
            member.is_steered = false;
            member.shared.stand_by();
        }
        let now = self.now();
        self.telemetry().set_directory(&Directory::default(), now);
        self.round.send_replace(None);
    }

    /// Publishes a round.
    pub fn publish(&self, round: Round) {
        self.saw_platform();
        self.round.send_replace(Some(Arc::new(round)));
    }
}

/// A round of the control loop in which the platform was seen.
#[derive(Debug)]
pub struct Round {
    /// When.
    pub at: Timestamp,
    /// What it saw and did, as JSON: written once, however many read it.
    pub view: Box<RawValue>,
}

impl Round {
    /// A round at `at`.
    ///
    /// # Errors
    /// The view can't be written as JSON.
    pub fn new(at: Timestamp, view: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self {
            at,
            view: to_raw_value(view)?,
        })
    }
}
