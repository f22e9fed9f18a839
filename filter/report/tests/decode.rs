//! What is accepted, and that nothing that is sent can do harm.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

mod common;

use common::{VM, encode_again, mk_body, mk_head, mk_inbound, mk_key, mk_series, mk_window};
use gma_report::histogram::{HIGHEST_US, bucket_of, check_v2, encode_buckets};
use gma_report::{
    AckError, Echo, Problem, VERSION, Verdict, decode, decode_ack, encode_envelope, limits, v1,
};
use proptest::prelude::*;
use prost::Message;

fn problem(window: &v1::Window) -> Problem {
    decode(&mk_body(window)).expect_err("it must be refused").problem
}

fn mk_one(series: v1::Series) -> v1::Window {
    v1::Window {
        node_id: "node".into(),
        duration_ms: 500,
        series: vec![series],
        ..v1::Window::default()
    }
}

fn cart() -> v1::Key {
    mk_key("cart", v1::Outcome::Ok)
}

fn raw_key() -> impl Strategy<Value = v1::Key> {
    let outbound = (
        "[a-z.]{1,40}",
        1..65_536u32,
        "[a-z0-9]{0,8}",
        1..6i32,
        any::<bool>(),
        0..3u32,
    )
        .prop_map(|(service, port, subset, outcome, reached, generation)| v1::Key {
            port,
            subset,
            generation,
            destination: reached.then(|| common::mk_locality("z")),
            ..mk_key(
                &service,
                v1::Outcome::try_from(outcome).expect("1 to 5 are known"),
            )
        });
    prop_oneof![outbound, (1..65_536u32).prop_map(mk_inbound)]
}

fn raw_window() -> impl Strategy<Value = v1::Window> {
    let durations = proptest::collection::vec(0..=HIGHEST_US, 0..30);
    let series = (raw_key(), durations, 0..3u64).prop_map(|(key, durations, long_count)| v1::Series {
        long_count,
        ..mk_series(key, &durations)
    });
    (
        "[ -~]{1,100}",
        any::<u32>(),
        proptest::collection::vec(series, 0..10),
        0..16u32,
    )
        .prop_map(|(node_id, duration_ms, series, parts_left)| v1::Window {
            node_id,
            duration_ms,
            series,
            parts_left,
            ..v1::Window::default()
        })
}

proptest! {
    #[test]
    fn round_trip(window in raw_window()) {
        let body = mk_body(&window);
        prop_assert_eq!(encode_again(&decode(&body).expect("it is valid")), body);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = decode(&bytes);
        let _ = decode(&encode_envelope(&mk_head(1), &bytes));
        let _ = decode_ack(&bytes, 1, 1);
    }

    #[test]
    fn mutated_reports_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut body = mk_body(&mk_window());
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if is_cut {
            body.truncate(cut.index(body.len()));
        }
        if let Ok(report) = decode(&body) {
            for series in &report.window.series {
                let counted = series.histogram().map(|h| h.buckets().map(|(_, n)| u64::from(n)).sum::<u64>());
                prop_assert_eq!(counted.unwrap_or(series.count), series.count);
            }
        }
    }
}

#[test]
fn error_names_the_report_wherever_it_broke() {
    let body = mk_body(&mk_window());
    for cut in 40..body.len() {
        let error = decode(&body[..cut]).expect_err("it is cut off");
        assert_eq!(error.echo, Some(Echo { vm: VM, seq: 1 }), "cut at {cut}");
        assert_eq!(error.reason(), v1::Reason::RefusedMalformed);
    }
    assert_eq!(decode(b"GET / HTTP/1.1").expect_err("it is no report").echo, None);
}

#[test]
fn other_versions_are_refused_by_name() {
    for version in [0, VERSION + 1] {
        let envelope = v1::Envelope {
            version,
            vm: 5,
            seq: 6,
            ..v1::Envelope::default()
        };
        let error = decode(&envelope.encode_to_vec()).expect_err("the version is unknown");
        assert_eq!(error.problem, Problem::Version { found: version });
        assert_eq!(
            (error.reason(), error.echo),
            (v1::Reason::RefusedVersion, Some(Echo { vm: 5, seq: 6 }))
        );
    }
}

