//! The schema, as far as it can be tried without an API server: structure by JSON Schema, rules by a CEL interpreter.
//! Whether the server takes the schema, and what it says of the same files, is tried on a real one.

use std::fs;
use std::path::{Path, PathBuf};

use kube::Resource as _;
use kube::core::cel::Validator;
use serde_json::Value;

use super::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn yaml_files(name: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name} is empty");
    files
}

fn schema() -> Value {
    let crd = crd().unwrap();
    serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap()
}

/// Fills in what the schema says is there when it is absent, as the API server does before it validates.
fn fill(schema: &Value, value: &mut Value) {
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object_mut()) {
        for (name, property) in properties {
            if let (false, Some(default)) = (fields.contains_key(name), property.get("default")) {
                fields.insert(name.clone(), default.clone());
            }
            if let Some(field) = fields.get_mut(name) {
                fill(property, field);
            }
        }
    }
    if let (true, Some(items)) = (schema["items"].is_object(), value.as_array_mut()) {
        items.iter_mut().for_each(|item| fill(&schema["items"], item));
    }
}

/// Every key of a map list, and every entry of a set, is there once.
fn duplicates(schema: &Value, value: &Value, found: &mut Vec<String>) {
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, field) in fields {
            if let Some(property) = properties.get(name) {
                duplicates(property, field, found);
            }
        }
    }
    let Some(items) = value.as_array() else { return };
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => item[schema["x-kubernetes-list-map-keys"][0].as_str().unwrap()].clone(),
        Some("set") => item.clone(),
        _ => Value::Null,
    };
    for (position, item) in items.iter().enumerate() {
        let one = key(item);
        if !one.is_null() && items[..position].iter().any(|other| key(other) == one) {
            found.push(format!("{one} is there twice"));
        }
        duplicates(&schema["items"], item, found);
    }
}

/// What is wrong with an object; the rules' messages are as the API server says them.
fn faults(schema: &Value, text: &str) -> Vec<String> {
    let mut object: Value = serde_norway::from_str(text).unwrap();
    fill(schema, &mut object);
    let structure = jsonschema::options().build(schema).unwrap();
    let mut found: Vec<String> = structure
        .iter_errors(&object)
        .map(|error| error.to_string())
        .collect();
    duplicates(schema, &object, &mut found);
    if let Err(errors) = Validator::new().validate(schema, &object, None) {
        found.extend(errors.iter().map(ToString::to_string));
    }
    found
}

#[test]
fn every_accepted_example_is_accepted_and_reads_back() {
    let schema = schema();
    for folder in ["testdata/edgeplacement/accepted", "../../deploy/examples"] {
        for (name, text) in yaml_files(folder) {
            // As large as may be, for the server's budget; the interpreter here takes ten seconds for it.
            if name.starts_with("longest-") {
                continue;
            }
            assert_eq!(faults(&schema, &text), Vec::<String>::new(), "{name}");
            let mut object: Value = serde_norway::from_str(&text).unwrap();
            let typed: EdgePlacement = serde_norway::from_str(&text).unwrap();
            fill(&schema, &mut object);
            // Every field of the file is one of the type's, so nothing is lost on the way.
            assert_eq!(serde_json::to_value(&typed).unwrap(), object, "{name}");
        }
    }
}

#[test]
fn every_refused_example_is_refused_with_what_to_do() {
    let schema = schema();
    let rules = schema.to_string();
    let files = yaml_files("testdata/edgeplacement/refused");
    let mut by_rule = 0;
    for (name, text) in &files {
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "))
            .unwrap_or_else(|| panic!("{name}: its first line is `# expect: MESSAGE`"));
        let faults = faults(&schema, text);
        assert!(!faults.is_empty(), "{name} is accepted");
        // The server words what is wrong with the structure; a rule's message is ours.
        if rules.contains(
            &serde_json::to_string(expected)
                .unwrap()
                .trim_matches('"')
                .to_owned(),
        ) {
            by_rule += 1;
            assert!(
                faults.iter().any(|fault| fault.contains(expected)),
                "{name}: {faults:?}"
            );
        }
    }
    assert!(by_rule > 30, "{by_rule} of {} are refused by a rule", files.len());
}

