//! Replicas at the edge: what an instance is made with, and steps that wait for them.

use super::world::{EDGE, World, area};
use crate::decide::{Cause, Effect, Outcome, Phase};

fn away(needs: u32, most: u32) -> World {
    let mut world = World::new(&[EDGE]);
    (world.edge_needs, world.edge_most) = (needs, most);
    world.edge().rtt_ms = 150.0;
    world
}

#[test]
fn a_new_instance_is_made_with_the_replicas_for_all_of_its_traffic() {
    let mut world = away(3, u32::MAX);
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept]);
    let mut made = world.effects.iter().filter_map(|(_, effect)| match effect {
        Effect::Ensure { replicas, .. } => Some(*replicas),
        _ => None,
    });
    assert!(
        made.clone().count() > 0 && made.all(|replicas| replicas == 3),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn a_step_waits_for_the_replicas_that_it_needs() {
    // One replica carries a quarter.
    let mut world = away(4, 1);
    world.run_until(60, |w| w.share("front") > 0);
    for _ in 0..60 {
        world.run(1);
        assert!(
            (1..=25).contains(&world.share("front")),
            "{}",
            world.story.join("\n")
        );
    }
    world.edge_most = u32::MAX;
    world.run_until(60, |w| w.outcomes() == [&Outcome::Kept]);
}

#[test]
fn replicas_that_do_not_come_end_the_move() {
    let mut world = away(4, 1);
    world.run_until(240, |w| {
        !w.outcomes().is_empty() && !matches!(w.phase(), Phase::RollingBack { .. })
    });
    let Outcome::RolledBack { cause } = world.outcomes()[0] else {
        panic!("{}", world.story.join("\n"))
    };
    assert!(matches!(cause, Cause::EdgeNotScaled { .. }), "{cause}");
    assert_eq!(world.share("front"), 0);
}

#[test]
fn an_autoscaler_is_waited_for_while_it_adds_and_trusted_with_the_last_replica() {
    // 3 are enough for the moment, 4 are wanted; who owns the count is asked for none.
    let mut world = away(4, 1);
    for service in ["front", "cart", "ads", "db"] {
        world.desired.insert((service.into(), area(EDGE)), 3);
    }
    world.run_until(60, |w| w.share("front") > 0);
    world.run(30);
    assert!(world.share("front") <= 25, "{}", world.story.join("\n"));
    let asked = world.effects.len();
    world.edge_most = 3;
    world.run_until(60, |w| w.outcomes() == [&Outcome::Kept]);
    let asked_again = world.effects[asked..].iter();
    let asked_again = asked_again.filter(|(_, effect)| matches!(effect, Effect::Ensure { .. }));
    assert_eq!(asked_again.count(), 0, "{}", world.story.join("\n"));
}