#[test]
fn fields_of_a_later_minor_version_are_passed_over() {
    let mut window = mk_one(mk_series(cart(), &[5])).encode_to_vec();
    prost::encoding::string::encode(1_000, &"later".to_owned(), &mut window);
    assert!(decode(&encode_envelope(&mk_head(1), &window)).is_ok());
    let unmeasured = vec![v1::Unmeasured { reason: 99, count: 3 }];
    let report = decode(&mk_body(&v1::Window {
        unmeasured,
        ..mk_window()
    }))
    .expect("reasons may be added");
    assert_eq!(report.window.unmeasured, [(v1::Reason::Unspecified, 3)]);
}

#[test]
fn too_large_is_refused() {
    let too_large = |body: &[u8]| {
        let error = decode(body).expect_err("it is too large");
        assert_eq!(error.reason(), v1::Reason::RefusedTooLarge, "{error}");
        error.to_string()
    };
    assert!(too_large(&vec![0; limits::MAX_REPORT_BYTES + 1]).starts_with("report has"));
    let window = vec![0; limits::MAX_WINDOW_BYTES + 1];
    assert!(too_large(&encode_envelope(&mk_head(1), &window)).starts_with("window has"));
    let many = |n| v1::Window {
        series: vec![v1::Series::default(); n],
        ..mk_window()
    };
    assert!(too_large(&mk_body(&many(limits::MAX_SERIES + 1))).starts_with("series has 513"));
    let keys = vec![v1::Total::default(); limits::MAX_TOTALS + 1];
    let totals = v1::Window {
        totals: Some(v1::Totals {
            keys,
            ..v1::Totals::default()
        }),
        ..mk_window()
    };
    assert!(too_large(&mk_body(&totals)).starts_with("totals.keys has 513"));
    let labels = (0..=limits::MAX_LABELS)
        .map(|n| (n.to_string(), String::new()))
        .collect();
    let identity = Some(v1::Identity {
        labels,
        ..v1::Identity::default()
    });
    assert!(
        too_large(&mk_body(&v1::Window {
            identity,
            ..mk_window()
        }))
        .starts_with("identity.labels has 65")
    );
    let unmeasured = vec![v1::Unmeasured::default(); limits::MAX_UNMEASURED + 1];
    assert!(
        too_large(&mk_body(&v1::Window {
            unmeasured,
            ..mk_window()
        }))
        .starts_with("unmeasured has 33")
    );
}

#[test]
fn text_is_limited() {
    let long = |limit: usize| "x".repeat(limit + 1);
    let key = |key: v1::Key| mk_one(mk_series(key, &[5]));
    let place = |destination| {
        key(v1::Key {
            destination: Some(destination),
            ..cart()
        })
    };
    for (window, name) in [
        (
            v1::Window {
                node_id: long(limits::MAX_NODE_ID_BYTES),
                ..mk_window()
            },
            "node_id",
        ),
        (
            key(v1::Key {
                service: long(limits::MAX_SERVICE_BYTES),
                ..cart()
            }),
            "key.service",
        ),
        (
            key(v1::Key {
                subset: long(limits::MAX_SUBSET_BYTES),
                ..cart()
            }),
            "key.subset",
        ),
        (
            place(common::mk_locality(&long(limits::MAX_LOCALITY_PART_BYTES))),
            "locality.zone",
        ),
    ] {
        assert!(
            matches!(problem(&window), Problem::TooLarge { field, .. } if field == name),
            "{name}"
        );
    }
}

