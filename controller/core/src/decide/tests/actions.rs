//! The action sequence: first rules, both forms, steps and their tests, the cloud's replicas, drains.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{CLOUD, EDGE, World, area};
use crate::cluster::{Phase as Life, RoutingPlan};
use crate::decide::{Cause, Effect, Outcome, Phase, State, Statistic, routes};
use crate::model::Standby;
use crate::routing::{Form, form};

const OTHER: &str = "edge-2";

fn is_resting(world: &World) -> bool {
    let phases = world.state.edges.values().map(|edge| &edge.phase);
    phases.into_iter().all(|phase| *phase == Phase::Observing)
}

fn failover(edges: &[&str]) -> World {
    let mut world = World::new(edges);
    world.config.edges.get_mut(&area(EDGE)).unwrap().standby = Some(Standby::Failover);
    world
}

fn offload(world: &mut World) {
    world.run(10);
    world.edge().rtt_ms = 150.0;
    world.run_until(180, |w| w.outcomes() == [&Outcome::Kept] && is_resting(w));
}

fn form_of(world: &World, service: &str) -> Form {
    form(&world.routing.0[&service.into()], &area(CLOUD))
}

fn routes_of(world: &World) -> impl Iterator<Item = &RoutingPlan> {
    world.effects.iter().filter_map(|(_, effect)| match effect {
        Effect::Route { plan } => Some(plan),
        _ => None,
    })
}

/// Shares of front for callers at an edge, of one write after the other.
fn steps(world: &World, edge: &str) -> Vec<u32> {
    let mut steps: Vec<u32> = routes_of(world)
        .map(|plan| routes::share(plan, &"front".into(), &area(edge)))
        .collect();
    steps.dedup();
    steps
}

#[test]
fn called_services_get_their_first_rule_one_by_one_and_the_first_one_alone() {
    let mut world = World::without_rules(&[EDGE]);
    let took = world.run_until(30, |w| w.routing.0.len() == 4);
    assert!(took <= Duration::from_secs(6), "{took:?}");
    let sizes: Vec<usize> = routes_of(&world).map(|plan| plan.0.len()).collect();
    assert_eq!(sizes, [1, 2, 3, 4]);
    let writes: Vec<_> = world.effects.iter().map(|(at, _)| *at).collect();
    assert!(writes[1].since(writes[0]) >= Duration::from_secs(1), "{writes:?}");
    let to_cloud = BTreeMap::from([(area(CLOUD), 100)]);
    assert!(
        world
            .routing
            .0
            .values()
            .flat_map(BTreeMap::values)
            .all(|to| *to == to_cloud)
    );
    assert_eq!(world.state.adoption.sentence(world.now), None);
    world.run(120);
    assert_eq!(world.effects.len(), 4, "once");
}

#[test]
fn a_service_that_nobody_calls_gets_no_rule() {
    let mut world = World::without_rules(&[EDGE]);
    world.edge().rate = 0.0;
    world.run(60);
    assert!(world.routing.0.is_empty() && world.effects.is_empty());
}

#[test]
fn a_rule_that_does_harm_is_taken_away_and_adoption_rests() {
    let mut world = World::without_rules(&[EDGE]);
    world.run_until(10, |w| !w.routing.0.is_empty());
    world.edge().cloud_errors = 0.3;
    world.run_until(10, |w| w.routing.0.is_empty());
    let sentence = world.state.adoption.sentence(world.now).unwrap();
    assert!(sentence.contains("was taken away"), "{sentence}");
    let written = world.effects.len();
    world.run(60);
    assert_eq!(world.effects.len(), written, "two minutes of rest");
    world.edge().cloud_errors = 0.0;
    world.run_until(90, |w| w.routing.0.len() == 4);
}

#[test]
fn no_instance_is_made_before_its_service_has_a_rule() {
    let mut world = World::without_rules(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept]);
    let mut with_rule = BTreeSet::new();
    for (_, effect) in &world.effects {
        match effect {
            Effect::Route { plan } => with_rule.extend(plan.0.keys().cloned()),
            Effect::Ensure { service, .. } => assert!(with_rule.contains(service), "{service}"),
            _ => {}
        }
    }
}

#[test]
fn tails_rest_in_the_failover_form_and_means_do_not() {
    for (statistic, standby) in [
        (Statistic::Mean, Standby::Distribute(1)),
        (Statistic::P90, Standby::Distribute(1)),
        (Statistic::P95, Standby::Failover),
        (Statistic::P99, Standby::Failover),
    ] {
        let mut world = World::new(&[EDGE]);
        world.config.edges.get_mut(&area(EDGE)).unwrap().statistic = statistic;
        assert_eq!(world.config.standby(&area(EDGE)), standby, "{statistic:?}");
    }
}

