//! What the WAN does: three round trip times, from the band and from the delay that this machine really has.

use std::time::Duration;

use gma_core::decide::Band;

/// The slow WAN brings the delay to this multiple of `offloadAbove`.
const SLOW: f64 = 1.5;
/// With the fast WAN and everything in the cloud, the delay lies this far into the band from below.
const FAST: f64 = 0.25;
/// For an overload, it lies this far into the band: what goes to the cloud then is no loss.
const INSIDE: f64 = 0.6;
/// Round trips that seeds choose from, ms.
const FIRST_RTT_MS: [u64; 5] = [26, 30, 34, 28, 32];
/// No WAN is faster.
const LEAST_MS: f64 = 1.0;

/// Round trip at the start.
pub(crate) fn first_rtt(seed: u64) -> Duration {
    let index = (seed % FIRST_RTT_MS.len() as u64) as usize;
    Duration::from_millis(FIRST_RTT_MS.get(index).copied().unwrap_or(30))
}

/// The round trips that follow, slow and fast, once the delay with `first` is known.
pub(crate) fn later_rtts(first: Duration, measured_ms: f64, band: Band) -> (Duration, Duration) {
    let (lower_ms, upper_ms) = bounds_ms(band);
    let fast_ms = lower_ms + FAST * (upper_ms - lower_ms);
    (
        rtt_for(SLOW * upper_ms, first, measured_ms),
        rtt_for(fast_ms, first, measured_ms),
    )
}

/// The round trip with which the cloud alone keeps the delay inside the band, near its upper bound.
pub(crate) fn inside(first: Duration, measured_ms: f64, band: Band) -> Duration {
    let (lower_ms, upper_ms) = bounds_ms(band);
    rtt_for(lower_ms + INSIDE * (upper_ms - lower_ms), first, measured_ms)
}

fn bounds_ms(band: Band) -> (f64, f64) {
    (
        band.unoffload_below_us() / 1_000.0,
        band.offload_above_us() / 1_000.0,
    )
}

/// A request whose services all run in the cloud crosses the WAN once, so its delay moves by what the round trip moves.
fn rtt_for(delay_ms: f64, first: Duration, measured_ms: f64) -> Duration {
    let first_ms = first.as_secs_f64() * 1_000.0;
    let rtt_ms = (first_ms + delay_ms - measured_ms).max(LEAST_MS).round();
    Duration::from_secs_f64(rtt_ms / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_wan_lifts_the_delay_well_above_the_band_and_the_fast_one_into_it() {
        let (slow, fast) = later_rtts(Duration::from_millis(30), 80.0, Band::default());
        assert_eq!(slow, Duration::from_millis(130));
        assert_eq!(fast, Duration::from_millis(25));
        let between = inside(Duration::from_millis(30), 80.0, Band::default());
        assert_eq!(between, Duration::from_millis(46));
    }
}
