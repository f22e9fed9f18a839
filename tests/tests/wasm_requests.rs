//! One request of each kind: what becomes of it, and how often the host is asked.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::time::Duration;

use gma_report::v1::Reason;
use gma_report::{Direction, Locality, Outcome, Report};
use gma_tests::wasm_host::{Host, INTERNAL_FAILURE, Request, report, stored};

const CONFIGURATION: &str = r#"{"controller": {"cluster": "gma"}}"#;
const CART: &str = "cart.shop.svc.cluster.local";
const MINUTE: Duration = Duration::from_secs(60);

fn host() -> Host {
    let mut host = Host::new().unwrap();
    assert!(host.configure(1, CONFIGURATION).unwrap());
    host
}

/// The next report.
fn next(host: &mut Host) -> Report {
    let calls = host.run(1, Duration::from_secs(4), stored).unwrap();
    report(calls.first().expect("a report within 4 s"))
}

/// The report of this request alone, and the host calls that it took.
fn measured(request: &Request) -> (Report, u32) {
    let mut host = host();
    let calls = host.log(request).unwrap();
    (next(&mut host), calls)
}

#[test]
fn outcomes_follow_code_flags_and_grpc_status() {
    let out = || Request::outbound(CART);
    let flags = |code, flags| out().code(code).integer("response.flags", flags);
    let trailer = |status| out().text("response.trailers.grpc-status", status);
    let header = |status| out().text("response.headers.grpc-status", status);
    // Reads: cluster name, code, duration, size, locality; gRPC asks trailers, then headers; 502 - 504 flags.
    let table = [
        ("ok", out().code(204), Outcome::Ok, 5),
        ("a plain 200, asked for gRPC", out(), Outcome::Ok, 7),
        ("a redirect", out().code(302), Outcome::Ok, 5),
        ("4xx", out().code(404), Outcome::ClientError, 5),
        (
            "a client too slow for the server",
            out().code(408),
            Outcome::ClientError,
            5,
        ),
        ("5xx", out().code(500), Outcome::ServerError, 5),
        (
            "the application's own 503",
            flags(503, 0),
            Outcome::ServerError,
            6,
        ),
        ("UH", flags(503, 0x2), Outcome::NoResponse, 6),
        ("UT", flags(504, 0x4), Outcome::NoResponse, 6),
        ("UR", flags(503, 0x10), Outcome::NoResponse, 6),
        ("UF", flags(503, 0x20), Outcome::NoResponse, 6),
        ("UC", flags(502, 0x40), Outcome::NoResponse, 6),
        ("UO", flags(503, 0x80), Outcome::NoResponse, 6),
        (
            "a retried 503 without an answer (URX, UF)",
            flags(503, 0x2020),
            Outcome::NoResponse,
            6,
        ),
        (
            "flags of a 500 are not asked",
            flags(500, 0x20),
            Outcome::ServerError,
            5,
        ),
        ("gRPC ok, trailers", trailer("0"), Outcome::Ok, 6),
        ("gRPC not found, trailers", trailer("5"), Outcome::ClientError, 6),
        ("gRPC unavailable, headers", header("14"), Outcome::ServerError, 7),
        ("gRPC unknown", trailer("2"), Outcome::ServerError, 6),
    ];
    for (kind, request, outcome, calls) in table {
        let (report, made) = measured(&request);
        assert_eq!(made, calls, "{kind}");
        let [series] = report.window.series.as_slice() else {
            panic!("{kind}: {report:?}")
        };
        assert_eq!(series.key.outcome, outcome, "{kind}");
        assert_eq!(
            (series.count, series.sum_us, series.response_bytes),
            (1, 10_000, 300),
            "{kind}"
        );
        assert_eq!(
            series
                .histogram()
                .unwrap()
                .buckets()
                .map(|(_, count)| count)
                .sum::<u32>(),
            1,
            "{kind}"
        );
    }
}

