//! Predictions from measurements of a simulated application, against what the simulation then does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of microseconds, far below 2^64"
)]

mod simulated;

use std::collections::BTreeSet;

use gma_core::cluster::Cluster;
use gma_core::ids::{AreaName, Timestamp};
use gma_core::measured::{NotMeasured, Settings};
use gma_core::model::{DensePlacement, EdgeIx, Problem, Shares, evaluate};
use gma_core::snapshot::{Caller, Measured, Snapshot};
use gma_core::solver::{Plan, Reach, plan};
use gma_core::units::Micros;
use simulated::{App, Spread, Users, World};

const SLOW_WAN_US: f64 = 80_000.0;
const FAST_WAN_US: f64 = 30_000.0;

fn settings() -> Settings {
    Settings::new("cloud".into(), ["edge".into()])
}

fn problem(app: &App, world: &World, snapshot: &Snapshot, settings: &Settings) -> Problem {
    Problem::from_measurements(snapshot, &app.cluster(world), settings, &["edge".into()]).unwrap()
}

fn mean(snapshot: &Snapshot) -> f64 {
    mean_of(snapshot, "edge")
}

fn mean_of(snapshot: &Snapshot, edge: &str) -> f64 {
    let Measured::Present { value } = &snapshot.edges[&edge.into()].user_delay else {
        panic!("no delay")
    };
    value.mean_us
}

/// Windows follow each other.
fn learn(settings: &mut Settings, snapshot: &mut Snapshot, number: u32) {
    snapshot.at = Timestamp::from_start(snapshot.window * number);
    let mut learned = std::mem::take(&mut settings.learned);
    learned.observe(snapshot, settings);
    settings.learned = learned;
}

/// A plan that was carried out.
struct Done {
    plan: Plan,
    world: World,
    measured_us: f64,
}

impl Done {
    /// Plans towards a target, carries the plan out, measures; learns from both windows.
    fn act(
        app: &App,
        world: &World,
        target_us: f64,
        seed: u64,
        settings: &mut Settings,
        number: u32,
    ) -> Self {
        let mut before = app.measure(world, seed);
        learn(settings, &mut before, number);
        let problem = problem(app, world, &before, settings);
        let now = DensePlacement::from_cluster(&problem, &app.cluster(world));
        let plan = plan(&problem, EdgeIx(0), &now, Micros::try_new(target_us).unwrap());
        let names = plan.placement.to_names(&problem);
        let services = 0..app.services.len();
        let at_edge = services.filter(|service| names[&"edge".into()].contains(&simulated::name(*service)));
        let world = World {
            at_edge: at_edge.collect(),
            ..world.clone()
        };
        let mut after = app.measure(&world, seed + 1_000);
        learn(settings, &mut after, number + 1);
        Self {
            plan,
            world,
            measured_us: mean(&after),
        }
    }

    fn story(&self, what: &str) -> String {
        let Self {
            plan,
            world,
            measured_us,
        } = self;
        let (now, predicted) = (plan.now, plan.predicted);
        format!(
            "{what} {:?}: now {now}, predicted {predicted}, measured {measured_us} µs",
            world.at_edge
        )
    }

    /// The design's figures: 10 % of the delay, 25 % of the change.
    fn is_within_figures(&self) -> bool {
        let error = (self.plan.predicted.as_f64() - self.measured_us).abs();
        let change = (self.plan.now.as_f64() - self.measured_us).abs();
        error <= 0.1 * self.measured_us && error <= 0.25 * change
    }
}

#[test]
fn the_present_placement_is_predicted_as_measured() {
    for seed in 0..20 {
        let mut app = App::random(seed, 10);
        if seed % 2 == 1 {
            app.spread = Spread::LogNormal(0.5);
        }
        let world = World {
            at_edge: BTreeSet::new(),
            rtt_us: SLOW_WAN_US,
            standby: 0.01,
        };
        let snapshot = app.measure(&world, seed);
        let problem = problem(&app, &world, &snapshot, &settings());
        let now = DensePlacement::cloud_only(&problem);
        let model = evaluate(&problem, &now, &Shares::resting(&problem, &now)).edges[0]
            .delay
            .as_f64();
        let measured = mean(&snapshot);
        assert!(
            (model - measured).abs() < 0.01 * measured,
            "seed {seed}: model {model}, measured {measured}"
        );
    }
}