#[test]
fn failover_comes_after_the_ramp_and_goes_before_the_unoffload() {
    let mut world = failover(&[EDGE]);
    offload(&mut world);
    assert_eq!(steps(&world, EDGE), [5, 50, 99, 100]);
    assert_eq!(form_of(&world, "front"), Form::Failover);
    assert_eq!(form_of(&world, "db"), Form::Distribute, "it is not placed");
    let written = world.effects.len();
    world.run(300);
    assert_eq!(world.effects.len(), written, "{}", world.story.join("\n"));

    world.effects.clear();
    world.edge().rtt_ms = 10.0;
    world.run_until(240, |w| w.outcomes().len() == 2 && is_resting(w));
    assert_eq!(steps(&world, EDGE), [99, 50, 0]);
    assert_eq!(world.placed(), [""; 0]);
}

#[test]
fn a_restart_without_memory_keeps_a_finished_failover() {
    let mut world = failover(&[EDGE]);
    offload(&mut world);
    world.state = State::default();
    let written = world.effects.len();
    world.run(120);
    assert_eq!((world.effects.len(), world.share("front")), (written, 100));
}

#[test]
fn a_failed_instance_leaves_the_failover_form_at_once() {
    let mut world = failover(&[EDGE]);
    offload(&mut world);
    let key = ("front".into(), area(EDGE));
    world.instances.insert(key, (Life::Failed, world.now));
    world.run_until(3, |w| w.share("front") == 0);
    assert_eq!(form_of(&world, "cart"), Form::Failover, "it is as it was");
    world.run_until(240, |w| w.share("front") == 100 && is_resting(w));
}

#[test]
fn while_another_edge_ramps_a_service_its_rule_is_distribute() {
    let mut world = failover(&[EDGE, OTHER]);
    world.edges.get_mut(&area(OTHER)).unwrap().rtt_ms = 60.0;
    offload(&mut world);
    assert_eq!(form_of(&world, "front"), Form::Failover);
    world.effects.clear();
    world.edges.get_mut(&area(OTHER)).unwrap().rtt_ms = 150.0;
    world.run_until(240, |w| {
        w.state.edges[&area(OTHER)].decisions.len() == 1 && is_resting(w)
    });
    // An instance would get everything as soon as it is Ready: the form first.
    let first = world
        .effects
        .iter()
        .find(|(_, effect)| !matches!(effect, Effect::Record { .. }));
    assert!(matches!(first, Some((_, Effect::Route { .. }))), "{first:?}");
    assert_eq!(steps(&world, EDGE), [99, 100]);
    let theirs = steps(&world, OTHER);
    assert_eq!(theirs.last(), Some(&100), "one rule for all: {theirs:?}");
    assert!(theirs.contains(&5) && theirs.contains(&50), "{theirs:?}");
}

#[test]
fn nothing_of_a_form_is_written_for_a_silent_edge() {
    let mut world = failover(&[EDGE, OTHER]);
    offload(&mut world);
    world.edge().silent = true;
    world.edges.get_mut(&area(OTHER)).unwrap().rtt_ms = 150.0;
    // The world's invariants fail where a row of the silent edge changes.
    world.run(300);
    assert_eq!(world.share("front"), 100);
    assert_eq!(form_of(&world, "front"), Form::Failover);
}

#[test]
fn a_step_that_is_slower_than_predicted_goes_back() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().slow_ms = 400.0;
    world.run_until(120, |w| w.outcomes().len() == 1);
    let slower = matches!(
        world.outcomes()[..],
        [Outcome::RolledBack {
            cause: Cause::StepSlower { .. }
        }]
    );
    assert!(slower, "{}", world.story.join("\n"));
    assert!(steps(&world, EDGE).iter().all(|share| *share <= 50));
}

