//! Areas without regions: calls move by readiness, in one step.

use std::time::Duration;

use super::world::{EDGE, World, area};
use crate::cluster::Phase as Life;
use crate::decide::plan::Trigger;
use crate::decide::{Cause, Effect, HoldReason, Outcome, Phase, State, accounts};
use crate::ids::ServiceName;
use crate::routing::Steering;

fn is_resting(world: &World) -> bool {
    matches!(world.phase(), Phase::Observing)
}

fn story(world: &World) -> String {
    world.story.join("\n")
}

/// Saved and loaded at every evaluation; the round trip rises after 10 s.
fn risen() -> World {
    let mut world = World::by_readiness(&[EDGE]);
    world.saving = true;
    world.run(10);
    world.edge().rtt_ms = 150.0;
    world
}

fn offloaded() -> World {
    let mut world = risen();
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept] && is_resting(w));
    world
}

fn sentence(world: &World) -> String {
    accounts(&world.state, world.now)[&area(EDGE)].sentence.clone()
}

fn is_watched(world: &World) -> bool {
    sentence(world).contains("calls move by readiness, in one step")
}

/// How many effects of a kind were wanted.
fn count(world: &World, is: fn(&Effect) -> bool) -> usize {
    world.effects.iter().filter(|(_, effect)| is(effect)).count()
}

fn rules(world: &World) -> usize {
    count(world, |effect| matches!(effect, Effect::Route { .. }))
}

fn rolled_back(world: &World) -> &Cause {
    match world.outcomes()[..] {
        [Outcome::RolledBack { cause }] => cause,
        _ => panic!("{:?}\n{}", world.outcomes(), story(world)),
    }
}

#[test]
fn an_offload_is_one_step_that_nothing_is_written_for() {
    let mut world = risen();
    world.run_until(30, is_watched);
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept] && is_resting(w));
    assert_eq!(world.placed(), ["ads", "cart", "front"]);
    assert_eq!(
        ["front", "cart", "ads", "db"].map(|s| world.share(s)),
        [100, 100, 100, 0]
    );
    let delay = world.delay_now_ms(EDGE);
    assert!((60.0..120.0).contains(&delay), "{delay}");
    let times = world.decisions()[0].times;
    let order = [
        Some(times.decided),
        times.instances_ready,
        times.weights_final,
        times.verified,
    ];
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{order:?}"
    );
    assert!(times.first_shifted_request >= times.instances_ready, "{times:?}");
    let watched = times.weights_final.unwrap().since(times.instances_ready.unwrap());
    assert!(watched <= Duration::from_secs(10), "{watched:?}");
    let written = world.effects.len();
    world.run(600);
    assert_eq!((world.effects.len(), rules(&world)), (written, 0));
}

#[test]
fn an_unoffload_raises_the_cloud_and_takes_the_instances_away() {
    let mut world = offloaded();
    let begin = world.effects.len();
    world.cloud_replicas = [(ServiceName::from("front"), 3)].into();
    world.edge().rtt_ms = 10.0;
    world.run_until(180, |w| w.outcomes().len() == 2 && is_resting(w));
    assert_eq!(world.outcomes(), [&Outcome::Kept; 2], "{}", story(&world));
    assert_eq!((world.placed(), rules(&world)), (vec![], 0));
    let effects: Vec<&Effect> = world.effects[begin..].iter().map(|(_, effect)| effect).collect();
    let first = |is: fn(&Effect) -> bool| effects.iter().position(|effect| is(effect)).unwrap();
    assert!(
        first(|e| matches!(e, Effect::Scale { .. })) < first(|e| matches!(e, Effect::Remove { .. })),
        "{effects:?}"
    );
    assert!(world.decisions()[1].times.weights_final.is_some());
}

#[test]
fn the_cloud_that_gets_no_replicas_keeps_the_edge_as_it_is() {
    let mut world = offloaded();
    world.cloud_replicas = [(ServiceName::from("front"), 3)].into();
    world.stuck = true;
    world.edge().rtt_ms = 10.0;
    world.run_until(300, |w| w.outcomes().len() == 2);
    assert!(matches!(
        world.outcomes()[1],
        Outcome::RolledBack {
            cause: Cause::CloudNotScaled { .. }
        }
    ));
    assert_eq!(world.placed(), ["ads", "cart", "front"]);
    assert_eq!(count(&world, |e| matches!(e, Effect::Remove { .. })), 0);
}

