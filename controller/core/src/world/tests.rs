use super::*;
use crate::cluster;
use crate::decide::Effect;

fn run(world: &mut World, seconds: u32) {
    for _ in 0..seconds * 4 {
        world.tick();
    }
}

fn mean_ms(world: &mut World, seconds: u32) -> f64 {
    world.take_users();
    run(world, seconds);
    let users = world.take_users()[0];
    users.sum_us / (users.requests - users.failed) as f64 / 1e3
}

fn shop(rate: f64) -> World {
    World::new(Spec::shop(1, Load::constant(rate)))
}

fn all_at_edge() -> RoutingPlan {
    let services = Spec::shop(1, Load::constant(1.0)).services;
    let names = services.iter().map(|spec| spec.name.clone());
    let rule = [
        (
            "edge-1".into(),
            [("cloud".into(), 1), ("edge-1".into(), 99)].into(),
        ),
        ("cloud".into(), [("cloud".into(), 100)].into()),
    ];
    RoutingPlan(names.map(|name| (name, rule.clone().into())).collect())
}

fn ensure_all(world: &mut World) {
    for spec in world.spec().services.clone() {
        let (service, area) = (spec.name, "edge-1".into());
        let replicas = 1;
        world.perform(&Effect::Ensure {
            service,
            area,
            replicas,
        });
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    let runs = [7, 7, 8].map(|seed| {
        let mut world = World::new(Spec::drawn(seed).unwrap());
        run(&mut world, 20);
        world.take_users()
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[test]
fn every_caller_counts_what_its_callee_does() {
    let mut world = shop(200.0);
    ensure_all(&mut world);
    run(&mut world, 10);
    world.perform(&Effect::Route { plan: all_at_edge() });
    run(&mut world, 20);
    let services = world.spec().services.len();
    let (mut sent, mut received) = (vec![[0; 2]; services], vec![[0; 2]; services]);
    for proxy in world.proxies() {
        for (key, tally) in proxy.workers.iter().flat_map(|worker| &worker.tally) {
            match *key {
                Key::Inbound { .. } => received[proxy.service.unwrap()][proxy.area] += tally.count,
                Key::Outbound { callee, area, .. } => sent[callee][area.unwrap()] += tally.count,
            }
            let durations = tally.durations.iter();
            let sum: u64 = durations.map(|(us, n)| u64::from(*us) * u64::from(*n)).sum();
            assert_eq!(sum, tally.sum_us);
        }
    }
    assert_eq!(sent, received);
    assert!(received.iter().all(|areas| areas[1] > 0), "{received:?}");
    assert_eq!(world.take_users()[0].requests, received[0].iter().sum::<u64>());
}

#[test]
fn an_instance_at_the_edge_saves_the_round_trip_once_weights_arrive() {
    let mut world = shop(100.0);
    let far = mean_ms(&mut world, 20);
    ensure_all(&mut world);
    run(&mut world, 10);
    world.perform(&Effect::Route { plan: all_at_edge() });
    assert!(world.is_propagating());
    run(&mut world, 3);
    assert!(!world.is_propagating());
    let near = mean_ms(&mut world, 20);
    // One crossing of 60 ms, and at the edge 1 % of about 3 calls.
    assert!((54.0..62.0).contains(&(far - near)), "{far} ms, then {near} ms");
}

#[test]
fn a_dead_endpoint_fails_for_a_second_and_the_cloud_takes_over() {
    let mut world = shop(200.0);
    ensure_all(&mut world);
    run(&mut world, 10);
    world.perform(&Effect::Route { plan: all_at_edge() });
    run(&mut world, 10);
    world.take_users();
    world.change(&Change::Crash { service: 0, area: 1 });
    run(&mut world, 2);
    let during = world.take_users()[0];
    // Three ticks of 50 requests, Poisson, 1 % of them elsewhere.
    assert!((110..=190).contains(&during.failed), "{during:?}");
    run(&mut world, 5);
    assert_eq!(world.take_users()[0].failed, 0);
    run(&mut world, 20);
    let cluster = world.cluster();
    let front = cluster
        .instances
        .iter()
        .find(|i| i.service.as_str() == "front" && i.area.as_str() == "edge-1");
    assert_eq!(front.unwrap().phase, cluster::Phase::Ready);
}

#[test]
fn a_cut_link_fails_only_what_crosses_it() {
    let mut world = shop(200.0);
    world.change(&Change::Cut {
        edge: 0,
        is_cut: true,
    });
    run(&mut world, 5);
    let users = world.take_users()[0];
    assert_eq!(users.failed, users.requests);
    assert_eq!(world.rtt_us(0), None);
    ensure_all(&mut world);
    run(&mut world, 10);
    world.perform(&Effect::Route { plan: all_at_edge() });
    run(&mut world, 5);
    world.take_users();
    run(&mut world, 20);
    let users = world.take_users()[0];
    let failed = users.failed as f64 / users.requests as f64;
    assert!(failed > 0.0 && failed < 0.1, "{users:?}");
}

#[test]
fn load_makes_replicas_and_they_go_again() {
    let mut world = shop(40.0);
    run(&mut world, 30);
    let replicas = |world: &World| world.cluster().instances[0].replicas;
    assert_eq!(replicas(&world), 2);
    world.change(&Change::Rate { edge: 0, rate: 500.0 });
    run(&mut world, 90);
    assert_eq!(
        replicas(&world),
        2,
        "500 requests of 2.4 ms are 1.2 cores of 2: the target"
    );
    world.change(&Change::Rate { edge: 0, rate: 800.0 });
    run(&mut world, 60);
    assert!(replicas(&world) >= 3);
    world.change(&Change::Rate { edge: 0, rate: 40.0 });
    run(&mut world, 400);
    assert_eq!(replicas(&world), 1);
}
