//! The test of an effect: its verdicts, its error rates on drawn data, and what is learned of predictions.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::world::{EDGE, World, area};
use crate::decide::evidence::Position;
use crate::decide::paths::{Compared, Paths};
use crate::decide::plan::{Times, Trigger};
use crate::decide::verify::{Verdict, judge};
use crate::decide::{
    BackOff, Cause, Correction, Decision, Direction, EdgeState, HoldReason, Outcome, PlannedMove,
    PredictionErrors, Reading, Statistic,
};
use crate::ids::Timestamp;
use crate::snapshot::{CallStats, Caller, OutcomeCounts, Snapshot};

const UPPER_MS: f64 = 120.0;

fn reading(value_ms: f64, half_ms: f64) -> Reading {
    Reading {
        value_us: value_ms * 1e3,
        low_us: (value_ms - half_ms) * 1e3,
        high_us: (value_ms + half_ms) * 1e3,
        requests: 1_000,
        from: Timestamp::default(),
        window: Duration::from_secs(15),
        position: Position::Inside,
    }
}

/// A decision whose prediction has a spread of a quarter of its change.
fn decision(direction: Direction, before: Reading, predicted_ms: f64) -> Decision {
    let predicted_us = predicted_ms * 1e3;
    let planned = PlannedMove {
        cloud_replicas: Default::default(),
        add: BTreeSet::from(["front".into()]),
        remove: BTreeSet::new(),
        measured_us: before.value_us,
        delay: None,
        predicted_us,
        cost_before: 1.0,
        cost_after: 2.0,
        reasons: String::new(),
        search: None,
    };
    let correction = PredictionErrors::default().correction(before.value_us, predicted_us);
    Decision {
        predicted_again_us: None,
        id: 1,
        edge: "edge-1".into(),
        trigger: Trigger::Band {
            direction,
            reading: before,
            statistic: Statistic::Mean,
            offload_above_us: UPPER_MS * 1e3,
            unoffload_below_us: 60e3,
            target_us: 90e3,
        },
        add: planned.add.clone(),
        remove: BTreeSet::new(),
        planned: Some(planned),
        correction: Some(correction),
        times: Times::default(),
        outcome: Outcome::Running,
        after: None,
    }
}

fn offload(after_ms: f64, paths: Compared, last: bool) -> Verdict {
    let plan = decision(Direction::Offload, reading(300.0, 2.0), 200.0);
    judge(&plan, &Ok(reading(after_ms, 1.0)), paths, last)
}

#[test]
fn an_offload_is_judged_by_the_band_its_promise_and_both_intervals() {
    let judge = |after_ms, last| offload(after_ms, Compared::Unknown, last);
    assert_eq!(judge(119.0, false), Verdict::Kept);
    assert_eq!(judge(205.0, false), Verdict::Kept);
    assert_eq!(judge(249.0, false), Verdict::Kept);
    // Less than half of the promise is certain only at the end; half of it is not excluded at 251.
    assert_eq!(judge(260.0, false), Verdict::Wait);
    assert_eq!(judge(251.0, true), Verdict::Kept);
    let not_improved = judge(260.0, true);
    assert!(matches!(not_improved, Verdict::Failed(Cause::NotImproved { .. })));
    assert_eq!(judge(302.0, false), Verdict::Wait);
    let worse = judge(303.0, false);
    assert!(matches!(worse, Verdict::Failed(Cause::DelayWorse { .. })));
}

#[test]
fn an_unoffload_is_judged_by_the_band() {
    let judge = |after_ms, last| {
        let plan = decision(Direction::Unoffload, reading(40.0, 2.0), 100.0);
        judge(&plan, &Ok(reading(after_ms, 1.0)), Compared::Unknown, last)
    };
    assert_eq!(judge(50.0, false), Verdict::Kept);
    assert_eq!(judge(119.0, false), Verdict::Kept);
    assert_eq!(judge(120.5, false), Verdict::Wait);
    assert_eq!(judge(120.5, true), Verdict::Unknown);
    let worse = judge(122.0, false);
    assert!(matches!(worse, Verdict::Failed(Cause::DelayWorse { .. })));
}

