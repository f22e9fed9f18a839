//! Laws of the strategies on random problems, and each defect on an application made for it.

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::params::Strategy;
use super::*;
use crate::example;
use crate::model::{Call, Pin, ServiceIx, Shares, Spec, evaluate};
use crate::units::{CallsPerRequest, Micros, Money};

const SERVICES: usize = 9;

/// Calls between any services, itself included, cycles too; 0 and 8 are pinned where `pins` says.
fn specs() -> impl proptest::strategy::Strategy<Value = Spec> {
    let calls = prop::collection::vec((0.0..1.0_f64, 0.0..0.9_f64), SERVICES * SERVICES);
    let own = prop::collection::vec(0.0..20_000.0_f64, SERVICES);
    (calls, own, 0..3_usize).prop_map(|(calls, own, pins)| {
        let mut spec = spec(&[], &own);
        let mut second = spec.edges[0].clone();
        second.area.name = "other".into();
        spec.edges.push(second);
        for service in &mut spec.services {
            service.sites.push(service.sites[1]);
        }
        spec.services[8].pin = [Pin::Free, Pin::Edge, Pin::Cloud][pins];
        for (caller, row) in calls.chunks(SERVICES).enumerate() {
            let present = row.iter().enumerate().filter(|(_, (there, _))| *there < 0.25);
            let sum = present.clone().map(|(_, (_, f))| f).sum::<f64>().max(0.9);
            spec.calls
                .extend(present.map(|(callee, (_, f))| call(caller, callee, 0.9 * f / sum)));
        }
        spec
    })
}

fn call(caller: usize, callee: usize, per_request: f64) -> Call {
    Call {
        caller: ServiceIx::at(caller),
        callee: ServiceIx::at(callee),
        per_request: CallsPerRequest::nearest(per_request),
    }
}

/// The example's area, link and users of service 0; a service for each own time (µs); calls as given.
fn spec(calls: &[(usize, usize, f64)], own: &[f64]) -> Spec {
    let mut spec = example::problem().spec().clone();
    let service = spec.services[0].clone();
    let services = own.iter().enumerate().map(|(at, own)| {
        let mut service = service.clone();
        service.name = format!("s{at}").as_str().into();
        service
            .sites
            .iter_mut()
            .for_each(|site| site.own = Micros::nearest(*own));
        service
    });
    spec.services = services.collect();
    spec.calls = calls
        .iter()
        .map(|(caller, callee, f)| call(*caller, *callee, *f))
        .collect();
    spec
}

const EDGE: EdgeIx = EdgeIx(0);

fn at_edge(problem: &Problem, services: &[u32]) -> DensePlacement {
    let mut placement = DensePlacement::cloud_only(problem);
    services
        .iter()
        .for_each(|service| placement.set(EDGE, ServiceIx(*service), true));
    placement
}

