//! What the end of objects needs, with a controller or without.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use crate::api::EdgePlacement;
use crate::error::{ActError, ask, has_code};
use crate::kube_api::{Id, Kube, LEASE};

impl Kube {
    /// All objects that are there.
    ///
    /// # Errors
    /// They are not known, and why.
    pub fn objects(&self) -> Result<Vec<Id>, String> {
        let index = self.index.lock();
        if !index.objects.is_listed() {
            let why = index
                .objects
                .complaint()
                .unwrap_or("EdgePlacements are being listed");
            return Err(why.to_owned());
        }
        let objects = index.objects.all();
        Ok(objects.map(|(key, object)| Id::of(key, object)).collect())
    }

    /// Of what is not known of the cluster, what does not come by itself, and why.
    pub fn complaints(&self) -> Vec<String> {
        self.index.lock().complaints()
    }

    /// Whether all is known that may have been changed for an object.
    pub fn knows_changes(&self) -> bool {
        self.index.lock().knows_changes()
    }

    /// Whether the definition of `EdgePlacement` is not installed.
    pub fn has_no_definition(&self) -> bool {
        self.index.lock().objects.is_absent()
    }

    /// What bears our mark, and for which object: `DestinationRule shop/web`.
    pub fn marks(&self) -> Vec<String> {
        let index = self.index.lock();
        let rules = index.rules.all().filter(|(_, rule)| rule.is_ours());
        let rules = rules.map(|(_, rule)| format!("DestinationRule {}", rule.path()));
        let deployments = index
            .deployments
            .all()
            .filter_map(|((namespace, name), deployment)| {
                let object = deployment.object.as_ref()?;
                Some(format!("Deployment {namespace}/{name} (of {object})"))
            });
        rules.chain(deployments).collect()
    }

    /// The namespace that the configuration names.
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Asks for an object's end; it goes once its finalizer is off.
    ///
    /// # Errors
    /// See [`ActError`]. That it is gone already is none.
    pub async fn delete(&self, id: &Id) -> Result<(), ActError> {
        let (namespace, name) = &id.key;
        let api: Api<EdgePlacement> = Api::namespaced(self.client.clone(), namespace);
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: Some(id.uid.clone()),
            ..Preconditions::default()
        });
        let what = format!("EdgePlacement {namespace}/{name}");
        ask(&what, async {
            match api.delete(name, &parameters).await {
                Err(error) if has_code(&error, 404) => Ok(()),
                other => other.map(drop),
            }
        })
        .await
    }

    /// Removes the lease, where no controller will want it again.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn remove_lease(&self) -> Result<(), ActError> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        ask("the lease", async {
            match api.delete(LEASE, &DeleteParams::default()).await {
                Err(error) if has_code(&error, 404) => Ok(()),
                other => other.map(drop),
            }
        })
        .await
    }
}

/// Whether the cluster of `KUBECONFIG`, or the pod's own, has a namespace that does not end; none: nobody may know.
///
/// # Errors
/// No cluster is configured.
pub async fn has_namespace(name: &str) -> anyhow::Result<Option<bool>> {
    let client = kube::Client::try_from(crate::kube_api::configuration().await?)?;
    let api: Api<Namespace> = Api::all(client);
    let found = ask("the namespace", api.get_opt(name)).await;
    Ok(found
        .ok()
        .map(|found| found.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())))
}
