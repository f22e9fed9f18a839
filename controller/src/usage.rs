//! CPU in use, from the growth of each instance's CPU time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gma_core::cluster::Cluster;
use gma_core::ids::{AreaName, ServiceName, Timestamp};

/// Use is averaged over this long: an autoscaler's view, not a moment's.
const WINDOW: Duration = Duration::from_secs(300);
/// One sample a second bounds the history at 300 samples an instance.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// History of the CPU time of each instance.
#[derive(Debug, Default)]
pub struct CpuUsage {
    samples: BTreeMap<(ServiceName, AreaName), VecDeque<(Timestamp, f64)>>,
}

impl CpuUsage {
    /// Takes what the platform says now. Instances that are gone are forgotten.
    pub fn record(&mut self, cluster: &Cluster, now: Timestamp) {
        let mut seen = BTreeMap::new();
        for instance in &cluster.instances {
            let Some(cpu_seconds) = instance.cpu_seconds else {
                continue;
            };
            let key = (instance.service.clone(), instance.area.clone());
            let mut history = self.samples.remove(&key).unwrap_or_default();
            // A smaller time is another process: the old history says nothing of it.
            if history.back().is_some_and(|&(_, last)| cpu_seconds < last) {
                history.clear();
            }
            if history
                .back()
                .is_none_or(|&(at, _)| now.since(at) >= SAMPLE_EVERY)
            {
                history.push_back((now, cpu_seconds));
            }
            while history.front().is_some_and(|&(at, _)| now.since(at) > WINDOW) {
                history.pop_front();
            }
            seen.insert(key, history);
        }
        self.samples = seen;
    }

    /// Cores in use by each service, over all areas; services without two samples are absent.
    pub fn cores(&self) -> BTreeMap<ServiceName, f64> {
        let mut cores = BTreeMap::new();
        for ((service, _), history) in &self.samples {
            if let (Some(&(first, from)), Some(&(last, to))) = (history.front(), history.back()) {
                let seconds = last.since(first).as_secs_f64();
                if seconds > 0.0 {
                    *cores.entry(service.clone()).or_insert(0.0) += (to - from) / seconds;
                }
            }
        }
        cores
    }
}

#[cfg(test)]
mod tests {
    use gma_core::cluster::{Instance, Phase};

    use super::*;

    fn cluster(cpu_seconds: f64) -> Cluster {
        Cluster {
            instances: vec![Instance {
                service: "cart".into(),
                area: "cloud".into(),
                phase: Phase::Ready,
                reason: None,
                replicas: 1,
                cpu_seconds: Some(cpu_seconds),
                memory_bytes: None,
                autoscaler_wants: None,
            }],
            ..Cluster::default()
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn use_is_the_growth_over_time() {
        let mut usage = CpuUsage::default();
        usage.record(&cluster(1.0), at(0));
        assert!(usage.cores().is_empty());
        usage.record(&cluster(3.0), at(4));
        assert_eq!(usage.cores()[&"cart".into()], 0.5);
    }

    #[test]
    fn a_new_process_starts_a_new_history() {
        let mut usage = CpuUsage::default();
        usage.record(&cluster(100.0), at(0));
        usage.record(&cluster(1.0), at(10));
        usage.record(&cluster(2.0), at(20));
        assert_eq!(usage.cores()[&"cart".into()], 0.1);
    }
}