#[test]
fn a_change_of_load_does_not_fool_it() {
    // The load rose, and the edge is the faster way: before and after alone would undo it.
    assert_eq!(offload(350.0, Compared::Faster, false), Verdict::Wait);
    assert_eq!(offload(350.0, Compared::Faster, true), Verdict::Kept);
    // The load fell into the band, and the edge is the slower way.
    let (edge_us, cloud_us) = (90e3, 30e3);
    assert_eq!(
        offload(100.0, Compared::Slower { edge_us, cloud_us }, false),
        Verdict::Failed(Cause::PathSlower { edge_us, cloud_us })
    );
}

#[test]
fn nothing_is_undone_on_silence_and_errors_undo_at_once() {
    let plan = decision(Direction::Offload, reading(300.0, 2.0), 200.0);
    let judge = |reason, last| judge(&plan, &Err(reason), Compared::Unknown, last);
    assert_eq!(judge(HoldReason::NoTraffic, false), Verdict::Wait);
    assert_eq!(judge(HoldReason::NoTraffic, true), Verdict::Unknown);
    let errors = judge(HoldReason::Errors { share: 0.1 }, false);
    assert!(matches!(errors, Verdict::Failed(Cause::ErrorsAfter { .. })));
}

#[test]
fn both_ways_are_told_apart_only_by_enough_calls() {
    let ways = |edge_us: u64, cloud_us: u64, cloud_calls: u64| {
        let call = |caller, area: &str, timed, us: u64| CallStats {
            caller,
            callee: "front".into(),
            callee_area: Some(area.into()),
            outcomes: OutcomeCounts::default(),
            timed,
            sum_us: us * timed,
            response_bytes: 0,
        };
        let user = Caller::User {
            edge: "edge-1".into(),
        };
        let moved = Caller::Instance {
            service: "front".into(),
            area: "edge-1".into(),
        };
        let window = Duration::from_secs(4);
        let snapshot = Snapshot {
            at: Timestamp::from_start(window),
            window,
            edges: Default::default(),
            calls: vec![
                call(user.clone(), "edge-1", 2_000, edge_us),
                call(user, "cloud", cloud_calls, cloud_us),
                // The inside of what moved says nothing.
                call(moved, "edge-1", 9_000, 900_000),
            ],
            received: Vec::new(),
            coverage: Vec::new(),
            network: Vec::new(),
        };
        let mut paths = Paths::new(Timestamp::default());
        let services = BTreeSet::from(["front".into()]);
        paths.count(&snapshot, &"edge-1".into(), &"cloud".into(), &services);
        // The same window again counts once.
        paths.count(&snapshot, &"edge-1".into(), &"cloud".into(), &services);
        paths.compare()
    };
    assert_eq!(ways(20_000, 150_000, 30), Compared::Faster);
    assert_eq!(ways(20_000, 150_000, 15), Compared::Unknown);
    assert_eq!(ways(20_000, 30_000, 30), Compared::Unknown);
    assert!(matches!(ways(150_000, 20_000, 30), Compared::Slower { .. }));
}

/// A standard normal number (sum of twelve uniform ones: its tails end at 6).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    (0..12)
        .map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX))
        .sum::<f64>()
        - 6.0
}

/// Half width of an interval that errs with 1e-4 on a side, in standard errors.
const HALF: f64 = 3.72;
/// Standard deviation of the mean of one slot of 0.5 s, ms.
const SLOT_SD: f64 = 25.0;

