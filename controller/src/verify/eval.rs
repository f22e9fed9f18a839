//! gma-eval-1: what the model says of placements.

use gma_core::model::{AreaIx, DensePlacement, Evaluation, Problem};
use gma_core::units::CpuCores;
use serde::Deserialize;

use super::compare::{close, close_of, different, price};
use super::error::VerifyError;
use super::input::Text;
use super::instance::{Application, EDGE, Instance, evaluate_at_rest, ix};
use super::report::{Difference, Verdict};
use super::rules::{Repeated, Rule, attribute};

#[derive(Deserialize)]
struct File {
    mem_usage: Vec<CpuCores>,
    calls_service_level: Vec<f64>,
    placements: Vec<Recorded>,
    resource_shift: Shift,
}

/// Uses are null where the reference has no number.
#[derive(Deserialize)]
struct Recorded {
    edge: Vec<u8>,
    calls_per_request: Vec<f64>,
    delay_total_s: f64,
    delay_internal_s: f64,
    delay_network_s: f64,
    rho_ce: f64,
    cpu_usage_cores: Vec<Option<f64>>,
    mem_usage: Vec<Option<f64>>,
    replicas_cloud: Vec<u32>,
    replicas_edge: Vec<u32>,
    cost_total: f64,
    cost_edge: f64,
    cost_cloud: f64,
    cost_network: f64,
    #[serde(default)]
    phantom_replicas_edge: Vec<u32>,
    exact_cost_edge: Option<f64>,
    exact_cost_total: Option<f64>,
}

#[derive(Deserialize)]
struct Shift {
    from_cpu_usage_cores: Vec<Option<f64>>,
    from_mem_usage: Vec<Option<f64>>,
    to_edge: Vec<u8>,
    to_cpu_usage_cores: Vec<Option<f64>>,
    to_mem_usage: Vec<Option<f64>>,
}

/// A placement, evaluated.
struct Evaluated<'a> {
    application: &'a Application,
    problem: Problem,
    placement: DensePlacement,
    result: Evaluation,
    repeated: &'a Repeated,
}

/// Evaluates every placement, and shifts use from one to another.
pub(super) fn verify(text: &Text<'_>) -> Result<Vec<(String, Verdict)>, VerifyError> {
    let application = text.parse::<Instance>()?.check(text)?;
    let file: File = text.parse()?;
    check(text, &file, application.instance.n_services)?;
    let calls = attribute([], |_| {
        let both = file
            .calls_service_level
            .iter()
            .zip(&application.calls)
            .enumerate();
        let mut services = both.take(application.gateway());
        services.try_for_each(|(at, (recorded, ours))| {
            close(&format!("calls_service_level[{at}]"), *ours, *recorded)
        })
    });
    let mut lines = vec![("calls of each service".to_owned(), calls)];
    for (at, recorded) in file.placements.iter().enumerate() {
        let verdict = attribute(Rule::MODEL, |repeated| {
            let cpu = &application.instance.cpu_usage_cores;
            Evaluated::new(&application, &recorded.edge, cpu, repeated)?.same(recorded)?;
            let memory = Evaluated::new(&application, &recorded.edge, &file.mem_usage, repeated)?;
            memory.same_use("mem_usage", &file.mem_usage, &recorded.mem_usage)
        });
        lines.push((format!("placement {at}"), verdict));
    }
    let shift = &file.resource_shift;
    for (what, from, to) in [
        (
            "cpu_usage_cores",
            &shift.from_cpu_usage_cores,
            &shift.to_cpu_usage_cores,
        ),
        ("mem_usage", &shift.from_mem_usage, &shift.to_mem_usage),
    ] {
        let from = text.used(
            &format!("resource_shift.from_{what}"),
            from,
            application.instance.n_services,
        )?;
        let verdict = attribute(Rule::MODEL, |repeated| {
            Evaluated::new(&application, &shift.to_edge, &from, repeated)?.same_use(what, &from, to)
        });
        lines.push((format!("shift of {what}"), verdict));
    }
    Ok(lines)
}

