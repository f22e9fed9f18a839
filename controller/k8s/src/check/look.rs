//! What a check asks of an API server, with the caller's own rights. Nothing is written but questions about rights.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind, Request, TypeMeta};
use kube::{Api, Client};
use serde_json::Value;

use super::controller::leader;
use super::examine::{Found, Report, Scope, report};
use super::rights::{Right, needed};
use super::told::Told;
use super::{Finding, Node, text};
use crate::api::{EdgePlacement, GROUP, VERSION};
use crate::error::{explain, has_code};
use crate::kube_api::configuration;

/// For the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For one answer: a page of a list, or the state of a controller with thousands of proxies.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Objects of a page.
const PAGE: u32 = 500;
/// Objects of a kind that are looked at.
const MAX_OBJECTS: usize = 200_000;
/// Bytes of a controller's state; that of 10,000 proxies has some 20 MB.
const MAX_STATE: usize = 128 << 20;
/// Questions at a time.
const ASKED_AT_ONCE: usize = 8;
/// Of namespaces with objects, so many are named.
const MAX_ELSEWHERE: usize = 8;

/// A kind that is listed.
struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// What installs it, where it may not be there; none: its absence is no finding.
    install: Option<&'static str>,
}

const ISTIO: &str = "install Istio 1.26 or later";

impl Kind {
    const fn new(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self {
            group,
            version,
            kind,
            install: None,
        }
    }

    const fn of_istio(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        let plain = Self::new(group, version, kind);
        Self {
            install: Some(ISTIO),
            ..plain
        }
    }
}

struct Look {
    client: Client,
    findings: Vec<Finding>,
}

/// Checks a namespace of the cluster that `KUBECONFIG`, or the pod's own account, names.
///
/// # Errors
/// No cluster is configured, or it does not answer.
pub async fn examine(scope: Scope) -> anyhow::Result<Report> {
    let mut config = configuration().await?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    config.read_timeout = Some(ANSWER_WITHIN);
    let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
    let client = Client::try_from(config).context("the configuration of the cluster can't be used")?;
    client.apiserver_version().await.map_err(|error| {
        anyhow::anyhow!(
            "the API server {server} does not answer as it should: {}; is it the right KUBECONFIG?",
            explain(&error)
        )
    })?;
    let look = Look {
        client,
        findings: Vec::new(),
    };
    Ok(report(&look.all(scope, namespace).await?))
}

// === impl Look ===

