//! The model against every recorded evaluation of the reference.
//!
//! Where the reference is known to be wrong, a rule computed from the recorded inputs says what is right:
//! - a service that nobody calls keeps its minimum replicas (the reference: none, for the use of 0/0 is NaN);
//! - without traffic a call still takes its round trip and its transfer (the reference: no network delay at all);
//! - `exact_cost_*` where an edge service that nobody calls had a replica by rounding.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "a test: the recorded vectors are parallel, one entry a service"
)]

use std::collections::BTreeMap;
use std::path::Path;

use gma_core::model::{
    Area, AreaIx, Call, Capacity, DensePlacement, Edge, EdgeIx, Evaluation, Pin, Prices, Problem, Service,
    ServiceIx, Shares, Site, Spec, Standby, evaluate,
};
use gma_core::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Money, Ratio, Rps,
};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Case {
    schema: String,
    n_services: usize,
    fm_edges: Vec<(u32, u32, f64)>,
    lambda_rps: f64,
    bandwidth_bps: Option<f64>,
    rtt_s: f64,
    response_bytes: Vec<f64>,
    internal_delay_s: Vec<f64>,
    cpu_usage_cores: Vec<f64>,
    mem_usage: Vec<f64>,
    cpu_request_cores: Vec<f64>,
    mem_request_gb: Vec<f64>,
    prices: BTreeMap<String, f64>,
    calls_service_level: Vec<f64>,
    hpa_cpu_threshold: Option<Vec<f64>>,
    placements: Vec<Recorded>,
    resource_shift: Shift,
}

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
    phantom_replicas_edge: Option<Vec<usize>>,
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

struct Checked {
    problem: Problem,
    placement: DensePlacement,
    result: Evaluation,
}

// === impl Case ===

impl Case {
    /// Our services are the recorded ones and the user, whom nobody calls: the reference charges the cloud for it.
    fn evaluate(&self, edge: &[u8], use_: &[f64]) -> Checked {
        let problem = Problem::try_new(self.spec(use_)).unwrap();
        let mut placement = DensePlacement::cloud_only(&problem);
        for service in 0..self.user() {
            placement.set(EdgeIx(0), ix(service), edge[service] == 1);
        }
        let shares = Shares::resting(&problem, &placement);
        let result = evaluate(&problem, &placement, &shares);
        Checked {
            problem,
            placement,
            result,
        }
    }

    fn spec(&self, use_: &[f64]) -> Spec {
        let (count, user) = (self.n_services, self.user());
        let area = |name: &str, kind: &str| Area {
            name: name.into(),
            prices: Prices {
                cpu_core_hour: Money::try_new(self.prices[&format!("cpu_{kind}")]).unwrap(),
                memory_gb_hour: Money::try_new(self.prices[&format!("mem_{kind}")]).unwrap(),
            },
            localities: 1,
        };
        let calls = |per_request: &f64| CallsPerRequest::try_new(*per_request).unwrap();
        let user_calls = self.fm_edges.iter().filter(|(i, ..)| *i as usize == user);
        let service_calls = self.fm_edges.iter().filter(|(i, ..)| *i as usize != user);
        // Without a limit of bandwidth the recorder charged nothing for traffic (0·∞ in the reference).
        let traffic = self.bandwidth_bps.map_or(0.0, |_| self.prices["network"]);
        Spec {
            cloud: area("cloud", "cloud"),
            edges: vec![Edge {
                area: area("edge", "edge"),
                rtt: Micros::try_new(self.rtt_s * 1e6).unwrap(),
                bandwidth: self
                    .bandwidth_bps
                    .map(|bandwidth| BitsPerSecond::try_new(bandwidth).unwrap()),
                traffic_gb: Money::try_new(traffic).unwrap(),
                rate: Rps::try_new(self.lambda_rps).unwrap(),
                user_calls: user_calls.map(|(_, j, f)| (ServiceIx(*j), calls(f))).collect(),
                measured: None,
                capacity: Capacity::default(),
                target: None,
            }],
            services: (0..count).map(|i| self.service(i, use_)).collect(),
            calls: service_calls
                .map(|(i, j, f)| Call {
                    caller: ServiceIx(*i),
                    callee: ServiceIx(*j),
                    per_request: calls(f),
                })
                .collect(),
            standby: Standby::Failover,
        }
    }

