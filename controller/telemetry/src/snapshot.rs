//! Merges slots into one dated view.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gma_core::ids::{AreaName, Timestamp};
use gma_core::snapshot::{
    CallStats, Coverage, DelayStats, EdgeSnapshot, Measured, OutcomeCounts, ReceivedStats, ServiceCoverage,
    Snapshot,
};
use gma_report::Outcome;
use gma_report::histogram::{BUCKETS, highest_us, lowest_us};

use crate::coverage::{Covered, Proxies};
use crate::index::{AreaIx, CallerIx, Index, SeriesKey, Side};
use crate::network::{self, Timed};
use crate::ring::{self, GATEWAY_SLOT, Micros, Ring, Span};
use crate::slot::{Data, Sums};
use crate::users::Users;

/// Shortest window for a round trip, and the samples that it must hold. A single gateway VM that waits 0.5 s after each answer
/// gives 4 in 4 s up to a round trip of 0.4 s. With more it would still be the old round trip that is known when a step of it has
/// been seen in the delay, 5 s after.
const RTT_LEAST_WINDOW: Duration = Duration::from_secs(4);
const RTT_LEAST_SAMPLES: u64 = 4;

/// Where the window holds fewer samples it is grown up to this.
const RTT_MOST_WINDOW: Duration = Duration::from_secs(30);

/// When an area's proxies were heard. One for each area of the directory.
#[derive(Debug, Default)]
pub(crate) struct EdgeSignals {
    /// Newest end of a gateway's window.
    newest_end: Option<Micros>,
    /// When a gateway's window last came.
    heard: Option<Timestamp>,
    /// Oldest start of a gateway's window.
    first_start: Option<Micros>,
    /// By slot of 0.5 s: samples, and the smallest.
    round_trips: BTreeMap<i64, (u64, Duration)>,
    round_trip_samples: u64,
    /// The slot in which the last one was told.
    round_trip_told: i64,
}

impl EdgeSignals {
    pub(crate) fn add_gateway_window(&mut self, span: Span, now: Timestamp) {
        self.newest_end = self.newest_end.max(Some(span.end));
        self.heard = self.heard.max(Some(now));
        self.first_start = Some(self.first_start.map_or(span.start, |first| first.min(span.start)));
    }

    /// `sent`: when the report left that was answered after the round trip; the window of the report that tells it began then. A
    /// sidecar may tell it 10 s later.
    pub(crate) fn add_round_trip(&mut self, sample: Duration, sent: Micros, now: Timestamp) {
        self.round_trip_samples += 1;
        self.round_trip_told = ring::first_of(GATEWAY_SLOT, now, Duration::ZERO);
        let slot = sent.div_euclid(ring::micros(GATEWAY_SLOT));
        let (samples, smallest) = self.round_trips.entry(slot).or_insert((0, sample));
        *samples += 1;
        *smallest = sample.min(*smallest);
        let oldest = ring::oldest(GATEWAY_SLOT, now);
        while self
            .round_trips
            .first_key_value()
            .is_some_and(|(slot, _)| *slot < oldest)
        {
            self.round_trips.pop_first();
        }
    }

    fn rtt(&self, now: Timestamp, window: Duration) -> Measured<Duration> {
        let first = ring::first_of(GATEWAY_SLOT, now, window.max(RTT_LEAST_WINDOW));
        let limit = ring::first_of(GATEWAY_SLOT, now, window.max(RTT_MOST_WINDOW));
        let (mut samples, mut smallest) = (0, Duration::MAX);
        for (slot, (count, sample)) in self.round_trips.iter().rev() {
            if *slot < limit || (*slot < first && samples >= RTT_LEAST_SAMPLES) {
                break;
            }
            samples += count;
            smallest = smallest.min(*sample);
        }
        if self.round_trip_told >= first && samples >= RTT_LEAST_SAMPLES {
            Measured::Present { value: smallest }
        } else if self.round_trip_samples < RTT_LEAST_SAMPLES {
            Measured::NotYet
        } else {
            let width = ring::micros(GATEWAY_SLOT);
            Measured::Stale {
                age: age(ring::at(now), self.round_trip_told.saturating_mul(width)),
            }
        }
    }
}

