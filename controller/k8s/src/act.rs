//! What the core asks for, as writes to the API server.
//!
//! Before each write it is asked whether this process still leads. Rules are written by server-side apply, a dry run first
//! (istiod's webhook and the owners of fields have their say while nothing is changed), never forced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use gma_core::cluster::{RoutingPlan, Unroutable, Weights};
use gma_core::ids::{AreaName, ServiceName};
use k8s_openapi::api::apps::v1 as apps;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::error::{ActError, ask};
use crate::kube_api::{Id, Kube, patch_as_us};
use crate::memory::Memory;
use crate::object::Object;
use crate::rule::{MANAGER, Mesh, Release, Rule, Write, release, says};
use crate::settings::Hosts;
use crate::view::Seen;
use crate::watch::{read_rule, rules};

/// Annotation: the object on whose behalf something was changed.
pub const OBJECT_ANNOTATION: &str = "gma.dev/object";
/// Annotation of a Deployment: its replicas before the first change.
pub const REPLICAS_ANNOTATION: &str = "gma.dev/replicas-before";

/// What is written for an object, and taken back.
#[derive(Debug)]
pub struct Hand {
    pub(crate) kube: Kube,
    pub(crate) id: Id,
    pub(crate) hosts: Hosts,
    /// The rules of the index in that version.
    mesh: Mutex<Option<(u64, Arc<Mesh>)>>,
}

impl Object {
    /// Puts weights in force, and takes rules away whose service has none. What fails for one service does not keep the
    /// others from being written.
    pub(crate) async fn route(&mut self, plan: &RoutingPlan) -> Result<(), ActError> {
        self.ordered = plan.clone();
        let mut worst = None;
        for (host, routes) in &plan.0 {
            let done = if routes.is_empty() {
                self.hand.release(host).await
            } else {
                self.route_one(host, routes).await
            };
            worst = worse(worst, done);
        }
        for host in self.hand.hosts_with_rules() {
            if !plan.0.contains_key(&host) {
                worst = worse(worst, self.hand.release(&host).await);
            }
        }
        worst.map_or(Ok(()), Err)
    }

    async fn route_one(
        &self,
        host: &ServiceName,
        routes: &BTreeMap<AreaName, Weights>,
    ) -> Result<(), ActError> {
        let written = self.seen(|seen| seen.order(host, routes));
        let written = written.map_err(|held| {
            let text = format!("{host}: {}", why(&held.why));
            match held.why {
                // The next reports may prove it.
                Unroutable::LocalityUnproven { .. } => ActError::Failed(text),
                _ => ActError::Refused(text),
            }
        })?;
        let mut bodies = Vec::new();
        for write in written.writes {
            if !self.is_in_force(&write) {
                self.hand.apply_rule(&write, true).await?;
                bodies.push(write);
            }
        }
        for write in bodies {
            self.hand.apply_rule(&write, false).await?;
        }
        Ok(())
    }

    /// Whether the rule says all that a body does, and is ours already.
    fn is_in_force(&self, write: &Write) -> bool {
        let index = self.hand.kube.index.lock();
        let rule = index.rules.get(&write.namespace, &write.name);
        rule.is_some_and(|rule| rule.is_ours() && says(rule, &write.body))
    }

    /// Replicas in the cloud: at least so many where an autoscaler owns the count, else exactly so many.
    pub(crate) async fn scale(&self, host: &ServiceName, replicas: u32) -> Result<(), ActError> {
        let name = self
            .seen(|seen| seen.cloud_deployment(host))
            .map_err(ActError::Refused)?;
        let (now, is_autoscaled) = self.replicas(&name)?;
        let is_there = now == replicas || (is_autoscaled && now > replicas);
        if is_there || replicas == 0 {
            return Ok(());
        }
        self.scale_deployment(&name, replicas, now, !is_autoscaled).await
    }

    /// Replicas that a Deployment is to have, and whether an autoscaler owns the count.
    pub(crate) fn replicas(&self, name: &str) -> Result<(u32, bool), ActError> {
        let index = self.hand.kube.index.lock();
        let namespace = &self.hand.hosts.namespace;
        let Some(deployment) = index.deployments.get(namespace, name) else {
            return Err(ActError::Refused(format!(
                "Deployment {namespace}/{name} is not there"
            )));
        };
        let other = deployment
            .restore
            .as_ref()
            .filter(|placed| placed.object != self.hand.path());
        if let Some(other) = other {
            return Err(ActError::Refused(format!(
                "Deployment {namespace}/{name} is scaled for {} already",
                other.object
            )));
        }
        let mut autoscalers = index.autoscalers.of(namespace);
        let is_autoscaled = autoscalers.any(|(_, autoscaler)| autoscaler.deployment == name);
        Ok((deployment.replicas, is_autoscaled))
    }

