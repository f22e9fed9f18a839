//! A state that is saved and loaded: the clock, former versions, and what can't be read.

use super::world::{EDGE, World, area};
use crate::cluster::Phase as Life;
use crate::decide::saved::{self, SavedError};
use crate::decide::{Direction, HoldReason, Outcome, Phase, State, routes};
use crate::ids::ServiceName;

/// Written by the last code without a version.
const VERSION_0: &str = include_str!("version-0.json");
const MINUTE: u64 = 60_000;

/// The controller is away for `passed_ms` of its wall clock.
fn restart(world: &mut World, passed_ms: i64) {
    let wall_ms = 1_700_000_000_000_u64;
    let text = saved::to_json(&world.state, wall_ms).unwrap();
    let saved = saved::from_json(&text).unwrap();
    world.now = saved::clock(
        saved.state.at,
        saved.wall_unix_ms,
        wall_ms.checked_add_signed(passed_ms).unwrap(),
    );
    world.state = saved.state;
    world.state.interrupt();
}

#[test]
fn back_offs_and_budgets_run_while_no_controller_does() {
    let mut world = World::new(&[EDGE]);
    world.config.moves_per_hour = 1;
    world.edge().rtt_ms = 150.0;
    world.edge().slow_ms = 200.0;
    world.run_until(300, |w| w.outcomes().len() == 1);
    world.edge().slow_ms = 0.0;
    world.run(20);
    assert!(!world.is_acting());
    restart(&mut world, i64::try_from(61 * MINUTE).unwrap());
    world.run_until(10, World::is_acting);
}

#[test]
fn a_wall_clock_that_went_backwards_counts_as_no_time() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().slow_ms = 200.0;
    world.run_until(300, |w| w.outcomes().len() == 1);
    world.run(20);
    let before = world.now;
    restart(&mut world, -86_400_000);
    assert_eq!(world.now, before);
    world.run(5);
    assert!(
        matches!(world.held(), Some(HoldReason::BackingOff { .. })),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn a_move_goes_on_after_a_pause_that_counts_for_no_deadline() {
    for share in [5, 50, 99] {
        let mut world = World::new(&[EDGE]);
        world.edge().rtt_ms = 150.0;
        world.run_until(60, |w| w.share("front") == share);
        let written = world.effects.len();
        restart(&mut world, i64::try_from(30 * MINUTE).unwrap());
        world.run_until(120, |w| w.outcomes() == [&Outcome::Kept]);
        let weights: Vec<u32> = world.effects[written..]
            .iter()
            .filter_map(|(_, effect)| match effect {
                crate::decide::Effect::Route { plan } => {
                    Some(routes::share(plan, &"front".into(), &area(EDGE)))
                }
                _ => None,
            })
            .collect();
        assert!(
            weights.is_sorted() && weights.iter().all(|weight| *weight >= share),
            "{weights:?}"
        );
    }
}

#[test]
fn evaluations_before_and_after_a_pause_are_not_in_a_row() {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    world.edge().rtt_ms = 150.0;
    world.run_until(
        10,
        |w| matches!(w.phase(), Phase::Alarmed { alarm } if alarm.seen == 2),
    );
    restart(&mut world, 10_000);
    world.tick();
    assert!(
        matches!(world.phase(), Phase::Alarmed { alarm } if alarm.seen == 1),
        "{:?}",
        world.phase()
    );
}

#[test]
fn a_state_of_version_0_loads() {
    let saved = saved::from_json(VERSION_0).unwrap();
    assert_eq!((saved.version, saved.wall_unix_ms), (0, None));
    let edge = |name: &str| &saved.state.edges[&area(name)];
    assert!(matches!(edge("acting").phase, Phase::Acting { .. }));
    assert!(matches!(edge("verifying").phase, Phase::Verifying { .. }));
    assert!(matches!(edge("silent").phase, Phase::Acting { .. }));
    // Failed moves were remembered by direction.
    for (name, until) in [("backing-off", 161), ("rolling-back", 150)] {
        let failed = &edge(name).failed[&Direction::Offload];
        let names: Vec<&str> = failed.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["ads", "cart", "front"], "{name}");
        assert!(
            failed
                .values()
                .all(|f| f.count == 1 && f.until.since_start().as_secs() == until)
        );
    }
    // A clock that nobody saved goes on from where it was.
    assert_eq!(
        saved::clock(saved.state.at, saved.wall_unix_ms, u64::MAX),
        saved.state.at
    );
    // What is loaded is saved in the present version.
    let again = saved::from_json(&saved::to_json(&saved.state, 5).unwrap()).unwrap();
    assert_eq!((again.version, again.wall_unix_ms), (1, Some(5)));
    assert_eq!(again.state, saved.state);
}

#[test]
fn a_move_of_version_0_is_finished() {
    let State { at, mut edges, .. } = saved::from_json(VERSION_0).unwrap().state;
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    // The mesh as that controller left it; only what it remembered is its own.
    world.state = State::default();
    world.state.at = at;
    world
        .state
        .edges
        .insert(area(EDGE), edges.remove(&area("acting")).unwrap());
    world.now = world.now.max(at);
    world.state.interrupt();
    assert!(world.instances.values().all(|(life, _)| *life == Life::Ready));
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept]);
    assert_eq!(world.decisions()[0].id, 1);
    assert_eq!(world.share("front"), 99);
}

#[test]
fn what_cannot_be_loaded_says_so_and_what_to_do() {
    let newer = saved::from_json(r#"{"version": 7, "wallUnixMs": 1, "soul": {}}"#).unwrap_err();
    assert!(matches!(newer, SavedError::Newer { found: 7 }));
    assert_eq!(
        newer.to_string(),
        "the saved state has version 7, this controller knows 1: run the newer controller, or move the state away to \
         start from what runs"
    );
    let text = saved::to_json(&State::default(), 1).unwrap();
    for length in 0..text.len() {
        let cut = saved::from_json(&text[..length]);
        assert!(matches!(cut, Err(SavedError::NotJson(_))), "{length}: {cut:?}");
    }
    let other = saved::from_json(r#"{"kind": "Deployment"}"#).unwrap_err();
    assert!(
        matches!(other, SavedError::NotAState { version: 0, .. }),
        "{other}"
    );
    let broken = text.replace("\"ledger\"", "\"ladder\"");
    let broken = saved::from_json(&broken).unwrap_err();
    assert!(
        broken
            .to_string()
            .contains("version 1 writes (missing field `ledger`)"),
        "{broken}"
    );
}
