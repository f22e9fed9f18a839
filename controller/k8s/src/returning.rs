//! Edges whose nodes were away and are back, as long as their pods are not said to be Ready again.
//!
//! When a node is lost, all of its pods are said not to be Ready. When it is back, it says so at once, and its kubelet corrects its
//! pods in its next turn, up to 10 s later. In between an edge with a Ready node has instances none of which serves, and callers
//! that report: as if all of them had failed, and they would be taken away.

use std::collections::BTreeMap;
use std::time::Duration;

use gma_core::cluster::{Cluster, Phase};
use gma_core::ids::AreaName;
use tokio::time::Instant;

/// Three turns of a kubelet: what is not Ready then has its own reason.
const TURN: Duration = Duration::from_secs(30);

/// Edges that were away, and since when they are back; bounded by the edges of a spec.
#[derive(Debug, Default)]
pub(crate) struct Returning(BTreeMap<AreaName, Option<Instant>>);

impl Returning {
    /// Takes in a look, and keeps an edge that is back unavailable until what is there is Ready, for a bounded time.
    pub(crate) fn settle(&mut self, cluster: &mut Cluster, now: Instant) {
        for edge in cluster.unavailable.keys() {
            self.0.insert(edge.clone(), None);
        }
        let Cluster {
            instances,
            unavailable,
            ..
        } = cluster;
        self.0.retain(|edge, since| {
            if unavailable.contains_key(edge) {
                return true;
            }
            let since = *since.get_or_insert(now);
            let mut there = instances.iter().filter(|instance| instance.area == *edge);
            let waits = there.any(|instance| instance.phase == Phase::Starting);
            let is_settling = waits && now.duration_since(since) < TURN;
            if is_settling {
                let why = format!("a node of {edge} is Ready again, and pods there are not yet");
                unavailable.insert(edge.clone(), why);
            }
            is_settling
        });
    }
}

#[cfg(test)]
mod tests {
    use gma_core::cluster::Instance;

    use super::*;

    fn look(is_away: bool, phase: Phase) -> Cluster {
        let edge = AreaName::from("edge-1");
        let instance = Instance {
            service: "web".into(),
            area: edge.clone(),
            phase,
            reason: None,
            replicas: 1,
            cpu_seconds: None,
            memory_bytes: None,
            autoscaler_wants: None,
        };
        let why = "no node of edge-1 is Ready".to_owned();
        Cluster {
            instances: vec![instance],
            unavailable: is_away.then_some((edge, why)).into_iter().collect(),
            ..Cluster::default()
        }
    }

    /// Whether the edge is unavailable after each of these looks, given with their second.
    fn after<const N: usize>(looks: [(u64, bool, Phase); N]) -> [bool; N] {
        let begin = Instant::now();
        let mut returning = Returning::default();
        looks.map(|(second, is_away, phase)| {
            let mut cluster = look(is_away, phase);
            returning.settle(&mut cluster, begin + Duration::from_secs(second));
            !cluster.unavailable.is_empty()
        })
    }

    #[test]
    fn an_edge_that_is_back_is_unavailable_until_its_pods_are_ready_too() {
        let looks = [
            (0, true, Phase::Ready),
            (60, true, Phase::Starting),
            (61, false, Phase::Starting),
            (71, false, Phase::Ready),
            // One that fails later fails for a reason of its own.
            (72, false, Phase::Starting),
        ];
        assert_eq!(after(looks), [true, true, true, false, false]);
    }

    #[test]
    fn that_has_an_end_and_begins_anew_when_the_edge_is_lost_again() {
        let looks = [
            (0, true, Phase::Starting),
            (1, false, Phase::Starting),
            (30, false, Phase::Starting),
            (31, false, Phase::Starting),
            (40, true, Phase::Starting),
            (41, false, Phase::Starting),
        ];
        assert_eq!(after(looks), [true, true, true, false, true, true]);
    }

    #[test]
    fn an_edge_that_was_never_away_is_as_it_is() {
        let looks = [(0, false, Phase::Starting), (1, false, Phase::Failed)];
        assert_eq!(after(looks), [false, false]);
    }
}
