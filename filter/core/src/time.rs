//! Time as the filter sees it: the host's monotonic clock, passed in. Nothing here reads a clock.

use std::time::Duration;

/// A moment on the host's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The moment `nanos` after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
    }

    /// Time from `earlier` to `self`; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `delay` after `self`.
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

/// Pseudo-random numbers (xorshift64*): they spread proxies and choose samples, and protect nothing.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self(if seed == 0 { 1 } else { seed })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    /// A number below `bound`, which is not 0.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a remainder of division by 32 bits"
    )]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound.max(1))) as u32
    }

    /// A duration in `[0, most]`, to the millisecond.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        let span = u64::try_from(most.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        Duration::from_millis(self.next() % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_go_below_zero() {
        let early = Timestamp::from_nanos(1);
        let late = early.after(Duration::from_secs(1));
        assert_eq!(late.since(early), Duration::from_secs(1));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn jitter_stays_inside_and_fills_its_range() {
        let most = Duration::from_millis(9);
        let mut random = Random::new(0);
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| random.up_to(most)).collect();
        assert_eq!(drawn.len(), 10);
        assert!(drawn.iter().all(|each| *each <= most));
    }
}
