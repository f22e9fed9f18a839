//! Traces: a POST body that says which calls a request makes, in muBench's form.
//!
//! `{"s0__47": [{"s1__3": [{}], "s2__8": [{}]}, {"s3__1": [{}]}]}`: `s0` calls `s1`, then `s2`, and beside them `s3`.
//! What stands behind `__` makes keys unique and means nothing. The order of keys is the order of calls, so objects are
//! kept as lists.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// Padding that muBench adds to make a body larger.
const PADDING: &str = "dummy";

/// The calls of a group, in order: key and what the callee does in turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Calls(pub(super) Vec<(String, Vec<Calls>)>);

/// Why a body is no trace for this service.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    #[error("the body is no trace: {0}; write {{\"{1}__0\": [{{}}]}}")]
    Json(serde_json::Error, String),
    #[error("the trace has {0} keys; write one, {1}__N")]
    Keys(usize, String),
    #[error("the trace is for {0}, this is {1}; send it to that service")]
    OtherService(String, String),
}

/// Reads the groups of a trace that is addressed to `service`.
pub(super) fn parse(body: &[u8], service: &str) -> Result<Vec<Calls>, TraceError> {
    let Calls(mut top) =
        serde_json::from_slice(body).map_err(|error| TraceError::Json(error, service.to_owned()))?;
    let keys = top.len();
    let (Some((key, groups)), true) = (top.pop(), top.is_empty()) else {
        return Err(TraceError::Keys(keys, service.to_owned()));
    };
    if name(&key) == service {
        Ok(groups)
    } else {
        Err(TraceError::OtherService(
            name(&key).to_owned(),
            service.to_owned(),
        ))
    }
}

/// The service that a key names.
pub(super) fn name(key: &str) -> &str {
    key.split_once("__").map_or(key, |(name, _)| name)
}

// === impl Calls ===

impl Serialize for Calls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, groups)| (key, groups)))
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Calls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of service__n: groups")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Calls, A::Error> {
                let mut calls = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == PADDING {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        calls.push((key, map.next_value()?));
                    }
                }
                Ok(Calls(calls))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_padding_is_not() {
        let body = br#"{"s0__47": [{"s9__3": [{}], "s2__8": [{"s3__1": [{}]}]}, {}], "dummy": "MMM"}"#;
        let groups = parse(body, "s0").unwrap();
        assert_eq!(groups.len(), 2);
        let keys: Vec<&str> = groups[0].0.iter().map(|(key, _)| name(key)).collect();
        assert_eq!(keys, ["s9", "s2"]);
        assert_eq!(
            serde_json::to_string(&groups[0].0[1].1).unwrap(),
            r#"[{"s3__1":[{}]}]"#
        );
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let error = |body: &str| parse(body.as_bytes(), "s0").unwrap_err().to_string();
        assert_eq!(error("{}"), "the trace has 0 keys; write one, s0__N");
        assert_eq!(
            error(r#"{"s1": []}"#),
            "the trace is for s1, this is s0; send it to that service"
        );
        assert!(error("[").starts_with("the body is no trace: "));
        let deep = format!("{}{}", r#"{"s0":["#.repeat(500), "]}".repeat(500));
        assert!(error(&deep).contains("recursion limit"));
    }
}