    /// Scales a Deployment, and first notes the count that it had, so that the end of the object restores it.
    pub(crate) async fn scale_deployment(
        &self,
        name: &str,
        wanted: u32,
        now: u32,
        notes: bool,
    ) -> Result<(), ActError> {
        let namespace = &self.hand.hosts.namespace;
        let is_noted = {
            let index = self.hand.kube.index.lock();
            index
                .deployments
                .get(namespace, name)
                .is_some_and(|found| found.restore.is_some())
        };
        if notes && !is_noted {
            let annotations =
                json!({OBJECT_ANNOTATION: self.hand.path(), REPLICAS_ANNOTATION: now.to_string()});
            self.hand
                .patch_deployment(name, &json!({"metadata": {"annotations": annotations}}))
                .await?;
        }
        self.hand.set_replicas(name, wanted).await
    }

    /// Looks at the index as it is now.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen<'_>) -> T) -> T {
        self.hand.with_mesh(|mesh| {
            let index = self.hand.kube.index.lock();
            look(&Seen {
                index: &index,
                mesh,
                wanted: &self.wanted,
                hosts: &self.hand.hosts,
                object: &self.hand.path(),
                sightings: &self.sightings,
                ordered: &self.ordered,
            })
        })
    }
}

// === impl Hand ===

impl Hand {
    /// A hand for an object, whatever its spec says.
    pub fn new(kube: &Kube, id: &Id) -> Self {
        Self {
            kube: kube.clone(),
            hosts: kube.hosts(&id.key),
            id: id.clone(),
            mesh: Mutex::new(None),
        }
    }

    /// `namespace/name`.
    pub(crate) fn path(&self) -> String {
        self.id.path()
    }

    /// Gives back what was changed for the object, and forgets what was remembered.
    ///
    /// # Errors
    /// What could not be given back.
    pub async fn give_back(&self) -> Result<(), ActError> {
        self.restore().await?;
        self.kube.check_leading()?;
        Memory::new(&self.kube, &self.id).delete().await
    }

    async fn apply_rule(&self, write: &Write, is_dry: bool) -> Result<(), ActError> {
        self.kube.check_leading()?;
        let what = format!("DestinationRule {}/{}", write.namespace, write.name);
        let parameters = PatchParams::apply(MANAGER);
        let parameters = if is_dry { parameters.dry_run() } else { parameters };
        let api = self.rules(&write.namespace);
        let object = ask(
            &what,
            api.patch(&write.name, &parameters, &Patch::Apply(&write.body)),
        )
        .await?;
        if !is_dry {
            // The next look must not show the former weights only because the watch is a moment behind.
            self.keep_rule(&object);
        }
        Ok(())
    }

    fn keep_rule(&self, object: &DynamicObject) {
        if let Some(rule) = read_rule(object, &self.hosts.domain) {
            let key = (rule.namespace.clone(), rule.name.clone());
            self.kube.index.lock().rules.apply(key, rule);
        }
    }