fn age(now: Micros, then: Micros) -> Duration {
    Duration::from_micros(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

/// A gateway's counts are told this long after at most: two paces, and the way here.
const TOLD_AFTER: Duration = Duration::from_millis(1_500);

/// A gateway's VM that lags behind the others by more than this does not hold up their slots: 1.5 paces.
const MOST_LAG: Duration = Duration::from_millis(750);

/// From so many requests lately it is told how long a gateway may be silent: e^-10 is the chance that requests at
/// that rate keep away for the time of ten.
const SILENT_FOR_REQUESTS: f64 = 10.0;
const LATELY: Duration = Duration::from_secs(30);

/// Two reports of a gateway lost in a row are no silence: each is given up after 5 s and sent again 0.5 s and 1 s later (the
/// filter's timeout and back-off), half a second after the one before.
const RESENT_WITHIN: Duration = Duration::from_secs(12);

/// All that a snapshot is made of.
pub(crate) struct Sources<'a> {
    pub(crate) index: &'a Index,
    pub(crate) series: &'a HashMap<SeriesKey, Ring>,
    pub(crate) users: &'a BTreeMap<AreaIx, Users>,
    pub(crate) signals: &'a BTreeMap<AreaIx, EdgeSignals>,
    pub(crate) proxies: &'a Proxies,
    /// A VM that says nothing for so long is silent.
    pub(crate) silence: Duration,
    /// What sidecars measured is whole so long ago.
    pub(crate) lag: Duration,
}

#[derive(Debug, Default)]
struct SideSums {
    outcomes: OutcomeCounts,
    timed: Sums,
}

pub(crate) fn of(sources: &Sources<'_>, now: Timestamp, window: Duration) -> Snapshot {
    let index = sources.index;
    let mut outcomes: BTreeMap<AreaIx, OutcomeCounts> = index
        .edges()
        .map(|edge| (edge, OutcomeCounts::default()))
        .collect();
    let sides = sides(sources, now, window, &mut outcomes);
    let covered = sources.proxies.covered(now, sources.silence);
    let told = sources.proxies.told_until(ring::micros(MOST_LAG));
    let lately = ring::at(now).saturating_sub(ring::micros(LATELY));
    let busy = sources.proxies.busy_told_until(lately);
    let edge = |(ix, outcomes): (AreaIx, OutcomeCounts)| {
        let (no_signals, no_users) = (EdgeSignals::default(), Users::default());
        let signals = sources.signals.get(&ix).unwrap_or(&no_signals);
        let edge = Edge {
            outcomes,
            users: sources.users.get(&ix).unwrap_or(&no_users),
            signals,
            newest_end: busy.get(&ix).copied().or(signals.newest_end),
            told_until: told.get(&ix).copied(),
            coverage: covered.gateways.get(&ix).copied().unwrap_or_default(),
            silence: sources.silence,
        };
        Some((index.area_name(ix)?.clone(), edge.snapshot(now, window)))
    };
    let edges: BTreeMap<AreaName, EdgeSnapshot> = outcomes.into_iter().filter_map(edge).collect();
    let timed = sides.iter().map(|(side, sums)| (*side, Timed::of(&sums.timed)));
    let network = network::times(index, timed);
    let (calls, received) = tables(index, sides);
    Snapshot {
        at: now,
        window,
        edges,
        calls,
        received,
        coverage: sidecars(index, covered),
        network,
    }
}

/// What was told of each side in the window; user requests of each edge are counted into `outcomes`.
fn sides(
    sources: &Sources<'_>,
    now: Timestamp,
    window: Duration,
    outcomes: &mut BTreeMap<AreaIx, OutcomeCounts>,
) -> BTreeMap<Side, SideSums> {
    let mut sides: BTreeMap<Side, SideSums> = BTreeMap::new();
    let told = now.since(Timestamp::from_start(sources.lag));
    for (key, ring) in sources.series {
        // What sidecars say is whole only a pace later.
        let end = if key.side.is_of_user() {
            now
        } else {
            Timestamp::from_start(told)
        };
        let width = ring::width(key.side);
        let (first, last) = (
            ring::first_of(width, end, window),
            ring::first_of(width, end, Duration::ZERO),
        );
        for (_, slot) in ring.between(first, last) {
            let sums = sides.entry(key.side).or_default();
            count(&mut sums.outcomes, key.outcome, slot);
            if key.outcome.is_timed() {
                sums.timed.merge(slot);
            }
            if let Side::Call {
                caller: CallerIx::User(edge),
                ..
            } = key.side
                && let Some(outcomes) = outcomes.get_mut(&edge)
            {
                count(outcomes, key.outcome, slot);
            }
        }
    }
    sides
}

/// What every service received in the window, without what a snapshot says of users.
pub(crate) fn received(sources: &Sources<'_>, now: Timestamp, window: Duration) -> Vec<ReceivedStats> {
    let sides = sides(sources, now, window, &mut BTreeMap::new());
    tables(sources.index, sides).1
}

fn sidecars(index: &Index, covered: Covered) -> Vec<ServiceCoverage> {
    let rows = covered
        .sidecars
        .into_iter()
        .filter_map(|((service, area), coverage)| {
            Some(ServiceCoverage {
                service: index.service_name(service)?.clone(),
                area: index.area_name(area)?.clone(),
                coverage,
            })
        });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable_by(|a, b| (&a.service, &a.area).cmp(&(&b.service, &b.area)));
    rows
}

/// What is known of one edge.
struct Edge<'a> {
    outcomes: OutcomeCounts,
    users: &'a Users,
    signals: &'a EdgeSignals,
    /// Newest end of a window of a gateway's VM that sees requests; of any where none did lately.
    newest_end: Option<Micros>,
    told_until: Option<Micros>,
    coverage: Coverage,
    silence: Duration,
}

