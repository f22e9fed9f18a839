//! What becomes of each service at each edge: the user's Deployment, one that is derived, or none.

use std::collections::BTreeMap;

use gma_core::ids::{AreaName, ServiceName};
use gma_core::model::Pin;
use k8s_openapi::api::core::v1;
use serde_json::Value;

use super::examine::Found;
use super::{Finding, Node, path, text};
use crate::derive::{
    Edge, Note, Refused, Source, Wish, area_label, derive, existing, name_at, shared_taints,
};
use crate::settings::{Hosts, Service, Wanted, service_name};
use crate::view::selects;

/// What is said of instances.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) refused: BTreeMap<(ServiceName, AreaName), Refused>,
    pub(super) notes: BTreeMap<(ServiceName, AreaName), Vec<Note>>,
    pub(super) findings: Vec<Finding>,
}

/// A look at one object.
struct Judge<'a> {
    found: &'a Found,
    object: String,
    wanted: &'a Wanted,
    /// Taints that all nodes of an edge share.
    taints: BTreeMap<AreaName, Vec<v1::Taint>>,
    judged: Judged,
}

/// Judges the instances of every service that may be at an edge.
pub(super) fn judge(found: &Found, object: &Value, wanted: &Wanted, hosts: &Hosts) -> Judged {
    let mut judge = Judge {
        found,
        object: path(object),
        wanted,
        taints: taints(found, wanted),
        judged: Judged::default(),
    };
    let Some(services) = &found.services else {
        return judge.judged;
    };
    for host in wanted.services.keys() {
        let name = service_name(host);
        if !services
            .iter()
            .any(|service| text(service, "/metadata/name") == Some(name))
        {
            judge.judged.findings.push(Finding::warning(
                format!("EdgePlacement {}", judge.object),
                format!(
                    "spec.services lists {name}, and there is no such Service in {}",
                    hosts.namespace
                ),
                "correct its name, or take it out",
            ));
        }
    }
    for service in services {
        let host = hosts.of(text(service, "/metadata/name").unwrap_or_default());
        judge.service(&host, service);
    }
    judge.judged
}

/// Labels of a Service's pods; empty where it has no selector.
pub(super) fn selector(service: &Value) -> BTreeMap<String, String> {
    labels(service.pointer("/spec/selector"))
}

fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn taints(found: &Found, wanted: &Wanted) -> BTreeMap<AreaName, Vec<v1::Taint>> {
    let nodes = found.nodes.iter().flatten();
    let nodes: Vec<v1::Node> = nodes
        .filter_map(|node| serde_json::from_value(node.clone()).ok())
        .collect();
    let of_edge = |edge: &AreaName| {
        let there = nodes
            .iter()
            .filter(|node| wanted.areas.area_of(&Node::of(node).locality) == Some(edge));
        shared_taints(there.map(|node| {
            let spec = node.spec.as_ref();
            spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
        }))
    };
    wanted
        .edges
        .keys()
        .map(|edge| (edge.clone(), of_edge(edge)))
        .collect()
}

impl<'a> Judge<'a> {
    fn service(&mut self, host: &ServiceName, service: &'a Value) {
        let nothing = Service::default();
        let listed = self.wanted.services.get(host).unwrap_or(&nothing);
        let selector = selector(service);
        if listed.pin == Some(Pin::Cloud) || selector.is_empty() {
            return;
        }
        let template = |workload: &Value| labels(workload.pointer("/spec/template/metadata/labels"));
        let is_gateway = |workload: &&Value| {
            let labels = template(workload);
            let mut edges = self.wanted.edges.values();
            edges.any(|edge| {
                edge.gateway_namespace == self.found.namespace && selects(&edge.gateway_labels, &labels)
            })
        };
        let selected: Vec<&'a Value> = self
            .found
            .workloads
            .iter()
            .filter(|workload| selects(&selector, &template(workload)) && !is_gateway(workload))
            .collect();
        let Some(cloud) = self.cloud(host, listed, &selected) else {
            return;
        };
        for edge in self.wanted.edges.keys() {
            self.instance(host, service, listed, cloud, edge);
        }
    }

