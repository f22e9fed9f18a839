//! Merges slots into one dated view.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use gma_core::ids::{AreaName, Timestamp};
use gma_core::snapshot::{
    CallStats, Coverage, DelayStats, EdgeSnapshot, Measured, OutcomeCounts, ReceivedStats, Snapshot,
};
use gma_report::Outcome;
use gma_report::histogram::{BUCKETS, highest_us, lowest_us};

use crate::index::{AreaIx, CallerIx, Index, SeriesKey, Side};
use crate::ring::{self, GATEWAY_SLOT, Micros, Ring, Span};
use crate::slot::Data;

/// Shortest window for a round trip, and the samples that it must hold.
const RTT_LEAST_WINDOW: Duration = Duration::from_secs(4);
const RTT_LEAST_SAMPLES: u64 = 8;

/// Where the window holds fewer samples it is grown up to this: a single gateway VM that waits 0.5 s
/// after each answer gives fewer than 8 in 4 s.
const RTT_MOST_WINDOW: Duration = Duration::from_secs(30);

/// When an area's proxies were heard. One for each area of the directory.
#[derive(Debug, Default)]
pub(crate) struct EdgeSignals {
    /// Newest end of a gateway's window.
    newest_end: Option<Micros>,
    /// Oldest start of a gateway's window.
    first_start: Option<Micros>,
    /// By slot of 0.5 s: samples, and the smallest.
    round_trips: VecDeque<(i64, u64, Duration)>,
    round_trip_samples: u64,
}

impl EdgeSignals {
    pub(crate) fn add_gateway_window(&mut self, span: Span) {
        self.newest_end = self.newest_end.max(Some(span.end));
        self.first_start = Some(self.first_start.map_or(span.start, |first| first.min(span.start)));
    }

    pub(crate) fn add_round_trip(&mut self, sample: Duration, now: Timestamp) {
        self.round_trip_samples += 1;
        let slot = ring::first_of(GATEWAY_SLOT, now, Duration::ZERO);
        match self.round_trips.back_mut() {
            Some((newest, samples, smallest)) if *newest >= slot => {
                *samples += 1;
                *smallest = sample.min(*smallest);
            }
            _ => self.round_trips.push_back((slot, 1, sample)),
        }
        let oldest = ring::oldest(GATEWAY_SLOT, now);
        while self
            .round_trips
            .front()
            .is_some_and(|(slot, _, _)| *slot < oldest)
        {
            self.round_trips.pop_front();
        }
    }

    fn rtt(&self, now: Timestamp, window: Duration) -> Measured<Duration> {
        let Some((newest, _, _)) = self.round_trips.back() else {
            return Measured::NotYet;
        };
        let first = ring::first_of(GATEWAY_SLOT, now, window.max(RTT_LEAST_WINDOW));
        let limit = ring::first_of(GATEWAY_SLOT, now, window.max(RTT_MOST_WINDOW));
        let (mut samples, mut smallest) = (0, Duration::MAX);
        for (slot, count, sample) in self.round_trips.iter().rev() {
            if *slot < limit || (*slot < first && samples >= RTT_LEAST_SAMPLES) {
                break;
            }
            samples += count;
            smallest = smallest.min(*sample);
        }
        if *newest >= first && samples >= RTT_LEAST_SAMPLES {
            Measured::Present { value: smallest }
        } else if self.round_trip_samples < RTT_LEAST_SAMPLES {
            Measured::NotYet
        } else {
            let width = ring::micros(GATEWAY_SLOT);
            Measured::Stale {
                age: age(ring::at(now), newest.saturating_mul(width)),
            }
        }
    }
}

