//! What was made at edges on behalf of an object: applied, found again, deleted.
//!
//! It is known by its annotation (the object) and its label (the edge), so a controller that starts finds it again.
//! Nothing else is ever deleted.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::info;

use crate::act::{Hand, OBJECT_ANNOTATION};
use crate::derive::area_label;
use crate::error::{ActError, ask, has_code};
use crate::index;
use crate::rule::MANAGER;

// === impl Hand ===

impl Hand {
    /// An object as the server gives it.
    pub(crate) async fn read(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<Value>, ActError> {
        let namespace = &self.hosts.namespace;
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.kube.client.clone(), namespace, &resource);
        let what = format!("{kind} {namespace}/{name}");
        let found = ask(&what, api.get_opt(name)).await?;
        let found = found.map(serde_json::to_value).transpose();
        found.map_err(|error| ActError::Failed(format!("{what}: {error}")))
    }

    /// Applies a body of a Deployment or an autoscaler, and shows it to the next look at once.
    pub(crate) async fn apply_made(&self, body: &Value, is_dry: bool) -> Result<(), ActError> {
        self.kube.check_leading()?;
        let parameters = PatchParams::apply(MANAGER);
        let parameters = if is_dry { parameters.dry_run() } else { parameters };
        let namespace = self.hosts.namespace.as_str();
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let what = format!("{kind} {namespace}/{name}");
        let key = (namespace.to_owned(), name.to_owned());
        let patch = Patch::Apply(body);
        if kind == "Deployment" {
            let api: Api<apps::Deployment> = Api::namespaced(self.kube.client.clone(), namespace);
            let stored = ask(&what, api.patch(name, &parameters, &patch)).await?;
            if let Some(one) = index::deployment(stored).filter(|_| !is_dry) {
                self.kube.index.lock().deployments.apply(key, one);
            }
        } else {
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.kube.client.clone(), namespace);
            let stored = ask(&what, api.patch(name, &parameters, &patch)).await?;
            if let Some(one) = index::autoscaler(stored).filter(|_| !is_dry) {
                self.kube.index.lock().autoscalers.apply(key, one);
            }
        }
        Ok(())
    }

    /// Names of all that was made for the object, at whichever edge.
    pub(crate) fn all_made(&self) -> Vec<String> {
        let (path, label) = (self.path(), area_label());
        let namespace = &self.hosts.namespace;
        let index = self.kube.index.lock();
        let is_ours = |object: &Option<String>| object.as_deref() == Some(path.as_str());
        let deployments = index.deployments.of(namespace);
        let deployments =
            deployments.filter(|(_, one)| is_ours(&one.object) && one.labels.contains_key(&label));
        let autoscalers = index.autoscalers.of(namespace);
        let autoscalers = autoscalers.filter(|(_, one)| is_ours(&one.object));
        let names = deployments
            .map(|(name, _)| name)
            .chain(autoscalers.map(|(name, _)| name));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Deletes a Deployment that was made for the object, and its autoscaler before it.
    pub(crate) async fn delete_made(&self, name: &str) -> Result<(), ActError> {
        self.delete_autoscaler(name).await?;
        if self.delete_ours::<apps::Deployment>(name).await? {
            let key = (self.hosts.namespace.clone(), name.to_owned());
            self.kube.index.lock().deployments.delete(&key);
        }
        Ok(())
    }

    /// Deletes an autoscaler that was made for the object; another's stays.
    pub(crate) async fn delete_autoscaler(&self, name: &str) -> Result<(), ActError> {
        let key = (self.hosts.namespace.clone(), name.to_owned());
        let is_ours = {
            let index = self.kube.index.lock();
            let found = index.autoscalers.get(&key.0, name);
            found.is_some_and(|one| one.object.as_deref() == Some(self.path().as_str()))
        };
        if is_ours && self.delete_ours::<HorizontalPodAutoscaler>(name).await? {
            self.kube.index.lock().autoscalers.delete(&key);
        }
        Ok(())
    }

    /// Deletes it where it carries our marks for this very object, in the version that was read; whether it is gone.
    async fn delete_ours<K>(&self, name: &str) -> Result<bool, ActError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.kube.check_leading()?;
        let api: Api<K> = Api::namespaced(self.kube.client.clone(), &self.hosts.namespace);
        let what = format!("{} {}/{name}", K::kind(&()), self.hosts.namespace);
        let found = ask(&what, api.get_metadata_opt(name)).await?;
        let Some(found) = found else {
            return Ok(true);
        };
        if !self.is_ours(&found.metadata) {
            return Ok(false);
        }
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid: found.metadata.uid,
            resource_version: found.metadata.resource_version,
        });
        let deleted = async {
            match api.delete(name, &parameters).await {
                Err(error) if has_code(&error, 404) => Ok(()),
                other => other.map(|_| ()),
            }
        };
        ask(&what, deleted).await?;
        info!(what, "deleted");
        Ok(true)
    }

    fn is_ours(&self, metadata: &ObjectMeta) -> bool {
        let object = metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(OBJECT_ANNOTATION));
        let is_made = metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(&area_label()));
        object == Some(&self.path()) && is_made
    }
}
