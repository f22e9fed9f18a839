//! What a running controller tells at `/api/v1/state`.

use std::collections::BTreeSet;
use std::time::Duration;

use gma_core::ids::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A proxy with nothing to say reports each 30 s.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// What is known from a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It did not answer, or nothing that could be read: why.
    Nothing(String),
    /// It answered.
    State {
        /// Whether it looks after an object.
        leads: bool,
        /// Pods, `namespace/name`, whose proxies it has heard in the last minute.
        heard: BTreeSet<String>,
    },
}

#[derive(Deserialize)]
struct State {
    now: Timestamp,
    round: Option<IgnoredAny>,
    accounting: Accounting,
}

#[derive(Deserialize)]
struct Accounting {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    node: String,
    heard: Timestamp,
}

impl Told {
    /// Reads an answer.
    pub fn read(answer: &[u8]) -> Self {
        let state: State = match serde_json::from_slice(answer) {
            Ok(state) => state,
            Err(error) => {
                return Self::Nothing(format!("what answered is no controller of this version: {error}"));
            }
        };
        let nodes = state.accounting.nodes.into_iter();
        let lately = nodes.filter(|node| state.now.since(node.heard) < HEARD_WITHIN);
        Self::State {
            leads: state.round.is_some(),
            heard: lately.filter_map(|node| pod(&node.node)).collect(),
        }
    }
}

/// `namespace/name` of Envoy's node id, `sidecar~ADDRESS~NAME.NAMESPACE~DOMAIN`.
fn pod(node: &str) -> Option<String> {
    // A pod's name may have dots, a namespace's has none.
    let (name, namespace) = node.split('~').nth(2)?.rsplit_once('.')?;
    Some(format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_reported_in_the_last_minute_is_heard() {
        let time = |secs: u64| json!({"secs": secs, "nanos": 0});
        let node =
            |name: &str, secs| json!({"node": format!("sidecar~10.0.0.1~{name}~x"), "heard": time(secs)});
        let state = json!({"now": time(100), "round": {"at": time(99)}, "accounting": {"keys": [],
            "nodes": [node("a.b-1.shop", 90), node("old.shop", 30), json!({"node": "strange", "heard": time(99)})]}});
        let told = Told::read(state.to_string().as_bytes());
        let heard = ["shop/a.b-1".to_owned()].into();
        assert_eq!(told, Told::State { leads: true, heard });
    }

    #[test]
    fn a_stranger_is_no_controller() {
        let Told::Nothing(why) = Told::read(b"<html>") else {
            panic!("read");
        };
        assert!(why.contains("no controller"), "{why}");
    }
}
