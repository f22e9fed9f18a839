//! One service, and its rules as the rule writer makes them: written as the controller writes them, a dry run first, never forced.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use gma_core::cluster::Weights;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::LocalityPattern;
use gma_k8s::locality::{AreaMap, Locality};
use gma_k8s::rule::{Areas, Held, MANAGER, Mesh, Order, Release, Rule, Written, release, write};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::app::rules;
use crate::rig::{Cluster, apply_with};

/// A service and what is known of it.
#[derive(Debug)]
pub struct Stage<'a> {
    cluster: &'a Cluster,
    /// Kubernetes namespace of the service.
    pub namespace: String,
    /// Host of the service.
    pub host: ServiceName,
    /// Where the areas are.
    pub areas: AreaMap,
    /// What proxies have reported for its endpoints.
    pub reported: BTreeSet<Locality>,
    /// Namespaces of the proxies that call it.
    pub callers: BTreeSet<String>,
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// The service `service` of a namespace, which is created; the cloud is the region of the localities of `cloud`, the edge
    /// that of `edge`.
    ///
    /// # Errors
    /// The API server's.
    pub async fn new(
        cluster: &'a Cluster,
        namespace: &str,
        service: &str,
        patterns: &[(&str, &[&str])],
        reported: &[&str],
    ) -> anyhow::Result<Self> {
        let yaml = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        cluster.apply(&yaml.to_string()).await?;
        let mut areas = BTreeMap::new();
        for (area, texts) in patterns {
            let parsed = texts.iter().map(|text| LocalityPattern::try_from(*text));
            let parsed: Result<Vec<_>, _> = parsed.collect();
            let parsed = parsed.map_err(|error| anyhow::anyhow!("{error}"))?;
            areas.insert(AreaName::from(*area), parsed);
        }
        Ok(Self {
            cluster,
            namespace: namespace.to_owned(),
            host: ServiceName::new(format!("{service}.{namespace}.svc.cluster.local")),
            areas: AreaMap::Localities(areas),
            reported: reported.iter().map(|text| Locality::parse(text)).collect(),
            callers: [namespace.to_owned(), "gateways".to_owned()].into(),
        })
    }

    /// Rules of its namespace.
    pub fn api(&self) -> Api<DynamicObject> {
        self.rules_of(&self.namespace)
    }

    /// Rules of a namespace.
    pub fn rules_of(&self, namespace: &str) -> Api<DynamicObject> {
        rules(&self.cluster.client, namespace)
    }

    /// The rules of its namespace and of its callers', as they are.
    ///
    /// # Errors
    /// The API server's.
    pub async fn mesh(&self) -> anyhow::Result<Mesh> {
        let mut rules = Vec::new();
        let namespaces = self.callers.iter().chain([&self.namespace]);
        for namespace in namespaces.collect::<BTreeSet<_>>() {
            for object in self.rules_of(namespace).list(&Default::default()).await?.items {
                rules.push(Rule::try_new(&serde_json::to_value(object)?, "cluster.local")?);
            }
        }
        Ok(Mesh {
            root_namespace: "istio-system".to_owned(),
            rules,
        })
    }

    /// The bodies for a share at edge-1.
    ///
    /// # Errors
    /// The API server's.
    pub async fn write(&self, edge: u32) -> anyhow::Result<Result<Written, Held>> {
        let weights: Weights = [("cloud".into(), 100 - edge), ("edge-1".into(), edge)]
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let routes = [
            ("cloud".into(), [("cloud".into(), 100)].into()),
            ("edge-1".into(), weights),
        ];
        self.write_routes(&routes.into()).await
    }

    /// The bodies for routes.
    ///
    /// # Errors
    /// The API server's.
    pub async fn write_routes(
        &self,
        routes: &BTreeMap<AreaName, Weights>,
    ) -> anyhow::Result<Result<Written, Held>> {
        let cloud = AreaName::from("cloud");
        let order = Order {
            host: &self.host,
            namespace: &self.namespace,
            callers: &self.callers,
            unlocated_caller: None,
            reported: &self.reported,
            routes,
            object: "shop/shop",
        };
        let areas = Areas {
            cloud: &cloud,
            map: &self.areas,
        };
        Ok(write(&self.mesh().await?, areas, &order))
    }

    /// Writes a share at edge-1.
    ///
    /// # Errors
    /// It is held, or refused.
    pub async fn step(&self, edge: u32) -> anyhow::Result<()> {
        match self.write(edge).await? {
            Ok(written) => self.put_all(&written).await,
            Err(held) => bail!("held: {held:?}"),
        }
    }

    /// Writes bodies.
    ///
    /// # Errors
    /// One is refused.
    pub async fn put_all(&self, written: &Written) -> anyhow::Result<()> {
        for write in &written.writes {
            self.put(&write.body).await?;
        }
        Ok(())
    }

    async fn put(&self, body: &Value) -> anyhow::Result<()> {
        let parameters = PatchParams::apply(MANAGER);
        for parameters in [parameters.clone().dry_run(), parameters] {
            apply_with(&self.cluster.client, &body.to_string(), &parameters)
                .await
                .with_context(|| body.to_string())?;
        }
        Ok(())
    }

    /// Takes back what was written.
    ///
    /// # Errors
    /// The API server's.
    pub async fn release(&self) -> anyhow::Result<()> {
        for release in release(&self.mesh().await?, &self.host) {
            match release {
                Release::Apply(write) => self.put(&write.body).await?,
                Release::Delete { namespace, name } => {
                    self.rules_of(&namespace)
                        .delete(&name, &DeleteParams::default())
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Creates a rule as `kubectl create` does: the manager owns it by Update.
    ///
    /// # Errors
    /// It is refused.
    pub async fn create(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        self.create_in(&self.namespace, name, spec).await
    }

    /// The same in another namespace.
    ///
    /// # Errors
    /// It is refused.
    pub async fn create_in(&self, namespace: &str, name: &str, spec: Value) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let parameters = PostParams {
            field_manager: Some("kubectl-client-side-apply".to_owned()),
            ..PostParams::default()
        };
        self.rules_of(namespace)
            .create(&parameters, &serde_json::from_value(object)?)
            .await?;
        Ok(())
    }

    /// `kubectl apply` of a changed file: what the user's file says is set, and what it does not say stays. A three-way patch has
    /// nothing to remove where the file only gains.
    ///
    /// # Errors
    /// It is refused.
    pub async fn kubectl_apply(&self, name: &str, spec: &Value) -> anyhow::Result<()> {
        let last =
            json!({"kubectl.kubernetes.io/last-applied-configuration": json!({"spec": spec}).to_string()});
        let patch = json!({"metadata": {"annotations": last}, "spec": spec});
        let parameters = PatchParams {
            field_manager: Some("kubectl-client-side-apply".to_owned()),
            ..PatchParams::default()
        };
        self.api().patch(name, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// `kubectl replace`: a PUT of the user's file.
    ///
    /// # Errors
    /// It is refused.
    pub async fn kubectl_replace(&self, name: &str, spec: &Value) -> anyhow::Result<()> {
        let mut object = self.api().get(name).await?;
        object.data = json!({"spec": spec});
        let parameters = PostParams {
            field_manager: Some("kubectl-replace".to_owned()),
            ..PostParams::default()
        };
        self.api().replace(name, &parameters, &object).await?;
        Ok(())
    }

    /// A rule's spec.
    ///
    /// # Errors
    /// There is none.
    pub async fn spec(&self, name: &str) -> anyhow::Result<Value> {
        let object = self.api().get(name).await?;
        Ok(object.data.get("spec").cloned().unwrap_or_default())
    }

    /// A spec for the host.
    pub fn spec_with(&self, policy: &Value) -> Value {
        json!({"host": self.host.as_str(), "trafficPolicy": policy})
    }
}
