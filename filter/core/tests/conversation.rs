//! The filter against a controller that answers as it likes: whatever happens, each request is counted once.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use gma_filter_core::{
    Answer, Call, Cause, Config, HostError, MAX_READS, Node, Properties, Property, RawNode, Session, TICK,
    Timestamp, Vm,
};
use gma_report::v1::{self, Reason};
use gma_report::{Ack, Verdict, decode, encode_ack};
use proptest::prelude::*;
use prost::Message;

/// A finished request: what is there, what is not, what cannot be read.
#[derive(Clone, Debug, Default)]
struct Request {
    properties: BTreeMap<Property, Option<Vec<u8>>>,
    reads: u32,
}

impl Properties for Request {
    fn read(&mut self, property: Property) -> Result<Option<&[u8]>, HostError> {
        self.reads += 1;
        match self.properties.get(&property) {
            None => Ok(None),
            Some(None) => Err(HostError),
            Some(Some(bytes)) => Ok(Some(bytes)),
        }
    }
}

/// What the controller does with a report, and what the filter sees of it.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Store { next_ms: u32, resync: bool },
    StoreAndLoseAnswer,
    Lose,
    Never,
    Refuse,
    Busy,
    Rubbish,
    NoCluster,
}

#[derive(Clone, Debug)]
enum Step {
    Observe(Request),
    Tick { wait_ms: u64, reply: Reply },
    Configure,
    BadConfiguration,
}

/// A fault that is put between the filter and the rest of its world: the filter has it, as far as anyone can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    ForgetsARequest,
    CountsARequestTwice,
    TakesSilenceForAnAck,
    RenumbersResends,
    AltersResends,
}

