//! The connection to a cluster: who we are there, the watches, the lease, and which object is to be looked after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::client::retry::RetryPolicy;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;
use tracing::warn;

use crate::FINALIZER;
use crate::api::EdgePlacement;
use crate::error::{ActError, ask};
use crate::finalizer;
use crate::index::{Key, SharedIndex, StoredObject};
use crate::lease::{Candidate, Leadership};
use crate::rule::MANAGER;
use crate::settings::{Hosts, Wanted, convert};
use crate::watch;

/// Label of the pod that leads; the Service for reports selects it.
pub const LEADER_LABEL: &str = "gma.dev/leader";
/// Name of the lease, in the controller's namespace.
pub const LEASE: &str = "gma";

/// Objects that one controller looks after: each has rounds of its own twice a second, and telemetry.
pub const MAX_STEERED: usize = 100;

/// How often a request is repeated. The API server asks for a pause of 1 s; an answer is waited for 3 s.
const MOST_REPEATS: u32 = 2;
/// Requests that wait for a connection; what is beyond waits before.
const WAITING_REQUESTS: usize = 1024;

/// Where the controller runs, and what the cluster calls things.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own namespace: the lease and the memory are there.
    pub namespace: String,
    /// Its own pod there, where it runs in one.
    pub pod: Option<String>,
    /// What tells this process from every other.
    pub identity: String,
    /// The cluster's domain, usually `cluster.local`.
    pub domain: String,
    /// The mesh's root namespace, usually `istio-system`.
    pub root_namespace: String,
}

/// A cluster.
#[derive(Clone)]
pub struct Kube {
    pub(crate) client: Client,
    pub(crate) index: SharedIndex,
    pub(crate) settings: Arc<Settings>,
    leadership: Leadership,
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It is to be looked after.
    Run(Id),
    /// It is not: what it is told.
    Idle {
        /// Which.
        id: Id,
        /// Reason of its condition Ready.
        reason: &'static str,
        /// In words, with what to do.
        why: String,
    },
    /// It is being deleted: what was changed for it is to be restored.
    Ending(Id),
}

/// An object in one version of its spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Its namespace and name.
    pub key: Key,
    /// Tells apart two that had the same name.
    pub uid: String,
    /// Version of its spec.
    pub generation: i64,
    /// When it was created, as RFC 3339: sorts by age.
    pub created: String,
}

// === impl Target ===

impl Target {
    /// The object.
    pub const fn id(&self) -> &Id {
        match self {
            Self::Run(id) | Self::Idle { id, .. } | Self::Ending(id) => id,
        }
    }
}

// === impl Id ===

impl Id {
    pub(crate) fn of(key: &Key, object: &StoredObject) -> Self {
        Self {
            key: key.clone(),
            uid: object.uid.clone(),
            generation: object.generation,
            created: object.created.clone(),
        }
    }

    /// `namespace/name`.
    pub fn path(&self) -> String {
        let (namespace, name) = &self.key;
        format!("{namespace}/{name}")
    }
}

// === impl Kube ===

impl std::fmt::Debug for Kube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kube").field(&self.settings).finish()
    }
}

impl Kube {
    /// Reads the configuration as kubectl does (`KUBECONFIG`, or the pod's own account), and starts the watches and the
    /// candidacy for the lease; each ends with its set. A cluster that can't be reached yet is no error: it is tried again.
    ///
    /// # Errors
    /// There is no configuration, or it is wrong.
    pub async fn connect(
        settings: Settings,
        watches: &mut JoinSet<()>,
        candidacy: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let client =
            patient(configuration().await?).context("the configuration of the cluster can't be used")?;
        let index = SharedIndex::default();
        watch::start(&client, &settings.domain, &index, watches);
        let (candidate, leadership) =
            Candidate::new(client.clone(), &settings.namespace, LEASE, &settings.identity);
        candidacy.spawn(candidate.run());
        Ok(Self {
            client,
            index,
            settings: Arc::new(settings),
            leadership,
        })
    }

    /// Whether this process leads.
    pub const fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    pub(crate) fn check_leading(&self) -> Result<(), ActError> {
        self.leadership.check()
    }

