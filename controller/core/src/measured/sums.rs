//! Sums of a snapshot by service and area.

use std::collections::BTreeMap;

use super::learned::Calls;
use super::settings::Settings;
use crate::ids::{AreaName, ServiceName};
use crate::model::{AreaIx, EdgeIx, ServiceIx};
use crate::snapshot::{Caller, OutcomeCounts, Snapshot};
use crate::units::CallsPerRequest;

/// Who calls, densely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum From {
    User(EdgeIx),
    Service(ServiceIx, AreaIx),
}

/// Requests and what is known of those with a duration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) requests: f64,
    pub(super) timed: f64,
    pub(super) us: f64,
    pub(super) bytes: f64,
}

/// Calls of one caller to one service in one area; none: no endpoint was reached.
pub(super) type Route = (From, ServiceIx, Option<AreaIx>);

#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) calls: BTreeMap<Route, Sum>,
    received: BTreeMap<(ServiceIx, AreaIx), Sum>,
    /// Mean calls per request received, over all areas.
    graph: BTreeMap<ServiceIx, BTreeMap<ServiceIx, f64>>,
}

// === impl From ===

impl From {
    pub(super) const fn area(self) -> AreaIx {
        match self {
            Self::User(edge) => AreaIx::Edge(edge),
            Self::Service(_, area) => area,
        }
    }
}

// === impl Sum ===

impl Sum {
    /// Mean duration, µs; none where nothing was timed.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.timed > 0.0).then(|| self.us / self.timed)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.timed += other.timed;
        self.us += other.us;
        self.bytes += other.bytes;
    }
}

// === impl Sums ===

impl Sums {
    /// Areas that the settings do not name are left out; `names` has every service of the snapshot.
    pub(super) fn of(snapshot: &Snapshot, settings: &Settings, names: &[ServiceName]) -> Self {
        let services: BTreeMap<&ServiceName, ServiceIx> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name, ServiceIx::at(at)))
            .collect();
        let areas: BTreeMap<&AreaName, AreaIx> = settings
            .area_names()
            .zip(AreaIx::all(settings.edges.len()))
            .collect();
        let mut this = Self::default();
        for call in &snapshot.calls {
            let from = match &call.caller {
                Caller::User { edge } => match areas.get(edge) {
                    Some(AreaIx::Edge(edge)) => From::User(*edge),
                    _ => continue,
                },
                Caller::Instance { service, area } => match (services.get(service), areas.get(area)) {
                    (Some(service), Some(area)) => From::Service(*service, *area),
                    _ => continue,
                },
            };
            let Some(&callee) = services.get(&call.callee) else {
                continue;
            };
            let area = call
                .callee_area
                .as_ref()
                .and_then(|area| areas.get(area))
                .copied();
            let sum = sum(&call.outcomes, call.timed, call.sum_us, call.response_bytes);
            this.calls.entry((from, callee, area)).or_default().add(&sum);
        }
        for received in &snapshot.received {
            let cell = services.get(&received.service).zip(areas.get(&received.area));
            let Some((&service, &area)) = cell else { continue };
            let sum = sum(
                &received.outcomes,
                received.timed,
                received.sum_us,
                received.response_bytes,
            );
            this.received.entry((service, area)).or_default().add(&sum);
        }
        for (at, name) in names.iter().enumerate() {
            let window = this.calls_of(ServiceIx::at(at), settings.edges.len(), names);
            if window.requests <= 0.0 {
                continue;
            }
            let all = settings.learned.with_calls(name, &window, snapshot);
            let rates = all.by_callee.iter().filter_map(|(name, calls)| {
                let callee = *services.get(name)?;
                // One that is called only now and then, and not in the window, has no times.
                let is_called = window.by_callee.contains_key(name) || this.received(callee).timed > 0.0;
                (is_called && *calls > 0.0).then_some((callee, calls / all.requests))
            });
            let rates = rates.collect();
            this.graph.insert(ServiceIx::at(at), rates);
        }
        this
    }

    /// What a service received in all areas, and the calls that it made.
    pub(super) fn calls_of(&self, service: ServiceIx, edges: usize, names: &[ServiceName]) -> Calls {
        let mut row = Calls {
            requests: self.received(service).requests,
            by_callee: BTreeMap::new(),
        };
        let callers = AreaIx::all(edges).map(|area| From::Service(service, area));
        for ((_, callee, _), sum) in callers.flat_map(|caller| self.of_caller(caller)) {
            if let Some(name) = names.get(callee.position()) {
                *row.by_callee.entry(name.clone()).or_default() += sum.requests;
            }
        }
        row
    }

    pub(super) fn received_at(&self, service: ServiceIx, area: AreaIx) -> Sum {
        self.received.get(&(service, area)).copied().unwrap_or_default()
    }

    /// Over all areas.
    pub(super) fn received(&self, service: ServiceIx) -> Sum {
        let mut sum = Sum::default();
        let cells = self
            .received
            .range((service, AreaIx::Cloud)..=(service, AreaIx::Edge(EdgeIx(u32::MAX))));
        cells.for_each(|(_, cell)| sum.add(cell));
        sum
    }

    pub(super) fn graph(&self) -> impl Iterator<Item = (ServiceIx, ServiceIx, f64)> {
        self.graph
            .iter()
            .flat_map(|(caller, row)| row.iter().map(|(callee, calls)| (*caller, *callee, *calls)))
    }

    pub(super) fn callees(&self, service: ServiceIx) -> impl Iterator<Item = ServiceIx> {
        self.graph
            .get(&service)
            .into_iter()
            .flat_map(|row| row.keys().copied())
    }

    /// Calls of one caller, by callee and area.
    pub(super) fn of_caller(&self, from: From) -> impl Iterator<Item = (&Route, &Sum)> {
        let last = (from, ServiceIx(u32::MAX), Some(AreaIx::Edge(EdgeIx(u32::MAX))));
        self.calls.range((from, ServiceIx(0), None)..=last)
    }

    /// Of the requests that an edge's gateway routed, the part that went to each service.
    pub(super) fn user_calls(&self, edge: EdgeIx) -> Vec<(ServiceIx, CallsPerRequest)> {
        let mut requests: BTreeMap<ServiceIx, f64> = BTreeMap::new();
        for ((from, callee, _), sum) in &self.calls {
            if *from == From::User(edge) && sum.requests > 0.0 {
                *requests.entry(*callee).or_default() += sum.requests;
            }
        }
        let all: f64 = requests.values().sum();
        let part = |(service, requests)| (service, CallsPerRequest::nearest(requests / all));
        requests.into_iter().map(part).collect()
    }
}

fn sum(outcomes: &OutcomeCounts, timed: u64, sum_us: u64, bytes: u64) -> Sum {
    Sum {
        requests: float(outcomes.total()),
        timed: float(timed),
        us: float(sum_us),
        bytes: float(bytes),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a relative 1e-16 of a count or sum")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