/// A VM, its host and a controller that keeps one number.
struct World {
    sabotage: Option<Sabotage>,
    vm: Vm,
    now: Timestamp,
    root: u32,
    token: u32,
    configured: bool,
    observed: u64,
    /// Requests in series and as unmeasured, of stored reports.
    stored: u64,
    last_seq: u64,
    windows: BTreeMap<u64, Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_nanos(1);
        let vm = Vm::new(42, "gma-filter test");
        let windows = BTreeMap::new();
        let mut world = Self {
            sabotage: None,
            vm,
            now,
            root: 0,
            token: 0,
            configured: true,
            observed: 0,
            stored: 0,
            last_seq: 0,
            windows,
        };
        world.configure();
        world
    }

    fn configure(&mut self) {
        self.root += 1;
        self.configured = true;
        let config = Config::parse(br#"{"controller": {"cluster": "gma"}}"#).unwrap();
        let node = Node::read(RawNode {
            id: Some(b"sidecar~a~b~c".to_vec()),
            ..RawNode::default()
        })
        .unwrap();
        self.vm.configure(
            Session {
                root: self.root,
                config,
                config_hash: 1,
                node,
            },
            self.now,
        );
    }

    fn observe(&mut self, mut request: Request) {
        let times = match self.sabotage {
            Some(Sabotage::ForgetsARequest) if self.observed == 5 => 0,
            Some(Sabotage::CountsARequestTwice) if self.observed == 5 => 2,
            _ => 1,
        };
        for _ in 0..times {
            request.reads = 0;
            self.vm.observe(&mut request);
        }
        assert!(request.reads <= MAX_READS, "{request:?}");
        self.observed += u64::from(self.configured);
    }

    fn tick(&mut self, wait: Duration, reply: Reply) {
        self.now = self.now.after(wait);
        // An older root's ticks do nothing.
        assert_eq!(self.vm.tick(self.root.wrapping_sub(1), self.now), None);
        let first = self.token;
        while let Some(body) = self.vm.tick(self.root, self.now) {
            self.token += 1;
            assert!(
                self.token - first <= 16,
                "one moment must not make reports without end"
            );
            let call = Call {
                root: self.root,
                token: self.token,
            };
            if matches!(reply, Reply::NoCluster) {
                self.vm.not_sent(Cause::NoCluster, self.now);
                continue;
            }
            self.vm.sent(call, self.now);
            let answer = self
                .receive(&self.sabotaged(body.clone()), reply)
                .or_else(|| self.sabotaged_silence(&body));
            self.vm
                .answered(Call { token: 0, ..call }, Answer::None, self.now);
            match &answer {
                Some(body) => self.vm.answered(call, Answer::Body(body), self.now),
                None if matches!(reply, Reply::Never) => None,
                None => self.vm.answered(call, Answer::None, self.now),
            };
        }
    }

    fn sabotaged(&self, body: Vec<u8>) -> Vec<u8> {
        let mut envelope = v1::Envelope::decode(&body[..]).unwrap();
        if !self.windows.contains_key(&envelope.seq) {
            return body;
        }
        match self.sabotage {
            Some(Sabotage::RenumbersResends) => envelope.seq += 1,
            Some(Sabotage::AltersResends) => {
                let duration = v1::Window {
                    duration_ms: 1,
                    ..v1::Window::default()
                };
                envelope.window.extend(duration.encode_to_vec());
            }
            _ => return body,
        }
        envelope.encode_to_vec()
    }

    fn sabotaged_silence(&self, body: &[u8]) -> Option<Vec<u8>> {
        let v1::Envelope { vm, seq, .. } = v1::Envelope::decode(body).unwrap();
        let ack = Ack {
            vm,
            seq,
            verdict: Verdict::Stored,
            next_ms: 0,
            resync: false,
            served_us: 10,
        };
        (self.sabotage == Some(Sabotage::TakesSilenceForAnAck)).then(|| encode_ack(&ack))
    }

    /// The controller's side.
    fn receive(&mut self, body: &[u8], reply: Reply) -> Option<Vec<u8>> {
        let report = decode(body).expect("a report that the controller accepts");
        let (vm, seq) = (report.head.vm, report.head.seq);
        let window = v1::Envelope::decode(body).unwrap().window;
        let known = self.windows.entry(seq).or_insert_with(|| window.clone());
        assert_eq!(*known, window, "a window changed between its sends");
        assert!(seq <= self.last_seq + 1, "a number was left out");
        let is_new = seq > self.last_seq;
        let store = |world: &mut Self| {
            if is_new {
                world.last_seq = seq;
                let series = report
                    .window
                    .series
                    .iter()
                    .map(|series| series.count + series.long_count);
                world.stored +=
                    series.sum::<u64>() + report.window.unmeasured.iter().map(|(_, n)| n).sum::<u64>();
                Verdict::Stored
            } else {
                Verdict::Duplicate
            }
        };
        let (verdict, next_ms, resync) = match reply {
            Reply::Store { next_ms, resync } => (store(self), next_ms, resync),
            Reply::StoreAndLoseAnswer => {
                store(self);
                return None;
            }
            Reply::Refuse if is_new => {
                self.last_seq = seq;
                (Verdict::Refused(Reason::RefusedLimit), 0, false)
            }
            Reply::Refuse => (Verdict::Duplicate, 0, false),
            Reply::Busy => (Verdict::Busy, 0, false),
            Reply::Rubbish => return Some(b"<html>".to_vec()),
            Reply::Lose | Reply::Never | Reply::NoCluster => return None,
        };
        Some(encode_ack(&Ack {
            vm,
            seq,
            verdict,
            next_ms,
            resync,
            served_us: 10,
        }))
    }
}

fn value(property: Property) -> BoxedStrategy<Vec<u8>> {
    let number =
        |values: BoxedStrategy<i64>| values.prop_map(|value: i64| value.to_le_bytes().to_vec()).boxed();
    match property {
        Property::ClusterName => {
            let outbound = (0..400).prop_map(|n| format!("outbound|80||s{n}.shop").into_bytes());
            prop_oneof![4 => outbound, 1 => Just(b"inbound|8080||".to_vec()), 1 => Just(b"xds-grpc".to_vec())]
                .boxed()
        }
        Property::Code => number(prop_oneof![Just(200), Just(0), Just(101), -1i64..700].boxed()),
        Property::Duration => number(prop_oneof![0i64..2_000_000_000, -5i64..100_000_000_000].boxed()),
        Property::Locality => {
            let real = (0u8..60).prop_map(|n| vec![0x0a, 2, b'r', n]);
            prop_oneof![4 => real, 1 => prop::collection::vec(any::<u8>(), 0..9)].boxed()
        }
        Property::GrpcTrailer | Property::GrpcHeader => "[0-9x]{1,2}".prop_map(String::into_bytes).boxed(),
        Property::ResponseSize | Property::Flags | Property::RequestSize | Property::Attempts => {
            number(any::<i64>().boxed())
        }
    }
}

