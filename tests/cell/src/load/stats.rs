//! What a load generator has seen.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time that is told apart, an hour; above the timeout of any request.
const MAX_US: u64 = 3_600_000_000;
/// 0.1 %: finer than two runs agree.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Seconds of a timeline, a day; what follows is added to the last one.
const MAX_SECONDS: usize = 86_400;
/// The "last second" in slots of 100 ms.
const RECENT_SLOTS: u64 = 10;
const RECENT_SLOT_MS: u64 = 100;

/// Times of requests, 1 µs … 1 h.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
    sum_us: u64,
}

/// Figures of some requests' times, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Summary {
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// The requests that were due in one second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Second {
    /// Seconds since the start.
    pub second: u64,
    /// Answered below 400.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Sum of the ok ones' latencies, µs.
    pub latency_sum_us: u64,
    /// The slowest ok one, µs.
    pub latency_max_us: u64,
}

/// The result of an open loop.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked.
    pub url: String,
    /// The rate that was asked for, requests a second.
    pub rate_per_sec: f64,
    /// First request due to last one due, or to the call to stop, s.
    pub seconds: f64,
    /// Requests that were tried: `ok` and all of `failed`.
    pub sent: u64,
    /// Answered below 400.
    pub ok: u64,
    /// By kind: `connect`, `reset`, `timeout`, `malformed`, `status_NNN`.
    pub failed: BTreeMap<String, u64>,
    /// All answers.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that fell due and were not tried: the server was too far behind at the end.
    pub unsent: u64,
    /// Connections beyond the first of each slot.
    pub reconnects: u64,
    /// From when a request was due, ok ones only.
    pub latency_ms: Summary,
    /// From when it was sent, ok ones only.
    pub service_time_ms: Summary,
    /// By the second in which requests were due.
    pub timeline: Vec<Second>,
}

/// How one request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// From the start of the run.
    pub(super) due: Duration,
    pub(super) sent: Duration,
    pub(super) done: Duration,
    pub(super) outcome: Result<u16, &'static str>,
}

/// Everything that is counted while a run goes on.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    pub(super) ok: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) unsent: u64,
    pub(super) reconnects: u64,
    pub(super) latency: Latencies,
    pub(super) service_time: Latencies,
    pub(super) timeline: Vec<Second>,
    recent: Recent,
}

/// Latencies of the ok requests that ended in the last second.
#[derive(Debug, Clone, Default)]
struct Recent {
    /// (number of the slot since the start, requests, sum in µs)
    slots: [(u64, u64, u64); RECENT_SLOTS as usize],
}

// === impl Latencies ===

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// No request yet.
    #[expect(clippy::expect_used, reason = "constant bounds, which the tests try")]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_US, SIGNIFICANT_DIGITS).expect("valid bounds");
        Self { histogram, sum_us: 0 }
    }

    /// Adds a request.
    pub fn record(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(1, MAX_US);
        self.histogram.saturating_record(us);
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Adds all requests of another.
    pub fn add(&mut self, other: &Self) {
        // Cannot fail: the bounds are the same.
        if self.histogram.add(&other.histogram).is_ok() {
            self.sum_us = self.sum_us.saturating_add(other.sum_us);
        }
    }

    /// Requests so far.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The time below or at which `q` (0 … 1) of the requests stay; zero without requests.
    pub fn quantile(&self, q: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(q))
    }

    /// Mean, quantiles, extremes; all zero without requests.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn summary(&self) -> Summary {
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |q| ms(self.histogram.value_at_quantile(q));
        let count = self.count();
        Summary {
            count,
            mean: if count == 0 {
                0.0
            } else {
                ms(self.sum_us) / count as f64
            },
            min: if count == 0 { 0.0 } else { ms(self.histogram.min()) },
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.histogram.max()),
        }
    }
}

// === impl Second ===

impl Second {
    /// Mean latency of the ok requests, ms.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn mean_ms(&self) -> Option<f64> {
        (self.ok > 0).then(|| self.latency_sum_us as f64 / self.ok as f64 / 1_000.0)
    }
}

// === impl Report ===

impl Report {
    /// Requests that failed, of any kind.
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Mean latency, ms, of the ok requests that were due in these seconds since the start.
    pub fn mean_ms_between(&self, seconds: std::ops::Range<u64>) -> Option<f64> {
        mean_ms(
            self.timeline
                .iter()
                .filter(|second| seconds.contains(&second.second)),
        )
    }
}

/// Mean latency over several seconds, ms.
fn mean_ms<'a>(seconds: impl Iterator<Item = &'a Second>) -> Option<f64> {
    let all = seconds.fold(Second::default(), |sum, second| Second {
        ok: sum.ok + second.ok,
        latency_sum_us: sum.latency_sum_us + second.latency_sum_us,
        ..sum
    });
    all.mean_ms()
}

