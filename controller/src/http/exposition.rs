//! `/metrics`: what was measured, and the controller's own.
//!
//! Both are built at each scrape from what the telemetry holds, so no second set of counters can drift from it.

use std::fmt;

use gma_telemetry::{BOUNDS_MS, Counters, Exported};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::Prediction;
use crate::shared::Shared;

pub(super) fn encode(shared: &Shared) -> Result<String, fmt::Error> {
    let objects = shared.objects();
    // What was answered while there was no object, too.
    let members = objects.iter().map(|(path, one)| (path.as_str(), &**one));
    let all = std::iter::once(("", shared)).chain(members);
    let (mut counters, mut exported, mut predictions) = (Counters::default(), Vec::new(), Vec::new());
    for (object, one) in all {
        let telemetry = one.telemetry();
        counters.add(&telemetry.counters());
        exported.extend(telemetry.exported());
        let of_object = one.predictions().into_iter();
        predictions.extend(of_object.map(|prediction| (object.to_owned(), prediction)));
    }
    let mut registry = Registry::default();
    shared.metrics.register(&mut registry);
    registry.register_collector(Box::new(Reports(counters)));
    registry.register_collector(Box::new(Predictions(predictions)));
    let mut out = String::new();
    text::encode_registry(&mut out, &registry)?;
    write_measured(&mut out, exported)?;
    out.push_str("# EOF\n");
    Ok(out)
}

/// The merged histograms. Written by hand: the library's histograms count by themselves and cannot be set.
fn write_measured(out: &mut impl fmt::Write, mut exported: Vec<Exported>) -> fmt::Result {
    const NAME: &str = "gma_request_duration_milliseconds";
    exported.sort_by_cached_key(labels);
    writeln!(out, "# HELP {NAME} Duration of calls as their callers saw them.")?;
    writeln!(out, "# TYPE {NAME} histogram")?;
    for series in &exported {
        let labels = labels(series);
        for (bound, count) in BOUNDS_MS.iter().zip(&series.counts) {
            writeln!(out, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
        }
        let count = series.counts.last().copied().unwrap_or_default();
        writeln!(out, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
        writeln!(out, "{NAME}_sum{{{labels}}} {}", series.sum_ms)?;
        writeln!(out, "{NAME}_count{{{labels}}} {count}")?;
    }
    Ok(())
}

fn labels(series: &Exported) -> String {
    // Names are the platform's, never a report's; quotes and backslashes would still break the format.
    let clean = |text: &str| text.replace(['\\', '"', '\n'], "_");
    format!(
        "source=\"{}\",source_area=\"{}\",destination=\"{}\",destination_area=\"{}\",outcome=\"{}\"",
        clean(&series.source),
        clean(&series.source_area),
        clean(&series.destination),
        clean(&series.destination_area),
        series.outcome,
    )
}

type Value = fn(&Prediction) -> f64;

/// By `namespace/name` of the object, empty where there are none.
#[derive(Debug)]
struct Predictions(Vec<(String, Prediction)>);

impl Collector for Predictions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauges: [(&str, &str, Unit, Value); 3] = [
            (
                "gma_prediction_error",
                "Measured less predicted user delay of the last move that was measured",
                Unit::Seconds,
                |prediction| prediction.error,
            ),
            (
                "gma_prediction_bias",
                "Correction of the next prediction, share of the predicted change",
                Unit::Ratios,
                |prediction| prediction.bias,
            ),
            (
                "gma_prediction_spread",
                "Standard deviation of prediction errors, share of the predicted change",
                Unit::Ratios,
                |prediction| prediction.spread,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?;
            for (object, prediction) in &self.0 {
                let labels = [
                    ("object", object.as_str()),
                    ("edge", prediction.edge.as_str()),
                    ("direction", prediction.direction),
                ];
                ConstGauge::new(value(prediction)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Reports(Counters);

impl Collector for Reports {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counters {
            refused, vms, series, ..
        } = &self.0;
        let totals = [
            ("gma_reports_stored", "Reports that were counted", self.0.stored),
            (
                "gma_reports_duplicate",
                "Reports that had been counted before",
                self.0.duplicate,
            ),
            (
                "gma_reports_unknown_node",
                "Reports of proxies that the platform does not list",
                self.0.busy_unknown_node,
            ),
            (
                "gma_reports_full",
                "Reports of VMs past the limit",
                self.0.busy_full,
            ),
            ("gma_reports_bytes", "Bytes of report bodies", self.0.bytes),
            (
                "gma_reports_late",
                "Windows older than what is kept",
                self.0.late_windows,
            ),
            (
                "gma_reports_gaps",
                "Times a VM's numbers skipped one",
                self.0.gaps,
            ),
            (
                "gma_series_dropped",
                "Series past the limit",
                self.0.series_dropped,
            ),
            (
                "gma_series_dropped_requests",
                "Requests of series past the limit",
                self.0.series_dropped_requests,
            ),
            (
                "gma_totals_merged",
                "Keys of totals past the limit",
                self.0.totals_merged,
            ),
            (
                "gma_vms_forgotten",
                "VMs forgotten after long silence",
                self.0.vms_forgotten,
            ),
            (
                "gma_overflow_requests",
                "Requests in the filters' overflow keys",
                self.0.overflow_requests,
            ),
            (
                "gma_foreign_requests",
                "Requests to hosts that are no service",
                self.0.foreign_requests,
            ),
            (
                "gma_unknown_port_requests",
                "Requests to a port of no service",
                self.0.unknown_port_requests,
            ),
            (
                "gma_no_caller_requests",
                "Requests of proxies without a service",
                self.0.no_caller_requests,
            ),
            (
                "gma_outside_areas_requests",
                "Requests to endpoints in no area",
                self.0.outside_areas_requests,
            ),
            (
                "gma_identity_mismatches",
                "Proxies whose own locality is in another area",
                self.0.identity_mismatches,
            ),
        ];
        for (name, help, value) in totals {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let counter = ConstCounter::new(0u64);
        let mut family = encoder.encode_descriptor(
            "gma_reports_refused",
            "Reports that will never be counted",
            None,
            counter.metric_type(),
        )?;
        for (reason, value) in refused {
            let labels = [("reason", *reason)];
            ConstCounter::new(*value).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, value) in [
            ("gma_vms", "VMs that are remembered", *vms),
            ("gma_series", "Keys of the call graph with data", *series),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
