use super::*;

use gma_core::decide::{Band, HoldReason, Mode, Objective, Phase, Statistic};
use gma_core::world::{Change, Load, Spec};

/// A shop under constant load whose round trip grows after a minute, with a share of its reports lost.
fn lossy(seed: u64, lost: f64) -> Scenario {
    let mut spec = Spec::shop(seed, Load::constant(100.0));
    spec.edges[0].workers = 1;
    let mut config = Config::new(spec.cloud.clone(), [spec.edges[0].name.clone()]);
    config.mode = Mode::Enforce;
    let band = Band::try_new(Duration::from_millis(60), Duration::from_millis(120)).unwrap();
    for objective in config.edges.values_mut() {
        *objective = Objective {
            standby: None,
            band,
            statistic: Statistic::Mean,
        };
    }
    let network = Network {
        lost,
        ..Network::default()
    };
    let us = 200e3;
    Scenario {
        seed,
        spec,
        config,
        faults: vec![
            (Duration::ZERO, Fault::Network(network)),
            (Duration::from_secs(60), Fault::World(Change::Rtt { edge: 0, us })),
        ],
        constant_from: Duration::from_secs(240),
        end: Duration::from_secs(240),
    }
}

#[test]
fn a_quarter_of_the_reports_lost_is_no_silence_and_a_step_is_answered() {
    let (mut silent, mut all) = (0, 0);
    for seed in 1..=20 {
        let scenario = lossy(seed, 0.23);
        let mut simulation = Simulation::new(&scenario);
        let mut faults = scenario.faults.iter().peekable();
        let mut answered = None;
        while simulation.world.now() < scenario.end {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= simulation.world.now()) {
                simulation.happen(fault).unwrap();
            }
            let look = &mut |look: &Look<'_>| {
                let phases = look.state.into_iter().flat_map(|state| state.edges.values());
                let is_silent = |phase: &Phase| {
                    matches!(
                        phase,
                        Phase::Held {
                            reason: HoldReason::EdgeSilent { .. },
                            ..
                        }
                    )
                };
                silent += phases.filter(|edge| is_silent(&edge.phase)).count();
                all += 1;
                if look
                    .effects
                    .iter()
                    .any(|effect| matches!(effect, Effect::Ensure { .. }))
                {
                    answered.get_or_insert(look.world.now());
                }
            };
            simulation.tick(look).unwrap();
        }
        let answered = answered.expect("the step is answered");
        assert!(answered >= Duration::from_secs(60), "seed {seed}: {answered:?}");
    }
    // Three in a row are lost once in 82 reports, which is 7 s of silence, and more of them longer: 0.11 s a report, of
    // which one comes each 2.4 s. A late one of a gateway that is heard would be as much again.
    assert!(silent * 20 < all, "silent in {silent} of {all} looks");
}

#[test]
fn a_seed_is_a_story_that_can_be_told_again() {
    let scenario = Scenario::of_seed(3).unwrap();
    let runs = [run(&scenario), run(&scenario)];
    assert_eq!(runs[0].as_ref().ok(), runs[1].as_ref().ok());
}
