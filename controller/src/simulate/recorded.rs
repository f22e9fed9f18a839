//! Applications and results that the reference's simulators recorded (files of schema `gma-sim-1`).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use gma_core::generate::{self, Recipe};
use gma_core::model::{AreaIx, Call, DensePlacement, EdgeIx, Problem, ServiceIx, Shares, Spec, evaluate};
use gma_core::units::{Bytes, CallsPerRequest, CpuSeconds, Gigabytes, Micros};
use serde::{Deserialize, Serialize};

use super::experiment::Experiment;
use super::methods::Method;
use super::trials::Run;

/// User requests a second in all recorded sweeps.
const RATE: f64 = 50.0;
/// Two sweeps have a value in common where they differ by less than this share of it.
const SAME_POINT: f64 = 1e-6;

/// A recorded sweep.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Recorded {
    schema: String,
    simulator: String,
    instances: Vec<Instance>,
    runs: Vec<RecordedRun>,
}

/// An application. The user is its last service.
#[derive(Clone, Debug, Deserialize)]
struct Instance {
    n_services: usize,
    fm_edges: Vec<(u32, u32, f64)>,
    response_bytes: Vec<f64>,
    internal_delay_s: Vec<f64>,
    cpu_usage_cores: Vec<f64>,
    mem_request_gb: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct RecordedRun {
    instance: usize,
    strategy: String,
    sweep_value: f64,
    cost: f64,
    edge_services: BTreeSet<u32>,
}

/// One strategy at one point, ours and the recorded: means over the recorded runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    pub(super) point: f64,
    pub(super) strategy: Method,
    pub(super) runs: usize,
    /// Runs that chose the same services.
    pub(super) same_placement: usize,
    /// Ours, with the replica that the reference charges for the gateway.
    pub(super) cost: f64,
    pub(super) recorded_cost: f64,
}

// === impl Comparison ===

impl Comparison {
    pub(super) fn difference_percent(&self) -> f64 {
        // Sums in another order differ in the last digits: no difference, and no −0.
        let percent = 100.0 * (self.cost / self.recorded_cost - 1.0);
        if percent.abs() < 1e-9 { 0.0 } else { percent }
    }
}

// === impl Recorded ===

impl Recorded {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is of another schema.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--instances {} can't be read", path.display()))?;
        let this: Self = serde_json::from_str(&text)
            .with_context(|| format!("--instances {} is no file of schema gma-sim-1", path.display()))?;
        ensure!(
            this.schema == "gma-sim-1",
            "--instances {} has the schema {}, not gma-sim-1",
            path.display(),
            this.schema
        );
        ensure!(
            !this.instances.is_empty(),
            "--instances {} holds no instances",
            path.display()
        );
        Ok(this)
    }

    /// The applications, with the simulators' users, link and prices.
    ///
    /// # Errors
    /// One is no application: the path of the field.
    pub(super) fn specs(&self) -> anyhow::Result<Vec<Spec>> {
        let specs = self.instances.iter().enumerate();
        specs
            .map(|(position, instance)| {
                instance
                    .spec()
                    .with_context(|| format!("instances[{position}] is no application"))
            })
            .collect()
    }

    /// What the file's own simulator swept, where one of ours sweeps the same.
    fn point(&self, experiment: Experiment, sweep_value: f64) -> Option<f64> {
        match (self.simulator.as_str(), experiment) {
            ("sim_app_delay", Experiment::Delay) => Some(sweep_value * 1e3),
            ("sim_app_exp", Experiment::Depth) => Some(sweep_value),
            _ => None,
        }
    }

    /// Our runs against the recorded ones of the same sweep, for all strategies and points in common.
    pub(super) fn compare(&self, experiment: Experiment, runs: &[Run]) -> Vec<Comparison> {
        let mut comparisons: Vec<Comparison> = Vec::new();
        for run in runs {
            let recorded = self.runs.iter().find(|recorded| {
                recorded.instance == run.trial
                    && recorded.strategy == run.strategy.label()
                    && self
                        .point(experiment, recorded.sweep_value)
                        .is_some_and(|point| (point - run.point).abs() <= SAME_POINT * point.abs())
            });
            let (Some(recorded), Some(instance)) = (recorded, self.instances.get(run.trial)) else {
                continue;
            };
            let known = comparisons
                .iter()
                .position(|one| one.point == run.point && one.strategy == run.strategy)
                .unwrap_or_else(|| {
                    comparisons.push(Comparison {
                        point: run.point,
                        strategy: run.strategy,
                        runs: 0,
                        same_placement: 0,
                        cost: 0.0,
                        recorded_cost: 0.0,
                    });
                    comparisons.len() - 1
                });
            let Some(one) = comparisons.get_mut(known) else {
                continue;
            };
            one.runs += 1;
            let count = one.runs as f64;
            // Without the virtual user, which the recorded sets may name.
            let same = run
                .outcome
                .edge_services
                .iter()
                .all(|service| recorded.edge_services.contains(service))
                && recorded.edge_services.iter().all(|service| {
                    *service as usize == instance.user() || run.outcome.edge_services.contains(service)
                });
            one.same_placement += usize::from(same);
            one.cost += (run.outcome.cost + instance.gateway_replica() - one.cost) / count;
            one.recorded_cost += (recorded.cost - one.recorded_cost) / count;
        }
        comparisons
    }
}

