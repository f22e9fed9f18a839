//! Slots of one key over the last five minutes, and where in them a window belongs.

use std::collections::VecDeque;
use std::time::Duration;

use gma_core::ids::Timestamp;

use crate::index::Side;
use crate::slot::{Segment, Sums};

/// How long slots are kept: the longest window that a decision may look at.
pub(crate) const KEEP: Duration = Duration::from_secs(300);

/// Slot of what gateways report: the pace that they are asked for, and the batch of the mean's error.
pub(crate) const GATEWAY_SLOT: Duration = Duration::from_millis(500);

/// Slot of everything else: the pace that small meshes are asked for. Decisions stand on 4 s: that holds two reports
/// of each proxy at least.
pub(crate) const SIDECAR_SLOT: Duration = Duration::from_secs(1);

/// Microseconds from the controller's start; negative before it.
pub(crate) type Micros = i64;

/// A window in the controller's own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Micros,
    pub(crate) end: Micros,
}

#[derive(Debug, Default)]
pub(crate) struct Ring {
    slots: VecDeque<(i64, Sums)>,
}

pub(crate) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

pub(crate) fn at(now: Timestamp) -> Micros {
    micros(now.since_start())
}

pub(crate) const fn width(side: Side) -> Duration {
    if side.is_of_user() {
        GATEWAY_SLOT
    } else {
        SIDECAR_SLOT
    }
}

/// Oldest slot that is kept.
pub(crate) fn oldest(width: Duration, now: Timestamp) -> i64 {
    first_of(width, now, KEEP)
}

/// First slot of the `window` that ends with the slot of `now`.
pub(crate) fn first_of(width: Duration, now: Timestamp, window: Duration) -> i64 {
    let width = micros(width).max(1);
    let slots = micros(window).div_euclid(width).max(1);
    at(now).div_euclid(width) - slots + 1
}

/// The slots under a window.
///
/// A window that is about as long as a slot is one batch: it is put whole where its middle lies. A
/// longer one is laid over all that it covers.
pub(crate) fn segments(span: Span, width: Duration, now: Timestamp) -> Vec<Segment> {
    let oldest = oldest(width, now);
    let width = micros(width).max(1);
    let length = span.end - span.start;
    if length <= width + width / 2 {
        let slot = (span.start + length / 2).div_euclid(width);
        return vec![Segment {
            slot: (slot >= oldest).then_some(slot),
            until: length.unsigned_abs(),
        }];
    }
    let mut segments = Vec::new();
    let kept_from = oldest * width;
    if span.start < kept_from {
        let until = (kept_from.min(span.end) - span.start).unsigned_abs();
        segments.push(Segment { slot: None, until });
    }
    let first = span.start.max(kept_from).div_euclid(width);
    // The end is not part of the window: one that ends with a slot does not touch the next.
    for slot in first..=(span.end - 1).div_euclid(width) {
        let until = (((slot + 1) * width).min(span.end) - span.start).unsigned_abs();
        if slot >= oldest {
            segments.push(Segment {
                slot: Some(slot),
                until,
            });
        }
    }
    segments
}

// === impl Ring ===

impl Ring {
    pub(crate) fn add(&mut self, slot: i64, sums: &Sums) {
        let position = self.slots.partition_point(|(index, _)| *index <= slot);
        match position
            .checked_sub(1)
            .and_then(|before| self.slots.get_mut(before))
        {
            Some((index, found)) if *index == slot => found.merge(sums),
            _ => {
                self.make_room();
                self.slots.insert(position, (slot, *sums));
            }
        }
    }

    /// Grows by an eighth: doubled, ten thousand rings of 300 slots would hold room for 512 each.
    fn make_room(&mut self) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / 8 + 4);
        }
    }

    pub(crate) fn expire(&mut self, oldest: i64) {
        while self.slots.front().is_some_and(|(index, _)| *index < oldest) {
            self.slots.pop_front();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Slots from `first` to `last`, ascending.
    pub(crate) fn between(&self, first: i64, last: i64) -> impl Iterator<Item = &(i64, Sums)> {
        let from = self.slots.partition_point(|(index, _)| *index < first);
        self.slots
            .range(from..)
            .take_while(move |(index, _)| *index <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_start(Duration::from_secs(1_000));

    fn span(start_ms: i64, end_ms: i64) -> Span {
        Span {
            start: start_ms * 1_000,
            end: end_ms * 1_000,
        }
    }

    fn slots(span: Span) -> Vec<Option<i64>> {
        segments(span, GATEWAY_SLOT, NOW)
            .iter()
            .map(|segment| segment.slot)
            .collect()
    }

    #[test]
    fn short_window_is_one_batch() {
        assert_eq!(slots(span(999_400, 999_900)), [Some(1_999)]);
        assert_eq!(slots(span(998_950, 999_650)), [Some(1_998)]);
        assert_eq!(slots(span(700_400, 700_400)), [None]);
        assert_eq!(slots(span(700_500, 700_500)), [Some(1_401)]);
    }

    #[test]
    fn long_window_covers_its_slots() {
        assert_eq!(slots(span(998_000, 999_000)), [Some(1_996), Some(1_997)]);
        let parts = segments(span(998_100, 999_100), GATEWAY_SLOT, NOW);
        let until: Vec<_> = parts.iter().map(|segment| segment.until).collect();
        assert_eq!(until, [400_000, 900_000, 1_000_000]);
    }

    #[test]
    fn what_is_older_than_five_minutes_has_no_slot() {
        // Slots 1,401 … 2,000 are kept.
        assert_eq!(slots(span(0, 600_000)), [None]);
        let outage = slots(span(0, 1_000_000));
        assert_eq!(outage.len(), 600);
        assert_eq!(
            (outage[0], outage[1], outage[599]),
            (None, Some(1_401), Some(1_999))
        );
        assert_eq!(slots(span(-5_000, -1_000)), [None]);
    }

    #[test]
    fn ring_keeps_order_whatever_comes_late() {
        let mut ring = Ring::default();
        let one = Sums {
            count: 1,
            ..Sums::default()
        };
        for slot in [5, 3, 5, 4, 9, 3] {
            ring.add(slot, &one);
        }
        let counts: Vec<_> = ring
            .between(4, 9)
            .map(|(slot, sums)| (*slot, sums.count))
            .collect();
        assert_eq!(counts, [(4, 1), (5, 2), (9, 1)]);
        ring.expire(6);
        assert_eq!(ring.between(0, 9).count(), 1);
    }
}
