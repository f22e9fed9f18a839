//! The shipped examples, their schema, and what becomes of files that were damaged.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

use std::path::PathBuf;

use gma::problem::{Loaded, PlacementProblem, schema};
use gma_core::model::{Shares, evaluate};
use gma_core::solver::{Budget, solve};
use proptest::prelude::*;

fn examples() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    assert_eq!(found.len(), 3);
    found
}

fn schema_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/problem.schema.json")
}

#[test]
fn the_published_schema_is_that_of_the_code() {
    let published: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(schema_file()).unwrap()).unwrap();
    assert_eq!(
        published,
        *schema().as_value(),
        "write it anew: gma plan --schema > controller/examples/problem.schema.json"
    );
}

#[test]
fn the_schema_accepts_the_examples_and_what_is_written() {
    let validator = jsonschema::validator_for(schema().as_value()).unwrap();
    for (name, text) in examples() {
        let example: serde_json::Value = serde_norway::from_str(&text).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&example)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let loaded = Loaded::parse(&name, &text).unwrap();
        let written = PlacementProblem::from_problem(&loaded.problem, &loaded.current)
            .to_json()
            .unwrap();
        let written = serde_json::from_str(&written).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&written)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{name} written: {errors:?}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let validator = jsonschema::validator_for(schema().as_value()).unwrap();
    let (name, text) = examples().swap_remove(2);
    assert!(name.contains("web-shop"));
    let cases = [
        ("rtt: 60ms", "rtt: 60"),
        ("rtt: 60ms", "rtt: -60ms"),
        ("rtt: 60ms", "rtt: 60 lightyears"),
        ("  rtt: 60ms\n", ""),
        ("rtt:", "rrt:"),
        ("Second: 90", "Second: -1"),
        ("pin: cloud", "pin: moon"),
        ("512Mi", "512"),
        ("localities: 3", "localities: 0"),
        ("\"0.0208\"", "cheap"),
        ("kind: Placement", "kind: Displacement"),
    ];
    for (from, to) in cases {
        assert!(text.contains(from), "{from}");
        let wrong = text.replacen(from, to, 1);
        assert!(Loaded::parse("t", &wrong).is_err(), "{from} -> {to}: read");
        let wrong: serde_json::Value = serde_norway::from_str(&wrong).unwrap();
        assert!(!validator.is_valid(&wrong), "{from} -> {to}: valid");
    }
}

#[test]
fn examples_survive_writing() {
    for (name, text) in examples() {
        let loaded = Loaded::parse(&name, &text).unwrap();
        for written in [loaded.file.to_yaml().unwrap(), loaded.file.to_json().unwrap()] {
            assert_eq!(
                Loaded::parse(&name, &written).unwrap().file,
                loaded.file,
                "{written}"
            );
        }
        let document = PlacementProblem::from_problem(&loaded.problem, &loaded.current);
        let again = Loaded::parse(&name, &document.to_yaml().unwrap()).unwrap();
        assert_eq!(
            (again.problem, again.current),
            (loaded.problem, loaded.current),
            "{name}"
        );
    }
}

/// Damage to a text.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Remove(usize),
    Repeat(usize),
    Cut(usize),
    Number(usize, &'static str),
}

const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "-0.0",
    "1e308",
    "1e-320",
    "99999999999999999999999",
    ".nan",
    "-.inf",
    "NaN",
    "null",
    "''",
    "[]",
];

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Remove),
        any::<usize>().prop_map(Damage::Repeat),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), prop::sample::select(&NUMBERS[..])).prop_map(|(at, with)| Damage::Number(at, with)),
    ]
}

fn damaged(text: &str, damage: &Damage) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = |at: usize| at % lines.len().max(1);
    match *damage {
        Damage::Flip(at, bits) => {
            let mut bytes = text.as_bytes().to_vec();
            let at = at % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Damage::Remove(at) => {
            let kept = lines.iter().enumerate().filter(|(i, _)| *i != line(at));
            kept.map(|(_, text)| *text).collect()
        }
        Damage::Repeat(at) => {
            let repeated = lines.iter().enumerate();
            repeated
                .flat_map(|(i, text)| vec![*text; if i == line(at) { 2 } else { 1 }])
                .collect()
        }
        Damage::Cut(at) => text.chars().take(at % (text.len() + 1)).collect(),
        Damage::Number(at, with) => {
            let starts: Vec<usize> = text
                .char_indices()
                .zip(std::iter::once(' ').chain(text.chars()))
                .filter(|((_, c), before)| c.is_ascii_digit() && !before.is_ascii_digit())
                .map(|((start, _), _)| start)
                .collect();
            let Some(&start) = starts.get(at % starts.len().max(1)) else {
                return text.to_owned();
            };
            let digits = |c: char| c.is_ascii_digit() || c == '.';
            let rest = &text[start..];
            let end = start + rest.find(|c| !digits(c)).unwrap_or(rest.len());
            format!("{}{with}{}", &text[..start], &text[end..])
        }
    }
}

/// What is read evaluates to finite numbers; what is not says where.
fn check(text: &str) -> Result<(), TestCaseError> {
    match Loaded::parse("t.yaml", text) {
        Ok(loaded) => {
            let shares = Shares::resting(&loaded.problem, &loaded.current);
            let result = evaluate(&loaded.problem, &loaded.current, &shares);
            prop_assert!(result.cost.total().as_f64().is_finite());
            prop_assert!(result.edges.iter().all(|edge| edge.delay.as_f64().is_finite()));
            let solution = solve(&loaded.problem, &loaded.current, Budget { evaluations: 100 });
            prop_assert!(solution.evaluation.cost.total().as_f64().is_finite());
            prop_assert!(
                solution
                    .edges
                    .iter()
                    .all(|edge| edge.predicted.as_f64().is_finite())
            );
            let written = loaded.file.to_yaml().unwrap();
            prop_assert_eq!(Loaded::parse("t.yaml", &written).unwrap().file, loaded.file);
        }
        Err(error) => prop_assert!(error.to_string().starts_with("t.yaml"), "{}", error),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_yaml_is_read_or_refused(
        which in 0..3usize,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut text = examples()[which].1.clone();
        for damage in &damages {
            text = damaged(&text, damage);
        }
        check(&text)?;
    }

    #[test]
    fn damaged_json_is_read_or_refused(
        which in 0..3usize,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (name, yaml) = &examples()[which];
        let mut text = Loaded::parse(name, yaml).unwrap().file.to_json().unwrap();
        for damage in &damages {
            text = damaged(&text, damage);
        }
        check(&text)?;
    }

    #[test]
    fn any_text_is_refused_with_its_name(text in "\\PC{0,200}") {
        check(&text)?;
    }
}
