//! What the filter counts is what the client sent, and what Envoy itself counted.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::time::Duration;

use gma_tests::envoy::hosts::{CART, EMPTY, GONE, RPC, STOCK};
use gma_tests::envoy::{Accounting, Ask, Client, Controller, Filter, Mesh, Outcome, REPORTED, Tally};

type Counts = BTreeMap<(String, Outcome), u64>;

const LONG_MS: u64 = 65_000;
const NO_CLUSTER: &str = "NO_CLUSTER";

/// One of everything that can become of a request, in numbers that tell them apart.
#[tokio::test]
async fn envoy_counts_equal_the_clients_and_envoys_own() {
    let mesh = Mesh::start(&Filter::good()).await;
    let controller = Controller::start(mesh.folder.path(), mesh.controller).await;
    let users = Client::new(mesh.entry());
    let cart = Client::new(mesh.outbound());

    let long = tokio::spawn({
        let users = users.clone();
        async move { users.ask(&Ask::delay(RPC, LONG_MS)).await }
    });
    ask_grpc(&users).await;
    ask_http(&users).await;
    for ask in [
        Ask::hang(STOCK),
        Ask::hang(RPC),
        Ask::hang(RPC),
        Ask::grpc_hang(RPC),
    ] {
        users.ask_and_leave(&ask, &mesh.backend).await;
    }
    cart.ask_times(13, &Ask::status(STOCK, 200)).await;
    cart.ask_times(4, &Ask::status(STOCK, 404)).await;
    cart.ask_and_leave(&Ask::hang(STOCK), &mesh.backend).await;
    long.await.unwrap();

    let (users, cart) = (users.tally(), cart.tally());
    assert_eq!(
        (users.failures.as_slice(), cart.failures.as_slice()),
        (&[][..], &[][..])
    );
    let sidecar = mesh.sidecar.stats().await;
    let seen = ["outbound", "inbound-cart", "inbound-rpc"]
        .map(|name| sidecar.downstream(name))
        .iter()
        .sum();
    let expected = (users.counts.clone(), cart.counts.clone(), seen);
    let read = |accounting: &Accounting| {
        let gateway = of_node(accounting, Mesh::GATEWAY, &users);
        (
            gateway,
            of_node(accounting, Mesh::SIDECAR, &cart),
            accounting.seen(Mesh::SIDECAR),
        )
    };
    let accounting = controller.accounts(REPORTED, &expected, read).await;
    equals_envoys_own_at_the_gateway(&mesh, &users, &accounting).await;
    equals_envoys_own_at_the_sidecar(&mesh, &users, &cart, &accounting).await;
}

/// The first answers of a cluster are those that are asked for a gRPC status for sure.
async fn ask_grpc(users: &Client) {
    users.ask_times(9, &Ask::grpc(RPC, "/grpc/0", Outcome::Ok)).await;
    users
        .ask_times(5, &Ask::grpc(RPC, "/grpc/5", Outcome::ClientError))
        .await;
    users
        .ask_times(6, &Ask::grpc(RPC, "/grpc/13", Outcome::ServerError))
        .await;
    users
        .ask_times(3, &Ask::grpc(RPC, "/grpc-headers/16", Outcome::ClientError))
        .await;
    users
        .ask_times(2, &Ask::grpc(RPC, "/grpc-headers/14", Outcome::ServerError))
        .await;
}

async fn ask_http(users: &Client) {
    users.ask_times(80, &Ask::status(CART, 200)).await;
    users.ask_times(11, &Ask::status(CART, 204)).await;
    users.ask_times(2, &Ask::status(CART, 302)).await;
    users.ask_times(7, &Ask::status(CART, 404)).await;
    users.ask_times(5, &Ask::status(CART, 429)).await;
    users.ask_times(3, &Ask::status(CART, 500)).await;
    // The application's own: something answered.
    users.ask_times(4, &Ask::status(CART, 503)).await;
    users
        .ask_times(4, &Ask::new(CART, "/size/300000", 200, Outcome::Ok))
        .await;
    users
        .ask_times(3, &Ask::new(STOCK, "/close", 503, Outcome::NoResponse))
        .await;
    users
        .ask_times(6, &Ask::new(GONE, "/status/200", 503, Outcome::NoResponse))
        .await;
    users
        .ask_times(8, &Ask::new(EMPTY, "/status/200", 503, Outcome::NoResponse))
        .await;
    users
        .ask_times(10, &Ask::new(NO_CLUSTER, "/status/200", 404, Outcome::Unmeasured))
        .await;
}

/// What a node counted. A controller that started late knows the number of unmeasured requests, not why.
fn of_node(accounting: &Accounting, node: &str, sent: &Tally) -> Counts {
    let mut counts = accounting.by_service(node);
    if let Some(count) = counts.remove(&("REASON_UNSPECIFIED".to_owned(), Outcome::Unmeasured)) {
        let known = sent
            .counts
            .keys()
            .find(|(_, outcome)| *outcome == Outcome::Unmeasured);
        let key = known
            .cloned()
            .unwrap_or(("REASON_UNSPECIFIED".to_owned(), Outcome::Unmeasured));
        *counts.entry(key).or_default() += count;
    }
    counts
}

