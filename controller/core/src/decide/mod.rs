//! Decides what runs where, and carries it out step by step.
//!
//! [`step`] is pure: state, event and time in; the next state and effects out. The control loop performs the
//! effects and calls again. It is level-triggered: each evaluation compares what the platform shows with what the
//! phase wants and repeats what is missing, so a lost effect, a repeated one and a restart all end well.
//!
//! One machine an edge:
//!
//! ```text
//!              3 × outside the band                    weights in force
//!  Observing ───────► Alarmed ───► Acting ─────────────────────► Verifying
//!    ▲  ▲ ▲             │  ▲         │ not Ready, errors,           │   │ 15 … 60 s
//!    │  │ │  no plan,   ▼  │         │ not seen, failed      worse, │   │ in band, or
//!    │  │ │  backing   Held         ▼               not improved   │   │ improved
//!    │  │ │  off, …                RollingBack ◄──────────────────┘   │
//!    │  │ └─ readable ─ Held           │ (backs off)                    │
//!    │  │    again       ▲             ▼                                ▼
//!    │  └────────────────┼──────── CoolingDown ◄────────────────────────┘
//!    │   silent, idle,   │            15 s
//!    └── few, errors ────┘
//! ```
//!
//! Besides: an edge whose instances saturate changes one service's share, `Alarmed ──► Relieving ──► CoolingDown`, before it
//! asks for a plan, and gives it back later ([`Trigger::Overload`]).
//!
//! Acting, in order; the way back is the same with the sets exchanged and without ramps:
//!
//! ```text
//!  Starting ──► Raising ──► Raising ──► Raising ──► Scaling ──► Lowering ──► Lowering ──► Draining ──► Removing
//!  Ensure;      first step  50 %        99 %        Scale;      50 %         0 %          10 … 60 s    Remove
//!  all Ready    50 requests seen in the new area,   replicas    as for a rise             nothing seen
//!               neither errors nor delay worse,     are there
//!               replicas for the next step
//! ```
//!
//! Where instances that become Ready move the calls themselves ([`crate::routing::Steering::Readiness`]) it is shorter:
//!
//! ```text
//!  Starting ──────────► Arriving ─────────────► Scaling ────► Removing
//!  Ensure; all Ready,   50 requests seen, …     Scale         Remove
//!  no errors meanwhile
//! ```
//!
//! Invariants, checked by the simulation in `tests`: weights of a caller area sum to 100; callers in the cloud use
//! the cloud; nothing is removed from the cloud; no weight is put on an instance that is not Ready; an edge that
//! is silent is not written to; plans of an hour are bounded; constant input comes to rest.
//!
//! Two more things that a restart relies on. Weights of a finished move are above every step of a ramp, so an
//! instance with less is the rest of an unfinished move: at rest it is taken back, unless an overload took a part of its
//! weight. And [`State`] can be saved: its times count from the controller's start, so whoever loads it lets its clock go
//! on from [`State::at`].

mod adoption;
mod asking;
mod capacity;
mod config;
mod evidence;
mod expect;
mod failing;
mod forms;
mod machine;
mod overload;
mod own;
mod paths;
mod phase;
mod plan;
mod prediction;
mod progress;
mod propagation;
mod ramp;
mod readiness;
mod reason;
mod relief;
mod replicas;
mod resting;
mod round;
mod routes;
pub mod saved;
mod scaling;
mod stages;
mod starting;
mod status;
#[cfg(test)]
mod tests;
mod verify;
mod visits;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::Snapshot;

pub use adoption::Adoption;
pub use config::{Band, Config, EmptyBand, Mode, Objective, Statistic};
pub use evidence::{Position, Reading};
pub use overload::Step;
pub use phase::{Alarm, BackOff, Complaint, EdgeState, Failures, Phase, Planless};
pub use plan::{
    After, Alternative, Ask, Decision, Direction, Outcome, PlannedMove, Planner, Replicas, Searched, Times,
    Trigger,
};
pub use prediction::{Correction, PredictionErrors};
pub use progress::Progress;
pub use propagation::Propagation;
pub use reason::{Cause, Covered, HoldReason, NoPlan};
pub use status::{Account, Told, accounts};

use capacity::Requests;
use phase::{Refusal, Refused};
use round::Round;
use scaling::Autoscalers;
use writes::Writes;