/// Every offload within the figures. Of the unoffloads that keep a part at the edge, a few may not be: a service whose
/// own work hides how its calls overlap is taken to make them one after the other. That errs to the slow side only.
#[test]
fn offload_and_unoffload_are_predicted() {
    let mut missed = Vec::new();
    for seed in 0..40 {
        let app = App::random(seed, 10);
        let mut settings = settings();
        let mut world = World {
            at_edge: BTreeSet::new(),
            rtt_us: SLOW_WAN_US,
            standby: 0.01,
        };
        let target_us = 0.7 * mean(&app.measure(&world, seed));
        let offload = Done::act(&app, &world, target_us, seed, &mut settings, 1);
        let story = offload.story(&format!("offload {seed}"));
        assert_eq!(offload.plan.reach, Reach::Met, "{story}");
        assert!(offload.is_within_figures(), "{story}");
        world = World {
            rtt_us: FAST_WAN_US,
            ..offload.world
        };
        let unoffload = Done::act(&app, &world, target_us, seed + 500, &mut settings, 3);
        let story = unoffload.story(&format!("unoffload {seed}"));
        assert!(unoffload.plan.add.is_empty(), "{story}");
        assert!(
            unoffload.measured_us <= 1.05 * unoffload.plan.predicted.as_f64(),
            "{story}"
        );
        if !unoffload.plan.remove.is_empty() && !unoffload.is_within_figures() {
            missed.push(story);
        }
    }
    assert!(missed.len() <= 2, "{missed:#?}");
}

#[test]
fn what_is_missing_is_named() {
    let app = App::random(1, 10);
    let world = World {
        at_edge: BTreeSet::new(),
        rtt_us: SLOW_WAN_US,
        standby: 0.01,
    };
    let whole = app.measure(&world, 1);
    let cluster = app.cluster(&world);
    let ask =
        |snapshot: &Snapshot| Problem::from_measurements(snapshot, &cluster, &settings(), &["edge".into()]);
    let mut without = whole.clone();
    without.edges.get_mut(&"edge".into()).unwrap().rtt = Measured::NotYet;
    assert_eq!(ask(&without), Err(NotMeasured::Rtt("edge".into())));
    let mut without = whole.clone();
    without.edges.get_mut(&"edge".into()).unwrap().user_delay = Measured::Idle;
    assert_eq!(ask(&without), Err(NotMeasured::UserDelay("edge".into())));
    let mut without = whole.clone();
    without
        .received
        .retain(|received| received.service != simulated::name(0));
    assert_eq!(ask(&without), Err(NotMeasured::Received(simulated::name(0))));
    let mut without = whole;
    without.calls.clear();
    assert_eq!(ask(&without), Err(NotMeasured::UserCalls("edge".into())));
}

/// Two edges with their own users: of "edge", who enter at the first service, and of "far", who enter at the second.
fn two_edges(app: &App, at_edge: &BTreeSet<usize>, at_far: &[usize], seed: u64) -> (Snapshot, Cluster) {
    let users = |edge: &str, at_edge: BTreeSet<usize>, rtt_us, entry, requests| Users {
        edge: edge.into(),
        world: World {
            at_edge,
            rtt_us,
            standby: 0.01,
        },
        entry,
        requests,
    };
    // The other edge first: the same requests whatever this one does.
    let users = [
        users(
            "far",
            at_far.iter().copied().collect(),
            2.0 * SLOW_WAN_US,
            1,
            simulated::REQUESTS / 2,
        ),
        users("edge", at_edge.clone(), SLOW_WAN_US, 0, simulated::REQUESTS),
    ];
    let worlds = [0, 1].map(|at| (users[at].edge.clone(), &users[at].world));
    (app.measure_all(&users, seed), app.cluster_of(&worlds))
}

