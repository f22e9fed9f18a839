//! Special cases, each with the result that its formula gives by hand.

use super::*;
use crate::routing::area_weight;
use crate::units::{CpuCores, CpuSeconds, Gigabytes, Money};

const FRONT: ServiceIx = ServiceIx(0);
const CART: ServiceIx = ServiceIx(1);
const HERE: AreaIx = AreaIx::Edge(EdgeIx(0));

/// `front` calls `cart` and `users`; see [`example::problem`].
fn spec() -> Spec {
    example::problem().spec().clone()
}

fn close(one: f64, two: f64) -> bool {
    (one - two).abs() <= 1e-9 * one.abs().max(two.abs())
}

#[track_caller]
fn assert_close(one: f64, two: f64) {
    assert!(close(one, two), "{one} {two}");
}

#[test]
fn a_service_that_nobody_calls_keeps_its_minimum_and_changes_no_delay() {
    let mut spec = spec();
    let mut batch = spec.services[0].clone();
    batch.name = "batch".into();
    batch.sites[1].min_replicas = 2;
    spec.services.push(batch);
    let batch = ServiceIx(3);
    let without = resting(self::spec(), 0).1;
    let (_, cloud) = resting(spec.clone(), 0);
    assert_eq!(delays(&cloud), delays(&without));
    assert_eq!(
        [HERE, AreaIx::Cloud].map(|area| (
            cloud.rates.get(batch, area),
            cloud.cpu_cores.get(batch, area),
            cloud.replicas.get(batch, area)
        )),
        [(0.0, 0.0, 0), (0.0, 0.0, 1)]
    );
    let mut placed = DensePlacement::cloud_only(&Problem::try_new(spec.clone()).unwrap());
    placed.set(EdgeIx(0), batch, true);
    let problem = Problem::try_new(spec.clone()).unwrap();
    let edge = evaluate(&problem, &placed, &Shares::resting(&problem, &placed));
    assert_eq!(delays(&edge), delays(&without));
    assert_eq!(edge.replicas.get(batch, HERE), 2);
    assert_close(
        edge.cost.total().as_f64() - cloud.cost.total().as_f64(),
        2.0 * 0.03,
    );
    spec.services[3]
        .sites
        .iter_mut()
        .for_each(|site| site.min_replicas = 0);
    let (_, none) = resting(spec, 0);
    assert_eq!(none.replicas.get(batch, AreaIx::Cloud), 0);
    assert_eq!(none.cost, without.cost);
}

#[test]
fn without_traffic_a_request_would_still_take_its_round_trip() {
    let mut spec = spec();
    spec.edges[0].rate = Rps::ZERO;
    let (_, result) = resting(spec, 0);
    let edge = &result.edges[0];
    assert_close(edge.delay.as_f64(), 80_000.0 + 80.0 + 20_000.0);
    assert_eq!((edge.traffic.as_f64(), edge.utilisation.as_f64()), (0.0, 0.0));
    assert_eq!(result.cost.edges[0].network, Money::ZERO);
    assert_eq!(edge.calls.get(CART, AreaIx::Cloud), 1.0);
}

#[test]
fn without_a_limit_of_bandwidth_only_the_round_trip_is_left_and_traffic_still_costs() {
    let mut spec = spec();
    spec.edges[0].bandwidth = None;
    let (_, result) = resting(spec, 0);
    let edge = &result.edges[0];
    assert_close(edge.delay.as_f64(), 80_000.0 + 20_000.0);
    assert_eq!((edge.traffic.as_f64(), edge.utilisation.as_f64()), (8e6, 0.0));
    // 3.6 GB an hour at 0.02.
    assert_close(result.cost.edges[0].network.as_f64(), 0.072);
}

