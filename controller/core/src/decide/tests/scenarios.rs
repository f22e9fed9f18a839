//! Stories of one edge, or two.

use std::time::Duration;

use super::world::{CLOUD, EDGE, World, area};
use crate::cluster::Phase as Life;
use crate::decide::{Cause, Direction, Effect, HoldReason, Mode, Outcome, Phase, State, routes};

fn is_resting(world: &World) -> bool {
    matches!(world.phase(), Phase::Observing)
}

fn offloaded() -> World {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept] && is_resting(w));
    world
}

#[test]
fn a_step_in_rtt_is_answered_by_an_offload_that_is_verified() {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    assert_eq!(
        (world.effects.len(), is_resting(&world)),
        (0, true),
        "80 ms is in the band"
    );

    world.edge().rtt_ms = 150.0;
    let shifted = world.run_until(30, |w| w.share("front") > 0);
    assert!(
        shifted <= Duration::from_secs(10),
        "{shifted:?}\n{}",
        world.story.join("\n")
    );
    world.run_until(120, |w| matches!(w.phase(), Phase::CoolingDown { .. }));

    assert_eq!(world.placed(), ["ads", "cart", "front"]);
    assert_eq!(
        ["front", "cart", "ads", "db"].map(|s| world.share(s)),
        [99, 99, 99, 0]
    );
    let delay = world.delay_now_ms(EDGE);
    assert!((60.0..120.0).contains(&delay), "{delay}");

    let decisions = world.decisions();
    let [decision] = decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!(decision.outcome, Outcome::Kept);
    assert_eq!(decision.direction(), Some(Direction::Offload));
    let times = decision.times;
    let order = [
        times.alarm,
        Some(times.decided),
        times.instances_ready,
        times.first_shifted_request,
        times.weights_final,
        times.verified,
    ];
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{order:?}"
    );
    let after = decision.after.unwrap();
    assert!(
        after.prediction_error_us.abs() < 0.1 * after.reading.value_us,
        "{after:?}"
    );
    assert!(after.reading.from >= times.weights_final.unwrap());
    let watched = times.verified.unwrap().since(times.weights_final.unwrap());
    let unread = watched.saturating_sub(after.reading.window);
    assert!(unread < Duration::from_secs(2), "{unread:?} of {watched:?}");

    world.run_until(20, is_resting);
    let written = world.effects.len();
    world.run(600);
    assert_eq!(
        (world.effects.len(), is_resting(&world)),
        (written, true),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn services_without_a_caller_at_the_edge_skip_the_ramp() {
    let world = offloaded();
    let ramp: Vec<(u32, u32)> = world
        .effects
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Route { plan } => {
                let share = |s: &str| routes::share(plan, &s.into(), &area(EDGE));
                Some((share("front"), share("cart")))
            }
            _ => None,
        })
        .collect();
    let mut steps = ramp.clone();
    steps.dedup();
    // 200 requests a second: 1 % brings two, 5 % brings ten.
    assert_eq!(steps, [(5, 99), (50, 99), (99, 99)]);
}

#[test]
fn a_fast_wan_is_answered_by_an_unoffload_and_the_cloud_keeps_everything() {
    let mut world = offloaded();
    world.edge().rtt_ms = 10.0;
    world.run_until(180, |w| w.outcomes().len() == 2 && is_resting(w));

    assert_eq!(
        world.outcomes(),
        [&Outcome::Kept; 2],
        "{}",
        world.story.join("\n")
    );
    assert_eq!(world.placed(), [""; 0]);
    assert_eq!(["front", "cart", "ads", "db"].map(|s| world.share(s)), [0; 4]);
    assert_eq!(
        world
            .instances
            .keys()
            .filter(|(_, at)| *at == area(CLOUD))
            .count(),
        4
    );

    let last_weight = world
        .effects
        .iter()
        .rfind(|(_, e)| matches!(e, Effect::Route { .. }))
        .unwrap()
        .0;
    let first_removal = world
        .effects
        .iter()
        .find(|(_, e)| matches!(e, Effect::Remove { .. }))
        .unwrap()
        .0;
    assert!(first_removal.since(last_weight) >= world.config.drained_after);

    let written = world.effects.len();
    world.run(600);
    assert_eq!(
        (world.effects.len(), is_resting(&world)),
        (written, true),
        "below the band, nothing to remove"
    );
}

#[test]
fn silence_is_held_and_nothing_is_written() {
    let mut world = offloaded();
    let written = world.effects.len();
    world.edge().rtt_ms = 500.0;
    world.edge().silent = true;
    world
        .instances
        .insert(("front".into(), area(EDGE)), (Life::Failed, world.now));
    world.run(120);
    assert!(matches!(
        world.phase(),
        Phase::Held {
            reason: HoldReason::EdgeSilent { .. },
            ..
        }
    ));
    assert_eq!(world.effects.len(), written);
}

