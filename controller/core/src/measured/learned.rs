//! How much of its calls' time each service waits for, learned from how its time changes.
//!
//! One window gives one equation, I − X = own + s·W (time inside less the slowest call = own time + s · the other calls),
//! with two unknowns. Windows with other W (another placement, a shift half done, a slower WAN) give others, and a line
//! through them gives s: weighted least squares, each window and area a point with the weight of its error.

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
/// Services that are remembered at most; further ones keep their prior. A problem of that size is far above what one
/// application has.
pub const MAX_LEARNED: usize = 10_000;

/// What was learned of each service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    counted_to: Option<Timestamp>,
    fits: BTreeMap<ServiceName, Fit>,
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
            let kept = 0.5_f64.powf(since.as_secs_f64() / HALF_LIFE.as_secs_f64());
            self.fits.values_mut().for_each(|fit| fit.fade(kept));
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
        }
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
}