fn check(text: &Text<'_>, file: &File, count: usize) -> Result<(), VerifyError> {
    text.of_length("mem_usage", &file.mem_usage, 2 * count)?;
    text.of_length("calls_service_level", &file.calls_service_level, count)?;
    for (at, recorded) in file.placements.iter().enumerate() {
        let path = |field: &str| format!("placements[{at}].{field}");
        text.bits(&path("edge"), &recorded.edge, count, Some(1))?;
        text.of_length(&path("calls_per_request"), &recorded.calls_per_request, 2 * count)?;
        text.of_length(&path("cpu_usage_cores"), &recorded.cpu_usage_cores, 2 * count)?;
        text.of_length(&path("mem_usage"), &recorded.mem_usage, 2 * count)?;
        text.of_length(&path("replicas_cloud"), &recorded.replicas_cloud, count)?;
        text.of_length(&path("replicas_edge"), &recorded.replicas_edge, count)?;
        let stranger = |service: &u32| *service as usize >= count;
        if let Some(at) = recorded.phantom_replicas_edge.iter().position(stranger) {
            return Err(text.wrong(
                path(&format!("phantom_replicas_edge[{at}]")),
                format!("below {count}"),
            ));
        }
    }
    let shift = &file.resource_shift;
    text.bits("resource_shift.to_edge", &shift.to_edge, count, Some(1))?;
    text.of_length(
        "resource_shift.to_cpu_usage_cores",
        &shift.to_cpu_usage_cores,
        2 * count,
    )?;
    text.of_length("resource_shift.to_mem_usage", &shift.to_mem_usage, 2 * count)
}

// === impl Evaluated ===

impl<'a> Evaluated<'a> {
    fn new(
        application: &'a Application,
        edge: &[u8],
        used: &[CpuCores],
        repeated: &'a Repeated,
    ) -> Result<Self, Difference> {
        let problem = application
            .problem(used, repeated)
            .map_err(|error| different("the application", error, "one"))?;
        let placement = application.placement(&problem, edge);
        let result = evaluate_at_rest(&problem, &placement);
        Ok(Self {
            application,
            problem,
            placement,
            result,
            repeated,
        })
    }

    fn same(&self, recorded: &Recorded) -> Result<(), Difference> {
        self.same_delay(recorded)?;
        self.same_calls(recorded)?;
        self.same_use(
            "cpu_usage_cores",
            &self.application.instance.cpu_usage_cores,
            &recorded.cpu_usage_cores,
        )?;
        self.same_replicas(recorded)?;
        self.same_cost(recorded)
    }

    fn same_delay(&self, recorded: &Recorded) -> Result<(), Difference> {
        let Some(edge) = self.result.edges.first() else {
            return Ok(());
        };
        let total = recorded.delay_total_s;
        close(
            "delay_internal_s",
            edge.internal.as_f64() / 1e6,
            recorded.delay_internal_s,
        )?;
        close_of(
            "delay_network_s",
            edge.network.as_f64() / 1e6,
            recorded.delay_network_s,
            total,
        )?;
        close("delay_total_s", edge.delay.as_f64() / 1e6, total)?;
        close_of("rho_ce", edge.utilisation.as_f64(), recorded.rho_ce, 1.0)
    }

    /// Positions of a recorded vector of both halves, without the gateway's.
    fn cells(&self) -> impl Iterator<Item = (usize, usize, AreaIx)> + use<> {
        let count = self.application.instance.n_services;
        let halves = [(0, AreaIx::Cloud), (count, AreaIx::Edge(EDGE))];
        let services = self.application.services();
        halves.into_iter().flat_map(move |(half, area)| {
            services
                .clone()
                .map(move |service| (half + service, service, area))
        })
    }

    fn same_calls(&self, recorded: &Recorded) -> Result<(), Difference> {
        let Some(edge) = self.result.edges.first() else {
            return Ok(());
        };
        self.cells()
            .zip_cells(&recorded.calls_per_request)
            .try_for_each(|(at, service, area, recorded)| {
                let ours = edge.calls.get(ix(service), area);
                close_of(
                    &format!("calls_per_request[{at}]"),
                    ours,
                    *recorded,
                    self.application.calls_of(service),
                )
            })
    }

