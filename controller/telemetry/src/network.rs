//! Time that the network takes of a call: mean of the callers less mean of the callee.
//!
//! Quantiles are never subtracted: that of a difference is not the difference of two.
//!
//! The callers in area a measure oₐ on average, the callee m over all its requests, of which those of a are a share
//! s. What it took for those of a alone is not reported. The requests of others took between nothing and what their
//! callers measured, o', so a's took between (m − (1 − s)·o') / s and m / s, and between nothing and oₐ. The
//! network's time lies in oₐ less that; with one caller area (every instance at an edge) that is one value. To both
//! ends comes the error of the two means. This holds only where the callers that report explain all that the callee
//! received.

use std::collections::BTreeMap;

use gma_core::snapshot::NetworkTime;

use crate::index::{AreaIx, CallerIx, Index, ServiceIx, Side};
use crate::slot::Sums;

/// Calls without which a mean says nothing.
const LEAST_CALLS: u64 = 50;

/// The callers' count and the callee's may differ by this share: windows of different proxies end at different
/// times, and requests are under way. Half a second of 4 s on either side is 12 %; a tenth is typical of the worst.
const MOST_UNEXPLAINED: f64 = 0.1;

/// 99 % of a normal distribution, and the root of 2: the factor that neighbouring requests are alike (the least that
/// `gma_core::interval` takes for a mean).
const ERRORS: f64 = 2.576 * std::f64::consts::SQRT_2;

/// Requests with a duration: their exact sum, and by the buckets their sum and that of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timed {
    count: u64,
    sum_us: f64,
    moments: (f64, f64),
}

impl Timed {
    pub(crate) fn of(sums: &Sums) -> Self {
        Self {
            count: sums.count,
            sum_us: sums.sum_us as f64,
            // Doubled, so that the middle of a bucket is whole.
            moments: (sums.doubled as f64 / 2.0, sums.doubled_squares as f64 / 4.0),
        }
    }

    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum_us += other.sum_us;
        self.moments = (self.moments.0 + other.moments.0, self.moments.1 + other.moments.1);
    }

    fn mean(self) -> f64 {
        self.sum_us / self.count as f64
    }

    fn variance_of_mean(self) -> f64 {
        let count = self.count as f64;
        let (sum, squares) = self.moments;
        (squares / count - (sum / count).powi(2)).max(0.0) / count
    }
}

/// Network times of all calls whose callers allow it, ordered by names.
pub(crate) fn times(index: &Index, sides: impl Iterator<Item = (Side, Timed)>) -> Vec<NetworkTime> {
    let mut callers: BTreeMap<(ServiceIx, AreaIx), BTreeMap<AreaIx, Timed>> = BTreeMap::new();
    let mut received: BTreeMap<(ServiceIx, AreaIx), Timed> = BTreeMap::new();
    for (side, timed) in sides {
        match side {
            Side::Received { service, area } => received.entry((service, area)).or_default().add(timed),
            Side::Call {
                caller,
                callee,
                area: Some(area),
            } => {
                let (CallerIx::User(from) | CallerIx::Instance(_, from)) = caller;
                callers
                    .entry((callee, area))
                    .or_default()
                    .entry(from)
                    .or_default()
                    .add(timed);
            }
            Side::Call { area: None, .. } => {}
        }
    }
    let mut times = Vec::new();
    for ((callee, to), by_area) in &callers {
        let Some(callee_timed) = received.get(&(*callee, *to)) else {
            continue;
        };
        for (from, interval) in of_callee(by_area, *callee_timed) {
            let names = (
                index.area_name(from),
                index.service_name(*callee),
                index.area_name(*to),
            );
            if let (Some(from), Some(callee), Some(to)) = names {
                times.push(NetworkTime {
                    from: from.clone(),
                    callee: callee.clone(),
                    to: to.clone(),
                    ..interval
                });
            }
        }
    }
    times.sort_unstable_by(|a, b| (&a.from, &a.callee, &a.to).cmp(&(&b.from, &b.callee, &b.to)));
    times
}

/// By area of the callers; the names are left empty.
fn of_callee(by_area: &BTreeMap<AreaIx, Timed>, callee: Timed) -> Vec<(AreaIx, NetworkTime)> {
    let mut all = Timed::default();
    by_area.values().for_each(|timed| all.add(*timed));
    let received = callee.count as f64;
    if callee.count < LEAST_CALLS || (all.count as f64 - received).abs() > MOST_UNEXPLAINED * received {
        return Vec::new();
    }
    let of_area = |(from, timed): (&AreaIx, &Timed)| {
        if timed.count < LEAST_CALLS {
            return None;
        }
        let share = timed.count as f64 / all.count as f64;
        let others = all.count - timed.count;
        let others_us = if others == 0 {
            0.0
        } else {
            (all.sum_us - timed.sum_us) / others as f64
        };
        let (there, here) = (timed.mean(), callee.mean());
        let least = ((here - (1.0 - share) * others_us) / share).clamp(0.0, there.max(0.0));
        let most = (here / share).min(there);
        let error = ERRORS * (timed.variance_of_mean() + callee.variance_of_mean() / share.powi(2)).sqrt();
        let (low_us, high_us) = (
            (there - most - error).max(0.0),
            (there - least + error).min(there),
        );
        // An interval from nothing to the whole call says nothing.
        let says_something = low_us > 0.0 || high_us < there;
        says_something.then(|| {
            let time = NetworkTime {
                from: "".into(),
                callee: "".into(),
                to: "".into(),
                mean_us: (there - here).clamp(low_us, high_us.max(low_us)),
                low_us,
                high_us: high_us.max(low_us),
                calls: timed.count,
            };
            (*from, time)
        })
    };
    by_area.iter().filter_map(of_area).collect()
}
