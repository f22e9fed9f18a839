//! Laws on absurd but valid numbers: nothing that is refused at the border, whatever its size.

use super::*;
use crate::units::{CpuCores, CpuSeconds, Gigabytes, MAX, Money};

/// 0, the smallest and the largest number, and all sizes between.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(f64::MIN_POSITIVE),
        Just(1.0),
        Just(MAX),
        (-300.0..24.0_f64).prop_map(|power| 10.0_f64.powf(power)),
        0.0..1e6_f64,
    ]
}

fn positive() -> impl Strategy<Value = f64> {
    number().prop_map(|value| value.max(f64::MIN_POSITIVE))
}

fn site() -> impl Strategy<Value = Site> {
    let replicas = prop_oneof![Just(0), Just(u32::MAX), 0..10_u32];
    (number(), number(), number(), positive(), replicas).prop_map(
        |(own, cpu, memory, threshold, min_replicas)| Site {
            own: Micros::nearest(own),
            cpu_request: CpuCores::nearest(cpu),
            memory_request: Gigabytes::nearest(memory),
            threshold: Ratio::nearest(threshold),
            min_replicas,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let overlap = prop_oneof![Just(1.0), Just(f64::MIN_POSITIVE), 0.01..1.0_f64];
    let sites = prop::collection::vec(site(), 3);
    (number(), overlap, number(), number(), number(), sites).prop_map(
        |(size, overlap, local, remote, cpu, sites)| Service {
            name: "?".into(),
            response: Bytes::nearest(size),
            overlap: Ratio::nearest(overlap),
            hop_local: Micros::nearest(local),
            hop_remote: Micros::nearest(remote),
            cpu_per_request: CpuSeconds::nearest(cpu),
            pin: Pin::Free,
            sites,
        },
    )
}

fn area() -> impl Strategy<Value = Area> {
    let localities = prop_oneof![Just(1), Just(u32::MAX), 1..200_u32];
    (number(), number(), localities).prop_map(|(cpu, memory, localities)| Area {
        name: "cloud".into(),
        prices: Prices {
            cpu_core_hour: Money::nearest(cpu),
            memory_gb_hour: Money::nearest(memory),
        },
        localities,
    })
}

fn edge() -> impl Strategy<Value = Edge> {
    let bandwidth = prop::option::of(number().prop_map(|bandwidth| bandwidth.max(1.0)));
    let calls = prop_oneof![Just(0.0), Just(1.0), Just(1e9), 0.0..3.0_f64];
    let calls = prop::collection::vec(calls, SERVICES);
    (area(), number(), bandwidth, number(), number(), calls).prop_map(
        |(area, rtt, bandwidth, price, rate, calls)| Edge {
            standby: None,
            area,
            rtt: Micros::nearest(rtt),
            bandwidth: bandwidth.map(BitsPerSecond::nearest),
            traffic_gb: Money::nearest(price),
            rate: Rps::nearest(rate),
            user_calls: (0..SERVICES)
                .map(ServiceIx::at)
                .zip(calls.into_iter().map(CallsPerRequest::nearest))
                .collect(),
            ..example::problem().spec().edges[0].clone()
        },
    )
}

/// Calls between any two services, fewer of them back to a caller: many graphs are refused, and the rest is often near
/// the limit.
fn problems() -> impl Strategy<Value = Result<Problem, ProblemError>> {
    let onward = prop_oneof![4 => Just(0.0), 2 => Just(1.0), 1 => number().prop_map(|f| f.min(30.0)), 1 => 0.0..5.0_f64];
    let back = prop_oneof![20 => Just(0.0), 1 => Just(0.999_999), 1 => 0.0..0.2_f64, 1 => number().prop_map(|f| f.min(0.9))];
    let calls = prop::collection::vec((onward, back), SERVICES * SERVICES);
    let services = prop::collection::vec(service(), SERVICES);
    let standby = prop_oneof![
        Just(Standby::Failover),
        (1..100_u32).prop_map(Standby::Distribute)
    ];
    (area(), (edge(), edge()), services, calls, standby).prop_map(
        |(cloud, edges, mut services, calls, standby)| {
            let mut edges = [edges.0, edges.1];
            for (at, edge) in edges.iter_mut().enumerate() {
                edge.area.name = format!("edge-{at}").as_str().into();
            }
            for (at, service) in services.iter_mut().enumerate() {
                service.name = format!("s{at}").as_str().into();
            }
            let call = |(at, (onward, back)): (usize, (f64, f64))| {
                let (caller, callee) = (at / SERVICES, at % SERVICES);
                Call {
                    caller: ServiceIx::at(caller),
                    callee: ServiceIx::at(callee),
                    per_request: CallsPerRequest::nearest(if callee > caller { onward } else { back }),
                }
            };
            Problem::try_new(Spec {
                cloud,
                edges: edges.into(),
                services,
                calls: calls.into_iter().enumerate().map(call).collect(),
                standby,
            })
        },
    )
}

/// JSON has no NaN and no infinity: it writes null for them, and nothing in an evaluation is optional.
fn has_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(values) => values.iter().any(has_null),
        serde_json::Value::Object(values) => values.values().any(has_null),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn absurd_problems_have_finite_results_that_keep_the_laws(problem in problems(), bits in any::<u32>(), shorter in 0.0..1.0_f64) {
        let Ok(problem) = problem else { return Err(TestCaseError::reject("refused")) };
        let placement = placement(&problem, bits);
        let shares = Shares::resting(&problem, &placement);
        let result = evaluate(&problem, &placement, &shares);
        prop_assert!(!has_null(&serde_json::to_value(&result).unwrap()), "{result:?}");

        let mut kept = Incremental::new(&problem, &placement);
        for (edge, _) in problem.edges() {
            let (ours, full) = (kept.delay_us(edge), delays(&result)[edge.position()]);
            prop_assert!((ours - full).abs() <= 1e-6 * full, "{ours} {full}");
            let crossings = Crossings::new(&problem, edge, &placement, &shares);
            prop_assert!((0.0..=1.0).contains(&crossings.share().as_f64()) && crossings.each().as_f64().is_finite());
            prop_assert!(crossings.overlooked().as_f64() >= 0.0);
            prop_assert!(crossings.mean() <= MOST_CROSSINGS as f64 * (1.0 + 1e-9), "{crossings:?}");
        }
        prop_assert!(kept.cost().is_finite());

        let cost = &result.cost;
        let terms: f64 = cost.edges.iter().map(|edge| edge.replicas.as_f64() + edge.network.as_f64()).sum();
        let (total, terms) = (cost.total().as_f64(), (cost.cloud.as_f64() + terms).min(MAX));
        prop_assert!((total - terms).abs() <= 1e-12 * terms, "{total} {terms}");
        for edge in &result.edges {
            let whole = (edge.internal.as_f64() + edge.network.as_f64()).min(LONGEST_US);
            prop_assert!((edge.delay.as_f64() - whole).abs() <= 1e-9 * whole);
        }

        let mut spec = problem.spec().clone();
        spec.edges[0].rtt = Micros::nearest(spec.edges[0].rtt.as_f64() * shorter);
        let nearer = Problem::try_new(spec).unwrap();
        let faster = evaluate(&nearer, &placement, &shares);
        prop_assert!(delays(&faster)[0] <= delays(&result)[0] * (1.0 + 1e-9), "{:?} {:?}", delays(&faster), delays(&result));
        prop_assert_eq!(&faster.cost, &result.cost);
    }
}