#[test]
fn every_rule_has_a_message_and_a_refused_example() {
    fn messages(schema: &Value, found: &mut Vec<String>) {
        if let Some(rules) = schema.get("x-kubernetes-validations").and_then(Value::as_array) {
            found.extend(
                rules
                    .iter()
                    .map(|rule| rule["message"].as_str().unwrap().to_owned()),
            );
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|field| messages(field, found)),
            Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    messages(&schema(), &mut all);
    let expected: Vec<String> = yaml_files("testdata/edgeplacement/refused")
        .into_iter()
        .map(|(_, text)| text.lines().next().unwrap().replace("# expect: ", ""))
        .collect();
    for message in all {
        assert!(
            expected
                .iter()
                .any(|expected| message.contains(expected.as_str())),
            "no refused example is for: {message}"
        );
    }
}

/// What CEL costs is bounded by the lengths of what it sees.
#[test]
fn every_list_map_and_text_of_the_spec_is_bounded() {
    fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
        let lacks = |key: &str| schema.get(key).is_none();
        let is_unbounded = match schema["type"].as_str() {
            Some("array") => lacks("maxItems"),
            Some("string") => lacks("maxLength") && lacks("enum"),
            Some("object") => !lacks("additionalProperties") && lacks("maxProperties"),
            _ => false,
        };
        if is_unbounded {
            found.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(&format!("{path}.{name}"), property, found);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                unbounded(&format!("{path}[]"), &schema[inner], found);
            }
        }
    }
    let mut found = Vec::new();
    unbounded("spec", &schema()["properties"]["spec"], &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_field_is_a_float_or_null() {
    let text = crd_yaml().unwrap();
    assert!(!text.contains("type: number") && !text.contains("nullable") && !text.contains("uint"));
}

#[test]
fn the_committed_definition_is_what_the_command_prints() {
    let committed = fs::read_to_string(folder("../../deploy/base/crd.yaml")).unwrap();
    assert!(
        committed == crd_yaml().unwrap(),
        "deploy/base/crd.yaml is old: write it anew with `gma crd > deploy/base/crd.yaml`"
    );
}

#[test]
fn the_group_is_one() {
    assert_eq!(EdgePlacement::group(&()), GROUP);
    assert_eq!(EdgePlacement::version(&()), VERSION);
}

#[test]
fn a_status_is_never_longer_than_its_bound() {
    let long = |length: usize| "é".repeat(length);
    let service = |number: usize| format!("{number}{}", "s".repeat(60));
    let edge = |number: usize| EdgeStatus {
        name: service(number),
        held: Some(long(5_000)),
        services: (0..500).map(service).collect(),
        short_if_lost: (0..500)
            .map(|number| Shortage {
                service: service(number),
                replicas: 3,
            })
            .collect(),
        ..EdgeStatus::default()
    };
    let decision = DecisionStatus {
        time: serde_json::from_value("2026-01-01T00:00:00Z".into()).unwrap(),
        edge: service(0),
        what: long(10_000),
        why: long(10_000),
        outcome: None,
    };
    let status = EdgePlacementStatus {
        edges: (0..40).map(edge).collect(),
        decisions: vec![decision; 30],
        held: (0..500)
            .map(|number| HeldService {
                service: service(number),
                why: long(3_000),
                fix: Some(long(3_000)),
            })
            .collect(),
        ..EdgePlacementStatus::default()
    };
    let bounded = status.bounded();
    let bytes = serde_json::to_vec(&bounded).unwrap().len();
    assert!(bytes <= MAX_STATUS_BYTES, "{bytes}");
    assert_eq!(bounded.decisions.len(), MAX_DECISIONS);
    let first = &bounded.edges[0];
    assert!(!first.services.is_empty());
    assert_eq!(
        first.services.len() + usize::try_from(first.more_services.unwrap()).unwrap(),
        500
    );
}

#[test]
fn a_short_status_stays_as_it_is() {
    let status = EdgePlacementStatus {
        observed_generation: Some(3),
        edges: vec![EdgeStatus {
            name: "edge-1".to_owned(),
            state: "Observing".to_owned(),
            services: vec!["cart".to_owned()],
            ..EdgeStatus::default()
        }],
        ..EdgePlacementStatus::default()
    };
    assert_eq!(status.clone().bounded(), status);
}