#[test]
fn what_is_slow_for_its_first_seconds_only_goes_on() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().slow_ms = 400.0;
    world.run_until(60, |w| w.share("front") > 0);
    world.run(7);
    world.edge().slow_ms = 0.0;
    world.run_until(120, |w| w.outcomes().len() == 1);
    assert!(
        matches!(world.outcomes()[..], [Outcome::Kept]),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn a_move_is_predicted_again_after_the_second_step() {
    let mut world = World::new(&[EDGE]);
    offload(&mut world);
    let decisions = world.decisions();
    let [decision] = decisions[..] else {
        panic!("{decisions:?}")
    };
    let (first, again) = (
        decision.planned.as_ref().unwrap().predicted_us,
        decision.predicted_again_us.unwrap(),
    );
    assert!((again / first - 1.0).abs() < 0.1, "{first} {again}");
}

#[test]
fn propagation_is_measured_and_waited_for() {
    let mut world = World::new(&[EDGE]);
    let at_first = world.state.propagation.upper();
    offload(&mut world);
    let took = world.decisions()[0].times.propagation.unwrap();
    assert_eq!(world.state.propagation.upper(), took);
    assert!(took < at_first && took >= Duration::from_millis(500), "{took:?}");
    let saved: State = serde_json::from_str(&serde_json::to_string(&world.state).unwrap()).unwrap();
    assert_eq!(saved.propagation.upper(), took);
}

#[test]
fn the_cloud_gets_its_replicas_before_the_weights_fall() {
    let mut world = World::new(&[EDGE]);
    offload(&mut world);
    world.cloud_replicas = BTreeMap::from([("front".into(), 3), ("cart".into(), 1)]);
    world.effects.clear();
    world.edge().rtt_ms = 10.0;
    world.run_until(240, |w| w.outcomes().len() == 2 && is_resting(w));
    let scales: Vec<_> = world
        .effects
        .iter()
        .filter(|(_, e)| matches!(e, Effect::Scale { .. }))
        .collect();
    let wanted = Effect::Scale {
        service: "front".into(),
        area: area(CLOUD),
        replicas: 3,
    };
    assert_eq!(
        scales.iter().map(|(_, e)| e).collect::<Vec<_>>(),
        [&wanted],
        "one call"
    );
    let first_route = world
        .effects
        .iter()
        .position(|(_, e)| matches!(e, Effect::Route { .. }));
    let first_scale = world.effects.iter().position(|(_, e)| *e == wanted);
    assert!(first_scale < first_route);
    world.run(300);
    assert_eq!(world.replicas[&"front".into()], 3, "its users are in the cloud");

    // Back at the edge, the cloud is what it was.
    world.edge().rtt_ms = 150.0;
    world.run_until(240, |w| w.outcomes().len() == 3 && is_resting(w));
    assert_eq!(world.replicas[&"front".into()], 1);
}

#[test]
fn an_autoscalers_count_is_not_taken_down() {
    let mut world = World::new(&[EDGE]);
    offload(&mut world);
    world.desired.insert(("front".into(), area(CLOUD)), 3);
    world.replicas.insert("front".into(), 1);
    world.cloud_replicas = BTreeMap::from([("front".into(), 3)]);
    world.edge().rtt_ms = 10.0;
    world.run_until(300, |w| w.outcomes().len() == 2 && is_resting(w));
    world.effects.clear();
    world.edge().rtt_ms = 150.0;
    world.run_until(300, |w| w.outcomes().len() == 3 && is_resting(w));
    assert!(
        !world
            .effects
            .iter()
            .any(|(_, e)| matches!(e, Effect::Scale { .. }))
    );
    assert_eq!(world.replicas[&"front".into()], 3);
}

#[test]
fn a_cloud_that_does_not_grow_ends_the_unoffload_before_a_weight_moved() {
    let mut world = World::new(&[EDGE]);
    offload(&mut world);
    world.cloud_replicas = BTreeMap::from([("front".into(), 3)]);
    world.stuck = true;
    world.effects.clear();
    world.edge().rtt_ms = 10.0;
    world.run_until(300, |w| w.outcomes().len() == 2);
    assert!(matches!(
        world.outcomes()[1],
        Outcome::RolledBack {
            cause: Cause::CloudNotScaled { .. }
        }
    ));
    assert_eq!(routes_of(&world).count(), 0);
    assert_eq!(world.share("front"), 99);
}

#[test]
fn a_drain_is_quiet_for_as_long_as_the_longest_request_of_the_hour() {
    for (longest_ms, least, most) in [(200.0, 10, 14), (25_000.0, 25, 29), (70_000.0, 300, 304)] {
        let mut world = World::new(&[EDGE]);
        offload(&mut world);
        world.edge().longest_ms = longest_ms;
        world.effects.clear();
        world.edge().rtt_ms = 10.0;
        world.run_until(600, |w| w.outcomes().len() == 2);
        let at = |wanted: fn(&Effect) -> bool| {
            let mut found = world.effects.iter().filter(move |(_, e)| wanted(e));
            found.next_back().unwrap().0
        };
        let removed = world
            .effects
            .iter()
            .find(|(_, e)| matches!(e, Effect::Remove { .. }))
            .unwrap()
            .0;
        let waited = removed.since(at(|e| matches!(e, Effect::Route { .. }))).as_secs();
        // The window's 4 s still show what came before the last weights.
        assert!(
            (least..=most + 4).contains(&waited),
            "{longest_ms} ms: {waited} s"
        );
    }
}

/// A controller that is killed at any moment and remembers nothing, or everything: all ends at rest, nothing is lost.
#[test]
fn killed_at_every_second_of_both_sequences_it_goes_on_or_back() {
    for forgets in [true, false] {
        for second in (12..60).step_by(3) {
            let mut world = failover(&[EDGE]);
            world.run(10);
            world.edge().rtt_ms = 150.0;
            world.run(second - 10);
            if forgets {
                world.state = State::default();
            }
            world.run_until(400, |w| w.share("front") == 100 && is_resting(w));
            world.edge().rtt_ms = 10.0;
            world.run(second);
            if forgets {
                world.state = State::default();
            }
            world.run_until(400, |w| w.placed().is_empty() && is_resting(w));
            assert_eq!(world.share("front"), 0, "killed at {second} s");
        }
    }
}
