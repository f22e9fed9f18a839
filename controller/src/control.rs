//! The control loop: look at the platform, take a snapshot, decide, act.
//!
//! The loop holds no rule of its own. It asks the pure core what follows from what it saw, hands the effects
//! to the platform, and feeds failures back as events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gma_core::cluster::Cluster;
use gma_core::decide::{self, Config, Decision, Effect, Event, Outcome, State};
use gma_core::snapshot::Snapshot;
use gma_telemetry::Directory;
use serde_json::json;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{ChangeKind, ChangeLabel, ResultLabel, Worked};
use crate::planner::MeasuredPlanner;
use crate::platform::{Observation, Platform};
use crate::shared::{Round, Shared};
use crate::usage::CpuUsage;
use crate::view::{Recorder, Seen};

/// Evaluated each 0.5 s, as often as gateways report.
const PERIOD: Duration = Duration::from_millis(500);
/// Window of the snapshot on which decisions stand.
pub(crate) const WINDOW: Duration = Duration::from_secs(4);
/// A platform that does not answer within this has failed the round.
const PLATFORM_TIMEOUT: Duration = Duration::from_secs(5);

/// The loop and what it remembers between rounds.
#[derive(Debug)]
pub struct ControlLoop<P> {
    shared: Arc<Shared>,
    platform: P,
    config: Config,
    state: State,
    usage: CpuUsage,
    planner: MeasuredPlanner,
    recorder: Recorder,
    /// As the telemetry has it.
    directory: Option<Directory>,
    /// Text of the last failed round: a failure that lasts is logged once.
    complaint: Option<String>,
}

impl<P: Platform> ControlLoop<P> {
    /// A loop that has seen nothing yet.
    pub fn new(shared: Arc<Shared>, platform: P, config: Config) -> Self {
        Self {
            shared,
            platform,
            planner: MeasuredPlanner::new(&config),
            config,
            state: State::default(),
            usage: CpuUsage::default(),
            recorder: Recorder::default(),
            directory: None,
            complaint: None,
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
            let result = match self.round().await {
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
            self.shared
                .metrics
                .rounds
                .get_or_create(&ResultLabel { result })
                .inc();
            self.shared
                .metrics
                .round_seconds
                .observe(began.elapsed().as_secs_f64());
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let observation = timeout(PLATFORM_TIMEOUT, self.platform.observe())
            .await
            .context("the platform did not answer")?
            .context("the platform could not be observed")?;
        let Observation { cluster, directory } = observation;
        let now = self.shared.now();
        self.usage.record(&cluster, now);
        let snapshot = {
            let mut telemetry = self.shared.telemetry();
            if self.directory.as_ref() != Some(&directory) {
                telemetry.set_directory(&directory);
                self.directory = Some(directory);
            }
            telemetry.snapshot(now, WINDOW)
        };
        self.planner.observe(&snapshot, self.usage.cores());
        let event = Event::Evaluate {
            snapshot: &snapshot,
            cluster: &cluster,
            planner: &self.planner,
        };
        let (state, effects) = decide::step(std::mem::take(&mut self.state), event, now, &self.config);
        self.state = state;
        self.shared.metrics.set_predictions(&self.state);
        for effect in &effects {
            self.perform(effect).await;
        }
        self.publish(&snapshot, &cluster)
    }

    async fn perform(&mut self, effect: &Effect) {
        let kind = match effect {
            Effect::Ensure { .. } => ChangeKind::Ensure,
            Effect::Remove { .. } => ChangeKind::Remove,
            Effect::Route { .. } => ChangeKind::Route,
            Effect::Record { decision } => return log_decision(decision),
        };
        let done = timeout(PLATFORM_TIMEOUT, self.platform.perform(effect))
            .await
            .context("the platform did not answer")
            .flatten();
        let result = if done.is_ok() { Worked::Ok } else { Worked::Failed };
        self.shared
            .metrics
            .changes
            .get_or_create(&ChangeLabel { kind, result })
            .inc();
        match done {
            Ok(()) => info!(effect = %json!(effect), "performed"),
            Err(error) => {
                let message = format!("{error:#}");
                warn!(error = message, effect = %json!(effect), "not performed");
                let event = Event::EffectFailed {
                    effect,
                    message: &message,
                    permanent: false,
                };
                let state = std::mem::take(&mut self.state);
                (self.state, _) = decide::step(state, event, self.shared.now(), &self.config);
            }
        }
    }

    fn publish(&mut self, snapshot: &Snapshot, cluster: &Cluster) -> anyhow::Result<()> {
        let now = self.shared.now();
        let cores = self.usage.cores();
        let view = self.recorder.view(&Seen {
            now,
            config: &self.config,
            state: &self.state,
            cluster,
            snapshot,
            cores: &cores,
            settings: self.planner.settings(),
        });
        let round = Round::new(now, &view).context("the view of the round can't be written")?;
        self.shared.publish(round);
        Ok(())
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
