//! Filters of a simulated world: what their workers counted, as reports, with the filter's own rules of sending.
//!
//! One report is in flight at most; it is sent again byte for byte, with the same number, after 0.5 s, 1 s, 2 s … 8 s; the
//! answer paces; totals and identity travel where they were asked for. `filter/core` has the real one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use gma_core::world::{Draw, Ending, Key, Tally, World};
use gma_telemetry::report::histogram::{bucket_of, encode_buckets};
use gma_telemetry::report::{EnvelopeHead, Verdict, decode_ack, encode_envelope, v1};
use prost::Message as _;

/// Greatest age of counts before an answer has set a pace: at a gateway, and elsewhere.
const OWN_PACE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));
const HEARTBEAT: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(8);
/// Port of a service, and of its container.
const PORT: u32 = 80;
/// Port on which every simulated container listens.
pub(super) const CONTAINER_PORT: u16 = 8080;
/// Between a proxy and the controller in one area, one way.
const NEAR: Duration = Duration::from_micros(300);

/// What reports meet on their way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Share of reports that are lost.
    pub lost: f64,
    /// Share of answers that are lost.
    pub answers_lost: f64,
    /// Share of reports that arrive a second time.
    pub doubled: f64,
    /// What reports wait on their way.
    pub delay: Duration,
}

#[derive(Debug)]
enum Sending {
    Idle,
    Ready {
        at: Duration,
        failures: u32,
    },
    Flying {
        since: Duration,
        token: u64,
        failures: u32,
    },
}

#[derive(Debug)]
struct Filter {
    proxy: usize,
    worker: usize,
    vm: u64,
    seq: u64,
    /// The frozen window and its end.
    window: (Vec<u8>, Duration),
    sending: Sending,
    began: Duration,
    news: Duration,
    heartbeat: Duration,
    pace: Option<Duration>,
    resync: bool,
    round_trip_us: Option<u32>,
    totals: BTreeMap<Key, (u64, u64)>,
}

/// Something on its way; ordered by its arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Duration,
    token: u64,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Report {
        filter: usize,
        body: Vec<u8>,
        back: Duration,
        is_answered: bool,
    },
    /// None: the connection was refused.
    Answer { filter: usize, ack: Option<Vec<u8>> },
}

/// Every filter of a world, and what is on its way.
#[derive(Debug)]
pub(super) struct Filters {
    filters: Vec<Option<Filter>>,
    /// Proxies that have their filters.
    known: usize,
    on_their_way: BinaryHeap<Reverse<Flight>>,
    tokens: u64,
    draw: Draw,
    pub(super) network: Network,
}

// === impl Filters ===