fn there(problem: &Problem, outcome: &Outcome) -> Vec<u32> {
    let services = outcome.placement.at_edge(problem, EDGE);
    services.into_iter().map(|service| service.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_strategy_keeps_its_word(
        spec in specs(), bits in 0..512_u32, locked in 0..512_u32, change in -50_000.0..150_000.0_f64,
        depth in prop::option::of(0..4_usize), up in any::<bool>(), stop in prop::option::of(0.1..1.5_f64),
        evaluations in prop::option::of(0..60_u64), repeated in any::<bool>(), seed in any::<u64>(),
    ) {
        let problem = Problem::try_new(spec).unwrap();
        let members = |bits: u32| (0..9_u32).filter(move |bit| bits >> bit & 1 == 1);
        let mut start = at_edge(&problem, &members(bits).collect::<Vec<_>>());
        start.set(EdgeIx(1), ServiceIx(3), true);
        let params = Params {
            stop_us: stop.map(|stop| stop * change),
            expanding_depth: depth,
            traces: Traces::Drawn { count: 200, seed },
            locked: members(locked).map(ServiceIx).collect(),
            evaluations: evaluations.unwrap_or(1_000_000),
            defects: if repeated { Defects::all() } else { Defects::default() },
            ..Params::new(if up { Goal::Increase(change) } else { Goal::Decrease(change) })
        };
        for strategy in Strategy::ALL {
            let outcome = run(&problem, EDGE, &start, strategy, &params);
            prop_assert_eq!(&run(&problem, EDGE, &start, strategy, &params), &outcome);
            let result = evaluate(&problem, &outcome.placement, &Shares::resting(&problem, &outcome.placement));
            let (delay, cost) = (result.edges[0].delay.as_f64(), result.cost.total().as_f64());
            prop_assert!((outcome.delay.as_f64() - delay).abs() <= 1e-9 * delay, "{} {}", outcome.delay, delay);
            prop_assert!((outcome.cost.as_f64() - cost).abs() <= 1e-9 * cost, "{} {}", outcome.cost, cost);
            prop_assert!(outcome.evaluations <= params.evaluations);
            let named = DensePlacement::from_names(&problem, &outcome.placement.to_names(&problem));
            prop_assert_eq!(&named, &outcome.placement);
            if evaluations.is_none() {
                prop_assert!(!outcome.exhausted && !outcome.truncated);
            }
            for (service, value) in problem.services() {
                let (before, after) = (start.contains(EDGE, service), outcome.placement.contains(EDGE, service));
                prop_assert_eq!(outcome.placement.contains(EdgeIx(1), service), start.contains(EdgeIx(1), service));
                match value.pin {
                    Pin::Free => {}
                    Pin::Edge => prop_assert!(after),
                    Pin::Cloud => prop_assert!(!after),
                }
                if value.pin == Pin::Free && !before && after {
                    prop_assert!(!params.locked.contains(&service) && !up, "{strategy} added {service:?}");
                }
            }
            let changed = outcome.delay.as_f64() - outcome.delay_before.as_f64();
            prop_assert_eq!(outcome.met, if up { changed <= change } else { -changed >= change });
        }
    }

    #[test]
    fn nothing_is_taken_away_at_a_loss(spec in specs(), bits in 0..512_u32) {
        let mut spec = spec;
        spec.services[8].pin = Pin::Free;
        let problem = Problem::try_new(spec).unwrap();
        let members: Vec<u32> = (0..9_u32).filter(|bit| bits >> bit & 1 == 1).collect();
        // Every delay is allowed, so nothing is added.
        let params = Params::new(Goal::Decrease(-1e9));
        let outcome = run(&problem, EDGE, &at_edge(&problem, &members), Strategy::Sbmp, &params);
        prop_assert!(outcome.cost.as_f64() <= outcome.cost_before.as_f64() * (1.0 + 1e-9));
    }

    #[test]
    fn what_sbmp_adds_is_reached(spec in specs(), change in 0.0..150_000.0_f64, locked in 0..512_u32, seed in any::<u64>()) {
        let mut spec = spec;
        spec.services[8].pin = Pin::Free;
        let problem = Problem::try_new(spec).unwrap();
        let start = DensePlacement::cloud_only(&problem);
        let locked = (1..9_u32).filter(|bit| locked >> bit & 1 == 1).map(ServiceIx).collect();
        let params = Params { locked, traces: Traces::Drawn { count: 50, seed }, ..Params::new(Goal::Decrease(change)) };
        for strategy in [Strategy::Sbmp, Strategy::Copamp] {
            let outcome = run(&problem, EDGE, &start, strategy, &params);
            let calls = evaluate(&problem, &outcome.placement, &Shares::resting(&problem, &outcome.placement));
            for service in outcome.placement.at_edge(&problem, EDGE) {
                let arriving = calls.edges[0].calls.get(service, crate::model::AreaIx::Edge(EDGE));
                prop_assert!(arriving > 0.0, "{strategy} left {service:?} without a caller");
            }
        }
    }
}

#[test]
fn names_are_read_in_any_case_and_others_refused() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().to_lowercase().parse(), Ok(strategy));
    }
    let error = "greedy".parse::<Strategy>().unwrap_err().to_string();
    assert!(error.contains("greedy") && error.contains("COPAMP"), "{error}");
}

