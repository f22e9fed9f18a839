//! What earlier windows say of a service: how much of its calls' time it waits for, and how often it calls.
//!
//! One window gives one equation, I − X = own + s·W (time inside less the slowest call = own time + s · the other calls),
//! with two unknowns. Windows with other W (another placement, a shift half done, a slower WAN) give others, and a line
//! through them gives s: weighted least squares, each window and area a point with the weight of its error.
//!
//! A window of 4 s at 100 requests a second knows a share of calls of a half to ± 0.025; with a round trip of 140 ms that is
//! ± 3.5 ms of the delay once the caller is at an edge. A step of the delay changes no share of calls, so what was counted before
//! counts as well, as long as the window does not contradict it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::services;
use super::settings::Settings;
use super::sums::Sums;
use super::times::inside;
use crate::cluster::Cluster;
use crate::ids::{ServiceName, Timestamp};
use crate::model::{AreaIx, ServiceIx};
use crate::snapshot::Snapshot;

/// What was learned is worth half after this long: services are redeployed and change.
const HALF_LIFE: Duration = Duration::from_secs(1800);
/// Weight of the prior in units of the points': a standard deviation of 0.25 on the scale of s from 0 to 1.
const PRIOR_WEIGHT: f64 = 16.0;
/// Shares of calls follow their users: what was counted is worth half after this long.
const CALLS_HALF_LIFE: Duration = Duration::from_secs(60);
/// Standard errors between a window's calls per request and the earlier ones at which those count no more. Chance goes as far in
/// one of 100,000 comparisons, and a hundred services compare some 200 shares in each window.
const CONTRADICTION: f64 = 4.5;
/// Less than this of a call, or of a request, is forgotten.
const LEAST_CALLS: f64 = 0.1;
/// Services that are remembered at most; further ones keep their prior. A problem of that size is far above what one
/// application has.
pub const MAX_LEARNED: usize = 10_000;

/// What was learned of each service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    counted_to: Option<Timestamp>,
    fits: BTreeMap<ServiceName, Fit>,
    /// Not worth saving: a minute later all of it is known again.
    #[serde(skip)]
    calls: BTreeMap<ServiceName, Calls>,
}

/// Requests that a service received, and the calls that it made for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calls {
    pub(super) requests: f64,
    pub(super) by_callee: BTreeMap<ServiceName, f64>,
}

/// Sums of a weighted regression of I − X on W.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fit {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

// === impl Learned ===

impl Learned {
    /// Counts a window in. Of windows that overlap, only the first is counted.
    pub fn observe(&mut self, snapshot: &Snapshot, settings: &Settings) {
        if let Some(counted_to) = self.counted_to {
            let since = snapshot.at.since(counted_to);
            if since < snapshot.window {
                return;
            }
            let kept = |half_life: Duration| 0.5_f64.powf(since.as_secs_f64() / half_life.as_secs_f64());
            let (fits, calls) = (kept(HALF_LIFE), kept(CALLS_HALF_LIFE));
            self.fits.values_mut().for_each(|fit| fit.fade(fits));
            self.calls.values_mut().for_each(|row| row.fade(calls));
            self.calls.retain(|_, row| row.requests >= LEAST_CALLS);
        }
        self.counted_to = Some(snapshot.at);
        let names = services(snapshot, &Cluster::default(), settings);
        let sums = Sums::of(snapshot, settings, &names);
        for (at, name) in names.iter().enumerate() {
            let now = Fit::of_window(&sums, ServiceIx::at(at), settings.edges.len());
            let known = self.fits.contains_key(name) || self.fits.len() < MAX_LEARNED;
            if now.weight > 0.0 && known {
                self.fits.entry(name.clone()).or_default().add(&now);
            }
            let now = sums.calls_of(ServiceIx::at(at), settings.edges.len(), &names);
            let known = self.calls.contains_key(name) || self.calls.len() < MAX_LEARNED;
            if now.requests > 0.0 && known {
                let row = self.calls.entry(name.clone()).or_default();
                if now.contradicts(row) {
                    *row = Calls::default();
                }
                row.add(&now, 1.0);
            }
        }
    }

    /// The calls of a snapshot's window with what was counted before, which may hold a part of it.
    pub(super) fn with_calls(&self, name: &ServiceName, window: &Calls, of: &Snapshot) -> Calls {
        let Some(earlier) = self.calls.get(name).filter(|row| !window.contradicts(row)) else {
            return window.clone();
        };
        let since = self.counted_to.map_or(of.window, |to| of.at.since(to));
        let fresh = (since.as_secs_f64() / of.window.as_secs_f64().max(f64::MIN_POSITIVE)).min(1.0);
        let mut all = earlier.clone();
        all.add(window, fresh);
        all
    }

    /// What is known of a service with the window that ends at `at`, which may have been counted already.
    pub(super) fn with_window(&self, name: &ServiceName, window: &Fit, at: Timestamp) -> Fit {
        let mut fit = self.fits.get(name).copied().unwrap_or_default();
        if self.counted_to != Some(at) {
            fit.add(window);
        }
        fit
    }
}

// === impl Calls ===

impl Calls {
    fn add(&mut self, other: &Self, share: f64) {
        self.requests += share * other.requests;
        for (callee, calls) in &other.by_callee {
            *self.by_callee.entry(callee.clone()).or_default() += share * calls;
        }
    }

    fn fade(&mut self, kept: f64) {
        self.requests *= kept;
        self.by_callee.retain(|_, calls| {
            *calls *= kept;
            *calls >= LEAST_CALLS
        });
    }