    /// The workload that runs it in the cloud.
    fn cloud(&mut self, host: &ServiceName, listed: &Service, selected: &[&'a Value]) -> Option<&'a Value> {
        let name = |workload: &Value| text(workload, "/metadata/name").unwrap_or_default().to_owned();
        if let Some(wanted) = &listed.cloud_deployment {
            let found = selected.iter().find(|workload| name(workload) == *wanted);
            if found.is_none() {
                self.judged.findings.push(Finding::error(
                    format!("service {host}"),
                    format!("spec.services[].cloud.deployment names {wanted}, which is not there or not selected by it"),
                    "correct the name, or the Service's selector",
                ));
            }
            return found.copied();
        }
        let label = area_label();
        let is_at_edge = |workload: &Value| {
            labels(workload.pointer("/metadata/labels")).contains_key(&label)
                || listed
                    .edge_deployments
                    .values()
                    .any(|edge| *edge == name(workload))
        };
        let others: Vec<&'a Value> = selected.iter().copied().filter(|one| !is_at_edge(one)).collect();
        match others.as_slice() {
            [one] => Some(one),
            [] => None,
            several => {
                let names: Vec<String> = several.iter().map(|workload| name(workload)).collect();
                self.judged.findings.push(Finding::warning(
                    format!("service {host}"),
                    format!("several workloads have its pods: {}", names.join(", ")),
                    "name the cloud's in spec.services[].cloud.deployment, and those at edges in \
                     spec.services[].edge.deployments",
                ));
                None
            }
        }
    }

    fn instance(
        &mut self,
        host: &ServiceName,
        service: &Value,
        listed: &Service,
        cloud: &'a Value,
        edge: &AreaName,
    ) {
        let place = Edge {
            name: edge,
            cloud: &self.wanted.config.cloud,
            map: &self.wanted.areas,
            taints: self.taints.get(edge).map(Vec::as_slice).unwrap_or_default(),
        };
        let workload = |name: &str| {
            let mut all = self.found.workloads.iter();
            all.find(|one| {
                text(one, "/kind") == Some("Deployment") && text(one, "/metadata/name") == Some(name)
            })
        };
        let cloud_name = text(cloud, "/metadata/name").unwrap_or_default();
        let mut source = Source {
            workload: cloud,
            service,
            autoscaler: self.autoscaler(cloud),
            found: None,
        };
        let key = (host.clone(), edge.clone());
        let notes = if let Some(name) = listed.edge_deployments.get(edge) {
            let Some(found) = workload(name) else {
                self.judged.findings.push(Finding::error(
                    format!("service {host} at {edge}"),
                    format!(
                        "spec.services[].edge.deployments names the Deployment {name}, which is not there"
                    ),
                    "make it, with 0 replicas, or correct the name",
                ));
                return;
            };
            existing(found, self.autoscaler(found), &source, place).map(|existing| existing.notes)
        } else {
            source.found = workload(&name_at(cloud_name, place.cloud, edge));
            let wish = Wish {
                object: &self.object,
                replicas: 1,
                min_replicas: listed.min_replicas,
                drain: std::time::Duration::from_secs(60),
            };
            derive(&source, place, &wish).map(|derived| derived.notes)
        };
        match notes {
            Ok(notes) if notes.is_empty() => {}
            Ok(notes) => drop(self.judged.notes.insert(key, notes)),
            Err(refused) => drop(self.judged.refused.insert(key, refused)),
        }
    }

    fn autoscaler(&self, workload: &Value) -> Option<&'a Value> {
        let mut all = self.found.autoscalers.iter();
        all.find(|one| {
            text(one, "/spec/scaleTargetRef/kind") == text(workload, "/kind")
                && text(one, "/spec/scaleTargetRef/name") == text(workload, "/metadata/name")
        })
    }
}
