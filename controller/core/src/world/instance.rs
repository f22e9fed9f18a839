//! Instances: replicas, their queue, and the autoscaler that owns their number.

use std::collections::VecDeque;
use std::time::Duration;

use super::TICK;
use crate::cluster::Phase;

/// How often an autoscaler looks (the default of kube-controller-manager's `--horizontal-pod-autoscaler-sync-period`).
const LOOK: Duration = Duration::from_secs(15);
/// A use this near to its target changes nothing (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;
/// Use over one core that is aimed at.
const TARGET: f64 = 0.6;
/// The largest count that was wanted in this time holds (the default `stabilizationWindowSeconds` of scale-down).
const STABILISATION: Duration = Duration::from_secs(300);
/// Replicas at most.
pub(super) const MOST_REPLICAS: u32 = 10;
/// A proxy takes a dead endpoint out this long after it died: outlier detection's interval, or the endpoint's removal.
const EJECTED_AFTER: Duration = Duration::from_secs(1);
/// Work that waits at an instance at most; what comes on top is answered 503 by its proxy.
const LONGEST_QUEUE_S: f64 = 2.0;
/// Weight of the newest tick in the utilisation: a mean over about a second.
const SMOOTHING: f64 = 0.25;

/// One replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica {
    /// Its sidecar's position among the proxies.
    pub(super) proxy: usize,
    pub(super) life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Life {
    /// Ready at the time; never where there is none.
    Starting(Option<Duration>),
    Ready,
    /// Dead since the first; started again at the second.
    Dead(Duration, Duration),
}

/// A service in an area.
#[derive(Clone, Debug, Default)]
pub(super) struct Instance {
    pub(super) replicas: Vec<Replica>,
    /// What own times are multiplied by.
    pub(super) slow: f64,
    /// Share of its requests that it answers with an error.
    pub(super) errors: f64,
    /// Requests of this tick.
    pub(super) arrivals: u32,
    /// CPU time since the start, seconds.
    pub(super) cpu_s: f64,
    /// Replicas that the autoscaler wants.
    pub(super) wants: Option<u32>,
    utilisation: f64,
    queue_s: f64,
    looked: Duration,
    cpu_s_then: f64,
    wanted: VecDeque<(Duration, u32)>,
}

// === impl Instance ===

impl Instance {
    /// With the replicas that its autoscaler wants at first; none: it has none.
    pub(super) fn new(now: Duration, wants: Option<u32>) -> Self {
        Self {
            slow: 1.0,
            looked: now,
            wants,
            ..Self::default()
        }
    }

    pub(super) fn ready(&self) -> usize {
        self.replicas
            .iter()
            .filter(|replica| replica.life == Life::Ready)
            .count()
    }

    pub(super) fn phase(&self) -> Phase {
        if self.ready() > 0 {
            Phase::Ready
        } else if self
            .replicas
            .iter()
            .any(|replica| matches!(replica.life, Life::Starting(_)))
        {
            Phase::Starting
        } else {
            Phase::Failed
        }
    }

    /// Whether proxies still send to this replica.
    pub(super) fn is_endpoint(replica: &Replica, now: Duration) -> bool {
        match replica.life {
            Life::Ready => true,
            Life::Starting(_) => false,
            Life::Dead(since, _) => now < since + EJECTED_AFTER,
        }
    }

    /// What waiting adds to a request's own time, microseconds: the mean wait of M/M/c (Sakasegawa, 1977) while there is
    /// room, and the queue where there is none.
    pub(super) fn wait_us(&self, cpu_us: f64) -> f64 {
        let servers = self.ready().max(1) as f64;
        let busy = self.utilisation.min(0.97);
        let wait = libm::pow(busy, libm::sqrt(2.0 * (servers + 1.0)) - 1.0) / (servers * (1.0 - busy));
        cpu_us * wait + self.queue_s * 1e6
    }

    /// Whether its queue is full.
    pub(super) fn is_full(&self) -> bool {
        self.queue_s >= LONGEST_QUEUE_S
    }

