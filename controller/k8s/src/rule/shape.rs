//! Blocks of a rule that hide what is written at its top, and the rule without them.

use serde_json::{Map, Value, json};

use super::object::Rule;
use super::winner::Winner;
use super::{API_VERSION, Held, Order};

/// Blocks of a subset's policy that replace those at the top.
const HIDING: [&str; 3] = ["loadBalancer", "outlierDetection", "portLevelSettings"];

/// Refuses subsets and ports with a policy of their own, and what excludes weights by locality.
pub(super) fn check(winner: &Winner<'_>, order: &Order<'_>) -> Result<(), Held> {
    let target = winner.target();
    for rule in &winner.rules {
        let policy = rule.policy().filter(|_| rule.path() == target.path());
        if let Some(what) = policy
            .and_then(hidden_at_the_top)
            .or_else(|| hidden_in_a_subset(rule))
        {
            return Err(Held::shape(
                format!("{} {what}", rule.path()),
                yaml(&cleaned(rule, order.host.as_str()), &rule.namespace, &rule.name),
            ));
        }
    }
    Ok(())
}

fn hidden_at_the_top(policy: &Value) -> Option<String> {
    let ports = policy.get("portLevelSettings").and_then(Value::as_array);
    if let Some(port) = ports.and_then(|ports| ports.first()) {
        let number = port.pointer("/port/number").unwrap_or(&Value::Null);
        return Some(format!(
            "has portLevelSettings for port {number}: they replace the whole policy of that port, the weights too"
        ));
    }
    policy
        .pointer("/loadBalancer/zoneAwareLbSetting")
        .filter(|setting| !setting.is_null())
        .map(|_| "has zoneAwareLbSetting, which excludes localityLbSetting".to_owned())
}

fn hidden_in_a_subset(rule: &Rule) -> Option<String> {
    let subsets = rule.spec.get("subsets").and_then(Value::as_array);
    subsets.into_iter().flatten().find_map(|subset| {
        let policy = subset.get("trafficPolicy")?;
        let block = HIDING
            .into_iter()
            .find(|block| policy.get(block).is_some_and(|value| !value.is_null()))?;
        let name = subset.get("name").and_then(Value::as_str).unwrap_or("?");
        Some(format!(
            "has the subset {name} with its own {block}, which replaces that of the whole service"
        ))
    })
}

/// A rule's spec for one host, without what keeps it from being written. The policy of a port moves to the top where
/// nothing stands there; that of several ports does not.
pub(super) fn cleaned(rule: &Rule, host: &str) -> Value {
    let mut spec = rule.spec.as_object().cloned().unwrap_or_default();
    spec.insert("host".to_owned(), host.into());
    spec.remove("exportTo");
    spec.remove("workloadSelector");
    if let Some(policy) = spec.get_mut("trafficPolicy").and_then(Value::as_object_mut) {
        let ports = policy.remove("portLevelSettings");
        if let Some([Value::Object(port)]) = ports.as_ref().and_then(Value::as_array).map(Vec::as_slice) {
            for (block, value) in port.iter().filter(|(block, _)| *block != "port") {
                policy.entry(block).or_insert_with(|| value.clone());
            }
        }
        without_ours(policy);
        if policy.is_empty() {
            spec.remove("trafficPolicy");
        }
    }
    for subset in spec
        .get_mut("subsets")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(policy) = subset.get_mut("trafficPolicy").and_then(Value::as_object_mut) else {
            continue;
        };
        for block in HIDING {
            policy.remove(block);
        }
        if policy.is_empty()
            && let Some(subset) = subset.as_object_mut()
        {
            subset.remove("trafficPolicy");
        }
    }
    Value::Object(spec)
}

/// Takes away what only we may set.
fn without_ours(policy: &mut Map<String, Value>) {
    for (block, ours) in [
        (
            "loadBalancer",
            ["localityLbSetting", "zoneAwareLbSetting"].as_slice(),
        ),
        ("outlierDetection", &["minHealthPercent"]),
    ] {
        let Some(fields) = policy.get_mut(block).and_then(Value::as_object_mut) else {
            continue;
        };
        for field in ours {
            fields.remove(*field);
        }
        if fields.is_empty() {
            policy.remove(block);
        }
    }
}

/// A rule as YAML, for the user to apply.
pub(super) fn yaml(spec: &Value, namespace: &str, name: &str) -> String {
    let rule = json!({
        "apiVersion": API_VERSION,
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    serde_norway::to_string(&rule).unwrap_or_else(|_| rule.to_string())
}
