//! The control loop: look at the platform, take a snapshot, decide, act.
//!
//! The loop holds no rule of its own. It asks the pure core what follows from what it saw, hands the effects
//! to the platform, and feeds failures back as events.
//!
//! Before effects are performed the state that wants them is written down, and after them what they changed. So
//! whatever moment the process ends at, the next one knows at least what may have been done. What is not written down
//! is not done: that round did not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gma_core::cluster::Cluster;
use gma_core::decide::{self, Config, Decision, Effect, Event, Outcome, State};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::measured::{Learned, Settings};
use gma_core::snapshot::Snapshot;
use gma_telemetry::Directory;
use serde_json::json;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::keeper::{Keeper, Keeping};
use crate::metrics::{ChangeKind, ChangeLabel, ResultLabel, Worked, predictions};
use crate::planner::MeasuredPlanner;
use crate::platform::{EffectError, Observation, Platform};
use crate::shared::{Round, Shared};
use crate::usage::CpuUsage;
use crate::view::{Recorder, Seen};

/// Evaluated each 0.5 s, as often as gateways report.
const PERIOD: Duration = Duration::from_millis(500);
/// Window of the snapshot on which decisions stand.
pub(crate) const WINDOW: Duration = Duration::from_secs(4);
/// A platform that does not answer within this has failed the round.
const PLATFORM_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the cloud is looked at for what it lacks without an edge: for people, who need it no sooner.
const SHORTAGE_EVERY: Duration = Duration::from_secs(10);

/// The loop and what it remembers between rounds.
#[derive(Debug)]
pub struct ControlLoop<P> {
    shared: Arc<Shared>,
    platform: P,
    config: Config,
    state: State,
    keeper: Keeper,
    usage: CpuUsage,
    /// When it was looked for, and what the cloud is short of if an edge dies.
    short_if_lost: (Option<Timestamp>, BTreeMap<AreaName, BTreeMap<ServiceName, u32>>),
    planner: MeasuredPlanner,
    recorder: Recorder,
    /// As the telemetry has it.
    directory: Option<Directory>,
    /// As the planner has them of the platform.
    settings: Option<Settings>,
    /// Text of the last failed round: a failure that lasts is logged once.
    complaint: Option<String>,
    /// What was not performed in the last round, likewise.
    refused: BTreeSet<String>,
}

impl<P: Platform> ControlLoop<P> {
    /// A loop that goes on with what an earlier one remembered.
    pub fn new(shared: Arc<Shared>, platform: P, config: Config, (state, learned): (State, Learned)) -> Self {
        Self {
            shared,
            platform,
            planner: MeasuredPlanner::new(&config, learned),
            config,
            state,
            keeper: Keeper::default(),
            usage: CpuUsage::default(),
            short_if_lost: (None, BTreeMap::new()),
            recorder: Recorder::default(),
            directory: None,
            settings: None,
            complaint: None,
            refused: BTreeSet::new(),
        }
    }

