//! `gma simulate --experiment ramp`: 40, 500 and 40 requests a second under the whole controller.
//!
//! A web shop of six services whose users are 60 ms and 400 Mbit/s from the cloud. As the load rises the link fills and
//! the delay leaves the band; the machine moves services to the edge, and back when the load has gone.

mod plot;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use gma_core::cluster::Cluster;
use gma_core::decide::{Band, Config, Effect, Mode, Objective, Statistic, accounts};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::Settings;
use gma_core::world::{Load, Spec, Users, World};
use serde::Serialize;

use super::closed::{Look, Scenario, Simulation};
use super::{SimulateArgs, output};
use crate::output::{print, shown};

/// Requests a second: level, up, level, down, level.
const RAMP: [(u64, f64); 4] = [(60, 40.0), (360, 500.0), (480, 500.0), (780, 40.0)];
const END: Duration = Duration::from_secs(1080);
/// The band of the mean: 80 ms is what users see with everything in the cloud while the link is free.
const BAND_MS: (u64, u64) = (50, 90);
/// A row of the table.
const ROW: Duration = Duration::from_secs(15);

/// What a row's time was like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// End of the row, seconds.
    pub(super) at_s: f64,
    /// Requests a second.
    pub(super) rate: f64,
    /// Those that failed.
    pub(super) failed: u64,
    /// Mean delay of the others, ms; none where there was none.
    pub(super) delay_ms: Option<f64>,
    /// Percent of the edge for its callers, by service that is placed there.
    pub(super) weights: BTreeMap<ServiceName, u32>,
    /// Replicas in the cloud and at the edge.
    pub(super) replicas: (u32, u32),
    /// Price of replicas and traffic, an hour.
    pub(super) cost: f64,
    /// What the machine does, in a sentence.
    pub(super) account: String,
    /// Decisions that began or ended in it.
    pub(super) decisions: Vec<String>,
}

/// The whole run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ramp {
    schema: &'static str,
    seed: u64,
    pub(super) unoffload_below_ms: f64,
    pub(super) offload_above_ms: f64,
    pub(super) rows: Vec<Row>,
}

/// Sums of a row under way.
#[derive(Debug, Default)]
struct Sums {
    users: Users,
    /// Bytes that had crossed the link when the row began.
    carried: f64,
    decisions: Vec<String>,
}

/// Runs the ramp, writes its files and prints the table.
///
/// # Errors
/// A rule of the simulation is broken, or a file can't be written.
pub(super) fn main(args: &SimulateArgs) -> anyhow::Result<()> {
    output::prepare(&args.out)?;
    let ramp = run(args.seed)?;
    let files = [
        ("ramp.json", serde_json::to_string_pretty(&ramp)? + "\n"),
        ("ramp.svg", plot::to_svg(&ramp)?),
    ];
    let mut table = table(&ramp);
    for (name, text) in files {
        let path = args.out.join(name);
        fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))?;
        writeln!(table, "wrote {}", path.display())?;
    }
    print(&shown(&ramp, args.output, |_| table)?)
}

fn scenario(seed: u64) -> Scenario {
    let load = Load(RAMP.map(|(at, rate)| (Duration::from_secs(at), rate)).into());
    let spec = Spec::shop(seed, load);
    let mut config = Config::new(
        spec.cloud.clone(),
        spec.edges.iter().map(|edge| edge.name.clone()),
    );
    config.mode = Mode::Enforce;
    let band = Band::try_new(Duration::from_millis(BAND_MS.0), Duration::from_millis(BAND_MS.1));
    for objective in config.edges.values_mut() {
        *objective = Objective {
            standby: None,
            band: band.unwrap_or_default(),
            statistic: Statistic::Mean,
        };
    }
    Scenario {
        seed,
        spec,
        config,
        faults: Vec::new(),
        constant_from: END,
        end: END,
    }
}

pub(super) fn run(seed: u64) -> anyhow::Result<Ramp> {
    let scenario = scenario(seed);
    let settings = Settings::new(
        scenario.config.cloud.clone(),
        scenario.config.edges.keys().cloned(),
    );
    let mut simulation = Simulation::new(&scenario);
    let (mut rows, mut sums) = (Vec::new(), Sums::default());
    let mut ended = Duration::ZERO;
    while ended < END {
        simulation
            .tick(&mut |look| {
                sums.add(look);
                if look.world.now() >= ended + ROW {
                    ended = look.world.now();
                    let next = Sums {
                        carried: look.world.carried_bytes(0),
                        ..Sums::default()
                    };
                    rows.push(std::mem::replace(&mut sums, next).row(look, &settings));
                }
            })
            .map_err(|what| anyhow!("a rule is broken at {:.2} s: {what}", ended.as_secs_f64()))?;
    }
    Ok(Ramp {
        schema: "gma-ramp-1",
        seed,
        unoffload_below_ms: BAND_MS.0 as f64,
        offload_above_ms: BAND_MS.1 as f64,
        rows,
    })
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, look: &Look<'_>) {
        for users in look.users {
            self.users.requests += users.requests;
            self.users.failed += users.failed;
            self.users.sum_us += users.sum_us;
        }
        for effect in look.effects {
            if let Effect::Record { decision } = effect {
                self.decisions.push(decision.sentence());
            }
        }
    }

    fn row(self, look: &Look<'_>, settings: &Settings) -> Row {
        let Users {
            requests,
            failed,
            sum_us,
        } = self.users;
        let answered = requests - failed;
        let cluster = look.world.cluster();
        let account = look.state.map(|state| accounts(state, state.at));
        let sentence = account.and_then(|edges| edges.into_values().next().map(|edge| edge.sentence));
        let (replicas, replica_cost) = replicas(&cluster, settings);
        let gigabytes = (look.world.carried_bytes(0) - self.carried) / 1e9;
        let price = settings
            .edges
            .first()
            .map_or(0.0, |edge| edge.traffic_gb.as_f64());
        let traffic_cost = gigabytes * price * 3600.0 / ROW.as_secs_f64();
        Row {
            at_s: look.world.now().as_secs_f64(),
            rate: requests as f64 / ROW.as_secs_f64(),
            failed,
            delay_ms: (answered > 0).then(|| sum_us / answered as f64 / 1e3),
            weights: weights(look.world, &cluster),
            replicas,
            cost: replica_cost + traffic_cost,
            account: sentence.unwrap_or_else(|| "the controller is away".to_owned()),
            decisions: self.decisions,
        }
    }
}

