//! Does the machine hold still on noise, and move on a step?
//!
//! Users of one edge: 200 requests a second ±30 %, delays log-normal with σ 0.5 times a level that follows AR(1) (φ 0.9
//! from 0.1 s to 0.1 s, sd 3 %), and once a minute a second at twice the delay, which counts in the true value. Slots are
//! drawn with their histograms, as telemetry hands them out, and put before the decision machine; a planner that always has
//! an answer stands in for the real one, so each question that is asked becomes an action.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gma_core::cluster::{Cluster, Instance, Phase, RoutingPlan};
use gma_core::decide::{
    self, Ask, Band, Config, Direction, Effect, Event, Mode, NoPlan, Objective, Outcome, PlannedMove,
    Planner, State, Statistic,
};
use gma_core::ids::{AreaName, Timestamp};
use gma_core::snapshot::{
    Coverage, DELAY_SLOT, DelaySlot, DelayStats, EdgeSnapshot, MAX_DELAY_SLOTS, Measured, OutcomeCounts,
    Snapshot,
};
use gma_core::world::{Draw, LogNormal};
use gma_telemetry::report::histogram::{bucket_of, highest_us, lowest_us};
use serde::Serialize;

use crate::control::WINDOW;

/// Steps of the level in a slot.
const STEPS_A_SLOT: usize = 5;
const RATE: f64 = 200.0;
const RATE_SPREAD: f64 = 0.3;
const SIGMA: f64 = 0.5;
const LEVEL_SD: f64 = 0.03;
const LEVEL_PHI: f64 = 0.9;
const SLOTS_A_MINUTE: u64 = 120;
const SLOTS_AN_HOUR: u64 = 7_200;
/// The doubled second of each minute.
const DOUBLED: std::ops::Range<u64> = 60..62;
/// The default band.
const BAND_MS: (u64, u64) = (60, 120);
/// Slots that are not reported yet when one looks: gateways are paced to one slot, and the newest is not whole.
const LAG: u64 = 2;
/// Steps must be answered within this.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Hours in one piece of the noise row, each with its own seed.
const PIECE_HOURS: u64 = 10;

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `mean`, `p50` or `p95`.
    pub statistic: &'static str,
    /// True value over the bound that it is held against.
    pub at: &'static str,
    /// Simulated hours, or seeds.
    pub runs: u64,
    /// Noise: actions, of which none is right. Step: seeds without an action in time.
    pub wrong: u64,
    /// Step: median time from the step to the plan, seconds.
    pub median_s: Option<f64>,
    /// Step: longest.
    pub longest_s: Option<f64>,
}

/// Which way is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Upper,
    Lower,
}

/// The statistics that there are rows for, and their names.
pub const STATISTICS: [(Statistic, &str); 3] = [
    (Statistic::Mean, "mean"),
    (Statistic::P50, "p50"),
    (Statistic::P95, "p95"),
];

// === the users ===

/// Draws slots.
struct Users {
    draw: Draw,
    own: LogNormal,
    level: f64,
    rate: f64,
    slot: u64,
}

// === impl Users ===

