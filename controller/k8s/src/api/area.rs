//! Areas: where the application may run.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{
    Amount, BandwidthText, DurationText, LabelText, LocalityText, ObjectName, PriceText, UrlText, ZoneText,
};

const ONE_OF: &str = "has(self.localities) != has(self.zones)";
const ONE_OF_MESSAGE: &str = "give exactly one of localities (region, region/zone, …) and zones (where nodes have a zone label and no region)";
const APART: &str = "!has(self.localities) || self.localities.all(l, self.localities.all(m, l == m || !(l + '/').startsWith(m + '/')))";
const APART_MESSAGE: &str = "localities must not contain each other: name either the region or its zones";

/// The cloud and the edges. Every endpoint of a managed service must lie in exactly one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.edges.all(e, e.name != self.cloud.name)")
        .message("an edge must not have the cloud's name: rename edges[].name or cloud.name"),
    validation = Rule::new("self.edges.all(e, has(e.zones) == has(self.cloud.zones))")
        .message("all areas must be given by localities, or all by zones"),
    validation = Rule::new(
        "!has(self.cloud.localities) || self.edges.all(e, !has(e.localities) || e.localities.all(l, \
         self.cloud.localities.all(c, !(l + '/').startsWith(c + '/') && !(c + '/').startsWith(l + '/'))))"
    )
    .message("a locality of an edge lies in the cloud or contains it: make edges[].localities and cloud.localities disjoint"),
    validation = Rule::new(
        "self.edges.all(e, !has(e.localities) || self.edges.all(f, e.name == f.name || !has(f.localities) || \
         e.localities.all(l, f.localities.all(m, !(l + '/').startsWith(m + '/')))))"
    )
    .message("localities of two edges overlap: make edges[].localities disjoint"),
    validation = Rule::new(
        "self.edges.all(e, !has(e.zones) || e.zones.all(z, (!has(self.cloud.zones) || !(z in self.cloud.zones)) && \
         self.edges.all(f, e.name == f.name || !has(f.zones) || !(z in f.zones))))"
    )
    .message("a zone is in two areas: make edges[].zones and cloud.zones disjoint"),
)]
pub struct Areas {
    /// Where the whole application always runs.
    pub cloud: CloudArea,
    /// Where users enter. Each edge runs the services that are chosen for it.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub edges: Vec<EdgeArea>,
}

/// The cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(ONE_OF).message(ONE_OF_MESSAGE),
    validation = Rule::new(APART).message(APART_MESSAGE),
)]
pub struct CloudArea {
    /// Its name in weights, metrics and the status.
    #[serde(default = "cloud_name")]
    pub name: LabelText,
    /// Its localities as Istio names them: region, region/zone or region/zone/subzone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub localities: Option<Vec<LocalityText>>,
    /// Its zones, where nodes have the label topology.kubernetes.io/zone and none for the region. Then calls can't be
    /// split by weights: they move in one step, when an instance is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub zones: Option<Vec<ZoneText>>,
    /// What is paid there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<CloudPrices>,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(ONE_OF).message(ONE_OF_MESSAGE),
    validation = Rule::new(APART).message(APART_MESSAGE),
    validation = Rule::new("!has(self.kubeconfigSecretRef)").message(
        "kubeconfigSecretRef is reserved: leave it out; the edge's nodes must be nodes of this cluster, as with Liqo"
    ),
)]
pub struct EdgeArea {
    /// Its name in weights, metrics and the status.
    pub name: LabelText,
    /// Its localities as Istio names them: region, region/zone or region/zone/subzone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub localities: Option<Vec<LocalityText>>,
    /// Its zones, where nodes have the label topology.kubernetes.io/zone and none for the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub zones: Option<Vec<ZoneText>>,
    /// Which pods are its ingress gateway: there the users' delay is measured.
    pub gateway: Gateway,
    /// The band of the users' delay.
    pub objective: Objective,
    /// Room for this object's instances; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What is paid there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<EdgePrices>,
    /// What is known of the way to the cloud; what is absent is measured, and a bandwidth that is absent is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Reserved. Absent: the edge's nodes are nodes of this cluster, as with Liqo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretRef>,
}

/// A Secret in the object's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    pub name: ObjectName,
}

/// Pods of an ingress gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Their namespace, e.g. istio-ingress-edge-1.
    pub namespace: LabelText,
    /// Labels that they all have, e.g. istio: ingressgateway. Of these pods, those in this edge's localities count.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, LabelValue>,
}

/// A value of a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct LabelValue(#[schemars(length(max = 63))] pub String);

/// The band that the users' delay is kept in: below it services leave the edge, above it they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.unoffloadBelow) < duration(self.offloadAbove)")
        .message("unoffloadBelow must be below offloadAbove: lower the first or raise the second"),
    validation = Rule::new("duration(self.offloadAbove) <= duration('60s')")
        .message("offloadAbove must be at most 60s: longer requests are counted apart, their delay is not measured"),
)]
pub struct Objective {
    /// Statistic of the delay.
    #[serde(default)]
    pub statistic: Statistic,
    /// Upper bound, e.g. 250ms.
    pub offload_above: DurationText,
    /// Lower bound, e.g. 150ms.
    pub unoffload_below: DurationText,
}

/// Statistic of the users' delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Statistic {
    /// Arithmetic mean.
    #[default]
    Mean,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
}

/// Room at an edge: the sum over the requests of this object's pods stays within each limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// CPU requests, e.g. 8 or 7500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,
    /// Memory requests, e.g. 16Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pods: Option<u32>,
}

/// Prices of what is requested in the cloud, an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudPrices {
    /// A CPU core for an hour.
    pub cpu_core_hour: PriceText,
    /// A GB (1e9 bytes) of memory for an hour.
    #[serde(rename = "memoryGBHour")]
    pub memory_gb_hour: PriceText,
}

/// Prices at an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgePrices {
    /// A CPU core for an hour.
    pub cpu_core_hour: PriceText,
    /// A GB (1e9 bytes) of memory for an hour.
    #[serde(rename = "memoryGBHour")]
    pub memory_gb_hour: PriceText,
    /// A GB (1e9 bytes) from the cloud to the edge; absent: free.
    #[serde(default, rename = "trafficGB", skip_serializing_if = "Option::is_none")]
    pub traffic_gb: Option<PriceText>,
}

/// The way between an edge and the cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Round trip time; absent: measured by the reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt: Option<DurationText>,
    /// From the cloud to the edge, e.g. 100Mbit/s; absent: never a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthText>,
    /// What measures both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prober: Option<Prober>,
}

/// A prober that answers with netprober's JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prober {
    /// Where it answers a GET.
    pub url: UrlText,
    /// Between questions; absent: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationText>,
}

fn cloud_name() -> LabelText {
    LabelText("cloud".to_owned())
}
