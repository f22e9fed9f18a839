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
    let is_exchange =
        |decision: &&crate::decide::Decision| !decision.add.is_empty() && !decision.remove.is_empty();
    let exchanges = world.decisions().into_iter().filter(is_exchange).count();
    assert!((1..=4).contains(&exchanges), "{}", world.story.join("\n"));
    let last = world.effects.last().unwrap().0;
    assert!(
        world.now.since(last) > Duration::from_secs(900),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn below_the_band_nothing_is_brought_to_the_edge_that_lowers_the_delay_further() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| {
        !w.outcomes().is_empty() && *w.phase() == Phase::Observing
    });
    let written = world.effects.len();
    (world.swaps, world.lowers) = (true, true);
    world.edge().rtt_ms = 1.0;
    world.run(300);
    assert_eq!(world.effects.len(), written, "{}", world.story.join("\n"));
    assert!(world.held().is_some(), "{}", world.story.join("\n"));
}
