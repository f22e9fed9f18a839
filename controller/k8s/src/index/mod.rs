//! What the cluster looks like, as plain values that watches keep up to date.
//!
//! A watch only calls [`Store::begin`], [`Store::listed`], [`Store::complete`], [`Store::apply`] and [`Store::delete`].
//! While a watch that had expired lists anew, the former objects stay in force; what the new list lacks goes when it is
//! complete. Values hold what is read and nothing else: of a pod a few hundred bytes.

mod objects;
mod read;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use objects::{
    Autoscaler, Deployment, InUse, Node, Owner, Placed, Pod, PodPort, Port, Service, StoredObject, Target,
};
pub(crate) use read::{INJECTED, PROXY, autoscaler, deployment, node, pod, service};

use crate::rule::Rule;

/// Objects of one kind that are kept. What is beyond is left out and said: a cluster has at most 150,000 pods, and each
/// costs less than a kilobyte here.
pub const MAX_OBJECTS: usize = 200_000;

/// Namespace (empty for what has none) and name.
pub type Key = (String, String);

/// Objects of one kind.
#[derive(Clone, Debug)]
pub struct Store<T> {
    objects: BTreeMap<Key, T>,
    /// A list that is being read; it replaces the objects when it is complete.
    listing: Option<BTreeMap<Key, T>>,
    is_listed: bool,
    /// Its definition is not installed, by the last answer.
    is_absent: bool,
    is_full: bool,
    /// Counts changes.
    version: u64,
    /// Why the watch does not work, while it does not.
    complaint: Option<String>,
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub struct Index {
    /// Nodes; their keys have no namespace.
    pub nodes: Store<Node>,
    /// Pods of all namespaces.
    pub pods: Store<Pod>,
    /// Services.
    pub services: Store<Service>,
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// Autoscalers.
    pub autoscalers: Store<Autoscaler>,
    /// Rules.
    pub rules: Store<Rule>,
    /// `EdgePlacement`s.
    pub objects: Store<StoredObject>,
    /// What pods use, by namespace and name; those alone of namespaces with an object. Bounded as pods are.
    pub in_use: BTreeMap<String, BTreeMap<String, InUse>>,
    /// Why that is not known, where it is not.
    pub no_metrics: Option<String>,
}

/// An index that watches write and the controller reads.
#[derive(Clone, Debug, Default)]
pub struct SharedIndex(Arc<Mutex<Index>>);

// === impl Store ===

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listing: None,
            is_listed: false,
            is_absent: false,
            is_full: false,
            version: 0,
            complaint: None,
        }
    }
}

impl<T> Store<T> {
    /// A list begins.
    pub fn begin(&mut self) {
        self.listing = Some(BTreeMap::new());
        self.is_full = false;
    }

    /// An object of the list.
    pub fn listed(&mut self, key: Key, value: T) {
        let listing = self.listing.get_or_insert_default();
        self.is_full |= !put(listing, key, value);
    }

    /// The list is complete.
    pub fn complete(&mut self) {
        if let Some(listing) = self.listing.take() {
            self.objects = listing;
            self.version += 1;
        }
        self.is_listed = true;
    }

    /// An object is new or has changed.
    pub fn apply(&mut self, key: Key, value: T) {
        self.is_full |= !put(&mut self.objects, key, value);
        self.version += 1;
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &Key) {
        self.objects.remove(key);
        self.version += 1;
    }

    /// The watch works (`None`), or why it does not. Whether that is news.
    pub fn complain(&mut self, complaint: Option<String>) -> bool {
        let is_news = self.complaint != complaint;
        self.complaint = complaint;
        is_news
    }

    /// Notes whether the cluster has no such kind.
    pub const fn set_absent(&mut self, is_absent: bool) {
        self.is_absent = is_absent;
    }

    /// Whether the cluster had no such kind when it was asked last.
    pub const fn is_absent(&self) -> bool {
        self.is_absent
    }

