//! What the controller's ServiceAccount must be allowed: read from the very manifest that gives it.

use std::fmt;

use serde::Deserialize as _;
use serde_json::Value;

use super::text;

/// The manifest; it is what the tests run the controller with, so a right that it lacks is one that is not needed.
const RBAC: &str = include_str!("../../../../deploy/base/rbac.yaml");

/// A right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    /// One object only.
    pub(super) name: String,
    /// Empty: in every namespace.
    pub(super) namespace: String,
}

/// Everything that the controller in `own` needs for an application in `namespace`. What it looks at it looks at everywhere.
///
/// # Errors
/// The manifest in this program is no YAML: a fault of the program.
pub(super) fn needed(own: &str, namespace: &str) -> Result<Vec<Right>, serde_norway::Error> {
    let mut needed = Vec::new();
    for document in serde_norway::Deserializer::from_str(RBAC) {
        let role = Value::deserialize(document)?;
        let in_cluster = match text(&role, "/kind") {
            Some("ClusterRole") => true,
            Some("Role") => false,
            _ => continue,
        };
        let rules = role.get("rules").and_then(Value::as_array);
        for rule in rules.into_iter().flatten() {
            add(rule, in_cluster, own, namespace, &mut needed);
        }
    }
    Ok(needed)
}

fn add(rule: &Value, in_cluster: bool, own: &str, namespace: &str, needed: &mut Vec<Right>) {
    let texts = |field: &str| -> Vec<String> {
        let values = rule.get(field).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut names = texts("resourceNames");
    if names.is_empty() {
        names.push(String::new());
    }
    for group in texts("apiGroups") {
        for full in texts("resources") {
            let (resource, subresource) = full.split_once('/').unwrap_or((&full, ""));
            for verb in texts("verbs") {
                for name in &names {
                    let is_look = matches!(verb.as_str(), "get" | "list" | "watch");
                    needed.push(Right {
                        group: group.clone(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        name: name.clone(),
                        namespace: match (in_cluster, is_look) {
                            (true, true) => String::new(),
                            (true, false) => namespace.to_owned(),
                            (false, _) => own.to_owned(),
                        },
                        verb: verb.clone(),
                    });
                }
            }
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |sign: &str, part: &str| {
            if part.is_empty() {
                String::new()
            } else {
                format!("{sign}{part}")
            }
        };
        write!(
            f,
            "{} {}{}{}{}{}",
            self.verb,
            self.resource,
            part(".", &self.group),
            part("/", &self.subresource),
            part(" ", &self.name),
            part(" in ", &self.namespace)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_the_manifest() {
        let needed = needed("gma-system", "shop").unwrap();
        let texts: Vec<String> = needed.iter().map(ToString::to_string).collect();
        for right in [
            "watch nodes",
            "list destinationrules.networking.istio.io",
            "patch destinationrules.networking.istio.io in shop",
            "patch deployments.apps/scale in shop",
            "update leases.coordination.k8s.io gma in gma-system",
            "patch pods in gma-system",
        ] {
            assert!(texts.iter().any(|text| text == right), "{right}: {texts:#?}");
        }
    }
}
