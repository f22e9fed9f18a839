//! Watches that keep the index up to date, for ever: what ends one (the API server's restart, a version that has expired,
//! a kind that is not installed yet, a right that is missing) is said once, and it is tried again.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind, Status};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::{EdgePlacement, GROUP, VERSION};
use crate::error::explain;
use crate::index::{self, Index, Key, SharedIndex, Store, StoredObject};
use crate::rule::{API_VERSION, Rule};
use crate::{FINALIZER, finalizer, metrics};

/// Rest after the first failure; it doubles.
const FIRST_REST: Duration = Duration::from_millis(500);
/// Longest rest: what was missing is seen within this once it is there.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Objects of a page of a list: bounds what is in memory twice.
const PAGE: u32 = 250;

/// Doubles from [`FIRST_REST`] to [`LONGEST_REST`].
#[derive(Debug, Default)]
struct Rest(u32);

/// Starts all watches; none ends by itself.
pub(crate) fn start(client: &Client, domain: &str, index: &SharedIndex, tasks: &mut JoinSet<()>) {
    let all = || client.clone();
    tasks.spawn(follow(
        Api::all(all()),
        "Nodes",
        index.clone(),
        |index| &mut index.nodes,
        index::node,
    ));
    tasks.spawn(follow(
        Api::all(all()),
        "Pods",
        index.clone(),
        |index| &mut index.pods,
        index::pod,
    ));
    tasks.spawn(follow(
        Api::all(all()),
        "Services",
        index.clone(),
        |index| &mut index.services,
        index::service,
    ));
    tasks.spawn(follow(
        Api::all(all()),
        "Deployments",
        index.clone(),
        |index| &mut index.deployments,
        index::deployment,
    ));
    tasks.spawn(follow(
        Api::all(all()),
        "HorizontalPodAutoscalers",
        index.clone(),
        |index| &mut index.autoscalers,
        index::autoscaler,
    ));
    tasks.spawn(metrics::follow(all(), index.clone()));
    let domain = domain.to_owned();
    tasks.spawn(follow(
        Api::all_with(all(), &rules()),
        "DestinationRules",
        index.clone(),
        |index| &mut index.rules,
        move |object| read_rule(&object, &domain),
    ));
    tasks.spawn(follow(
        Api::all_with(all(), &objects()),
        "EdgePlacements",
        index.clone(),
        |index| &mut index.objects,
        stored_object,
    ));
}

/// The API of rules.
pub(crate) fn rules() -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or((API_VERSION, ""));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, "DestinationRule"))
}

/// A rule as the index holds it.
pub(crate) fn read_rule(object: &DynamicObject, domain: &str) -> Option<Rule> {
    Rule::try_new(&serde_json::to_value(object).ok()?, domain).ok()
}

/// Read without types: one object that can't be read must not hide the others.
fn objects() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(GROUP, VERSION, "EdgePlacement"),
        "edgeplacements",
    )
}

fn stored_object(object: DynamicObject) -> Option<StoredObject> {
    let created = object.metadata.creation_timestamp.as_ref();
    let created = created.map(|time| time.0.to_string()).unwrap_or_default();
    let stored = |object: DynamicObject| -> Result<Box<EdgePlacement>, String> {
        let value = serde_json::to_value(object).map_err(|error| error.to_string())?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    };
    Some(StoredObject {
        uid: object.uid()?,
        generation: object.metadata.generation.unwrap_or_default(),
        created,
        is_deleted: object.metadata.deletion_timestamp.is_some(),
        has_finalizer: finalizer::is_on(&object.metadata, FINALIZER),
        object: stored(object),
    })
}

async fn follow<K, T>(
    api: Api<K>,
    kind: &'static str,
    index: SharedIndex,
    store: fn(&mut Index) -> &mut Store<T>,
    read: impl Fn(K) -> Option<T>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = watcher::watcher(api, config).backoff(Rest::default()).boxed();
    while let Some(event) = events.next().await {
        let mut index = index.lock();
        let store = store(&mut index);
        store.set_absent(event.as_ref().is_err_and(|error| code(error) == Some(404)));
        let complaint = match event {
            Ok(event) => {
                change(store, event, &read);
                None
            }
            Err(error) => Some(complaint(kind, &error)),
        };
        let why = complaint.clone();
        if store.complain(complaint) {
            match why {
                Some(why) => warn!(kind, error = why, "the watch fails; it is tried again"),
                None => info!(kind, "the watch works again"),
            }
        }
    }
}

fn change<K: Resource, T>(store: &mut Store<T>, event: Event<K>, read: impl Fn(K) -> Option<T>) {
    let key = |object: &K| -> Key {
        (
            object.meta().namespace.clone().unwrap_or_default(),
            object.meta().name.clone().unwrap_or_default(),
        )
    };
    match event {
        Event::Init => store.begin(),
        Event::InitApply(object) => {
            let key = key(&object);
            if let Some(value) = read(object) {
                store.listed(key, value);
            }
        }
        Event::InitDone => store.complete(),
        Event::Apply(object) => {
            let key = key(&object);
            match read(object) {
                Some(value) => store.apply(key, value),
                None => store.delete(&key),
            }
        }
        Event::Delete(object) => store.delete(&key(&object)),
    }
}

/// What the API server said.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    status(error).map(|status| status.code)
}

/// What is wrong and what to do.
fn complaint(kind: &str, error: &watcher::Error) -> String {
    let status = status(error);
    match status.map(|status| status.code) {
        Some(404) if kind == "EdgePlacements" => {
            "EdgePlacement is not installed: `gma crd | kubectl apply -f -`".to_owned()
        }
        Some(404) if kind == "DestinationRules" => {
            "DestinationRule is not installed: install Istio 1.26 or later".to_owned()
        }
        Some(403) => format!(
            "the controller may not list and watch {kind}: apply the ClusterRole of deploy/base/rbac.yaml ({})",
            status.map(|status| status.message.as_str()).unwrap_or_default()
        ),
        _ => explain(error),
    }
}

// === impl Rest ===

impl Iterator for Rest {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let rest = FIRST_REST.saturating_mul(1 << self.0.min(16));
        self.0 = self.0.saturating_add(1);
        Some(rest.min(LONGEST_REST))
    }
}

impl Backoff for Rest {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_ten_seconds_and_begin_anew_once_it_works() {
        let mut rest = Rest::default();
        let seconds: Vec<f64> = rest.by_ref().take(7).map(|rest| rest.as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        rest.reset();
        assert_eq!(rest.next(), Some(FIRST_REST));
    }
}
