//! The CustomResourceDefinition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use super::EdgePlacement;

/// The definition could not be written; a fault of this program.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// It is no JSON.
    #[error("the CustomResourceDefinition is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no YAML.
    #[error("the CustomResourceDefinition is no YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
}

/// The CustomResourceDefinition of `EdgePlacement`.
///
/// An absent field and `null` are not the same to a rule (`has` is true of a field that is there), so no field is
/// nullable: then the API server takes a `null` for an absent field. OpenAPI has no unsigned formats; the ranges say what is allowed.
///
/// # Errors
/// See [`CrdError`].
pub fn crd() -> Result<CustomResourceDefinition, CrdError> {
    let mut value = serde_json::to_value(EdgePlacement::crd())?;
    tidy(&mut value);
    Ok(serde_json::from_value(value)?)
}

/// The same as YAML.
///
/// # Errors
/// See [`CrdError`].
pub fn crd_yaml() -> Result<String, CrdError> {
    Ok(serde_norway::to_string(&serde_json::to_value(crd()?)?)?)
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A property may have that name; then its value is a schema.
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            if let Some(format) = fields.get_mut("format") {
                match format.as_str() {
                    Some("uint32") => *format = "int32".into(),
                    Some("uint64") => *format = "int64".into(),
                    _ => {}
                }
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