impl Users {
    fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed, 5),
            own: LogNormal::new(SIGMA),
            level: 1.0,
            rate: RATE,
            slot: 0,
        }
    }

    /// The next slot at a mean of `mean_us` (before the doubled second); `step` is the step of the slot from which on
    /// the second mean holds.
    fn slot(&mut self, mean_us: f64, step: Option<(usize, f64)>) -> DelaySlot {
        let doubled = DOUBLED.contains(&(self.slot % SLOTS_A_MINUTE));
        if self.slot.is_multiple_of(2) {
            self.rate = RATE * self.draw.between(1.0 - RATE_SPREAD, 1.0 + RATE_SPREAD);
        }
        self.slot += 1;
        let mut buckets: BTreeMap<usize, u32> = BTreeMap::new();
        let (mut count, mut sum_us) = (0, 0.0);
        for number in 0..STEPS_A_SLOT {
            let noise = LEVEL_SD * (1.0 - LEVEL_PHI * LEVEL_PHI).sqrt() * self.draw.normal();
            self.level = 1.0 + LEVEL_PHI * (self.level - 1.0) + noise;
            let base_us = step
                .filter(|(from, _)| number >= *from)
                .map_or(mean_us, |(_, us)| us);
            let now_us = base_us * self.level * if doubled { 2.0 } else { 1.0 };
            let requests = self
                .draw
                .poisson(self.rate * DELAY_SLOT.as_secs_f64() / STEPS_A_SLOT as f64);
            count += u64::from(requests);
            for _ in 0..requests {
                let us = now_us * self.own.draw(&mut self.draw);
                sum_us += us;
                *buckets.entry(bucket_of(us as u64)).or_default() += 1;
            }
        }
        let middle =
            |(bucket, count): (usize, u32)| (lowest_us(bucket).midpoint(highest_us(bucket)) as u32, count);
        DelaySlot {
            count,
            sum_us: sum_us as u64,
            buckets: buckets.into_iter().map(middle).collect::<Arc<[_]>>(),
        }
    }
}

/// The statistic's true value at a mean of 1 before the doubled second, from 2,000 minutes.
fn true_value(statistic: Statistic) -> f64 {
    let mut users = Users::new(0);
    let (mut count, mut sum, mut buckets) = (0, 0, BTreeMap::new());
    for _ in 0..2_000 * SLOTS_A_MINUTE {
        let slot = users.slot(1e6, None);
        (count, sum) = (count + slot.count, sum + slot.sum_us);
        for (us, n) in slot.buckets.iter() {
            *buckets.entry(*us).or_insert(0_u64) += u64::from(*n);
        }
    }
    let Some(share) = statistic.share() else {
        return sum as f64 / count as f64 / 1e6;
    };
    let mut below = 0.0;
    let found = buckets.into_iter().find(|(_, n)| {
        below += *n as f64;
        below >= share * count as f64
    });
    found.map_or(1.0, |(us, _)| f64::from(us) / 1e6)
}

// === the machine ===

/// Always has an answer.
#[derive(Debug)]
struct Willing;

impl Planner for Willing {
    fn plan(
        &self,
        asks: &[Ask],
        _: &Snapshot,
        _: &Cluster,
    ) -> BTreeMap<AreaName, Result<PlannedMove, NoPlan>> {
        let answer = |ask: &Ask| {
            let (add, remove, measured_us) = match ask.direction {
                Direction::Offload => (["cart".into()].into(), [].into(), ask.target_us * 2.0),
                Direction::Unoffload => ([].into(), ["front".into()].into(), ask.target_us / 2.0),
            };
            let planned = PlannedMove {
                cloud_replicas: BTreeMap::new(),
                add,
                remove,
                measured_us,
                delay: None,
                predicted_us: ask.target_us,
                cost_before: 2.0,
                cost_after: 1.0,
                reasons: "it stands in for a planner".to_owned(),
                search: None,
            };
            (ask.edge.clone(), Ok(planned))
        };
        asks.iter().map(answer).collect()
    }
}

/// The machine before slots of one edge.
struct Watched {
    config: Config,
    cluster: Cluster,
    snapshot: Snapshot,
    state: State,
    edge: AreaName,
    /// Slots that are not reported yet.
    late: std::collections::VecDeque<DelaySlot>,
    at: u64,
}

// === impl Watched ===

