//! Properties of the greedy strategy on random applications, with brute force as the oracle.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{Reach, plan};
use crate::example;
use crate::model::{Call, DensePlacement, EdgeIx, Pin, Problem, ServiceIx, Shares, Spec, evaluate};
use crate::units::{BitsPerSecond, Bytes, CallsPerRequest, CpuSeconds, Micros, Ratio, Rps};

const EDGE: EdgeIx = EdgeIx(0);

/// The example's areas with other services: a random graph in which callees have higher numbers, an own time, a size, an
/// overlap and a use for each, and pins for some.
fn problems(count: usize) -> impl Strategy<Value = Problem> {
    let service = (
        1_000.0..20_000.0_f64,
        0.0..50_000.0_f64,
        0.2..1.0_f64,
        0.0..0.02_f64,
        0..10_u8,
    );
    let services = prop::collection::vec(service, count);
    let calls = prop::collection::vec((0.0..1.0_f64, 0.05..1.5_f64), count * count);
    let edge = (1_000.0..100_000.0_f64, 1e6..1e9_f64, 1.0..200.0_f64);
    (services, calls, edge).prop_map(move |(services, calls, (rtt, bandwidth, rate))| {
        let mut spec: Spec = example::problem().spec().clone();
        let template = spec.services[0].clone();
        spec.services = (0..)
            .zip(services)
            .map(|(at, (own, size, overlap, cpu, pin))| {
                let mut service = template.clone();
                service.name = format!("s{at}").as_str().into();
                service.response = Bytes::nearest(size);
                service.overlap = Ratio::nearest(overlap);
                service.cpu_per_request = CpuSeconds::nearest(cpu);
                service.pin = if at > 0 && pin == 0 { Pin::Cloud } else { Pin::Free };
                service
                    .sites
                    .iter_mut()
                    .for_each(|site| site.own = Micros::nearest(own));
                service
            })
            .collect();
        let pairs = (0..count).flat_map(|caller| (caller + 1..count).map(move |callee| (caller, callee)));
        spec.calls = pairs
            .zip(calls)
            .filter(|((caller, callee), (there, _))| *there < 0.35 || callee - caller == 1 && *there < 0.6)
            .map(|((caller, callee), (_, per_request))| Call {
                caller: ServiceIx::at(caller),
                callee: ServiceIx::at(callee),
                per_request: CallsPerRequest::nearest(per_request),
            })
            .collect();
        spec.edges[0].rtt = Micros::nearest(rtt);
        spec.edges[0].bandwidth = Some(BitsPerSecond::nearest(bandwidth));
        spec.edges[0].rate = Rps::nearest(rate);
        Problem::try_new(spec).unwrap()
    })
}

fn delay_and_cost(problem: &Problem, placement: &DensePlacement) -> (f64, f64) {
    let result = evaluate(problem, placement, &Shares::resting(problem, placement));
    (result.edges[0].delay.as_f64(), result.cost.total().as_f64())
}

fn subset(problem: &Problem, bits: usize) -> DensePlacement {
    let mut placement = DensePlacement::cloud_only(problem);
    for (service, value) in problem.services() {
        placement.set(
            EDGE,
            service,
            value.pin == Pin::Free && bits >> service.position() & 1 == 1,
        );
    }
    placement
}

