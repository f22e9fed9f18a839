//! What the mesh needs to know of a muBench work model: services, their hosts, and who calls whom. The cell reads the
//! rest, and says what is wrong there.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::ids::ServiceName;
use serde_json::Value;

use crate::topology::Topology;

/// A service of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Service {
    /// The short name, by which the cell knows it.
    pub(super) name: String,
    /// The services that it may call: its sidecar knows these only, as with an Istio `Sidecar`. For each, Envoy holds
    /// an inotify instance, of which a user has 128 by default.
    pub(super) calls: BTreeSet<ServiceName>,
}

/// Services by host. Errors say what to change.
pub(super) fn parse(topology: &Topology, text: &str) -> Result<BTreeMap<ServiceName, Service>, String> {
    let model: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| {
        format!("is no muBench work model: {error}; it maps each service to its description")
    })?;
    let mut services = BTreeMap::new();
    for (name, description) in &model {
        let host = topology.host(name);
        let url = description.get("url").and_then(Value::as_str).unwrap_or(name);
        if !names_of(topology, name).contains(&url.split(':').next().unwrap_or_default().to_owned()) {
            return Err(format!(
                "calls `{name}` by `{url}`, which the mesh does not serve; make {name}.url `{host}`, or set the \
                 topology's namespace"
            ));
        }
        let mut calls = BTreeSet::new();
        collect_callees(description, &mut calls);
        if let Some(unknown) = calls.iter().find(|callee| !model.contains_key(**callee)) {
            return Err(format!(
                "lets `{name}` call `{unknown}`, which it does not describe; describe it"
            ));
        }
        let calls = calls
            .into_iter()
            .map(|callee| ServiceName::new(topology.host(callee)))
            .collect();
        services.insert(
            ServiceName::new(host),
            Service {
                name: name.clone(),
                calls,
            },
        );
    }
    if services.is_empty() {
        return Err("has no service; describe at least one".to_owned());
    }
    Ok(services)
}

/// Names that the mesh answers to.
fn names_of(topology: &Topology, service: &str) -> [String; 4] {
    let namespace = &topology.namespace;
    [
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        topology.host(service),
    ]
}

/// The lists called `services`, in `external_services` and in alternative behaviours.
fn collect_callees<'a>(description: &'a Value, callees: &mut BTreeSet<&'a str>) {
    match description {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_array().filter(|_| key == "services") {
                    Some(names) => callees.extend(names.iter().filter_map(Value::as_str)),
                    None => collect_callees(value, callees),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_callees(value, callees)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<ServiceName, Service>, String> {
        parse(&Topology::embedded("127.0.0.1:1".parse().unwrap()).unwrap(), text)
    }

    #[test]
    fn the_embedded_one_has_ten_services_and_its_calls() {
        let services = parsed(include_str!("../../default/workmodel.json")).unwrap();
        assert_eq!(services.len(), 10);
        let s0 = &services[&ServiceName::from("s0.shop.svc.cluster.local")];
        let calls = ["s1", "s2", "s3"].map(|name| ServiceName::new(format!("{name}.shop.svc.cluster.local")));
        assert_eq!((s0.name.as_str(), &s0.calls), ("s0", &calls.into()));
    }

    #[test]
    fn calls_of_alternative_behaviours_count() {
        let text = r#"{"s0": {"alternative_behaviors": {"b": {"external_services": [{"services": ["s1"]}]}}}, "s1": {}}"#;
        let services = parsed(text).unwrap();
        assert_eq!(
            services[&ServiceName::from("s0.shop.svc.cluster.local")]
                .calls
                .len(),
            1
        );
    }

    #[test]
    fn a_callee_that_is_not_described_is_named() {
        let error = parsed(r#"{"s0": {"external_services": [{"services": ["s9"]}]}}"#).unwrap_err();
        assert!(error.contains("`s0`") && error.contains("`s9`"), "{error}");
    }

    #[test]
    fn a_url_that_the_mesh_does_not_serve_is_named_with_the_right_one() {
        for good in [
            "s1",
            "s1.shop",
            "s1.shop.svc",
            "s1.shop.svc.cluster.local",
            "s1.shop.svc.cluster.local:8080",
        ] {
            parsed(&format!("{{\"s1\": {{\"url\": \"{good}\"}}}}")).unwrap();
        }
        let error = parsed("{\"s1\": {\"url\": \"s1.default\"}}").unwrap_err();
        assert!(
            error.contains("s1.default") && error.contains("s1.shop.svc.cluster.local"),
            "{error}"
        );
    }
}