fn age(now: Micros, then: Micros) -> Duration {
    Duration::from_micros(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

/// What users of one edge saw.
#[derive(Debug, Default)]
struct Users {
    outcomes: OutcomeCounts,
    timed: Data,
    /// Timed requests and the sum of their durations by slot, ascending.
    slots: BTreeMap<i64, (u64, u64)>,
}

pub(crate) fn of(
    index: &Index,
    series: &HashMap<SeriesKey, Ring>,
    signals: &BTreeMap<AreaIx, EdgeSignals>,
    now: Timestamp,
    window: Duration,
) -> Snapshot {
    let mut users: BTreeMap<AreaIx, Users> = index.edges().map(|edge| (edge, Users::default())).collect();
    let mut sides: BTreeMap<Side, (OutcomeCounts, Data)> = BTreeMap::new();
    for (key, ring) in series {
        let first = ring::first_of(ring::width(key.side), now, window);
        for (slot, data) in ring.since(first) {
            let (outcomes, timed) = sides.entry(key.side).or_default();
            count(outcomes, key.outcome, data);
            if key.outcome.is_timed() {
                timed.count = timed.count.saturating_add(data.count);
                timed.sum_us = timed.sum_us.saturating_add(data.sum_us);
                timed.response_bytes = timed.response_bytes.saturating_add(data.response_bytes);
            }
            if let Side::Call {
                caller: CallerIx::User(edge),
                ..
            } = key.side
                && let Some(users) = users.get_mut(&edge)
            {
                users.add(key.outcome, *slot, data);
            }
        }
    }
    let edge = |(ix, users): (AreaIx, Users)| {
        let none = EdgeSignals::default();
        let signals = signals.get(&ix).unwrap_or(&none);
        Some((
            index.area_name(ix)?.clone(),
            edge_snapshot(&users, signals, now, window),
        ))
    };
    let edges: BTreeMap<AreaName, EdgeSnapshot> = users.into_iter().filter_map(edge).collect();
    let (calls, received) = tables(index, sides);
    Snapshot {
        at: now,
        window,
        edges,
        calls,
        received,
        coverage: Vec::new(),
        network: Vec::new(),
    }
}

fn edge_snapshot(users: &Users, signals: &EdgeSignals, now: Timestamp, window: Duration) -> EdgeSnapshot {
    let at = ring::at(now);
    let newest_age = signals.newest_end.map(|end| age(at, end));
    let is_fresh = newest_age.is_some_and(|age| age <= window);
    let user_delay = match newest_age {
        None => Measured::NotYet,
        Some(age) if !is_fresh => Measured::Stale { age },
        Some(_) => users
            .delay()
            .map_or(Measured::Idle, |value| Measured::Present { value }),
    };
    let outcomes = users.outcomes;
    let requests = [
        outcomes.ok,
        outcomes.client_error,
        outcomes.server_error,
        outcomes.no_response,
        outcomes.cancelled,
    ]
    .into_iter()
    .fold(outcomes.long, u64::saturating_add);
    // Only the time that was reported on: the last pace is still under way.
    let start = at
        .saturating_sub(ring::micros(window))
        .max(signals.first_start.unwrap_or(at));
    let heard = age(signals.newest_end.unwrap_or(at).min(at), start).max(GATEWAY_SLOT);
    EdgeSnapshot {
        user_delay,
        outcomes,
        rate_rps: requests as f64 / heard.as_secs_f64(),
        rtt: signals.rtt(now, window),
        report_age: newest_age.map_or(Measured::NotYet, |value| {
            if is_fresh {
                Measured::Present { value }
            } else {
                Measured::Stale { age: value }
            }
        }),
        slots: Vec::new(),
        coverage: Coverage::default(),
    }
}

/// The call graph, ordered by names.
fn tables(
    index: &Index,
    sides: BTreeMap<Side, (OutcomeCounts, Data)>,
) -> (Vec<CallStats>, Vec<ReceivedStats>) {
    let (mut calls, mut received) = (Vec::new(), Vec::new());
    for (
        side,
        (
            outcomes,
            Data {
                count: timed,
                sum_us,
                response_bytes,
                ..
            },
        ),
    ) in sides
    {
        match side {
            Side::Call { caller, callee, area } => {
                let (Some(caller), Some(callee)) = (index.caller(caller), index.service_name(callee)) else {
                    continue;
                };
                let callee_area = area.and_then(|area| index.area_name(area)).cloned();
                let callee = callee.clone();
                calls.push(CallStats {
                    caller,
                    callee,
                    callee_area,
                    outcomes,
                    timed,
                    sum_us,
                    response_bytes,
                });
            }
            Side::Received { service, area } => {
                let (Some(service), Some(area)) = (index.service_name(service), index.area_name(area)) else {
                    continue;
                };
                let (service, area) = (service.clone(), area.clone());
                received.push(ReceivedStats {
                    service,
                    area,
                    outcomes,
                    timed,
                    sum_us,
                    response_bytes,
                    longest_us: 0,
                    long_in_hour: false,
                });
            }
        }
    }
    calls.sort_unstable_by(|a, b| {
        (&a.caller, &a.callee, &a.callee_area).cmp(&(&b.caller, &b.callee, &b.callee_area))
    });
    received.sort_unstable_by(|a, b| (&a.service, &a.area).cmp(&(&b.service, &b.area)));
    (calls, received)
}

fn count(outcomes: &mut OutcomeCounts, outcome: Outcome, data: &Data) {
    let field = match outcome {
        Outcome::Ok => &mut outcomes.ok,
        Outcome::ClientError => &mut outcomes.client_error,
        Outcome::ServerError => &mut outcomes.server_error,
        Outcome::NoResponse => &mut outcomes.no_response,
        Outcome::Cancelled => &mut outcomes.cancelled,
    };
    *field = field.saturating_add(data.count);
    outcomes.long = outcomes.long.saturating_add(data.long_count);
}

// === impl Users ===

impl Users {
    fn add(&mut self, outcome: Outcome, slot: i64, data: &Data) {
        count(&mut self.outcomes, outcome, data);
        if outcome.is_timed() && data.count > 0 {
            self.timed.merge(data);
            let (requests, sum_us) = self.slots.entry(slot).or_default();
            *requests = requests.saturating_add(data.count);
            *sum_us = sum_us.saturating_add(data.sum_us);
        }
    }

    fn delay(&self) -> Option<DelayStats> {
        if self.timed.count == 0 {
            return None;
        }
        let mut dense = vec![0u64; BUCKETS];
        for (bucket, count) in &self.timed.buckets {
            if let Some(sum) = dense.get_mut(usize::from(*bucket)) {
                *sum += u64::from(*count);
            }
        }
        let mean_us = self.timed.sum_us as f64 / self.timed.count as f64;
        Some(DelayStats {
            count: self.timed.count,
            mean_us,
            p50_us: quantile_us(&dense, 50),
            p90_us: quantile_us(&dense, 90),
            p95_us: quantile_us(&dense, 95),
            p99_us: quantile_us(&dense, 99),
            mean_standard_error_us: self.mean_standard_error_us(mean_us),
        })
    }

    /// Standard error of a ratio estimate (Cochran, Sampling Techniques, 6.4): the mean is the sum of
    /// durations over the sum of requests, both summed over k slots, so with n_i requests and mean m_i
    /// in slot i: sqrt(k / (k - 1) · Σ n_i² (m_i - m)²) / Σ n_i. Slots are taken as independent.
    fn mean_standard_error_us(&self, mean_us: f64) -> Option<f64> {
        let slots = self.slots.len() as f64;
        if self.slots.len() < 2 {
            return None;
        }
        let squares: f64 = self
            .slots
            .values()
            .map(|(n, sum_us)| (*sum_us as f64 - *n as f64 * mean_us).powi(2))
            .sum();
        Some((slots / (slots - 1.0) * squares).sqrt() / self.timed.count as f64)
    }
}

/// Middle of the bucket that holds the smallest value with at least `percent` of the requests at or
/// below it.
fn quantile_us(dense: &[u64], percent: u64) -> u64 {
    let all: u64 = dense.iter().sum();
    let rank = (u128::from(all) * u128::from(percent)).div_ceil(100).max(1);
    let mut below = 0u128;
    let found = dense.iter().position(|count| {
        below += u128::from(*count);
        below >= rank
    });
    found.map_or(0, |bucket| lowest_us(bucket).midpoint(highest_us(bucket)))
}
