//! What a failed move leaves behind, and what a platform's refusal does.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{EDGE, World, area};
use crate::cluster::Phase as Life;
use crate::decide::{Cause, Direction, Effect, HoldReason, Outcome, Phase};
use crate::ids::ServiceName;

fn services<const N: usize>(names: [&str; N]) -> BTreeSet<ServiceName> {
    names.map(ServiceName::from).into()
}

fn offloaded() -> World {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| {
        w.outcomes() == [&Outcome::Kept] && *w.phase() == Phase::Observing
    });
    world
}

#[test]
fn only_the_services_to_blame_are_left_out_of_the_next_plan() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().never_ready.insert("ads");
    world.run_until(200, |w| w.outcomes().len() == 1);
    let failed = world.now;
    assert!(
        matches!(world.outcomes()[0], Outcome::RolledBack { cause: Cause::NotReady { services: s, .. } } if *s == services(["ads"])),
        "{}",
        world.story.join("\n")
    );
    world.run_until(60, World::is_acting);
    assert!(world.now.since(failed) < world.config.back_off_first);
    let asked = world.asked.borrow().last().unwrap()[0].fixed.clone();
    assert_eq!(asked, services(["ads"]));
    world.run_until(120, |w| w.outcomes().last() == Some(&&Outcome::Kept));
    assert_eq!(world.placed(), ["cart", "db", "front"]);
    let failed = &world.machine().failed[&Direction::Offload];
    assert_eq!(failed.keys().cloned().collect::<BTreeSet<_>>(), services(["ads"]));
}

#[test]
fn a_move_without_a_culprit_is_not_tried_again_before_its_time() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().slow_ms = 200.0;
    world.run_until(300, |w| w.outcomes().len() == 1);
    world.run(60);
    let Some(HoldReason::BackingOff {
        until,
        services: held,
    }) = world.held().cloned()
    else {
        panic!("{}", world.story.join("\n"))
    };
    assert_eq!(held, services(["ads", "cart", "front"]));
    let written = world.effects.len();
    while world.now < until {
        assert_eq!(world.effects.len(), written);
        world.tick();
    }
    world.run_until(2, World::is_acting);
    // A failure in one direction is none in the other.
    assert!(!world.machine().failed.contains_key(&Direction::Unoffload));
}

#[test]
fn a_kept_move_absolves_its_services() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().ready_after = None;
    world.run_until(200, |w| w.outcomes().len() == 1);
    assert_eq!(world.machine().failed[&Direction::Offload].len(), 3);
    world.edge().ready_after = Some(Duration::ZERO);
    world.run_until(300, |w| w.outcomes().last() == Some(&&Outcome::Kept));
    world.tick();
    assert!(world.machine().failed.is_empty());
}

#[test]
fn an_instance_that_the_platform_refuses_is_the_one_to_blame() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().never_ready.insert("ads");
    world.run_until(60, World::is_acting);
    let effect = Effect::Ensure {
        service: "ads".into(),
        area: area(EDGE),
        replicas: 1,
    };
    world.fail(&effect, "the image does not exist", true);
    world.run_until(60, |w| w.outcomes().len() == 1);
    let Outcome::RolledBack { cause } = world.outcomes()[0] else {
        panic!("{}", world.story.join("\n"))
    };
    assert_eq!(
        cause.to_string(),
        "refused by the platform: the image does not exist"
    );
    world.run_until(180, |w| w.outcomes().last() == Some(&&Outcome::Kept));
    assert_eq!(world.placed(), ["cart", "db", "front"]);
}

#[test]
fn weights_that_the_platform_refuses_end_the_move() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    let plan = world.routing.clone();
    world.fail(&Effect::Route { plan }, "denied by a webhook", true);
    world.run_until(60, |w| w.outcomes().len() == 1);
    assert!(matches!(
        world.outcomes()[0],
        Outcome::RolledBack {
            cause: Cause::Refused { .. }
        }
    ));
    assert_eq!((world.placed(), world.share("front")), (vec![], 0));
}

#[test]
fn an_instance_that_the_platform_does_not_remove_ends_the_unoffload_and_is_left_alone() {
    let mut world = offloaded();
    world.edge().rtt_ms = 10.0;
    let is_removal = |w: &World| matches!(w.effects.last(), Some((_, Effect::Remove { .. })));
    world.run_until(120, is_removal);
    // It stays, whatever is asked.
    let now = world.now;
    world
        .instances
        .insert(("cart".into(), area(EDGE)), (Life::Ready, now));
    world.deaf = true;
    let removal = Effect::Remove {
        service: "cart".into(),
        area: area(EDGE),
    };
    world.fail(&removal, "a finalizer holds it", true);
    world.run_until(120, |w| w.outcomes().len() == 2);
    let written = world.effects.len();
    world.run(60);
    assert_eq!(world.effects.len(), written, "{}", world.story.join("\n"));
    // Later it is found as left over, and taken away once that works.
    world.deaf = false;
    world.run_until(300, |w| w.placed().is_empty());
}

#[test]
fn a_failing_effect_is_shown_as_long_as_it_is_wanted() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.deaf = true;
    world.run_until(60, World::is_acting);
    let effect = Effect::Ensure {
        service: "front".into(),
        area: area(EDGE),
        replicas: 1,
    };
    for _ in 0..5 {
        world.fail(&effect, "no memory left", false);
        world.run(1);
    }
    let complaint = world.machine().complaining.clone().unwrap();
    assert_eq!(
        (complaint.message.as_str(), complaint.times),
        ("no memory left", 5)
    );
    assert!(world.is_acting());
    world.deaf = false;
    world.run(3);
    assert_eq!(world.machine().complaining, None);
}

#[test]
fn an_instance_that_fails_while_its_weight_is_lowered_gets_none_back() {
    let mut world = offloaded();
    world.edge().rtt_ms = 1.0;
    world.run_until(60, |w| w.share("front") == 50);
    // The step lasts.
    world.edge().rate = 2.0;
    let now = world.now;
    world
        .instances
        .insert(("front".into(), area(EDGE)), (Life::Failed, now));
    world.run_until(3, |w| w.share("front") == 0);
    for _ in 0..60 {
        world.run(1);
        assert_eq!(world.share("front"), 0, "{}", world.story.join("\n"));
    }
}
