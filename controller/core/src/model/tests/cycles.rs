//! Cycles and self-calls against a closed form, a fixed point by repetition, and requests one by one.

use super::*;

const HERE: AreaIx = AreaIx::Edge(EdgeIx(0));

/// `front` calls `cart` ½ times, `cart` calls `front` back 0.4 times. `front` alone at the edge: what comes back stays in
/// the cloud. N of `cart` is 0.5 + 0.5·0.4·N = 0.625, of `front` in the cloud 0.4·0.625.
#[test]
fn a_cycle_between_areas_has_its_closed_form() {
    let mut spec = example::problem().spec().clone();
    spec.standby = Standby::Failover;
    spec.edges[0].bandwidth = None;
    spec.services.truncate(2);
    let call = |caller, callee, per_request| Call {
        caller: ServiceIx(caller),
        callee: ServiceIx(callee),
        per_request: CallsPerRequest::nearest(per_request),
    };
    spec.calls = vec![call(0, 1, 0.5), call(1, 0, 0.4)];
    let (_, result) = resting(spec.clone(), 0b01);
    let n = |service, area| result.edges[0].calls.get(ServiceIx(service), area);
    let calls = [n(0, HERE), n(0, AreaIx::Cloud), n(1, HERE), n(1, AreaIx::Cloud)];
    for (calls, expected) in calls.into_iter().zip([1.0, 0.25, 0.0, 0.625]) {
        assert!((calls - expected).abs() < 1e-12, "{calls} {expected}");
    }
    let expected = 1.25 * 5_000.0 + 0.625 * 10_000.0 + 0.5 * 80_000.0;
    assert!(
        (delays(&result)[0] - expected).abs() < 1e-6,
        "{:?}",
        delays(&result)
    );
    // Both at the edge: no call leaves it.
    let (_, result) = resting(spec, 0b11);
    assert!((delays(&result)[0] - (1.25 * 5_000.0 + 0.625 * 10_000.0)).abs() < 1e-6);
}

/// D by repetition from 0: D(i,a) = own + max x + s·(Σx − max x). It uses no elimination and no order of blocks.
fn repeated(problem: &Problem, shares: &Shares, result: &Evaluation, edge: EdgeIx) -> f64 {
    let net = |from: AreaIx, to: AreaIx, callee: &Service| {
        let link = |area: AreaIx| match area {
            AreaIx::Cloud => None,
            AreaIx::Edge(edge) => problem.edge(edge).map(|value| (edge, value)),
        };
        if from == to {
            return callee.hop_local.as_f64();
        }
        let rtt: f64 = [from, to]
            .into_iter()
            .filter_map(link)
            .map(|(_, edge)| edge.rtt.as_f64())
            .sum();
        let transfer = link(from).map_or(0.0, |(at, edge)| {
            let traffic = result.edges[at.position()].traffic.as_f64();
            edge.bandwidth.map_or(0.0, |bandwidth| {
                let load = traffic / bandwidth.as_f64();
                let spread = if load < 1.0 {
                    1.0 / (1.0 - load)
                } else {
                    1e6 * load
                };
                (8e6 * callee.response.as_f64() / bandwidth.as_f64() * spread).min(LONGEST_US)
            })
        });
        callee.hop_remote.as_f64() + rtt + transfer
    };
    let areas: Vec<AreaIx> = problem.areas().collect();
    let mut delay = vec![vec![0.0; areas.len()]; problem.services_len()];
    let call = |delay: &[Vec<f64>], from: AreaIx, to: ServiceIx| -> f64 {
        let service = problem.service(to).unwrap();
        let part = |area: &AreaIx| {
            shares.get(from, to, *area) * (net(from, *area, service) + delay[to.position()][area.position()])
        };
        areas.iter().map(part).sum()
    };
    // Rows of calls sum to 0.9 at most: 0.9³⁰⁰ is 2e-14.
    for _ in 0..300 {
        let before = delay.clone();
        for (service, value) in problem.services() {
            let calls = problem.calls_of(service);
            for area in &areas {
                let times: Vec<f64> = calls
                    .iter()
                    .map(|(to, f)| f * call(&before, *area, *to))
                    .collect();
                let (sum, slowest) = (
                    times.iter().sum::<f64>(),
                    times.iter().copied().fold(0.0, f64::max),
                );
                let children = times.len() as f64;
                let serial = if children < 2.0 {
                    1.0
                } else {
                    ((value.overlap.as_f64() * children - 1.0) / (children - 1.0)).clamp(0.0, 1.0)
                };
                delay[service.position()][area.position()] =
                    value.sites[area.position()].own.as_f64() + slowest + serial * (sum - slowest);
            }
        }
    }
    let users = &problem.edge(edge).unwrap().user_calls;
    let all: f64 = users
        .iter()
        .map(|(to, f)| f.as_f64() * call(&delay, AreaIx::Edge(edge), *to))
        .sum();
    all.min(LONGEST_US)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_delay_is_the_fixed_point_of_its_formula(spec in specs(2), bits in any::<u32>()) {
        let problem = Problem::try_new(spec).unwrap();
        let placement = placement(&problem, bits);
        let shares = Shares::resting(&problem, &placement);
        let result = evaluate(&problem, &placement, &shares);
        for (edge, _) in problem.edges() {
            let (one, two) = (delays(&result)[edge.position()], repeated(&problem, &shares, &result, edge));
            prop_assert!((one - two).abs() <= 1e-9 * two, "{one} {two}");
        }
    }

    /// Weights 0 and 1, one call after the other, no hops: Σ N·own + Σ cut calls · (RTT + transfer), with N by repeated
    /// multiplication.
    #[test]
    fn weights_of_0_and_1_give_the_reference_s_formula(spec in specs(1), bits in any::<u32>()) {
        let mut spec = spec;
        spec.standby = Standby::Failover;
        for service in &mut spec.services {
            (service.overlap, service.hop_local, service.hop_remote) = (Ratio::nearest(1.0), Micros::ZERO, Micros::ZERO);
        }
        let problem = Problem::try_new(spec).unwrap();
        let placement = placement(&problem, bits);
        let result = evaluate(&problem, &placement, &Shares::resting(&problem, &placement));
        let edge = problem.edge(EdgeIx(0)).unwrap();
        let here = |service: ServiceIx| placement.contains(EdgeIx(0), service);
        // (calls at the edge, calls in the cloud, calls cut) of each service.
        let mut all = [[0.0; 3]; SERVICES];
        let mut fresh = [[0.0; 3]; SERVICES];
        for (service, calls) in &edge.user_calls {
            let local = f64::from(u8::from(here(*service)));
            fresh[service.position()] = [local, 1.0 - local, 1.0 - local].map(|part| part * calls.as_f64());
        }
        for _ in 0..400 {
            let mut next = [[0.0; 3]; SERVICES];
            for (service, _) in problem.services() {
                let [at_edge, in_cloud, _] = fresh[service.position()];
                for (to, f) in problem.calls_of(service) {
                    let next = &mut next[to.position()];
                    let local = f64::from(u8::from(here(*to)));
                    next[0] += f * at_edge * local;
                    next[1] += f * (in_cloud + at_edge * (1.0 - local));
                    next[2] += f * at_edge * (1.0 - local);
                }
            }
            for (all, fresh) in all.iter_mut().zip(&fresh) {
                all.iter_mut().zip(fresh).for_each(|(all, fresh)| *all += fresh);
            }
            fresh = next;
        }
        let size = |service: ServiceIx| problem.service(service).unwrap().response.as_f64();
        let with_services = || problem.services().map(|(service, value)| (service, value, all[service.position()]));
        let traffic: f64 = with_services().map(|(service, _, [_, _, cut])| 8.0 * edge.rate.as_f64() * cut * size(service)).sum();
        let byte_us = edge.bandwidth.map_or(0.0, |bandwidth| {
            let load = traffic / bandwidth.as_f64();
            8e6 / bandwidth.as_f64() * if load < 1.0 { 1.0 / (1.0 - load) } else { 1e6 * load }
        });
        let expected: f64 = with_services()
            .map(|(service, value, [at_edge, in_cloud, cut])| {
                let own = at_edge * value.sites[1].own.as_f64() + in_cloud * value.sites[0].own.as_f64();
                own + cut * (edge.rtt.as_f64() + (byte_us * size(service)).min(LONGEST_US))
            })
            .sum();
        let delay = delays(&result)[0];
        prop_assert!((delay - expected.min(LONGEST_US)).abs() <= 1e-9 * delay, "{delay} {expected}");
    }
}

