//! The longest request that each service took in the last hour: what a drain waits for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_core::snapshot::ReceivedStats;
use gma_report::histogram::highest_us;

use crate::index::{AreaIx, Index, ServiceIx, Side};
use crate::slot::Data;

/// An hour is this many parts: what is forgotten is at most one part older than an hour.
const PARTS: u64 = 12;
const PART: Duration = Duration::from_secs(300);

/// By service and area; as many as there are series of received requests, which are bounded.
#[derive(Debug, Default)]
pub(crate) struct Longest(BTreeMap<(ServiceIx, AreaIx), VecDeque<Part>>);

/// A part of an hour.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: u64,
    us: u64,
    /// One was too long to be measured.
    long: bool,
}

// === impl Longest ===

impl Longest {
    pub(crate) fn add(&mut self, side: Side, data: &Data, now: Timestamp) {
        let Side::Received { service, area } = side else {
            return;
        };
        let top = data.buckets.last();
        let us = top.map_or(0, |(bucket, _)| highest_us(usize::from(*bucket)));
        let (number, long) = (part(now), data.long_count > 0);
        let parts = self.0.entry((service, area)).or_default();
        match parts.back_mut() {
            Some(newest) if newest.number == number => {
                newest.us = newest.us.max(us);
                newest.long |= long;
            }
            _ => parts.push_back(Part { number, us, long }),
        }
    }

    /// Forgets what is older than an hour.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let oldest = part(now).saturating_sub(PARTS);
        self.0.retain(|_, parts| {
            while parts.front().is_some_and(|first| first.number < oldest) {
                parts.pop_front();
            }
            !parts.is_empty()
        });
    }

    /// Writes it to what was received; `received` is ordered by service and area.
    pub(crate) fn fill(&self, index: &Index, received: &mut [ReceivedStats]) {
        for ((service, area), parts) in &self.0 {
            let (Some(service), Some(area)) = (index.service_name(*service), index.area_name(*area)) else {
                continue;
            };
            let found =
                received.binary_search_by(|stats| (&stats.service, &stats.area).cmp(&(service, area)));
            if let Some(stats) = found.ok().and_then(|at| received.get_mut(at)) {
                stats.longest_us = parts.iter().map(|part| part.us).max().unwrap_or(0);
                stats.long_in_hour = parts.iter().any(|part| part.long);
            }
        }
    }
}

fn part(now: Timestamp) -> u64 {
    now.since_start().as_secs() / PART.as_secs()
}