impl Filters {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            filters: Vec::new(),
            known: 0,
            on_their_way: BinaryHeap::new(),
            tokens: 0,
            draw: Draw::new(seed, 2),
            network: Network::default(),
        }
    }

    /// Every filter looks at what its worker counted, and sends what is due.
    pub(super) fn tick(&mut self, world: &mut World) {
        let now = world.now();
        for (proxy, new) in world.proxies().iter().enumerate().skip(self.known) {
            for worker in 0..new.workers.len() {
                self.filters
                    .push(Some(Filter::new(proxy, worker, now, &mut self.draw)));
            }
        }
        self.known = world.proxies().len();
        for number in 0..self.filters.len() {
            let Some(mut filter) = self.filters.get_mut(number).and_then(Option::take) else {
                continue;
            };
            let alive = world
                .proxies()
                .get(filter.proxy)
                .is_some_and(|proxy| proxy.is_alive);
            if alive {
                self.tick_one(number, &mut filter, world);
                if let Some(place) = self.filters.get_mut(number) {
                    *place = Some(filter);
                }
            }
        }
    }

    fn tick_one(&mut self, number: usize, filter: &mut Filter, world: &mut World) {
        let now = world.now();
        let areas = |area| world.area_name(area).as_str().to_owned();
        let Some(proxy) = world.proxies().get(filter.proxy) else {
            return;
        };
        let Some(worker) = proxy.workers.get(filter.worker).filter(|worker| !worker.is_blind) else {
            return;
        };
        if let Sending::Flying { since, failures, .. } = filter.sending
            && now >= since + TIMEOUT
        {
            filter.fail(now, failures, Duration::ZERO, &mut self.draw);
        }
        let has_news = !worker.tally.is_empty() || filter.resync;
        let is_due = (has_news && filter.news <= now) || filter.heartbeat <= now;
        if matches!(filter.sending, Sending::Idle) && is_due {
            let services = &world.spec().services;
            let host = |service: usize| {
                services
                    .get(service)
                    .map_or(String::new(), |spec| spec.name.as_str().to_owned())
            };
            let own = proxy.service;
            let answer_bytes = |key: &Key| {
                let service = match key {
                    Key::Inbound { .. } => own,
                    Key::Outbound { callee, .. } => Some(*callee),
                };
                let spec = service.and_then(|at| services.get(at));
                spec.map_or(0, |spec| spec.answer_bytes as u64)
            };
            let (node, tally) = (&proxy.node, &worker.tally);
            filter.freeze(now, node, tally, &host, &areas, &answer_bytes, &mut self.draw);
            let place = world.proxies_mut().get_mut(filter.proxy);
            if let Some(worker) = place.and_then(|proxy| proxy.workers.get_mut(filter.worker)) {
                worker.tally.clear();
            }
        }
        if let Sending::Ready { at, failures } = filter.sending
            && at <= now
        {
            self.send(number, filter, failures, world);
        }
    }

    fn send(&mut self, number: usize, filter: &mut Filter, failures: u32, world: &World) {
        let now = world.now();
        self.tokens += 1;
        let token = self.tokens;
        filter.sending = Sending::Flying {
            since: now,
            token,
            failures,
        };
        let area = world.proxies().get(filter.proxy).map_or(0, |proxy| proxy.area);
        let one_way = match area.checked_sub(1).map(|edge| world.rtt_us(edge)) {
            None => NEAR,
            // Nothing passes; the filter waits for its timeout.
            Some(None) => return,
            Some(Some(rtt_us)) => {
                NEAR + Duration::from_secs_f64(rtt_us / 2e6 * (1.0 + 0.1 * self.draw.unit()))
            }
        };
        if self.draw.chance(self.network.lost) {
            return;
        }
        let head = EnvelopeHead {
            vm: filter.vm,
            seq: filter.seq,
            module: "simulated",
            config_hash: 1,
            age_ms: (now - filter.window.1).as_millis() as u64,
            round_trip_us: filter.round_trip_us,
        };
        let body = encode_envelope(&head, &filter.window.0);
        let at = now + one_way + self.network.delay;
        let is_answered = !self.draw.chance(self.network.answers_lost);
        if self.draw.chance(self.network.doubled) {
            let later = at + Duration::from_secs_f64(self.draw.between(0.0, 2.0));
            let kind = Kind::Report {
                filter: number,
                body: body.clone(),
                back: one_way,
                is_answered: false,
            };
            self.on_their_way.push(Reverse(Flight {
                at: later,
                token,
                kind,
            }));
        }
        let kind = Kind::Report {
            filter: number,
            body,
            back: one_way,
            is_answered,
        };
        self.on_their_way.push(Reverse(Flight { at, token, kind }));
    }

    /// Delivers what arrives until `now`, in order. `take` is the controller: none while it is away.
    pub(super) fn deliver(
        &mut self,
        now: Duration,
        mut take: impl FnMut(&[u8], Duration) -> Option<Vec<u8>>,
    ) {
        while let Some(Reverse(next)) = self.on_their_way.peek() {
            if next.at > now {
                return;
            }
            let Some(Reverse(Flight { at, token, kind })) = self.on_their_way.pop() else {
                return;
            };
            match kind {
                Kind::Report {
                    filter,
                    body,
                    back,
                    is_answered,
                } => {
                    let ack = take(&body, at);
                    if is_answered {
                        let kind = Kind::Answer { filter, ack };
                        self.on_their_way.push(Reverse(Flight {
                            at: at + back,
                            token,
                            kind,
                        }));
                    }
                }
                Kind::Answer { filter, ack } => {
                    if let Some(filter) = self.filters.get_mut(filter).and_then(Option::as_mut) {
                        filter.answered(at, token, ack.as_deref(), &mut self.draw);
                    }
                }
            }
        }
    }
}

// === impl Filter ===

impl Filter {
    fn new(proxy: usize, worker: usize, now: Duration, draw: &mut Draw) -> Self {
        // A configuration reaches all proxies at once: their first reports are spread.
        let first = now + OWN_PACE.0.mul_f64(draw.unit());
        Self {
            proxy,
            worker,
            vm: draw.bits().max(1),
            seq: 0,
            window: (Vec::new(), now),
            sending: Sending::Idle,
            began: now,
            news: first,
            heartbeat: first,
            pace: None,
            resync: true,
            round_trip_us: None,
            totals: BTreeMap::new(),
        }
    }

