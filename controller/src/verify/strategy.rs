//! gma-strategy-1: recorded runs of the strategies.

use gma_core::model::ServiceIx;
use gma_core::strategy::{Goal, Params, Strategy, Traces};
use serde::Deserialize;

use super::compare::{RecordedState, Request, close, different, within};
use super::error::VerifyError;
use super::input::Text;
use super::instance::{Application, EDGE, Instance, evaluate_at_rest};
use super::report::{Difference, Verdict};
use super::rules::{Repeated, Rule, attribute};

/// Why a run is left out.
pub(super) const PLATFORM: &str = "platform-dependent: more candidates than max_sgs; which were dropped depends on the CPU that recorded it";
/// The same of COPAMP.
const PATHS: &str = "more paths than are followed here; the reference follows all, however long that takes";
/// Paths that the reference would enumerate without a bound.
const MAX_PATHS: usize = 200_000;

#[derive(Deserialize)]
struct File {
    traces: Vec<String>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    strategy: Named,
    action: Action,
    start_edge: Vec<u8>,
    start_cpu_usage_cores: Vec<Option<f64>>,
    start_delay_s: f64,
    start_cost: f64,
    params: RunParams,
    result: RunResult,
    #[serde(default)]
    platform_dependent: bool,
}

/// A strategy by its name.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Named(Strategy);

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Offload,
    Unoffload,
}

#[derive(Deserialize)]
struct RunParams {
    delay_decrease_target_s: Option<f64>,
    delay_decrease_stop_s: Option<f64>,
    delay_increase_target_s: Option<f64>,
    delay_increase_stop_s: Option<f64>,
    expanding_depth: Option<usize>,
    max_sgs: Option<usize>,
    locked: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct RunResult {
    edge: Vec<u8>,
    to_apply: Vec<u32>,
    to_delete: Vec<u32>,
    delay_s: f64,
    delay_internal_s: f64,
    delay_network_s: f64,
    rho_ce: f64,
    cost: f64,
    cost_edge: f64,
    cost_cloud: f64,
    cost_network: f64,
    delay_decrease_s: Option<f64>,
    delay_increase_s: Option<f64>,
    cost_increase: Option<f64>,
    cost_decrease: Option<f64>,
}

// === impl Named ===

impl TryFrom<String> for Named {
    type Error = gma_core::strategy::UnknownStrategy;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse().map(Self)
    }
}

// === impl RunResult ===

impl RunResult {
    /// Its figures; `flatten` would lose the path of a wrong field.
    const fn state(&self) -> RecordedState {
        RecordedState {
            delay_s: self.delay_s,
            delay_internal_s: self.delay_internal_s,
            delay_network_s: self.delay_network_s,
            rho_ce: self.rho_ce,
            cost: self.cost,
            cost_edge: self.cost_edge,
            cost_cloud: self.cost_cloud,
            cost_network: self.cost_network,
        }
    }
}

/// Repeats every run.
pub(super) fn verify(text: &Text<'_>) -> Result<Vec<(String, Verdict)>, VerifyError> {
    let application = text.parse::<Instance>()?.check(text)?;
    let file: File = text.parse()?;
    let traces = traces(text, &file.traces, application.instance.n_services)?;
    let runs = file.runs.iter().enumerate();
    runs.map(|(at, run)| {
        let action = if run.action == Action::Offload {
            "offload"
        } else {
            "unoffload"
        };
        let item = format!("run {at} {} {action}", run.strategy.0);
        Ok((item, one(text, &application, &traces, at, run)?))
    })
    .collect()
}

/// Traces, given as strings of 0 and 1.
pub(super) fn traces(text: &Text<'_>, rows: &[String], services: usize) -> Result<Traces, VerifyError> {
    let mut traces = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        if row.len() != services || row.bytes().any(|bit| !matches!(bit, b'0' | b'1')) {
            return Err(text.wrong(
                format!("traces[{at}]"),
                format!("{services} characters, each 0 or 1"),
            ));
        }
        let members = (0_u32..).zip(row.bytes().take(services.saturating_sub(1)));
        traces.push(
            members
                .filter(|(_, bit)| *bit == b'1')
                .map(|(at, _)| ServiceIx(at))
                .collect(),
        );
    }
    Ok(Traces::Given(traces))
}

/// Parameters as the reference has them without defaults of ours.
pub(super) fn params(goal: Goal, stop_us: Option<f64>, traces: &Traces) -> Params {
    Params {
        stop_us,
        expanding_depth: None,
        max_sgs: usize::MAX,
        traces: traces.clone(),
        max_paths: MAX_PATHS,
        ..Params::new(goal)
    }
}

