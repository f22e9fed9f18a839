//! Instances at the edge with a limited capacity: weights fall before more is placed, and return after.

use std::time::Duration;

use super::world::{CLOUD, EDGE, World, area};
use crate::decide::plan::Trigger;
use crate::decide::{Cause, Effect, Outcome, Phase, State, accounts, routes};

/// Everything but the database is at the edge; one instance serves 330 requests a second there.
fn loaded() -> World {
    let mut world = World::new(&[EDGE]);
    world.edge().capacity = 330.0;
    world.run(10);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| {
        w.outcomes() == [&Outcome::Kept] && matches!(w.phase(), Phase::Observing)
    });
    world.run(30);
    assert_eq!(world.outcomes().len(), 1, "{}", world.story.join("\n"));
    world
}

/// The shares of a service that were written, with their times.
fn shares(world: &World, service: &str) -> Vec<(u64, u32)> {
    let mut written: Vec<(u64, u32)> = Vec::new();
    for (at, effect) in &world.effects {
        if let Effect::Route { plan } = effect {
            let share = routes::share(plan, &service.into(), &area(EDGE));
            if written.last().is_none_or(|(_, last)| *last != share) {
                written.push((at.since_start().as_secs(), share));
            }
        }
    }
    written
}

fn story(world: &World) -> String {
    let decisions = world.decisions();
    let decisions = decisions.iter().map(|decision| decision.sentence());
    format!(
        "{}\n{}",
        world.story.join("\n"),
        decisions.collect::<Vec<_>>().join("\n")
    )
}

#[test]
fn saturated_instances_give_weight_to_the_cloud_and_get_it_back() {
    let mut world = loaded();
    let begin = world.effects.len();
    // 327 of 330 requests a second: 4 ms inside become over 100 ms, in front and in cart.
    world.edge().rate = 330.0;
    let reacted = world.run_until(30, |w| w.share("front") < 99 || w.share("cart") < 99);
    assert!(
        reacted <= Duration::from_secs(10),
        "{reacted:?}\n{}",
        story(&world)
    );
    world.run(300);
    let delay = world.delay_now_ms(EDGE);
    assert!(delay < 120.0, "{delay}\n{}", story(&world));
    let ensured = world.effects[begin..]
        .iter()
        .any(|(_, effect)| matches!(effect, Effect::Ensure { .. } | Effect::Remove { .. }));
    assert!(
        !ensured,
        "nothing more is placed, nothing removed\n{}",
        story(&world)
    );

    world.edge().rate = 200.0;
    world.run(1_200);
    assert_eq!(
        ["front", "cart", "ads", "db"].map(|s| world.share(s)),
        [99, 99, 99, 0],
        "{}",
        story(&world)
    );
    assert!(matches!(world.phase(), Phase::Observing), "{}", story(&world));
}

#[test]
fn the_record_names_the_service_and_its_times() {
    let mut world = loaded();
    world.edge().rate = 330.0;
    world.run_until(30, |w| matches!(w.phase(), Phase::Relieving { .. }));
    let account = &accounts(&world.state, world.now)[&area(EDGE)];
    assert_eq!(account.phase, "relieving");
    assert!(
        account.sentence.contains("from 99 % to 75 %"),
        "{}",
        account.sentence
    );
    let Some(Trigger::Overload {
        own_before_us,
        own_now_us,
        ..
    }) = account.plan.map(|plan| &plan.trigger)
    else {
        panic!("{:?}", account.plan)
    };
    assert!(own_now_us > &(2.0 * own_before_us));
    assert!((14e3..18e3).contains(own_before_us), "6 ms, and 4 ms at 60 % use");
}

#[test]
fn a_service_that_is_slow_everywhere_is_not_overloaded() {
    let mut world = loaded();
    world.edge().slow_everywhere = 8.0;
    world.run(120);
    let relieved = world.story.iter().any(|line| line.contains("overloaded"));
    assert!(!relieved, "{}", story(&world));
    assert_eq!(world.share("front"), 99);
}

