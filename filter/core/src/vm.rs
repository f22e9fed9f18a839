//! All that a VM knows. It outlives plugin configurations: what was counted under one is sent under the next.

use std::time::Duration;

use gma_report::{Ack, AckError, EnvelopeHead, Verdict, decode_ack, encode_envelope};

use crate::config::Config;
use crate::measure::{Measure, Properties};
use crate::node::Node;
use crate::notice::{Cause, Notice};
use crate::sending::{Call, Sending};
use crate::time::{Random, Timestamp};
use crate::window::{self, Header};

/// How often the host should call [`Vm::tick`]; the shortest pace that is kept.
pub const TICK: Duration = Duration::from_millis(250);

/// Greatest age of counts that were not sent, at a gateway: the delay of users is decided upon there.
const GATEWAY_AGE: Duration = Duration::from_secs(2);
/// Greatest age of counts that were not sent, elsewhere.
const SIDECAR_AGE: Duration = Duration::from_secs(4);

/// Keys are looked at for eviction so often: far below the 10 minutes that they may be idle.
const SWEEP: Duration = Duration::from_secs(10);

/// Root contexts beside the newest that are remembered: WasmPlugins of one proxy with this module, and
/// configurations that Envoy has not let go yet.
const MAX_OLDER: usize = 4;
/// Ticks of older roots without one of the newest until it is taken for deleted: 10 s of one root. Ticks, not
/// time: a worker that stood still must not confuse the two.
const MAX_MISSED: u32 = 40;

/// Sends in vain until the log says so: a restart of the controller is no news.
const TELL_AFTER: u32 = 3;

/// A plugin configuration in force.
#[derive(Debug)]
pub struct Session {
    /// Root context that was configured; its ticks and answers count.
    pub root: u32,
    /// What it says.
    pub config: Config,
    /// Tells configurations apart.
    pub config_hash: u64,
    /// This proxy.
    pub node: Node,
}

/// A root context; without a session where its configuration was bad.
#[derive(Debug)]
struct Root {
    id: u32,
    session: Option<Session>,
}

/// The state of one VM: identity, accumulators, sequence, and the report in flight.
#[derive(Debug)]
pub struct Vm {
    id: u64,
    module: &'static str,
    /// The root context that was configured last: it speaks for the VM.
    newest: Option<Root>,
    /// Roots that may still live, for the case that the newest is deleted.
    older: Vec<Session>,
    /// Ticks of older roots since the last one of the newest.
    missed: u32,
    measure: Measure,
    sending: Sending,
    /// Number of the last window that was frozen.
    seq: u64,
    /// The next window must carry identity and totals.
    resync: bool,
    /// What the last ack asked for.
    pace: Option<Duration>,
    round_trip_us: Option<u32>,
    timing: Timing,
    random: Random,
}

/// When what is due.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    /// Zero before the first good configuration.
    window_start: Timestamp,
    /// The next window, where there is something to say.
    news: Timestamp,
    /// The next window, in any case.
    heartbeat: Timestamp,
    sweep: Timestamp,
}

/// What came back for a call.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// Nothing: no connection, a reset, a timeout.
    None,
    /// A response with this body, whatever its code: only an ack counts.
    Body(&'a [u8]),
}

// === impl Vm: requests ===

impl Vm {
    /// A VM of this random identity. `module` is its name and version.
    pub fn new(id: u64, module: &'static str) -> Self {
        Self {
            // 0 is no identity on the wire.
            id: id.max(1),
            module,
            newest: None,
            older: Vec::new(),
            missed: 0,
            measure: Measure::new(id),
            sending: Sending::Idle,
            seq: 0,
            resync: true,
            pace: None,
            round_trip_us: None,
            timing: Timing::default(),
            random: Random::new(id),
        }
    }

    /// The configuration in force; none before the first and after a bad one.
    pub fn session(&self) -> Option<&Session> {
        self.newest.as_ref()?.session.as_ref()
    }

    /// Counts one finished request; does nothing without a configuration.
    pub fn observe(&mut self, host: &mut impl Properties) {
        if self.session().is_some() {
            self.measure.observe(host);
        }
    }
}

// === impl Vm: configurations ===

