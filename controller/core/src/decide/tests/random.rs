//! Random faults under random noise: the world checks its invariants at each tick; here: it comes to rest.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{EDGE, World, area};
use crate::cluster::Phase as Life;
use crate::decide::{HoldReason, Phase, State};

#[derive(Clone, Debug)]
enum Happening {
    Rtt(f64),
    Rate(f64),
    Silent(bool),
    Slow(f64),
    Capacity(f64),
    Hog(f64),
    EdgeErrors(f64),
    UserErrors(f64),
    ReadyAfter(Option<u64>),
    Crash(usize),
    Vanish(usize),
    Deaf(bool),
    Forget,
    Repair,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (5.0..300.0_f64).prop_map(Happening::Rtt),
        2 => (0.0..400.0_f64).prop_map(Happening::Rate),
        1 => any::<bool>().prop_map(Happening::Silent),
        1 => (0.0..100.0_f64).prop_map(Happening::Slow),
        1 => (50.0..500.0_f64).prop_map(Happening::Capacity),
        1 => (1.0..8.0_f64).prop_map(Happening::Hog),
        1 => (0.0..0.3_f64).prop_map(Happening::EdgeErrors),
        1 => (0.0..0.2_f64).prop_map(Happening::UserErrors),
        1 => proptest::option::of(0..200_u64).prop_map(Happening::ReadyAfter),
        2 => (0..8_usize).prop_map(Happening::Crash),
        1 => (0..8_usize).prop_map(Happening::Vanish),
        1 => any::<bool>().prop_map(Happening::Deaf),
        1 => Just(Happening::Forget),
        2 => Just(Happening::Repair),
    ]
}

fn apply(world: &mut World, happening: &Happening) {
    let at_edge = |world: &World, n: usize| {
        let keys = world
            .instances
            .keys()
            .filter(|(_, at)| *at == area(EDGE))
            .cloned();
        keys.collect::<Vec<_>>().get(n).cloned()
    };
    match happening {
        Happening::Rtt(ms) => world.edge().rtt_ms = *ms,
        Happening::Rate(rate) => world.edge().rate = *rate,
        Happening::Silent(silent) => world.edge().silent = *silent,
        Happening::Slow(ms) => world.edge().slow_ms = *ms,
        Happening::Capacity(rps) => world.edge().capacity = *rps,
        Happening::Hog(factor) => world.edge().hog = *factor,
        Happening::EdgeErrors(share) => world.edge().edge_errors = *share,
        Happening::UserErrors(share) => world.edge().user_errors = *share,
        Happening::ReadyAfter(seconds) => world.edge().ready_after = seconds.map(Duration::from_secs),
        Happening::Crash(n) => {
            if let Some(key) = at_edge(world, *n) {
                let now = world.now;
                world.instances.insert(key, (Life::Failed, now));
            }
        }
        Happening::Vanish(n) => {
            if let Some(key) = at_edge(world, *n) {
                world.instances.remove(&key);
            }
        }
        Happening::Deaf(deaf) => world.deaf = *deaf,
        Happening::Forget => world.state = State::default(),
        Happening::Repair => repair(world),
    }
}

fn repair(world: &mut World) {
    world.deaf = false;
    let edge = world.edge();
    (edge.silent, edge.slow_ms, edge.edge_errors, edge.user_errors) = (false, 0.0, 0.0, 0.0);
    (edge.capacity, edge.hog) = (f64::INFINITY, 1.0);
    (edge.rate, edge.ready_after) = (200.0, Some(Duration::from_secs(2)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// A controller that is restarted after each evaluation decides as one that is not.
    #[test]
    fn what_is_saved_and_loaded_at_every_evaluation_decides_the_same(
        faults in proptest::collection::vec((happening(), 1..45_u64), 1..20),
        noise in 0.0..0.1_f64,
    ) {
        let [saving, not] = [true, false].map(|saving| {
            let mut world = World::new(&[EDGE]);
            (world.noise, world.saving) = (noise, saving);
            for (happening, seconds) in &faults {
                apply(&mut world, happening);
                world.run(*seconds);
            }
            world
        });
        prop_assert_eq!(&saving.effects, &not.effects, "{}", saving.story.join("\n"));
        prop_assert_eq!(&saving.state, &not.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_faults_keeps_the_invariants_and_ends_at_rest(
        faults in proptest::collection::vec((happening(), 1..45_u64), 1..20),
        noise in 0.0..0.1_f64,
    ) {
        ends_at_rest(World::new(&[EDGE]), &faults, noise)?;
    }

    #[test]
    fn by_readiness_it_ends_at_rest_too(
        faults in proptest::collection::vec((happening(), 1..45_u64), 1..20),
        noise in 0.0..0.1_f64,
    ) {
        ends_at_rest(World::by_readiness(&[EDGE]), &faults, noise)?;
    }
}

fn ends_at_rest(mut world: World, faults: &[(Happening, u64)], noise: f64) -> Result<(), TestCaseError> {
    world.noise = noise;
    world.config.back_off_most = Duration::from_secs(300);
    for (happening, seconds) in faults {
        apply(&mut world, happening);
        world.run(*seconds);
    }
    // All is well again: this outlasts every back-off, and four steps back up with the longest wait before each; then
    // nothing may happen any more.
    repair(&mut world);
    world.edge().rtt_ms = 150.0;
    world.noise = 0.0;
    world.run(2400);
    let (story, written) = (world.story.join("\n"), world.effects.len());
    let rests = matches!(
        world.phase(),
        Phase::Observing
            | Phase::Held {
                reason: HoldReason::NoPlan { .. },
                ..
            }
    );
    prop_assert!(rests, "{}", story);
    let delay = world.delay_now_ms(EDGE);
    prop_assert!(delay <= 120.0, "{} ms\n{}", delay, story);
    world.run(600);
    prop_assert_eq!(world.effects.len(), written, "{}", world.story.join("\n"));
    let all = world.config.final_weight(&area(EDGE));
    for share in ["front", "cart", "ads", "db"].map(|service| world.share(service)) {
        prop_assert!(
            share == 0 || share == all,
            "{} % is no resting weight\n{}",
            share,
            story
        );
    }
    Ok(())
}

/// With `cart` gone, all of `front`'s share at the edge made the delay worse: it went back, and while it was away nothing
/// could be planned.
#[test]
fn a_share_returns_where_something_else_makes_the_delay_worse() {
    let faults = [
        (Happening::Rtt(272.797_625_701_932_5), 5),
        (Happening::Crash(0), 44),
        (Happening::Capacity(50.0), 8),
        (Happening::Crash(1), 1),
    ];
    ends_at_rest(World::new(&[EDGE]), &faults, 0.0).unwrap();
}