fn replicas(cluster: &Cluster, settings: &Settings) -> ((u32, u32), f64) {
    let of = &settings.default_service;
    let (mut count, mut cost) = ((0, 0), 0.0);
    for instance in &cluster.instances {
        let edge = settings.edges.iter().find(|edge| edge.area.name == instance.area);
        let prices = edge.map_or(settings.cloud.prices, |edge| edge.area.prices);
        let here = if edge.is_some() {
            &mut count.1
        } else {
            &mut count.0
        };
        *here += instance.replicas;
        cost += f64::from(instance.replicas)
            * (of.cpu_request.as_f64() * prices.cpu_core_hour.as_f64()
                + of.memory_request.as_f64() * prices.memory_gb_hour.as_f64());
    }
    (count, cost)
}

fn weights(world: &World, cluster: &Cluster) -> BTreeMap<ServiceName, u32> {
    let edge: Option<&AreaName> = world.spec().edges.first().map(|edge| &edge.name);
    let placed = cluster
        .instances
        .iter()
        .filter(|instance| Some(&instance.area) == edge);
    placed
        .map(|instance| {
            let callers = cluster.routing.0.get(&instance.service);
            let row = callers.and_then(|callers| callers.get(&instance.area));
            let share = row.and_then(|row| row.get(&instance.area)).copied().unwrap_or(0);
            (instance.service.clone(), share)
        })
        .collect()
}

fn table(ramp: &Ramp) -> String {
    let mut text = format!(
        "mean delay in {} … {} ms; cost an hour, of replicas and traffic\n{:>6}{:>7}{:>10}  {:<6}{:>8}{:>10}{:>8}  weights at the edge\n",
        ramp.unoffload_below_ms,
        ramp.offload_above_ms,
        "time",
        "rate",
        "delay ms",
        "",
        "failed",
        "replicas",
        "cost"
    );
    for row in &ramp.rows {
        let side = match row.delay_ms {
            Some(delay) if delay > ramp.offload_above_ms => "above",
            Some(delay) if delay < ramp.unoffload_below_ms => "below",
            Some(_) => "",
            None => "-",
        };
        let weights: Vec<String> = row
            .weights
            .iter()
            .map(|(name, share)| format!("{name} {share}"))
            .collect();
        let line = format!(
            "{:>6.0}{:>7.0}{:>10}  {:<6}{:>8}{:>10}{:>8.3}  {}",
            row.at_s,
            row.rate,
            row.delay_ms.map_or("-".to_owned(), |delay| format!("{delay:.1}")),
            side,
            row.failed,
            format!("{}+{}", row.replicas.0, row.replicas.1),
            row.cost,
            weights.join(" ")
        );
        text.push_str(line.trim_end());
        text.push('\n');
        for decision in &row.decisions {
            text.push_str(&format!("       {decision}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_is_answered_up_and_down_and_users_lose_nothing() {
        let ramp = run(1).unwrap();
        let table = table(&ramp);
        let placed = |from: f64, to: f64| {
            let rows = ramp.rows.iter();
            let rows = rows.filter(move |row| row.at_s > from && row.at_s <= to);
            rows.map(|row| row.weights.len())
        };
        let quiet = placed(0.0, 120.0).all(|count| count == 0);
        assert!(quiet, "nothing is wrong before 120 s\n{table}");
        let answered = placed(420.0, 480.0).all(|count| count > 0);
        assert!(answered, "the link is full at 500 requests/s\n{table}");
        let less = placed(1_020.0, 1_080.0).max() < placed(420.0, 480.0).max();
        assert!(less, "and free again\n{table}");
        assert_eq!(ramp.rows.iter().map(|row| row.failed).sum::<u64>(), 0, "{table}");
        let above = |row: &&Row| row.delay_ms.is_none_or(|delay| delay > BAND_MS.1 as f64);
        let above = ramp.rows.iter().filter(above).count();
        assert!(
            above * 5 < ramp.rows.len(),
            "{above} rows above the band\n{table}"
        );
    }
}