fn request() -> impl Strategy<Value = Request> {
    const ALL: [Property; 10] = [
        Property::ClusterName,
        Property::Code,
        Property::Duration,
        Property::ResponseSize,
        Property::Locality,
        Property::Flags,
        Property::GrpcTrailer,
        Property::GrpcHeader,
        Property::RequestSize,
        Property::Attempts,
    ];
    let property = |property| {
        let found = value(property).prop_map(Some);
        prop_oneof![20 => found.prop_map(Some), 2 => Just(None), 1 => Just(Some(None))]
            .prop_map(move |value| value.map(|value| (property, value)))
    };
    ALL.map(property).prop_map(|all| Request {
        properties: all.into_iter().flatten().collect(),
        reads: 0,
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let store = (prop_oneof![Just(0), 1u32..20_000], any::<bool>());
    prop_oneof![
        4 => store.prop_map(|(next_ms, resync)| Reply::Store { next_ms, resync }),
        1 => Just(Reply::StoreAndLoseAnswer),
        1 => Just(Reply::Lose),
        1 => Just(Reply::Never),
        1 => Just(Reply::Refuse),
        1 => Just(Reply::Busy),
        1 => Just(Reply::Rubbish),
        1 => Just(Reply::NoCluster),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => request().prop_map(Step::Observe),
        10 => (0u64..30_000, reply()).prop_map(|(wait_ms, reply)| Step::Tick { wait_ms, reply }),
        1 => Just(Step::Tick { wait_ms: 700_000, reply: Reply::Store { next_ms: 0, resync: true } }),
        1 => Just(Step::Configure),
        1 => Just(Step::BadConfiguration),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_request_is_counted_once(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Observe(request) => world.observe(request),
                Step::Tick { wait_ms, reply } => world.tick(Duration::from_millis(wait_ms), reply),
                Step::Configure => world.configure(),
                Step::BadConfiguration => {
                    world.root += 1;
                    world.vm.suspend(world.root, world.now);
                    world.configured = false;
                }
            }
        }
        world.configure();
        for _ in 0..240 {
            world.tick(TICK, Reply::Store { next_ms: 0, resync: false });
        }
        prop_assert_eq!(world.stored, world.observed);
    }

    /// One request in any state of the host costs at most 8 reads and is counted.
    #[test]
    fn any_request_is_survived(requests in prop::collection::vec(request(), 1..100)) {
        let mut world = World::new();
        for request in requests {
            world.observe(request);
        }
        for _ in 0..40 {
            world.tick(TICK, Reply::Store { next_ms: 0, resync: false });
        }
        prop_assert_eq!(world.stored, world.observed);
    }
}

/// Requests, losses of each kind and the check at the end.
fn converse(sabotage: Option<Sabotage>) {
    let mut world = World::new();
    world.sabotage = sabotage;
    let number = |value: i64| Some(value.to_le_bytes().to_vec());
    let request = Request {
        properties: BTreeMap::from([
            (Property::ClusterName, Some(b"inbound|8080||".to_vec())),
            (Property::Code, number(200)),
            (Property::Duration, number(10_000_000)),
            (Property::ResponseSize, number(300)),
        ]),
        reads: 0,
    };
    let store = Reply::Store {
        next_ms: 0,
        resync: false,
    };
    for reply in [Reply::Lose, Reply::StoreAndLoseAnswer, store] {
        for _ in 0..20 {
            world.observe(request.clone());
        }
        for _ in 0..40 {
            world.tick(TICK, reply);
        }
    }
    for _ in 0..240 {
        world.tick(TICK, store);
    }
    assert_eq!(world.stored, world.observed);
}

/// The checks of this file can fail: a filter with any of these faults does not pass them.
#[test]
fn a_filter_that_is_broken_on_purpose_is_noticed() {
    converse(None);
    for sabotage in [
        Sabotage::ForgetsARequest,
        Sabotage::CountsARequestTwice,
        Sabotage::TakesSilenceForAnAck,
        Sabotage::RenumbersResends,
        Sabotage::AltersResends,
    ] {
        let noticed = std::panic::catch_unwind(|| converse(Some(sabotage)));
        assert!(noticed.is_err(), "{sabotage:?} passes every check");
    }
}
