//! A recorded application, as our problem.

use gma_core::model::{
    Area, AreaIx, Call, Capacity, DensePlacement, Edge, EdgeIx, Evaluation, Pin, Prices, Problem, Service,
    ServiceIx, Shares, Site, Spec, Standby, evaluate,
};
use gma_core::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Money, Ratio, Rps,
};
use serde::Deserialize;

use super::error::VerifyError;
use super::input::{Seconds, Text};
use super::rules::{Repeated, Rule};

/// The one edge.
pub(super) const EDGE: EdgeIx = EdgeIx(0);
/// The reference's threshold.
const THRESHOLD: f64 = 0.6;

/// A caller, a callee and the calls per request that the caller receives.
pub(super) type RecordedCall = (u32, u32, CallsPerRequest);

/// The application of a case. The last service is the users' gateway; vectors of twice the services have the cloud's
/// half first.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Instance {
    pub(super) n_services: usize,
    pub(super) fm_edges: Vec<RecordedCall>,
    pub(super) lambda_rps: Rps,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) bandwidth_bps: Option<BitsPerSecond>,
    pub(super) rtt_s: Seconds,
    pub(super) response_bytes: Vec<Bytes>,
    pub(super) internal_delay_s: Vec<Seconds>,
    pub(super) cpu_usage_cores: Vec<CpuCores>,
    pub(super) cpu_request_cores: Vec<CpuCores>,
    pub(super) mem_request_gb: Vec<Gigabytes>,
    pub(super) prices: RecordedPrices,
    pub(super) hpa_cpu_threshold: Option<Vec<Ratio>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct RecordedPrices {
    pub(super) cpu_edge: Money,
    pub(super) mem_edge: Money,
    pub(super) cpu_cloud: Money,
    pub(super) mem_cloud: Money,
    pub(super) network: Money,
}

/// An instance that is sound, and the calls that each service gets for a user request.
pub(super) struct Application {
    pub(super) instance: Instance,
    pub(super) calls: Vec<f64>,
}

// === impl Instance ===

impl Instance {
    /// Checks that the parts fit.
    pub(super) fn check(self, text: &Text<'_>) -> Result<Application, VerifyError> {
        let count = self.n_services;
        if count < 2 {
            return Err(text.wrong("n_services", "at least 2: a service and the users' gateway"));
        }
        text.of_length("response_bytes", &self.response_bytes, count)?;
        let twice = count.saturating_mul(2);
        text.of_length("internal_delay_s", &self.internal_delay_s, twice)?;
        text.of_length("cpu_usage_cores", &self.cpu_usage_cores, twice)?;
        text.of_length("cpu_request_cores", &self.cpu_request_cores, twice)?;
        text.of_length("mem_request_gb", &self.mem_request_gb, twice)?;
        if let Some(thresholds) = &self.hpa_cpu_threshold {
            text.of_length("hpa_cpu_threshold", thresholds, twice)?;
        }
        for (at, (caller, callee, _)) in self.fm_edges.iter().enumerate() {
            let known = (*caller as usize) < count && (*callee as usize) < count - 1;
            if !known {
                let must = format!(
                    "a call from one of {count} services to one of the first {}",
                    count - 1
                );
                return Err(text.wrong(format!("fm_edges[{at}]"), must));
            }
        }
        let mut application = Application {
            calls: vec![0.0; count],
            instance: self,
        };
        let problem =
            application
                .problem(&[], &Repeated::default())
                .map_err(|source| VerifyError::Problem {
                    path: text.path.to_owned(),
                    source,
                })?;
        let nothing = DensePlacement::cloud_only(&problem);
        let result = evaluate(&problem, &nothing, &Shares::cloud_only(&problem));
        if let Some(edge) = result.edges.first() {
            let calls = problem
                .services()
                .map(|(service, _)| edge.calls.get(service, AreaIx::Cloud));
            application.calls = calls.collect();
        }
        Ok(application)
    }
}

// === impl Application ===

impl Application {
    /// The gateway's number: the last.
    pub(super) const fn gateway(&self) -> usize {
        self.instance.n_services - 1
    }

    /// Application services.
    pub(super) fn services(&self) -> std::ops::Range<usize> {
        0..self.gateway()
    }

    /// Our problem where this much is used by the instances together. The gateway is a service that nobody calls, since
    /// the reference charges the cloud for it.
    pub(super) fn problem(
        &self,
        used: &[CpuCores],
        repeated: &Repeated,
    ) -> Result<Problem, gma_core::model::ProblemError> {
        Problem::try_new(self.spec(used, repeated))
    }

