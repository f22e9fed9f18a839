//! The report at the end: for people, and as JSON.

use std::time::Instant;

use gma_cell::load::Report as LoadReport;
use gma_core::cluster::RoutingPlan;
use gma_core::decide::{Band, Decision, Direction};
use serde::Serialize;

use crate::controller::View;
use crate::counts::Counts;
use crate::timeline::TimelineEvent;

/// The WAN's step must bring the delay to this multiple of `offloadAbove`, else it shows little.
const LEAST_STEP: f64 = 1.3;

/// All that the playground found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) band_ms: [f64; 2],
    pub(crate) requests: Requests,
    pub(crate) counts: Counts,
    pub(crate) moves: Vec<Move>,
    pub(crate) timeline: Vec<TimelineEvent>,
}

/// What the users sent.
#[derive(Debug, Serialize)]
pub(crate) struct Requests {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
}

/// One move of the controller.
#[derive(Debug, Serialize)]
pub(crate) struct Move {
    pub(crate) direction: Direction,
    pub(crate) services: Vec<String>,
    /// From the change of the WAN to the first request that took the new way, as the filter counted it.
    pub(crate) step_to_first_shifted_request_s: Option<f64>,
    pub(crate) detection_s: f64,
    pub(crate) instances_ready_s: Option<f64>,
    pub(crate) propagation_s: Option<f64>,
    /// Mean at the load generator between the change of the WAN and the decision.
    pub(crate) delay_before_ms: Option<f64>,
    /// Mean at the load generator from the last weights to the verdict.
    pub(crate) delay_after_ms: Option<f64>,
    pub(crate) predicted_ms: Option<f64>,
    pub(crate) measured_ms: Option<f64>,
    pub(crate) predicted_change_ms: Option<f64>,
    pub(crate) measured_change_ms: Option<f64>,
    /// Weights at the edge after the move, percent to the edge by service.
    pub(crate) weights: Vec<(String, u32)>,
}

impl Move {
    pub(crate) fn new(
        decision: &Decision,
        view: &View,
        stepped: Instant,
        load_began: Instant,
        load: &LoadReport,
        routing: &RoutingPlan,
    ) -> Self {
        let instant = |time| view.instant(time);
        let since_step = |at: Instant| at.saturating_duration_since(stepped).as_secs_f64();
        let second = |at: Instant| at.saturating_duration_since(load_began).as_secs();
        let times = &decision.times;
        let decided = instant(times.decided);
        let first = times.first_shifted_request.map(instant);
        let ready = times.instances_ready.map(instant);
        let settled = times.weights_final.map(instant);
        let judged = times.verified.or(times.finished).map(instant);
        let offload = decision.direction() == Some(Direction::Offload);
        let short = |name: &gma_core::ids::ServiceName| {
            name.as_str().split('.').next().unwrap_or_default().to_owned()
        };
        let between = |from: u64, to: u64| (from < to).then(|| load.mean_ms_between(from..to)).flatten();
        Self {
            direction: decision.direction().unwrap_or(Direction::Offload),
            services: if offload { &decision.add } else { &decision.remove }
                .iter()
                .map(short)
                .collect(),
            step_to_first_shifted_request_s: first.map(since_step),
            detection_s: since_step(decided),
            instances_ready_s: ready.map(|at| at.saturating_duration_since(decided).as_secs_f64()),
            propagation_s: first.map(|at| {
                at.saturating_duration_since(ready.unwrap_or(decided))
                    .as_secs_f64()
            }),
            delay_before_ms: between(second(stepped) + 1, second(decided).max(second(stepped) + 2)),
            delay_after_ms: settled
                .zip(judged)
                .and_then(|(from, to)| between(second(from) + 1, second(to))),
            predicted_ms: decision.planned.as_ref().map(|plan| plan.predicted_us / 1_000.0),
            measured_ms: decision.after.map(|after| after.reading.value_us / 1_000.0),
            predicted_change_ms: decision.predicted_change_us().map(|us| us / 1_000.0),
            measured_change_ms: decision.after.map(|after| after.change_us / 1_000.0),
            weights: routing
                .0
                .iter()
                .filter_map(|(service, by_caller)| {
                    let at_edge = by_caller.get(&decision.edge)?.get(&decision.edge)?;
                    Some((short(service), *at_edge))
                })
                .collect(),
        }
    }
}

impl Report {
    /// What is not as it should be; empty: all is well.
    pub(crate) fn complaints(&self, band: Band) -> Vec<String> {
        let mut complaints = Vec::new();
        for direction in [Direction::Offload, Direction::Unoffload] {
            if !self.moves.iter().any(|made| made.direction == direction) {
                complaints.push(format!("no {direction:?} was made").to_lowercase());
            }
        }
        let least_ms = LEAST_STEP * band.offload_above_us() / 1_000.0;
        let offloads = self
            .moves
            .iter()
            .filter(|made| made.direction == Direction::Offload);
        for made in offloads.filter(|made| made.delay_before_ms.is_none_or(|before| before < least_ms)) {
            complaints.push(format!(
                "the delay before the offload was {}, not {least_ms:.0} ms at least",
                ms(made.delay_before_ms)
            ));
        }
        for made in &self.moves {
            let inside =
                |ms: f64| (band.unoffload_below_us()..=band.offload_above_us()).contains(&(ms * 1_000.0));
            if !made.delay_after_ms.is_some_and(inside) {
                complaints.push(format!(
                    "the delay after the {:?} was {}, outside the band",
                    made.direction,
                    ms(made.delay_after_ms)
                ));
            }
        }
        if self.requests.failed > 0 {
            complaints.push(format!(
                "{} of {} requests failed",
                self.requests.failed, self.requests.sent
            ));
        }
        if !self.counts.equal() {
            complaints.push("the three counts differ".to_owned());
        }
        complaints
    }

    /// Prints it for people.
    pub(crate) fn print(&self) {
        let [lower, upper] = self.band_ms;
        println!("\nseed {}, band {lower} .. {upper} ms\n", self.seed);
        for made in &self.moves {
            println!("{:?} of {}", made.direction, made.services.join(", "));
            println!(
                "  delay before / after      {} / {}",
                ms(made.delay_before_ms),
                ms(made.delay_after_ms)
            );
            println!(
                "  predicted / measured      {} / {}",
                ms(made.predicted_ms),
                ms(made.measured_ms)
            );
            println!(
                "  change, the same          {} / {}",
                ms(made.predicted_change_ms),
                ms(made.measured_change_ms)
            );
            println!(
                "  step to first shifted     {}  (detection {:.1} s, instances {}, propagation {})",
                seconds(made.step_to_first_shifted_request_s),
                made.detection_s,
                seconds(made.instances_ready_s),
                seconds(made.propagation_s)
            );
            let weights: Vec<String> = made
                .weights
                .iter()
                .map(|(service, weight)| format!("{service} {weight}"))
                .collect();
            let weights = if weights.is_empty() {
                "all to the cloud".to_owned()
            } else {
                weights.join(", ")
            };
            println!("  weights at the edge       {weights}\n");
        }
        println!(
            "requests sent / failed      {} / {}",
            self.requests.sent, self.requests.failed
        );
        println!(
            "counted by load, Envoy, filter  {} / {} / {}",
            self.counts.load_generator, self.counts.envoy, self.counts.filter
        );
    }
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"))
}