/// Text of a platform's complaint is cut to this many characters: it ends in the status.
const COMPLAINT_CHARS: usize = 300;
/// What an effect of an older version asked for.
const fn one() -> u32 {
    1
}

const HOUR: Duration = Duration::from_secs(3600);

/// What happened.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// Time to look: twice a second.
    Evaluate {
        /// What was measured.
        snapshot: &'a Snapshot,
        /// What runs, and the routing in force.
        cluster: &'a Cluster,
        /// Chooses services.
        planner: &'a dyn Planner,
    },
    /// An effect was not performed. It is wanted again at the next evaluation, if it still is.
    EffectFailed {
        /// Which.
        effect: &'a Effect,
        /// What the platform said.
        message: &'a str,
        /// It will never succeed.
        permanent: bool,
    },
}

/// What is to be done. All are idempotent and may be repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// There shall be an instance, made with so many replicas. One that is there keeps its count where an autoscaler owns
    /// it, and else has at least so many.
    Ensure {
        /// Of this service,
        service: ServiceName,
        /// here.
        area: AreaName,
        /// What the traffic needs that it will get.
        #[serde(default = "one")]
        replicas: u32,
    },
    /// There shall be none.
    Remove {
        /// Of this service,
        service: ServiceName,
        /// here.
        area: AreaName,
    },
    /// The service shall have at least so many replicas in the cloud; or exactly so many where no autoscaler owns the
    /// count and nobody asks for more.
    Scale {
        /// Of this service,
        service: ServiceName,
        /// here: the cloud.
        area: AreaName,
        /// So many.
        replicas: u32,
    },
    /// These shall be the rules of its services, which are all that have one or get one now. A service without callers
    /// shall have none.
    Route {
        /// By service and caller area.
        plan: RoutingPlan,
    },
    /// Log a decision: when it begins and when it ends.
    Record {
        /// As it is now.
        decision: Box<Decision>,
    },
}

/// What all edges share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ledger {
    /// Moves of the last hour; bounded by the budget.
    moves: VecDeque<Timestamp>,
    decisions: u64,
}

/// Everything that the machine remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Time of the last event.
    pub at: Timestamp,
    /// By edge; exactly the edges of the configuration, after an evaluation.
    pub edges: BTreeMap<AreaName, EdgeState>,
    ledger: Ledger,
    #[serde(default)]
    autoscalers: Autoscalers,
    /// First rules, of all edges.
    #[serde(default)]
    pub adoption: Adoption,
    /// How long new weights take to be followed.
    #[serde(default)]
    pub propagation: Propagation,
    #[serde(default)]
    requests: Requests,
}

/// One turn of the decision machine. Pure: the same inputs give the same outputs.
///
/// Of the effects, `Route` comes first: weights leave an instance before it is removed.
pub fn step(mut state: State, event: Event<'_>, now: Timestamp, config: &Config) -> (State, Vec<Effect>) {
    let now = now.max(state.at);
    state.at = now;
    match event {
        Event::Evaluate {
            snapshot,
            cluster,
            planner,
        } => state.evaluate(snapshot, cluster, planner, now, config),
        Event::EffectFailed {
            effect,
            message,
            permanent,
        } => {
            state.effect_failed(effect, message, permanent, now);
            (state, Vec::new())
        }
    }
}

// === impl State ===

impl State {
    /// Says that nobody looked or acted from [`State::at`] on: the controller was away, or could not act. As with a silent
    /// edge, the time until the next evaluation counts for no deadline of a plan under way; and evaluations before it are
    /// not in a row with those after it.
    pub fn interrupt(&mut self) {
        for edge in self.edges.values_mut() {
            match &mut edge.phase {
                Phase::Acting { .. }
                | Phase::Verifying { .. }
                | Phase::Relieving { .. }
                | Phase::RollingBack { .. } => {
                    edge.silent_since.get_or_insert(self.at);
                }
                Phase::Alarmed { .. } => edge.phase = Phase::Observing,
                Phase::Held { alarm, .. } => *alarm = None,
                Phase::Observing | Phase::CoolingDown { .. } => {}
            }
        }
    }