/// Traces of 0 alone, of 0 with 1, and twice of 0 with 2: with room for one candidate it is the last, unless candidates
/// are ordered by members.
#[test]
fn s3_the_most_frequent_candidate_is_kept() {
    let problem = Problem::try_new(spec(&[(0, 1, 0.3), (0, 2, 0.7)], &[5e3; 3])).unwrap();
    let trace = |services: &[u32]| services.iter().copied().map(ServiceIx).collect::<Vec<_>>();
    let mut params = Params {
        max_sgs: 1,
        stop_us: Some(1.0),
        traces: Traces::Given(vec![
            trace(&[0, 1, 2]),
            trace(&[0, 1]),
            trace(&[0, 2]),
            trace(&[0, 2]),
        ]),
        // Nothing is removed below a target that is never met.
        defects: Defects::default().with(Defect::S7),
        ..Params::new(Goal::Decrease(1e9))
    };
    let start = DensePlacement::cloud_only(&problem);
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert!(outcome.truncated);
    assert_eq!(there(&problem, &outcome), [0, 2]);
    params.defects = params.defects.with(Defect::S3);
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert_eq!(there(&problem, &outcome), [0, 1, 2]);
}

/// A chain: with depth 1 unoffload builds it up again service by service and ends as soon as it may.
#[test]
fn s4_unoffload_obeys_the_depth() {
    let calls = [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)];
    let mut spec = spec(&calls, &[5e3; 4]);
    spec.edges[0].area.prices.cpu_core_hour = Money::nearest(0.01);
    let problem = Problem::try_new(spec).unwrap();
    let start = at_edge(&problem, &[0, 1, 2, 3]);
    let evaluations = |depth, defects| {
        let params = Params {
            expanding_depth: depth,
            defects,
            ..Params::new(Goal::Increase(10_000.0))
        };
        run(&problem, EDGE, &start, Strategy::Sbmp, &params).evaluations
    };
    let (ignored, kept) = (Defects::default().with(Defect::S4), Defects::default());
    assert_eq!(evaluations(Some(1), ignored), evaluations(None, kept));
    assert_ne!(evaluations(Some(1), kept), evaluations(None, kept));
}

/// 0 calls 1, 1 calls 2; 1 is locked, so 2 has no caller at the edge.
#[test]
fn s5_what_a_lock_cuts_off_stays_out() {
    let problem = Problem::try_new(spec(&[(0, 1, 1.0), (1, 2, 1.0), (0, 3, 1.0)], &[5e3; 4])).unwrap();
    let all = (0..4).map(ServiceIx).collect();
    let mut params = Params {
        expanding_depth: None,
        locked: vec![ServiceIx(1)],
        traces: Traces::Given(vec![all]),
        ..Params::new(Goal::Decrease(1e6))
    };
    let start = at_edge(&problem, &[0]);
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert_eq!(there(&problem, &outcome), [0, 3]);
    params.defects = Defects::default().with(Defect::S5);
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    // The gateway is not on the frontier: the row is cut relative to 3, its last service, and 0 is there already.
    assert_eq!(there(&problem, &outcome), [0, 3]);
    let problem = Problem::try_new(spec(&[(0, 1, 1.0), (1, 3, 1.0), (0, 2, 1.0)], &[5e3; 4])).unwrap();
    let start = at_edge(&problem, &[0]);
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert_eq!(
        there(&problem, &outcome),
        [0, 3],
        "3 without a caller in place of 2"
    );
    params.defects = Defects::default();
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert_eq!(there(&problem, &outcome), [0, 2]);
}