async fn equals_envoys_own_at_the_gateway(mesh: &Mesh, users: &Tally, accounting: &Accounting) {
    let envoy = mesh.gateway.stats().await;
    assert_eq!(envoy.downstream("gateway"), users.sent());
    assert_eq!(
        envoy.counter("http.gateway.downstream_rq_rx_reset"),
        users.count(STOCK, Outcome::Cancelled) + users.count(RPC, Outcome::Cancelled)
    );
    assert_eq!(accounting.seen(Mesh::GATEWAY), users.sent());

    let of = |host: &str, name: &str| envoy.of_cluster(&format!("outbound|80||{host}"), name);
    for host in [CART, RPC, STOCK, GONE, EMPTY] {
        let sum = |outcomes: &[Outcome]| {
            outcomes
                .iter()
                .map(|outcome| users.count(host, *outcome))
                .sum::<u64>()
        };
        // HTTP/2 resets the stream; HTTP/1.1 has nothing but to close the connection.
        let left = of(host, "upstream_rq_tx_reset") + of(host, "upstream_cx_destroy_local_with_active_rq");
        assert_eq!(left, sum(&[Outcome::Cancelled]), "{host}: cancelled");
        let completed = [
            Outcome::Ok,
            Outcome::ClientError,
            Outcome::ServerError,
            Outcome::NoResponse,
            Outcome::Long,
        ];
        assert_eq!(
            of(host, "upstream_rq_completed"),
            sum(&completed),
            "{host}: completed"
        );
    }
    for (class, requests) in [("2xx", 80 + 11 + 4), ("3xx", 2), ("4xx", 7 + 5), ("5xx", 3 + 4)] {
        assert_eq!(of(CART, &format!("upstream_rq_{class}")), requests, "{class}");
    }
    // To Envoy a gRPC call that failed is a 200.
    assert_eq!(of(RPC, "upstream_rq_2xx"), 9 + 5 + 6 + 3 + 2 + 1);
    assert_eq!(of(GONE, "upstream_rq_5xx"), 6);
    assert_eq!(of(EMPTY, "upstream_rq_5xx"), 8);

    let mut localities = envoy.requests_by_locality(&format!("outbound|80||{CART}"));
    assert!(
        localities.values().all(|requests| *requests > 10),
        "both are used: {localities:?}"
    );
    localities.retain(|_, requests| *requests > 0);
    assert_eq!(accounting.by_locality(Mesh::GATEWAY, CART), localities);
}

async fn equals_envoys_own_at_the_sidecar(mesh: &Mesh, users: &Tally, cart: &Tally, accounting: &Accounting) {
    let envoy = mesh.sidecar.stats().await;
    assert_eq!(envoy.downstream("outbound"), cart.sent());
    let inbound = accounting.by_port(Mesh::SIDECAR);

    // All of rpc's requests go through the sidecar, which sees the same outcomes.
    for outcome in [
        Outcome::Ok,
        Outcome::ClientError,
        Outcome::ServerError,
        Outcome::Cancelled,
        Outcome::Long,
    ] {
        let found = inbound.get(&(9090, outcome)).copied().unwrap_or(0);
        assert_eq!(found, users.count(RPC, outcome), "{outcome:?}");
    }
    assert_eq!(envoy.downstream("inbound-rpc"), users.sent_to(RPC));

    // Of cart's, those that the gateway sent to the cloud.
    let by_locality = accounting.by_locality(Mesh::GATEWAY, CART);
    let at_cart: u64 = inbound
        .iter()
        .filter(|((port, _), _)| *port == 8080)
        .map(|(_, count)| count)
        .sum();
    assert_eq!(by_locality.get("region-cloud/zone-a"), Some(&at_cart));
    assert_eq!(envoy.downstream("inbound-cart"), at_cart);
    assert_eq!(
        envoy.of_cluster("inbound|8080||", "upstream_rq_completed"),
        at_cart
    );
}

/// The gateway's quantiles, which the controller decides upon, against exact ones. Those are Envoy's, not the
/// client's: on a busy machine a client measures its own waits, too.
#[tokio::test]
async fn envoy_quantiles_are_within_two_percent_of_envoys_own() {
    const CONNECTIONS: usize = 24;
    let mesh = Mesh::start(&Filter::good()).await;
    let controller = Controller::start(mesh.folder.path(), mesh.controller).await;
    let users = Client::new(mesh.entry());

    // Half take 60 ms, 35 % 100 ms, 12 % 150 ms, 3 % 220 ms; each quantile lies inside a step.
    let delay = |at: usize| match at * 37 % 100 {
        0..50 => 60,
        50..85 => 100,
        85..97 => 150,
        _ => 220,
    };
    let asks: Vec<_> = (0..100).map(|at| Ask::delay(CART, delay(at))).collect();
    let load = users.load(CONNECTIONS, Duration::ZERO, asks);
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.end().await;

    let tally = users.tally();
    assert_eq!(tally.failures, [""; 0]);
    let sent = tally.sent();
    assert!(sent > 200, "{sent} requests are too few for a p99");
    let delay = gma_tests::envoy::eventually(
        Duration::from_secs(10),
        "a window holds all requests",
        async || {
            let delay =
                controller.state().await["round"]["snapshot"]["edges"]["edge-1"]["userDelay"]["value"].take();
            (delay["count"] == sent)
                .then_some(delay.clone())
                .ok_or(format!("{sent} were sent, found {delay}"))
        },
    )
    .await;
    let exact = mesh.durations_us(sent).await;
    let is_near = |name: &str, exact: f64| {
        let found = delay[name].as_f64().unwrap();
        assert!(
            (found / exact - 1.0).abs() <= 0.02,
            "{name}: {found} µs, Envoy's own {exact} µs"
        );
    };
    for (name, share) in [("p50Us", 0.5), ("p90Us", 0.9), ("p95Us", 0.95), ("p99Us", 0.99)] {
        let rank = (share * exact.len() as f64).ceil() as usize;
        is_near(name, exact[rank.max(1) - 1] as f64);
    }
    is_near("meanUs", exact.iter().sum::<u64>() as f64 / sent as f64);
}
