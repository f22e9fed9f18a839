//! The link between the areas: which of the values in play is taken, and what muPlacer would have computed with.

use serde_norway::Value;

use super::config::Link;
use super::files::Files;
use super::metrics::LinkMeasured;
use super::node::{Findings, Node};
use super::quantity::{BitRate, Time, show_micros};

/// The link's values and where they come from.
#[derive(Debug)]
pub(super) struct LinkUsed {
    /// Round trip, µs.
    pub(super) rtt: f64,
    pub(super) rtt_from: Source,
    /// Bits a second, from the cloud to the edge.
    pub(super) bits: f64,
    pub(super) bits_from: Source,
    /// Round trip as muPlacer reads it, µs, before it multiplies: in seconds where there is no suffix.
    pub(super) reference_rtt: f64,
}

/// Where a value comes from; the first that has it wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Metrics,
    NetInfo,
    Config,
}

/// What a NetInfo file holds: muPlacer puts it over the values of its configuration.
#[derive(Debug, Default)]
pub(super) struct NetInfo {
    pub(super) rtt: Option<Time>,
    pub(super) cloud_to_edge: Option<BitRate>,
}

// === impl LinkUsed ===

impl LinkUsed {
    /// Chooses.
    pub(super) fn of(link: &Link, net_info: Option<&NetInfo>, measured: &LinkMeasured) -> Self {
        let file_rtt = net_info.and_then(|info| info.rtt.as_ref());
        let file_bits = net_info.and_then(|info| info.cloud_to_edge.as_ref());
        let (rtt, rtt_from) = match (&measured.rtt, file_rtt) {
            (Some(rtt), _) => (rtt.0.as_f64(), Source::Metrics),
            (None, Some(rtt)) => (rtt.micros, Source::NetInfo),
            // The key's name says the unit that a bare number is meant in.
            (None, None) => (link.rtt.bare_as_millis(), Source::Config),
        };
        let (bits, bits_from) = match (&measured.bandwidth, file_bits) {
            (Some(bits), _) => (bits.0.as_f64(), Source::Metrics),
            (None, Some(bits)) => (bits.bits, Source::NetInfo),
            (None, None) => (link.cloud_to_edge.bits, Source::Config),
        };
        Self {
            rtt,
            rtt_from,
            bits,
            bits_from,
            reference_rtt: file_rtt.map_or(link.rtt.micros, |rtt| rtt.micros),
        }
    }
}

// === free functions ===

/// Reads the first NetInfo document of a file; nothing where there is no such file or document, with a warning.
pub(super) fn net_info(path: &str, at: &str, files: &mut Files, findings: &mut Findings) -> Option<NetInfo> {
    let Ok(full) = files.find(path) else {
        findings.warn(
            at,
            format!("names `{path}`, which is not there (muPlacer ends at its first action): the values of this configuration are taken"),
        );
        return None;
    };
    let documents = findings.take(at, files.documents(&full).map_err(|error| error.to_string()))?;
    let is_net_info = |value: &&Value| value.get("kind").and_then(Value::as_str) == Some("NetInfo");
    let Some(document) = documents.iter().find(is_net_info) else {
        findings.warn(
            at,
            format!("names `{path}`, which has no document of kind NetInfo (muPlacer ends at its first action): the values of this configuration are taken"),
        );
        return None;
    };
    let spec = Node::document(path, String::new(), document).key("spec");
    let (rtt, bits) = (spec.key("edge-cloud-rtt"), spec.key("cloud-edge-bps"));
    let time = rtt
        .value()
        .and_then(|value| findings.take(&rtt, Time::read(value)));
    if let Some(time) = &time
        && !time.suffix
    {
        findings.warn(
            &rtt,
            format!(
                "is {}, without a unit: {}, as muPlacer reads it",
                time.text,
                show_micros(time.micros)
            ),
        );
    }
    Some(NetInfo {
        rtt: time,
        cloud_to_edge: bits
            .value()
            .and_then(|value| findings.take(&bits, BitRate::read(value))),
    })
}
