//! The connection to a cluster: who we are there, the watches, the lease, and which object is to be looked after.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tracing::warn;

use crate::FINALIZER;
use crate::api::EdgePlacement;
use crate::error::{ActError, ask};
use crate::finalizer;
use crate::index::{Index, Key, SharedIndex, StoredObject};
use crate::lease::{Candidate, Leadership};
use crate::rule::MANAGER;
use crate::settings::{Hosts, Wanted, convert};
use crate::watch;

/// Label of the pod that leads; the Service for reports selects it.
pub const LEADER_LABEL: &str = "gma.dev/leader";
/// Name of the lease, in the controller's namespace.
pub const LEASE: &str = "gma";

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

/// What is to be done next.
#[derive(Clone, Debug)]
pub enum Target {
    /// There is no object.
    None,
    /// An object is to be looked after.
    Run {
        /// Which.
        id: Id,
        /// What it wants.
        wanted: Box<Wanted>,
    },
    /// An object can't be: its spec is wrong.
    Faulty {
        /// Which.
        id: Id,
        /// What is wrong with it.
        faults: String,
    },
    /// An object is being deleted: what was changed for it is to be restored.
    Ending {
        /// Which.
        id: Id,
    },
}

/// An object in one version of its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    /// Its namespace and name.
    pub key: Key,
    /// Tells apart two that had the same name.
    pub uid: String,
    /// Version of its spec.
    pub generation: i64,
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
        let config = configuration().await?;
        let client = Client::try_from(config).context("the configuration of the cluster can't be used")?;
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
        if self.leadership.is_held() {
            Ok(())
        } else {
            Err(ActError::Failed(
                "this controller no longer leads: nothing is written".to_owned(),
            ))
        }
    }

    /// What is not known of the cluster yet, and why; empty once all was listed.
    pub fn missing(&self) -> Vec<String> {
        self.index.lock().missing()
    }

    /// What is to be done: an object that is being deleted before all others, else the oldest.
    pub fn target(&self) -> Target {
        let index = self.index.lock();
        let ending = index
            .objects
            .all()
            .find(|(_, object)| object.is_deleted && object.has_finalizer);
        if let Some((key, object)) = ending {
            return Target::Ending {
                id: Id::of(key, object),
            };
        }
        let Some((key, object)) = oldest(&index) else {
            return Target::None;
        };
        let id = Id::of(key, object);
        match self.wanted(key, object) {
            Ok(wanted) => Target::Run {
                id,
                wanted: Box::new(wanted),
            },
            Err(faults) => Target::Faulty { id, faults },
        }
    }

    /// Objects beside the one that is looked after: one controller looks after one object.
    pub fn others(&self) -> Vec<Id> {
        let index = self.index.lock();
        let first = oldest(&index).map(|(key, _)| key);
        let others = index
            .objects
            .all()
            .filter(|(key, object)| !object.is_deleted && Some(*key) != first);
        others.map(|(key, object)| Id::of(key, object)).collect()
    }

    pub(crate) fn hosts(&self, key: &Key) -> Hosts {
        Hosts {
            namespace: key.0.clone(),
            domain: self.settings.domain.clone(),
        }
    }

    fn wanted(&self, key: &Key, object: &StoredObject) -> Result<Wanted, String> {
        let read: &EdgePlacement = object.object.as_ref().map_err(Clone::clone)?;
        convert(&read.spec, &self.hosts(key)).map_err(|faults| faults.to_string())
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

impl Id {
    pub(crate) fn of(key: &Key, object: &StoredObject) -> Self {
        Self {
            key: key.clone(),
            uid: object.uid.clone(),
            generation: object.generation,
        }
    }

    /// `namespace/name`.
    pub fn path(&self) -> String {
        let (namespace, name) = &self.key;
        format!("{namespace}/{name}")
    }
}

fn oldest(index: &Index) -> Option<(&Key, &StoredObject)> {
    let objects = index.objects.all().filter(|(_, object)| !object.is_deleted);
    objects.min_by(|(one, a), (two, b)| (&a.created, one).cmp(&(&b.created, two)))
}