/// A request that calls itself and back, one call after the other, drawn one by one: SplitMix64.
struct Requests<'a> {
    problem: &'a Problem,
    shares: &'a Shares,
    rtt_us: f64,
    state: u64,
}

impl Requests<'_> {
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) as f64 / u64::MAX as f64
    }

    fn call(&mut self, from: AreaIx, to: ServiceIx) -> f64 {
        let local = self.unit() < self.shares.get(from, to, from);
        let area = if local { from } else { AreaIx::Cloud };
        let mut time = self.problem.site(to, area).unwrap().own.as_f64();
        if area != from {
            time += self.rtt_us;
        }
        for (callee, f) in self.problem.calls_of(to).to_vec() {
            if self.unit() < f {
                time += self.call(area, callee);
            }
        }
        time
    }
}

#[test]
fn a_cycle_with_a_self_call_takes_what_its_requests_take() {
    let mut spec = example::problem().spec().clone();
    spec.edges[0].bandwidth = None;
    spec.standby = Standby::Distribute(20);
    spec.calls = [(0, 1, 0.8), (1, 1, 0.3), (1, 2, 0.7), (2, 0, 0.4), (2, 1, 0.2)]
        .map(|(caller, callee, f)| Call {
            caller: ServiceIx(caller),
            callee: ServiceIx(callee),
            per_request: CallsPerRequest::nearest(f),
        })
        .into();
    for (seed, bits) in [(1, 0b001), (2, 0b011), (3, 0b111)] {
        let problem = Problem::try_new(spec.clone()).unwrap();
        let placement = placement(&problem, bits);
        let shares = Shares::resting(&problem, &placement);
        let model = delays(&evaluate(&problem, &placement, &shares))[0];
        let mut requests = Requests {
            problem: &problem,
            shares: &shares,
            rtt_us: 80_000.0,
            state: seed,
        };
        let times: Vec<f64> = (0..100_000).map(|_| requests.call(HERE, ServiceIx(0))).collect();
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        let error = (variance / count).sqrt();
        assert!(
            (mean - model).abs() <= 4.0 * error,
            "{bits:b}: {mean} ± {error}, model {model}"
        );
        assert!(error < 0.01 * model, "too few requests: {error}");
    }
}