    fn same_use(&self, what: &str, total: &[CpuCores], recorded: &[Option<f64>]) -> Result<(), Difference> {
        let count = self.application.instance.n_services;
        let used = |at: usize| total.get(at).map_or(0.0, |cores| cores.as_f64());
        self.cells()
            .zip_cells(recorded)
            .try_for_each(|(at, service, area, recorded)| {
                let what = format!("{what}[{at}]");
                let ours = self.result.cpu_cores.get(ix(service), area);
                // 0/0 in the reference.
                let no_number = self.repeated.has(Rule::S8) && self.application.calls_of(service) == 0.0;
                match recorded {
                    None if no_number => Ok(()),
                    None => Err(different(&what, format!("{ours:e}"), "no number")),
                    Some(recorded) => close_of(&what, ours, *recorded, used(service) + used(count + service)),
                }
            })
    }

    /// Whether the reference has a replica of a service here by a residue: what runs at the edge without a call.
    fn phantom(&self, recorded: &Recorded, service: usize) -> bool {
        let calls = self
            .result
            .edges
            .first()
            .map(|edge| edge.calls.get(ix(service), AreaIx::Edge(EDGE)));
        self.repeated.has(Rule::S19)
            && recorded
                .phantom_replicas_edge
                .iter()
                .any(|phantom| *phantom as usize == service)
            && self.placement.contains(EDGE, ix(service))
            && calls == Some(0.0)
    }

    fn same_replicas(&self, recorded: &Recorded) -> Result<(), Difference> {
        for (what, area, replicas) in [
            ("replicas_cloud", AreaIx::Cloud, &recorded.replicas_cloud),
            ("replicas_edge", AreaIx::Edge(EDGE), &recorded.replicas_edge),
        ] {
            for (service, recorded_replicas) in self.application.services().zip(replicas) {
                let phantom = area != AreaIx::Cloud && self.phantom(recorded, service);
                let ours = self
                    .result
                    .replicas
                    .get(ix(service), area)
                    .saturating_add(u32::from(phantom));
                if ours != *recorded_replicas {
                    return Err(different(&format!("{what}[{service}]"), ours, recorded_replicas));
                }
            }
        }
        Ok(())
    }

    fn same_cost(&self, recorded: &Recorded) -> Result<(), Difference> {
        let cost = &self.result.cost;
        let total = cost.total().as_f64();
        let [at_edge, network] = cost
            .edges
            .first()
            .map_or([0.0; 2], |cost| [cost.replicas.as_f64(), cost.network.as_f64()]);
        let phantoms = self
            .application
            .services()
            .filter(|service| self.phantom(recorded, *service));
        let phantoms: f64 = phantoms
            .filter_map(|service| price(&self.problem, ix(service), AreaIx::Edge(EDGE)))
            .sum();
        close_of("cost_cloud", cost.cloud.as_f64(), recorded.cost_cloud, total)?;
        close_of("cost_edge", at_edge + phantoms, recorded.cost_edge, total)?;
        close_of("cost_network", network, recorded.cost_network, total)?;
        close("cost_total", total + phantoms, recorded.cost_total)?;
        close_of(
            "exact_cost_edge",
            at_edge,
            recorded.exact_cost_edge.unwrap_or(at_edge),
            total,
        )?;
        close(
            "exact_cost_total",
            total,
            recorded.exact_cost_total.unwrap_or(total),
        )
    }
}

/// Cells with what is recorded of them.
trait ZipCells: Iterator<Item = (usize, usize, AreaIx)> + Sized {
    fn zip_cells<T>(self, recorded: &[T]) -> impl Iterator<Item = (usize, usize, AreaIx, &T)> {
        self.filter_map(|(at, service, area)| Some((at, service, area, recorded.get(at)?)))
    }
}

impl<I: Iterator<Item = (usize, usize, AreaIx)>> ZipCells for I {}
