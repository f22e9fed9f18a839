//! The link between the areas: which of the values in play is taken, and what muPlacer would have computed with.

use super::config::Link;
use super::instances::NetInfo;
use super::metrics::LinkMeasured;

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
