//! Why a plan was chosen, for a person.

use gma_core::solver::Reach;

pub(super) fn ms(us: f64) -> String {
    format!("{:.1} ms", us / 1_000.0)
}

pub(super) fn reasons(reach: Reach, predicted_us: f64, target_us: f64) -> String {
    let target = ms(target_us);
    match reach {
        Reach::Met | Reach::NoTarget if predicted_us <= target_us => {
            format!("the cheapest set that meets {target}")
        }
        Reach::Met | Reach::NoTarget => format!("inside the band, though no set found meets {target}"),
        Reach::TargetTooLow => format!("inside the band; no set meets {target}"),
        Reach::Capacity => format!("inside the band; {target} needs more room at the edge"),
        Reach::Pins => format!("inside the band; {target} needs services that are pinned to the cloud"),
        Reach::NotFound => format!("the best that was found; {target} was not reached"),
    }
}
