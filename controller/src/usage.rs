//! CPU that services use, from the growth of each instance's CPU time.
//!
//! A plan needs the CPU of a request. It is the growth over the last 5 minutes over the requests of the same
//! 5 minutes: a shorter time would take a garbage collection or an idle moment for the service's nature.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gma_core::cluster::Cluster;
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::snapshot::{ReceivedStats, Snapshot};

/// Use is averaged over this long: an autoscaler's view, not a moment's.
const WINDOW: Duration = Duration::from_secs(300);
/// Bounds the history at 60 entries.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Before that, requests that are not reported yet (a pace of 1 s) are a large part of all.
const LEAST: Duration = Duration::from_secs(10);

/// History of the CPU time of all instances.
#[derive(Debug, Default)]
pub struct CpuUsage {
    /// Instances as they were at the last sample.
    last: BTreeMap<(ServiceName, AreaName), f64>,
    /// CPU seconds by service, from the sample before to that one.
    grown: VecDeque<Grown>,
    /// CPU seconds of a request, as far as known.
    per_request: BTreeMap<ServiceName, f64>,
}

#[derive(Debug)]
struct Grown {
    from: Timestamp,
    to: Timestamp,
    seconds: BTreeMap<ServiceName, f64>,
}

// === impl CpuUsage ===

impl CpuUsage {
    /// Takes what the platform says now. Where the time has come to look at requests, says over which window that ends
    /// now: [`Self::set_requests`] wants it.
    pub fn record(&mut self, cluster: &Cluster, now: Timestamp) -> Option<Duration> {
        let newest = self.grown.back().map(|grown| grown.to);
        if newest.is_some_and(|newest| now.since(newest) < SAMPLE_EVERY) {
            return None;
        }
        let mut last = BTreeMap::new();
        let mut seconds = BTreeMap::new();
        for instance in &cluster.instances {
            let Some(cpu_seconds) = instance.cpu_seconds else {
                continue;
            };
            let key = (instance.service.clone(), instance.area.clone());
            // What an instance used before it was seen belongs to no request that was. A smaller time is another
            // process, all of whose time is new.
            let before = self.last.get(&key).copied().unwrap_or(cpu_seconds);
            let before = if cpu_seconds < before { 0.0 } else { before };
            *seconds.entry(key.0.clone()).or_insert(0.0) += cpu_seconds - before;
            last.insert(key, cpu_seconds);
        }
        self.last = last;
        self.grown.push_back(Grown {
            from: newest.unwrap_or(now),
            to: now,
            seconds,
        });
        while self
            .grown
            .front()
            .is_some_and(|grown| now.since(grown.from) > WINDOW)
        {
            self.grown.pop_front();
        }
        self.span().filter(|span| *span >= LEAST)
    }

    /// Takes what services received in the window that [`Self::record`] asked for.
    pub fn set_requests(&mut self, received: &[ReceivedStats]) {
        let requests = requests(received);
        self.per_request = self
            .seconds()
            .into_iter()
            .filter_map(|(service, seconds)| {
                let requests = requests.get(&service).filter(|requests| **requests > 0.0)?;
                Some((service, seconds / requests))
            })
            .collect();
    }

    /// Cores that the requests of a shorter window need, by service: what a request uses times their rate. Services
    /// about which too little is known are absent.
    pub fn cores(&self, snapshot: &Snapshot) -> BTreeMap<ServiceName, f64> {
        let seconds = snapshot.window.as_secs_f64();
        let requests = requests(&snapshot.received);
        self.per_request
            .iter()
            .filter(|_| seconds > 0.0)
            .filter_map(|(service, cpu)| Some((service.clone(), cpu * requests.get(service)? / seconds)))
            .collect()
    }

    /// Cores in use over the history, by service and over all areas; none before there is one.
    pub fn in_use(&self) -> BTreeMap<ServiceName, f64> {
        let span = self.span().map_or(0.0, |span| span.as_secs_f64());
        let seconds = self.seconds().into_iter();
        seconds
            .filter(|_| span > 0.0)
            .map(|(service, seconds)| (service, seconds / span))
            .collect()
    }

    fn span(&self) -> Option<Duration> {
        let (first, last) = (self.grown.front()?, self.grown.back()?);
        Some(last.to.since(first.from))
    }

