//! Every limit of the format, with its reason.
//!
//! The filter keeps to them when it builds a window; the controller refuses what is past them.
//! README.md has the same list with what each side does.

/// Body of a report, bytes. Above what a filter can build: one window and an envelope.
pub const MAX_REPORT_BYTES: usize = 2 << 20;

/// Encoded window, bytes. Past it the filter sends parts, so that one report never holds a proxy's
/// main thread or a slow link for long.
pub const MAX_WINDOW_BYTES: usize = 1 << 20;

/// Keys that a filter keeps apart; what comes after them goes to overflow keys.
pub const MAX_KEYS: usize = 256;

/// Series in one window: the keys, and as many overflow keys (one a direction, area and outcome).
pub const MAX_SERIES: usize = 2 * MAX_KEYS;

/// Totals in one window: one a key that can have a series.
pub const MAX_TOTALS: usize = MAX_SERIES;

/// Entries of `unmeasured`: each reason of this version once, and room for later ones.
pub const MAX_UNMEASURED: usize = 32;

/// Parts of the same window that follow. 512 series of at most 11 KB (10,172 bytes of histogram, the
/// key's text) make 6 parts; room for more.
pub const MAX_PARTS_LEFT: u32 = 15;

/// Envoy's node id, bytes. Istio's are `type~ip~pod.namespace~namespace.svc.domain`:
/// 8 + 46 + 254 + 64 + 64 and the domain.
pub const MAX_NODE_ID_BYTES: usize = 512;

/// Name and version of the module, bytes.
pub const MAX_MODULE_BYTES: usize = 128;

/// A host, bytes: the length of a DNS name.
pub const MAX_SERVICE_BYTES: usize = 253;

/// A subset's name, bytes: Istio accepts a DNS label (63); room for twice that.
pub const MAX_SUBSET_BYTES: usize = 126;

/// Region, zone or sub-zone, bytes each. They come from node labels (63), or from a
/// `WorkloadEntry` or `ServiceEntry`, where Istio sets no limit.
pub const MAX_LOCALITY_PART_BYTES: usize = 126;

/// Namespace, workload and cluster id, bytes each: a Kubernetes name.
pub const MAX_NAME_BYTES: usize = 253;

/// Labels of a proxy. Kubernetes sets no limit; Istio's own and an application's are about 15.
pub const MAX_LABELS: usize = 64;

/// A label's key, bytes: prefix 253, a slash, name 63.
pub const MAX_LABEL_KEY_BYTES: usize = 317;

/// A label's value, bytes: 63 in Kubernetes; room for annotations that Istio merges into labels.
pub const MAX_LABEL_VALUE_BYTES: usize = 253;

/// Requests in one series or total of a key per window: the filter counts in 32 bits.
pub const MAX_WINDOW_COUNT: u64 = u32::MAX as u64;

/// Totals, sums and bytes: 2^60 µs are 10,000 requests at a time for more than three years, so only
/// rubbish is past it; sixteen of them still fit 64 bits, and what adds more of them saturates.
pub const MAX_SUM: u64 = 1 << 60;

/// Attempts of one request: retries are bounded by a route's policy; this only stops rubbish.
pub const MAX_ATTEMPTS: u64 = 1 << 16;

/// Age of a window at its send, ms: a year. The filter holds the value there.
pub const MAX_AGE_MS: u64 = 366 * 24 * 3600 * 1000;

/// Round trip of a report, µs: a minute, far above the timeout of a send.
pub const MAX_ROUND_TRIP_US: u32 = 60_000_000;

/// Body of an ack, bytes; what is longer is no ack. Ours are under 50.
pub const MAX_ACK_BYTES: usize = 1024;

/// Shortest pace that a filter follows, ms: below it reports would cost more than they tell.
pub const MIN_NEXT_MS: u32 = 100;

/// Longest pace that a filter follows, ms: a wrong value must not silence a proxy.
pub const MAX_NEXT_MS: u32 = 60_000;
