//! Each reason to hold begins with its cause and ends with it.

use std::time::Duration;

use super::world::{CLOUD, EDGE, World, area};
use crate::cluster::Unroutable;
use crate::decide::{Covered, HoldReason, Mode, NoPlan, Outcome, Phase, accounts};
use crate::snapshot::{Coverage, ServiceCoverage};

/// The WAN calls for a move from the tenth second on; `hold` is what stands in its way, `release` takes it away.
fn is_held_and_released(
    hold: impl Fn(&mut World),
    is: impl Fn(&HoldReason) -> bool,
    release: impl Fn(&mut World),
) -> World {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    hold(&mut world);
    world.edge().rtt_ms = 150.0;
    world.run_until(30, |w| w.held().is_some_and(&is));
    world.run(120);
    let story = world.story.join("\n");
    assert!(world.held().is_some_and(&is), "{:?}\n{story}", world.phase());
    assert!(world.effects.is_empty(), "{story}");
    let reason = world.held().unwrap().to_string();
    let account = &accounts(&world.state, world.now)[&area(EDGE)];
    assert_eq!(account.sentence, format!("held: {reason}"));
    assert!(
        account
            .since
            .is_some_and(|since| world.now.since(since) >= Duration::from_secs(100))
    );
    release(&mut world);
    world.run_until(30, World::is_acting);
    world
}

#[test]
fn what_is_not_measured_is_not_acted_on() {
    is_held_and_released(
        |w| w.edge().rate = 0.0,
        |r| *r == HoldReason::NoTraffic,
        |w| w.edge().rate = 200.0,
    );
    is_held_and_released(
        |w| w.edge().rate = 3.0,
        |r| matches!(r, HoldReason::TooFewRequests { .. }),
        |w| w.edge().rate = 200.0,
    );
    is_held_and_released(
        |w| w.edge().silent = true,
        |r| matches!(r, HoldReason::EdgeSilent { .. }),
        |w| w.edge().silent = false,
    );
    is_held_and_released(
        |w| w.edge().user_errors = 0.2,
        |r| matches!(r, HoldReason::Errors { .. }),
        |w| w.edge().user_errors = 0.0,
    );
}

#[test]
fn a_move_needs_the_proxies_on_the_users_path() {
    let of = |service: &str, heard| ServiceCoverage {
        service: service.into(),
        area: area(CLOUD),
        coverage: Coverage {
            expected: 10,
            heard,
            blind: 0,
        },
    };
    let world = is_held_and_released(
        |w| w.coverage = vec![of("cart", 4), of("front", 10), of("unused", 0)],
        |r| {
            *r == HoldReason::LowCoverage {
                of: Covered::UsersPath,
                share: 0.7,
                needed: 0.9,
            }
        },
        |w| w.coverage = vec![of("cart", 8), of("front", 10), of("unused", 0)],
    );
    assert!(
        world.story.iter().any(|line| line
            .ends_with("held: coverage 70 % of the services on the users' path, 90 % needed")),
        "{}",
        world.story.join("\n")
    );
}

#[test]
fn an_edge_where_nothing_can_run_gets_nothing() {
    is_held_and_released(
        |w| {
            w.unavailable.insert(area(EDGE), "no node is ready".to_owned());
        },
        |r| matches!(r, HoldReason::EdgeUnavailable { why } if why == "no node is ready"),
        |w| w.unavailable.clear(),
    );
}

#[test]
fn services_without_a_rule_that_can_be_written_are_planned_around_or_named() {
    let by = || Unroutable::RuleOwned {
        by: "argocd (spec.trafficPolicy)".to_owned(),
    };
    let front = |why: Unroutable| {
        move |w: &mut World| {
            w.unroutable.insert("front".into(), why.clone());
        }
    };
    let release = |w: &mut World| w.unroutable.clear();
    is_held_and_released(
        front(by()),
        |r| matches!(r, HoldReason::RuleOwned { service, by } if service.as_str() == "front" && by.starts_with("argocd")),
        release,
    );
    let what = "it is a wildcard".to_owned();
    is_held_and_released(
        front(Unroutable::RuleShape { what }),
        |r| matches!(r, HoldReason::RuleShape { what, .. } if what == "it is a wildcard"),
        release,
    );
    let locality = || "eu/west-1".to_owned();
    is_held_and_released(
        front(Unroutable::LocalityUnproven { locality: locality() }),
        |r| matches!(r, HoldReason::LocalityUnproven { .. }),
        release,
    );
    is_held_and_released(
        front(Unroutable::EndpointOutsideAreas { locality: locality() }),
        |r| matches!(r, HoldReason::EndpointOutsideAreas { .. }),
        release,
    );
    // Without `ads` there is a plan.
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.unroutable.insert("ads".into(), by());
    world.run_until(120, |w| w.outcomes() == [&Outcome::Kept]);
    assert_eq!(world.placed(), ["cart", "db", "front"]);
}