    fn service(&self, i: usize, use_: &[f64]) -> Service {
        let count = self.n_services;
        let rate = self.lambda_rps * self.calls_service_level[i];
        let cores = use_[i] + use_[count + i];
        let site = |at: usize, min_replicas| Site {
            own: Micros::try_new(self.internal_delay_s[at] * 1e6).unwrap(),
            cpu_request: CpuCores::try_new(self.cpu_request_cores[at]).unwrap(),
            memory_request: Gigabytes::try_new(self.mem_request_gb[at]).unwrap(),
            threshold: Ratio::try_new(self.hpa_cpu_threshold.as_ref().map_or(0.6, |all| all[at])).unwrap(),
            min_replicas,
        };
        Service {
            name: format!("s{i}").as_str().into(),
            response: Bytes::try_new(self.response_bytes[i]).unwrap(),
            overlap: Ratio::try_new(1.0).unwrap(),
            hop_local: Micros::ZERO,
            hop_remote: Micros::ZERO,
            cpu_per_request: CpuSeconds::try_new(if rate > 0.0 && i != self.user() {
                cores / rate
            } else {
                0.0
            })
            .unwrap(),
            pin: Pin::Free,
            // The reference: at least one in the cloud, none at the edge.
            sites: vec![site(i, 1), site(count + i, 0)],
        }
    }

    fn user(&self) -> usize {
        self.n_services - 1
    }

    /// Network delay by its formula, from the recorded calls: the reference leaves all of it out at a rate of 0.
    fn network_delay_s(&self, recorded: &Recorded) -> f64 {
        if self.lambda_rps > 0.0 {
            return recorded.delay_network_s;
        }
        let n = |service: u32| recorded.calls_per_request[self.n_services + service as usize];
        let cut = self
            .fm_edges
            .iter()
            .filter(|(i, j, _)| recorded.edge[*i as usize] == 1 && recorded.edge[*j as usize] == 0);
        cut.map(|(i, j, f)| {
            let bits = 8.0 * self.response_bytes[*j as usize];
            n(*i) * f * (self.rtt_s + self.bandwidth_bps.map_or(0.0, |bandwidth| bits / bandwidth))
        })
        .sum()
    }

    /// Services without calls, whose replicas the reference loses, and what their minimum costs.
    fn uncalled(&self) -> Vec<usize> {
        (0..self.user())
            .filter(|service| self.calls_service_level[*service] == 0.0)
            .collect()
    }

    fn replica_price(&self, service: usize) -> f64 {
        self.prices["cpu_cloud"] * self.cpu_request_cores[service]
            + self.prices["mem_cloud"] * self.mem_request_gb[service]
    }
}

fn ix(service: usize) -> ServiceIx {
    ServiceIx(u32::try_from(service).unwrap())
}

fn close(what: &str, ours: f64, theirs: f64) {
    close_of(what, ours, theirs, 0.0);
}

/// Where nothing arrives, ours is exactly 0; the reference's elimination leaves residues there, of 1e-12 of the `whole`.
fn close_of(what: &str, ours: f64, theirs: f64, whole: f64) {
    let allowed = TOLERANCE * if ours == 0.0 { whole } else { theirs.abs() };
    assert!(
        (ours - theirs).abs() <= allowed,
        "{what}: ours {ours:e}, recorded {theirs:e}"
    );
}

