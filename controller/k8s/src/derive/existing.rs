//! A Deployment that the user has made for an edge: it is scaled between zero and what is needed, and nothing else of it
//! is written.

use serde_json::{Map, Value};

use super::place::requirements;
use super::selector::Selector;
use super::{Edge, Note, Refused, Source, Workload, selector_fix, service_selector, text};

/// A Deployment to scale, by its scale subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Replicas that it asks for now; 0: at rest.
    pub replicas: u32,
    /// Its autoscaler, which does nothing while there are 0 replicas, and owns the count from 1 on.
    pub autoscaler: Option<String>,
    /// What the user should know.
    pub notes: Vec<Note>,
}

/// Judges a Deployment that the spec names for an edge; `autoscaler` is its own, `cloud` what it could be derived from.
///
/// # Errors
/// [`Refused`] where it can't be the service's instance.
pub fn existing(
    workload: &Value,
    autoscaler: Option<&Value>,
    cloud: &Source<'_>,
    edge: Edge<'_>,
) -> Result<Existing, Refused> {
    let found = Workload::try_new(workload)?;
    service_selector(cloud.service, &found)?;
    let replicas = workload.pointer("/spec/replicas").and_then(Value::as_u64);
    let mut notes = Vec::new();
    if !is_confined(found.template.get("spec").and_then(Value::as_object), edge) {
        notes.push(Note::NotConfined { fix: fix(edge) });
    }
    let is_shared = Selector::of(cloud.workload.pointer("/spec/selector")).matches(found.labels);
    if is_shared && autoscaler.is_some() && cloud.autoscaler.is_some() {
        let name = text(cloud.workload, "/metadata/name").unwrap_or_default();
        notes.push(Note::AutoscalersStopped {
            fix: selector_fix(name),
        });
    }
    Ok(Existing {
        namespace: found.namespace.to_owned(),
        name: found.name.to_owned(),
        replicas: replicas.unwrap_or(1).try_into().unwrap_or(u32::MAX),
        autoscaler: autoscaler
            .and_then(|autoscaler| text(autoscaler, "/metadata/name"))
            .map(str::to_owned),
        notes,
    })
}

/// Whether each alternative of what the pods ask of nodes lies in the edge.
fn is_confined(spec: Option<&Map<String, Value>>, edge: Edge<'_>) -> bool {
    let Some(spec) = spec else { return false };
    let selector = spec.get("nodeSelector").and_then(Value::as_object);
    let required = spec
        .get("affinity")
        .and_then(|affinity| {
            affinity.pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")
        })
        .and_then(Value::as_array);
    let asks = |term: Option<&Value>, key: &str, allowed: &[String]| {
        let selected = selector
            .and_then(|selector| selector.get(key))
            .and_then(Value::as_str);
        if selected.is_some_and(|value| allowed.iter().any(|one| one == value)) {
            return true;
        }
        let expressions = term
            .and_then(|term| term.get("matchExpressions"))
            .and_then(Value::as_array);
        expressions.into_iter().flatten().any(|expression| {
            let is_in = expression.get("operator").and_then(Value::as_str) == Some("In");
            let values = expression.get("values").and_then(Value::as_array);
            let mut values = values.into_iter().flatten().filter_map(Value::as_str);
            is_in
                && expression.get("key").and_then(Value::as_str) == Some(key)
                && values.all(|value| allowed.iter().any(|one| one == value))
        })
    };
    let localities = requirements(edge.map, edge.name);
    let lies_in = |term: Option<&Value>| {
        localities
            .iter()
            .any(|locality| locality.iter().all(|(key, allowed)| asks(term, key, allowed)))
    };
    match required {
        Some(terms) if !terms.is_empty() => terms.iter().all(|term| lies_in(Some(term))),
        _ => lies_in(None),
    }
}

fn fix(edge: Edge<'_>) -> String {
    let localities = requirements(edge.map, edge.name);
    let describe = |locality: &Vec<(&str, Vec<String>)>| {
        let parts = locality
            .iter()
            .map(|(key, values)| format!("{key} in ({})", values.join(", ")));
        parts.collect::<Vec<_>>().join(" and ")
    };
    let all: Vec<String> = localities.iter().map(describe).collect();
    format!("give its pods a required node affinity: {}", all.join(", or "))
}
