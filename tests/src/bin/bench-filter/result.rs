//! From samples to ratios with intervals.
//!
//! Ratios are taken within a round, where the machine was the same, and the median over rounds is given with the
//! percentile bootstrap's 95 % interval: rounds are drawn with replacement, and the middle 95 % of their medians is kept.

use std::{fmt, path::Path};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use serde_json::{Value, json};

use super::{COPIES, config::Variant, sample::Sample};

pub(crate) const NONE: &str = "none";
pub(crate) const EMPTY: &str = "empty";
pub(crate) const STOCK: &str = "stock";
pub(crate) const OURS: &str = "ours";

/// Invocations of one copy for a request: at the outbound and at the inbound listener.
const CHAINS: f64 = 2.0;
/// Draws of the bootstrap; more do not move the second digit of an interval.
const DRAWS: usize = 4_000;
/// What the filter is to reach.
const RATIO_GOAL: f64 = 1.08;
const OWN_COST_GOAL: f64 = 0.75;

/// The samples: one a variant in each round, in the order of the variants.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Rounds(Vec<Vec<Sample>>);

/// A median and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    copies: usize,
    us_per_request: Estimate,
    /// One over the rate: an independent reading, which agrees while the worker is saturated.
    us_per_request_by_rate: f64,
    ratio_to_none: Option<Estimate>,
    /// Of the same number of copies.
    ratio_to_empty_stock_sdk: Option<Estimate>,
    us_per_invocation: Option<Estimate>,
    /// The cost beyond `none`, as a share of that of the measurement on the stock SDK.
    own_cost_to_stock_sdk_measurement: Option<Estimate>,
}

/// Everything that is said at the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    rows: Vec<Row>,
    rounds: usize,
}

// === impl Rounds ===

impl Rounds {
    pub(crate) fn add(&mut self, samples: Vec<Sample>) {
        self.0.push(samples);
    }

    /// A figure of each round, made of the CPU figures of some variants.
    fn figures<const N: usize>(&self, variants: [usize; N], figure: impl Fn([f64; N]) -> f64) -> Vec<f64> {
        let of_round = |round: &Vec<Sample>| {
            let mut cpu = [0.0; N];
            for (cpu, variant) in cpu.iter_mut().zip(variants) {
                *cpu = round.get(variant)?.cpu_us;
            }
            Some(figure(cpu))
        };
        self.0.iter().filter_map(of_round).collect()
    }
}

// === impl Estimate ===

impl Estimate {
    fn of(figures: &[f64]) -> Option<Self> {
        if figures.is_empty() {
            return None;
        }
        // The same figures give the same interval.
        let mut rng = SmallRng::seed_from_u64(1);
        let mut medians: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let draw = |_| {
                    figures
                        .get(rng.random_range(0..figures.len()))
                        .copied()
                        .unwrap_or_default()
                };
                median(&mut figures.iter().map(draw).collect::<Vec<_>>())
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |per_mille: usize| {
            medians
                .get(DRAWS * per_mille / 1_000)
                .copied()
                .unwrap_or_default()
        };
        Some(Self {
            median: median(&mut figures.to_vec()),
            low: at(25),
            high: at(975),
        })
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        let text = format!(
            "{:.digits$} ({:.digits$} - {:.digits$})",
            self.median, self.low, self.high
        );
        // Not `pad`: it takes the precision for a length.
        write!(f, "{text:<width$}", width = f.width().unwrap_or(0))
    }
}

/// Sorts its argument; 0 for none.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    let lower = figures.len().saturating_sub(1) / 2;
    let at = |ix: usize| figures.get(ix).copied().unwrap_or_default();
    f64::midpoint(at(lower), at(upper))
}

// === impl Outcome ===