// === impl Stats ===

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            ok: 0,
            failed: BTreeMap::new(),
            statuses: BTreeMap::new(),
            unsent: 0,
            reconnects: 0,
            latency: Latencies::new(),
            service_time: Latencies::new(),
            timeline: Vec::new(),
            recent: Recent::default(),
        }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        let latency = sample.done.saturating_sub(sample.due);
        let second = self.second_of(sample.due);
        if let Ok(status) = sample.outcome {
            *self.statuses.entry(status).or_default() += 1;
        }
        match sample.outcome {
            Ok(status) if status < 400 => {
                self.ok += 1;
                self.latency.record(latency);
                self.service_time.record(sample.done.saturating_sub(sample.sent));
                let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.recent.add(sample.done, us);
                if let Some(second) = self.timeline.get_mut(second) {
                    second.ok += 1;
                    second.latency_sum_us += us;
                    second.latency_max_us = second.latency_max_us.max(us);
                }
            }
            other => {
                let kind = other.map_or_else(str::to_owned, |status| format!("status_{status}"));
                *self.failed.entry(kind).or_default() += 1;
                if let Some(second) = self.timeline.get_mut(second) {
                    second.failed += 1;
                }
            }
        }
    }

    pub(super) fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Mean latency of the ok requests that ended in the second before `now`.
    pub(super) fn mean_of_last_second(&self, now: Duration) -> Option<Duration> {
        self.recent.mean(now)
    }

    /// Ordinal of the second, which exists afterwards.
    fn second_of(&mut self, due: Duration) -> usize {
        let ix = usize::try_from(due.as_secs())
            .unwrap_or(usize::MAX)
            .min(MAX_SECONDS - 1);
        while self.timeline.len() <= ix {
            let second = self.timeline.len() as u64;
            self.timeline.push(Second {
                second,
                ..Second::default()
            });
        }
        ix
    }
}

// === impl Recent ===

impl Recent {
    fn add(&mut self, done: Duration, us: u64) {
        let number = slot_of(done);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.0 == number) {
            slot.1 += 1;
            slot.2 += us;
        } else if let Some(oldest) = self.slots.iter_mut().min_by_key(|slot| slot.0) {
            *oldest = (number, 1, us);
        }
    }

    fn mean(&self, now: Duration) -> Option<Duration> {
        let now = slot_of(now);
        let fresh = self.slots.iter().filter(|slot| slot.0 + RECENT_SLOTS > now);
        let (count, sum) = fresh.fold((0, 0), |(count, sum), slot| (count + slot.1, sum + slot.2));
        (count > 0).then(|| Duration::from_micros(sum / count))
    }
}

fn slot_of(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX) / RECENT_SLOT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(due_ms: u64, sent_ms: u64, done_ms: u64, outcome: Result<u16, &'static str>) -> Sample {
        let at = Duration::from_millis;
        Sample {
            due: at(due_ms),
            sent: at(sent_ms),
            done: at(done_ms),
            outcome,
        }
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let mut stats = Stats::new();
        stats.add(sample(0, 0, 10, Ok(200)));
        stats.add(sample(1_500, 2_400, 2_500, Ok(302)));
        stats.add(sample(1_600, 1_600, 1_700, Ok(503)));
        stats.add(sample(1_700, 1_700, 1_900, Err("reset")));
        assert_eq!((stats.ok, stats.failed_total()), (2, 2));
        assert_eq!(
            stats.failed,
            BTreeMap::from([("reset".to_owned(), 1), ("status_503".to_owned(), 1)])
        );
        assert_eq!(stats.statuses, BTreeMap::from([(200, 1), (302, 1), (503, 1)]));
        let (latency, service) = (stats.latency.summary(), stats.service_time.summary());
        assert_eq!((latency.count, latency.mean), (2, 505.0));
        assert_eq!(service.mean, 55.0);
        assert_eq!(stats.timeline.len(), 2);
        assert_eq!((stats.timeline[1].ok, stats.timeline[1].failed), (1, 2));
        assert_eq!(stats.timeline[1].mean_ms(), Some(1_000.0));
        assert_eq!(Second::default().mean_ms(), None);
    }

    #[test]
    fn the_last_second_forgets_what_is_older() {
        let mut stats = Stats::new();
        stats.add(sample(0, 0, 100, Ok(200)));
        stats.add(sample(900, 900, 1_000, Ok(200)));
        stats.add(sample(700, 900, 1_000, Ok(200)));
        let mean = |ms| {
            stats
                .mean_of_last_second(Duration::from_millis(ms))
                .map(|mean| mean.as_millis())
        };
        assert_eq!(mean(1_050), Some(166));
        assert_eq!(mean(1_150), Some(200));
        assert_eq!(mean(3_000), None);
    }

    #[test]
    fn no_request_is_no_figure() {
        let summary = Latencies::new().summary();
        assert_eq!(
            (summary.count, summary.mean, summary.p99, summary.max),
            (0, 0.0, 0.0, 0.0)
        );
    }
}