impl Watched {
    fn new(statistic: Statistic) -> Self {
        let (cloud, edge) = (AreaName::from("cloud"), AreaName::from("edge-1"));
        let mut config = Config::new(cloud.clone(), [edge.clone()]);
        config.mode = Mode::Enforce;
        let band = Band::try_new(Duration::from_millis(BAND_MS.0), Duration::from_millis(BAND_MS.1));
        let objective = Objective {
            standby: None,
            band: band.unwrap_or_default(),
            statistic,
        };
        config.edges.insert(edge.clone(), objective);
        let instance = |service: &str, area: &AreaName| Instance {
            service: service.into(),
            area: area.clone(),
            phase: Phase::Ready,
            reason: None,
            replicas: 1,
            cpu_seconds: None,
            memory_bytes: None,
            autoscaler_wants: None,
        };
        let row = [(edge.clone(), 99), (cloud.clone(), 1)].into();
        let rule = BTreeMap::from([
            (edge.clone(), row),
            (cloud.clone(), [(cloud.clone(), 100)].into()),
        ]);
        Self {
            cluster: Cluster {
                instances: vec![
                    instance("cart", &cloud),
                    instance("front", &cloud),
                    instance("front", &edge),
                ],
                routing: RoutingPlan([("front".into(), rule)].into()),
                ..Cluster::default()
            },
            snapshot: Snapshot {
                at: Timestamp::default(),
                window: WINDOW,
                edges: [(edge.clone(), edge_snapshot())].into(),
                calls: Vec::new(),
                received: Vec::new(),
                coverage: Vec::new(),
                network: Vec::new(),
            },
            state: State::default(),
            config,
            edge,
            late: std::collections::VecDeque::new(),
            at: 0,
        }
    }

    /// One evaluation; whether an action begins.
    fn evaluate(&mut self, slot: DelaySlot) -> bool {
        self.at += 1;
        let now = slot_end(self.at);
        self.late.push_back(slot);
        if self.late.len() as u64 > LAG
            && let (Some(edge), Some(slot)) = (self.snapshot.edges.get_mut(&self.edge), self.late.pop_front())
        {
            see(edge, slot);
            edge.slots_end =
                Timestamp::from_start(DELAY_SLOT * u32::try_from(self.at - LAG).unwrap_or(u32::MAX));
            edge.slots_end = slot_end(self.at - LAG);
        }
        self.snapshot.at = now;
        let event = Event::Evaluate {
            snapshot: &self.snapshot,
            cluster: &self.cluster,
            planner: &Willing,
        };
        let (state, effects) = decide::step(std::mem::take(&mut self.state), event, now, &self.config);
        self.state = state;
        effects.iter().any(|effect| match effect {
            Effect::Record { decision } => {
                decision.outcome == Outcome::Running && decision.direction().is_some()
            }
            _ => false,
        })
    }
}

fn slot_end(slots: u64) -> Timestamp {
    Timestamp::from_start(DELAY_SLOT * u32::try_from(slots).unwrap_or(u32::MAX))
}

fn edge_snapshot() -> EdgeSnapshot {
    EdgeSnapshot {
        user_delay: Measured::NotYet,
        outcomes: OutcomeCounts::default(),
        rate_rps: RATE,
        rtt: Measured::Present {
            value: Duration::from_millis(40),
        },
        report_age: Measured::Present { value: DELAY_SLOT },
        slots: Vec::new(),
        slots_end: Timestamp::default(),
        coverage: Coverage {
            expected: 1,
            heard: 1,
            blind: 0,
        },
    }
}

/// Takes a slot into a snapshot, and the statistics of its window.
fn see(edge: &mut EdgeSnapshot, slot: DelaySlot) {
    if edge.slots.len() == MAX_DELAY_SLOTS {
        edge.slots.remove(0);
    }
    edge.slots.push(slot);
    let recent = edge.slots.iter().rev().take(8);
    let (count, sum_us) = recent.fold((0, 0), |(count, sum), slot| {
        (count + slot.count, sum + slot.sum_us)
    });
    edge.outcomes.ok = count;
    let mean_us = sum_us as f64 / count.max(1) as f64;
    edge.user_delay = Measured::Present {
        value: DelayStats {
            count,
            mean_us,
            p50_us: mean_us as u64,
            p90_us: mean_us as u64,
            p95_us: mean_us as u64,
            p99_us: mean_us as u64,
        },
    };
}

// === the rows ===