/// The cheapest placement that meets a target.
fn optimum(problem: &Problem, target: f64) -> Option<f64> {
    let all = (0..1 << problem.services_len()).map(|bits| delay_and_cost(problem, &subset(problem, bits)));
    all.filter(|(delay, _)| *delay <= target)
        .map(|(_, cost)| cost)
        .min_by(f64::total_cmp)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_worse_than_staying(problem in problems(7), bits in 0..128_usize, part in 0.05..1.5_f64) {
        let now = subset(&problem, bits);
        let (delay, cost) = delay_and_cost(&problem, &now);
        let target = part * delay;
        let plan = plan(&problem, EDGE, &now, Micros::nearest(target));
        let (after, cost_after) = delay_and_cost(&problem, &plan.placement);
        prop_assert!((plan.predicted.as_f64() - after).abs() <= 1e-6 * after);
        prop_assert!((plan.cost_after.as_f64() - cost_after).abs() <= 1e-9 * cost_after);
        if delay <= target {
            prop_assert_eq!(plan.reach, Reach::Met);
            prop_assert!(after <= target * (1.0 + 1e-9) && cost_after <= cost + 1e-9);
            prop_assert!(plan.add.is_empty());
        } else {
            prop_assert!(after <= delay);
            prop_assert!(plan.remove.is_empty());
            prop_assert_eq!(plan.reach == Reach::NoBetterPlacement, plan.add.is_empty());
        }
        for service in &plan.add {
            prop_assert_eq!(problem.service(*service).unwrap().pin, Pin::Free);
        }
    }

    #[test]
    fn a_plan_of_its_own_result_changes_nothing(problem in problems(7), part in 0.2..1.2_f64) {
        let now = DensePlacement::cloud_only(&problem);
        let target = Micros::nearest(part * delay_and_cost(&problem, &now).0);
        let first = plan(&problem, EDGE, &now, target);
        if first.reach == Reach::Met {
            let again = plan(&problem, EDGE, &first.placement, target);
            prop_assert!(again.add.is_empty() && again.cost_after <= first.cost_after);
        }
    }

    #[test]
    fn what_everything_at_the_edge_meets_is_met(problem in problems(7), part in 0.3..0.99_f64) {
        let (now, all) = (DensePlacement::cloud_only(&problem), subset(&problem, 127));
        let (slow, fast) = (delay_and_cost(&problem, &now).0, delay_and_cost(&problem, &all).0);
        prop_assume!(fast < slow);
        let target = fast + part * (slow - fast);
        let plan = plan(&problem, EDGE, &now, Micros::nearest(target));
        prop_assert_eq!(plan.reach, Reach::Met);
    }
}

/// What greedy is worth: on 100 fixed applications with the target half-way, against the optimum of all subsets.
#[test]
fn near_the_optimum_of_all_subsets() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut solved, mut exact, mut worst) = (0_u32, 0_u32, 0.0_f64);
    for _ in 0..100 {
        let problem = problems(7).new_tree(&mut runner).unwrap().current();
        let (now, all) = (DensePlacement::cloud_only(&problem), subset(&problem, 127));
        let ((slow, cost), (fast, _)) = (delay_and_cost(&problem, &now), delay_and_cost(&problem, &all));
        let target = f64::midpoint(slow, fast);
        let Some(optimum) = optimum(&problem, target).filter(|_| fast < slow) else {
            continue;
        };
        let plan = plan(&problem, EDGE, &now, Micros::nearest(target));
        assert_eq!(plan.reach, Reach::Met);
        let over = (plan.cost_after.as_f64() - optimum) / cost;
        assert!(
            over >= -1e-9,
            "below the optimum: the oracle or the plan is wrong"
        );
        solved += 1;
        exact += u32::from(over < 1e-9);
        worst = worst.max(over);
    }
    println!(
        "{exact} of {solved} optimal, the worst {:.1} % of the cloud's cost above",
        100.0 * worst
    );
    assert!(
        solved >= 80 && exact * 10 >= solved * 9 && worst < 0.05,
        "{exact} of {solved}, worst {worst}"
    );
}

#[test]
fn a_target_below_the_leak_is_said_with_what_is_reachable() {
    let problem = example::problem();
    let now = DensePlacement::cloud_only(&problem);
    let plan = plan(&problem, EDGE, &now, Micros::nearest(20_000.0));
    let Reach::TargetTooLow { all_at_edge } = plan.reach else {
        panic!("{:?}", plan.reach)
    };
    // 20 ms of own time, and 1 % of the first call or, where that stayed, of two more cross the WAN.
    let leak = 80_000.0 * (0.01 + 0.99 * 2.0 * 0.01);
    let expected = 20_000.0 + leak;
    assert!(
        (all_at_edge.as_f64() - expected).abs() < 10.0,
        "{all_at_edge}, expected {expected}"
    );
    assert_eq!(plan.add, BTreeSet::from([0, 1, 2].map(ServiceIx)));
}

#[test]
fn the_prediction_starts_from_what_was_measured() {
    let mut spec = example::problem().spec().clone();
    spec.edges[0].measured = Some(Micros::nearest(150_000.0));
    let problem = Problem::try_new(spec).unwrap();
    let now = DensePlacement::cloud_only(&problem);
    let plan = plan(&problem, EDGE, &now, Micros::nearest(80_000.0));
    let change = delay_and_cost(&problem, &now).0 - delay_and_cost(&problem, &plan.placement).0;
    assert_eq!(plan.now.as_f64(), 150_000.0);
    assert!(
        (plan.predicted.as_f64() - (150_000.0 - change)).abs() < 1e-6,
        "{plan:?}"
    );
    let stay = super::plan(&problem, EDGE, &now, Micros::nearest(150_000.0));
    assert_eq!((stay.predicted.as_f64(), stay.reach), (150_000.0, Reach::Met));
}