    fn evaluate(
        mut self,
        snapshot: &Snapshot,
        cluster: &Cluster,
        planner: &dyn Planner,
        now: Timestamp,
        config: &Config,
    ) -> (Self, Vec<Effect>) {
        let in_force = routes::whole(cluster, config);
        let mut wanted = in_force.clone();
        let mut effects = Vec::new();
        let mut adopt = BTreeSet::new();
        self.edges.retain(|edge, _| config.edges.contains_key(edge));
        for edge in config
            .edges
            .keys()
            .filter(|edge| !self.edges.contains_key(*edge))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.edges.insert(edge, EdgeState::default());
        }
        self.autoscalers.observe(cluster, now);
        Round {
            snapshot,
            cluster,
            planner,
            config,
            now,
            in_force: &in_force,
            wanted: &mut wanted,
            effects: &mut effects,
            ledger: &mut self.ledger,
            autoscalers: &self.autoscalers,
            adoption: &self.adoption,
            adopt: &mut adopt,
            requests: &mut self.requests,
            propagation: &mut self.propagation,
            busy: BTreeMap::new(),
        }
        .evaluate(&mut self.edges);
        let mut writes = false;
        if config.mode == Mode::Enforce {
            let moving = routes::moving(&self.edges);
            let shared = Writes {
                snapshot,
                cluster,
                config,
                now,
                in_force: &in_force,
                moving: &moving,
            };
            let route = shared.route(&mut self.adoption, &adopt, wanted);
            writes = route.is_some();
            if let Some(route) = route {
                effects.insert(0, route);
            }
            effects.extend(shared.scale(&mut self.requests));
        }
        for (name, edge) in &mut self.edges {
            edge.forget(now, config);
            if !writes && !effects.iter().any(|effect| effect.is_at(name)) {
                edge.complaining = None;
            }
        }
        (self, effects)
    }

    /// A complaint is shown as long as the effect is wanted. What the platform will never do ends the plan.
    fn effect_failed(&mut self, effect: &Effect, message: &str, permanent: bool, now: Timestamp) {
        let message: String = message.chars().take(COMPLAINT_CHARS).collect();
        let (at, of) = match effect {
            Effect::Ensure { service, area, .. } => {
                let service = service.clone();
                (Some(area), Refused::Instance { service })
            }
            Effect::Remove { service, area } => {
                let service = service.clone();
                (Some(area), Refused::Removal { service })
            }
            Effect::Route { .. } | Effect::Scale { .. } => (None, Refused::Weights),
            Effect::Record { .. } => return,
        };
        for (name, edge) in &mut self.edges {
            let concerned = match at {
                Some(area) => area == name,
                // Nobody says whose weights: those that are moving, or, at rest, everybody's.
                None => true,
            };
            if !concerned {
                continue;
            }
            edge.complain(&message, now);
            if permanent && edge.phase.plan().is_some() {
                edge.refusal = Some(Refusal {
                    of: of.clone(),
                    message: message.clone(),
                });
            }
        }
    }
}

// === impl Effect ===

impl Effect {
    /// Whether it is about instances of this edge.
    fn is_at(&self, edge: &AreaName) -> bool {
        match self {
            Self::Ensure { area, .. } | Self::Remove { area, .. } => area == edge,
            Self::Scale { .. } | Self::Route { .. } | Self::Record { .. } => false,
        }
    }
}

// === impl Ledger ===

impl Ledger {
    fn moves_within_hour(&mut self, now: Timestamp) -> usize {
        while self.moves.front().is_some_and(|at| now.since(*at) >= HOUR) {
            self.moves.pop_front();
        }
        self.moves.len()
    }

    fn decision(
        &mut self,
        edge: &AreaName,
        now: Timestamp,
        trigger: Trigger,
        add: BTreeSet<ServiceName>,
        remove: BTreeSet<ServiceName>,
    ) -> Decision {
        self.decisions += 1;
        Decision {
            id: self.decisions,
            edge: edge.clone(),
            trigger,
            add,
            remove,
            planned: None,
            predicted_again_us: None,
            correction: None,
            times: Times {
                decided: now,
                ..Times::default()
            },
            outcome: Outcome::Running,
            after: None,
        }
    }
}

// === impl Event ===

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evaluate { snapshot, .. } => f.debug_struct("Evaluate").field("at", &snapshot.at).finish(),
            Self::EffectFailed {
                effect,
                message,
                permanent,
            } => f
                .debug_struct("EffectFailed")
                .field("effect", effect)
                .field("message", message)
                .field("permanent", permanent)
                .finish(),
        }
    }
}
