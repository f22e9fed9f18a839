//! Who was seen to call a service, and at which localities its endpoints were seen: what a platform may write weights for.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_core::sightings::{Sighting, Sightings};
use gma_report::{Direction, Locality, Window};

use crate::index::{Index, ServiceIx};

/// Localities and namespaces of a service that are remembered, each. A rule can name 100 localities; past this the one that
/// was seen least lately goes.
const MOST: usize = 128;

/// What was seen of one service, and when last.
#[derive(Debug, Default)]
struct Seen {
    callers: BTreeMap<String, Timestamp>,
    localities: BTreeMap<Locality, Timestamp>,
}

/// Of all services of the directory.
#[derive(Debug, Default)]
pub(crate) struct Sighted(HashMap<ServiceIx, Seen>);

impl Sighted {
    /// Takes a window of the proxy `name` (its pod's name and namespace).
    pub(crate) fn see(&mut self, name: &str, window: &Window, index: &Index, now: Timestamp) {
        let namespace = name.rsplit_once('.').map(|(_, namespace)| namespace);
        let outbound = window
            .series
            .iter()
            .filter(|series| series.key.direction == Direction::Outbound && !series.key.overflow);
        for series in outbound {
            let Some(service) = index.managed_service(&series.key.service) else {
                continue;
            };
            let seen = self.0.entry(service).or_default();
            if let Some(namespace) = namespace {
                remember(&mut seen.callers, namespace, now);
            }
            if let Some(locality) = &series.key.destination {
                remember(&mut seen.localities, locality, now);
            }
        }
    }

    /// What was seen within `within` before `now`.
    pub(crate) fn since(&self, index: &Index, within: Duration, now: Timestamp) -> Sightings {
        let mut sightings = Sightings::new();
        for (service, seen) in &self.0 {
            let Some(name) = index.service_name(*service) else {
                continue;
            };
            let is_recent = |at: &Timestamp| now.since(*at) <= within;
            let callers = seen.callers.iter().filter(|(_, at)| is_recent(at));
            let localities = seen.localities.iter().filter(|(_, at)| is_recent(at));
            let sighting = Sighting {
                callers: callers.map(|(namespace, _)| namespace.clone()).collect(),
                localities: localities.map(|(locality, _)| locality.to_string()).collect(),
            };
            if sighting != Sighting::default() {
                sightings.insert(name.clone(), sighting);
            }
        }
        sightings
    }
}

fn remember<K, Q>(times: &mut BTreeMap<K, Timestamp>, key: &Q, now: Timestamp)
where
    K: std::borrow::Borrow<Q> + Ord + Clone,
    Q: ToOwned<Owned = K> + Ord + ?Sized,
{
    if let Some(at) = times.get_mut(key) {
        *at = now;
        return;
    }
    if times.len() >= MOST {
        let oldest = times
            .iter()
            .min_by_key(|(_, at)| **at)
            .map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            times.remove(oldest.borrow());
        }
    }
    times.insert(key.to_owned(), now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let at = |seconds| Timestamp::from_start(Duration::from_secs(seconds));
        let mut times = BTreeMap::new();
        for number in 0..MOST as u64 {
            remember(&mut times, format!("n{number}").as_str(), at(number));
        }
        remember(&mut times, "n0", at(1000));
        remember(&mut times, "new", at(1001));
        assert_eq!(times.len(), MOST);
        assert!(times.contains_key("n0") && times.contains_key("new") && !times.contains_key("n1"));
    }
}