#[test]
fn what_the_planner_says_is_the_reason() {
    for why in [
        NoPlan::NoBetterPlacement,
        NoPlan::Capacity {
            what: "90.0 ms at edge-1".to_owned(),
        },
        NoPlan::Pins {
            what: "90.0 ms at edge-1".to_owned(),
        },
        NoPlan::TargetBelowLeak {
            target_us: 9e4,
            reachable_us: 1.3e5,
        },
        NoPlan::NotEnoughData {
            what: "no round trip".to_owned(),
        },
    ] {
        is_held_and_released(
            |w| w.no_plan = Some(why.clone()),
            |r| *r == HoldReason::NoPlan { why: why.clone() },
            |w| w.no_plan = None,
        );
    }
}

#[test]
fn the_operator_and_the_budget_hold_what_they_say() {
    is_held_and_released(
        |w| w.config.suspend = true,
        |r| *r == HoldReason::Suspended,
        |w| w.config.suspend = false,
    );
    is_held_and_released(
        |w| w.config.moves_per_hour = 0,
        |r| *r == HoldReason::MovesSpent { per_hour: 0 },
        |w| w.config.moves_per_hour = 60,
    );
    is_held_and_released(
        |w| w.config.mode = Mode::Recommend,
        |r| *r == HoldReason::Recommending,
        |w| w.config.mode = Mode::Enforce,
    );
}

#[test]
fn suspended_the_move_under_way_is_finished_and_none_follows() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    world.config.suspend = true;
    world.run_until(120, |w| w.held() == Some(&HoldReason::Suspended));
    assert_eq!(
        (world.outcomes(), world.share("front")),
        (vec![&Outcome::Kept], 99)
    );
    let written = world.effects.len();
    world.edge().rtt_ms = 10.0;
    world.run(300);
    assert_eq!(world.effects.len(), written);
    // What cannot serve loses its weight all the same.
    let now = world.now;
    world
        .instances
        .insert(("cart".into(), area(EDGE)), (crate::cluster::Phase::Failed, now));
    world.run_until(3, |w| w.share("cart") == 0);
    world.run_until(60, |w| w.held() == Some(&HoldReason::Suspended));
}

#[test]
fn suspended_an_unfinished_move_is_left() {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(60, |w| w.share("front") == 50);
    (world.state, world.config.suspend) = (crate::decide::State::default(), true);
    let written = world.effects.len();
    world.run(60);
    assert_eq!((world.effects.len(), world.share("front")), (written, 50));
}

fn with_autoscaler(service: &str) -> World {
    let mut world = World::new(&[EDGE]);
    world.desired.insert((service.into(), area(CLOUD)), 1);
    world.run(10);
    world.edge().rtt_ms = 150.0;
    world
}

#[test]
fn an_autoscaler_at_work_on_the_users_path_is_waited_for() {
    let mut world = with_autoscaler("front");
    world.run(2);
    world.desired.insert(("front".into(), area(CLOUD)), 2);
    let changed = world.now;
    world.run_until(10, |w| {
        matches!(w.held(), Some(HoldReason::Autoscaling { service, wants: 2, .. }) if service.as_str() == "front")
    });
    world.run_until(30, World::is_acting);
    assert_eq!(
        world.now.since(changed),
        world.config.autoscaler_quiet + Duration::from_millis(500)
    );
}

#[test]
fn an_autoscaler_that_never_rests_is_not_waited_for_for_ever() {
    let mut world = with_autoscaler("front");
    let mut held = None;
    for wants in 2..60 {
        world.desired.insert(("front".into(), area(CLOUD)), wants);
        for _ in 0..4 {
            world.tick();
            if matches!(world.held(), Some(HoldReason::Autoscaling { .. })) {
                held.get_or_insert(world.now);
            }
        }
        if world.is_acting() {
            break;
        }
    }
    let waited = world.now.since(held.unwrap());
    assert!(
        world.is_acting() && waited.abs_diff(world.config.autoscaler_patience) < Duration::from_secs(3),
        "{waited:?}"
    );
}

#[test]
fn an_autoscaler_that_cannot_matter_or_is_only_seen_first_holds_nothing() {
    let mut world = with_autoscaler("ads");
    for wants in 2..20 {
        // A fifth of the requests and a sixth of the time: 1 % of the delay.
        world.desired.insert(("ads".into(), area(CLOUD)), wants);
        world.run(1);
        if world.is_acting() {
            break;
        }
    }
    assert!(world.is_acting());
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run(3);
    world.desired.insert(("front".into(), area(CLOUD)), 7);
    world.run_until(10, World::is_acting);
    assert!(!matches!(world.phase(), Phase::Held { .. }));
}