// === impl Edge ===

impl Edge<'_> {
    fn snapshot(&self, now: Timestamp, window: Duration) -> EdgeSnapshot {
        let at = ring::at(now);
        let signals = self.signals;
        let newest_age = self.newest_end.map(|end| age(at, end));
        let is_fresh = newest_age.is_some_and(|age| age <= self.patience(window));
        let is_heard = signals
            .heard
            .is_some_and(|heard| now.since(heard) <= RESENT_WITHIN);
        let user_delay = match newest_age {
            None => Measured::NotYet,
            Some(age) if !is_fresh => Measured::Stale { age },
            Some(_) => delay(&self.users.since(ring::first_of(GATEWAY_SLOT, now, window)))
                .map_or(Measured::Idle, |value| Measured::Present { value }),
        };
        // Only the time that was reported on: the last pace is still under way.
        let start = at
            .saturating_sub(ring::micros(window))
            .max(signals.first_start.unwrap_or(at));
        let end = self.whole_until(at, is_fresh).max(self.newest_end.unwrap_or(at));
        let heard = age(end.min(at), start).max(GATEWAY_SLOT);
        let (slots, slots_end) = signals.first_start.map_or_else(Default::default, |start| {
            self.users.slots(start, self.whole_until(at, is_fresh))
        });
        EdgeSnapshot {
            user_delay,
            outcomes: self.outcomes,
            rate_rps: self.outcomes.total() as f64 / heard.as_secs_f64(),
            rtt: signals.rtt(now, window),
            report_age: newest_age.map_or(Measured::NotYet, |value| {
                if is_fresh || is_heard {
                    Measured::Present { value }
                } else {
                    Measured::Stale { age: value }
                }
            }),
            slots,
            slots_end,
            coverage: self.coverage,
        }
    }

    /// How long the gateways may be silent without being taken for dead. A VM without requests only sends heartbeats;
    /// so where requests are rare, silence is what is to be expected.
    fn patience(&self, window: Duration) -> Duration {
        let Some(end) = self.newest_end else {
            return window;
        };
        let width = ring::micros(GATEWAY_SLOT);
        let first = end.saturating_sub(ring::micros(LATELY)).div_euclid(width);
        let lately = self.users.count_since(first) as f64 / LATELY.as_secs_f64();
        let gap = SILENT_FOR_REQUESTS / lately;
        let gap = Duration::try_from_secs_f64(gap).unwrap_or(self.silence);
        gap.min(self.silence).max(window)
    }

    /// Until when all requests were told.
    fn whole_until(&self, at: Micros, is_fresh: bool) -> Micros {
        // A window lies where its middle does. The next one is at least a tick (0.25 s) long, so its middle comes
        // later than this.
        let told = self.told_until.map(|end| end + ring::micros(GATEWAY_SLOT) / 4);
        // Who is expected to be silent, and is, has had no request.
        let quiet = at.saturating_sub(ring::micros(TOLD_AFTER));
        let until = if is_fresh {
            told.unwrap_or(quiet).max(quiet)
        } else {
            told.or(self.newest_end).unwrap_or(0)
        };
        until.min(at)
    }
}

/// The call graph, ordered by names.
fn tables(index: &Index, sides: BTreeMap<Side, SideSums>) -> (Vec<CallStats>, Vec<ReceivedStats>) {
    let (mut calls, mut received) = (Vec::new(), Vec::new());
    for (side, SideSums { outcomes, timed, .. }) in sides {
        let Sums {
            count: timed,
            sum_us,
            response_bytes,
            ..
        } = timed;
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

fn count(outcomes: &mut OutcomeCounts, outcome: Outcome, data: &Sums) {
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

fn delay(timed: &Data) -> Option<DelayStats> {
    if timed.count == 0 {
        return None;
    }
    let mut dense = vec![0u64; BUCKETS];
    for (bucket, count) in &timed.buckets {
        if let Some(sum) = dense.get_mut(usize::from(*bucket)) {
            *sum += u64::from(*count);
        }
    }
    Some(DelayStats {
        count: timed.count,
        mean_us: timed.sum_us as f64 / timed.count as f64,
        p50_us: quantile_us(&dense, 50),
        p90_us: quantile_us(&dense, 90),
        p95_us: quantile_us(&dense, 95),
        p99_us: quantile_us(&dense, 99),
    })
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