// === impl Instance ===

impl Instance {
    fn user(&self) -> usize {
        self.n_services.saturating_sub(1)
    }

    /// The reference charges the cloud one replica of one core for the user.
    fn gateway_replica(&self) -> f64 {
        0.0208 + 0.0104 * self.mem_request_gb
    }

    fn spec(&self) -> anyhow::Result<Spec> {
        let user = self.user();
        for (name, vector) in [
            ("response_bytes", &self.response_bytes),
            ("internal_delay_s", &self.internal_delay_s),
            ("cpu_usage_cores", &self.cpu_usage_cores),
        ] {
            ensure!(
                vector.len() == self.n_services,
                "{name} has {} entries, not {}",
                vector.len(),
                self.n_services
            );
        }
        // A generated application of the same size, everything in it that was recorded replaced.
        let mut spec = generate::generate(&Recipe::sweep(user), 0)?;
        spec.calls.clear();
        for edge in &mut spec.edges {
            edge.user_calls.clear();
        }
        for (caller, callee, f) in &self.fm_edges {
            let per_request = CallsPerRequest::try_new(*f)?;
            if *callee as usize >= user || *caller as usize > user {
                bail!(
                    "fm_edges: there is no call from {caller} to {callee} among {user} services and their user"
                );
            }
            if *caller as usize == user {
                for edge in &mut spec.edges {
                    edge.user_calls.push((ServiceIx(*callee), per_request));
                }
            } else {
                spec.calls.push(Call {
                    caller: ServiceIx(*caller),
                    callee: ServiceIx(*callee),
                    per_request,
                });
            }
        }
        let calls = calls_per_user_request(&spec)?;
        let vectors = self
            .response_bytes
            .iter()
            .zip(&self.internal_delay_s)
            .zip(&self.cpu_usage_cores);
        for ((service, calls), ((bytes, own_s), cores)) in spec.services.iter_mut().zip(calls).zip(vectors) {
            service.response = Bytes::try_new(*bytes)?;
            service.cpu_per_request =
                CpuSeconds::try_new(if calls > 0.0 { cores / (RATE * calls) } else { 0.0 })?;
            for site in &mut service.sites {
                site.own = Micros::try_new(own_s * 1e6)?;
                site.memory_request = Gigabytes::try_new(self.mem_request_gb)?;
            }
        }
        Ok(spec)
    }
}

fn calls_per_user_request(spec: &Spec) -> anyhow::Result<Vec<f64>> {
    let problem = Problem::try_new(spec.clone())?;
    let result = evaluate(
        &problem,
        &DensePlacement::cloud_only(&problem),
        &Shares::cloud_only(&problem),
    );
    let of_edge = result
        .edges
        .get(EdgeIx(0).position())
        .context("the recipe has no edge")?;
    Ok(problem
        .services()
        .map(|(service, _)| of_edge.calls.get(service, AreaIx::Cloud))
        .collect())
}