#[test]
fn errors_take_the_instances_away_within_seconds() {
    let mut world = risen();
    world.edge().edge_errors = 0.5;
    world.run_until(120, |w| w.outcomes().len() == 1);
    assert!(
        matches!(rolled_back(&world), Cause::ErrorsWorse { .. }),
        "{}",
        story(&world)
    );
    assert_eq!(
        (world.placed(), world.share("front"), rules(&world)),
        (vec![], 0, 0)
    );
    let times = world.decisions()[0].times;
    let took = times
        .finished
        .unwrap()
        .since(times.first_shifted_request.unwrap());
    assert!(took <= Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_delay_above_what_was_predicted_goes_back() {
    let mut world = risen();
    world.edge().slow_ms = 200.0;
    world.run_until(120, |w| w.outcomes().len() == 1);
    assert!(
        matches!(rolled_back(&world), Cause::StepSlower { .. }),
        "{}",
        story(&world)
    );
    assert_eq!((world.placed(), rules(&world)), (vec![], 0));
}

#[test]
fn a_move_of_which_a_part_is_never_ready_goes_back_as_a_whole() {
    let mut world = risen();
    world.edge().never_ready.insert("cart");
    world.run_until(60, |w| w.share("front") == 100);
    assert!(world.is_acting(), "front is live before cart is");
    world.run_until(150, |w| w.outcomes().len() == 1);
    assert!(matches!(rolled_back(&world), Cause::NotReady { .. }));
    assert_eq!((world.placed(), rules(&world)), (vec![], 0));
}

#[test]
fn errors_end_it_while_others_still_start() {
    let mut world = risen();
    world.edge().never_ready.insert("cart");
    world.edge().edge_errors = 0.5;
    let took = world.run_until(60, |w| w.outcomes().len() == 1);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(matches!(rolled_back(&world), Cause::ErrorsWorse { .. }));
    assert_eq!(world.placed(), [""; 0]);
}

#[test]
fn a_service_without_a_rule_gets_one_before_an_instance() {
    let mut world = World::without_rules(&[EDGE]);
    world.config.steering = Steering::Readiness;
    world.edge().rtt_ms = 150.0;
    world.run_until(180, |w| w.outcomes() == [&Outcome::Kept] && is_resting(w));
    let mut ruled = Vec::new();
    for (_, effect) in &world.effects {
        match effect {
            Effect::Route { plan } => ruled.extend(plan.0.keys().cloned()),
            Effect::Ensure { service, .. } => assert!(ruled.contains(service), "{service}"),
            _ => {}
        }
    }
    assert_eq!(world.share("front"), 100);
    assert!(rules(&world) <= 4, "one for each service");
}

#[test]
fn an_instance_that_fails_is_taken_away_and_comes_back() {
    let mut world = offloaded();
    let failed = (Life::Failed, world.now);
    world.instances.insert(("cart".into(), area(EDGE)), failed);
    world.tick();
    assert_eq!(
        world.share("cart"),
        0,
        "its calls are in the cloud before anybody does anything"
    );
    world.run_until(180, |w| w.share("cart") == 100 && is_resting(w));
    let decisions = world.decisions();
    assert!(
        matches!(decisions[1].trigger, Trigger::InstanceFailed),
        "{}",
        story(&world)
    );
    assert_eq!(
        (world.outcomes().last(), rules(&world)),
        (Some(&&Outcome::Kept), 0)
    );
}

#[test]
fn an_instance_that_fails_on_arrival_turns_the_move_back() {
    let mut world = risen();
    world.run_until(30, is_watched);
    let failed = (Life::Failed, world.now);
    world.instances.insert(("front".into(), area(EDGE)), failed);
    world.run_until(60, |w| w.outcomes().len() == 1);
    assert!(matches!(rolled_back(&world), Cause::InstanceFailed { .. }));
    assert_eq!(world.placed(), [""; 0]);
}

#[test]
fn instances_that_are_not_removed_bring_the_unoffload_back() {
    let mut world = offloaded();
    world.edge().rtt_ms = 10.0;
    world.run_until(30, World::is_acting);
    let refused = Effect::Remove {
        service: "front".into(),
        area: area(EDGE),
    };
    world.fail(&refused, "it is protected", true);
    world.run_until(60, |w| w.outcomes().len() == 2);
    assert!(
        matches!(
            world.outcomes()[1],
            Outcome::RolledBack {
                cause: Cause::Refused { .. }
            }
        ),
        "{}",
        story(&world)
    );
    assert_eq!(world.placed(), ["ads", "cart", "front"]);
}

#[test]
fn a_restart_without_memory_keeps_what_is_placed() {
    let mut world = offloaded();
    world.state = State::default();
    let written = world.effects.len();
    world.run(120);
    assert_eq!((world.effects.len(), world.outcomes().len()), (written, 0));
}

#[test]
fn a_move_that_began_by_weights_ends_by_readiness() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    world.config.steering = Steering::Readiness;
    world.run_until(60, |w| w.outcomes() == [&Outcome::Kept]);
    assert_eq!(world.share("front"), 100);
}

#[test]
fn an_overloaded_service_is_held_because_no_share_can_be_given() {
    let mut world = offloaded();
    world.edge().capacity = 330.0;
    world.run(60);
    let (written, decided) = (world.effects.len(), world.outcomes().len());
    world.edge().rate = 330.0;
    world.run_until(
        30,
        |w| matches!(w.held(), Some(HoldReason::RuleShape { what, .. }) if what.contains("overloaded")),
    );
    world.run(60);
    assert_eq!((world.effects.len(), world.outcomes().len()), (written, decided));
    world.edge().rate = 200.0;
    world.run_until(60, is_resting);
}
