//! The solver against brute force, and its laws, on random applications.

use proptest::prelude::{ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::example;
use crate::model::{Call, Capacity, Incremental, ServiceIx, Spec, Standby};
use crate::units::{BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Ratio, Rps};

/// A service's share of randomness: own time (µs), answer (bytes), overlap, CPU (s), pin, least replicas.
type Part = (f64, f64, f64, f64, u8, u32);

/// What an application is made of beside its size.
#[derive(Clone, Copy, Debug)]
struct Shape {
    edges: usize,
    cycles: bool,
    parallel: bool,
}

fn spec(shape: Shape, parts: &[Part], calls: &[(f64, f64)], edges: &[(f64, f64, f64, f64)]) -> Spec {
    let mut spec = example::problem().spec().clone();
    let (template, edge) = (spec.services[0].clone(), spec.edges[0].clone());
    let count = parts.len();
    spec.edges = (0..shape.edges)
        .map(|at| {
            let (rtt, bandwidth, rate, target) = edges[at];
            let mut edge = edge.clone();
            edge.area.name = format!("edge-{at}").as_str().into();
            edge.rtt = Micros::nearest(rtt);
            edge.bandwidth = Some(BitsPerSecond::nearest(bandwidth));
            edge.rate = Rps::nearest(rate);
            edge.target = Some(Micros::nearest(target));
            edge
        })
        .collect();
    spec.services = parts
        .iter()
        .enumerate()
        .map(|(at, (own, bytes, overlap, cpu, pin, least))| {
            let mut service = template.clone();
            service.name = format!("s{at:03}").as_str().into();
            service.response = Bytes::nearest(*bytes);
            service.overlap = Ratio::nearest(if shape.parallel { *overlap } else { 1.0 });
            service.cpu_per_request = CpuSeconds::nearest(*cpu);
            service.pin = match pin {
                0 if at > 0 => Pin::Cloud,
                1 => Pin::Edge,
                _ => Pin::Free,
            };
            let mut site = service.sites[0];
            site.own = Micros::nearest(*own);
            service.sites = vec![site; shape.edges + 1];
            service.sites[1..]
                .iter_mut()
                .for_each(|site| site.min_replicas = *least);
            service
        })
        .collect();
    spec.calls = (0..count * count)
        .filter_map(|cell| {
            let (caller, callee) = (cell / count, cell % count);
            let (there, f) = calls[cell];
            let back = caller >= callee;
            let most = if back { 0.15 } else { 0.5 };
            let there = there < if back { 0.03 } else { 0.35 } && (!back || shape.cycles) && callee > 0;
            there.then(|| Call {
                caller: ServiceIx::at(caller),
                callee: ServiceIx::at(callee),
                per_request: CallsPerRequest::nearest(f * if back { most } else { 2.0 * most }),
            })
        })
        .collect();
    spec.standby = Standby::Distribute(1);
    spec
}

fn specs(shape: Shape, count: std::ops::RangeInclusive<usize>) -> impl Generator<Value = Spec> {
    let part = (
        100.0..20_000.0_f64,
        0.0..300_000.0_f64,
        0.2..=1.0_f64,
        0.0..0.05_f64,
        0..12_u8,
        0..2_u32,
    );
    let edge = (
        1_000.0..100_000.0_f64,
        3e7..1e9_f64,
        0.0..200.0_f64,
        5_000.0..200_000.0_f64,
    );
    count.prop_flat_map(move |count| {
        (
            prop::collection::vec(part.clone(), count),
            prop::collection::vec((0.0..1.0_f64, 0.05..1.0_f64), count * count),
            prop::collection::vec(edge.clone(), shape.edges),
        )
            .prop_map(move |(parts, calls, edges)| spec(shape, &parts, &calls, &edges))
    })
}

/// Cycles that have no end are refused by [`Problem::try_new`]; the generator makes few.
fn problem(spec: &Spec) -> Option<Problem> {
    Problem::try_new(spec.clone()).ok()
}

/// Costs of the cheapest placement within limits and room, and the lowest excess of delay, by looking at all of them.
fn brute(problem: &Problem) -> (Option<f64>, f64) {
    let mut now = Incremental::new(problem, &DensePlacement::cloud_only(problem));
    let cells: Vec<(EdgeIx, ServiceIx)> = problem
        .edges()
        .flat_map(|(edge, _)| {
            problem
                .services()
                .map(move |(service, value)| (edge, service, value.pin))
        })
        .filter(|(.., pin)| *pin == Pin::Free)
        .map(|(edge, service, _)| (edge, service))
        .collect();
    let mut cheapest: Option<f64> = None;
    let mut nearest = f64::INFINITY;
    for code in 1_u64..=1 << cells.len() {
        let over: f64 = problem
            .edges()
            .map(|(edge, value)| {
                let target = value.target.unwrap().as_f64();
                let over = now.delay_us(edge) - target;
                if over <= SAME * target { 0.0 } else { over }
            })
            .sum();
        if now.fits() {
            nearest = nearest.min(over);
            if over == 0.0 && cheapest.is_none_or(|cheapest| now.cost() < cheapest) {
                cheapest = Some(now.cost());
            }
        }
        if let Some((edge, service)) = cells.get(code.trailing_zeros() as usize) {
            now.flip(*edge, *service);
        }
    }
    (cheapest, nearest)
}

fn delays(solution: &Solution) -> Vec<f64> {
    solution
        .edges
        .iter()
        .map(|edge| edge.predicted.as_f64())
        .collect()
}

fn start(problem: &Problem, bits: u64) -> DensePlacement {
    let mut placement = DensePlacement::cloud_only(problem);
    for (edge, _) in problem.edges() {
        for (service, _) in problem.services() {
            placement.set(
                edge,
                service,
                bits >> (service.position() + 7 * edge.position()) & 1 == 1,
            );
        }
    }
    pinned(problem, &placement)
}

fn check_brute(problem: &Problem, bits: u64) -> Result<(), TestCaseError> {
    let (cheapest, nearest) = brute(problem);
    let solution = solve(
        problem,
        &start(problem, bits),
        Budget {
            evaluations: 2_000_000,
        },
    );
    let cost = solution.evaluation.cost.total().as_f64();
    let met = solution.edges.iter().all(|edge| edge.reach == Reach::Met);
    prop_assert_eq!(
        met,
        cheapest.is_some(),
        "nearest {} of {:?}",
        nearest,
        solution.edges
    );
    if let Some(cheapest) = cheapest {
        prop_assert!(
            (cost - cheapest).abs() <= 1e-9 * cheapest,
            "ours {cost} optimum {cheapest}"
        );
        prop_assert!(
            solution.bound.cost.as_f64() <= cheapest,
            "bound {:?} optimum {cheapest}",
            solution.bound
        );
        prop_assert!(
            solution.bound.optimal,
            "{:?} {cheapest} {}",
            solution.bound,
            solution.evaluations
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_edge_is_brute_force(
        spec in specs(Shape { edges: 1, cycles: false, parallel: false }, 2..=12), bits in any::<u64>(),
    ) {
        check_brute(&problem(&spec).unwrap(), bits)?;
    }

    #[test]
    fn parallel_calls_and_cycles_are_brute_force(
        spec in specs(Shape { edges: 1, cycles: true, parallel: true }, 2..=10), bits in any::<u64>(),
    ) {
        if let Some(problem) = problem(&spec) {
            check_brute(&problem, bits)?;
        }
    }

    #[test]
    fn two_edges_that_share_the_cloud_are_brute_force(
        spec in specs(Shape { edges: 2, cycles: false, parallel: false }, 2..=6), bits in any::<u64>(),
    ) {
        check_brute(&problem(&spec).unwrap(), bits)?;
    }

    #[test]
    fn room_is_never_exceeded_and_pins_hold(
        mut spec in specs(Shape { edges: 2, cycles: false, parallel: false }, 2..=6),
        cpu in 0.0..8.0_f64, pods in 0..6_u32, bits in any::<u64>(),
    ) {
        spec.services.iter_mut().filter(|service| service.pin == Pin::Edge).for_each(|service| service.pin = Pin::Free);
        spec.edges[0].capacity = Capacity { cpu: Some(CpuCores::nearest(cpu)), memory: None, pods: Some(pods) };
        let problem = problem(&spec).unwrap();
        check_brute(&problem, bits)?;
        let solution = solve(&problem, &start(&problem, bits), Budget::default());
        let now = Incremental::new(&problem, &solution.placement);
        prop_assert!(now.fits());
        for (service, value) in problem.services().filter(|(_, value)| value.pin == Pin::Cloud) {
            prop_assert!(problem.edges().all(|(edge, _)| !solution.placement.contains(edge, service)), "{}", value.name);
        }
    }

    #[test]
    fn no_strategy_is_cheaper_and_the_answer_stays(
        spec in specs(Shape { edges: 1, cycles: true, parallel: true }, 8..=14), bits in any::<u64>(),
    ) {
        let Some(problem) = problem(&spec) else { return Ok(()) };
        let edge = EdgeIx(0);
        let current = start(&problem, bits);
        let budget = Budget { evaluations: 60_000 };
        let solution = solve(&problem, &current, budget);
        let cost = solution.evaluation.cost.total().as_f64();
        let target = problem.edge(edge).unwrap().target.unwrap().as_f64();
        let now = Incremental::new(&problem, &current).delay_us(edge);
        for strategy in Strategy::ALL {
            let goal = if now > target { Goal::Decrease(now - target) } else { Goal::Increase(target - now) };
            let other = strategy::run(&problem, edge, &current, strategy, &Params::new(goal));
            if other.delay.as_f64() <= target {
                prop_assert!(cost <= other.cost.as_f64() * (1.0 + 1e-9), "{strategy} {:?} {cost}", other.cost);
                prop_assert_eq!(solution.edges[0].reach, Reach::Met);
            }
        }
        let mut staying = Incremental::new(&problem, &current);
        if staying.delay_us(edge) <= target {
            prop_assert!(cost <= staying.cost() * (1.0 + 1e-9));
        }
        if !solution.exhausted {
            let again = solve(&problem, &solution.placement, budget);
            prop_assert_eq!(again.placement, solution.placement);
        }
    }

    #[test]
    fn the_order_of_services_does_not_matter(
        spec in specs(Shape { edges: 2, cycles: true, parallel: true }, 4..=10), turn in 1..10_usize, bits in any::<u64>(),
    ) {
        let Some(straight) = problem(&spec) else { return Ok(()) };
        let count = spec.services.len();
        let placed = |service: ServiceIx| ServiceIx::at((service.position() + turn) % count);
        let mut turned = spec.clone();
        turned.services.rotate_right(turn % count);
        for call in &mut turned.calls {
            (call.caller, call.callee) = (placed(call.caller), placed(call.callee));
        }
        for edge in &mut turned.edges {
            edge.user_calls.iter_mut().for_each(|(service, _)| *service = placed(*service));
        }
        turned.edges.reverse();
        turned.services.iter_mut().for_each(|service| service.sites[1..].reverse());
        let turned = problem(&turned).unwrap();
        let current = start(&straight, bits);
        let one = solve(&straight, &current, Budget::default());
        let other = solve(&turned, &DensePlacement::from_names(&turned, &current.to_names(&straight)), Budget::default());
        prop_assert_eq!(one.placement.to_names(&straight), other.placement.to_names(&turned));
        prop_assert_eq!(one.bound, other.bound);
        let (mut ours, mut theirs) = (delays(&one), delays(&other));
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        for (ours, theirs) in ours.iter().zip(theirs) {
            prop_assert!((ours - theirs).abs() <= 1e-9 * theirs);
        }
    }
}