impl Look {
    async fn all(mut self, scope: Scope, default_namespace: String) -> anyhow::Result<Found> {
        let namespace = scope.namespace.clone().unwrap_or(default_namespace);
        self.namespace(&namespace).await;
        let definition = self.definition().await;
        let (objects, elsewhere) = self.objects(&scope, &namespace).await;
        let nodes = self.list(&Kind::new("", "v1", "Node"), None).await;
        let is_virtual = nodes.iter().flatten().any(|node| {
            let node = serde_json::from_value(node.clone());
            node.is_ok_and(|node| Node::of(&node).is_virtual)
        });
        let pod = Kind::new("", "v1", "Pod");
        let mut pods = self.list(&pod, Some(&namespace)).await;
        for other in gateways(&objects).iter().filter(|other| **other != namespace) {
            let more = self.list(&pod, Some(other)).await;
            pods = pods.zip(more).map(|(mut pods, more)| {
                pods.extend(more);
                pods
            });
        }
        let own = scope.own_namespace.as_str();
        let service = Kind::new("", "v1", "Service");
        let mut workloads = Vec::new();
        for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
            let found = self.list(&Kind::new("apps", "v1", kind), Some(&namespace)).await;
            workloads.extend(found.into_iter().flatten());
        }
        let istio = |kind| Kind::of_istio("networking.istio.io", "v1", kind);
        let own_pods = self.list(&pod, Some(own)).await;
        let told = match scope.told.clone() {
            Some(told) => told,
            None => {
                let names = objects.iter().filter_map(|object| text(object, "/metadata/name"));
                let paths: Vec<String> = names.map(|name| format!("{namespace}/{name}")).collect();
                self.told(own, own_pods.as_deref(), &paths).await
            }
        };
        let denied = self.denied(own, &namespace).await?;
        Ok(Found {
            objects,
            elsewhere,
            definition,
            nodes,
            pods,
            own_pods,
            services: self.list(&service, Some(&namespace)).await,
            own_services: self.list(&service, Some(own)).await,
            workloads,
            autoscalers: self
                .list(
                    &Kind::new("autoscaling", "v2", "HorizontalPodAutoscaler"),
                    Some(&namespace),
                )
                .await
                .unwrap_or_default(),
            rules: self.list(&istio("DestinationRule"), None).await,
            sidecars: self
                .list(
                    &Kind::new("networking.istio.io", "v1", "Sidecar"),
                    Some(&namespace),
                )
                .await
                .unwrap_or_default(),
            plugins: self
                .list(
                    &Kind::of_istio("extensions.istio.io", "v1alpha1", "WasmPlugin"),
                    None,
                )
                .await,
            offloadings: if is_virtual {
                self.offloadings().await
            } else {
                Vec::new()
            },
            has_metrics: self
                .client
                .list_api_group_resources("metrics.k8s.io/v1beta1")
                .await
                .is_ok(),
            told,
            denied,
            findings: self.findings,
            scope,
            namespace,
        })
    }

    async fn namespace(&mut self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        if let Ok(None) = api.get_opt(name).await {
            let (what, fix) = ("it is not there", "name the application's: -n NAMESPACE");
            self.findings
                .push(Finding::error(format!("Namespace {name}"), what, fix));
        }
    }

    /// The definition that is installed; the outer none: it is not known.
    async fn definition(&mut self) -> Option<Option<Value>> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        match api.get_opt(&format!("edgeplacements.{GROUP}")).await {
            Ok(found) => Some(found.and_then(|found| serde_json::to_value(found).ok())),
            Err(error) => {
                self.unlisted(
                    "CustomResourceDefinition",
                    "get customresourcedefinitions",
                    &error,
                );
                None
            }
        }
    }

    /// The objects to check, and namespaces that have others.
    async fn objects(&mut self, scope: &Scope, namespace: &str) -> (Vec<Value>, Vec<String>) {
        let kind = Kind::new(GROUP, VERSION, "EdgePlacement");
        let mut objects = self.list(&kind, Some(namespace)).await.unwrap_or_default();
        if let Some(wanted) = &scope.object {
            objects.retain(|object| text(object, "/metadata/name") == Some(wanted));
            if objects.is_empty() {
                self.findings.push(Finding::error(
                    format!("EdgePlacement {namespace}/{wanted}"),
                    "it is not there",
                    "`kubectl get gma -A` lists those that are",
                ));
            }
        }
        if !objects.is_empty() {
            return (objects, Vec::new());
        }
        // A right that is missing here is no finding: nothing of the check depends on it.
        let all: Api<EdgePlacement> = Api::all(self.client.clone());
        let all = all.list_metadata(&ListParams::default().limit(PAGE)).await;
        let namespaces: BTreeSet<String> = all
            .into_iter()
            .flat_map(|list| list.items)
            .filter_map(|object| object.metadata.namespace)
            .collect();
        (objects, namespaces.into_iter().take(MAX_ELSEWHERE).collect())
    }

    async fn offloadings(&mut self) -> Vec<Value> {
        let kind = Kind::new("offloading.liqo.io", "v1beta1", "NamespaceOffloading");
        self.list(&kind, None).await.unwrap_or_default()
    }

    /// All objects of a kind, in one namespace or in all; none: they can't be had, which is a finding.
    async fn list(&mut self, kind: &Kind, namespace: Option<&str>) -> Option<Vec<Value>> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(kind.group, kind.version, kind.kind));
        let client = self.client.clone();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let types = TypeMeta {
            api_version: resource.api_version.clone(),
            kind: kind.kind.to_owned(),
        };
        let mut found = Vec::new();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                Err(error) => {
                    let right = match namespace {
                        Some(namespace) => format!("list {} in {namespace}", resource.plural),
                        None => format!("list {}", resource.plural),
                    };
                    if !has_code(&error, 404) {
                        self.unlisted(kind.kind, &right, &error);
                    } else if let Some(fix) = kind.install {
                        self.findings
                            .push(Finding::error(kind.kind, "it is not installed", fix));
                    }
                    return None;
                }
            };
            for mut object in page.items {
                // Of a list's items the server does not say the kind.
                object.types = Some(types.clone());
                found.extend(serde_json::to_value(object));
            }
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            match next {
                Some(token) if found.len() < MAX_OBJECTS => {
                    parameters = ListParams::default().limit(PAGE).continue_token(&token);
                }
                Some(_) => {
                    let what = format!("there are more than {MAX_OBJECTS}: the rest is not checked");
                    self.findings
                        .push(Finding::warning(kind.kind, what, "check fewer namespaces"));
                    return Some(found);
                }
                None => return Some(found),
            }
        }
    }

    /// Something that can't be had: what depends on it is not checked.
    fn unlisted(&mut self, object: &str, right: &str, error: &kube::Error) {
        let (what, fix) = if has_code(error, 403) {
            (
                format!("you may not {right}: what depends on it is not checked"),
                "use an account that may, or ask for the right".to_owned(),
            )
        } else {
            (
                format!("what depends on it is not checked: {}", explain(error)),
                "try again, and see what the API server says".to_owned(),
            )
        };
        self.findings.push(Finding::warning(object, what, fix));
    }

    /// The leader's state, of whichever of the objects it looks after.
    async fn told(&self, own: &str, pods: Option<&[Value]>, objects: &[String]) -> Told {
        let Some(leader) = pods.into_iter().flatten().find_map(leader) else {
            return Told::Nothing("no pod leads".to_owned());
        };
        for object in objects {
            let told = self.state(own, leader, &format!("?object={object}")).await;
            if matches!(told, Told::State { .. }) {
                return told;
            }
        }
        self.state(own, leader, "").await
    }

    /// Through the API server's proxy of the leader's pod; without a port that is the pod's first.
    async fn state(&self, own: &str, leader: &str, query: &str) -> Told {
        let pods = Request::new(format!("/api/v1/namespaces/{own}/pods"));
        let request = pods.get_subresource(&format!("proxy/api/v1/state{query}"), leader);
        let answer = async {
            let answer = self
                .client
                .send(request.map_err(|error| error.to_string())?.map(Body::from));
            let answer = answer.await.map_err(|error| explain(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_STATE).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            if status.is_success() {
                Ok(Told::read(&body))
            } else {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                Err(text(&said, "/message").map_or_else(|| status.to_string(), str::to_owned))
            }
        };
        let within = ANSWER_WITHIN.as_secs();
        tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {within} s")))
            .unwrap_or_else(Told::Nothing)
    }

    /// Rights that the controller's account lacks.
    async fn denied(&mut self, own: &str, namespace: &str) -> anyhow::Result<BTreeSet<String>> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), own);
        if let Ok(None) = accounts.get_metadata_opt("gma").await {
            let (what, fix) = (
                "it is not there: the controller has no rights",
                "apply deploy/base",
            );
            self.findings
                .push(Finding::error(format!("ServiceAccount {own}/gma"), what, fix));
            return Ok(BTreeSet::new());
        }
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let rights = needed(own, namespace).context("deploy/base/rbac.yaml in this program is no YAML")?;
        let questions = rights.into_iter().map(|right| {
            let api = api.clone();
            async move {
                let answer = api.create(&PostParams::default(), &review(&right, own)).await?;
                let allowed = answer.status.is_some_and(|status| status.allowed);
                Ok::<_, kube::Error>((!allowed).then(|| right.to_string()))
            }
        });
        let mut answers = futures_util::stream::iter(questions).buffer_unordered(ASKED_AT_ONCE);
        let mut denied = BTreeSet::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(right) => denied.extend(right),
                Err(error) => {
                    self.unlisted("SubjectAccessReview", "create subjectaccessreviews", &error);
                    return Ok(BTreeSet::new());
                }
            }
        }
        Ok(denied)
    }
}

/// Namespaces of the gateways that objects name.
fn gateways(objects: &[Value]) -> BTreeSet<String> {
    let edges = objects
        .iter()
        .filter_map(|object| object.pointer("/spec/areas/edges")?.as_array());
    let namespaces = edges
        .flatten()
        .filter_map(|edge| edge.pointer("/gateway/namespace")?.as_str());
    namespaces.map(str::to_owned).collect()
}

fn review(right: &Right, own: &str) -> SubjectAccessReview {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{own}:gma")),
            groups: Some(vec![
                "system:authenticated".to_owned(),
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{own}"),
            ]),
            resource_attributes: Some(ResourceAttributes {
                group: some(&right.group),
                resource: some(&right.resource),
                subresource: some(&right.subresource),
                name: some(&right.name),
                namespace: some(&right.namespace),
                verb: some(&right.verb),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
