//! Label selectors, as Kubernetes evaluates them.

use serde_json::{Map, Value};

/// Which pods a workload takes for its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selector<'a>(Option<&'a Value>);

// === impl Selector ===

impl<'a> Selector<'a> {
    /// Reads a `LabelSelector`.
    pub(super) fn of(selector: Option<&'a Value>) -> Self {
        Self(selector)
    }

    /// Whether it selects pods with these labels. What it does not know is taken to match: an unknown operator must not
    /// make two workloads look apart.
    pub(super) fn matches(self, labels: &Map<String, Value>) -> bool {
        let Some(selector) = self.0 else { return false };
        let equal = selector.get("matchLabels").and_then(Value::as_object);
        let mut equal = equal.into_iter().flatten();
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        let mut expressions = expressions.into_iter().flatten();
        equal.all(|(key, value)| labels.get(key) == Some(value))
            && expressions.all(|expression| holds(expression, labels))
    }
}

fn holds(expression: &Value, labels: &Map<String, Value>) -> bool {
    let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
    let values = expression.get("values").and_then(Value::as_array);
    let has = labels.get(key);
    let is_listed = || has.is_some_and(|value| values.is_some_and(|values| values.contains(value)));
    match expression.get("operator").and_then(Value::as_str) {
        Some("In") => is_listed(),
        Some("NotIn") => !is_listed(),
        Some("Exists") => has.is_some(),
        Some("DoesNotExist") => has.is_none(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operators_are_those_of_kubernetes() {
        let labels = json!({"app": "web", "tier": "front"});
        let labels = labels.as_object().unwrap();
        for (selector, expected) in [
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "zone": "a"}}), false),
            (json!({}), true),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
                false,
            ),
        ] {
            assert_eq!(
                Selector::of(Some(&selector)).matches(labels),
                expected,
                "{selector}"
            );
        }
        assert!(!Selector::of(None).matches(labels));
    }
}
