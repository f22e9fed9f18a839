//! Exact totals since the start of every VM that is remembered, by node: for accounting, not for
//! decisions.

use std::collections::BTreeMap;

use gma_core::ids::Timestamp;
use gma_report::v1;
use serde::Serialize;

use crate::vms::{Counted, KeyIx, Vms};

/// Totals of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accounting {
    /// By node and key, ordered.
    pub keys: Vec<KeyAccount>,
    /// By node, ordered.
    pub nodes: Vec<NodeAccount>,
}

/// Requests of one key at one node, over all of its VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyAccount {
    /// Envoy's node id.
    pub node: String,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// Outbound: the host.
    pub service: String,
    /// Of the service (outbound) or the container (inbound).
    pub port: u16,
    /// Outbound: the subset, often empty.
    pub subset: String,
    /// Outbound: locality of the endpoint that was reached, `region/zone/subzone`.
    pub destination: Option<String>,
    /// `ok`, `clientError`, `serverError`, `noResponse` or `cancelled`.
    pub outcome: &'static str,
    /// Whether it is the filter's overflow key.
    pub overflow: bool,
    /// Requests, the long ones not counted.
    pub count: u64,
    /// Requests over 60 s, upgrades, long streams.
    pub long_count: u64,
    /// Sum of the durations of `count`, µs.
    pub sum_us: u64,
}

/// What one node counted beside its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAccount {
    /// Envoy's node id.
    pub node: String,
    /// When one of its VMs was heard last.
    pub heard: Timestamp,
    /// VMs that were heard.
    pub vms: u64,
    /// Of those, VMs whose totals are not complete yet.
    pub vms_without_totals: u64,
    /// Requests of keys that were evicted.
    pub retired: u64,
    /// Long ones of those.
    pub retired_long: u64,
    /// Requests in no key, by reason. `REASON_UNSPECIFIED`: from before this controller listened.
    pub unmeasured: BTreeMap<&'static str, u64>,
}

pub(crate) fn of(vms: &Vms) -> Accounting {
    let mut nodes: BTreeMap<&str, (NodeAccount, BTreeMap<KeyIx, Counted>)> = BTreeMap::new();
    for vm in vms.vms.values() {
        let (node, keys) = nodes.entry(&vm.node).or_default();
        node.heard = node.heard.max(vm.heard);
        node.vms += 1;
        node.vms_without_totals += u64::from(vm.wants_totals);
        node.retired = node.retired.saturating_add(vm.totals.retired);
        node.retired_long = node.retired_long.saturating_add(vm.totals.retired_long);
        for (reason, count) in &vm.totals.unmeasured {
            let sum = node
                .unmeasured
                .entry(v1::Reason::as_str_name(reason))
                .or_default();
            *sum = sum.saturating_add(*count);
        }
        for (key, counted) in &vm.totals.keys {
            let sum = keys.entry(*key).or_default();
            sum.count = sum.count.saturating_add(counted.count);
            sum.long_count = sum.long_count.saturating_add(counted.long_count);
            sum.sum_us = sum.sum_us.saturating_add(counted.sum_us);
        }
    }
    let mut accounting = Accounting::default();
    for (name, (node, keys)) in nodes {
        let mut keys: Vec<_> = keys
            .into_iter()
            .filter_map(|(ix, counted)| Some((vms.keys.key(ix)?, counted)))
            .collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        accounting
            .keys
            .extend(keys.into_iter().map(|(key, counted)| KeyAccount {
                node: name.to_owned(),
                direction: key.direction.as_str(),
                service: key.service.clone(),
                port: key.port,
                subset: key.subset.clone(),
                destination: key.destination.as_ref().map(ToString::to_string),
                outcome: key.outcome.as_str(),
                overflow: key.overflow,
                count: counted.count,
                long_count: counted.long_count,
                sum_us: counted.sum_us,
            }));
        accounting.nodes.push(NodeAccount {
            node: name.to_owned(),
            ..node
        });
    }
    accounting
}