impl Outcome {
    pub(crate) fn of(variants: &[Variant], rounds: &Rounds) -> Self {
        let find = |name: &str, copies| variants.iter().position(|v| v.name == name && v.copies == copies);
        let none = find(NONE, 0);
        let row = |(ix, variant): (usize, &Variant)| {
            let copies = variant.copies;
            let invocations = CHAINS * f64::from(u32::try_from(copies).unwrap_or(u32::MAX));
            let (empty, stock) = (find(EMPTY, copies), find(STOCK, copies));
            let to_none = |figure: fn([f64; 2]) -> f64| {
                let none = none.filter(|_| copies > 0)?;
                Estimate::of(&rounds.figures([ix, none], figure))
            };
            let per_invocation = none.filter(|_| copies > 0).and_then(|none| {
                Estimate::of(&rounds.figures([ix, none], |[this, none]| (this - none) / invocations))
            });
            let own_cost = none
                .zip(stock)
                .filter(|_| copies == COPIES)
                .and_then(|(none, stock)| {
                    Estimate::of(&rounds.figures([ix, none, stock], |[this, none, stock]| {
                        (this - none) / (stock - none)
                    }))
                });
            let to_empty = empty
                .and_then(|empty| Estimate::of(&rounds.figures([ix, empty], |[this, empty]| this / empty)));
            let rates = rounds.0.iter().filter_map(|round| round.get(ix));
            Some(Row {
                name: variant.name.clone(),
                copies,
                us_per_request: Estimate::of(&rounds.figures([ix], |[this]| this))?,
                us_per_request_by_rate: median(
                    &mut rates.map(|sample| 1e6 / sample.per_second).collect::<Vec<_>>(),
                ),
                ratio_to_none: to_none(|[this, none]| this / none),
                ratio_to_empty_stock_sdk: to_empty,
                us_per_invocation: per_invocation,
                own_cost_to_stock_sdk_measurement: own_cost,
            })
        };
        Self {
            rows: variants.iter().enumerate().filter_map(row).collect(),
            rounds: rounds.0.len(),
        }
    }

    /// CPU a request with our filter, over that with an empty one on the stock SDK; one copy.
    fn ratio(&self) -> Option<Estimate> {
        self.row(OURS, 1)?.ratio_to_empty_stock_sdk
    }

    /// Our filter's own cost over that of the same measurement on the stock SDK; ten copies.
    fn own_cost(&self) -> Option<Estimate> {
        self.row(OURS, COPIES)?.own_cost_to_stock_sdk_measurement
    }

    fn row(&self, name: &str, copies: usize) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.name == name && row.copies == copies)
    }

    pub(crate) fn to_json(&self, rounds: &Rounds, seconds: &f64, envoy: &Path) -> Value {
        json!({
            "ratio_to_empty_stock_sdk": self.ratio(),
            "own_cost_to_stock_sdk_measurement": self.own_cost(),
            "rounds": self.rounds,
            "seconds_a_sample": seconds,
            "envoy": first_line(std::process::Command::new(envoy).arg("--version").output().ok()),
            "cpu": cpu_model(),
            "variants": self.rows,
            "samples": rounds,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |estimate: Option<Estimate>, digits: usize| {
            estimate.map_or("-".to_owned(), |estimate| format!("{estimate:.digits$}"))
        };
        writeln!(
            f,
            "CPU of Envoy on {}, {} rounds: median (95 % interval)\n",
            cpu_model(),
            self.rounds
        )?;
        writeln!(
            f,
            "{:<16} {:>6}  {:<24} {:>7}  {:<23} {:<23} {:<21} {:<23}",
            "filter",
            "copies",
            "us/request",
            "by rate",
            "to none",
            "to empty",
            "us/invocation",
            "own cost to stock"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<16} {:>6}  {:<24.1} {:>7.1}  {:<23} {:<23} {:<21} {:<23}",
                row.name,
                row.copies,
                row.us_per_request,
                row.us_per_request_by_rate,
                or_dash(row.ratio_to_none, 3),
                or_dash(row.ratio_to_empty_stock_sdk, 3),
                or_dash(row.us_per_invocation, 2),
                or_dash(row.own_cost_to_stock_sdk_measurement, 3),
            )?;
        }
        let goal = |estimate: Option<Estimate>, goal: f64| {
            let verdict = estimate.map_or("not measured", |e| {
                if e.median <= goal { "reached" } else { "missed" }
            });
            format!("{}; to reach: {goal}, {verdict}", or_dash(estimate, 3))
        };
        writeln!(f, "\nours to empty, one copy: {}", goal(self.ratio(), RATIO_GOAL))?;
        write!(
            f,
            "own cost of ours to stock, {COPIES} copies: {}",
            goal(self.own_cost(), OWN_COST_GOAL)
        )
    }
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    line.map_or("an unknown CPU", |(_, name)| name).to_owned()
}