#[test]
fn several_edges_are_one_problem() {
    let both = ["edge".into(), "far".into()];
    let settings = Settings::new("cloud".into(), both.clone());
    for seed in 0..20 {
        let app = App::random(seed, 10);
        let (snapshot, cluster) = two_edges(&app, &BTreeSet::new(), &[1, 2], seed);
        let problem = Problem::from_measurements(&snapshot, &cluster, &settings, &both).unwrap();
        let now = DensePlacement::from_cluster(&problem, &cluster);
        let shares = Shares::resting(&problem, &now);
        let result = evaluate(&problem, &now, &shares);
        for (edge, value) in problem.edges() {
            let (model, measured) = (
                result.edges[edge.position()].delay.as_f64(),
                value.measured.unwrap().as_f64(),
            );
            assert!(
                (model - measured).abs() < 0.02 * measured,
                "seed {seed}, {edge:?}: model {model}, measured {measured}"
            );
        }
        let rates = [0, 1].map(|edge| problem.edge(EdgeIx(edge)).unwrap().rate.as_f64());
        assert_eq!(rates, [200.0, 100.0]);
        // Carried out at one edge: as predicted there, and nothing happens at the other.
        let measured = problem.edge(EdgeIx(0)).unwrap().measured.unwrap().as_f64();
        let plan = plan(
            &problem,
            EdgeIx(0),
            &now,
            Micros::try_new(0.7 * measured).unwrap(),
        );
        let added = plan
            .add
            .iter()
            .map(|service| app.number(&problem.service(*service).unwrap().name));
        let (after, _) = two_edges(&app, &added.collect(), &[1, 2], seed);
        let error = (mean(&after) - plan.predicted.as_f64()).abs();
        let change = (mean(&after) - measured).abs();
        assert!(
            error < 0.1 * mean(&after) && error < 0.25 * change,
            "seed {seed}: {plan:?}, {}",
            mean(&after)
        );
        assert_eq!(mean_of(&after, "far"), mean_of(&snapshot, "far"));
    }
}

#[test]
fn what_another_edge_lacks_disturbs_nobody() {
    let both = ["edge".into(), "far".into()];
    let settings = Settings::new("cloud".into(), both.clone());
    let app = App::random(3, 10);
    let (whole, cluster) = two_edges(&app, &BTreeSet::new(), &[1, 2], 3);
    let ask = |snapshot: &Snapshot, asked: &[AreaName]| {
        Problem::from_measurements(snapshot, &cluster, &settings, asked)
    };
    let mut without = whole.clone();
    without.edges.get_mut(&"far".into()).unwrap().rtt = Measured::NotYet;
    assert_eq!(ask(&without, &both), Err(NotMeasured::Rtt("far".into())));
    let [all, some] = [
        ask(&whole, &both[..1]).unwrap(),
        ask(&without, &both[..1]).unwrap(),
    ];
    let far = some.edge(EdgeIx(1)).unwrap();
    // Its users are a load on the cloud as before, and there is nothing to predict its delay from.
    assert_eq!(
        (far.measured, far.rate),
        (None, all.edge(EdgeIx(1)).unwrap().rate)
    );
    assert_eq!(some.edge(EdgeIx(0)), all.edge(EdgeIx(0)));
    // The unknown round trip of 160 ms is taken for no hop.
    for ((_, one), (_, two)) in some.services().zip(all.services()) {
        assert!(
            (one.hop_remote.as_f64() - two.hop_remote.as_f64()).abs() < 500.0,
            "{one:?} {two:?}"
        );
    }
    // Never heard of, not even its gateway's calls.
    let mut silent = whole;
    silent.edges.remove(&"far".into());
    let user = |caller: &Caller| *caller == Caller::User { edge: "far".into() };
    silent.calls.retain(|call| !user(&call.caller));
    assert_eq!(ask(&silent, &both), Err(NotMeasured::UserDelay("far".into())));
    let problem = ask(&silent, &both[..1]).unwrap();
    let far = problem.edge(EdgeIx(1)).unwrap();
    assert_eq!(
        (far.rate.as_f64(), far.user_calls.len(), far.measured),
        (0.0, 0, None)
    );
    let unknown = ask(&silent, &["moon".into()]);
    assert_eq!(unknown, Err(NotMeasured::UnknownEdge("moon".into())));
}