    fn rules(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.kube.client.clone(), namespace, &rules())
    }

    /// Hosts of the object that have a rule of ours.
    pub(crate) fn hosts_with_rules(&self) -> BTreeSet<ServiceName> {
        let suffix = format!(".{}.svc.{}", self.hosts.namespace, self.hosts.domain);
        let index = self.kube.index.lock();
        // Where Istio is gone, so are its rules.
        if index.rules.is_absent() {
            return BTreeSet::new();
        }
        let rules = index.rules.all().map(|(_, rule)| rule);
        rules
            .filter(|rule| rule.host.ends_with(&suffix) && rule.is_ours())
            .map(|rule: &Rule| ServiceName::new(rule.host.as_str()))
            .collect()
    }

    /// Takes our fields out of every rule for a host, and deletes those that are ours alone.
    pub(crate) async fn release(&self, host: &ServiceName) -> Result<(), ActError> {
        let releases = self.with_mesh(|mesh| release(mesh, host));
        for release in releases {
            match release {
                Release::Apply(write) => {
                    self.apply_rule(&write, true).await?;
                    self.apply_rule(&write, false).await?;
                }
                Release::Delete { namespace, name } => {
                    self.kube.check_leading()?;
                    let what = format!("DestinationRule {namespace}/{name}");
                    let api = self.rules(&namespace);
                    let Some(found) = ask(&what, api.get_opt(&name)).await? else {
                        continue;
                    };
                    // Somebody may have put his own fields into it since it was read.
                    let parameters = DeleteParams::default().preconditions(Preconditions {
                        uid: found.uid(),
                        resource_version: found.resource_version(),
                    });
                    let still_ours = read_rule(&found, &self.hosts.domain).is_some_and(|rule| rule.is_ours());
                    if still_ours {
                        ask(&what, api.delete(&name, &parameters)).await?;
                    }
                    self.kube.index.lock().rules.delete(&(namespace, name));
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn set_replicas(&self, name: &str, wanted: u32) -> Result<(), ActError> {
        self.kube.check_leading()?;
        let api: Api<apps::Deployment> = Api::namespaced(self.kube.client.clone(), &self.hosts.namespace);
        let what = format!("the scale of Deployment {}/{name}", self.hosts.namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": wanted}}));
        ask(&what, api.patch_scale(name, &patch_as_us(), &patch)).await?;
        Ok(())
    }

    async fn patch_deployment(&self, name: &str, patch: &Value) -> Result<(), ActError> {
        self.kube.check_leading()?;
        let api: Api<apps::Deployment> = Api::namespaced(self.kube.client.clone(), &self.hosts.namespace);
        let what = format!("Deployment {}/{name}", self.hosts.namespace);
        ask(
            &what,
            api.patch_metadata(name, &patch_as_us(), &Patch::Merge(patch)),
        )
        .await?;
        Ok(())
    }

    /// Gives back what was changed: rules first, so that no call is sent to what goes; then counts, and what was made.
    pub(crate) async fn restore(&self) -> Result<(), ActError> {
        let mut worst = None;
        for host in self.hosts_with_rules() {
            worst = worse(worst, self.release(&host).await);
        }
        let path = self.path();
        let noted: Vec<(String, u32)> = {
            let index = self.kube.index.lock();
            let deployments = index.deployments.of(&self.hosts.namespace);
            deployments
                .filter_map(|(name, deployment)| {
                    let placed = deployment
                        .restore
                        .as_ref()
                        .filter(|placed| placed.object == path)?;
                    Some((name.to_owned(), placed.replicas))
                })
                .collect()
        };
        for (name, replicas) in noted {
            let forget = json!({OBJECT_ANNOTATION: null, REPLICAS_ANNOTATION: null});
            let done = match self.set_replicas(&name, replicas).await {
                Ok(()) => {
                    self.patch_deployment(&name, &json!({"metadata": {"annotations": forget}}))
                        .await
                }
                failed => failed,
            };
            worst = worse(worst, done);
        }
        for name in self.all_made() {
            worst = worse(worst, self.delete_made(&name).await);
        }
        worst.map_or(Ok(()), Err)
    }

    /// Looks at the rules as they are now.
    pub(crate) fn with_mesh<T>(&self, look: impl FnOnce(&Mesh) -> T) -> T {
        let mesh = {
            let index = self.kube.index.lock();
            let version = index.rules.version();
            let mut cached = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
            match &*cached {
                Some((of, mesh)) if *of == version => Arc::clone(mesh),
                _ => {
                    let mesh = Arc::new(Mesh {
                        root_namespace: self.kube.settings.root_namespace.clone(),
                        rules: index.rules.all().map(|(_, rule)| rule.clone()).collect(),
                    });
                    *cached = Some((version, Arc::clone(&mesh)));
                    mesh
                }
            }
        };
        look(&mesh)
    }
}

/// What may be tried again hides what is in vain: then it is not given up yet.
fn worse(before: Option<ActError>, done: Result<(), ActError>) -> Option<ActError> {
    match (before, done) {
        (before, Ok(())) => before,
        (Some(ActError::Failed(text)), Err(ActError::Refused(_))) => Some(ActError::Failed(text)),
        (_, Err(error)) => Some(error),
    }
}

/// A reason in words.
pub(crate) fn why(reason: &Unroutable) -> String {
    match reason {
        Unroutable::RuleOwned { by } => format!("another manager owns its routing: {by}"),
        Unroutable::RuleShape { what } => what.clone(),
        Unroutable::LocalityUnproven { locality } => {
            format!("no proxy has reported an endpoint of it at {locality}")
        }
        Unroutable::EndpointOutsideAreas { locality } => format!("an endpoint at {locality} is in no area"),
    }
}