impl Vm {
    /// Puts a plugin configuration in force; its root context is the one that ticks from now on.
    pub fn configure(&mut self, session: Session, now: Timestamp) {
        let is_first = self.timing.window_start == Timestamp::default();
        self.put_in_force(
            Root {
                id: session.root,
                session: Some(session),
            },
            now,
        );
        if is_first {
            self.timing.window_start = now;
            // A configuration reaches all proxies of a mesh at once: their first reports are spread.
            self.timing.news = now.after(self.random.up_to(self.own_pace()));
            self.timing.heartbeat = self.timing.news;
        } else {
            self.plan(self.timing.window_start);
        }
    }

    /// A bad configuration came for this root: requests pass unmeasured. What was counted before waits for a
    /// good one.
    pub fn suspend(&mut self, root: u32, now: Timestamp) {
        self.put_in_force(
            Root {
                id: root,
                session: None,
            },
            now,
        );
    }

    fn put_in_force(&mut self, root: Root, now: Timestamp) {
        self.older.retain(|session| session.root != root.id);
        if let Some(Root {
            id,
            session: Some(session),
        }) = self.newest.take()
            && id != root.id
        {
            self.older.push(session);
        }
        if self.older.len() > MAX_OLDER {
            self.older.remove(0);
        }
        self.newest = Some(root);
        self.missed = 0;
        self.sending = std::mem::take(&mut self.sending).orphaned(now);
    }

    /// Notes a tick; whether it is of the root that speaks for the VM. Envoy deletes a root without a word,
    /// and does not configure one anew that it still has when a configuration is rolled back: an older root
    /// that ticks alone takes over.
    fn speaks(&mut self, root: u32, now: Timestamp) -> bool {
        if self.newest.as_ref().is_some_and(|newest| newest.id == root) {
            self.missed = 0;
            return true;
        }
        let Some(at) = self.older.iter().position(|session| session.root == root) else {
            return false;
        };
        self.missed += 1;
        if self.missed <= MAX_MISSED {
            return false;
        }
        let session = self.older.remove(at);
        self.put_in_force(
            Root {
                id: root,
                session: Some(session),
            },
            now,
        );
        self.plan(self.timing.window_start);
        true
    }

    /// The configured pace, one tick short, so that counts do not get older than it while a tick is awaited.
    fn own_pace(&self) -> Duration {
        let Some(session) = self.session() else {
            return SIDECAR_AGE;
        };
        let age = if session.node.is_gateway() {
            GATEWAY_AGE
        } else {
            SIDECAR_AGE
        };
        session
            .config
            .interval
            .unwrap_or(age)
            .saturating_sub(TICK)
            .max(TICK)
    }

    /// Plans the window that began at `start`.
    fn plan(&mut self, start: Timestamp) {
        let heartbeat = self
            .session()
            .map_or(Duration::MAX, |session| session.config.heartbeat);
        // Ticks come a little late each time: half a tick less keeps 0.5 s from becoming 0.75 s.
        let pace = self.pace.unwrap_or_else(|| self.own_pace()).max(TICK) - TICK / 2;
        self.timing.window_start = start;
        self.timing.news = start.after(pace);
        self.timing.heartbeat = start.after(heartbeat - self.random.up_to(heartbeat / 10));
    }
}

// === impl Vm: reports ===

impl Vm {
    /// The body to send now, if any. The shell makes the call and says how it went: [`Vm::sent`] or
    /// [`Vm::not_sent`].
    pub fn tick(&mut self, root: u32, now: Timestamp) -> Option<Vec<u8>> {
        if !self.speaks(root, now) {
            return None;
        }
        let timeout = self.session()?.config.controller.timeout;
        if self.sending.is_overdue(now, timeout) {
            self.fail(now, Duration::ZERO);
        }
        if self.timing.sweep <= now {
            self.timing.sweep = now.after(SWEEP);
            self.measure.keys.sweep(now);
        }
        if self.sending == Sending::Idle && self.is_due(now) {
            self.freeze(now);
        }
        self.body(now)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let has_news = self.measure.has_news || self.resync;
        (has_news && self.timing.news <= now) || self.timing.heartbeat <= now
    }