    fn plan(&mut self, now: Duration, is_gateway: bool, draw: &mut Draw) {
        let own = if is_gateway { OWN_PACE.0 } else { OWN_PACE.1 };
        self.news = self.began + self.pace.unwrap_or(own) - gma_core::world::TICK / 2;
        self.heartbeat = now + HEARTBEAT.mul_f64(draw.between(0.9, 1.0));
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "names of the world, which the filter does not hold"
    )]
    fn freeze(
        &mut self,
        now: Duration,
        node: &str,
        tally: &[(Key, Tally)],
        host: &dyn Fn(usize) -> String,
        area: &dyn Fn(usize) -> String,
        answer_bytes: &dyn Fn(&Key) -> u64,
        draw: &mut Draw,
    ) {
        for (key, tally) in tally {
            let total = self.totals.entry(*key).or_default();
            (total.0, total.1) = (total.0 + tally.count, total.1 + tally.sum_us);
        }
        let key = |key: &Key| wire_key(*key, host, area);
        let series = tally.iter().map(|(of, tally)| {
            let mut buckets: Vec<(usize, u32)> = tally
                .durations
                .iter()
                .map(|(us, n)| (bucket_of(u64::from(*us)), *n))
                .collect();
            buckets.sort_unstable();
            let mut histogram = Vec::new();
            encode_buckets(buckets, &mut histogram);
            v1::Series {
                key: Some(key(of)),
                count: tally.count,
                sum_us: tally.sum_us,
                response_bytes: tally.count * answer_bytes(of),
                histogram,
                ..v1::Series::default()
            }
        });
        let totals = self.resync.then(|| v1::Totals {
            keys: self
                .totals
                .iter()
                .map(|(of, (count, sum_us))| v1::Total {
                    key: Some(key(of)),
                    count: *count,
                    sum_us: *sum_us,
                    ..v1::Total::default()
                })
                .collect(),
            ..v1::Totals::default()
        });
        let window = v1::Window {
            node_id: node.to_owned(),
            duration_ms: (now - self.began).as_millis() as u32,
            series: series.collect(),
            totals,
            ..v1::Window::default()
        };
        self.window = (window.encode_to_vec(), now);
        self.seq += 1;
        self.resync = false;
        self.began = now;
        self.sending = Sending::Ready { at: now, failures: 0 };
        self.plan(now, node.starts_with("router"), draw);
    }

    fn fail(&mut self, now: Duration, failures: u32, at_least: Duration, draw: &mut Draw) {
        let wait = (FIRST_RETRY * (1 << failures.min(8))).min(LONGEST_RETRY);
        let wait = wait.mul_f64(draw.between(0.75, 1.0)).max(at_least);
        self.sending = Sending::Ready {
            at: now + wait,
            failures: failures.saturating_add(1),
        };
    }

    fn answered(&mut self, now: Duration, token: u64, ack: Option<&[u8]>, draw: &mut Draw) {
        let Sending::Flying {
            since,
            token: flying,
            failures,
        } = self.sending
        else {
            return;
        };
        if token != flying {
            return;
        }
        let Some(ack) = ack.and_then(|ack| decode_ack(ack, self.vm, self.seq).ok()) else {
            return self.fail(now, failures, Duration::ZERO, draw);
        };
        let next = (ack.next_ms > 0).then(|| Duration::from_millis(ack.next_ms.into()));
        let served = Duration::from_micros(ack.served_us.into());
        self.round_trip_us =
            Some((now - since).saturating_sub(served).as_micros() as u32).filter(|us| *us > 0);
        match ack.verdict {
            Verdict::Stored | Verdict::Duplicate | Verdict::Refused(_) => {
                self.sending = Sending::Idle;
                self.pace = next;
                self.resync |= ack.resync;
                self.news = self.began + next.unwrap_or(OWN_PACE.1) - gma_core::world::TICK / 2;
            }
            Verdict::Busy => self.fail(now, failures, next.unwrap_or_default(), draw),
        }
    }
}

fn wire_key(key: Key, host: &dyn Fn(usize) -> String, area: &dyn Fn(usize) -> String) -> v1::Key {
    let outcome = |ending| match ending {
        Ending::Ok => v1::Outcome::Ok,
        Ending::ServerError => v1::Outcome::ServerError,
        Ending::NoResponse => v1::Outcome::NoResponse,
    };
    match key {
        Key::Inbound { ending } => v1::Key {
            direction: v1::Direction::Inbound.into(),
            port: CONTAINER_PORT.into(),
            outcome: outcome(ending).into(),
            ..v1::Key::default()
        },
        Key::Outbound {
            callee,
            area: at,
            ending,
        } => v1::Key {
            direction: v1::Direction::Outbound.into(),
            service: host(callee),
            port: PORT,
            destination: at.map(|at| v1::Locality {
                region: area(at),
                ..v1::Locality::default()
            }),
            outcome: outcome(ending).into(),
            ..v1::Key::default()
        },
    }
}
