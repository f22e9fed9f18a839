//! What a run told: faults, phases and effects with their times, and how to play it again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gma_core::cluster::RoutingPlan;
use gma_core::decide::{Effect, HoldReason, Phase, State};
use gma_core::ids::{AreaName, ServiceName};

use super::scenario::Scenario;

/// Lines that a story keeps; the oldest go.
const MOST_LINES: usize = 400;
/// Last lines that a failure prints.
const SHOWN_LINES: usize = 120;

/// What happened so far.
#[derive(Clone, Debug)]
pub struct Story {
    seed: u64,
    head: String,
    lines: std::collections::VecDeque<String>,
    phases: BTreeMap<AreaName, String>,
    last: String,
    shares: Shares,
}

/// A rule that was broken, and how it came to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Plays it again.
    pub seed: u64,
    /// What does not hold.
    pub what: String,
    /// How it came to that.
    pub story: String,
}

// === impl Story ===

impl Story {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let names = scenario.spec.services.iter().map(|spec| {
            let calls = spec.groups.iter().map(|group| {
                let calls = group
                    .iter()
                    .map(|call| format!("s{} {:.2}", call.callee, call.per_request));
                calls.collect::<Vec<_>>().join(" + ")
            });
            let calls = calls.collect::<Vec<_>>().join(", then ");
            format!(
                "{} {:.1} ms, {} replicas [{calls}]",
                spec.name,
                spec.own_us / 1e3,
                spec.replicas
            )
        });
        let edges = scenario.spec.edges.iter().map(|edge| {
            let objective = scenario.config.edges.get(&edge.name).copied().unwrap_or_default();
            format!(
                "{}: rtt {:.0} ms, {:.0} requests/s, {:?} in {:.0} … {:.0} ms",
                edge.name,
                edge.rtt_us / 1e3,
                edge.load.at(Duration::ZERO),
                objective.statistic,
                objective.band.unoffload_below_us() / 1e3,
                objective.band.offload_above_us() / 1e3
            )
        });
        let head = names.chain(edges).map(|line| format!("  {line}\n")).collect();
        Self {
            seed: scenario.seed,
            head,
            lines: std::collections::VecDeque::new(),
            phases: BTreeMap::new(),
            last: String::new(),
            shares: Shares::new(),
        }
    }

    /// Adds a line.
    pub(super) fn tell(&mut self, now: Duration, what: &str) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:8.2} {what}", now.as_secs_f64()));
    }

    /// Tells what a round changed; effects that are repeated are told once.
    pub(super) fn round(&mut self, now: Duration, state: &State, effects: &[Effect]) {
        for (edge, machine) in &state.edges {
            let phase = phase(&machine.phase);
            if self.phases.get(edge) != Some(&phase) {
                let delay = machine.reading.map_or(String::new(), |reading| {
                    format!(
                        ", {:.1} ms of {} requests",
                        reading.value_us / 1e3,
                        reading.requests
                    )
                });
                self.tell(now, &format!("{edge}: {phase}{delay}"));
                self.phases.insert(edge.clone(), phase);
            }
        }
        let told: Vec<String> = effects.iter().map(|one| effect(one, &mut self.shares)).collect();
        let told = told.join("; ");
        if !told.is_empty() && told != self.last {
            self.tell(now, &told);
        }
        self.last = told;
    }

    /// What each edge reads, and in whole what it does.
    pub(super) fn readings(&mut self, now: Duration, state: &State) {
        for (edge, machine) in &state.edges {
            let delay = machine.reading.map_or("nothing".to_owned(), |reading| {
                format!("{:.1} ms", reading.value_us / 1e3)
            });
            let what = match &machine.phase {
                Phase::Held { reason, .. } => format!("held, {reason}"),
                other => phase(other),
            };
            self.tell(now, &format!("{edge} reads {delay}: {what}"));
        }
    }

    /// The end of a story.
    pub(super) fn fail(&self, now: Duration, what: String) -> Failure {
        let skipped = self.lines.len().saturating_sub(SHOWN_LINES);
        let lines: Vec<&str> = self.lines.iter().skip(skipped).map(String::as_str).collect();
        let story = format!(
            "{}{}\n{:8.2} {what}",
            self.head,
            lines.join("\n"),
            now.as_secs_f64()
        );
        Failure {
            seed: self.seed,
            what,
            story,
        }
    }
}

fn phase(phase: &Phase) -> String {
    match phase {
        Phase::Observing => "observing".to_owned(),
        Phase::Alarmed { alarm } => format!("alarmed, {:?}", alarm.direction),
        Phase::Acting { progress, .. } => progress.sentence(),
        Phase::Verifying { .. } => "verifying".to_owned(),
        Phase::Relieving { step, .. } => format!("relieving, {}", step.sentence()),
        Phase::RollingBack { cause, progress, .. } => {
            format!("rolling back ({cause}), {}", progress.sentence())
        }
        Phase::CoolingDown { .. } => "cooling down".to_owned(),
        Phase::Held {
            reason: HoldReason::NoPlan { why },
            ..
        } => format!("held, no plan: {}", kind(why)),
        Phase::Held { reason, .. } => format!("held, {}", kind(reason)),
    }
}

/// A variant's name.
fn kind(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// Percent for callers' own edge, by service and edge.
type Shares = BTreeMap<(ServiceName, AreaName), u32>;

fn shares(plan: &RoutingPlan) -> Shares {
    let rows = plan
        .0
        .iter()
        .flat_map(|(service, callers)| callers.iter().map(move |row| (service, row)));
    rows.filter(|(_, (caller, _))| caller.as_str() != "cloud")
        .map(|(service, (caller, weights))| {
            let own = weights.get(caller).copied().unwrap_or(0);
            ((service.clone(), caller.clone()), own)
        })
        .collect()
}

fn effect(effect: &Effect, known: &mut Shares) -> String {
    match effect {
        Effect::Ensure {
            service,
            area,
            replicas: 1,
        } => format!("ensure {service} at {area}"),
        Effect::Ensure {
            service,
            area,
            replicas,
        } => format!("ensure {replicas} of {service} at {area}"),
        Effect::Remove { service, area } => format!("remove {service} at {area}"),
        Effect::Scale {
            service,
            area,
            replicas,
        } => format!("scale {service} at {area} to {replicas}"),
        Effect::Route { plan } => {
            let shares = shares(plan);
            let changed = shares
                .iter()
                .filter(|(key, share)| known.get(*key).unwrap_or(&0) != *share);
            let told = changed.map(|((service, caller), share)| format!("{service}@{caller} {share} %"));
            let told = format!("route {}", told.collect::<Vec<_>>().join(", "));
            *known = shares;
            told
        }
        Effect::Record { decision } => format!("decision {}: {}", decision.id, decision.sentence()),
    }
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        writeln!(
            f,
            "play it again: make soak ARGS='--only seeds --first {} --seeds 1'",
            self.seed
        )?;
        writeln!(f, "{}", self.story)
    }
}

impl std::error::Error for Failure {}
