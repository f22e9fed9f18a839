//! gma-connector-1: what the reference's connector makes of the controller's figures.

use gma_core::strategy::{Goal, Params, Strategy};
use gma_core::units::{BitsPerSecond, Bytes, CpuCores, Gigabytes, Micros, Money, Ratio, Rps};
use serde::Deserialize;

use super::compare::{Request, close, within};
use super::error::VerifyError;
use super::input::{Seconds, Text};
use super::instance::{Application, Instance, RecordedCall, RecordedPrices};
use super::report::{Difference, Verdict};
use super::rules::{Repeated, attribute};
use super::strategy::{PLATFORM, judge, params, traces};

/// Bytes of a GB.
const GB: f64 = 1e9;

#[derive(Deserialize)]
struct File {
    action: Action,
    n_services: usize,
    fm_edges: Vec<RecordedCall>,
    lambda_rps: Rps,
    response_bytes: Vec<Bytes>,
    edge_current_replicas: Vec<u32>,
    cpu_usage_cores_cloud: Vec<Option<f64>>,
    cpu_usage_cores_edge: Vec<Option<f64>>,
    cpu_request_cores: Vec<CpuCores>,
    mem_request_bytes: Vec<Bytes>,
    measured_delay_ms: f64,
    target_delay_ms: f64,
    rtt_ms: Ratio,
    network_rtt_multiplier: Ratio,
    sbmp_rtt_multiplier: Ratio,
    #[serde(deserialize_with = "Option::deserialize")]
    overshooting_avoidance_multiplier: Option<f64>,
    cloud_edge_bps: BitsPerSecond,
    price_cpu_cloud: Money,
    price_mem_cloud_gb: Money,
    price_cpu_edge: Money,
    price_mem_edge_gb: Money,
    price_network_gb_as_used: Money,
    #[serde(default = "default_depth")]
    expanding_depth: usize,
    #[serde(default = "default_max_sgs")]
    max_sgs: usize,
    traces: Vec<String>,
    derived: RecordedParams,
    result: RecordedResult,
    #[serde(default)]
    platform_dependent: bool,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Offloading,
    Unoffloading,
}

#[derive(Deserialize)]
struct RecordedParams {
    rtt_s: f64,
    delay_decrease_target_s: f64,
    delay_decrease_stop_s: f64,
    delay_increase_target_s: f64,
    delay_increase_stop_s: f64,
}

#[derive(Deserialize)]
struct RecordedResult {
    to_apply: Vec<u32>,
    to_delete: Vec<u32>,
    edge: Vec<u8>,
    delay_s: f64,
    cost: f64,
}

/// What the connector derives, in our units.
struct Derived {
    rtt: Micros,
    decrease_s: f64,
    stop: f64,
}

const fn default_depth() -> usize {
    2
}

const fn default_max_sgs() -> usize {
    256
}

// === impl File ===

impl File {
    /// ms to s; both multipliers of the round trip, each unless it is 0; the stop condition.
    fn derive(&self) -> Derived {
        let multiplier = |value: Ratio| {
            if value.as_f64() == 0.0 {
                1.0
            } else {
                value.as_f64()
            }
        };
        let multipliers = multiplier(self.network_rtt_multiplier) * multiplier(self.sbmp_rtt_multiplier);
        Derived {
            rtt: Micros::nearest(self.rtt_ms.as_f64() * 1e3 * multipliers),
            decrease_s: (self.measured_delay_ms - self.target_delay_ms) / 1e3,
            stop: self.overshooting_avoidance_multiplier.unwrap_or(1.0),
        }
    }

    fn same_params(&self, derived: &Derived) -> Result<(), Difference> {
        let recorded = &self.derived;
        let (target, stop) = (derived.decrease_s, derived.decrease_s * derived.stop);
        let size = self.measured_delay_ms.max(self.target_delay_ms) / 1e3;
        close("rtt_s", derived.rtt.as_f64() / 1e6, recorded.rtt_s)?;
        within(
            "delay_decrease_target_s",
            target,
            recorded.delay_decrease_target_s,
            size,
        )?;
        within(
            "delay_decrease_stop_s",
            stop,
            recorded.delay_decrease_stop_s,
            size,
        )?;
        within(
            "delay_increase_target_s",
            -target,
            recorded.delay_increase_target_s,
            size,
        )?;
        within(
            "delay_increase_stop_s",
            -stop,
            recorded.delay_increase_stop_s,
            size,
        )
    }

