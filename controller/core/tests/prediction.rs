//! Predictions from measurements of a simulated application, against what the simulation then does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of microseconds, far below 2^64")]

mod simulated;

use std::collections::BTreeSet;

use gma_core::measured::{NotMeasured, Settings};
use gma_core::model::{DensePlacement, EdgeIx, Problem, Shares, evaluate};
use gma_core::snapshot::{Measured, Snapshot};
use gma_core::strategy::{Plan, plan};
use gma_core::units::Micros;
use simulated::{App, World};

const SLOW_WAN_US: f64 = 80_000.0;
const FAST_WAN_US: f64 = 8_000.0;

fn settings() -> Settings {
    Settings::new("cloud".into(), ["edge".into()])
}

fn problem(app: &App, world: &World, snapshot: &Snapshot) -> Problem {
    Problem::from_measurements(snapshot, &app.cluster(world), &settings(), &"edge".into()).unwrap()
}

fn mean(snapshot: &Snapshot) -> f64 {
    let Measured::Present { value } = &snapshot.edges[&"edge".into()].user_delay else { panic!("no delay") };
    value.mean_us
}

/// Plans towards a part of the present delay, carries the plan out; world after, predicted and measured change.
fn act(app: &App, world: &World, part: f64, seed: u64) -> (World, Plan, f64) {
    let before = app.measure(world, seed);
    let problem = problem(app, world, &before);
    let now = DensePlacement::from_cluster(&problem, &app.cluster(world));
    let plan = plan(&problem, EdgeIx(0), &now, Micros::try_new(part * mean(&before)).unwrap());
    let after = plan.placement.to_names(&problem);
    let at_edge = (0..app.services.len()).filter(|service| after[&"edge".into()].contains(&simulated::name(*service)));
    let world = World { at_edge: at_edge.collect(), ..world.clone() };
    let measured = mean(&app.measure(&world, seed + 1_000));
    (world, plan, measured)
}

#[test]
fn the_present_placement_is_predicted_as_measured() {
    for seed in 0..20 {
        let app = App::random(seed, 10);
        let world = World { at_edge: BTreeSet::new(), rtt_us: SLOW_WAN_US, standby: 0.01 };
        let snapshot = app.measure(&world, seed);
        let problem = problem(&app, &world, &snapshot);
        let now = DensePlacement::cloud_only(&problem);
        let model = evaluate(&problem, &now, &Shares::resting(&problem, &now)).edges[0].delay.as_f64();
        let measured = mean(&snapshot);
        assert!((model - measured).abs() < 0.01 * measured, "seed {seed}: model {model}, measured {measured}");
    }
}

#[test]
fn offload_and_unoffload_are_predicted() {
    for seed in 0..30 {
        let app = App::random(seed, 10);
        let cloud = World { at_edge: BTreeSet::new(), rtt_us: SLOW_WAN_US, standby: 0.01 };
        let (mut world, plan, measured) = act(&app, &cloud, 0.7, seed);
        println!("{seed} off {:?} now {} pred {} meas {measured} err {:.3} errchange {:.3} {:?}", world.at_edge, plan.now, plan.predicted, (plan.predicted.as_f64()-measured)/measured, (plan.predicted.as_f64()-measured)/(plan.now.as_f64()-measured), plan.reach);
        world.rtt_us = FAST_WAN_US;
        let (world, plan, measured) = act(&app, &world, 1.15, seed+500);
        println!("{seed} un {:?} now {} pred {} meas {measured} err {:.3} errchange {:.3} {:?}", world.at_edge, plan.now, plan.predicted, (plan.predicted.as_f64()-measured)/measured, (plan.predicted.as_f64()-measured)/(plan.now.as_f64()-measured), plan.reach);
    }
}

#[test]
fn what_is_missing_is_named() {
    let app = App::random(1, 10);
    let world = World { at_edge: BTreeSet::new(), rtt_us: SLOW_WAN_US, standby: 0.01 };
    let whole = app.measure(&world, 1);
    let cluster = app.cluster(&world);
    let ask = |snapshot: &Snapshot| Problem::from_measurements(snapshot, &cluster, &settings(), &"edge".into());
    let mut without = whole.clone();
    without.edges.get_mut(&"edge".into()).unwrap().rtt = Measured::NotYet;
    assert_eq!(ask(&without), Err(NotMeasured::Rtt("edge".into())));
    let mut without = whole.clone();
    without.edges.get_mut(&"edge".into()).unwrap().user_delay = Measured::Idle;
    assert_eq!(ask(&without), Err(NotMeasured::UserDelay("edge".into())));
    let mut without = whole.clone();
    without.received.retain(|received| received.service != simulated::name(0));
    assert_eq!(ask(&without), Err(NotMeasured::Received(simulated::name(0))));
    let mut without = whole;
    without.calls.clear();
    assert_eq!(ask(&without), Err(NotMeasured::UserCalls("edge".into())));
}
