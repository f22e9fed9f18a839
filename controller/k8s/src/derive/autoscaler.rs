//! The autoscaler of an edge's Deployment.

use serde_json::{Value, json};

use super::{Note, Wish};

/// Metrics of the target's own pods. Others are the whole application's: two autoscalers would both answer to them.
const OF_PODS: [&str; 3] = ["Resource", "ContainerResource", "Pods"];

/// What Kubernetes scales by where no metric is given: CPU at 80 %.
const DEFAULT: &str = "Resource";

/// Its spec, after the cloud's; none where none of the metrics is left.
pub(super) fn derive(cloud: &Value, name: &str, wish: &Wish<'_>, notes: &mut Vec<Note>) -> Option<Value> {
    let mut spec = cloud.get("spec")?.as_object()?.clone();
    if let Some(metrics) = spec.get_mut("metrics").and_then(Value::as_array_mut) {
        let mut left_out = Vec::new();
        let had_any = !metrics.is_empty();
        metrics.retain(|metric| {
            let kind = metric.get("type").and_then(Value::as_str).unwrap_or(DEFAULT);
            let is_own = OF_PODS.contains(&kind);
            if !is_own {
                left_out.push(described(metric, kind));
            }
            is_own
        });
        if had_any && metrics.is_empty() {
            notes.push(Note::NoMetricLeft);
            return None;
        }
        if !left_out.is_empty() {
            notes.push(Note::MetricsLeftOut(left_out));
        }
    }
    let minimum = spec.get("minReplicas").and_then(Value::as_u64).unwrap_or(1);
    let minimum = wish.min_replicas.map_or(minimum, u64::from).max(1);
    let maximum = spec.get("maxReplicas").and_then(Value::as_u64).unwrap_or(minimum);
    spec.insert("minReplicas".to_owned(), minimum.into());
    spec.insert("maxReplicas".to_owned(), maximum.max(minimum).into());
    spec.insert(
        "scaleTargetRef".to_owned(),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name}),
    );
    Some(spec.into())
}

/// `External queue_length`.
fn described(metric: &Value, kind: &str) -> String {
    let mut block = kind.to_owned();
    block.make_ascii_lowercase();
    let name = metric
        .pointer(&format!("/{block}/metric/name"))
        .and_then(Value::as_str);
    format!("{kind} {}", name.unwrap_or("?"))
}