fn one(
    text: &Text<'_>,
    application: &Application,
    traces: &Traces,
    at: usize,
    run: &Run,
) -> Result<Verdict, VerifyError> {
    let services = application.instance.n_services;
    text.bits(
        &format!("runs[{at}].start_edge"),
        &run.start_edge,
        services,
        Some(1),
    )?;
    text.bits(
        &format!("runs[{at}].result.edge"),
        &run.result.edge,
        services,
        Some(1),
    )?;
    let used = text.used(
        &format!("runs[{at}].start_cpu_usage_cores"),
        &run.start_cpu_usage_cores,
        services,
    )?;
    let path = format!("runs[{at}].params");
    let wanted = |field: &str, value: Option<f64>| {
        value.ok_or_else(|| text.wrong(format!("{path}.{field}"), "given for this action"))
    };
    let (goal, stop) = match run.action {
        Action::Offload => {
            let target = wanted("delay_decrease_target_s", run.params.delay_decrease_target_s)?;
            (Goal::Decrease(target * 1e6), run.params.delay_decrease_stop_s)
        }
        Action::Unoffload => {
            let target = wanted("delay_increase_target_s", run.params.delay_increase_target_s)?;
            (Goal::Increase(target * 1e6), run.params.delay_increase_stop_s)
        }
    };
    let locked = match &run.params.locked {
        None => Vec::new(),
        Some(bits) => {
            text.bits(&format!("{path}.locked"), bits, services, None)?;
            let bits = (0_u32..).zip(bits);
            bits.filter(|(_, bit)| **bit == 1)
                .map(|(at, _)| ServiceIx(at))
                .collect()
        }
    };
    if run.platform_dependent {
        return Ok(Verdict::Skipped {
            reason: PLATFORM.to_owned(),
        });
    }
    let request = Request {
        strategy: run.strategy.0,
        start: &run.start_edge,
        used: &used,
        params: Params {
            expanding_depth: run.params.expanding_depth,
            max_sgs: run.params.max_sgs.unwrap_or(usize::MAX),
            locked,
            ..params(goal, stop.map(|stop| stop * 1e6), traces)
        },
    };
    Ok(judge(application, &request, |request, repeated| {
        compare(application, request, run, repeated)
    }))
}

/// Compares under the rules of all defects; a run whose candidates had to be cut is nobody's in particular.
pub(super) fn judge(
    application: &Application,
    request: &Request<'_>,
    compare: impl Fn(&Request<'_>, &Repeated) -> Result<(), Difference>,
) -> Verdict {
    let verdict = attribute(Rule::all(), |repeated| compare(request, repeated));
    let truncated = || {
        let everything = Repeated::of(Rule::all());
        request
            .run(application, &everything)
            .is_ok_and(|found| found.outcome.truncated)
    };
    if matches!(verdict, Verdict::Differs(_)) && truncated() {
        let copamp = request.strategy == Strategy::Copamp;
        let reason = if copamp { PATHS } else { PLATFORM };
        return Verdict::Skipped {
            reason: reason.to_owned(),
        };
    }
    verdict
}

fn compare(
    application: &Application,
    request: &Request<'_>,
    run: &Run,
    repeated: &Repeated,
) -> Result<(), Difference> {
    let found = request.run(application, repeated)?;
    let start = evaluate_at_rest(&found.problem, &found.start);
    let (start_delay, start_cost) = (
        start
            .edges
            .get(EDGE.position())
            .map_or(0.0, |edge| edge.delay.as_f64() / 1e6),
        start.cost.total().as_f64(),
    );
    close("start_delay_s", start_delay, run.start_delay_s)?;
    close("start_cost", start_cost, run.start_cost)?;
    let result = &run.result;
    found.same_edge(&result.edge, &result.to_apply, &result.to_delete)?;
    found.same_state(&result.state(), repeated)?;
    let (delay, cost) = (result.delay_s, result.cost);
    let delays = start_delay.max(delay);
    let costs = start_cost.max(cost);
    for (what, ours, recorded, size) in [
        (
            "delay_decrease_s",
            start_delay - delay,
            result.delay_decrease_s,
            delays,
        ),
        (
            "delay_increase_s",
            delay - start_delay,
            result.delay_increase_s,
            delays,
        ),
        ("cost_increase", cost - start_cost, result.cost_increase, costs),
        ("cost_decrease", start_cost - cost, result.cost_decrease, costs),
    ] {
        if let Some(recorded) = recorded {
            within(what, ours, recorded, size)?;
        }
    }
    if found.outcome.exhausted {
        return Err(different("evaluations", "used up", "enough"));
    }
    Ok(())
}