/// Watches one move as the machine does: from 15 s to 60 s, each 0.5 s, all slots so far.
fn watch(seed: u64, before_ms: f64, predicted_ms: f64, after_ms: f64) -> Verdict {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut mean = |slots: i32, of: f64, sum: &mut f64, from: i32| {
        for _ in from..slots {
            *sum += of + SLOT_SD * normal(&mut random);
        }
        *sum / f64::from(slots)
    };
    let before = mean(40, before_ms, &mut 0.0, 0);
    let plan = decision(
        Direction::Offload,
        reading(before, HALF * SLOT_SD / 40_f64.sqrt()),
        before - (before_ms - predicted_ms),
    );
    let (mut sum, mut counted) = (0.0, 0);
    for slots in 30..=120 {
        let after = mean(slots, after_ms, &mut sum, counted);
        counted = slots;
        let after = reading(after, HALF * SLOT_SD / f64::from(slots).sqrt());
        match judge(&plan, &Ok(after), Compared::Unknown, slots == 120) {
            Verdict::Wait => {}
            verdict => return verdict,
        }
    }
    panic!("no verdict")
}

/// Of 4,000 moves, how many ended so.
fn rate(before_ms: f64, predicted_ms: f64, after_ms: f64, is: fn(&Verdict) -> bool) -> f64 {
    let moves = 4_000_u32;
    let hits = (0..moves).filter(|seed| is(&watch(u64::from(*seed), before_ms, predicted_ms, after_ms)));
    f64::from(u32::try_from(hits.count()).unwrap()) / f64::from(moves)
}

#[test]
fn a_good_move_is_undone_in_less_than_one_case_in_a_hundred() {
    let undone = |verdict: &Verdict| matches!(verdict, Verdict::Failed(_));
    // As promised; half of the promise; a promise that the noise hides.
    for after_ms in [200.0, 250.0] {
        let rate = rate(300.0, 200.0, after_ms, undone);
        assert!(rate < 0.01, "after {after_ms} ms: {rate}");
    }
    let rate = rate(300.0, 295.0, 295.0, undone);
    assert!(rate < 0.01, "{rate}");
}

#[test]
fn a_move_without_effect_or_with_a_bad_one_is_kept_in_less_than_one_case_in_a_hundred() {
    let kept = |verdict: &Verdict| !matches!(verdict, Verdict::Failed(_));
    // h is about 17 ms: the promise of 100 ms is more than four of it.
    for after_ms in [300.0, 330.0] {
        let rate = rate(300.0, 200.0, after_ms, kept);
        assert!(rate < 0.01, "after {after_ms} ms: {rate}");
    }
    // A promise that the noise hides is not called kept either.
    let rate = rate(300.0, 295.0, 300.0, |verdict| *verdict == Verdict::Kept);
    assert!(rate < 0.01, "{rate}");
}

// === what is learned of predictions ===

/// Errors of moves from 300 ms to 200 ms, each measured at what `measured_ms` says.
fn learned(measured_ms: impl IntoIterator<Item = f64>) -> PredictionErrors {
    let mut errors = PredictionErrors::default();
    for measured in measured_ms {
        let mut plan = decision(Direction::Offload, reading(300.0, 2.0), 200.0);
        plan.correction = None;
        errors.record(&plan, measured * 1e3, Timestamp::default());
    }
    errors
}

#[test]
fn a_lasting_error_is_corrected_and_a_single_one_is_not() {
    assert_eq!(learned([]).bias(), 0.0);
    assert!((learned([]).spread() - 0.25).abs() < 1e-12);
    assert_eq!(learned([230.0]).bias(), 0.0, "one may be chance");
    let lasting = learned([230.0; 10]);
    assert!((0.2..0.3).contains(&lasting.bias()), "{}", lasting.bias());
    assert!(lasting.spread() < 0.2);
    let noise = learned([220.0, 180.0, 225.0, 175.0, 210.0, 190.0]);
    assert_eq!(noise.bias(), 0.0);
    assert_eq!(noise.last_us(), Some(-10e3));
}

