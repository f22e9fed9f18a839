//! Who owns which field of an object: `metadata.managedFields`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::MANAGER;

/// Path of a field from the object's root.
pub(super) type Path = Vec<String>;

/// Owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Owners {
    ours: BTreeSet<Path>,
    /// With the manager as a person reads it.
    others: BTreeSet<(Path, String)>,
}

// === impl Owners ===

impl Owners {
    /// Reads the owners. A leaf of the spec that is there and that nobody owns counts as somebody else's: an object whose
    /// managed fields were cleared must not be taken for ours.
    pub(super) fn of(object: &Value) -> Self {
        let mut owners = Self::default();
        let entries = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let (manager, operation) = (text("manager"), text("operation"));
            let mut fields = BTreeSet::new();
            leaves(
                entry.get("fieldsV1").unwrap_or(&Value::Null),
                &mut Vec::new(),
                &mut fields,
            );
            if manager == MANAGER && operation == "Apply" && text("subresource").is_empty() {
                owners.ours.extend(fields);
            } else {
                let who = format!("{manager} ({operation})");
                owners
                    .others
                    .extend(fields.into_iter().map(|path| (path, who.clone())));
            }
        }
        let mut present = BTreeSet::new();
        let spec = object.get("spec").unwrap_or(&Value::Null);
        values(spec, &mut vec!["spec".to_owned()], &mut present);
        for path in present {
            if !owners.is_ours(&path) && owners.other(&path).is_none() {
                owners.others.insert((path, "an unknown manager".to_owned()));
            }
        }
        owners
    }

    /// Whether we own a field, or something that holds it.
    pub(super) fn is_ours(&self, path: &[String]) -> bool {
        self.ours.iter().any(|owned| path.starts_with(owned))
    }

    /// Whether we own anything.
    pub(super) fn have_ours(&self) -> bool {
        !self.ours.is_empty()
    }

    /// Who else owns a field or something in it. Owning an empty object that holds it is no claim on what is put into it.
    pub(super) fn other(&self, path: &[String]) -> Option<&str> {
        self.others_in(path).next().map(|(_, who)| who)
    }

    /// Everything that others own in a field, with the owner.
    pub(super) fn others_in(&self, path: &[String]) -> impl Iterator<Item = (&Path, &str)> {
        self.others
            .iter()
            .filter(move |(owned, _)| owned.starts_with(path))
            .map(|(owned, who)| (owned, who.as_str()))
    }
}

/// The leaves of a `fieldsV1`. Entries of lists and sets end a path: what holds them is what we write, whole.
fn leaves(fields: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    let named: Vec<(&str, &Value)> = fields
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, inner)| key.strip_prefix("f:").map(|name| (name, inner)))
        .collect();
    if named.is_empty() && !path.is_empty() {
        found.insert(path.clone());
    }
    for (name, inner) in named {
        path.push(name.to_owned());
        leaves(inner, path, found);
        path.pop();
    }
}

/// The leaves of a value; lists are leaves, as a `DestinationRule`'s lists are atomic.
fn values(value: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                path.push(name.clone());
                values(inner, path, found);
                path.pop();
            }
        }
        _ => {
            if !value.is_null() {
                found.insert(path.clone());
            }
        }
    }
}