#[test]
fn past_saturation_less_traffic_is_still_better_and_only_what_fits_is_paid() {
    let evaluated = |bandwidth: f64, bits: u32| {
        let mut spec = spec();
        spec.standby = Standby::Failover;
        spec.edges[0].bandwidth = Some(BitsPerSecond::nearest(bandwidth));
        resting(spec, bits).1
    };
    // 8 Mbit/s over 7 with nothing at the edge, 16 with `front` alone, 8 with `front` and `cart`, 0 with all three.
    let [cloud, front, two, all] = [0, 0b001, 0b011, 0b111].map(|bits| evaluated(7e6, bits));
    let us = |result: &Evaluation| delays(result)[0];
    assert_close(us(&cloud), 80_000.0 + 20_000.0 + 80_000.0 / 7.0 * 1e6 * 8.0 / 7.0);
    assert_close(us(&two), us(&cloud));
    assert!(us(&all) < us(&two) && us(&cloud) < us(&front) && us(&front) < LONGEST_US);
    for saturated in [&cloud, &front] {
        // 7 Mbit/s are 3.15 GB an hour.
        assert_close(saturated.cost.edges[0].network.as_f64(), 3.15 * 0.02);
        assert_eq!(saturated.edges[0].utilisation.as_f64(), 1.0);
    }
    assert_eq!(front.edges[0].traffic.as_f64(), 16e6);
    // So far beyond that nothing is told apart any more.
    assert_eq!([0, 0b001].map(|bits| us(&evaluated(1e6, bits))), [LONGEST_US; 2]);
}

/// 1/(1 − ρ) alone would pass 10⁶ before saturation and fall back to it there.
#[test]
fn the_load_spread_does_not_fall_at_saturation() {
    let spread = |load: f64| byte_us(load * 1e6, Some(BitsPerSecond::nearest(1e6)));
    let spread = [0.5, 0.999, 1.0 - 1e-7, 1.0 - 1e-12, 1.0, 1.0 + 1e-12, 2.0].map(spread);
    assert!(spread.is_sorted(), "{spread:?}");
    assert_close(spread[0], 8.0 * 2.0);
    assert_close(spread[4], 8.0 * 1e6);
}

#[test]
fn without_a_cpu_request_the_replicas_are_the_minimum_and_cost_their_memory() {
    let mut spec = spec();
    spec.cloud.prices.memory_gb_hour = Money::nearest(0.01);
    spec.services[1].sites.iter_mut().for_each(|site| {
        site.cpu_request = CpuCores::ZERO;
        site.memory_request = Gigabytes::nearest(4.0);
        site.min_replicas = 3;
    });
    let (_, result) = resting(spec, 0);
    assert_eq!(result.replicas.get(CART, AreaIx::Cloud), 3);
    assert_close(result.cpu_cores.get(CART, AreaIx::Cloud), 1.0);
    // `front` and `users`: ⌈1 / 0.6⌉ = 2 replicas of a core each.
    assert_close(result.cost.cloud.as_f64(), 4.0 * 0.02 + 3.0 * 4.0 * 0.01);
}

#[test]
fn replicas_follow_the_load_above_the_minimum_and_rounding_adds_none() {
    let mut spec = spec();
    // 4.2 cores at 0.6 a replica: 7.000000000000001 by f64.
    spec.services[1].cpu_per_request = CpuSeconds::nearest(0.042);
    spec.services[2].sites[0].min_replicas = 5;
    let (_, result) = resting(spec, 0);
    let replicas = [0, 1, 2].map(|service| result.replicas.get(ServiceIx(service), AreaIx::Cloud));
    assert_eq!(replicas, [2, 7, 5]);
}

/// 75 to an edge of two localities and 25 to a cloud of three: istiod makes 2 · 38 and 3 · 9 of it.
#[test]
fn fractional_weights_are_rounded_as_istiod_does() {
    let mut spec = spec();
    spec.cloud.localities = 3;
    spec.edges[0].area.localities = 2;
    let problem = Problem::try_new(spec).unwrap();
    let weights = [("cloud".into(), 25), ("edge".into(), 75)].into();
    let plan = RoutingPlan([("front".into(), [("edge".into(), weights)].into())].into());
    let mut placement = DensePlacement::cloud_only(&problem);
    placement.set(EdgeIx(0), FRONT, true);
    let shares = Shares::from_plan(&problem, &plan);
    let edge = 76.0 / 103.0;
    assert_close(shares.get(HERE, FRONT, HERE), edge);
    assert_eq!(shares.get(HERE, CART, AreaIx::Cloud), 1.0);
    let result = evaluate(&problem, &placement, &shares);
    assert_close(result.rates.get(FRONT, HERE), 100.0 * edge);
    assert_close(result.rates.get(FRONT, AreaIx::Cloud), 100.0 * (1.0 - edge));
    // The part in the cloud crosses once, the part at the edge once for each of its two calls.
    let crossings = (1.0 - edge) + 2.0 * edge;
    assert_close(
        result.edges[0].traffic.as_f64(),
        8.0 * 100.0 * 10_000.0 * crossings,
    );
    let transfer = 80.0 / (1.0 - 0.008 * crossings);
    assert_close(delays(&result)[0], 20_000.0 + crossings * (80_000.0 + transfer));
}