#[test]
fn silence_in_the_middle_of_a_move_stops_the_clock() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    world.edge().silent = true;
    let written = world.effects.len();
    world.run(300);
    assert_eq!((world.effects.len(), world.share("front")), (written, 50));
    world.edge().silent = false;
    world.run_until(120, |w| is_resting(w) && w.outcomes() == [&Outcome::Kept]);
}

#[test]
fn silence_while_instances_start_does_not_count_against_them() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().ready_after = Some(Duration::from_secs(30));
    world.run_until(10, |w| matches!(w.phase(), Phase::Acting { .. }));
    world.edge().ready_after = None;
    world.edge().silent = true;
    world.run(200);
    world.edge().silent = false;
    world.run(10);
    assert!(
        matches!(world.phase(), Phase::Acting { .. }),
        "{}",
        world.story.join("\n")
    );
    world.edge().ready_after = Some(Duration::ZERO);
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept]);
}

#[test]
fn only_a_window_after_the_last_weights_verifies() {
    let mut world = World::new(&[EDGE]);
    world.config.verify_least = Duration::ZERO;
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.outcomes() == [&Outcome::Kept]);
    let decision = world.decisions()[0];
    let from = decision.after.unwrap().reading.from;
    assert!(Some(from) >= decision.times.weights_final, "{decision:?}");
}

#[test]
fn no_traffic_is_held() {
    let mut world = World::new(&[EDGE]);
    world.edge().rate = 0.0;
    world.run(60);
    assert!(matches!(
        world.phase(),
        Phase::Held {
            reason: HoldReason::NoTraffic,
            ..
        }
    ));
    assert!(world.effects.is_empty());
}

#[test]
fn instances_that_are_never_ready_are_taken_back() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().ready_after = None;
    let took = world.run_until(200, |w| matches!(w.phase(), Phase::CoolingDown { .. }));
    assert!(took >= world.config.ready_within);
    assert!(
        matches!(
            world.outcomes()[..],
            [Outcome::RolledBack {
                cause: Cause::NotReady { .. }
            }]
        ),
        "{}",
        world.story.join("\n")
    );
    assert_eq!(world.placed(), [""; 0]);
    assert!(
        !world
            .effects
            .iter()
            .any(|(_, effect)| matches!(effect, Effect::Route { .. }))
    );

    // Back-off from when it failed: 120 s, then it tries again.
    world.run(60);
    assert!(matches!(
        world.phase(),
        Phase::Held {
            reason: HoldReason::BackingOff { .. },
            ..
        }
    ));
    world.run_until(90, |w| matches!(w.phase(), Phase::Acting { .. }));
}

#[test]
fn an_effect_that_the_platform_refuses_ends_the_offload() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.deaf = true;
    world.run_until(60, |w| matches!(w.phase(), Phase::Acting { .. }));
    let effect = Effect::Ensure {
        service: "front".into(),
        area: area(EDGE),
        replicas: 1,
    };
    let event = crate::decide::Event::EffectFailed {
        effect: &effect,
        message: "no memory left",
        permanent: true,
    };
    let state = std::mem::take(&mut world.state);
    world.state = crate::decide::step(state, event, world.now, &world.config).0;
    world.run_until(20, |w| matches!(w.phase(), Phase::CoolingDown { .. }));
    assert!(matches!(
        world.outcomes()[..],
        [Outcome::RolledBack {
            cause: Cause::Refused { .. }
        }]
    ));
}

#[test]
fn a_wrong_prediction_goes_back_and_backs_off_for_longer_each_time() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().slow_ms = 200.0;
    world.run_until(300, |w| w.outcomes().len() == 1);
    assert!(
        matches!(
            world.outcomes()[..],
            [Outcome::RolledBack {
                cause: Cause::DelayWorse { .. } | Cause::StepSlower { .. }
            }]
        ),
        "{}",
        world.story.join("\n")
    );
    assert_eq!((world.placed(), world.share("front")), (vec![], 0));

    world.run(4 * 3600);
    let decided: Vec<u64> = world
        .decisions()
        .iter()
        .map(|d| d.times.decided.since_start().as_secs())
        .collect();
    let gaps: Vec<u64> = decided.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.len() >= 4 && gaps.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2),
        "{gaps:?}"
    );
}