fn first_line(output: Option<std::process::Output>) -> Option<String> {
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variants() -> Vec<Variant> {
        let variant = |name: &str, copies| Variant {
            name: name.to_owned(),
            module: None,
            copies,
        };
        let modules = |copies| [EMPTY, STOCK, OURS].map(|name| variant(name, copies));
        std::iter::once(variant(NONE, 0))
            .chain(modules(1))
            .chain(modules(COPIES))
            .collect()
    }

    /// Rounds whose machine is faster or slower as a whole.
    fn rounds(speeds: &[f64]) -> Rounds {
        let base = [50.0, 55.0, 60.0, 56.1, 70.0, 150.0, 100.0];
        let sample = |cpu_us: f64| Sample {
            cpu_us,
            per_second: 1e6 / cpu_us,
        };
        Rounds(
            speeds
                .iter()
                .map(|speed| base.iter().map(|cpu| sample(cpu * speed)).collect())
                .collect(),
        )
    }

    #[test]
    fn ratios_do_not_depend_on_the_speed_of_a_round() {
        let outcome = Outcome::of(&variants(), &rounds(&[1.0, 1.3, 0.8, 2.0]));
        let near = |estimate: Option<Estimate>, expected: f64| {
            let Estimate { median, low, high } = estimate.unwrap();
            assert!(
                [median, low, high]
                    .iter()
                    .all(|figure| (figure - expected).abs() < 1e-9),
                "{median} {low} {high}"
            );
        };
        near(outcome.ratio(), 1.02);
        near(outcome.own_cost(), 0.5);
        near(outcome.row(STOCK, 1).unwrap().ratio_to_none, 1.2);
        assert!(outcome.row(NONE, 0).unwrap().ratio_to_none.is_none());
        // (100 - 50) / 20 invocations at speed 1; the median speed is 1.15.
        let per_invocation = outcome.row(OURS, COPIES).unwrap().us_per_invocation.unwrap();
        assert!((per_invocation.median - 2.5 * 1.15).abs() < 1e-9);
        assert!(
            outcome
                .to_string()
                .contains("ours to empty, one copy: 1.020 (1.020 - 1.020); to reach: 1.08, reached")
        );
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_rounds() {
        let figures = |n: u32| {
            (0..n)
                .map(|i| f64::from(i * 7 % n) / f64::from(n))
                .collect::<Vec<_>>()
        };
        let few = Estimate::of(&figures(10)).unwrap();
        let many = Estimate::of(&figures(300)).unwrap();
        for estimate in [few, many] {
            assert!(
                estimate.low <= estimate.median && estimate.median <= estimate.high,
                "{estimate:?}"
            );
        }
        assert!(
            many.high - many.low < (few.high - few.low) / 3.0,
            "{few:?} {many:?}"
        );
        // Order statistics: the 95 % interval of the median of 300 uniform figures is about +-0.057.
        assert!((many.high - many.low - 0.113).abs() < 0.02, "{many:?}");
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn an_estimate_keeps_width_and_precision() {
        let estimate = Estimate {
            median: 1.0,
            low: 0.95,
            high: 12.5,
        };
        assert_eq!(format!("{estimate:<20.2}|"), "1.00 (0.95 - 12.50) |");
        assert_eq!(estimate.to_string(), "1.000 (0.950 - 12.500)");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