    /// Why the watch does not work now.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Whether it was listed once, so that what is not here is not there.
    pub const fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Changes when an object does.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether objects were left out: there are more than [`MAX_OBJECTS`].
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.objects.iter()
    }

    /// The objects of a namespace.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a T)> {
        let first = (namespace.to_owned(), String::new());
        self.objects
            .range(first..)
            .take_while(move |((found, _), _)| found == namespace)
            .map(|((_, name), value)| (name.as_str(), value))
    }
}

/// Whether there was room.
fn put<T>(objects: &mut BTreeMap<Key, T>, key: Key, value: T) -> bool {
    let has_room = objects.len() < MAX_OBJECTS || objects.contains_key(&key);
    if has_room {
        objects.insert(key, value);
    }
    has_room
}

// === impl Index ===

impl Index {
    /// What is not known yet, and why; empty once every kind was listed.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.lists().into_iter().filter(|(_, (is_listed, _))| !is_listed);
        missing
            .map(|(kind, (_, why))| format!("{kind}: {}", why.unwrap_or("being listed")))
            .collect()
    }

    /// Of what is missing, what does not come by itself.
    pub fn complaints(&self) -> Vec<String> {
        let missing = self.lists().into_iter().filter(|(_, (is_listed, _))| !is_listed);
        missing
            .filter_map(|(kind, (_, why))| Some(format!("{kind}: {}", why?)))
            .collect()
    }

    /// Whether all is known that may have been changed for an object; a kind that is not installed has nothing of it.
    pub const fn knows_changes(&self) -> bool {
        let knows_rules = self.rules.is_listed || self.rules.is_absent;
        self.objects.is_listed && self.deployments.is_listed && self.autoscalers.is_listed && knows_rules
    }

    fn lists(&self) -> [(&'static str, (bool, Option<&str>)); 7] {
        [
            ("Nodes", self.nodes.state()),
            ("Pods", self.pods.state()),
            ("Services", self.services.state()),
            ("Deployments", self.deployments.state()),
            ("HorizontalPodAutoscalers", self.autoscalers.state()),
            ("DestinationRules", self.rules.state()),
            ("EdgePlacements", self.objects.state()),
        ]
    }
}

impl<T> Store<T> {
    fn state(&self) -> (bool, Option<&str>) {
        (self.is_listed, self.complaint())
    }
}

// === impl SharedIndex ===

impl SharedIndex {
    /// The index. A panic elsewhere leaves it usable: each change is applied whole.
    pub fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("shop".to_owned(), name.to_owned())
    }

    #[test]
    fn a_new_list_replaces_the_former_when_it_is_complete() {
        let mut store = Store::default();
        assert!(!store.is_listed());
        store.begin();
        store.listed(key("a"), 1);
        store.listed(key("b"), 1);
        assert_eq!(store.all().count(), 0);
        store.complete();
        assert!(store.is_listed());
        store.apply(key("c"), 2);
        // The watch expired: what was deleted meanwhile is told by nothing but the list.
        store.begin();
        store.listed(key("a"), 3);
        assert_eq!(
            store.of("shop").collect::<Vec<_>>(),
            [("a", &1), ("b", &1), ("c", &2)]
        );
        store.complete();
        assert_eq!(store.of("shop").collect::<Vec<_>>(), [("a", &3)]);
        store.delete(&key("a"));
        assert_eq!(store.of("shop").count(), 0);
    }

    #[test]
    fn a_namespace_is_not_a_prefix() {
        let mut store = Store::default();
        store.apply(("shop".to_owned(), "a".to_owned()), 1);
        store.apply(("shop-2".to_owned(), "a".to_owned()), 2);
        assert_eq!(store.of("shop").collect::<Vec<_>>(), [("a", &1)]);
    }

    #[test]
    fn a_complaint_is_news_once() {
        let mut store = Store::<u8>::default();
        assert!(store.complain(Some("forbidden".to_owned())));
        assert!(!store.complain(Some("forbidden".to_owned())));
        assert!(store.complain(None));
        assert!(!store.complain(None));
    }
}