#[test]
fn errors_at_the_edge_stop_the_ramp_in_its_first_steps() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.edge().edge_errors = 0.5;
    world.run_until(120, |w| w.outcomes().len() == 1);
    assert!(
        matches!(
            world.outcomes()[..],
            [Outcome::RolledBack {
                cause: Cause::ErrorsWorse { .. }
            }]
        ),
        "{}",
        world.story.join("\n")
    );
    let most = world.effects.iter().filter_map(|(_, effect)| match effect {
        Effect::Route { plan } => Some(routes::share(plan, &"front".into(), &area(EDGE))),
        _ => None,
    });
    assert!(most.max().unwrap() <= 5);
}

#[test]
fn a_failed_edge_instance_loses_its_traffic_at_once_and_is_replaced() {
    let mut world = offloaded();
    let written = world.effects.len();
    world
        .instances
        .insert(("cart".into(), area(EDGE)), (Life::Failed, world.now));
    world.tick();
    assert!(matches!(world.effects[written].1, Effect::Route { .. }));
    world.tick();
    assert_eq!(["front", "cart", "ads"].map(|s| world.share(s)), [99, 0, 99]);
    // front at the edge now crosses the WAN for every cart: 20 + 1.01 · 150 ms.
    world.run_until(180, |w| w.share("cart") == 99 && is_resting(w));
    assert_eq!(
        world.outcomes().last(),
        Some(&&Outcome::Kept),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn an_instance_that_fails_during_the_ramp_turns_the_move_back() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    world
        .instances
        .insert(("front".into(), area(EDGE)), (Life::Failed, world.now));
    world.run_until(3, |w| w.share("front") == 0);
    world.run_until(60, |w| w.outcomes().len() == 1);
    assert!(matches!(
        world.outcomes()[..],
        [Outcome::RolledBack {
            cause: Cause::InstanceFailed { .. }
        }]
    ));
    assert_eq!(world.placed(), [""; 0]);
}

#[test]
fn a_restart_without_memory_takes_an_unfinished_move_back_and_keeps_a_finished_one() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    world.state = State::default();
    world.run_until(60, |w| w.outcomes() == [&Outcome::Kept] && w.share("front") == 0);
    world.run_until(180, |w| w.outcomes().len() == 2 && is_resting(w));

    world.state = State::default();
    let written = world.effects.len();
    world.run(120);
    assert_eq!((world.effects.len(), world.outcomes().len()), (written, 0));
}

#[test]
fn a_move_that_undoes_itself_is_bounded_by_the_budget() {
    let mut world = offloaded();
    world.config.moves_per_hour = 2;
    for _ in 0..20 {
        world.edge().rtt_ms = 10.0;
        world.run(90);
        world.edge().rtt_ms = 150.0;
        world.run(90);
    }
    // An hour has passed since the first one when the last begins, at most.
    assert!(world.decisions().len() <= 3, "{}", world.story.join("\n"));
}

#[test]
fn recommend_says_it_once_and_writes_nothing() {
    let mut world = World::new(&[EDGE]);
    world.config.mode = Mode::Recommend;
    world.edge().rtt_ms = 150.0;
    world.run(120);
    assert_eq!(world.outcomes(), [&Outcome::Recommended]);
    assert!(world.effects.is_empty());
    assert!(matches!(
        world.phase(),
        Phase::Held {
            reason: HoldReason::Recommending,
            ..
        }
    ));
}

#[test]
fn observe_only_raises_the_alarm() {
    let mut world = World::new(&[EDGE]);
    world.config.mode = Mode::Observe;
    world.edge().rtt_ms = 150.0;
    world.run(120);
    assert!(matches!(world.phase(), Phase::Alarmed { .. }));
    assert!(world.effects.is_empty() && world.decisions().is_empty());
}

#[test]
fn a_change_of_mode_leaves_the_mesh_as_it_is() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    world.config.mode = Mode::Observe;
    let written = world.effects.len();
    world.run(60);
    assert_eq!((world.effects.len(), world.share("front")), (written, 50));
    assert_eq!(world.outcomes(), [&Outcome::Abandoned { cause: None }]);
}

#[test]
fn two_edges_move_one_after_the_other_where_they_share_services() {
    let mut world = World::new(&[EDGE, "edge-2"]);
    for edge in world.edges.values_mut() {
        edge.rtt_ms = 150.0;
    }
    world.run(1);
    let held = |w: &World| w.state.edges[&area("edge-2")].phase.clone();
    world.run_until(30, |w| {
        matches!(
            held(w),
            Phase::Held {
                reason: HoldReason::ServiceBusy { .. },
                ..
            }
        )
    });
    world.run_until(240, |w| {
        ["edge-1", "edge-2"].iter().all(|e| {
            let machine = &w.state.edges[&area(e)];
            machine.decisions.len() == 1 && machine.phase == Phase::Observing
        })
    });
    for edge in ["edge-1", "edge-2"] {
        assert!((60.0..120.0).contains(&world.delay_now_ms(edge)));
    }
}