    /// What is not known of the cluster yet, and why; empty once all was listed.
    pub fn missing(&self) -> Vec<String> {
        self.index.lock().missing()
    }

    /// What is to be done with each object, the oldest first.
    pub fn targets(&self) -> Vec<Target> {
        let index = self.index.lock();
        targets(index.objects.all())
    }

    /// What an object wants.
    ///
    /// # Errors
    /// What is wrong with its spec.
    pub fn wanted(&self, id: &Id) -> Result<Wanted, String> {
        let object = {
            let index = self.index.lock();
            let stored = index.objects.get(&id.key.0, &id.key.1);
            let stored = stored.ok_or_else(|| "it is gone".to_owned())?;
            stored.object.clone()?
        };
        let read: &EdgePlacement = &object;
        convert(&read.spec, &self.hosts(&id.key)).map_err(|faults| faults.to_string())
    }

    pub(crate) fn hosts(&self, key: &Key) -> Hosts {
        Hosts {
            namespace: key.0.clone(),
            domain: self.settings.domain.clone(),
        }
    }

    /// Puts the finalizer on an object.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn hold(&self, id: &Id) -> Result<(), ActError> {
        self.check_leading()?;
        finalizer::set(&self.client, &id.key, FINALIZER, true).await
    }

    /// Takes the finalizer off.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn let_go(&self, id: &Id) -> Result<(), ActError> {
        self.check_leading()?;
        finalizer::set(&self.client, &id.key, FINALIZER, false).await
    }

    /// Makes the Service for reports select this pod and no other.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn label_leader(&self) -> Result<(), ActError> {
        let Some(own) = self.settings.pod.as_deref() else {
            return Ok(());
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let labelled = ListParams::default().labels(LEADER_LABEL);
        let found = ask("the controller's pods", pods.list_metadata(&labelled)).await?;
        let names = found.items.into_iter().filter_map(|pod| pod.metadata.name);
        for other in names.filter(|name| name != own) {
            self.label(&pods, &other, &Value::Null).await?;
        }
        self.label(&pods, own, &json!("true")).await
    }

    async fn label(&self, pods: &Api<Pod>, name: &str, value: &Value) -> Result<(), ActError> {
        self.check_leading()?;
        let what = format!(
            "the label {LEADER_LABEL} of pod {}/{name}",
            self.settings.namespace
        );
        let patch = json!({"metadata": {"labels": {LEADER_LABEL: value}}});
        ask(
            &what,
            pods.patch_metadata(name, &patch_as_us(), &Patch::Merge(&patch)),
        )
        .await?;
        Ok(())
    }

    /// Gives the lease away.
    pub async fn resign(&self) {
        let Settings {
            namespace, identity, ..
        } = &*self.settings;
        if let Err(error) = Candidate::release(self.client.clone(), namespace, LEASE, identity).await {
            warn!(
                error = format!("{error:#}"),
                "the lease is not given away; another may take it once it ends"
            );
        }
    }
}

/// A client that asks again when the API server says so (429, 503, 504), for no longer than who asked waits: then its answer is
/// known. kube's own patience of 15 times would outlast that, and all that was known is that there was no answer.
fn patient(mut config: kube::Config) -> anyhow::Result<Client> {
    config.default_retry = false;
    let policy = RetryPolicy::new(
        Duration::from_millis(5),
        Duration::from_secs(1),
        MOST_REPEATS,
        true,
    )?;
    let client = ClientBuilder::try_from(config)?
        .with_layer(&BufferLayer::new(WAITING_REQUESTS))
        .with_layer(&RetryLayer::new(policy));
    Ok(client.build())
}

/// Which cluster, as kubectl reads it.
pub(crate) async fn configuration() -> anyhow::Result<kube::Config> {
    kube::Config::infer()
        .await
        .context("no cluster is configured: set KUBECONFIG to a file, or run in a pod with a service account")
}

