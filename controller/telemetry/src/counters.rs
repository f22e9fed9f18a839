//! What became of reports, for the controller's own metrics.

use std::collections::BTreeMap;

use gma_report::v1;
use serde::Serialize;

use crate::answer::Refusal;
use crate::index::Unplaced;

/// Counts since the process started. Everything here except `vms` and `series` only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Reports that were counted.
    pub stored: u64,
    /// Reports that had been counted before.
    pub duplicate: u64,
    /// Reports of proxies that the directory does not know (yet); the filter keeps them.
    pub busy_unknown_node: u64,
    /// Reports of new VMs past [`crate::Config::max_vms`]; the filter keeps them.
    pub busy_full: u64,
    /// Reports that will never be counted, by the ack's reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Windows of which a part or all was older than the five minutes that are kept. It is in the
    /// totals, not in the windows.
    pub late_windows: u64,
    /// Times that a VM's numbers skipped one: a refused window. The VM is asked for its totals.
    pub gaps: u64,
    /// Series that found no place: [`crate::Config::max_series`] keys are kept already.
    pub series_dropped: u64,
    /// Requests of those.
    pub series_dropped_requests: u64,
    /// Keys of totals past the limit; their requests are kept as `retired`.
    pub totals_merged: u64,
    /// VMs that were forgotten after long silence.
    pub vms_forgotten: u64,
    /// Requests that the filter's overflow keys hold: it had 256 others.
    pub overflow_requests: u64,
    /// Requests to hosts that are no service of the directory.
    pub foreign_requests: u64,
    /// Requests to a port that no service of the proxy has.
    pub unknown_port_requests: u64,
    /// Outbound requests of proxies without a service.
    pub no_caller_requests: u64,
    /// Requests to an endpoint whose locality is in no area; they count as reaching none.
    pub outside_areas_requests: u64,
    /// Identities whose locality is in another area than the directory says.
    pub identity_mismatches: u64,
    /// VMs that are remembered.
    pub vms: u64,
    /// Keys of the call graph with data in the last five minutes.
    pub series: u64,
}

impl Counters {
    /// Adds those of another telemetry of the process.
    pub fn add(&mut self, other: &Self) {
        let Self {
            stored,
            duplicate,
            busy_unknown_node,
            busy_full,
            refused,
            bytes,
            late_windows,
            gaps,
            series_dropped,
            series_dropped_requests,
            totals_merged,
            vms_forgotten,
            overflow_requests,
            foreign_requests,
            unknown_port_requests,
            no_caller_requests,
            outside_areas_requests,
            identity_mismatches,
            vms,
            series,
        } = other;
        for (sum, one) in [
            (&mut self.stored, stored),
            (&mut self.duplicate, duplicate),
            (&mut self.busy_unknown_node, busy_unknown_node),
            (&mut self.busy_full, busy_full),
            (&mut self.bytes, bytes),
            (&mut self.late_windows, late_windows),
            (&mut self.gaps, gaps),
            (&mut self.series_dropped, series_dropped),
            (&mut self.series_dropped_requests, series_dropped_requests),
            (&mut self.totals_merged, totals_merged),
            (&mut self.vms_forgotten, vms_forgotten),
            (&mut self.overflow_requests, overflow_requests),
            (&mut self.foreign_requests, foreign_requests),
            (&mut self.unknown_port_requests, unknown_port_requests),
            (&mut self.no_caller_requests, no_caller_requests),
            (&mut self.outside_areas_requests, outside_areas_requests),
            (&mut self.identity_mismatches, identity_mismatches),
            (&mut self.vms, vms),
            (&mut self.series, series),
        ] {
            *sum = sum.saturating_add(*one);
        }
        for (reason, count) in refused {
            *self.refused.entry(reason).or_default() += count;
        }
    }

    pub(crate) fn unplaced(&mut self, why: Unplaced, requests: u64) {
        let counter = match why {
            Unplaced::Overflow => &mut self.overflow_requests,
            Unplaced::Foreign => &mut self.foreign_requests,
            Unplaced::UnknownPort => &mut self.unknown_port_requests,
            Unplaced::NoCaller => &mut self.no_caller_requests,
        };
        *counter = counter.saturating_add(requests);
    }
}

// === impl Refusal ===

impl Refusal {
    /// What the filter is told, and what is counted.
    pub(crate) fn reason(&self) -> v1::Reason {
        match self {
            Self::Decode(error) => error.reason(),
            Self::NodeChanged { .. } => v1::Reason::RefusedMalformed,
        }
    }
}
