//! Moves that bring nothing.

use std::time::Duration;

use super::world::{EDGE, World};
use crate::decide::Phase;

#[test]
fn an_exchange_that_brings_nothing_is_not_made_again_and_the_machine_comes_to_rest() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| {
        !w.outcomes().is_empty() && *w.phase() == Phase::Observing
    });
    // Everything is near, and the planner believes in exchanges.
    world.swaps = true;
    world.edge().rtt_ms = 1.0;
    world.run(1_800);
    let last = world.effects.last().unwrap().0;
    assert!(
        world.now.since(last) > Duration::from_secs(900),
        "{}",
        world.story.join("\n")
    );
}
