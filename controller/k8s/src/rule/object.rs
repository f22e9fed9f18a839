//! A `DestinationRule` as the API server gives it.

use std::cmp::Ordering;

use serde_json::Value;

use super::owners::Owners;

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its host, a short name resolved as istiod does; may be a wildcard.
    pub host: String,
    /// Its spec, as it is.
    pub spec: Value,
    /// Who owns which field.
    pub(super) owners: Owners,
    created: String,
    export_to: Vec<String>,
}

/// An object that is no rule. The API server gives none such.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a DestinationRule without {0}")]
pub struct ObjectError(&'static str);

// === impl Rule ===

impl Rule {
    /// Reads an object; `domain` is the cluster's, usually `cluster.local`.
    ///
    /// # Errors
    /// It has no name, namespace or host.
    pub fn try_new(object: &Value, domain: &str) -> Result<Self, ObjectError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let namespace = text("/metadata/namespace").ok_or(ObjectError("a namespace"))?;
        let name = text("/metadata/name").ok_or(ObjectError("a name"))?;
        let host = text("/spec/host").ok_or(ObjectError("a host"))?;
        let host = if host.contains('.') || host.contains('*') {
            host.to_owned()
        } else {
            format!("{host}.{namespace}.svc.{domain}")
        };
        let export_to = object.pointer("/spec/exportTo").and_then(Value::as_array);
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            host,
            spec: object.get("spec").cloned().unwrap_or_default(),
            owners: Owners::of(object),
            created: text("/metadata/creationTimestamp").unwrap_or_default().to_owned(),
            export_to: export_to
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether any of its fields is ours.
    pub fn is_ours(&self) -> bool {
        self.owners.have_ours()
    }

    /// `namespace/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it is for some workloads of its namespace only.
    pub(super) fn has_selector(&self) -> bool {
        self.spec
            .get("workloadSelector")
            .is_some_and(|selector| !selector.is_null())
    }

    /// Whether callers in its own namespace see it as theirs.
    pub(super) fn is_local(&self) -> bool {
        self.has_selector() || self.export_to.is_empty() || self.exports(&["*", ".", &self.namespace])
    }

    /// Whether callers in another namespace see it.
    pub(super) fn is_exported_to(&self, caller: &str) -> bool {
        !self.has_selector()
            && (self.export_to.is_empty()
                || self.exports(&["*", caller])
                || (caller == self.namespace && self.exports(&["."])))
    }

    /// Whether nobody outside its namespace sees it.
    pub(super) fn is_private(&self) -> bool {
        self.has_selector()
            || (!self.export_to.is_empty()
                && self
                    .export_to
                    .iter()
                    .all(|namespace| namespace == "." || *namespace == self.namespace))
    }

    fn exports(&self, names: &[&str]) -> bool {
        self.export_to
            .iter()
            .any(|namespace| names.contains(&namespace.as_str()))
    }

    /// Whether its host covers another.
    pub(super) fn covers(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some(rest) => host.ends_with(rest) && host.len() > rest.len(),
            None => self.host == host,
        }
    }

    /// Its effective policy, where it has one.
    pub(super) fn policy(&self) -> Option<&Value> {
        self.spec.get("trafficPolicy").filter(|policy| !policy.is_null())
    }

    /// The older first, as istiod sorts.
    pub(super) fn by_age(&self, other: &Self) -> Ordering {
        (&self.created, &self.name, &self.namespace).cmp(&(&other.created, &other.name, &other.namespace))
    }
}