#[test]
fn keys_name_where_a_request_went() {
    let (report, _) =
        measured(&Request::ok("outbound|9080|v1|cart.shop.svc.cluster.local").locality("r2", "z1"));
    let key = &report.window.series[0].key;
    assert_eq!(key.direction, Direction::Outbound);
    assert_eq!(
        (key.service.as_str(), key.port, key.subset.as_str()),
        (CART, 9080, "v1")
    );
    let place = Locality {
        region: "r2".to_owned(),
        zone: "z1".to_owned(),
        sub_zone: String::new(),
    };
    assert_eq!(key.destination, Some(place));

    let (report, calls) = measured(&Request::inbound(8080).code(201));
    let key = &report.window.series[0].key;
    assert_eq!((key.direction, key.port), (Direction::Inbound, 8080));
    assert_eq!((key.service.as_str(), &key.destination), ("", &None));
    assert_eq!(calls, 4);

    let nowhere = Request::outbound(CART)
        .code(503)
        .integer("response.flags", 2)
        .without("upstream.locality");
    assert_eq!(measured(&nowhere).0.window.series[0].key.destination, None);
    let unplaced = Request::outbound(CART).text("upstream.locality", "");
    assert_eq!(
        measured(&unplaced).0.window.series[0].key.destination,
        Some(Locality::default())
    );
}

#[test]
fn a_cancelled_request_is_in_no_delay() {
    for request in [
        Request::outbound(CART).without("response.code"),
        Request::outbound(CART).code(0),
    ] {
        let (report, calls) = measured(&request);
        let series = &report.window.series[0];
        assert_eq!(series.key.outcome, Outcome::Cancelled);
        assert_eq!(
            (series.count, series.sum_us, series.response_bytes, calls),
            (1, 0, 0, 4)
        );
        assert!(series.histogram().is_none());
    }
}

#[test]
fn long_requests_and_upgrades_are_counted_apart() {
    let nano = Duration::from_nanos(1000);
    let (report, _) = measured(&Request::inbound(80).code(201).duration(MINUTE));
    assert_eq!(
        (report.window.series[0].count, report.window.series[0].long_count),
        (1, 0)
    );
    let stream = Request::outbound(CART)
        .text("response.trailers.grpc-status", "0")
        .duration(2 * MINUTE);
    for request in [
        Request::inbound(80).code(201).duration(MINUTE + nano),
        Request::inbound(80).code(101),
        Request::inbound(80).code(0).duration(2 * MINUTE),
        stream,
    ] {
        let series = measured(&request).0.window.series.remove(0);
        assert_eq!(
            (series.count, series.long_count, series.sum_us),
            (0, 1, 0),
            "{request:?}"
        );
        assert!(series.histogram().is_none());
    }
}

#[test]
fn what_cannot_be_measured_is_counted_by_reason() {
    let mut broken = host();
    broken.break_property("response.code", INTERNAL_FAILURE);
    let out = || Request::outbound(CART);
    let table = [
        (
            "a direct response",
            host(),
            out().without("xds.cluster_name"),
            Reason::NoCluster,
            1,
        ),
        (
            "past Istio",
            host(),
            Request::ok("PassthroughCluster"),
            Reason::ForeignCluster,
            1,
        ),
        (
            "no duration",
            host(),
            out().without("request.duration"),
            Reason::NoDuration,
            3,
        ),
        ("a host's error", broken, out(), Reason::HostError, 2),
        (
            "a number of two bytes",
            host(),
            out().text("response.code", "ab"),
            Reason::HostError,
            2,
        ),
    ];
    for (kind, mut host, request, reason, calls) in table {
        assert_eq!(host.log(&request).unwrap(), calls, "{kind}");
        let report = next(&mut host);
        assert_eq!(report.window.unmeasured, [(reason, 1)], "{kind}");
        assert!(report.window.series.is_empty(), "{kind}");
    }
}

#[test]
fn every_broken_property_is_survived() {
    let out = Request::outbound(CART);
    for property in [
        "xds.cluster_name",
        "response.code",
        "request.duration",
        "response.total_size",
        "upstream.locality",
        "response.trailers.grpc-status",
        "response.headers.grpc-status",
    ] {
        for status in [2, 3, INTERNAL_FAILURE, 12, 4096] {
            let mut host = host();
            host.break_property(property, status);
            host.log(&out).unwrap();
            assert_eq!(
                next(&mut host).window.unmeasured,
                [(Reason::HostError, 1)],
                "{property} {status}"
            );
        }
    }
}

