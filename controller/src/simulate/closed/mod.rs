//! The closed loop on a simulated world: real reports, real telemetry, the real planner and the real decision machine.
//!
//! ```text
//!  gma_core::world ──counts──► filters ──reports, lost, late, twice──► gma_telemetry ──Snapshot──┐
//!        ▲                                                                                       ▼
//!        └───────────── effects, some failed or lost ◄──── gma_core::decide ◄──── MeasuredPlanner ┘
//! ```
//!
//! [`run`] plays a [`Scenario`] and checks after every step what must hold; a failure carries its story.

mod controller;
mod filters;
mod rules;
mod scenario;
mod story;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use gma_core::decide::{Config, Direction, Effect, Outcome, State, Trigger};
use gma_core::world::{Draw, Users, World};
use serde::Serialize;

use crate::memory::Memory;
use controller::Controller;
use filters::Filters;
use rules::Rules;

pub use filters::Network;
pub use rules::MOST_TURNS_AN_HOUR;
pub use scenario::{Fault, Scenario};
pub use story::{Failure, Story};
pub use sweep::{Sweep, sweep};

/// World ticks in a round of the control loop.
const TICKS_A_ROUND: u32 = 2;
/// Users leave at the end, and all that was counted arrives within this: longer than the longest wait before a report is
/// sent again, a round trip, and a heartbeat.
const FLUSH: Duration = Duration::from_secs(45);
/// Inputs that are constant for this long find the machine at rest; counted anew where a move that went back is tried again.
pub const AT_REST_AFTER: Duration = Duration::from_secs(300);
/// How long a delay at the very bound takes to be told from it is not bounded: a single decision may come late, if rest follows
/// it. So who is not at rest in time goes on for this long, and has to be for [`AT_REST_AFTER`] in the end.
const LATE: Duration = Duration::from_secs(900);

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Seed.
    pub seed: u64,
    /// User requests.
    pub requests: u64,
    /// Requests that all proxies counted.
    pub counted: u64,
    /// Moves that began because the delay left the band.
    pub moves: usize,
    /// Those that were kept.
    pub kept: usize,
    /// Those that went back.
    pub rolled_back: usize,
    /// Decisions that began, by their kind.
    pub decisions: BTreeMap<&'static str, usize>,
    /// Faults, by their kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Seconds of constant inputs, or since a move that went back was last tried again, after which nothing was written any
    /// more.
    pub rest_after_s: f64,
    /// Rest came later than after [`AT_REST_AFTER`].
    pub is_late: bool,
    /// Changes of direction under constant inputs, at the edge with most.
    pub turns: usize,
    /// Constant inputs did not bring it to rest: the story.
    #[serde(skip)]
    pub restless: Option<Failure>,
}

/// A world under a controller.
#[derive(Debug)]
pub struct Simulation {
    world: World,
    filters: Filters,
    config: Config,
    controller: Option<Controller>,
    /// When a controller that is away starts again, and with what.
    back: Option<(Duration, Option<Memory>)>,
    effects: (f64, f64),
    draw: Draw,
    rules: Rules,
    story: Story,
    users: Users,
    summary: Summary,
    ticks: u32,
}

/// What one tick showed; with a round in it every second one.
#[derive(Debug)]
pub struct Look<'a> {
    /// The world.
    pub world: &'a World,
    /// What the controller remembers; none while it is away.
    pub state: Option<&'a State>,
    /// What users of each edge saw in this tick.
    pub users: &'a [Users],
    /// What the control loop did in this tick.
    pub effects: &'a [Effect],
}

// === impl Simulation ===

impl Simulation {
    /// A world in which nothing has happened yet.
    pub fn new(scenario: &Scenario) -> Self {
        let config = scenario.config.clone();
        Self {
            world: World::new(scenario.spec.clone()),
            filters: Filters::new(scenario.seed),
            controller: Some(Controller::start(&config, None, Duration::ZERO)),
            config,
            back: None,
            effects: (0.0, 0.0),
            draw: Draw::new(scenario.seed, 4),
            rules: Rules::default(),
            story: Story::new(scenario),
            users: Users::default(),
            summary: Summary {
                seed: scenario.seed,
                ..Summary::default()
            },
            ticks: 0,
        }
    }