#[test]
fn the_standby_share_grows_with_the_localities_of_the_cloud() {
    for (percent, cloud, edge) in [(1, 1, 1), (1, 3, 1), (5, 3, 2), (99, 2, 4)] {
        let mut spec = spec();
        spec.standby = Standby::Distribute(percent);
        (spec.cloud.localities, spec.edges[0].area.localities) = (cloud, edge);
        let (_, result) = resting(spec, 0b111);
        let (to_cloud, to_edge) = (area_weight(percent, cloud), area_weight(100 - percent, edge));
        let standby = f64::from(to_cloud) / f64::from(to_cloud + to_edge);
        assert_close(result.edges[0].calls.get(FRONT, AreaIx::Cloud), standby);
        assert_close(
            result.edges[0].calls.get(CART, AreaIx::Cloud),
            1.0 - (1.0 - standby) * (1.0 - standby),
        );
    }
    let mut spec = spec();
    spec.standby = Standby::Failover;
    assert_eq!(
        resting(spec, 0b111).1.edges[0].calls.get(FRONT, AreaIx::Cloud),
        0.0
    );
}

/// Two edges whose users, links and prices differ, and each of them alone.
#[test]
fn edges_share_the_cloud_and_nothing_else() {
    let mut spec = spec();
    let mut second = spec.edges[0].clone();
    second.area.name = "edge-2".into();
    second.area.prices.cpu_core_hour = Money::nearest(0.07);
    second.rtt = Micros::nearest(30_000.0);
    second.bandwidth = Some(BitsPerSecond::nearest(5e7));
    second.traffic_gb = Money::nearest(0.3);
    second.rate = Rps::nearest(70.0);
    second.user_calls = vec![(CART, CallsPerRequest::nearest(1.0))];
    spec.edges[0].rate = Rps::nearest(130.0);
    spec.edges.push(second.clone());
    spec.services.iter_mut().for_each(|service| {
        let site = service.sites[0];
        service.sites.push(site);
    });
    let alone = |edge: Edge| {
        let mut spec = self::spec();
        spec.edges = vec![edge];
        resting(spec, 0b010).1
    };
    // `cart` at both edges: the first edge's calls come from the cloud, so its own `cart` is never called.
    let problem = Problem::try_new(spec.clone()).unwrap();
    let mut placement = DensePlacement::cloud_only(&problem);
    for edge in [EdgeIx(0), EdgeIx(1)] {
        placement.set(edge, CART, true);
    }
    let both = evaluate(&problem, &placement, &Shares::resting(&problem, &placement));
    let [first, second] = [spec.edges[0].clone(), second].map(alone);
    assert_eq!(delays(&both), [delays(&first)[0], delays(&second)[0]]);
    assert_close(
        delays(&both)[1],
        10_000.0 + 0.01 * (30_000.0 + 1_600.0 / (1.0 - 0.056 / 50.0)),
    );
    let cloud = |result: &Evaluation| result.cpu_cores.get(CART, AreaIx::Cloud);
    assert_close(cloud(&both), 1.3 + 0.007);
    assert_close(cloud(&both), cloud(&first) + cloud(&second));
    // 1.307 cores are 3 replicas at 0.6 each, not the 3 + 1 of the parts.
    let replicas = |result: &Evaluation| result.replicas.get(CART, AreaIx::Cloud);
    assert_eq!((replicas(&both), replicas(&first), replicas(&second)), (3, 3, 1));
    let at = |edge: u32| both.replicas.get(CART, AreaIx::Edge(EdgeIx(edge)));
    assert_eq!((at(0), at(1)), (1, 2));
    let costs = [&first, &second].map(|result| result.cost.edges[0]);
    assert_eq!(both.cost.edges, costs);
    assert_close(costs[0].replicas.as_f64(), 0.03);
    assert_close(costs[1].replicas.as_f64(), 2.0 * 0.07);
    assert_close(
        costs[1].network.as_f64(),
        0.3 * 0.01 * 70.0 * 10_000.0 * 3600.0 / 1e9,
    );
}