    fn spec(&self, used: &[CpuCores], repeated: &Repeated) -> Spec {
        let instance = &self.instance;
        let prices = instance.prices;
        let area = |name: &str, cpu, memory| Area {
            name: name.into(),
            prices: Prices {
                cpu_core_hour: cpu,
                memory_gb_hour: memory,
            },
            localities: 1,
        };
        let of_gateway = |call: &&RecordedCall| call.0 as usize == self.gateway();
        let silent = repeated.has(Rule::S11) && instance.lambda_rps.as_f64() == 0.0;
        // Without a limit of bandwidth nothing was charged for traffic: 0·∞ in the reference.
        let traffic_gb = instance.bandwidth_bps.map_or(Money::ZERO, |_| prices.network);
        Spec {
            cloud: area("cloud", prices.cpu_cloud, prices.mem_cloud),
            edges: vec![Edge {
                standby: None,
                area: area("edge", prices.cpu_edge, prices.mem_edge),
                rtt: if silent { Micros::ZERO } else { instance.rtt_s.0 },
                bandwidth: instance.bandwidth_bps.filter(|_| !silent),
                traffic_gb,
                rate: instance.lambda_rps,
                user_calls: instance
                    .fm_edges
                    .iter()
                    .filter(of_gateway)
                    .map(|(_, callee, calls)| (ServiceIx(*callee), *calls))
                    .collect(),
                measured: None,
                capacity: Capacity::default(),
                target: None,
            }],
            services: (0..instance.n_services)
                .map(|at| self.service(at, used, repeated))
                .collect(),
            calls: instance
                .fm_edges
                .iter()
                .filter(|call| !of_gateway(call))
                .map(|(caller, callee, per_request)| Call {
                    caller: ServiceIx(*caller),
                    callee: ServiceIx(*callee),
                    per_request: *per_request,
                })
                .collect(),
            standby: Standby::Failover,
        }
    }

    fn service(&self, at: usize, used: &[CpuCores], repeated: &Repeated) -> Service {
        let instance = &self.instance;
        let count = instance.n_services;
        let gateway = at == self.gateway();
        let rate = instance.lambda_rps.as_f64() * self.calls_of(at);
        let cores = pick(used, at).as_f64() + pick(used, count + at).as_f64();
        let lost = repeated.has(Rule::S8) && !gateway && self.calls_of(at) == 0.0;
        let site = |at: usize, min_replicas| Site {
            own: pick(&instance.internal_delay_s, at).0,
            cpu_request: pick(&instance.cpu_request_cores, at),
            memory_request: pick(&instance.mem_request_gb, at),
            threshold: instance
                .hpa_cpu_threshold
                .as_ref()
                .filter(|_| !repeated.has(Rule::S1))
                .map_or(Ratio::nearest(THRESHOLD), |all| pick(all, at)),
            min_replicas,
        };
        Service {
            name: format!("s{at}").as_str().into(),
            response: pick(&instance.response_bytes, at),
            overlap: Ratio::nearest(1.0),
            hop_local: Micros::ZERO,
            hop_remote: Micros::ZERO,
            cpu_per_request: if rate > 0.0 && !gateway {
                CpuSeconds::nearest(cores / rate)
            } else {
                CpuSeconds::ZERO
            },
            pin: if gateway { Pin::Cloud } else { Pin::Free },
            // The reference: at least one in the cloud, none at the edge.
            sites: vec![site(at, u32::from(!lost)), site(count + at, 0)],
        }
    }

    /// Calls of a service for a user request.
    pub(super) fn calls_of(&self, service: usize) -> f64 {
        self.calls.get(service).copied().unwrap_or_default()
    }

    /// The placement that a vector of 0 and 1 stands for.
    pub(super) fn placement(&self, problem: &Problem, edge: &[u8]) -> DensePlacement {
        let mut placement = DensePlacement::cloud_only(problem);
        for (service, bit) in self.services().zip(edge) {
            placement.set(EDGE, ix(service), *bit == 1);
        }
        placement
    }
}

/// What a placement at rest brings about.
pub(super) fn evaluate_at_rest(problem: &Problem, placement: &DensePlacement) -> Evaluation {
    evaluate(problem, placement, &Shares::resting(problem, placement))
}

/// A service by its recorded number.
pub(super) fn ix(service: usize) -> ServiceIx {
    ServiceIx(u32::try_from(service).unwrap_or(u32::MAX))
}

fn pick<T: Copy + Default>(values: &[T], at: usize) -> T {
    values.get(at).copied().unwrap_or_default()
}
