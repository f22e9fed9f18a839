//! The users of an edge: their requests, delays and failures, and what a snapshot says of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::world::{CLOUD, area};
use crate::cluster::RoutingPlan;
use crate::decide::routes;
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::{
    CallStats, Caller, Coverage, DelaySlot, DelayStats, EdgeSnapshot, MAX_DELAY_SLOTS, Measured,
    OutcomeCounts, ReceivedStats, Snapshot,
};

pub(super) const TICK: Duration = Duration::from_millis(500);
pub(super) const SLOTS: usize = 8;
const BASE_MS: f64 = 20.0;
/// What each request takes inside each instance, as its proxy says.
const INSIDE_US: u64 = 10_000;
/// Caller, callee, calls per request of the caller.
const CALLS: [(&str, &str, f64); 4] = [
    ("user", "front", 1.0),
    ("front", "cart", 1.0),
    ("front", "ads", 0.2),
    ("cart", "db", 0.3),
];
pub(super) const SERVICES: [&str; 4] = ["front", "cart", "ads", "db"];

type Key = (Caller, ServiceName, AreaName);

#[derive(Clone, Debug, Default)]
struct Slot {
    users: f64,
    delay_ms: f64,
    calls: BTreeMap<Key, (u64, u64)>,
}

/// What can be wrong with an edge.
#[derive(Clone, Debug)]
pub(super) struct EdgeWorld {
    pub(super) rtt_ms: f64,
    pub(super) rate: f64,
    pub(super) silent: bool,
    /// Delay that each instance at the edge adds, unknown to the planner.
    pub(super) slow_ms: f64,
    /// Share of requests that fail at the edge's instances.
    pub(super) edge_errors: f64,
    /// Share of requests that fail at the cloud's instances.
    pub(super) cloud_errors: f64,
    /// Share of user requests that fail wherever they go.
    pub(super) user_errors: f64,
    /// Instances take this long; `None`: for ever.
    pub(super) ready_after: Option<Duration>,
    /// The longest request of every service.
    pub(super) longest_ms: f64,
    /// Instances of these are never Ready.
    pub(super) never_ready: BTreeSet<&'static str>,
    slots: VecDeque<Slot>,
    /// What users waited, as long as evidence looks back.
    delays: VecDeque<DelaySlot>,
    carry: BTreeMap<Key, f64>,
}

impl Default for EdgeWorld {
    fn default() -> Self {
        Self {
            rtt_ms: 60.0,
            rate: 200.0,
            silent: false,
            slow_ms: 0.0,
            edge_errors: 0.0,
            cloud_errors: 0.0,
            user_errors: 0.0,
            ready_after: Some(Duration::from_secs(2)),
            longest_ms: 500.0,
            never_ready: BTreeSet::new(),
            slots: VecDeque::new(),
            delays: VecDeque::new(),
            carry: BTreeMap::new(),
        }
    }
}

impl EdgeWorld {
    /// Mean delay with these shares at the edge; the planner's model has nothing slow.
    pub(super) fn model_ms(&self, share: impl Fn(&str) -> f64, slow_ms: f64) -> f64 {
        let mut here = BTreeMap::from([("user", 1.0)]);
        let mut delay = BASE_MS;
        for (caller, callee, calls) in CALLS {
            let made = here.get(caller).copied().unwrap_or(0.0) * calls;
            let stays = made * share(callee);
            *here.entry(callee).or_insert(0.0) += stays;
            delay += (made - stays) * self.rtt_ms + stays * slow_ms;
        }
        delay
    }

    /// Delay of the last tick.
    pub(super) fn now_ms(&self) -> f64 {
        self.slots.back().map_or(0.0, |slot| slot.delay_ms)
    }