/// A patch by this controller.
pub(crate) fn patch_as_us() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A create or replace by this controller.
pub(crate) fn post_as_us() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The hosts of an object are those of its namespace's Services, whether its spec lists them or not; so of two in a namespace
/// the older has them. One that is being deleted has them until all is restored.
fn targets<'a>(objects: impl Iterator<Item = (&'a Key, &'a StoredObject)>) -> Vec<Target> {
    let mut objects: Vec<_> = objects.collect();
    objects.sort_by(|(one, a), (two, b)| (&a.created, one).cmp(&(&b.created, two)));
    let mut owners: BTreeMap<&str, &Key> = BTreeMap::new();
    let mut targets = Vec::new();
    for (key, object) in objects {
        let id = Id::of(key, object);
        let (namespace, _) = key;
        let owner = owners.get(namespace.as_str()).copied();
        let is_full = owners.len() >= MAX_STEERED;
        if object.is_deleted {
            if object.has_finalizer {
                owners.entry(namespace).or_insert(key);
                targets.push(Target::Ending(id));
            }
        } else if let Some((_, owner)) = owner {
            let why = format!(
                "EdgePlacement {namespace}/{owner} is older and has the hosts of all Services of {namespace}: delete one of the two, or \
                 put what this one is for into the other"
            );
            let reason = "HostsClaimed";
            targets.push(Target::Idle { id, reason, why });
        } else if is_full {
            let why = format!(
                "this controller looks after {MAX_STEERED} objects already, all older: delete one of them"
            );
            let reason = "TooManyObjects";
            targets.push(Target::Idle { id, reason, why });
        } else {
            owners.insert(namespace, key);
            targets.push(Target::Run(id));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(uid: &str, created: &str) -> StoredObject {
        StoredObject {
            uid: uid.to_owned(),
            generation: 1,
            created: created.to_owned(),
            is_deleted: false,
            has_finalizer: false,
            object: Err("not read".to_owned()),
        }
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn told(objects: &BTreeMap<Key, StoredObject>) -> Vec<(String, &'static str)> {
        let targets = targets(objects.iter());
        let word = |target: &Target| match target {
            Target::Run(_) => "run",
            Target::Idle { reason, .. } => *reason,
            Target::Ending(_) => "ending",
        };
        targets
            .iter()
            .map(|target| (target.id().path(), word(target)))
            .collect()
    }

    #[test]
    fn of_two_in_a_namespace_the_older_is_looked_after_and_the_other_is_told_its_name() {
        let mut objects = BTreeMap::from([
            (key("shop", "a"), stored("1", "2026-02-01T00:00:00Z")),
            (key("shop", "b"), stored("2", "2026-01-01T00:00:00Z")),
            (key("blog", "c"), stored("3", "2026-03-01T00:00:00Z")),
        ]);
        let all =
            |words: [(&str, &'static str); 3]| words.map(|(path, word)| (path.to_owned(), word)).to_vec();
        let expected = all([("shop/b", "run"), ("shop/a", "HostsClaimed"), ("blog/c", "run")]);
        assert_eq!(told(&objects), expected);
        let found = targets(objects.iter());
        assert!(
            matches!(&found[1], Target::Idle { why, .. } if why.contains("EdgePlacement shop/b")),
            "{found:?}"
        );
        // It goes, and has the hosts until all is restored.
        let older = objects.get_mut(&key("shop", "b")).unwrap();
        (older.is_deleted, older.has_finalizer) = (true, true);
        let expected = all([
            ("shop/b", "ending"),
            ("shop/a", "HostsClaimed"),
            ("blog/c", "run"),
        ]);
        assert_eq!(told(&objects), expected);
        objects.remove(&key("shop", "b"));
        assert_eq!(told(&objects)[0], ("shop/a".to_owned(), "run"));
    }

    #[test]
    fn there_is_a_most_and_the_youngest_are_told() {
        let object = |number: usize| {
            let created = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60);
            (
                key(&format!("n{number}"), "a"),
                stored(&number.to_string(), &created),
            )
        };
        let objects: BTreeMap<_, _> = (0..MAX_STEERED + 2).map(object).collect();
        let told = told(&objects);
        let idle: Vec<_> = told.iter().filter(|(_, word)| *word != "run").collect();
        let expected = |number: usize| (format!("n{number}/a"), "TooManyObjects");
        assert_eq!(idle, [&expected(MAX_STEERED), &expected(MAX_STEERED + 1)]);
    }
}
