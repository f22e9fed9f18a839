//! PromQL that yields what a configuration does not hold, for the labels that muPlacer's Prometheus has. The same
//! quantities that muPlacer asks for, written so that each answer can be copied into a metrics file.

use std::fmt::Write as _;

use super::config::Config;
use super::node::printable;

/// Range of the queries where the configuration has none that PromQL accepts.
const RANGE: &str = "2m";

/// The queries of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queries {
    /// Requests a second that users send to the edge's gateway.
    pub(super) user_rate: String,
    /// The same by service called.
    pub(super) user_calls: String,
    /// Mean user delay, ms.
    pub(super) user_delay: String,
    /// Requests a second that each service receives, in both areas.
    pub(super) service_rate: String,
    /// The same by caller.
    pub(super) calls: String,
    /// Mean size of a service's answers, bytes.
    pub(super) response_size: String,
    /// Cores in use by pod.
    pub(super) cpu_use: String,
}

impl Queries {
    /// The queries with the configuration's labels and range.
    pub(super) fn of(config: &Config) -> Self {
        let range = config
            .query_period
            .as_deref()
            .filter(|range| is_range(range))
            .unwrap_or(RANGE);
        let services = any_of(config.app.services.iter().map(|service| service.name.as_str()));
        let app = |area: &Option<String>| quoted(area.as_deref().unwrap_or("istio-ingressgateway"));
        let ingress = app(&config.edge.ingress_app);
        let mut gateway = format!(
            "cluster={},namespace={},source_app={ingress},destination_app=~{services},reporter=\"source\",response_code=\"200\"",
            quoted(&config.edge.cluster),
            quoted(config.edge.ingress_namespace.as_deref().unwrap_or_default()),
        );
        if let Some(regex) = &config.edge.pod_regex {
            // Already a pattern: only the quotes are escaped.
            let _ = write!(gateway, ",instance=~{}", quoted(regex));
        }
        let clusters = any_of([config.cloud.cluster.as_str(), config.edge.cluster.as_str()]);
        let namespace = quoted(config.namespace.as_deref().unwrap_or_default());
        let inside = format!(
            "cluster=~{clusters},namespace={namespace},destination_app=~{services},reporter=\"destination\",response_code=\"200\""
        );
        let rate = |metric: &str, labels: &str| format!("rate({metric}{{{labels}}}[{range}])");
        let ratio = |metric: &str, labels: &str, by: &str| {
            let sum = rate(&format!("{metric}_sum"), labels);
            let count = rate(&format!("{metric}_count"), labels);
            format!("sum{by}({sum}) / sum{by}({count})")
        };
        Self {
            user_rate: format!("sum({})", rate("istio_requests_total", &gateway)),
            user_calls: format!(
                "sum by (destination_app)({})",
                rate("istio_requests_total", &gateway)
            ),
            user_delay: ratio("istio_request_duration_milliseconds", &gateway, ""),
            service_rate: format!(
                "sum by (destination_app)({})",
                rate("istio_requests_total", &inside)
            ),
            calls: format!(
                "sum by (source_app,destination_app)({})",
                rate(
                    "istio_requests_total",
                    &format!("{inside},source_app=~{services}")
                )
            ),
            response_size: ratio("istio_response_bytes", &inside, " by (destination_app)"),
            cpu_use: format!(
                "sum by (pod)({})",
                rate(
                    "container_cpu_usage_seconds_total",
                    &format!("cluster=~{clusters},namespace={namespace},container!~\"istio-proxy|\"")
                )
            ),
        }
    }
}

/// Whether PromQL takes the text as a duration, at least one number and unit.
fn is_range(text: &str) -> bool {
    let unit = ["ms", "s", "m", "h"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    unit.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// A PromQL string.
fn quoted(text: &str) -> String {
    let line: String = text.chars().map(printable).collect();
    format!("\"{}\"", line.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A PromQL string with a pattern of alternatives, each meant literally.
fn any_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let escape = |name: &str| {
        name.chars().fold(String::new(), |mut escaped, c| {
            if !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
                escaped.push('\\');
            }
            escaped.push(c);
            escaped
        })
    };
    let mut alternatives: Vec<String> = names.into_iter().map(escape).collect();
    alternatives.dedup();
    quoted(&alternatives.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_meant_literally() {
        assert_eq!(any_of(["s0", "a.b"]), r#""s0|a\\.b""#);
        assert_eq!(any_of(["", ""]), r#""""#);
        assert!(is_range("2m") && is_range("90s"));
        assert!(!is_range("120") && !is_range("m") && !is_range("1 m"));
        assert_eq!(quoted(r#"a"b\"#), r#""a\"b\\""#);
    }
}