fn check(file: &str, case: &Case, number: usize, recorded: &Recorded) {
    let at = |what: &str| format!("{file} placement {number} {what}");
    let Checked {
        problem,
        placement,
        result,
    } = case.evaluate(&recorded.edge, &case.cpu_usage_cores);
    let memory = case.evaluate(&recorded.edge, &case.mem_usage).result;
    let edge = &result.edges[0];
    let network = case.network_delay_s(recorded);
    close(
        &at("internal"),
        edge.internal.as_f64() / 1e6,
        recorded.delay_internal_s,
    );
    close(&at("network"), edge.network.as_f64() / 1e6, network);
    let total = if case.lambda_rps > 0.0 {
        recorded.delay_total_s
    } else {
        recorded.delay_internal_s + network
    };
    close(&at("delay"), edge.delay.as_f64() / 1e6, total);
    close(&at("utilisation"), edge.utilisation.as_f64(), recorded.rho_ce);

    let uncalled = case.uncalled();
    for service in 0..case.user() {
        for (half, area) in [(0, AreaIx::Cloud), (1, AreaIx::Edge(EdgeIx(0)))] {
            let cell = half * case.n_services + service;
            let at = |what: &str| at(&format!("{what} of {service} in half {half}"));
            let calls = edge.calls.get(ix(service), area);
            close_of(
                &at("calls"),
                calls,
                recorded.calls_per_request[cell],
                case.calls_service_level[service],
            );
            // NaN, recorded as null, where nobody calls.
            assert_eq!(
                recorded.cpu_usage_cores[cell].is_none(),
                uncalled.contains(&service),
                "{file}"
            );
            let cores = recorded.cpu_usage_cores[cell].unwrap_or(0.0);
            let whole = case.cpu_usage_cores[service] + case.cpu_usage_cores[case.n_services + service];
            close_of(&at("cpu"), result.cpu_cores.get(ix(service), area), cores, whole);
            let used = recorded.mem_usage[cell].unwrap_or(0.0);
            let whole = case.mem_usage[service] + case.mem_usage[case.n_services + service];
            close_of(
                &at("memory"),
                memory.cpu_cores.get(ix(service), area),
                used,
                whole,
            );
        }
        let minimum = u32::from(uncalled.contains(&service));
        assert_eq!(
            result.replicas.get(ix(service), AreaIx::Cloud),
            recorded.replicas_cloud[service].max(minimum),
            "{}",
            at("replicas in the cloud")
        );
        let phantom = recorded
            .phantom_replicas_edge
            .as_ref()
            .is_some_and(|all| all.contains(&service));
        assert_eq!(
            result.replicas.get(ix(service), AreaIx::Edge(EdgeIx(0))),
            if phantom {
                0
            } else {
                recorded.replicas_edge[service]
            },
            "{}",
            at("replicas at the edge")
        );
    }
    let added: f64 = uncalled.iter().map(|service| case.replica_price(*service)).sum();
    let (cost, theirs) = (&result.cost, recorded);
    close(&at("cloud cost"), cost.cloud.as_f64(), theirs.cost_cloud + added);
    close(
        &at("edge cost"),
        cost.edges[0].replicas.as_f64(),
        theirs.exact_cost_edge.unwrap_or(theirs.cost_edge),
    );
    close(
        &at("network cost"),
        cost.edges[0].network.as_f64(),
        theirs.cost_network,
    );
    let total = theirs.exact_cost_total.unwrap_or(theirs.cost_total) + added;
    close(&at("cost"), cost.total().as_f64(), total);
    assert_eq!(
        DensePlacement::from_names(&problem, &placement.to_names(&problem)),
        placement
    );
}

fn check_shift(file: &str, case: &Case) {
    let shift = &case.resource_shift;
    for (what, from, to) in [
        ("cpu", &shift.from_cpu_usage_cores, &shift.to_cpu_usage_cores),
        ("memory", &shift.from_mem_usage, &shift.to_mem_usage),
    ] {
        let from: Vec<f64> = from.iter().map(|use_| use_.unwrap_or(0.0)).collect();
        let result = case.evaluate(&shift.to_edge, &from).result;
        for service in 0..case.user() {
            for (half, area) in [(0, AreaIx::Cloud), (1, AreaIx::Edge(EdgeIx(0)))] {
                let theirs = to[half * case.n_services + service].unwrap_or(0.0);
                let ours = result.cpu_cores.get(ix(service), area);
                let whole = from[service] + from[case.n_services + service];
                close_of(
                    &format!("{file} shift of {what} of {service}"),
                    ours,
                    theirs,
                    whole,
                );
            }
        }
    }
}

#[test]
fn every_recorded_evaluation_is_met() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("eval_"))
    });
    files.sort();
    let mut placements = 0;
    for path in &files {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let case: Case = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(case.schema, "gma-eval-1", "{file}");
        for (number, recorded) in case.placements.iter().enumerate() {
            check(&file, &case, number, recorded);
            placements += 1;
        }
        check_shift(&file, &case);
    }
    assert_eq!((files.len(), placements), (40, 148));
}