#[test]
fn absurd_numbers_are_refused() {
    let good = || mk_series(cart(), &[5, 6]);
    let refused = |series: v1::Series| problem(&mk_one(series)).to_string();
    assert!(decode(&mk_body(&mk_one(good()))).is_ok());
    assert_eq!(
        refused(v1::Series { sum_us: 12, ..good() }),
        "sum_us is 12, outside 11 to 11"
    );
    assert_eq!(
        refused(v1::Series { count: 3, ..good() }),
        "series 0: histogram counts 2 requests, its series 3"
    );
    assert!(
        refused(v1::Series {
            count: 1 << 40,
            ..good()
        })
        .starts_with("count is")
    );
    assert!(
        refused(v1::Series {
            long_count: 1 << 40,
            ..good()
        })
        .starts_with("long_count is")
    );
    assert!(
        refused(v1::Series {
            response_bytes: u64::MAX,
            ..good()
        })
        .starts_with("response_bytes is")
    );
    assert!(refused(v1::Series { sampled: 3, ..good() }).starts_with("sampled is 3"));
    assert!(
        refused(v1::Series {
            sampled_attempts: 1,
            ..good()
        })
        .starts_with("sampled_attempts is 1")
    );
    let cancelled = mk_key("cart", v1::Outcome::Cancelled);
    let with = v1::Series {
        key: Some(cancelled.clone()),
        ..good()
    };
    assert!(refused(with).starts_with("histogram is there without"));
    let long = v1::Series {
        sum_us: HIGHEST_US + 1,
        ..mk_series(cancelled, &[5])
    };
    assert!(refused(long).starts_with("sum_us is 60000001"));
}

#[test]
fn keys_that_cannot_be_placed_are_refused() {
    let refused = |key: v1::Key| problem(&mk_one(mk_series(key, &[5]))).to_string();
    assert!(
        refused(v1::Key {
            direction: 0,
            ..cart()
        })
        .starts_with("key.direction")
    );
    assert!(
        refused(v1::Key {
            outcome: 99,
            ..cart()
        })
        .starts_with("key.outcome")
    );
    assert!(
        refused(v1::Key {
            service: String::new(),
            ..cart()
        })
        .starts_with("key.service")
    );
    assert!(
        refused(v1::Key {
            overflow: true,
            ..cart()
        })
        .starts_with("key.service")
    );
    assert!(
        refused(v1::Key {
            service: "cart".into(),
            ..mk_inbound(80)
        })
        .starts_with("key.service")
    );
    assert!(refused(mk_inbound(0)).starts_with("key.port is 0"));
    assert!(refused(mk_inbound(65_536)).starts_with("key.port is 65536"));
    let nameless = v1::Series {
        key: None,
        ..v1::Series::default()
    };
    assert_eq!(problem(&mk_one(nameless)).to_string(), "key is missing");
    let nowhere = v1::Window {
        node_id: String::new(),
        ..mk_window()
    };
    assert_eq!(problem(&nowhere).to_string(), "node_id is missing");
}

#[test]
fn head_is_checked() {
    let body = |change: fn(&mut v1::Envelope)| {
        let mut envelope = v1::Envelope::decode(&*mk_body(&mk_window())).expect("it is valid");
        change(&mut envelope);
        envelope.encode_to_vec()
    };
    let refused = |change| decode(&body(change)).expect_err("it must be refused").to_string();
    assert!(refused(|e| e.vm = 0).starts_with("vm is 0"));
    assert!(refused(|e| e.seq = 0).starts_with("seq is 0"));
    assert!(refused(|e| e.age_ms = u64::MAX).starts_with("age_ms is"));
    assert!(refused(|e| e.round_trip_us = Some(60_000_001)).starts_with("round_trip_us is"));
    let unmeasured = decode(&body(|e| e.round_trip_us = Some(0))).expect("0 is allowed");
    assert_eq!(unmeasured.head.round_trip, None);
}

#[test]
fn head_is_held_at_its_limits_when_it_is_written() {
    let module = "é".repeat(100);
    let head = gma_report::EnvelopeHead {
        module: &module,
        age_ms: u64::MAX,
        round_trip_us: Some(u32::MAX),
        ..mk_head(1)
    };
    let body = encode_envelope(&head, &mk_window().encode_to_vec());
    let report = decode(&body).expect("it was held at its limits");
    assert_eq!((report.head.module.len(), report.head.round_trip), (128, None));
}

