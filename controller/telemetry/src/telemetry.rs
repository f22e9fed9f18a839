//! Takes reports in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_core::sightings::Sightings;
use gma_core::snapshot::{ReceivedStats, Snapshot};
use gma_report::{Ack, Report, Series, Verdict, Window, decode, v1};
use serde::{Deserialize, Serialize};

use crate::accounting::{self, Accounting};
use crate::answer::{Busy, Event, Ingested, Mismatch, Refusal};
use crate::counters::Counters;
use crate::coverage::Proxies;
use crate::directory::Directory;
use crate::export::{Export, Exported};
use crate::index::{AreaIx, CallerIx, Index, Place, SeriesKey, Side};
use crate::longest::Longest;
use crate::ring::{self, Ring, Span};
use crate::sightings::Sighted;
use crate::slot::{Data, Sums};
use crate::snapshot::{self, EdgeSignals, Sources};
use crate::users::Users;
use crate::vms::{Vm, Vms};

/// How often expired slots and silent VMs are looked for; each look walks all of them.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// A pace of 1 s up to 1,000 proxies, of 10 s from 10,000 on: 1,000 proxies' reports a second. The call graph is then
/// up to 9 s old; users' delays, on which decisions stand, are not.
const PACE_PER_PROXY: Duration = Duration::from_millis(1);
const SLOWEST_PACE: Duration = Duration::from_secs(10);

/// Unknown nodes whose name is remembered, so that each is logged once. Past it they are logged no
/// more, only counted.
const MAX_UNKNOWN_NODES: usize = 1_000;

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// How often a gateway is asked to report.
    pub gateway_pace: Duration,
    /// How often other proxies are asked to report; less often where there are more than 1,000 proxies
    /// ([`Telemetry::sidecar_pace`]).
    pub sidecar_pace: Duration,
    /// How often filters without requests are configured to report (their `heartbeat`); who is silent for 1.5 of it
    /// is not heard.
    pub heartbeat: Duration,
    /// VMs that are remembered. 10,000 proxies of 3 VMs, and room for those that were replaced.
    pub max_vms: usize,
    /// Keys of the call graph that are kept. 200 services with 10 callees in 4 areas and 5 outcomes
    /// make 40,000.
    pub max_series: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gateway_pace: ring::GATEWAY_SLOT,
            sidecar_pace: ring::SIDECAR_SLOT,
            heartbeat: Duration::from_secs(30),
            max_vms: 50_000,
            max_series: 100_000,
        }
    }
}

/// Everything that was reported, as far as it is kept.
#[derive(Debug)]
pub struct Telemetry {
    config: Config,
    index: Index,
    vms: Vms,
    series: HashMap<SeriesKey, Ring>,
    longest: Longest,
    edges: BTreeMap<AreaIx, EdgeSignals>,
    users: BTreeMap<AreaIx, Users>,
    proxies: Proxies,
    sighted: Sighted,
    export: Export,
    counters: Counters,
    unknown_nodes: BTreeSet<String>,
    expired: Timestamp,
}

// === impl Telemetry ===

impl Telemetry {
    /// Empty; knows no proxy until [`Self::set_directory`].
    pub fn new(config: Config) -> Self {
        Self {
            config,
            index: Index::default(),
            vms: Vms::default(),
            series: HashMap::new(),
            longest: Longest::default(),
            edges: BTreeMap::new(),
            users: BTreeMap::new(),
            proxies: Proxies::default(),
            sighted: Sighted::default(),
            export: Export::new(),
            counters: Counters::default(),
            unknown_nodes: BTreeSet::new(),
            expired: Timestamp::default(),
        }
    }

    /// Says which proxy is what from `now` on. What was stored before keeps its meaning.
    pub fn set_directory(&mut self, directory: &Directory, now: Timestamp) {
        self.index.set(directory);
        self.proxies.set(directory, &self.index, now);
        self.unknown_nodes.retain(|node| self.index.place(node).is_none());
    }

    /// Takes a report's body that arrived at `received`, and gives the answer.
    ///
    /// `now` may be later, where reports wait for this call; the filter takes the difference off its
    /// round trip.
    pub fn ingest(&mut self, body: &[u8], received: Timestamp, now: Timestamp) -> Ingested {
        self.counters.bytes = self.counters.bytes.saturating_add(body.len() as u64);
        if now.since(self.expired) >= EXPIRE_EVERY {
            self.expire(now);
        }
        let served = now.since(received);
        let report = match decode(body) {
            Ok(report) => report,
            Err(error) => {
                return self.refuse(error.echo.map(|echo| (echo.vm, echo.seq)), error.into(), served);
            }
        };
        let (vm, seq) = (report.head.vm, report.head.seq);
        let node = &report.window.node_id;
        if let Some(known) = self
            .vms
            .vms
            .get(&vm)
            .filter(|known| &*known.node != node.as_str())
        {
            let known = known.node.to_string();
            let refusal = Refusal::NodeChanged {
                vm,
                known,
                found: node.clone(),
            };
            return self.refuse(Some((vm, seq)), refusal, served);
        }
        let Some(place) = self.index.place(node) else {
            return self.busy_unknown(&report, served);
        };
        let (event, verdict) = self.store(&report, &place, received, now);
        let ack = Ack {
            vm,
            seq,
            verdict,
            next_ms: millis(if place.is_gateway {
                self.config.gateway_pace
            } else {
                self.sidecar_pace()
            }),
            resync: self.vms.vms.get(&vm).is_some_and(|vm| vm.wants_totals),
            served_us: micros(served),
        };
        Ingested::new(Some(ack), event)
    }

