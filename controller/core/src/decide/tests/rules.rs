//! One rule each, on values made by hand.

use super::users::delay_slot;
use super::world::{EDGE, World, area};
use crate::decide::evidence::{Position, Reading, Since, read, whole};
use crate::decide::reason::Covered;
use crate::decide::{Band, Config, HoldReason, NoPlan, Objective, PlannedMove, Statistic, accounts};
use crate::ids::Timestamp;
use crate::snapshot::{Coverage, DelaySlot, Measured, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;

fn snapshot() -> (Snapshot, Config) {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    (world.snapshot(), world.config)
}

fn reading(change: impl Fn(&mut Snapshot)) -> Result<Reading, HoldReason> {
    let (mut snapshot, config) = snapshot();
    change(&mut snapshot);
    read(
        snapshot.edges.get(&area(EDGE)),
        &snapshot,
        &Objective::default(),
        &config,
        Since::default(),
    )
}

/// Slots of so many requests each, oldest first: what they waited on average, ms.
fn with_slots(requests: f64, delays_ms: impl Iterator<Item = f64>) -> Result<Reading, HoldReason> {
    let slots: Vec<_> = delays_ms.map(|ms| delay_slot(requests, ms)).collect();
    reading(move |snapshot| {
        let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
        edge.slots.clone_from(&slots);
        edge.slots_end = snapshot.at.after(Duration::from_secs(600));
        snapshot.at = edge.slots_end;
    })
}

/// Slots that swing around a mean, half a swing up and down, without a correlation.
fn swinging(slots: u32, mean_ms: f64, swing_ms: f64) -> impl Iterator<Item = f64> + Clone {
    (0..slots).map(move |slot| mean_ms + swing_ms * (f64::from(slot % 2) - 0.5))
}

#[test]
fn only_an_interval_wholly_outside_the_band_is_outside() {
    let position = |mean_ms, swing_ms| {
        with_slots(100.0, swinging(8, mean_ms, swing_ms))
            .unwrap()
            .position
    };
    assert_eq!(position(125.0, 2.0), Position::Above);
    assert_eq!(position(121.0, 2.0), Position::Inside);
    assert_eq!(position(55.0, 2.0), Position::Below);
    assert_eq!(position(59.0, 2.0), Position::Inside);
    // Wide, and yet wholly above.
    let wide = with_slots(100.0, swinging(8, 300.0, 30.0)).unwrap();
    assert!(
        wide.high_us - wide.low_us > 30e3 && wide.position == Position::Above,
        "{wide:?}"
    );
}

#[test]
fn the_window_grows_until_its_interval_is_narrow() {
    let window = |swing_ms| with_slots(100.0, swinging(600, 90.0, swing_ms)).map(|reading| reading.window);
    assert_eq!(window(2.0), Ok(Duration::from_secs(4)));
    let (some, more) = (window(30.0).unwrap(), window(60.0).unwrap());
    assert!(some > Duration::from_secs(4) && more > some, "{some:?}, {more:?}");
    let never = with_slots(1.0, swinging(600, 90.0, 170.0));
    let Err(HoldReason::TooFewRequests { seen_rps, needed_rps }) = never else {
        panic!("{never:?}")
    };
    assert!(
        (seen_rps - 2.0).abs() < 1e-9 && (2.0..5.0).contains(&needed_rps),
        "{seen_rps}, {needed_rps}"
    );
}

#[test]
fn a_step_is_read_from_what_came_after_it() {
    // 5 minutes at 90 ms, then 8 slots at 150 ms: the first window that decides holds only those.
    let delays = swinging(592, 90.0, 4.0).chain(swinging(8, 150.0, 4.0));
    let after = with_slots(100.0, delays).unwrap();
    assert_eq!(
        (after.position, after.window),
        (Position::Above, Duration::from_secs(4))
    );
    assert!((after.value_us - 150e3).abs() < 1.0, "{after:?}");
    // With 4 slots at 150 ms the short windows are wide, and a longer one says what was.
    let before = with_slots(100.0, swinging(596, 90.0, 4.0).chain(swinging(4, 150.0, 4.0))).unwrap();
    assert_eq!(before.position, Position::Inside);
    assert!(before.window > Duration::from_secs(4), "{before:?}");
}

#[test]
fn nothing_from_before_the_asked_time_is_read() {
    let (mut snapshot, config) = snapshot();
    let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
    edge.slots = swinging(600, 90.0, 4.0).map(|ms| delay_slot(100.0, ms)).collect();
    edge.slots_end = Timestamp::from_start(Duration::from_secs(300));
    snapshot.at = edge.slots_end;
    let since = |ms| {
        let since = Timestamp::from_start(Duration::from_millis(ms));
        read(
            snapshot.edges.get(&area(EDGE)),
            &snapshot,
            &Objective::default(),
            &config,
            Since {
                at: since,
                alarm: None,
            },
        )
    };
    assert_eq!(
        since(296_000).unwrap().from,
        Timestamp::from_start(Duration::from_secs(296))
    );
    // 7 whole slots are not enough.
    assert_eq!(since(296_001), Err(HoldReason::NoInterval));
    assert_eq!(since(400_000), Err(HoldReason::NoInterval));
}

/// A shorter window decides, and may be one in which the delay happened to be lower.
#[test]
fn what_a_move_did_is_read_from_all_that_came_after_it() {
    let (mut snapshot, config) = snapshot();
    let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
    let delays = swinging(570, 90.0, 4.0).chain(swinging(22, 180.0, 4.0));
    let delays = delays.chain(swinging(8, 130.0, 4.0));
    edge.slots = delays.map(|ms| delay_slot(100.0, ms)).collect();
    edge.slots_end = Timestamp::from_start(Duration::from_secs(300));
    let since = Timestamp::from_start(Duration::from_secs(285));
    let heard = snapshot.edges.get(&area(EDGE));
    let read = whole(heard, &Objective::default(), config.alpha, since).unwrap();
    assert_eq!((read.from, read.requests), (since, 3_000));
    let mean_us = (22.0 * 180e3 + 8.0 * 130e3) / 30.0;
    assert!((read.value_us - mean_us).abs() < 1.0, "{read:?}");
    assert_eq!(
        whole(
            heard,
            &Objective::default(),
            config.alpha,
            snapshot.at.after(Duration::from_secs(900))
        ),
        None
    );
    assert_eq!(whole(None, &Objective::default(), config.alpha, since), None);
}

#[test]
fn what_cannot_be_read_is_a_reason_never_a_delay_of_zero() {
    // 12 requests in 4 s would do in 5 minutes; 12 in 5 minutes would not.
    assert_eq!(
        with_slots(1.5, swinging(8, 1.0, 0.0)),
        Err(HoldReason::NoInterval)
    );
    let few = (0..600).map(|slot| if slot % 50 == 49 { 100.0 } else { 0.0 });
    let few = reading(|snapshot| {
        let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
        edge.slots = few
            .clone()
            .map(|ms| delay_slot(f64::from(u8::from(ms > 0.0)), ms))
            .collect();
        edge.slots_end = snapshot.at.after(Duration::from_secs(600));
        snapshot.at = edge.slots_end;
    });
    let Err(HoldReason::TooFewRequests { seen_rps, needed_rps }) = few else {
        panic!("{few:?}")
    };
    assert!((seen_rps - 0.04).abs() < 1e-9 && (needed_rps - 50.0 / 300.0).abs() < 1e-9);
    assert_eq!(reading(|s| s.edges.clear()), Err(HoldReason::NotHeardYet));
    let set = |delay: fn() -> Measured<_>| {
        reading(move |s| s.edges.get_mut(&area(EDGE)).unwrap().user_delay = delay())
    };
    assert_eq!(set(|| Measured::NotYet), Err(HoldReason::NotHeardYet));
    let age = Duration::from_secs(9);
    assert_eq!(
        set(|| Measured::Stale {
            age: Duration::from_secs(9)
        }),
        Err(HoldReason::StaleTelemetry { age }),
        "a late report is no silence"
    );
    let silent = reading(|s| {
        s.edges.get_mut(&area(EDGE)).unwrap().report_age = Measured::Stale {
            age: Duration::from_secs(9),
        };
    });
    assert_eq!(silent, Err(HoldReason::EdgeSilent { age }));
    let errors = reading(|s| s.edges.get_mut(&area(EDGE)).unwrap().outcomes.no_response = 50);
    assert!(matches!(errors, Err(HoldReason::Errors { share }) if share > 0.05));
    let old = reading(|s| s.at = s.at.after(age));
    assert_eq!(old, Err(HoldReason::StaleTelemetry { age }));
}

#[test]
fn traffic_that_has_ended_is_no_delay() {
    let ended = |busy: u32, empty: u32, requests: f64| {
        reading(|snapshot| {
            let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
            let busy = swinging(busy, 90.0, 4.0).map(|ms| delay_slot(requests, ms));
            edge.slots = busy.chain((0..empty).map(|_| delay_slot(0.0, 0.0))).collect();
            edge.slots_end = snapshot.at.after(Duration::from_secs(600));
            snapshot.at = edge.slots_end;
        })
    };
    assert_eq!(ended(400, 8, 100.0), Err(HoldReason::NoTraffic));
    assert_eq!(ended(400, 60, 1.0), Err(HoldReason::NoTraffic));
    // At 2 requests a second, 4 s without one may be chance.
    assert!(ended(400, 8, 1.0).is_ok());
}

#[test]
fn gateways_that_do_not_report_hold_the_edge() {
    let position = |expected, heard, blind| {
        let coverage = Coverage {
            expected,
            heard,
            blind,
        };
        reading(move |s| s.edges.get_mut(&area(EDGE)).unwrap().coverage = coverage).map(|r| r.position)
    };
    let low = |share| {
        Err(HoldReason::LowCoverage {
            of: Covered::Gateways,
            share,
            needed: 1.0,
        })
    };
    assert!(position(2, 2, 0).is_ok());
    assert_eq!(position(2, 1, 0), low(0.5));
    assert_eq!(position(4, 4, 1), low(0.75));
}

#[test]
fn a_quantile_needs_requests_beyond_it() {
    let (mut snapshot, config) = snapshot();
    let objective = Objective {
        statistic: Statistic::P99,
        ..Objective::default()
    };
    let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
    // Not one delay like the other, so that ranks are delays.
    let slot = |from: u32| DelaySlot {
        count: 40,
        sum_us: 40 * 90_000,
        buckets: (0..40).map(|at| (70_000 + 1_000 * at + from, 1)).collect(),
    };
    edge.slots = (0..10).map(|at| slot(at * 37 % 100)).collect();
    let read = |snapshot: &Snapshot| {
        read(
            snapshot.edges.get(&area(EDGE)),
            snapshot,
            &objective,
            &config,
            Since::default(),
        )
    };
    assert_eq!(read(&snapshot), Err(HoldReason::NoInterval));
    let edge = snapshot.edges.get_mut(&area(EDGE)).unwrap();
    edge.slots = (0..600).map(|at| slot(at * 37 % 100)).collect();
    edge.slots_end = Timestamp::from_start(Duration::from_secs(300));
    snapshot.at = edge.slots_end;
    let reading = read(&snapshot).unwrap();
    assert!(reading.requests > 1_000 && reading.high_us < 120e3, "{reading:?}");
}

#[test]
fn a_band_has_two_bounds_in_order() {
    let ms = Duration::from_millis;
    assert!(Band::try_new(ms(120), ms(60)).is_err());
    assert!(Band::try_new(ms(60), ms(60)).is_err());
    assert!(Band::try_new(ms(0), ms(60)).is_err());
    assert!((Band::default().target_us() - 90e3).abs() < 1e-9);
}

#[test]
fn back_off_doubles_from_two_minutes_to_four_hours() {
    let (_, config) = snapshot();
    let minutes = [1, 2, 3, 7, 8, 9, u32::MAX].map(|failures| config.back_off(failures).as_secs() / 60);
    assert_eq!(minutes, [2, 4, 8, 128, 240, 240, 240]);
}

#[test]
fn the_account_says_why_nothing_is_done() {
    let mut world = World::new(&[EDGE]);
    world.edge().rate = 0.0;
    world.run(10);
    let accounts = accounts(&world.state, world.now);
    let account = &accounts[&area(EDGE)];
    assert_eq!(account.sentence, "held: no traffic");
    let json = serde_json::to_value(account).unwrap();
    assert_eq!(json["held"]["kind"], "noTraffic");
    let few = HoldReason::TooFewRequests {
        seen_rps: 0.21,
        needed_rps: 3.0,
    };
    assert_eq!(
        few.to_string(),
        "too few requests (0.2 a second, about 3.0 are needed)"
    );
    assert_eq!(
        HoldReason::NoPlan {
            why: NoPlan::TargetBelowLeak {
                target_us: 9e3,
                reachable_us: 11e3
            }
        }
        .to_string(),
        "target 9.0 ms is below what the standby share allows (11.0 ms)"
    );
}

#[test]
fn time_never_runs_backwards() {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    let (snapshot, cluster) = (world.snapshot(), world.cluster());
    struct Nothing;
    impl crate::decide::Planner for Nothing {
        fn plan(
            &self,
            _: &[crate::decide::Ask],
            _: &Snapshot,
            _: &crate::cluster::Cluster,
        ) -> BTreeMap<crate::ids::AreaName, Result<PlannedMove, NoPlan>> {
            BTreeMap::new()
        }
    }
    let event = crate::decide::Event::Evaluate {
        snapshot: &snapshot,
        cluster: &cluster,
        planner: &Nothing,
    };
    let state = std::mem::take(&mut world.state);
    let (state, _) = crate::decide::step(state, event, Timestamp::default(), &world.config);
    assert_eq!(state.at, world.now);
}
