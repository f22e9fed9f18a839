//! The closed loop on simulated worlds. 500 seeds; others with GMA_FIRST_SEED and GMA_SEEDS, and a seed's story with
//! GMA_TELL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

use gma::simulate::closed::{Scenario, sweep, tell};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

#[test]
fn seeds_keep_the_rules() {
    if std::env::var_os("GMA_TELL").is_some() {
        println!(
            "{}",
            tell(&Scenario::of_seed(number("GMA_FIRST_SEED", 1)).unwrap())
        );
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = sweep(
        number("GMA_FIRST_SEED", 1),
        number("GMA_SEEDS", 500),
        threads,
        &|| {},
    )
    .unwrap();
    let stories = sweep.failures.iter().chain(&sweep.restless_stories);
    let stories: Vec<String> = stories.map(ToString::to_string).collect();
    assert!(
        sweep.failed == 0 && sweep.restless == 0,
        "of {} seeds {} broke a rule and {} did not come to rest\n{}",
        sweep.seeds,
        sweep.failed,
        sweep.restless,
        stories.join("\n\n")
    );
    // A delay at the very bound is rare.
    assert!(sweep.late * 50 <= sweep.seeds.max(50), "{sweep:?}");
    // A world in which nothing is decided would keep every rule.
    assert!(
        sweep.moves as u64 > sweep.seeds && sweep.kept > sweep.moves / 2,
        "{sweep:?}"
    );
    // All 15 kinds of fault and all 7 of decision happen.
    if sweep.seeds >= 500 {
        assert!(
            sweep.faults.len() == 15 && sweep.decisions.len() == 7,
            "{sweep:?}"
        );
    }
}