    /// Calls per request to one service.
    fn rate(&self, callee: &ServiceName) -> f64 {
        self.by_callee
            .get(callee)
            .map_or(0.0, |calls| calls / self.requests)
    }

    /// Whether both can't be the same: by the difference of two Poisson rates, which is more than calls that are made or not
    /// vary.
    fn contradicts(&self, earlier: &Self) -> bool {
        if self.requests <= 0.0 || earlier.requests <= 0.0 {
            return true;
        }
        let spread = 1.0 / self.requests + 1.0 / earlier.requests;
        let mut callees = self.by_callee.keys().chain(earlier.by_callee.keys());
        callees.any(|callee| {
            let calls = |row: &Self| row.by_callee.get(callee).copied().unwrap_or_default();
            let rate = (calls(self) + calls(earlier)) / (self.requests + earlier.requests);
            let off = self.rate(callee) - earlier.rate(callee);
            off * off > CONTRADICTION * CONTRADICTION * rate * spread
        })
    }
}

// === impl Fit ===

impl Fit {
    /// The points of one window, one an area. The mean of n times whose standard deviation is about their mean has the
    /// variance mean² / n.
    pub(super) fn of_window(sums: &Sums, service: ServiceIx, edges: usize) -> Self {
        let mut fit = Self::default();
        for area in AreaIx::all(edges) {
            let Some(inside) = inside(sums, edges, service, Some(area)) else {
                continue;
            };
            if inside.inbound > 0.0 {
                let weight = inside.requests / (inside.inbound * inside.inbound);
                fit.point(inside.others, inside.inbound - inside.slowest, weight);
            }
        }
        fit
    }

    fn point(&mut self, x: f64, y: f64, weight: f64) {
        self.weight += weight;
        self.x += weight * x;
        self.y += weight * y;
        self.xx += weight * x * x;
        self.xy += weight * x * y;
    }

    fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.x += other.x;
        self.y += other.y;
        self.xx += other.xx;
        self.xy += other.xy;
    }

    fn fade(&mut self, kept: f64) {
        for sum in [
            &mut self.weight,
            &mut self.x,
            &mut self.y,
            &mut self.xx,
            &mut self.xy,
        ] {
            *sum *= kept;
        }
    }

    /// The slope, shrunk to the prior by its error: both weighted by 1 / variance, from 0 to 1.
    pub(super) fn shrunk(&self, prior: f64) -> f64 {
        let prior = prior.clamp(0.0, 1.0);
        if self.weight <= 0.0 {
            return prior;
        }
        let information = self.xx - self.x * self.x / self.weight;
        // Points on one spot leave a residue of rounding only.
        if information <= 1e-9 * self.xx {
            return prior;
        }
        let slope = (self.xy - self.x * self.y / self.weight) / information;
        let shrunk = (PRIOR_WEIGHT * prior + information * slope) / (PRIOR_WEIGHT + information);
        shrunk.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_one_spot_leaves_the_prior() {
        let mut fit = Fit::default();
        fit.point(10_000.0, 8_000.0, 1e-3);
        assert_eq!(fit.shrunk(0.7), 0.7);
        fit.point(110_000.0, 28_000.0, 1e-3);
        assert!((fit.shrunk(0.7) - 0.2).abs() < 1e-4, "{}", fit.shrunk(0.7));
    }

    #[test]
    fn few_requests_move_the_prior_little() {
        let mut fit = Fit::default();
        fit.point(10_000.0, 8_000.0, 1e-9);
        fit.point(20_000.0, 10_000.0, 1e-9);
        let shrunk = fit.shrunk(0.7);
        assert!((0.65..0.7).contains(&shrunk), "{shrunk}");
    }

    fn calls(requests: f64, to_db: f64) -> Calls {
        Calls {
            requests,
            by_callee: BTreeMap::from([("db".into(), to_db)]),
        }
    }

    /// What 10 s say after they were counted to `counted_to`, with 600 requests and 300 calls known before.
    fn with_earlier(window: &Calls, counted_to: Duration) -> Calls {
        let learned = Learned {
            counted_to: Some(Timestamp::from_start(counted_to)),
            calls: BTreeMap::from([("front".into(), calls(600.0, 300.0))]),
            ..Learned::default()
        };
        let snapshot = Snapshot {
            at: Timestamp::from_start(Duration::from_secs(100)),
            window: Duration::from_secs(10),
            edges: BTreeMap::new(),
            calls: Vec::new(),
            received: Vec::new(),
            coverage: Vec::new(),
            network: Vec::new(),
        };
        learned.with_calls(&"front".into(), window, &snapshot)
    }

    #[test]
    fn a_window_is_counted_with_earlier_ones_once() {
        let window = calls(100.0, 60.0);
        let after = |secs| with_earlier(&window, Duration::from_secs(secs));
        assert_eq!(after(80), calls(700.0, 360.0), "all of it is new");
        assert_eq!(after(95), calls(650.0, 330.0), "half of it is");
        assert_eq!(after(100), calls(600.0, 300.0), "none is");
    }

    /// Twice the calls a request; and a callee that nobody called before.
    #[test]
    fn a_window_that_contradicts_earlier_ones_counts_alone() {
        let more = calls(100.0, 100.0);
        assert_eq!(with_earlier(&more, Duration::from_secs(90)), more);
        let mut other = calls(100.0, 50.0);
        other.by_callee.insert("ads".into(), 20.0);
        assert_eq!(with_earlier(&other, Duration::from_secs(90)), other);
        let few = calls(10.0, 10.0);
        assert_ne!(
            with_earlier(&few, Duration::from_secs(90)),
            few,
            "10 requests don't tell"
        );
    }
}
