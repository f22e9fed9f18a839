//! What the planner is asked, and how often.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{EDGE, World, area};
use crate::decide::{Band, HoldReason, NoPlan, Outcome};
use crate::ids::ServiceName;

fn asked(world: &World) -> usize {
    world.asked.borrow().len()
}

#[test]
fn without_a_plan_it_is_asked_ever_more_rarely_until_the_delay_is_another() {
    let mut world = World::new(&[EDGE]);
    world.no_plan = Some(NoPlan::NoBetterPlacement);
    world.edge().rtt_ms = 150.0;
    world.run_until(30, |world| asked(world) > 0);
    let first = asked(&world);
    world.run(8);
    assert!(asked(&world) - first >= 7, "each second at first");
    world.run(592);
    // 8, and then 8 · ln(600 / 8).
    let after_600_s = asked(&world) - first;
    assert!((30..=45).contains(&after_600_s), "{after_600_s} questions");
    world.run(3_000);
    let after_an_hour = asked(&world) - first;
    assert!((45..=60).contains(&after_an_hour), "{after_an_hour} questions");
    world.edge().rtt_ms = 250.0;
    world.run(16);
    assert!(asked(&world) - first >= after_an_hour + 8, "another delay");
}

#[test]
fn what_was_not_measured_is_asked_for_each_second() {
    let mut world = World::new(&[EDGE]);
    let what = "no round trip".to_owned();
    world.no_plan = Some(NoPlan::NotEnoughData { what });
    world.edge().rtt_ms = 150.0;
    world.run_until(30, |world| asked(world) > 0);
    let first = asked(&world);
    world.run(60);
    assert!(asked(&world) - first >= 59);
}

#[test]
fn the_first_of_several_moves_is_not_made_where_the_band_cannot_be_reached() {
    let mut world = World::new(&[EDGE]);
    // Everything at the edge is 20 ms and the standby share: less than half of the delay, and above the band.
    let ms = Duration::from_millis;
    let objective = world.config.edges.get_mut(&area(EDGE)).unwrap();
    objective.band = Band::try_new(ms(5), ms(10)).unwrap();
    world.edge().rtt_ms = 150.0;
    world.run(300);
    assert_eq!(world.effects, [], "{}", world.story.join("\n"));
    let why = world.held();
    let is_told = matches!(why, Some(HoldReason::NoPlan { why: NoPlan::TargetBelowLeak { target_us, .. } }) if *target_us < 10e3);
    assert!(is_told, "{why:?}");
}

/// What the first step takes away the second might bring back.
#[test]
fn the_first_of_several_moves_takes_nothing_away_unless_nothing_else_does() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |world| world.outcomes() == [&Outcome::Kept]);
    let placed: BTreeSet<_> = world.placed().into_iter().map(ServiceName::from).collect();
    assert_eq!(placed.len(), 3);
    let before = asked(&world);
    world.no_plan = Some(NoPlan::NoBetterPlacement);
    // Half of it is above the middle of the band.
    world.edge().rtt_ms = 700.0;
    world.run_until(60, |world| asked(world) >= before + 2);
    let asked = world.asked.borrow();
    let fixed: Vec<_> = asked[before..].iter().map(|asks| &asks[0].fixed).collect();
    assert_eq!(fixed, [&placed, &BTreeSet::new()]);
}
