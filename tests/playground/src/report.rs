//! The report at the end: for people, and as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use crate::counts::Counts;
use crate::moves::Move;
use crate::scenario::Scenario;
use crate::stage::{Ended, Excuse, Seen, Setting};
use crate::timeline::TimelineEvent;

/// All that the playground found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) statistic: &'static str,
    pub(crate) band_ms: [f64; 2],
    pub(crate) edges: BTreeMap<String, EdgeReport>,
    pub(crate) moves: Vec<Move>,
    /// Over all offloads and unoffloads that have one.
    pub(crate) reaction_s: Option<Spread>,
    /// Share of the delay, of the same moves.
    pub(crate) error_of_delay: Option<Spread>,
    /// Share of the change, of the offloads: an unoffload changes little, which says little of the model.
    pub(crate) error_of_change: Option<Spread>,
    pub(crate) timeline: Vec<TimelineEvent>,
    /// What was not as it should be.
    pub(crate) complaints: Vec<String>,
}

/// What the users of an edge saw.
#[derive(Debug, Serialize)]
pub(crate) struct EdgeReport {
    pub(crate) rate_per_s: f64,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// Of them, those that had to.
    pub(crate) failed_excused: u64,
    pub(crate) excuses: Vec<&'static str>,
    /// More than these are too many.
    #[serde(skip)]
    pub(crate) most_excused: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) mean_ms: f64,
    pub(crate) counts: Counts,
}

/// A figure of several moves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) moves: usize,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

// === impl Report ===

impl Report {
    pub(crate) fn new(
        scenario: Scenario,
        setting: &Setting,
        seen: &Seen,
        timeline: Vec<TimelineEvent>,
    ) -> Self {
        use clap::ValueEnum as _;
        let name = scenario.to_possible_value();
        Self {
            scenario: name.map_or_else(String::new, |name| name.get_name().to_owned()),
            seed: setting.seed,
            statistic: setting.statistic,
            band_ms: [
                setting.band.unoffload_below_us() / 1_000.0,
                setting.band.offload_above_us() / 1_000.0,
            ],
            edges: BTreeMap::new(),
            moves: Vec::with_capacity(seen.moves.len()),
            reaction_s: None,
            error_of_delay: None,
            error_of_change: None,
            timeline,
            complaints: Vec::new(),
        }
    }

    /// Adds what an edge's users saw, and the moves at that edge.
    pub(crate) fn add_edge(&mut self, edge: &str, ended: &Ended, counts: Counts, seen: &Seen) {
        let load = &ended.report;
        let excused: Vec<&Excuse> = seen.excused.iter().filter(|excuse| excuse.edge == edge).collect();
        let second = |at: Instant| at.saturating_duration_since(ended.began).as_secs();
        let is_excused = |at: u64| {
            excused
                .iter()
                .any(|excuse| (second(excuse.from)..=second(excuse.to)).contains(&at))
        };
        let seconds = load.timeline.iter().filter(|second| is_excused(second.second));
        let report = EdgeReport {
            rate_per_s: load.rate_per_sec,
            sent: load.sent,
            failed: load.failed_total(),
            failed_excused: seconds.map(|second| second.failed).sum(),
            excuses: excused.iter().map(|excuse| excuse.why).collect(),
            most_excused: excused
                .iter()
                .fold(0, |sum, excuse| sum.saturating_add(excuse.most)),
            failures: load.failed.clone(),
            mean_ms: load.latency_ms.mean,
            counts,
        };
        self.edges.insert(edge.to_owned(), report);
        let of_edge = seen
            .moves
            .iter()
            .filter(|done| done.decision.edge.as_str() == edge);
        self.moves
            .extend(of_edge.map(|done| Move::new(done, ended.began, load)));
        let kept = || self.moves.iter().filter(|made| made.direction.is_some());
        self.reaction_s = Spread::of(kept().filter_map(|made| made.step_to_first_shifted_request_s));
        self.error_of_delay = Spread::of(kept().filter_map(Move::error_of_delay));
        let offloads = kept().filter(|made| made.name() == "offload");
        self.error_of_change = Spread::of(offloads.filter_map(Move::error_of_change));
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// Prints it for people.
    pub(crate) fn print(&self) {
        let [lower, upper] = self.band_ms;
        println!(
            "\n{}, seed {}, band of the {} {lower} .. {upper} ms\n",
            self.scenario, self.seed, self.statistic
        );
        for made in &self.moves {
            print_move(made);
        }
        for (name, edge) in &self.edges {
            print_edge(name, edge);
        }
        let percent = |spread: Spread| {
            format!(
                "median {:.1} %, most {:.1} %",
                100.0 * spread.median,
                100.0 * spread.most
            )
        };
        if let Some(spread) = self.reaction_s {
            println!(
                "\nstep to first shifted       median {:.1} s, most {:.1} s, of {} moves",
                spread.median, spread.most, spread.moves
            );
        }
        if let Some(spread) = self.error_of_delay {
            println!("prediction error            {} of the delay", percent(spread));
        }
        if let Some(spread) = self.error_of_change {
            println!(
                "                            {} of an offload's change",
                percent(spread)
            );
        }
        for complaint in &self.complaints {
            println!("NOT WELL: {complaint}");
        }
    }
}

// === impl Spread ===

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let most = *values.last()?;
        let (low, high) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(Self {
            moves: values.len(),
            median: f64::midpoint(*low, *high),
            most,
        })
    }
}

fn print_edge(name: &str, edge: &EdgeReport) {
    println!("{name}, {} requests/s", edge.rate_per_s);
    println!("  sent / failed             {} / {}", edge.sent, edge.failed);
    if edge.failed_excused > 0 {
        println!(
            "  of them had to fail       {}: {}",
            edge.failed_excused,
            edge.excuses.join("; ")
        );
    }
    if !edge.failures.is_empty() {
        println!("  failures by kind          {:?}", edge.failures);
    }
    println!("  mean delay                {:.1} ms", edge.mean_ms);
    println!(
        "  load, Envoy, filter       {} / {} / {}",
        edge.counts.load_generator, edge.counts.envoy, edge.counts.filter
    );
}

fn print_move(made: &Move) {
    println!(
        "{}: {}",
        made.edge,
        made.sentence.replace(".shop.svc.cluster.local", "")
    );
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

pub(crate) fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
}

pub(crate) fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_between_the_two_in_the_middle() {
        let spread = Spread::of([4.0, 1.0, 2.0, 10.0].into_iter()).unwrap();
        assert_eq!(
            spread,
            Spread {
                moves: 4,
                median: 3.0,
                most: 10.0
            }
        );
        assert_eq!(Spread::of([7.0].into_iter()).unwrap().median, 7.0);
        assert!(Spread::of(std::iter::empty()).is_none());
    }
}