    fn freeze(&mut self, now: Timestamp) {
        let Some(session) = self.newest.as_ref().and_then(|root| root.session.as_ref()) else {
            return;
        };
        let header = Header {
            node_id: &session.node.id,
            identity: self.resync.then_some(&session.node.identity),
            duration: now.since(self.timing.window_start),
            ended: now,
            seq: self.seq + 1,
        };
        let parts = window::freeze(&mut self.measure, &header);
        self.seq += 1 + parts.rest.len() as u64;
        self.resync = false;
        self.sending = Sending::offer(parts, now);
        self.plan(now);
    }

    fn body(&self, now: Timestamp) -> Option<Vec<u8>> {
        let part = self.sending.due(now)?;
        let head = EnvelopeHead {
            vm: self.id,
            seq: part.seq,
            module: self.module,
            config_hash: self.session()?.config_hash,
            age_ms: u64::try_from(now.since(part.ended).as_millis()).unwrap_or(u64::MAX),
            round_trip_us: self.round_trip_us,
        };
        Some(encode_envelope(&head, &part.bytes))
    }

    /// The call was made.
    pub fn sent(&mut self, call: Call, now: Timestamp) {
        self.sending = std::mem::take(&mut self.sending).sent(call, now);
    }

    /// The host refused the call.
    pub fn not_sent(&mut self, cause: Cause, now: Timestamp) -> Option<Notice> {
        self.fail(now, Duration::ZERO);
        self.trouble(cause)
    }

    /// An answer came. One to a call that is not the one in flight is ignored.
    pub fn answered(&mut self, call: Call, answer: Answer<'_>, now: Timestamp) -> Option<Notice> {
        let Sending::Flying {
            parts,
            call: flying,
            sent,
            failures,
        } = &self.sending
        else {
            return None;
        };
        if *flying != call || self.newest.as_ref().is_none_or(|newest| newest.id != call.root) {
            return None;
        }
        let (seq, sent, failures) = (parts.first.seq, *sent, *failures);
        let Answer::Body(body) = answer else {
            self.fail(now, Duration::ZERO);
            return self.trouble(Cause::NoAnswer);
        };
        match decode_ack(body, self.id, seq) {
            Ok(ack) => {
                let served = Duration::from_micros(ack.served_us.into());
                self.round_trip_us = u32::try_from(now.since(sent).saturating_sub(served).as_micros()).ok();
                self.take_ack(&ack, failures, now)
            }
            Err(error @ (AckError::Malformed | AckError::NoEcho | AckError::UnknownVerdict)) => {
                self.fail(now, Duration::ZERO);
                self.trouble(Cause::NoAck(error))
            }
        }
    }

    fn take_ack(&mut self, ack: &Ack, failures: u32, now: Timestamp) -> Option<Notice> {
        let next = (ack.next_ms > 0).then(|| Duration::from_millis(ack.next_ms.into()));
        let reason = match ack.verdict {
            Verdict::Stored | Verdict::Duplicate => None,
            Verdict::Refused(reason) => Some(reason),
            Verdict::Busy => {
                self.fail(now, next.unwrap_or_default());
                return self.trouble(Cause::Busy);
            }
        };
        let (rest, done) = std::mem::take(&mut self.sending).resolved(now);
        self.sending = rest;
        self.measure.keys.answered(ack.seq, now);
        self.pace = next;
        self.resync |= ack.resync;
        self.plan(self.timing.window_start);
        match (reason, done) {
            (Some(reason), Some(part)) => {
                self.measure.has_news |= part.requests > 0 || !part.unmeasured.is_empty();
                self.measure.unmeasured.put_back(reason, part.requests);
                for (earlier, count) in part.unmeasured {
                    self.measure.unmeasured.put_back(earlier, count);
                }
                // It may have carried what the controller asked for.
                self.resync |= part.says_who;
                Some(Notice::Refused {
                    reason,
                    requests: part.requests,
                })
            }
            _ => (failures >= TELL_AFTER).then_some(Notice::Reachable { sends: failures + 1 }),
        }
    }

    fn fail(&mut self, now: Timestamp, at_least: Duration) {
        self.sending = std::mem::take(&mut self.sending).failed(now, at_least, &mut self.random);
    }

    fn trouble(&self, cause: Cause) -> Option<Notice> {
        (self.sending.failures() == TELL_AFTER).then_some(Notice::Unreachable(cause))
    }
}