    /// Whether the directory has a proxy.
    pub fn knows(&self, node: &str) -> bool {
        self.index.place(node).is_some()
    }

    /// The window that ends at `now`.
    pub fn snapshot(&self, now: Timestamp, window: Duration) -> Snapshot {
        let mut snapshot = snapshot::of(&self.sources(), now, window);
        self.longest.fill(&self.index, &mut snapshot.received);
        snapshot
    }

    /// What every service received in a window that ends now: cheap, however long the window. The longest of the hour is
    /// not looked up.
    pub fn received(&self, now: Timestamp, window: Duration) -> Vec<ReceivedStats> {
        snapshot::received(&self.sources(), now, window)
    }

    /// Who was seen to call which service, and where its endpoints were seen, within `within` before `now`.
    pub fn sightings(&self, within: Duration, now: Timestamp) -> Sightings {
        self.sighted.since(&self.index, within, now)
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            index: &self.index,
            series: &self.series,
            users: &self.users,
            signals: &self.edges,
            proxies: &self.proxies,
            // One heartbeat may be lost or late.
            silence: self.config.heartbeat.mul_f64(1.5),
            lag: self.sidecar_pace().saturating_sub(ring::SIDECAR_SLOT),
        }
    }

    /// How often sidecars are asked to report now: the configured pace, and the slower the more proxies there are.
    pub fn sidecar_pace(&self) -> Duration {
        let by_size = PACE_PER_PROXY.saturating_mul(u32::try_from(self.index.proxies()).unwrap_or(u32::MAX));
        by_size.min(SLOWEST_PACE).max(self.config.sidecar_pace)
    }

    /// Exact totals since the start of each VM.
    pub fn accounting(&self) -> Accounting {
        accounting::of(&self.vms)
    }

    /// Cumulative histograms of the calls since the process started, in no order.
    pub fn exported(&self) -> impl Iterator<Item = Exported> + '_ {
        self.export.iter(&self.index)
    }

    /// What became of reports.
    pub fn counters(&self) -> Counters {
        Counters {
            vms: self.vms.vms.len() as u64,
            series: self.series.len() as u64,
            ..self.counters.clone()
        }
    }

    fn store(
        &mut self,
        report: &Report,
        place: &Place,
        received: Timestamp,
        now: Timestamp,
    ) -> (Event, Verdict) {
        let (vm, seq) = (report.head.vm, report.head.seq);
        if !self.vms.vms.contains_key(&vm) {
            let (has_room, forgotten) = self.vms.make_room(self.config.max_vms, now);
            self.counters.vms_forgotten += forgotten as u64;
            if !has_room {
                self.counters.busy_full += 1;
                return (Event::Busy(Busy::Full), Verdict::Busy);
            }
        }
        let node = &report.window.node_id;
        let known = self.vms.vms.entry(vm).or_insert_with(|| Vm::new(node, now));
        known.heard = now;
        if seq <= known.last_seq {
            self.counters.duplicate += 1;
            return (Event::Duplicate, Verdict::Duplicate);
        }
        let is_gap = known.last_seq > 0 && seq > known.last_seq + 1;
        let merged = known.count(report, &mut self.vms.keys);
        self.counters.gaps += u64::from(is_gap);
        self.counters.totals_merged += merged;
        self.counters.stored += 1;
        let end = ring::at(received).saturating_sub(ring::micros(report.head.age));
        let span = Span {
            start: end.saturating_sub(ring::micros(report.window.duration)),
            end,
        };
        let is_busy = !report.window.series.is_empty();
        self.sighted.see(&place.name, &report.window, &self.index, now);
        self.proxies
            .hear(&place.name, &report.head, span.end, is_busy, now);
        self.signal(report, place, span, now);
        self.place(&report.window, place, span, now);
        (
            Event::Stored {
                mismatch: self.mismatch(&report.window, place),
            },
            Verdict::Stored,
        )
    }

    /// Remembers when an edge was heard, and its round trips.
    fn signal(&mut self, report: &Report, place: &Place, span: Span, now: Timestamp) {
        let edge = self.edges.entry(place.area).or_default();
        if let Some(round_trip) = report.head.round_trip {
            edge.add_round_trip(round_trip, span.start, now);
        }
        if place.is_gateway {
            edge.add_gateway_window(span, now);
        }
    }

    /// Puts a window's series into the slots under it.
    fn place(&mut self, window: &Window, place: &Place, span: Span, now: Timestamp) {
        let is_late = span.start < ring::at(now).saturating_sub(ring::micros(ring::KEEP));
        self.counters.late_windows += u64::from(is_late && !window.series.is_empty());
        for series in &window.series {
            let requests = series.count.saturating_add(series.long_count);
            match self.index.key(place, &series.key) {
                Ok(key) => self.add(key, series, requests, span, now),
                Err(why) => self.counters.unplaced(why, requests),
            }
        }
    }

    fn add(&mut self, key: SeriesKey, series: &Series, requests: u64, span: Span, now: Timestamp) {
        if matches!(key.side, Side::Call { area: None, .. }) && series.key.destination.is_some() {
            self.counters.outside_areas_requests =
                self.counters.outside_areas_requests.saturating_add(requests);
        }
        let data = Data::of(series);
        let limit = self.config.max_series;
        let has_room = self.series.len() < limit || self.series.contains_key(&key);
        if !self.export.add(key, &data, limit) || !has_room {
            self.counters.series_dropped += 1;
            self.counters.series_dropped_requests =
                self.counters.series_dropped_requests.saturating_add(requests);
        }
        if !has_room {
            return;
        }
        self.longest.add(key.side, &data, now);
        let width = ring::width(key.side);
        let segments = ring::segments(span, width, now);
        if segments.iter().all(|segment| segment.slot.is_none()) {
            return;
        }
        if let Side::Call {
            caller: CallerIx::User(edge),
            ..
        } = key.side
            && key.outcome.is_timed()
            && data.count > 0
        {
            let users = self.users.entry(edge).or_default();
            for (segment, part) in segments.iter().zip(data.clone().spread(&segments)) {
                if let Some(slot) = segment.slot.filter(|_| part.count > 0) {
                    users.add(slot, &part);
                }
            }
        }
        let ring = self.series.entry(key).or_default();
        for (segment, part) in segments.iter().zip(Sums::of(&data).spread(&segments)) {
            if let Some(slot) = segment.slot
                && (part.count > 0 || part.long_count > 0)
            {
                ring.add(slot, &part);
            }
        }
    }

    fn mismatch(&mut self, window: &Window, place: &Place) -> Option<Mismatch> {
        let locality = window.identity.as_ref()?.locality.as_ref()?;
        let reported = self.index.area_of(locality);
        if reported == Some(place.area) {
            return None;
        }
        self.counters.identity_mismatches += 1;
        Some(Mismatch {
            node: window.node_id.clone(),
            locality: locality.to_string(),
            reported: reported.and_then(|area| self.index.area_name(area)).cloned(),
            expected: self.index.area_name(place.area).cloned(),
        })
    }

    fn busy_unknown(&mut self, report: &Report, served: Duration) -> Ingested {
        self.counters.busy_unknown_node += 1;
        let node = report.window.node_id.clone();
        let has_room = self.unknown_nodes.len() < MAX_UNKNOWN_NODES;
        let is_first = has_room && self.unknown_nodes.insert(node.clone());
        let ack = Ack {
            vm: report.head.vm,
            seq: report.head.seq,
            verdict: Verdict::Busy,
            next_ms: millis(self.sidecar_pace()),
            resync: false,
            served_us: micros(served),
        };
        Ingested::new(Some(ack), Event::Busy(Busy::UnknownNode { node, is_first }))
    }

    /// Counts a body that was refused before it was read: over [`crate::MAX_REPORT_BYTES`].
    pub fn refuse_too_large(&mut self) {
        self.count_refused(v1::Reason::RefusedTooLarge);
    }

    fn count_refused(&mut self, reason: v1::Reason) {
        *self.counters.refused.entry(reason.as_str_name()).or_default() += 1;
    }

    fn refuse(&mut self, echo: Option<(u64, u64)>, refusal: Refusal, served: Duration) -> Ingested {
        let reason = refusal.reason();
        self.count_refused(reason);
        let ack = echo.map(|(vm, seq)| Ack {
            vm,
            seq,
            verdict: Verdict::Refused(reason),
            next_ms: millis(self.sidecar_pace()),
            resync: false,
            served_us: micros(served),
        });
        Ingested::new(ack, Event::Refused(refusal))
    }

    fn expire(&mut self, now: Timestamp) {
        self.expired = now;
        self.longest.expire(now);
        self.series.retain(|key, ring| {
            ring.expire(ring::oldest(ring::width(key.side), now));
            !ring.is_empty()
        });
        let oldest = ring::oldest(ring::GATEWAY_SLOT, now);
        self.users.values_mut().for_each(|users| users.expire(oldest));
        self.counters.vms_forgotten += self.vms.expire(now) as u64;
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