    /// Goes on by a tick.
    ///
    /// # Errors
    /// A rule is broken: which.
    pub fn tick(&mut self, watch: &mut dyn FnMut(&Look<'_>)) -> Result<(), String> {
        self.world.tick();
        self.ticks += 1;
        let now = self.world.now();
        if let Some((_, memory)) = self.back.take_if(|(at, _)| *at <= now) {
            self.story.tell(now, "the controller starts");
            self.rules.restarted(&self.world);
            self.controller = Some(Controller::start(&self.config, memory, now));
        }
        self.filters.tick(&mut self.world);
        let controller = &mut self.controller;
        self.filters.deliver(now, |body, at| {
            controller
                .as_mut()
                .and_then(|controller| controller.take(body, at))
        });
        let effects = if self.ticks.is_multiple_of(TICKS_A_ROUND) {
            self.round()?
        } else {
            Vec::new()
        };
        let users = self.world.take_users();
        for seen in &users {
            self.users.requests += seen.requests;
        }
        watch(&Look {
            world: &self.world,
            state: self.controller.as_ref().map(|controller| &controller.state),
            users: &users,
            effects: &effects,
        });
        Ok(())
    }

    fn round(&mut self) -> Result<Vec<Effect>, String> {
        let Some(controller) = &mut self.controller else {
            return Ok(Vec::new());
        };
        let now = self.world.now();
        let (seen, effects) = controller.round(&self.world, &self.config);
        self.story.round(now, &controller.state, &effects);
        let can_act = self.effects == (0.0, 0.0);
        self.rules
            .check(&seen, &effects, &self.world, &self.config, can_act)?;
        for effect in &effects {
            self.count(effect);
            if matches!(effect, Effect::Record { .. }) {
                continue;
            }
            let luck = self.draw.unit();
            let unreachable = is_cut(&self.world, effect);
            if unreachable || luck < self.effects.0 {
                if let Some(controller) = &mut self.controller {
                    controller.failed(effect, &self.world, &self.config);
                }
            } else if luck >= self.effects.0 + self.effects.1 {
                self.world.perform(effect);
            }
        }
        Ok(effects)
    }

    fn count(&mut self, effect: &Effect) {
        let Effect::Record { decision } = effect else {
            return;
        };
        if decision.outcome == Outcome::Running {
            *self.summary.decisions.entry(kind(&decision.trigger)).or_default() += 1;
        }
        if !matches!(decision.trigger, Trigger::Band { .. }) {
            return;
        }
        match decision.outcome {
            Outcome::Running => self.summary.moves += 1,
            Outcome::Kept => self.summary.kept += 1,
            Outcome::RolledBack { .. } => self.summary.rolled_back += 1,
            Outcome::Recommended | Outcome::Unverified | Outcome::Abandoned { .. } => {}
        }
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// The controller's memory does not read back.
    pub fn happen(&mut self, fault: &Fault) -> Result<(), String> {
        let now = self.world.now();
        self.story.tell(now, &format!("{fault:?}"));
        if let Some(kind) = fault.kind() {
            *self.summary.faults.entry(kind).or_default() += 1;
        }
        match fault {
            Fault::World(change) => self.world.change(change),
            Fault::Network(network) => self.filters.network = network.clone(),
            Fault::Blind(picked) => self.blind(*picked, false),
            Fault::Deaf(picked) => self.blind(*picked, true),
            Fault::Restart { away, is_saved } => {
                let saved = match (self.controller.take(), self.back.take()) {
                    (Some(controller), _) => Some(controller.memory(now)?),
                    (None, Some((_, memory))) => memory,
                    (None, None) => None,
                };
                if !is_saved {
                    self.rules.forget();
                }
                let memory = saved.filter(|_| *is_saved);
                self.back = Some((now + *away, memory));
            }
            Fault::Effects { failed, lost } => self.effects = (*failed, *lost),
        }
        Ok(())
    }

    fn blind(&mut self, picked: u64, all: bool) {
        let alive: Vec<&mut gma_core::world::Proxy> = self
            .world
            .proxies_mut()
            .iter_mut()
            .filter(|proxy| proxy.is_alive)
            .collect();
        let at = (picked % alive.len().max(1) as u64) as usize;
        if let Some(proxy) = alive.into_iter().nth(at) {
            let workers = if all { proxy.workers.len() } else { 1 };
            proxy
                .workers
                .iter_mut()
                .take(workers)
                .for_each(|worker| worker.is_blind = true);
            self.story.tell(self.world.now(), "that one is blind");
        }
    }

    /// Constant inputs, or the time since a move that went back was last tried again, after which nothing was written any more:
    /// who tries again after a failure and its back-off begins anew.
    fn rest_after(&self, constant_from: Duration) -> Duration {
        let quiet_from = constant_from.max(self.rules.retried);
        self.rules.written.saturating_sub(quiet_from)
    }

    /// What it does that is no rest.
    fn work(&self, constant_from: Duration) -> Option<String> {
        let rest_after = self.rest_after(constant_from);
        let was_quiet = self.world.now().saturating_sub(self.rules.written) >= AT_REST_AFTER;
        (rest_after > AT_REST_AFTER && !was_quiet).then(|| {
            let seconds = rest_after.as_secs();
            format!("still at work after {seconds} s of constant inputs and no second try")
        })
    }

    /// Moves that turn too often.
    fn flapping(&self, constant_from: Duration) -> Option<String> {
        let turns = self.rules.turns(constant_from);
        let hours = self.world.now().saturating_sub(constant_from).as_secs_f64() / 3600.0;
        let most = (MOST_TURNS_AN_HOUR as f64 * hours).ceil() as usize;
        (turns > most).then(|| {
            format!("{turns} moves turned against the one before under constant inputs, at most {most}")
        })
    }

    /// All that was counted has arrived, once.
    fn check_counts(&self) -> Result<u64, String> {
        let Some(controller) = &self.controller else {
            return Err("the controller is away at the end".to_owned());
        };
        let accounting = controller.telemetry.accounting();
        let mut heard = BTreeMap::new();
        for key in &accounting.keys {
            *heard.entry(key.node.as_str()).or_insert(0) += key.count + key.long_count;
        }
        for node in &accounting.nodes {
            let unmeasured: u64 = node.unmeasured.values().sum();
            *heard.entry(node.node.as_str()).or_insert(0) += node.retired + unmeasured;
        }
        let mut counted = 0;
        for proxy in self.world.proxies() {
            let truth: u64 = proxy.workers.iter().map(|worker| worker.counted).sum();
            let told = heard.get(proxy.node.as_str()).copied().unwrap_or(0);
            let whole = proxy.is_alive && proxy.workers.iter().all(|worker| !worker.is_blind);
            if told > truth || (whole && told != truth) {
                return Err(format!(
                    "{} counted {truth} requests, the controller has {told}",
                    proxy.node
                ));
            }
            counted += truth;
        }
        Ok(counted)
    }
}

const fn kind(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Band { direction, .. } => match direction {
            Direction::Offload => "offload",
            Direction::Unoffload => "unoffload",
        },
        Trigger::Overload { .. } => "overload",
        Trigger::OverloadOver { .. } => "overload over",
        Trigger::InstanceFailed => "instance failed",
        Trigger::Failing => "calls fail",
        Trigger::Unfinished => "unfinished",
    }
}

/// Whether an effect has to cross a link that is cut.
fn is_cut(world: &World, effect: &Effect) -> bool {
    let (Effect::Ensure { area, .. } | Effect::Remove { area, .. }) = effect else {
        return false;
    };
    let edge = world.spec().edges.iter().position(|edge| edge.name == *area);
    edge.is_some_and(|edge| world.rtt_us(edge).is_none())
}

/// Plays a scenario to its end.
///
/// # Errors
/// What does not hold, with the story so far.
pub fn run(scenario: &Scenario) -> Result<Summary, Box<Failure>> {
    let mut simulation = Simulation::new(scenario);
    match play(&mut simulation, scenario) {
        Ok(summary) => Ok(summary),
        Err(what) => {
            let now = simulation.world.now();
            Err(Box::new(simulation.story.fail(now, what)))
        }
    }
}

/// Plays a scenario and tells what happened, whether it kept the rules or not.
pub fn tell(scenario: &Scenario) -> Failure {
    let mut simulation = Simulation::new(scenario);
    let what = match play(&mut simulation, scenario) {
        Ok(Summary {
            restless: Some(failure),
            ..
        }) => failure.what,
        Ok(summary) => format!("it kept the rules: {summary:?}"),
        Err(what) => what,
    };
    let now = simulation.world.now();
    simulation.story.fail(now, what)
}

fn play(simulation: &mut Simulation, scenario: &Scenario) -> Result<Summary, String> {
    let mut faults = scenario.faults.iter().peekable();
    while simulation.world.now() < scenario.end {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= simulation.world.now()) {
            simulation.happen(fault)?;
        }
        simulation.tick(&mut |_| {})?;
    }
    let is_late = simulation.work(scenario.constant_from).is_some();
    let mut restless = simulation.flapping(scenario.constant_from);
    if is_late && restless.is_none() {
        let until = scenario.end + LATE;
        while simulation.world.now() < until {
            simulation.tick(&mut |_| {})?;
        }
        restless = simulation.flapping(scenario.constant_from);
        restless = restless.or_else(|| simulation.work(scenario.constant_from));
    }
    let rest_after = simulation.rest_after(scenario.constant_from);
    let turns = simulation.rules.turns(scenario.constant_from);
    let restless = restless.map(|what| simulation.story.fail(simulation.world.now(), what));
    let now = simulation.world.now();
    if let Some(controller) = &simulation.controller {
        simulation.story.readings(now, &controller.state);
    }
    for edge in 0..scenario.spec.edges.len() {
        simulation
            .world
            .change(&gma_core::world::Change::Rate { edge, rate: 0.0 });
    }
    simulation.story.tell(simulation.world.now(), "users leave");
    let until = simulation.world.now() + FLUSH;
    while simulation.world.now() < until {
        simulation.tick(&mut |_| {})?;
    }
    let counted = simulation.check_counts()?;
    Ok(Summary {
        requests: simulation.users.requests,
        counted,
        rest_after_s: rest_after.as_secs_f64(),
        is_late,
        turns,
        restless,
        ..simulation.summary.clone()
    })
}
