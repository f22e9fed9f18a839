//! Did a move do what it should?
//!
//! Kept: the statistic is in the band, or (offload) at least half of the predicted change happened. Failed: the
//! whole interval lies on the wrong side (offload: above the delay before; unoffload: above the band), requests
//! fail, or, at the end of the time, it is still not kept. Unknown: at the end nothing could be read: then it
//! stays, because a move is never undone on silence.

use super::evidence::Reading;
use super::plan::{Decision, Direction, Trigger};
use super::reason::{Cause, HoldReason};

/// Share of the predicted change that must have happened where the band is not reached.
const LEAST_OF_PREDICTED: f64 = 0.5;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Wait,
    Kept,
    Failed(Cause),
    Unknown,
}

/// Judges the effect of `plan`; `last`: there is no more time.
pub(super) fn judge(plan: &Decision, read: &Result<Reading, HoldReason>, last: bool) -> Verdict {
    let (
        Trigger::Band {
            direction,
            offload_above_us,
            ..
        },
        Some(planned),
    ) = (&plan.trigger, &plan.planned)
    else {
        return Verdict::Unknown;
    };
    let after = match read {
        Ok(reading) => reading,
        Err(HoldReason::Errors { share }) => return Verdict::Failed(Cause::ErrorsAfter { share: *share }),
        Err(_) if last => return Verdict::Unknown,
        Err(_) => return Verdict::Wait,
    };
    let (before_us, after_us) = (planned.measured_us, after.value_us);
    let (kept, worse) = match direction {
        Direction::Offload => {
            let promised = planned.measured_us - planned.predicted_us;
            let improved = before_us - after_us >= promised * LEAST_OF_PREDICTED;
            (
                after_us <= *offload_above_us || improved,
                after.low_us > before_us,
            )
        }
        Direction::Unoffload => (after_us <= *offload_above_us, after.low_us > *offload_above_us),
    };
    if kept {
        Verdict::Kept
    } else if worse {
        Verdict::Failed(Cause::DelayWorse { before_us, after_us })
    } else if last {
        Verdict::Failed(Cause::NotImproved { before_us, after_us })
    } else {
        Verdict::Wait
    }
}