/// Noise at 0.9 times the upper and 1.1 times the lower bound: `hours` for each statistic. `done` is called with
/// the hours that were done.
pub fn noise(statistics: &[Statistic], hours: u64, threads: usize, done: &(dyn Fn(u64) + Sync)) -> Vec<Row> {
    rows(statistics, |statistic, name, side| {
        let (bound_ms, factor, at) = match side {
            Side::Upper => (BAND_MS.1, 0.9, "0.9 × upper"),
            Side::Lower => (BAND_MS.0, 1.1, "1.1 × lower"),
        };
        let mean_us = bound_ms as f64 * 1e3 * factor / true_value(statistic);
        let actions = AtomicU64::new(0);
        let pieces = hours.div_ceil(PIECE_HOURS);
        on_cores(pieces, threads, &|piece| {
            let hours = PIECE_HOURS.min(hours - piece * PIECE_HOURS);
            let mut users = Users::new(piece + 1);
            let mut watched = Watched::new(statistic);
            for _ in 0..hours * SLOTS_AN_HOUR {
                if watched.evaluate(users.slot(mean_us, None)) {
                    actions.fetch_add(1, Ordering::Relaxed);
                    watched.state = State::default();
                }
            }
            done(hours);
        });
        Row {
            statistic: name,
            at,
            runs: hours,
            wrong: actions.into_inner(),
            median_s: None,
            longest_s: None,
        }
    })
}

/// A step from the middle of the band to 1.2 times the upper and 0.8 times the lower bound, under the same noise.
pub fn steps(statistics: &[Statistic], seeds: u64, threads: usize, done: &(dyn Fn(u64) + Sync)) -> Vec<Row> {
    rows(statistics, |statistic, name, side| {
        let (bound_ms, factor, at) = match side {
            Side::Upper => (BAND_MS.1, 1.2, "1.2 × upper"),
            Side::Lower => (BAND_MS.0, 0.8, "0.8 × lower"),
        };
        let unit = true_value(statistic);
        let middle_us = (BAND_MS.0 + BAND_MS.1) as f64 / 2.0 * 1e3 / unit;
        let after_us = bound_ms as f64 * 1e3 * factor / unit;
        let times = std::sync::Mutex::new(Vec::new());
        on_cores(seeds, threads, &|seed| {
            let time = step(statistic, seed, middle_us, after_us);
            times
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(time);
            done(1);
        });
        let mut times = times
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        times.sort_unstable_by(f64::total_cmp);
        let late = times
            .iter()
            .filter(|time| **time > ANSWERED_WITHIN.as_secs_f64())
            .count();
        Row {
            statistic: name,
            at,
            runs: seeds,
            wrong: late as u64,
            median_s: times.get(times.len() / 2).copied(),
            longest_s: times.last().copied(),
        }
    })
}

/// Time from a step to the plan, seconds; infinite where there was none within a minute, or one before.
fn step(statistic: Statistic, seed: u64, before_us: f64, after_us: f64) -> f64 {
    let mut users = Users::new(1_000_000 + seed);
    let mut watched = Watched::new(statistic);
    let quiet = 120 + users.draw.below(480);
    for _ in 0..quiet {
        if watched.evaluate(users.slot(before_us, None)) {
            return f64::INFINITY;
        }
    }
    let from = users.draw.below(STEPS_A_SLOT);
    let early_s = from as f64 / STEPS_A_SLOT as f64 * DELAY_SLOT.as_secs_f64();
    let mut slot = users.slot(before_us, Some((from, after_us)));
    for number in 1..=120 {
        if watched.evaluate(slot) {
            return f64::from(number) * DELAY_SLOT.as_secs_f64() - early_s;
        }
        slot = users.slot(after_us, None);
    }
    f64::INFINITY
}

fn rows(statistics: &[Statistic], mut row: impl FnMut(Statistic, &'static str, Side) -> Row) -> Vec<Row> {
    let mut rows = Vec::new();
    let wanted = |(statistic, _): &(Statistic, _)| statistics.contains(statistic);
    for (statistic, name) in STATISTICS.into_iter().filter(wanted) {
        for side in [Side::Upper, Side::Lower] {
            rows.push(row(statistic, name, side));
        }
    }
    rows
}

fn on_cores(pieces: u64, threads: usize, work: &(dyn Fn(u64) + Sync)) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    if piece >= pieces {
                        return;
                    }
                    work(piece);
                }
            });
        }
    });
}
