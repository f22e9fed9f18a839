//! Laws of the model on random problems, cycles included.

use proptest::prelude::*;

mod cases;
mod cycles;
mod extreme;

use super::*;
use crate::cluster::RoutingPlan;
use crate::example;
use crate::routing;
use crate::units::{BitsPerSecond, Bytes, CallsPerRequest, Micros, Ratio, Rps};

pub(super) const SERVICES: usize = 6;

/// Calls between any two services, to itself too; rows sum to less than 1, so that no cycle is endless.
pub(super) fn specs(edges: usize) -> impl Strategy<Value = Spec> {
    let service = (
        0.0..20_000.0_f64,
        0.0..100_000.0_f64,
        0.1..=1.0_f64,
        0.0..2_000.0_f64,
    );
    let services = prop::collection::vec(service, SERVICES);
    let calls = prop::collection::vec((0.0..1.0_f64, 0.0..0.9_f64), SERVICES * SERVICES);
    let edge = (0.0..100_000.0_f64, prop::option::of(1e5..1e9_f64), 0.0..500.0_f64);
    let edges = prop::collection::vec(edge, edges);
    (services, calls, edges).prop_map(|(services, calls, edges)| {
        let mut spec = example::problem().spec().clone();
        let (service, edge) = (spec.services[0].clone(), spec.edges[0].clone());
        spec.edges = edges
            .into_iter()
            .enumerate()
            .map(|(at, (rtt, bandwidth, rate))| {
                let mut edge = edge.clone();
                edge.area.name = format!("edge-{at}").as_str().into();
                edge.rtt = Micros::nearest(rtt);
                edge.bandwidth = bandwidth.map(BitsPerSecond::nearest);
                edge.rate = Rps::nearest(rate);
                edge
            })
            .collect();
        spec.services = services
            .into_iter()
            .enumerate()
            .map(|(at, (own, size, overlap, hop))| {
                let mut service = service.clone();
                service.name = format!("s{at}").as_str().into();
                service.response = Bytes::nearest(size);
                service.overlap = Ratio::nearest(overlap);
                service.hop_local = Micros::nearest(hop);
                service.hop_remote = Micros::nearest(hop);
                let site = Site {
                    own: Micros::nearest(own),
                    ..service.sites[0]
                };
                service.sites = vec![site; spec.edges.len() + 1];
                service
            })
            .collect();
        spec.calls = calls
            .chunks(SERVICES)
            .enumerate()
            .flat_map(|(caller, row)| {
                let present = || row.iter().enumerate().filter(|(_, (there, _))| *there < 0.3);
                let sum = present().map(|(_, (_, f))| f).sum::<f64>().max(0.9);
                let call = move |(callee, (_, f)): (usize, &(f64, f64))| Call {
                    caller: ServiceIx::at(caller),
                    callee: ServiceIx::at(callee),
                    per_request: CallsPerRequest::nearest(0.9 * f / sum),
                };
                present().map(call).collect::<Vec<_>>()
            })
            .collect();
        spec
    })
}

pub(super) fn placement(problem: &Problem, bits: u32) -> DensePlacement {
    let mut placement = DensePlacement::cloud_only(problem);
    for (edge, _) in problem.edges() {
        for (service, _) in problem.services() {
            let bit = edge.position() * SERVICES + service.position();
            placement.set(edge, service, bits >> bit & 1 == 1);
        }
    }
    placement
}

fn resting(spec: Spec, bits: u32) -> (Problem, Evaluation) {
    let problem = Problem::try_new(spec).unwrap();
    let placement = placement(&problem, bits);
    let result = evaluate(&problem, &placement, &Shares::resting(&problem, &placement));
    (problem, result)
}

/// Calls per user request of each service, by repeated multiplication: independent of order and elimination.
fn service_calls(problem: &Problem, edge: EdgeIx) -> Vec<f64> {
    let mut fresh = vec![0.0; SERVICES];
    for (service, calls) in &problem.edge(edge).unwrap().user_calls {
        fresh[service.position()] += calls.as_f64();
    }
    let mut all = fresh.clone();
    for _ in 0..400 {
        let mut next = vec![0.0; SERVICES];
        for (service, _) in problem.services() {
            for (callee, f) in problem.calls_of(service) {
                next[callee.position()] += f * fresh[service.position()];
            }
        }
        all.iter_mut().zip(&next).for_each(|(sum, calls)| *sum += calls);
        fresh = next;
    }
    all
}

fn delays(result: &Evaluation) -> Vec<f64> {
    result.edges.iter().map(|edge| edge.delay.as_f64()).collect()
}

