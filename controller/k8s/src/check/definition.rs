//! The definition of `EdgePlacement`: whether it is there, and whether it is that of this version.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Finding, path, text};
use crate::api::{VERSION, crd};

/// Where kubectl keeps what it was given.
const GIVEN: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
const NAME: &str = "CustomResourceDefinition edgeplacements.gma.dev";
const INSTALL: &str = "`gma crd | kubectl apply -f -`";

/// Judges the definition that is installed; `None`: there is none.
pub(super) fn check(installed: Option<&Value>) -> Vec<Finding> {
    let Some(installed) = installed else {
        return vec![Finding::error(NAME, "EdgePlacement is not installed", INSTALL)];
    };
    let own = crd().ok().and_then(|own| serde_json::to_value(own).ok());
    let (Some(own), Some(installed)) = (own.as_ref().and_then(schema), schema(installed)) else {
        let what = format!("it does not serve {VERSION}");
        return vec![Finding::error(NAME, what, INSTALL)];
    };
    let (mut known, mut served) = (BTreeSet::new(), BTreeSet::new());
    fields(own, "", &mut known);
    fields(installed, "", &mut served);
    let lacking: Vec<String> = known.difference(&served).cloned().collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    vec![Finding::warning(
        NAME,
        format!("it is of an older version, without {}", super::named(&lacking)),
        INSTALL,
    )]
}

/// Fields of an object that were given and that the definition dropped, by what kubectl has noted.
pub(super) fn dropped(object: &Value, installed: Option<&Value>) -> Option<Finding> {
    let given: Value = serde_json::from_str(text(object, GIVEN)?).ok()?;
    let schema = schema(installed?)?;
    let mut unknown = Vec::new();
    strange(
        given.get("spec")?,
        schema.pointer("/properties/spec")?,
        "spec",
        &mut unknown,
    );
    if unknown.is_empty() {
        return None;
    }
    Some(Finding::warning(
        format!("EdgePlacement {}", path(object)),
        format!(
            "fields were dropped, for the definition does not know them: {}",
            unknown.join(", ")
        ),
        format!(
            "correct their names; where they are of a newer version, install its definition: {INSTALL} by the newer gma"
        ),
    ))
}

fn schema(definition: &Value) -> Option<&Value> {
    let versions = definition.pointer("/spec/versions")?.as_array()?;
    let version = versions
        .iter()
        .find(|version| text(version, "/name") == Some(VERSION))?;
    version.pointer("/schema/openAPIV3Schema")
}

/// Paths of all fields of a schema.
fn fields(schema: &Value, at: &str, into: &mut BTreeSet<String>) {
    if let Some(items) = schema.get("items") {
        return fields(items, &format!("{at}[]"), into);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        fields(property, &path, into);
        into.insert(path);
    }
}

/// Paths of fields of a value that its schema does not have.
fn strange(value: &Value, schema: &Value, at: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(given) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                // Labels and the like: any key.
                return;
            };
            for (name, value) in given {
                let path = format!("{at}.{name}");
                match properties.get(name) {
                    Some(schema) => strange(value, schema, &path, into),
                    None => into.push(path),
                }
            }
        }
        Value::Array(values) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, value) in values.iter().enumerate() {
                strange(value, schema, &format!("{at}[{index}]"), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn own() -> Value {
        serde_json::to_value(crd().unwrap()).unwrap()
    }

    #[test]
    fn our_own_definition_is_sound_and_none_is_not() {
        assert_eq!(check(Some(&own())), []);
        assert!(check(None)[0].to_string().contains("gma crd | kubectl apply"));
    }

    #[test]
    fn an_older_definition_is_told_by_what_it_lacks() {
        let mut older = own();
        let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let properties = older.pointer_mut(properties).unwrap().as_object_mut().unwrap();
        properties.remove("suspend").unwrap();
        let findings = check(Some(&older));
        assert!(findings[0].what.ends_with("without spec.suspend"), "{findings:?}");
    }

    #[test]
    fn fields_that_were_dropped_are_named_with_their_path() {
        let given = json!({"spec": {
            "areas": {"cloud": {"localities": ["eu"], "carbon": 1},
                "edges": [{"name": "edge-1", "gateway": {"matchLabels": {"any": "label"}}, "wind": true}]},
            "moon": {},
        }});
        let object = json!({"metadata": {"namespace": "shop", "name": "shop",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": given.to_string()}}});
        let finding = dropped(&object, Some(&own())).unwrap();
        let named = "spec.areas.cloud.carbon, spec.areas.edges[0].wind, spec.moon";
        assert!(finding.what.ends_with(named), "{finding}");
        assert_eq!(finding.object, "EdgePlacement shop/shop");
        // What is served by nobody's kubectl has no such note.
        assert_eq!(dropped(&json!({"metadata": {}}), Some(&own())), None);
    }
}