    /// Ends a tick: the queue from what arrived.
    pub(super) fn settle(&mut self, cpu_us: f64) {
        let work_s = f64::from(self.arrivals) * cpu_us / 1e6;
        let room_s = self.ready() as f64 * TICK.as_secs_f64();
        self.arrivals = 0;
        if room_s <= 0.0 {
            (self.utilisation, self.queue_s) = (0.0, 0.0);
            return;
        }
        let backlog_s = self.queue_s * self.ready() as f64 + work_s;
        self.cpu_s += backlog_s.min(room_s);
        self.queue_s = ((backlog_s - room_s).max(0.0) / self.ready() as f64).min(LONGEST_QUEUE_S);
        self.utilisation += SMOOTHING * ((work_s / room_s).min(1.0) - self.utilisation);
    }

    /// How many replicas the autoscaler wants now; none where it doesn't look.
    pub(super) fn look(&mut self, now: Duration) -> Option<u32> {
        self.wants?;
        if now < self.looked + LOOK || self.ready() == 0 {
            return None;
        }
        let seconds = (now - self.looked).as_secs_f64();
        let used = (self.cpu_s - self.cpu_s_then) / seconds / self.ready() as f64;
        (self.looked, self.cpu_s_then) = (now, self.cpu_s);
        let have = self.replicas.len() as u32;
        if self.wanted.is_empty() {
            // As kube-controller-manager does: what it finds counts as wanted.
            self.wanted.push_back((now, have));
        }
        let ratio = used / TARGET;
        let wants = if (ratio - 1.0).abs() <= TOLERANCE {
            have
        } else {
            (self.ready() as f64 * ratio)
                .ceil()
                .clamp(1.0, f64::from(MOST_REPLICAS)) as u32
        };
        self.wanted.push_back((now, wants));
        while self
            .wanted
            .front()
            .is_some_and(|(at, _)| *at + STABILISATION < now)
        {
            self.wanted.pop_front();
        }
        let held = self.wanted.iter().map(|(_, wants)| *wants).max().unwrap_or(wants);
        let wants = if wants < have { held.min(have) } else { wants };
        self.wants = Some(wants);
        Some(wants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_instance(replicas: usize) -> Instance {
        let mut instance = Instance::new(Duration::ZERO, Some(1));
        let replica = Replica {
            proxy: 0,
            life: Life::Ready,
        };
        instance.replicas = vec![replica; replicas];
        instance
    }

    /// Runs at `per_tick` requests of 2 ms until `now`; the counts that were wanted.
    fn run(instance: &mut Instance, per_tick: u32, from_s: u64, to_s: u64) -> Vec<u32> {
        let mut wanted = Vec::new();
        for tick in from_s * 4..to_s * 4 {
            instance.arrivals = per_tick;
            instance.settle(2_000.0);
            wanted.extend(instance.look(TICK * (tick as u32 + 1)));
        }
        wanted
    }

    #[test]
    fn delay_grows_with_use_and_a_full_queue_refuses() {
        let waits = [10, 60, 110].map(|per_tick| {
            let mut instance = mk_instance(1);
            run(&mut instance, per_tick, 0, 10);
            instance.wait_us(2_000.0)
        });
        assert!(
            waits[0] < 250.0 && waits[0] < waits[1] && waits[1] < waits[2],
            "{waits:?}"
        );
        let mut instance = mk_instance(1);
        run(&mut instance, 250, 0, 3);
        assert!(instance.is_full());
        run(&mut instance, 0, 3, 6);
        assert!(!instance.is_full() && instance.wait_us(2_000.0) < 100.0);
    }

    #[test]
    fn the_autoscaler_looks_each_15_s_rises_at_once_and_falls_after_5_minutes() {
        let mut instance = mk_instance(1);
        assert_eq!(run(&mut instance, 75, 0, 30), [1, 1], "use 0.6");
        assert_eq!(run(&mut instance, 110, 30, 45), [2], "use 0.88");
        let more = Replica {
            proxy: 1,
            life: Life::Ready,
        };
        instance.replicas.push(more);
        let falling = run(&mut instance, 10, 45, 420);
        let held = falling.iter().take_while(|wants| **wants == 2).count();
        assert_eq!(held, 20, "{falling:?}");
        assert_eq!(falling.last(), Some(&1));
    }
}