    /// Runs rounds until `shutdown`; the round under way is finished.
    ///
    /// # Errors
    /// None today: a round that fails is counted, logged and tried again.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = period.tick() => {}
            }
            let began = Instant::now();
            let result = match self.round(self.shared.now()).await {
                Ok(()) => {
                    self.complaint = None;
                    Worked::Ok
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if self.complaint.as_ref() != Some(&text) {
                        warn!(error = text, "round failed; it is tried again");
                        self.complaint = Some(text);
                    }
                    Worked::Failed
                }
            };
            let metrics = &self.shared.metrics;
            metrics.rounds.get_or_create(&ResultLabel { result }).inc();
            metrics.round_seconds.observe(began.elapsed().as_secs_f64());
        }
    }

    /// One round at `now`: what [`Self::run`] does each 0.5 s.
    ///
    /// # Errors
    /// Where the platform could not be observed; then nothing was decided.
    pub async fn round(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let observation = timeout(PLATFORM_TIMEOUT, self.platform.observe())
            .await
            .context("the platform did not answer")?
            .context("the platform could not be observed")?;
        let Observation {
            cluster,
            directory,
            settings,
        } = observation;
        if let Some(settings) = settings
            && self.settings.as_ref() != Some(&settings)
        {
            self.planner.set_settings(settings.clone());
            self.settings = Some(settings);
        }
        let snapshot = self.look(&cluster, directory, now);
        self.planner.observe(&snapshot, self.usage.cores(&snapshot));
        let event = Event::Evaluate {
            snapshot: &snapshot,
            cluster: &cluster,
            planner: &self.planner,
        };
        let before = self.state.clone();
        let effects;
        (self.state, effects) = decide::step(std::mem::take(&mut self.state), event, now, &self.config);
        self.shared.metrics.observe_propagation(&self.state, now);
        if !self.keep(now).await && effects.iter().any(changes) {
            self.state = before;
            self.state.interrupt();
        } else {
            self.perform_all(&effects, now).await;
            self.keep(now).await;
        }
        self.shared.set_predictions(predictions(&self.state));
        self.look_for_shortage(&snapshot, &cluster, now);
        self.publish(&snapshot, &cluster, now)
    }

    fn look(&mut self, cluster: &Cluster, directory: Directory, now: Timestamp) -> Snapshot {
        let mut telemetry = self.shared.telemetry();
        if self.directory.as_ref() != Some(&directory) {
            telemetry.set_directory(&directory, now);
            self.directory = Some(directory);
        }
        if let Some(window) = self.usage.record(cluster, now) {
            self.usage.set_requests(&telemetry.received(now, window));
        }
        telemetry.snapshot(now, WINDOW)
    }

    /// Writes down what counts; whether it is written.
    async fn keep(&mut self, now: Timestamp) -> bool {
        let keeping = self
            .keeper
            .keep(&mut self.platform, &self.state, self.planner.learned(), now)
            .await;
        let result = match keeping {
            Keeping::Unchanged => return true,
            Keeping::Written => Worked::Ok,
            Keeping::Failed => Worked::Failed,
        };
        let metrics = &self.shared.metrics;
        metrics.saves.get_or_create(&ResultLabel { result }).inc();
        result == Worked::Ok
    }

    async fn perform_all(&mut self, effects: &[Effect], now: Timestamp) {
        let mut refused = BTreeSet::new();
        for effect in effects {
            let Some(kind) = kind(effect) else {
                if let Effect::Record { decision } = effect {
                    log_decision(decision);
                }
                continue;
            };
            let done = timeout(PLATFORM_TIMEOUT, self.platform.perform(effect))
                .await
                .unwrap_or_else(|_| {
                    Err(EffectError::Failed(anyhow::anyhow!(
                        "the platform did not answer"
                    )))
                });
            let result = if done.is_ok() { Worked::Ok } else { Worked::Failed };
            let label = ChangeLabel { kind, result };
            self.shared.metrics.changes.get_or_create(&label).inc();
            match done {
                Ok(()) => info!(effect = %json!(effect), "performed"),
                Err(error) => {
                    let message = error.to_string();
                    let what = format!("{kind:?} {:?}: {message}", place(effect));
                    if !self.refused.contains(&what) {
                        warn!(error = message, effect = %json!(effect), "not performed");
                    }
                    refused.insert(what);
                    let event = Event::EffectFailed {
                        effect,
                        message: &message,
                        permanent: error.is_permanent(),
                    };
                    let state = std::mem::take(&mut self.state);
                    (self.state, _) = decide::step(state, event, now, &self.config);
                }
            }
        }
        self.refused = refused;
    }

    fn look_for_shortage(&mut self, snapshot: &Snapshot, cluster: &Cluster, now: Timestamp) {
        let (looked, short) = &mut self.short_if_lost;
        if looked.is_some_and(|looked| now.since(looked) < SHORTAGE_EVERY) {
            return;
        }
        *looked = Some(now);
        let edges = self.config.edges.keys();
        let of = |edge: &AreaName| (edge.clone(), self.planner.short_if_lost(edge, snapshot, cluster));
        *short = edges.map(of).filter(|(_, short)| !short.is_empty()).collect();
    }

    fn publish(&mut self, snapshot: &Snapshot, cluster: &Cluster, now: Timestamp) -> anyhow::Result<()> {
        let cores = self.usage.in_use();
        let seen = Seen {
            now,
            config: &self.config,
            state: &self.state,
            cluster,
            snapshot,
            cores: &cores,
            short_if_lost: &self.short_if_lost.1,
            settings: self.planner.settings(),
            unsaved: self.keeper.complaint(),
        };
        self.platform.tell(&seen);
        let view = self.recorder.view(&seen);
        let round = Round::new(now, &view).context("the view of the round can't be written")?;
        self.shared.publish(round);
        Ok(())
    }
}

/// What an effect changes; none: it is only told.
const fn kind(effect: &Effect) -> Option<ChangeKind> {
    match effect {
        Effect::Ensure { .. } => Some(ChangeKind::Ensure),
        Effect::Remove { .. } => Some(ChangeKind::Remove),
        Effect::Scale { .. } => Some(ChangeKind::Scale),
        Effect::Route { .. } => Some(ChangeKind::Route),
        Effect::Record { .. } => None,
    }
}

const fn changes(effect: &Effect) -> bool {
    kind(effect).is_some()
}

/// Service and area of an effect that has one of each.
const fn place(effect: &Effect) -> Option<(&ServiceName, &AreaName)> {
    match effect {
        Effect::Ensure { service, area, .. }
        | Effect::Remove { service, area }
        | Effect::Scale { service, area, .. } => Some((service, area)),
        Effect::Route { .. } | Effect::Record { .. } => None,
    }
}

fn log_decision(decision: &Decision) {
    let sentence = decision.sentence();
    if matches!(decision.outcome, Outcome::Running) {
        info!(edge = %decision.edge, id = decision.id, "decided: {sentence}");
    } else {
        info!(edge = %decision.edge, id = decision.id, "ended: {sentence}");
    }
}
