//! Files with random changes.

use std::fs;

use gma::convert::{Input, convert};
use gma::problem::Loaded;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{Copy, SMALL};

/// One change of a text.
#[derive(Clone, Debug)]
enum Mutation {
    /// A line is lost.
    Drop(Index),
    /// A line is there twice.
    Repeat(Index),
    /// Two lines change places.
    Swap(Index, Index),
    /// What follows a colon is something else.
    Value(Index, &'static str),
    /// A character is another one.
    Character(Index, char),
}

const VALUES: [&str; 26] = [
    "",
    "null",
    "~",
    "0",
    "-1",
    "1e400",
    ".nan",
    ".inf",
    "99999999999999999999",
    "4294967295",
    "[]",
    "{}",
    "[[]]",
    "{a: {b: c}}",
    "\"\"",
    "yes",
    "!tag x",
    "&a [*a]",
    "1h",
    "0ms",
    "18446744073709551615",
    "\"\\u2028\\0\"",
    "1E",
    "5Gbps",
    "[1, 1, 1, 1]",
    "300%",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        1 => any::<Index>().prop_map(Mutation::Drop),
        1 => any::<Index>().prop_map(Mutation::Repeat),
        1 => any::<(Index, Index)>().prop_map(|(a, b)| Mutation::Swap(a, b)),
        4 => (any::<Index>(), select(VALUES.as_slice())).prop_map(|(at, value)| Mutation::Value(at, value)),
        1 => (any::<Index>(), any::<char>()).prop_map(|(at, c)| Mutation::Character(at, c)),
    ]
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return String::new();
    }
    match mutation {
        Mutation::Drop(at) => {
            lines.remove(at.index(lines.len()));
        }
        Mutation::Repeat(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at].clone());
        }
        Mutation::Swap(a, b) => {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        Mutation::Value(at, value) => {
            let at = at.index(lines.len());
            let key = lines[at].split_once(':').map(|(key, _)| key.to_owned());
            lines[at] = key.map_or_else(|| format!("- {value}"), |key| format!("{key}: {value}"));
        }
        Mutation::Character(at, c) => {
            let characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            return characters
                .iter()
                .enumerate()
                .map(|(i, old)| if i == at { c } else { old })
                .collect();
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever is done to the files, the result is a problem that its reader accepts, or errors that name a file.
    #[test]
    fn no_mutation_ends_in_a_panic_or_in_a_problem_that_is_refused(
        changes in prop::collection::vec((any::<Index>(), mutation()), 1..6),
    ) {
        let files = ["GMAConfig.yaml", "GMAConfig.yaml", "metrics.yaml", "cloud/web.yaml", "edge-1/catalog.yaml", "cloud/orders.yaml"];
        let copy = Copy::of(SMALL);
        for (file, mutation) in &changes {
            let path = copy.path(files[file.index(files.len())]);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, mutate(&text, mutation)).unwrap();
        }
        let input = Input { metrics: Some(copy.path("metrics.yaml")), ..copy.input() };
        match convert(&input) {
            Ok(conversion) => {
                let yaml = format!("{}{}", conversion.report.to_comments(), conversion.problem.to_yaml().unwrap());
                let loaded = Loaded::parse("mutated", &yaml).unwrap();
                prop_assert_eq!(loaded.file, conversion.problem);
            }
            Err(error) => prop_assert!(error.to_string().contains(".yaml"), "{error}"),
        }
    }
}
