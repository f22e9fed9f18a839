//! Plugin configurations: bad ones, new ones under way, several roots in one VM, the canary.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use gma_tests::wasm_host::{Host, HttpCall, Reply, Request, report, stored};

const GOOD: &str = r#"{"controller": {"cluster": "gma"}}"#;
const OTHER: &str =
    r#"{"controller": {"cluster": "gma-2", "authority": "a.b", "path": "/x"}, "interval": "1s"}"#;
const CART: &str = "cart.shop.svc.cluster.local";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn log(host: &mut Host, requests: usize) {
    for _ in 0..requests {
        host.log(&Request::outbound(CART)).unwrap();
    }
}

fn requests(calls: &[HttpCall]) -> u64 {
    calls
        .iter()
        .flat_map(|call| report(call).window.series)
        .map(|series| series.count)
        .sum()
}

fn critical(host: &Host) -> Vec<&str> {
    host.lines()
        .iter()
        .filter(|(level, _)| *level == 5)
        .map(|(_, line)| line.as_str())
        .collect()
}

#[test]
fn a_bad_configuration_passes_requests_unmeasured_and_says_so_once() {
    let table = [
        ("", "it is empty"),
        ("{", "it is not JSON"),
        (r#"{"controller": {}}"#, "`controller.cluster` is missing"),
        (
            r#"{"controller": {"cluster": "gma"}, "intervall": "1s"}"#,
            "`intervall` is unknown",
        ),
        (
            r#"{"controller": {"cluster": "gma"}, "interval": "soon"}"#,
            "`interval` is \"soon\"",
        ),
    ];
    for (json, text) in table {
        let mut host = Host::new().unwrap();
        assert!(host.configure(1, json).unwrap(), "Envoy would refuse the traffic");
        assert_eq!(host.log(&Request::outbound(CART)).unwrap(), 0);
        host.run(1, seconds(60), |_| panic!("a report without a configuration"))
            .unwrap();
        let lines = critical(&host);
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(
            line.contains(text) && line.contains("UNMEASURED"),
            "{json}: {line}"
        );
        // A later good one works.
        host.configure(2, GOOD).unwrap();
        log(&mut host, 3);
        assert_eq!(requests(&host.run(2, seconds(8), stored).unwrap()), 3);
    }
}

#[test]
fn a_proxy_without_a_node_id_says_so() {
    let mut host = Host::new().unwrap();
    host.remove_node("xds.node.id");
    assert!(host.configure(1, GOOD).unwrap());
    assert!(critical(&host)[0].contains("node id"));
    assert_eq!(host.log(&Request::outbound(CART)).unwrap(), 0);
}

#[test]
fn a_proxy_without_metadata_reports_all_the_same() {
    let mut host = Host::new().unwrap();
    for property in ["NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID", "LABELS"] {
        host.remove_node(&format!("xds.node.metadata.{property}"));
    }
    host.remove_node("xds.node.locality");
    host.configure(1, GOOD).unwrap();
    let calls = host.run(1, seconds(4), stored).unwrap();
    let identity = report(&calls[0]).window.identity.unwrap();
    assert_eq!((identity.namespace.as_str(), identity.locality), ("", None));
}

#[test]
fn counts_survive_a_good_then_a_bad_then_a_good_configuration() {
    let mut host = Host::new().unwrap();
    host.configure(1, GOOD).unwrap();
    log(&mut host, 5);
    host.configure(2, "{}").unwrap();
    assert_eq!(host.log(&Request::outbound(CART)).unwrap(), 0);
    assert!(host.run(2, seconds(10), stored).unwrap().is_empty());
    host.configure(3, GOOD).unwrap();
    log(&mut host, 2);
    assert_eq!(requests(&host.run(3, seconds(10), stored).unwrap()), 7);
}

#[test]
fn a_new_configuration_goes_on_with_the_same_sequence() {
    let mut host = Host::new().unwrap();
    host.configure(1, GOOD).unwrap();
    log(&mut host, 5);
    let before = host.run(1, seconds(4), stored).unwrap();
    log(&mut host, 3);
    host.configure(2, OTHER).unwrap();
    log(&mut host, 4);
    let after = host.run(2, seconds(4), stored).unwrap();
    assert_eq!((requests(&before), requests(&after)), (5, 7));
    let (old, new) = (report(&before[0]).head, report(&after[0]).head);
    assert_eq!((new.vm, new.seq), (old.vm, old.seq + 1));
    assert_ne!(new.config_hash, old.config_hash);
    assert_eq!(
        (after[0].cluster.as_str(), after[0].headers[":path"].as_str()),
        ("gma-2", "/x")
    );
    assert_eq!(after[0].headers[":authority"], "a.b");
}

/// What an older root has in flight is lost with it: it goes again, the same bytes, under the new one.
#[test]
fn a_report_in_flight_of_an_older_root_is_sent_again() {
    let mut host = Host::new().unwrap();
    host.configure(1, GOOD).unwrap();
    log(&mut host, 5);
    let old = host.run(1, seconds(4), |_| Reply::Never).unwrap();
    host.configure(2, OTHER).unwrap();
    // Its answer comes late and is ignored, as are its ticks.
    host.answer(1, old[0].token, &stored(&old[0])).unwrap();
    for _ in 0..30 {
        host.tick(1).unwrap();
    }
    assert_eq!(host.take_call(), None);
    host.tick(2).unwrap();
    let again = host.take_call().unwrap();
    let (first, second) = (report(&old[0]), report(&again));
    assert_eq!(first.window, second.window);
    assert_eq!((first.head.vm, first.head.seq), (second.head.vm, second.head.seq));
    host.answer(2, again.token, &stored(&again)).unwrap();
    log(&mut host, 1);
    assert_eq!(requests(&host.run(2, seconds(8), stored).unwrap()), 1);
}

/// Envoy keeps a root while streams use it, and does not configure it again when its configuration comes back.
#[test]
fn an_older_root_takes_over_when_the_newest_is_gone() {
    for rolled_back in [OTHER, "{}"] {
        let mut host = Host::new().unwrap();
        host.configure(1, GOOD).unwrap();
        log(&mut host, 5);
        host.configure(2, rolled_back).unwrap();
        // Both tick: only the newest speaks.
        for _ in 0..200 {
            host.advance(Duration::from_millis(250));
            host.tick(1).unwrap();
            assert_eq!(host.take_call(), None, "{rolled_back}");
            host.tick(2).unwrap();
            if let Some(call) = host.take_call() {
                host.answer(2, call.token, &Reply::Failure).unwrap();
            }
        }
        // The newest is gone: 10 s later the older one speaks, with every count.
        let early = host.run(1, seconds(9), stored).unwrap();
        assert!(early.is_empty());
        let calls = host.run(1, seconds(10), stored).unwrap();
        assert_eq!(
            (requests(&calls), calls[0].cluster.as_str()),
            (5, "gma"),
            "{rolled_back}"
        );
        assert!(host.log(&Request::outbound(CART)).unwrap() > 0);
    }
}

#[test]
fn the_same_root_can_be_configured_anew() {
    let mut host = Host::new().unwrap();
    host.configure(1, GOOD).unwrap();
    log(&mut host, 5);
    host.configure(1, OTHER).unwrap();
    let calls = host.run(1, seconds(4), stored).unwrap();
    assert_eq!((requests(&calls), calls[0].cluster.as_str()), (5, "gma-2"));
}

/// A canary is configured and then thrown away: it must not send.
#[test]
fn a_configuration_alone_sends_nothing() {
    let mut host = Host::new().unwrap();
    host.configure(1, GOOD).unwrap();
    assert_eq!(host.tick_period_ms(), 250);
    assert_eq!(host.take_call(), None);
    host.tick(7).unwrap();
    assert_eq!(host.take_call(), None);
}

/// A VM that is entered before it is configured, or by a root that it never saw, lives on.
#[test]
fn callbacks_in_any_order_are_survived() {
    let mut host = Host::new().unwrap();
    host.tick(1).unwrap();
    host.log(&Request::outbound(CART)).unwrap();
    host.answer(9, 9, &Reply::Body(vec![1, 2, 3])).unwrap();
    host.configure(1, GOOD).unwrap();
    host.answer(1, 9, &Reply::Failure).unwrap();
    log(&mut host, 2);
    assert_eq!(requests(&host.run(1, seconds(4), stored).unwrap()), 2);
}
