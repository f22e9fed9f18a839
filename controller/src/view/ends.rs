//! What would have to change for a hold to end.

use gma_core::decide::{HoldReason, NoPlan};

use super::Seen;

/// The condition, for a person.
pub(super) fn when(reason: &HoldReason, seen: &Seen<'_>) -> String {
    match reason {
        HoldReason::EdgeSilent { .. } => {
            "when a gateway of the edge reports again; until then nothing is written for the edge".to_owned()
        }
        HoldReason::NoTraffic => "when users of the edge send requests".to_owned(),
        HoldReason::TooFewRequests { seen: got, needed } => {
            let rate = per_second(*needed, seen);
            format!("when {needed} requests fall in the window: {rate:.0} a second, {got} were seen")
        }
        HoldReason::Errors { .. } => format!(
            "when at most {:.0} % of the requests fail",
            seen.config.most_errors * 100.0
        ),
        HoldReason::BackingOff { until } => format!(
            "in {:.0} s, or when the delay leaves the band on the other side",
            until.since(seen.now).as_secs_f64()
        ),
        HoldReason::MovesSpent { per_hour } => {
            format!("when fewer than {per_hour} moves lie in the last hour")
        }
        HoldReason::ServiceBusy { edge, .. } => format!("when the move at {edge} has ended"),
        HoldReason::NoPlan { why } => no_plan(why),
        HoldReason::Recommending => "when the mode is `enforce`, or the delay is back in the band".to_owned(),
        // Nothing that a person can do: more reports end it.
        _ => "when enough reports of the edge have come".to_owned(),
    }
}

fn no_plan(why: &NoPlan) -> String {
    match why {
        NoPlan::NotEnoughData { .. } => "when what is missing was measured".to_owned(),
        NoPlan::Capacity { .. } => "when the edge has more room, or the band is wider".to_owned(),
        NoPlan::TargetBelowLeak { reachable_us, .. } => format!(
            "when the band allows {:.1} ms, or the standby form is failover",
            reachable_us / 1_000.0
        ),
        _ => "when another placement would help: load, round trip or band have to change".to_owned(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "requests of one window are far below 2^52"
)]
fn per_second(requests: u64, seen: &Seen<'_>) -> f64 {
    let window = seen.snapshot.window.as_secs_f64();
    if window > 0.0 {
        requests as f64 / window
    } else {
        0.0
    }
}
