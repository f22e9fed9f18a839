//! What users of an edge waited, slot by slot, as evidence wants it.
//!
//! A snapshot each 0.5 s hands out 5 minutes of slots. So each slot keeps what it hands out, and only the slots that
//! changed since are made anew: of 600 slots, one or two.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use gma_core::ids::Timestamp;
use gma_core::snapshot::{DELAY_SLOT, DelaySlot, MAX_DELAY_SLOTS};
use gma_report::histogram::{highest_us, lowest_us};

use crate::ring::{GATEWAY_SLOT, Micros, micros};
use crate::slot::Data;

// The ring's slots are those that are handed out.
const _: () = assert!(GATEWAY_SLOT.as_micros() == DELAY_SLOT.as_micros());

/// Users' requests with a duration (ok and client errors) of one edge.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// In order; a slot without requests may be missing.
    slots: VecDeque<(i64, UserSlot)>,
}

#[derive(Debug, Default)]
struct UserSlot {
    data: Data,
    given: OnceLock<Arc<[(u32, u32)]>>,
}

// === impl Users ===

impl Users {
    pub(crate) fn add(&mut self, slot: i64, data: &Data) {
        let position = self.slots.partition_point(|(index, _)| *index < slot);
        match self.slots.get_mut(position) {
            Some((index, found)) if *index == slot => {
                found.data.merge(data);
                found.given = OnceLock::new();
            }
            _ => {
                let new = UserSlot {
                    data: data.clone(),
                    given: OnceLock::new(),
                };
                self.slots.insert(position, (slot, new));
            }
        }
    }

    pub(crate) fn expire(&mut self, oldest: i64) {
        while self.slots.front().is_some_and(|(index, _)| *index < oldest) {
            self.slots.pop_front();
        }
    }

    /// Requests from slot `first` on, all slots together.
    pub(crate) fn since(&self, first: i64) -> Data {
        let mut sum = Data::default();
        let from = self.slots.partition_point(|(index, _)| *index < first);
        for (_, slot) in self.slots.range(from..) {
            sum.merge(&slot.data);
        }
        sum
    }

    /// Number of requests from slot `first` on.
    pub(crate) fn count_since(&self, first: i64) -> u64 {
        let from = self.slots.partition_point(|(index, _)| *index < first);
        let counts = self.slots.range(from..).map(|(_, slot)| slot.data.count);
        counts.fold(0, u64::saturating_add)
    }

    /// Slots that are whole, oldest first and without gaps, and the end of the newest. They begin with the first that
    /// was heard (`heard_from`), at most [`MAX_DELAY_SLOTS`] ago, and end with the last before `whole_until`.
    pub(crate) fn slots(&self, heard_from: Micros, whole_until: Micros) -> (Vec<DelaySlot>, Timestamp) {
        let width = micros(GATEWAY_SLOT);
        let end = whole_until.div_euclid(width);
        let most = MAX_DELAY_SLOTS as i64;
        // The slot in which the first window began was not heard whole.
        let first = (heard_from + width - 1).div_euclid(width).max(end - most).max(0);
        let mut slots: Vec<DelaySlot> = Vec::with_capacity(usize::try_from(end - first).unwrap_or(0));
        let from = self.slots.partition_point(|(index, _)| *index < first);
        let mut next = first;
        for (index, slot) in self.slots.range(from..).take_while(|(index, _)| *index < end) {
            slots.extend((next..*index).map(|_| DelaySlot::default()));
            slots.push(slot.given());
            next = index + 1;
        }
        slots.extend((next..end).map(|_| DelaySlot::default()));
        let end_us = u64::try_from(end.saturating_mul(width)).unwrap_or(0);
        (
            slots,
            Timestamp::from_start(std::time::Duration::from_micros(end_us)),
        )
    }
}

// === impl UserSlot ===

impl UserSlot {
    fn given(&self) -> DelaySlot {
        let middles = || {
            let middle = |bucket: usize| lowest_us(bucket).midpoint(highest_us(bucket));
            let buckets = self.data.buckets.iter();
            // At most 60 s: 32 bits hold any middle.
            buckets
                .map(|(bucket, n)| (middle(usize::from(*bucket)) as u32, *n))
                .collect()
        };
        DelaySlot {
            count: self.data.count,
            sum_us: self.data.sum_us,
            buckets: self.given.get_or_init(middles).clone(),
        }
    }
}