proptest! {
    #[test]
    fn calls_are_conserved(spec in specs(2), bits in any::<u32>()) {
        let (problem, result) = resting(spec, bits);
        for (edge, _) in problem.edges() {
            for (service, expected) in service_calls(&problem, edge).into_iter().enumerate() {
                let calls = &result.edges[edge.position()].calls;
                let sum: f64 = problem.areas().map(|area| calls.get(ServiceIx::at(service), area)).sum();
                prop_assert!((sum - expected).abs() <= 1e-9 * expected.max(1e-6), "{sum} {expected}");
            }
        }
    }

    #[test]
    fn everything_is_finite_and_the_parts_make_the_whole(spec in specs(2), bits in any::<u32>()) {
        let (problem, result) = resting(spec, bits);
        for edge in &result.edges {
            let whole = edge.internal.as_f64() + edge.network.as_f64();
            prop_assert!((edge.delay.as_f64() - whole.min(LONGEST_US)).abs() <= 1e-9 * whole);
            prop_assert!((0.0..=1.0).contains(&edge.utilisation.as_f64()));
        }
        let total = result.cost.total().as_f64();
        prop_assert!(total.is_finite() && total > 0.0);
        for (service, _) in problem.services() {
            prop_assert!(result.replicas.get(service, AreaIx::Cloud) >= 1);
        }
    }

    #[test]
    fn a_longer_way_is_never_faster(spec in specs(2), bits in any::<u32>(), more in 0.0..1e5_f64) {
        let mut slower = spec.clone();
        slower.edges[0].rtt = Micros::nearest(slower.edges[0].rtt.as_f64() + more);
        let (before, after) = (resting(spec, bits).1, resting(slower, bits).1);
        prop_assert!(after.edges[0].delay.as_f64() >= before.edges[0].delay.as_f64() * (1.0 - 1e-12));
        prop_assert_eq!(delays(&after)[1], delays(&before)[1]);
    }

    #[test]
    fn more_load_is_never_faster_or_cheaper(spec in specs(1), bits in any::<u32>(), factor in 1.0..10.0_f64) {
        let mut busier = spec.clone();
        busier.edges[0].rate = Rps::nearest(busier.edges[0].rate.as_f64() * factor);
        let (before, after) = (resting(spec, bits).1, resting(busier, bits).1);
        prop_assert!(delays(&after)[0] >= delays(&before)[0] * (1.0 - 1e-12));
        prop_assert!(after.cost.total().as_f64() >= before.cost.total().as_f64() - 1e-9);
    }

    #[test]
    fn waiting_for_more_is_never_faster(spec in specs(1), bits in any::<u32>()) {
        let mut serial = spec.clone();
        serial.services.iter_mut().for_each(|service| service.overlap = Ratio::nearest(1.0));
        let mut parallel = spec.clone();
        parallel.services.iter_mut().for_each(|service| service.overlap = Ratio::nearest(1e-9));
        let [parallel, mixed, serial] = [parallel, spec, serial].map(|spec| delays(&resting(spec, bits).1)[0]);
        prop_assert!(parallel <= mixed * (1.0 + 1e-9) && mixed <= serial * (1.0 + 1e-9), "{parallel} {mixed} {serial}");
    }

    #[test]
    fn weights_written_out_give_the_resting_shares(spec in specs(2), bits in any::<u32>(), zones in 1..4_u32) {
        let mut spec = spec;
        spec.cloud.localities = zones;
        let problem = Problem::try_new(spec).unwrap();
        let placement = placement(&problem, bits);
        let names: Vec<_> = problem.services().map(|(_, service)| service.name.clone()).collect();
        let placed = placement.to_names(&problem);
        let plan: RoutingPlan = routing::resting(&names, &placed, &"cloud".into(), problem.spec().standby);
        let (written, resting) = (Shares::from_plan(&problem, &plan), Shares::resting(&problem, &placement));
        for (service, _) in problem.services() {
            for (from, to) in problem.areas().flat_map(|from| problem.areas().map(move |to| (from, to))) {
                let (one, two) = (written.get(from, service, to), resting.get(from, service, to));
                prop_assert!((one - two).abs() <= 1e-15, "{one} {two}");
            }
        }
    }

    #[test]
    fn the_order_of_services_does_not_matter(spec in specs(1), bits in any::<u32>()) {
        let mirrored = |service: ServiceIx| ServiceIx::at(SERVICES - 1 - service.position());
        let mut turned = spec.clone();
        turned.services.reverse();
        for call in &mut turned.calls {
            (call.caller, call.callee) = (mirrored(call.caller), mirrored(call.callee));
        }
        turned.edges[0].user_calls.iter_mut().for_each(|(service, _)| *service = mirrored(*service));
        let reversed = (0..SERVICES).filter(|bit| bits >> bit & 1 == 1).map(|bit| 1 << (SERVICES - 1 - bit)).sum();
        let (one, two) = (resting(spec, bits).1, resting(turned, reversed).1);
        prop_assert!((delays(&one)[0] - delays(&two)[0]).abs() <= 1e-9 * delays(&one)[0]);
        prop_assert!((one.cost.total().as_f64() - two.cost.total().as_f64()).abs() <= 1e-9);
    }
}