    /// One tick of one edge's users.
    pub(super) fn serve(&mut self, name: &AreaName, routing: &RoutingPlan, factor: f64) {
        let share = |s: &str| f64::from(routes::share(routing, &s.into(), name)) / 100.0;
        let mut slot = Slot {
            delay_ms: self.model_ms(share, self.slow_ms) * factor,
            ..Slot::default()
        };
        slot.users = self.rate * TICK.as_secs_f64();
        // Requests that an area receives a tick.
        let mut at: BTreeMap<(&str, AreaName), f64> = BTreeMap::from([(("user", name.clone()), slot.users)]);
        for (caller, callee, calls) in CALLS {
            for here in [name.clone(), area(CLOUD)] {
                if caller == "user" && here != *name {
                    continue;
                }
                let made = at.get(&(caller, here.clone())).copied().unwrap_or(0.0) * calls;
                let stays = if here == *name { made * share(callee) } else { 0.0 };
                for (there, requests) in [(name.clone(), stays), (area(CLOUD), made - stays)] {
                    *at.entry((callee, there.clone())).or_insert(0.0) += requests;
                    let caller = match caller {
                        "user" => Caller::User { edge: name.clone() },
                        service => Caller::Instance {
                            service: service.into(),
                            area: here.clone(),
                        },
                    };
                    let key = (caller, callee.into(), there.clone());
                    let carry = self.carry.entry(key.clone()).or_insert(0.0);
                    *carry += requests;
                    let count = carry.floor();
                    *carry -= count;
                    let fail = if there == *name {
                        self.edge_errors
                    } else {
                        self.cloud_errors
                    };
                    slot.calls
                        .insert(key, (whole(count), whole((count * fail).round())));
                }
            }
        }
        self.delays
            .push_back(delay_slot(slot.users * (1.0 - self.user_errors), slot.delay_ms));
        if self.delays.len() > MAX_DELAY_SLOTS {
            self.delays.pop_front();
        }
        self.slots.push_back(slot);
        while self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
    }

    /// What was measured at `at`, without the other edges.
    pub(super) fn measure(&self, name: &AreaName, snapshot: &mut Snapshot) {
        snapshot.edges.insert(name.clone(), self.snapshot(snapshot.at));
        if self.silent {
            return;
        }
        let mut calls: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
        for (key, (requests, errors)) in self.slots.iter().flat_map(|slot| &slot.calls) {
            let sum = calls.entry(key.clone()).or_default();
            *sum = (sum.0 + requests, sum.1 + errors);
        }
        for ((caller, callee, at), (requests, errors)) in calls.into_iter().filter(|(_, (n, _))| *n > 0) {
            let outcomes = outcomes(requests, errors);
            snapshot.received.push(ReceivedStats {
                service: callee.clone(),
                area: at.clone(),
                outcomes,
                timed: outcomes.ok,
                sum_us: outcomes.ok * INSIDE_US,
                response_bytes: 0,
                longest_us: whole(self.longest_ms * 1e3),
                long_in_hour: self.longest_ms > 60e3,
            });
            snapshot.calls.push(CallStats {
                caller,
                callee,
                callee_area: Some(at),
                outcomes,
                timed: outcomes.ok,
                sum_us: 0,
                response_bytes: 0,
            });
        }
    }

    fn snapshot(&self, at: Timestamp) -> EdgeSnapshot {
        let users: f64 = self.slots.iter().map(|slot| slot.users).sum();
        let window_s = TICK.as_secs_f64() * f64::from(u32::try_from(SLOTS).unwrap());
        let silence = Duration::from_secs(9);
        let count = whole(users);
        let errors = whole(users * self.user_errors);
        let user_delay = if self.silent {
            Measured::Stale { age: silence }
        } else if count == 0 {
            Measured::Idle
        } else {
            Measured::Present {
                value: self.delay(count - errors),
            }
        };
        let report_age = if self.silent {
            Measured::Stale { age: silence }
        } else {
            Measured::Present { value: TICK }
        };
        EdgeSnapshot {
            user_delay,
            outcomes: outcomes(count, errors),
            rate_rps: users / window_s,
            rtt: Measured::Present {
                value: Duration::from_secs_f64(self.rtt_ms / 1e3),
            },
            report_age,
            slots: self.delays.iter().cloned().collect(),
            slots_end: at,
            coverage: Coverage::default(),
        }
    }

    fn delay(&self, count: u64) -> DelayStats {
        let slots: Vec<f64> = self.slots.iter().map(|slot| slot.delay_ms * 1e3).collect();
        let n = f64::from(u32::try_from(slots.len()).unwrap());
        let mean_us = slots.iter().sum::<f64>() / n;
        let value = whole(mean_us);
        DelayStats {
            count,
            mean_us,
            p50_us: value,
            p90_us: value,
            p95_us: value,
            p99_us: value,
        }
    }
}

/// Requests that all took as long.
pub(super) fn delay_slot(requests: f64, ms: f64) -> DelaySlot {
    let (count, us) = (whole(requests), whole(ms * 1e3));
    let bucket = (u32::try_from(us).unwrap(), u32::try_from(count).unwrap());
    DelaySlot {
        count,
        sum_us: count * us,
        buckets: [bucket].into_iter().filter(|(_, n)| *n > 0).collect(),
    }
}

fn outcomes(requests: u64, errors: u64) -> OutcomeCounts {
    OutcomeCounts {
        ok: requests - errors,
        server_error: errors,
        ..OutcomeCounts::default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
