//! muBench's metrics, in Prometheus' text format.
//!
//! Each latency exists as a summary (sum and count) and as a histogram whose name already ends in `_bucket`, as
//! dashboards for muBench expect. The label `from` is left out: it holds the caller's address, which has no bound.

use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::Method;

use super::Targets;

/// Upper bounds, ms; the last bucket has none.
const BOUNDS_MS: [f64; 6] = [0.5, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// All figures of a cell.
#[derive(Debug)]
pub(super) struct Metrics {
    labels: String,
    kubernetes_service: String,
    get: OfMethod,
    post: OfMethod,
    failed_calls: Vec<(String, AtomicU64)>,
}

/// What one request took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    pub(super) internal: Duration,
    pub(super) external: Duration,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
struct OfMethod {
    response_size: AtomicU64,
    internal: Latency,
    external: Latency,
    whole: Latency,
}

#[derive(Debug, Default)]
struct Latency {
    sum_us: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(zone: &str, app: &str, service: &str, endpoint: &str, callees: &Targets) -> Self {
        let labels = format!(
            "zone=\"{}\",app_name=\"{}\",endpoint=\"{}\"",
            escape(zone),
            escape(app),
            escape(endpoint)
        );
        Self {
            labels,
            kubernetes_service: escape(service),
            get: OfMethod::default(),
            post: OfMethod::default(),
            failed_calls: callees
                .keys()
                .map(|name| (name.clone(), AtomicU64::new(0)))
                .collect(),
        }
    }

    /// Counts a request that was answered with 200.
    pub(super) fn served(&self, method: &Method, served: Served) {
        let of = if method == Method::POST {
            &self.post
        } else {
            &self.get
        };
        of.response_size.fetch_add(served.bytes as u64, Relaxed);
        of.internal.observe(served.internal);
        of.external.observe(served.external);
        of.whole.observe(served.internal + served.external);
    }

    pub(super) fn call_failed(&self, callee: &str) {
        if let Some((_, count)) = self.failed_calls.iter().find(|(name, _)| name == callee) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        // Writing to a String does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let with_service = format!(",kubernetes_service=\"{}\"", self.kubernetes_service);
        type Of = fn(&OfMethod) -> &Latency;
        let latencies: [(&str, &str, &str, Of); 3] = [
            (
                "mub_internal_processing_latency_milliseconds",
                "Latency of internal service",
                "",
                |of| &of.internal,
            ),
            (
                "mub_external_processing_latency_milliseconds",
                "Latency of external services",
                "",
                |of| &of.external,
            ),
            (
                "mub_request_processing_latency_milliseconds",
                "Request latency including external and internal service",
                &with_service,
                |of| &of.whole,
            ),
        ];
        writeln!(
            out,
            "# HELP mub_response_size Response size\n# TYPE mub_response_size summary"
        )?;
        for (method, of) in self.methods() {
            let labels = format!("{},method=\"{method}\"{with_service}", self.labels);
            writeln!(out, "mub_response_size_count{{{labels}}} {}", of.whole.count())?;
            writeln!(
                out,
                "mub_response_size_sum{{{labels}}} {}",
                of.response_size.load(Relaxed)
            )?;
        }
        for (name, help, more, latency) in latencies {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} summary")?;
            for (method, of) in self.methods() {
                latency(of).write_totals(out, name, &format!("{},method=\"{method}\"{more}", self.labels))?;
            }
            let name = format!("{name}_bucket");
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram")?;
            for (method, of) in self.methods() {
                let labels = format!("{},method=\"{method}\"{more}", self.labels);
                latency(of).write_buckets(out, &name, &labels)?;
                latency(of).write_totals(out, &name, &labels)?;
            }
        }
        let name = "gma_cell_failed_calls_total";
        writeln!(
            out,
            "# HELP {name} Calls that got no whole 200\n# TYPE {name} counter"
        )?;
        for (callee, count) in &self.failed_calls {
            writeln!(
                out,
                "{name}{{{},callee=\"{}\"}} {}",
                self.labels,
                escape(callee),
                count.load(Relaxed)
            )?;
        }
        Ok(())
    }

    fn methods(&self) -> [(&'static str, &OfMethod); 2] {
        [("GET", &self.get), ("POST", &self.post)]
    }
}

// === impl Latency ===

impl Latency {
    fn observe(&self, duration: Duration) {
        self.sum_us
            .fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
        let ms = duration.as_secs_f64() * 1_000.0;
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound| ms <= *bound)
            .unwrap_or(BOUNDS_MS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 us, 285 years")]
    fn write_totals(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result {
        writeln!(out, "{name}_count{{{labels}}} {}", self.count())?;
        writeln!(
            out,
            "{name}_sum{{{labels}}} {}",
            self.sum_us.load(Relaxed) as f64 / 1_000.0
        )
    }

    fn write_buckets(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result {
        let bounds = BOUNDS_MS
            .iter()
            .map(|bound| format!("{bound:?}"))
            .chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Relaxed);
            writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
        }
        Ok(())
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_buckets_are_those_of_mubench() {
        let metrics = Metrics::new("cloud", "cell \"a\"", "s0", "/api/v1", &Targets::new());
        let ms = Duration::from_micros;
        metrics.served(
            &Method::GET,
            Served {
                internal: ms(400),
                external: ms(1_600),
                bytes: 1_000,
            },
        );
        metrics.served(
            &Method::GET,
            Served {
                internal: ms(20_000_000),
                external: ms(0),
                bytes: 500,
            },
        );
        let text = metrics.text();
        let labels = r#"zone="cloud",app_name="cell \"a\"",endpoint="/api/v1",method="GET""#;
        for line in [
            format!(r#"mub_response_size_sum{{{labels},kubernetes_service="s0"}} 1500"#),
            format!("mub_internal_processing_latency_milliseconds_count{{{labels}}} 2"),
            format!("mub_internal_processing_latency_milliseconds_sum{{{labels}}} 20000.4"),
            format!(r#"mub_internal_processing_latency_milliseconds_bucket_bucket{{{labels},le="0.5"}} 1"#),
            format!(
                r#"mub_internal_processing_latency_milliseconds_bucket_bucket{{{labels},le="10000.0"}} 1"#
            ),
            format!(r#"mub_internal_processing_latency_milliseconds_bucket_bucket{{{labels},le="+Inf"}} 2"#),
            format!(
                r#"mub_request_processing_latency_milliseconds_bucket_bucket{{{labels},kubernetes_service="s0",le="10.0"}} 1"#
            ),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nis not in\n{text}"
            );
        }
    }
}
