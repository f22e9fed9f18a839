//! One rule each, on values made by hand.

use super::world::{EDGE, World, area};
use crate::decide::evidence::{Position, read};
use crate::decide::{Band, Config, HoldReason, NoPlan, Objective, PlannedMove, Statistic, accounts};
use crate::ids::Timestamp;
use crate::snapshot::{Measured, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;

fn snapshot() -> (Snapshot, Config) {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    (world.snapshot(), world.config)
}

fn reading_of(change: impl Fn(&mut Snapshot)) -> Result<Position, HoldReason> {
    let (mut snapshot, config) = snapshot();
    change(&mut snapshot);
    let edge = snapshot.edges.get(&area(EDGE));
    read(edge, &snapshot, &Objective::default(), &config).map(|reading| reading.position)
}

fn with_delay(mean_us: f64, error_us: Option<f64>, count: u64) -> Result<Position, HoldReason> {
    reading_of(|snapshot| {
        if let Measured::Present { value } = &mut snapshot.edges.get_mut(&area(EDGE)).unwrap().user_delay {
            (value.mean_us, value.mean_standard_error_us, value.count) = (mean_us, error_us, count);
        }
    })
}

#[test]
fn only_an_interval_wholly_outside_the_band_is_outside() {
    assert_eq!(with_delay(121e3, Some(300.0), 800), Ok(Position::Above));
    assert_eq!(with_delay(121e3, Some(400.0), 800), Ok(Position::Inside));
    assert_eq!(with_delay(59e3, Some(300.0), 800), Ok(Position::Below));
    assert_eq!(with_delay(59e3, Some(400.0), 800), Ok(Position::Inside));
}

#[test]
fn what_cannot_be_read_is_a_reason_never_a_delay_of_zero() {
    let needed = 50;
    assert_eq!(
        with_delay(1.0, Some(1.0), 12),
        Err(HoldReason::TooFewRequests { seen: 12, needed })
    );
    assert_eq!(with_delay(200e3, None, 800), Err(HoldReason::NoInterval));
    assert_eq!(with_delay(f64::NAN, Some(1.0), 800), Err(HoldReason::NoInterval));
    assert_eq!(
        with_delay(200e3, Some(f64::INFINITY), 800),
        Err(HoldReason::NoInterval)
    );
    assert_eq!(reading_of(|s| s.edges.clear()), Err(HoldReason::NotHeardYet));
    let set = |delay: fn() -> Measured<_>| {
        reading_of(move |s| s.edges.get_mut(&area(EDGE)).unwrap().user_delay = delay())
    };
    assert_eq!(set(|| Measured::NotYet), Err(HoldReason::NotHeardYet));
    assert_eq!(set(|| Measured::Idle), Err(HoldReason::NoTraffic));
    let age = Duration::from_secs(9);
    assert_eq!(
        set(|| Measured::Stale {
            age: Duration::from_secs(9)
        }),
        Err(HoldReason::EdgeSilent { age })
    );
    let errors = reading_of(|s| s.edges.get_mut(&area(EDGE)).unwrap().outcomes.no_response = 50);
    assert!(matches!(errors, Err(HoldReason::Errors { share }) if share > 0.05));
}

#[test]
fn a_quantile_needs_ten_requests_beyond_it() {
    let (snapshot, config) = snapshot();
    let objective = Objective {
        statistic: Statistic::P99,
        ..Objective::default()
    };
    let edge = snapshot.edges.get(&area(EDGE));
    assert_eq!(
        read(edge, &snapshot, &objective, &config).map(|reading| reading.position),
        Err(HoldReason::TooFewRequests {
            seen: 800,
            needed: 1_000
        })
    );
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
    world.edge().rate = 3.0;
    world.run(10);
    let accounts = accounts(&world.state, world.now);
    let account = &accounts[&area(EDGE)];
    assert_eq!(account.sentence, "held: too few requests (12 of 50)");
    let json = serde_json::to_value(account).unwrap();
    assert_eq!(json["held"]["kind"], "tooFewRequests");
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