    /// The application, with vectors of both halves and the connector's fixed values.
    fn instance(&self, derived: &Derived, used: Vec<CpuCores>) -> Instance {
        let memory = self
            .mem_request_bytes
            .iter()
            .map(|bytes| Gigabytes::nearest(bytes.as_f64() / GB));
        let memory: Vec<Gigabytes> = memory.collect();
        Instance {
            n_services: self.n_services,
            fm_edges: self.fm_edges.clone(),
            lambda_rps: self.lambda_rps,
            bandwidth_bps: Some(self.cloud_edge_bps),
            rtt_s: Seconds(derived.rtt),
            response_bytes: self.response_bytes.clone(),
            // The controller never measures them.
            internal_delay_s: vec![Seconds::default(); 2 * self.response_bytes.len()],
            cpu_usage_cores: used,
            cpu_request_cores: self.cpu_request_cores.repeat(2),
            mem_request_gb: memory.repeat(2),
            prices: RecordedPrices {
                cpu_edge: self.price_cpu_edge,
                mem_edge: self.price_mem_edge_gb,
                cpu_cloud: self.price_cpu_cloud,
                mem_cloud: self.price_mem_cloud_gb,
                network: self.price_network_gb_as_used,
            },
            hpa_cpu_threshold: None,
        }
    }

    fn check(&self, text: &Text<'_>) -> Result<(), VerifyError> {
        let count = self.n_services;
        text.of_length("response_bytes", &self.response_bytes, count)?;
        text.of_length("edge_current_replicas", &self.edge_current_replicas, count)?;
        text.of_length("cpu_usage_cores_cloud", &self.cpu_usage_cores_cloud, count)?;
        text.of_length("cpu_usage_cores_edge", &self.cpu_usage_cores_edge, count)?;
        text.of_length("cpu_request_cores", &self.cpu_request_cores, count)?;
        text.of_length("mem_request_bytes", &self.mem_request_bytes, count)?;
        text.bits("result.edge", &self.result.edge, count, Some(1))
    }

    fn compare(
        &self,
        application: &Application,
        request: &Request<'_>,
        repeated: &Repeated,
    ) -> Result<(), Difference> {
        let found = request.run(application, repeated)?;
        found.same_edge(&self.result.edge, &self.result.to_apply, &self.result.to_delete)?;
        close("delay_s", found.outcome.delay.as_f64() / 1e6, self.result.delay_s)?;
        found.same_cost(self.result.cost, repeated)
    }
}

/// Repeats the derivation and the run.
pub(super) fn verify(text: &Text<'_>) -> Result<Vec<(String, Verdict)>, VerifyError> {
    let file: File = text.parse()?;
    file.check(text)?;
    let derived = file.derive();
    let used = [&file.cpu_usage_cores_cloud[..], &file.cpu_usage_cores_edge].concat();
    let used = text.used("cpu_usage_cores_cloud and _edge", &used, file.n_services)?;
    let application = file.instance(&derived, used).check(text)?;
    let traces = traces(text, &file.traces, file.n_services)?;
    let parameters = attribute([], |_| file.same_params(&derived));
    let start: Vec<u8> = file
        .edge_current_replicas
        .iter()
        .map(|replicas| u8::from(*replicas > 0))
        .collect();
    let target_us = derived.decrease_s * 1e6;
    let (name, goal) = match file.action {
        Action::Offloading => ("offloading", Goal::Decrease(target_us)),
        Action::Unoffloading => ("unoffloading", Goal::Increase(-target_us)),
    };
    let stop_us = match goal {
        Goal::Decrease(target) | Goal::Increase(target) => target * derived.stop,
    };
    let request = Request {
        strategy: Strategy::Sbmp,
        start: &start,
        used: &application.instance.cpu_usage_cores,
        params: Params {
            expanding_depth: Some(file.expanding_depth),
            max_sgs: file.max_sgs,
            ..params(goal, Some(stop_us), &traces)
        },
    };
    let result = if file.platform_dependent {
        Verdict::Skipped {
            reason: PLATFORM.to_owned(),
        }
    } else {
        judge(&application, &request, |request, repeated| {
            file.compare(&application, request, repeated)
        })
    };
    Ok(vec![
        ("parameters".to_owned(), parameters),
        (name.to_owned(), result),
    ])
}