#[test]
fn largest_window_that_a_filter_sends_is_read() {
    // As many series as fit a window, each as large as one can be: every bucket filled, and not more
    // requests than the filter can count.
    let buckets = bucket_of(HIGHEST_US) as u64 + 1;
    let each = (limits::MAX_WINDOW_COUNT / buckets) as u32;
    let mut histogram = Vec::new();
    encode_buckets((0..buckets as usize).map(|bucket| (bucket, each)), &mut histogram);
    let count = buckets * u64::from(each);
    let sum_us = check_v2(&histogram, count).expect("it is ours").least_sum_us;
    let part = "x".repeat(limits::MAX_LOCALITY_PART_BYTES);
    let destination = v1::Locality {
        region: part.clone(),
        zone: part.clone(),
        sub_zone: part,
    };
    let service = "x".repeat(limits::MAX_SERVICE_BYTES);
    let key = v1::Key {
        service,
        destination: Some(destination),
        ..cart()
    };
    let series = v1::Series {
        key: Some(key),
        count,
        sum_us,
        histogram,
        ..v1::Series::default()
    };
    let mut window = v1::Window {
        series: Vec::new(),
        ..mk_window()
    };
    while window.encoded_len() + series.encoded_len() + 8 <= limits::MAX_WINDOW_BYTES {
        window.series.push(series.clone());
    }
    let body = mk_body(&window);
    assert!(body.len() < limits::MAX_REPORT_BYTES);
    let report = decode(&body).expect("a filter can build it");
    assert_eq!(report.window.series.len(), window.series.len());
}

#[test]
fn acks_that_are_none() {
    let ack = |ack: v1::Ack| decode_ack(&ack.encode_to_vec(), 1, 2);
    let good = v1::Ack {
        vm: 1,
        seq: 2,
        verdict: v1::Verdict::Stored.into(),
        ..v1::Ack::default()
    };
    assert_eq!(ack(good).map(|ack| ack.verdict), Ok(Verdict::Stored));
    assert_eq!(ack(v1::Ack { seq: 3, ..good }), Err(AckError::NoEcho));
    assert_eq!(ack(v1::Ack { vm: 3, ..good }), Err(AckError::NoEcho));
    assert_eq!(ack(v1::Ack { verdict: 0, ..good }), Err(AckError::UnknownVerdict));
    assert_eq!(ack(v1::Ack { verdict: 9, ..good }), Err(AckError::UnknownVerdict));
    assert_eq!(decode_ack(b"", 1, 2), Err(AckError::NoEcho));
    assert_eq!(decode_ack(b"<html>502</html>", 1, 2), Err(AckError::Malformed));
    assert_eq!(decode_ack(&vec![0; 2_000], 1, 2), Err(AckError::Malformed));
}

#[test]
fn pace_is_held_in_its_range() {
    for (sent, read) in [(0, 0), (1, 100), (500, 500), (u32::MAX, 60_000)] {
        let ack = v1::Ack {
            vm: 1,
            seq: 2,
            verdict: 1,
            next_ms: sent,
            ..v1::Ack::default()
        };
        assert_eq!(
            decode_ack(&ack.encode_to_vec(), 1, 2).map(|ack| ack.next_ms),
            Ok(read)
        );
    }
}

#[test]
fn refusal_for_a_later_reason_drops_the_window_too() {
    let ack = v1::Ack {
        vm: 1,
        seq: 2,
        verdict: 3,
        reason: 77,
        ..v1::Ack::default()
    };
    let verdict = decode_ack(&ack.encode_to_vec(), 1, 2).map(|ack| ack.verdict);
    assert_eq!(verdict, Ok(Verdict::Refused(v1::Reason::RefusedMalformed)));
}
