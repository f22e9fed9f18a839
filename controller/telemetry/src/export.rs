//! Cumulative classic histograms of the calls, for Prometheus.
//!
//! They start at 0 with the process and grow by what was stored, so a scrape of a new leader is a
//! counter reset and no request is in two of them.

use std::collections::HashMap;

use gma_report::histogram::{BUCKETS, highest_us, lowest_us};

use crate::index::{CallerIx, Index, SeriesKey, Side};
use crate::slot::Data;

/// Upper bounds of the buckets, ms: those of `istio_request_duration_milliseconds` without the ones
/// above 60 s, where the filter counts apart. `+Inf` follows.
pub const BOUNDS_MS: [f64; 15] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0,
    60_000.0,
];

/// The source of what a gateway sends: the row "user" of the call graph.
pub const USER: &str = "user";

/// Buckets of one series: the bounds, and `+Inf`.
const COUNTS: usize = BOUNDS_MS.len() + 1;

/// One exported histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Calling service, or [`USER`].
    pub source: String,
    /// Where the caller runs.
    pub source_area: String,
    /// Called service.
    pub destination: String,
    /// Area of the endpoint that answered; empty where none was reached or it lies in no area.
    pub destination_area: String,
    /// `ok`, `clientError`, `serverError` or `noResponse`.
    pub outcome: &'static str,
    /// Cumulative counts by [`BOUNDS_MS`]; the last is `+Inf`: all requests.
    pub counts: [u64; COUNTS],
    /// Sum of all durations, ms.
    pub sum_ms: f64,
}

#[derive(Debug)]
pub(crate) struct Export {
    /// Position in `counts` of each bucket of the wire's histograms.
    positions: Vec<u8>,
    series: HashMap<SeriesKey, Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    counts: [u64; COUNTS],
    sum_us: u64,
}

impl Export {
    pub(crate) fn new() -> Self {
        // A bucket is at most 1 % wide; the middle decides where one lies across a bound.
        let position = |bucket| {
            let middle_ms = (lowest_us(bucket) + highest_us(bucket)) as f64 / 2_000.0;
            BOUNDS_MS.partition_point(|bound| *bound < middle_ms) as u8
        };
        Self {
            positions: (0..BUCKETS).map(position).collect(),
            series: HashMap::new(),
        }
    }

    /// Adds what was stored; false where there is no room for another series (`limit`). A series is
    /// never removed: a counter must not vanish and come back.
    pub(crate) fn add(&mut self, key: SeriesKey, data: &Data, limit: usize) -> bool {
        if matches!(key.side, Side::Received { .. }) || data.buckets.is_empty() {
            return true;
        }
        if self.series.len() >= limit && !self.series.contains_key(&key) {
            return false;
        }
        let sums = self.series.entry(key).or_default();
        sums.sum_us = sums.sum_us.saturating_add(data.sum_us);
        for (bucket, count) in &data.buckets {
            let position = self
                .positions
                .get(usize::from(*bucket))
                .map(|position| usize::from(*position));
            if let Some(sum) = position.and_then(|position| sums.counts.get_mut(position)) {
                *sum = sum.saturating_add((*count).into());
            }
        }
        true
    }

    pub(crate) fn iter<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = Exported> + 'a {
        self.series.iter().filter_map(|(key, sums)| {
            let Side::Call { caller, callee, area } = key.side else {
                return None;
            };
            let (source, source_area) = match caller {
                CallerIx::User(edge) => (USER, edge),
                CallerIx::Instance(service, area) => (index.service_name(service)?.as_str(), area),
            };
            let mut counts = sums.counts;
            let mut below = 0u64;
            for count in &mut counts {
                below = below.saturating_add(*count);
                *count = below;
            }
            Some(Exported {
                source: source.to_owned(),
                source_area: index.area_name(source_area)?.to_string(),
                destination: index.service_name(callee)?.to_string(),
                destination_area: area
                    .and_then(|area| index.area_name(area))
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                outcome: key.outcome.as_str(),
                counts,
                sum_ms: sums.sum_us as f64 / 1_000.0,
            })
        })
    }
}