#[test]
fn an_edge_whose_cpu_is_taken_is_relieved_and_tried_again() {
    let mut world = loaded();
    // Instances serve a third of what they did: 198 requests a second are too many.
    world.edge().hog = 3.0;
    world.run(300);
    assert!(
        world.share("front") < 99 || world.share("cart") < 99,
        "{}",
        story(&world)
    );
    world.edge().hog = 1.0;
    world.run(1_800);
    assert_eq!(
        ["front", "cart", "ads"].map(|s| world.share(s)),
        [99; 3],
        "{}",
        story(&world)
    );
    assert_eq!(
        world.placed(),
        ["ads", "cart", "front"],
        "nothing else was placed"
    );
}

#[test]
fn overload_that_stays_is_not_tried_again_and_again() {
    let mut world = loaded();
    world.edge().rate = 330.0;
    world.run(600);
    let written = world.effects.len();
    world.run(7_200);
    let more = world.effects.len() - written;
    assert!(
        more <= 8,
        "{more} writes in 2 h of constant load\n{}",
        story(&world)
    );
}

#[test]
fn load_that_comes_and_goes_moves_weights_ever_more_rarely() {
    let mut world = loaded();
    for _ in 0..60 {
        world.edge().rate = 330.0;
        world.run(90);
        world.edge().rate = 200.0;
        world.run(90);
    }
    // 3 h: without a bound each of the 60 waves would move front and cart down and up.
    let written: usize = ["front", "cart"].map(|s| shares(&world, s).len()).iter().sum();
    assert!(written <= 60, "{written}\n{}", story(&world));
    let last_hour = world.now.since_start().as_secs() - 3_600;
    let late = ["front", "cart"].map(|s| {
        shares(&world, s)
            .iter()
            .filter(|(at, _)| *at >= last_hour)
            .count()
    });
    assert!(
        late.iter().sum::<usize>() <= 16,
        "{late:?} in the last hour\n{}",
        story(&world)
    );
}

#[test]
fn lowered_weights_are_no_unfinished_move_and_survive_a_restart() {
    let mut world = loaded();
    world.edge().rate = 330.0;
    world.run(120);
    let lowered = ["front", "cart"].map(|s| world.share(s));
    assert!(lowered.iter().any(|share| *share < 99), "{}", story(&world));
    // The world saves and loads the state every 7.5 s. Without its memory a share above half returns all the same.
    world.state = State::default();
    world.edge().rate = 200.0;
    world.run(1_200);
    for service in ["front", "cart", "ads", "db"] {
        let share = world.share(service);
        assert!(
            share == 0 || share == 99,
            "{service} {share} %\n{}",
            story(&world)
        );
    }
}

#[test]
fn weights_that_somebody_else_changed_and_took_away_leave_an_unfinished_move() {
    let mut world = loaded();
    let front = "front".into();
    routes::set(&mut world.routing, &front, &area(EDGE), &area(CLOUD), 98);
    world.run(5);
    assert_eq!(world.share("front"), 98, "{}", story(&world));
    world.routing.0.remove(&front);
    world.run_until(60, |w| !w.placed().contains(&"front"));
    assert_eq!(world.share("front"), 0, "{}", story(&world));
}

#[test]
fn an_instance_that_fails_meanwhile_goes_to_the_cloud() {
    let mut world = loaded();
    world.edge().rate = 330.0;
    world.run_until(30, |w| matches!(w.phase(), Phase::Relieving { .. }));
    let Some(service) = world
        .phase()
        .plan()
        .and_then(|plan| plan.trigger.service())
        .cloned()
    else {
        panic!("{}", story(&world))
    };
    let now = world.now;
    world.instances.insert(
        (service.clone(), area(EDGE)),
        (crate::cluster::Phase::Failed, now),
    );
    world.run(2);
    assert_eq!(world.share(service.as_str()), 0, "{}", story(&world));
    let mut outcomes = world.outcomes().into_iter();
    let abandoned = outcomes.any(|outcome| matches!(outcome, Outcome::Abandoned { .. }));
    assert!(abandoned, "{}", story(&world));
}

#[test]
fn a_step_that_makes_it_worse_goes_back() {
    let mut world = loaded();
    world.edge().hog = 3.0;
    world.run_until(60, |w| matches!(w.phase(), Phase::Relieving { .. }));
    // The way to the cloud takes far longer than the queue.
    world.edge().rtt_ms = 2_000.0;
    world.run_until(60, |w| {
        w.outcomes().iter().any(|outcome| {
            matches!(
                outcome,
                Outcome::RolledBack {
                    cause: Cause::DelayWorse { .. }
                }
            )
        })
    });
}