/// An edge that is cheaper than the cloud: without its leaf the application costs more, and the delay allows for it.
#[test]
fn s6_nothing_is_removed_at_a_loss() {
    let mut spec = spec(&[(0, 1, 1.0)], &[5e3; 2]);
    spec.edges[0].area.prices.cpu_core_hour = Money::nearest(0.0199);
    spec.edges[0].traffic_gb = Money::ZERO;
    for service in &mut spec.services {
        service.sites[0].min_replicas = 0;
        service.sites[1].min_replicas = 0;
    }
    spec.standby = crate::model::Standby::Failover;
    let problem = Problem::try_new(spec).unwrap();
    let start = at_edge(&problem, &[0, 1]);
    let mut params = Params::new(Goal::Decrease(-100_000.0));
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert_eq!(there(&problem, &outcome), [0, 1]);
    assert_eq!(outcome.cost, outcome.cost_before);
    params.defects = Defects::default().with(Defect::S6);
    let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
    assert!(there(&problem, &outcome).is_empty());
    assert!(outcome.cost > outcome.cost_before);
}

/// An edge dearer than the cloud, and a stop condition at a third of what may be lost.
#[test]
fn s7_unoffload_ends_at_the_stop_condition() {
    let problem = Problem::try_new(spec(&[(0, 1, 0.25), (0, 2, 0.25), (0, 3, 0.25)], &[5e3; 4])).unwrap();
    let start = at_edge(&problem, &[0, 1, 2, 3]);
    let rise = |defects| {
        let params = Params {
            stop_us: Some(21_000.0),
            defects,
            ..Params::new(Goal::Increase(63_000.0))
        };
        let outcome = run(&problem, EDGE, &start, Strategy::Sbmp, &params);
        outcome.delay.as_f64() - outcome.delay_before.as_f64()
    };
    let (ours, theirs) = (
        rise(Defects::default()),
        rise(Defects::default().with(Defect::S7)),
    );
    assert!((10_000.0..=21_000.0).contains(&ours), "{ours}");
    assert!((21_000.0..=63_000.0).contains(&theirs), "{theirs}");
}

#[test]
fn s15_ia_unoffloads() {
    let problem = Problem::try_new(spec(&[(0, 1, 0.9), (0, 2, 0.1)], &[5e3; 3])).unwrap();
    let start = at_edge(&problem, &[0, 1, 2]);
    let mut params = Params::new(Goal::Increase(10_000.0));
    let outcome = run(&problem, EDGE, &start, Strategy::Ia, &params);
    assert_eq!(there(&problem, &outcome), [0, 1]);
    params.defects = Defects::default().with(Defect::S15);
    let outcome = run(&problem, EDGE, &start, Strategy::Ia, &params);
    assert_eq!(there(&problem, &outcome), [0, 1, 2]);
}

/// 24 layers of 2 services, each calling both of the next: 2^24 paths, and traces that double with every layer.
#[test]
fn dense_graphs_end() {
    let calls: Vec<(usize, usize, f64)> = (0..46)
        .flat_map(|caller| {
            let next = (caller / 2 + 1) * 2;
            [(caller, next, 1.0), (caller, next + 1, 1.0)]
        })
        .collect();
    let problem = Problem::try_new(spec(&calls, &[10.0; 48])).unwrap();
    let params = Params {
        max_paths: 500,
        evaluations: 2_000,
        traces: Traces::Drawn { count: 20, seed: 1 },
        ..Params::new(Goal::Decrease(1e12))
    };
    let start = DensePlacement::cloud_only(&problem);
    for strategy in Strategy::ALL {
        let outcome = run(&problem, EDGE, &start, strategy, &params);
        assert!(!outcome.met, "{strategy}");
        assert_eq!(outcome.truncated, strategy == Strategy::Copamp, "{strategy}");
    }
}

/// 0 calls 1 with a probability of 0.3: of 10,000 traces some 3,000, with a standard deviation of 46.
#[test]
fn traces_follow_the_calls() {
    let problem = Problem::try_new(spec(&[(0, 1, 0.3)], &[0.0; 2])).unwrap();
    let entries = [(ServiceIx(0), 1.0)];
    let traces = random::traces(&problem, &entries, 10_000, 7);
    let with_1: u32 = traces
        .iter()
        .filter(|(trace, _)| set::contains(trace, ServiceIx(1)))
        .map(|(_, count)| count)
        .sum();
    assert!((2_770..=3_231).contains(&with_1), "{with_1}");
}