    fn seconds(&self) -> BTreeMap<ServiceName, f64> {
        let mut sums = BTreeMap::new();
        for (service, seconds) in self.grown.iter().flat_map(|grown| &grown.seconds) {
            *sums.entry(service.clone()).or_insert(0.0) += seconds;
        }
        sums
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "requests of five minutes are far below 2^52"
)]
fn requests(received: &[ReceivedStats]) -> BTreeMap<ServiceName, f64> {
    let mut sums = BTreeMap::new();
    for received in received {
        *sums.entry(received.service.clone()).or_insert(0.0) += received.outcomes.total() as f64;
    }
    sums
}

#[cfg(test)]
mod tests {
    use gma_core::cluster::{Instance, Phase};
    use gma_core::snapshot::{OutcomeCounts, ReceivedStats};

    use super::*;

    fn cluster(cpu_seconds: &[(&str, f64)]) -> Cluster {
        let instance = |(area, cpu_seconds): &(&str, f64)| Instance {
            service: "cart".into(),
            area: (*area).into(),
            phase: Phase::Ready,
            reason: None,
            replicas: 1,
            cpu_seconds: Some(*cpu_seconds),
            memory_bytes: None,
            autoscaler_wants: None,
        };
        Cluster {
            instances: cpu_seconds.iter().map(instance).collect(),
            ..Cluster::default()
        }
    }

    fn snapshot(now: Timestamp, window: Duration, requests: u64) -> Snapshot {
        Snapshot {
            at: now,
            window,
            edges: BTreeMap::new(),
            calls: Vec::new(),
            received: vec![ReceivedStats {
                service: "cart".into(),
                area: "cloud".into(),
                outcomes: OutcomeCounts {
                    ok: requests,
                    ..OutcomeCounts::default()
                },
                timed: requests,
                sum_us: 0,
                response_bytes: 0,
                longest_us: 0,
                long_in_hour: false,
            }],
            coverage: Vec::new(),
            network: Vec::new(),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_secs(seconds))
    }

    /// Cores for 100 requests in 4 s, after samples each 5 s with 10 requests a second in between.
    fn cores(samples: &[&[(&str, f64)]]) -> Option<f64> {
        let mut usage = CpuUsage::default();
        let mut now = at(7);
        for sample in samples {
            now = now.after(SAMPLE_EVERY);
            if let Some(window) = usage.record(&cluster(sample), now) {
                usage.set_requests(&snapshot(now, window, 10 * window.as_secs()).received);
            }
        }
        let cores = usage.cores(&snapshot(now, Duration::from_secs(4), 100));
        cores.get(&"cart".into()).copied()
    }

    #[test]
    fn a_request_uses_what_all_instances_grew_by_over_the_requests_of_the_same_time() {
        // 0.2 CPU seconds a second, 10 requests a second: 20 ms a request; 25 a second need half a core.
        let samples: [&[_]; 3] = [
            &[("cloud", 50.0)],
            &[("cloud", 51.0)],
            &[("cloud", 51.5), ("edge-1", 8.0)],
        ];
        assert_eq!(cores(&samples[..2]), None, "5 s are too short");
        // The edge's time before it was seen is nobody's.
        assert!((cores(&samples).unwrap() - 0.375).abs() < 1e-9);
    }

    #[test]
    fn a_restart_and_an_end_lose_no_history() {
        let samples: [&[_]; 4] = [
            &[("cloud", 100.0), ("edge-1", 5.0)],
            &[("cloud", 101.0), ("edge-1", 6.0)],
            // Another process in the cloud that used 0.5 s already; the edge's is gone.
            &[("cloud", 0.5)],
            &[("cloud", 1.0)],
        ];
        // 3 s of CPU in 15 s with 150 requests.
        assert!((cores(&samples).unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_history_is_five_minutes() {
        let mut usage = CpuUsage::default();
        let window = (0..400)
            .filter_map(|second| usage.record(&cluster(&[("cloud", 2.0 * second as f64)]), at(second)));
        assert_eq!(window.last(), Some(WINDOW));
        assert!(usage.grown.len() <= 61);
        assert!((usage.in_use()[&"cart".into()] - 2.0).abs() < 1e-9);
    }

    #[test]
    fn without_requests_nothing_is_known_of_one() {
        let mut usage = CpuUsage::default();
        for second in [0, 5, 10] {
            usage.record(&cluster(&[("cloud", 1.0)]), at(second));
        }
        usage.set_requests(&snapshot(at(10), LEAST, 0).received);
        assert!(usage.cores(&snapshot(at(10), LEAST, 0)).is_empty());
    }
}