/// 1 request to a service that calls itself with probability ½ and works 10 ms: 2 requests, 20 ms.
#[test]
fn a_self_call_is_a_geometric_series() {
    let mut spec = example::problem().spec().clone();
    spec.services.truncate(1);
    spec.services[0]
        .sites
        .iter_mut()
        .for_each(|site| site.own = Micros::nearest(10_000.0));
    let half = CallsPerRequest::nearest(0.5);
    spec.calls = vec![Call {
        caller: ServiceIx(0),
        callee: ServiceIx(0),
        per_request: half,
    }];
    let (_, result) = resting(spec.clone(), 0);
    assert!((result.edges[0].internal.as_f64() - 20_000.0).abs() < 1e-6);
    assert!((result.edges[0].calls.get(ServiceIx(0), AreaIx::Cloud) - 2.0).abs() < 1e-12);
    spec.calls[0].per_request = CallsPerRequest::nearest(1.0);
    let error = Problem::try_new(spec).unwrap_err();
    assert_eq!(error, ProblemError::EndlessCalls(vec!["front".into()]));
}

#[test]
fn a_saturated_link_has_a_finite_and_still_ordered_delay() {
    let mut spec = example::problem().spec().clone();
    spec.edges[0].bandwidth = Some(BitsPerSecond::nearest(1e6));
    let delay = |rate: f64| {
        let mut spec = spec.clone();
        spec.edges[0].rate = Rps::nearest(rate);
        let (_, result) = resting(spec, 0);
        (
            result.edges[0].delay.as_f64(),
            result.edges[0].utilisation.as_f64(),
        )
    };
    let ((low, below), (full, one), (over, still)) = (delay(10.0), delay(12.5), delay(25.0));
    assert!(
        low < full && full < over && over <= LONGEST_US,
        "{low} {full} {over}"
    );
    assert!(below < 1.0 && one == 1.0 && still == 1.0, "{below} {one} {still}");
}

#[test]
fn a_service_without_traffic_keeps_its_replicas() {
    let mut spec = example::problem().spec().clone();
    spec.edges[0].rate = Rps::ZERO;
    let (_, result) = resting(spec, 0b111);
    for service in [0, 1, 2].map(ServiceIx) {
        assert_eq!(result.replicas.get(service, AreaIx::Cloud), 1);
        assert_eq!(result.replicas.get(service, AreaIx::Edge(EdgeIx(0))), 1);
    }
    assert!((result.cost.total().as_f64() - 3.0 * (0.02 + 0.03)).abs() < 1e-12);
}

#[test]
fn parts_that_do_not_fit_are_refused_by_name() {
    let spec = example::problem().spec().clone();
    let refused = |change: fn(&mut Spec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        Problem::try_new(spec).unwrap_err().to_string()
    };
    for (error, text) in [
        (
            refused(|spec| spec.services[1].name = "front".into()),
            "front is used twice",
        ),
        (
            refused(|spec| spec.edges[0].area.name = "cloud".into()),
            "cloud is used twice",
        ),
        (
            refused(|spec| spec.services[2].sites.truncate(1)),
            "services[users].sites",
        ),
        (
            refused(|spec| spec.services[1].overlap = Ratio::ZERO),
            "services[cart].overlap",
        ),
        (
            refused(|spec| spec.services[1].sites[0].threshold = Ratio::ZERO),
            "services[cart].sites.threshold",
        ),
        (
            refused(|spec| spec.calls[0].callee = ServiceIx(9)),
            "calls must be",
        ),
        (refused(|spec| spec.calls.push(spec.calls[0])), "calls must be"),
        (
            refused(|spec| spec.edges[0].user_calls[0].0 = ServiceIx(9)),
            "edges[edge].userCalls",
        ),
        (
            refused(|spec| spec.edges[0].bandwidth = Some(BitsPerSecond::ZERO)),
            "edges[edge].bandwidth",
        ),
        (refused(|spec| spec.cloud.localities = 0), "cloud.localities"),
        (refused(|spec| spec.standby = Standby::Distribute(0)), "standby"),
    ] {
        assert!(error.contains(text), "{error:?} does not name {text:?}");
    }
}