#[test]
fn errors_are_forgotten_and_bounded() {
    let wild = learned([1e9; 5]);
    assert!(wild.bias() <= 0.5 && wild.spread() <= 0.5, "{wild:?}");
    let later = learned([230.0; 10].into_iter().chain([200.0; 60]));
    assert!(later.bias() < 0.01, "{}", later.bias());
    assert_eq!(learned([f64::NAN]), PredictionErrors::default());
    // Half after 6 hours, an eighth after 18: too little to be told from chance.
    let lasting = learned([230.0; 3]);
    let hours = |hours: u64| lasting.faded(Timestamp::from_start(Duration::from_secs(3_600 * hours)));
    // By hand: weight 2.71, spread √(0.25 / 6.71) = 0.193, its error 0.117, and 0.3 · (1 − (2 · 0.117 / 0.3)²) = 0.117.
    assert!((lasting.bias() - 0.117).abs() < 1e-3, "{}", lasting.bias());
    assert_eq!(hours(18).bias(), 0.0);
    assert!(hours(18).spread() > lasting.spread());
}

#[test]
fn a_corrected_prediction_is_learned_against_what_the_planner_said() {
    let mut errors = learned([230.0; 10]);
    for _ in 0..30 {
        let before = reading(300.0, 2.0);
        let mut plan = decision(Direction::Offload, before, 200.0);
        let (planned, correction) = errors.correct(plan.planned.unwrap());
        (plan.planned, plan.correction) = (Some(planned), Some(correction));
        errors.record(&plan, 230e3, Timestamp::default());
    }
    // By hand, with the weight of ten that forgetting leaves: spread √(0.25 / 14) = 0.1336, its error 0.0423, and
    // 0.3 · (1 − (2 · 0.0423 / 0.3)²) = 0.276. What is left of the error is 2.4 ms.
    assert!((errors.bias() - 0.276).abs() < 1e-3, "{}", errors.bias());
    assert!((errors.last_us().unwrap() - 2.4e3).abs() < 100.0, "{errors:?}");
}

#[test]
fn a_small_change_is_held_against_a_tenth_of_the_delay() {
    let Correction { spread_us, bias_us } = PredictionErrors::default().correction(300e3, 299e3);
    assert!((spread_us - 0.25 * 30e3).abs() < 1e-6 && bias_us == 0.0);
}

#[test]
fn an_unoffload_that_nobody_could_judge_was_wrong_when_its_services_had_to_come_back() {
    let left = |outcome| Decision {
        add: BTreeSet::new(),
        remove: BTreeSet::from(["cart".into()]),
        outcome,
        ..decision(Direction::Unoffload, reading(40.0, 2.0), 50.0)
    };
    let back = BTreeSet::from(["cart".into(), "front".into()]);
    let mut edge = EdgeState::default();
    edge.remember(left(Outcome::Unverified));
    assert_eq!(edge.regretted(&back), BTreeSet::from(["cart".into()]));
    // What was seen to be right has become wrong since: that is nobody's fault.
    edge.remember(left(Outcome::Kept));
    assert_eq!(edge.regretted(&back), BTreeSet::new());
}

#[test]
fn an_unoffload_that_was_wrong_is_counted_with_those_before_it() {
    let mut world = World::new(&[EDGE]);
    world.run(10);
    let wrong = BackOff {
        count: 1,
        until: world.now,
    };
    let edge = world.state.edges.get_mut(&area(EDGE)).unwrap();
    let failed = ["cart", "front"].map(|service| (service.into(), wrong));
    edge.failed.insert(Direction::Unoffload, failed.into());
    edge.remember(Decision {
        add: BTreeSet::new(),
        remove: BTreeSet::from(["cart".into()]),
        outcome: Outcome::Unverified,
        ..decision(Direction::Unoffload, reading(40.0, 2.0), 50.0)
    });
    world.edge().rtt_ms = 150.0;
    world.run_until(180, |w| w.outcomes().last() == Some(&&Outcome::Kept));
    world.tick();
    let failed = world.machine().failed[&Direction::Unoffload].iter();
    let counts: Vec<_> = failed
        .map(|(service, off)| (service.as_str(), off.count))
        .collect();
    assert_eq!(counts, [("cart", 2)]);
}