/// The sample is an estimate: without it the request is measured all the same.
#[test]
fn a_sample_that_cannot_be_read_is_left_out() {
    let out = Request::outbound(CART).code(404);
    for property in ["request.total_size", "upstream.request_attempt_count"] {
        for status in [2, 3, INTERNAL_FAILURE, 12, 4096] {
            let mut host = host();
            host.break_property(property, status);
            let asked = (0..64).filter(|_| {
                host.log(&out).unwrap();
                host.reads().iter().any(|read| read == property)
            });
            assert!(asked.count() > 0, "{property} was never asked");
            let window = next(&mut host).window;
            assert_eq!(window.unmeasured, [], "{property} {status}");
            let series = &window.series[0];
            assert_eq!(
                (series.count, series.sum_us),
                (64, 640_000),
                "{property} {status}"
            );
            assert_eq!(
                (series.sampled, series.sampled_request_bytes),
                (0, 0),
                "{property} {status}"
            );
        }
    }
}

#[test]
fn a_locality_that_is_none_is_not_guessed() {
    let (report, _) = measured(&Request::outbound(CART).text("upstream.locality", "\u{fffd}rubbish"));
    let key = &report.window.series[0].key;
    assert!(key.overflow);
    assert_eq!((key.direction, &key.destination), (Direction::Outbound, &None));
}

/// A mix as in a mesh: half inbound, half outbound, some errors, one gRPC service.
#[test]
fn host_calls_are_6_on_average_and_8_at_most() {
    let mut host = host();
    let grpc = Request::outbound("grpc.shop.svc.cluster.local").text("response.trailers.grpc-status", "0");
    let at_once = Request::outbound("grpc.shop.svc.cluster.local").text("response.headers.grpc-status", "7");
    let refused = Request::outbound(CART).code(503).integer("response.flags", 0x20);
    let kinds = [
        Request::inbound(8080),
        Request::outbound(CART),
        Request::inbound(8080),
        grpc,
        Request::inbound(8080),
        Request::outbound(CART).code(404),
        Request::inbound(8080).code(500),
        Request::outbound(CART),
        Request::inbound(8080),
        at_once,
        Request::inbound(8080),
        refused,
    ];
    let requests = 6000;
    let calls: Vec<u32> = kinds
        .iter()
        .cycle()
        .take(requests)
        .map(|kind| host.log(kind).unwrap())
        .collect();
    let most = calls.iter().max().copied().unwrap();
    let mean = f64::from(calls.iter().sum::<u32>()) / requests as f64;
    assert!(most <= 8, "{most}");
    assert!(mean <= 6.0, "{mean}");
    println!("host calls: {mean:.3} on average, {most} at most");

    let report = next(&mut host);
    assert_eq!(
        report
            .window
            .series
            .iter()
            .map(|series| series.count)
            .sum::<u64>(),
        requests as u64
    );
    let sampled: u64 = report.window.series.iter().map(|series| series.sampled).sum();
    assert!((300..=450).contains(&sampled), "1 in 16 of {requests}: {sampled}");
    for series in report.window.series {
        assert_eq!(series.sampled_request_bytes, 200 * series.sampled);
        assert_eq!(series.sampled_attempts, series.sampled);
    }
}

/// Plain HTTP pays for the question for gRPC once in 64 requests.
#[test]
fn plain_http_is_seldom_asked_for_grpc() {
    let mut host = host();
    let calls: Vec<u32> = (0..640)
        .map(|_| host.log(&Request::inbound(8080)).unwrap())
        .collect();
    assert!(calls[..16].iter().all(|calls| *calls >= 6));
    let asked = calls[16..].iter().filter(|calls| **calls >= 6).count();
    // Those that ask for a sample have 6 too: about 39 of 624.
    assert!(asked <= 9 + 60, "{asked}");
}
