//! Whatever happens to the controller or to the plugin configuration: requests pass, and nothing that was
//! counted is lost or counted twice.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use gma_tests::envoy::hosts::{CART, RPC, STOCK};
use gma_tests::envoy::{
    Accounting, Ask, Client, Controller, Filter, Load, Mesh, REPORTED, Rubbish, RubbishController, Tally,
    eventually,
};

/// A filter that found nobody for long tries again each 8 s.
const RECOVERED: Duration = Duration::from_secs(60);

/// Ends the load; every request must have got its answer.
async fn end(load: Load, client: &Client) -> Tally {
    load.end().await;
    let tally = client.tally();
    assert_eq!(tally.failures, [""; 0]);
    tally
}

fn load(client: &Client) -> Load {
    let asks = [
        Ask::status(CART, 200),
        Ask::status(CART, 404),
        Ask::delay(RPC, 5),
        Ask::status(RPC, 500),
        Ask::status(STOCK, 200),
    ];
    client.load(4, Duration::from_millis(5), asks.to_vec())
}

/// The gateway's counts by service and outcome are the client's, and the sidecar's are those of Envoy.
async fn nothing_lost_or_double(mesh: &Mesh, controller: &Controller, tally: &Tally) {
    let envoy = mesh.sidecar.stats().await;
    let inbound = envoy.downstream("inbound-cart") + envoy.downstream("inbound-rpc");
    let expected = (tally.counts.clone(), inbound);
    let read = |accounting: &Accounting| (accounting.of_gateway(), accounting.seen(Mesh::SIDECAR));
    controller.accounts(RECOVERED, &expected, read).await;
    assert_eq!(mesh.gateway.stats().await.downstream("gateway"), tally.sent());
}

async fn sent_more(client: &Client, requests: u64) {
    let before = client.tally().sent();
    eventually(Duration::from_secs(20), "the load goes on", async || {
        let sent = client.tally().sent() - before;
        (sent >= requests)
            .then_some(())
            .ok_or(format!("{sent} of {requests} requests were sent"))
    })
    .await;
}

#[tokio::test]
async fn envoy_an_outage_of_the_controller_loses_nothing() {
    let mesh = Mesh::start(&Filter::good()).await;
    let mut first = Controller::start(mesh.folder.path(), mesh.controller).await;
    let users = Client::new(mesh.entry());
    let load = load(&users);
    eventually(
        REPORTED,
        "the first controller hears of both proxies",
        async || {
            let accounting = first.accounting().await;
            let seen = (accounting.seen(Mesh::GATEWAY), accounting.seen(Mesh::SIDECAR));
            (seen.0 > 100 && seen.1 > 50)
                .then_some(())
                .ok_or(format!("{seen:?}"))
        },
    )
    .await;

    first.process.kill();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let second = Controller::start(mesh.folder.path(), mesh.controller).await;
    eventually(
        RECOVERED,
        "the second controller hears of the gateway",
        async || {
            let seen = second.accounting().await.seen(Mesh::GATEWAY);
            (seen > 0).then_some(()).ok_or("nothing was heard".to_owned())
        },
    )
    .await;
    sent_more(&users, 100).await;
    let tally = end(load, &users).await;
    nothing_lost_or_double(&mesh, &second, &tally).await;
}

#[tokio::test]
async fn envoy_a_new_plugin_configuration_under_load_loses_nothing() {
    let mut mesh = Mesh::start(&Filter::eager()).await;
    let controller = Controller::start(mesh.folder.path(), mesh.controller).await;
    let users = Client::new(mesh.entry());
    let load = load(&users);
    for filter in [
        Filter::with_heartbeat("2s"),
        Filter::eager(),
        Filter::good(),
        Filter::eager(),
    ] {
        sent_more(&users, 100).await;
        mesh.configure(&filter);
        mesh.configured().await;
    }
    sent_more(&users, 100).await;
    let tally = end(load, &users).await;
    nothing_lost_or_double(&mesh, &controller, &tally).await;
}

#[tokio::test]
async fn envoy_traffic_passes_without_a_controller_and_with_one_that_answers_rubbish() {
    let mesh = Mesh::start(&Filter::eager()).await;
    let users = Client::new(mesh.entry());
    let load = load(&users);
    eventually(REPORTED, "the filter says that nobody is there", async || {
        let log = mesh.gateway.process.log();
        log.contains("the controller has no report of this proxy")
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;

    let rubbish = RubbishController::start(mesh.controller).await;
    for kind in Rubbish::ALL {
        rubbish.answer(kind);
        let before = rubbish.received();
        eventually(REPORTED, "reports are sent to no avail", async || {
            let received = rubbish.received() - before;
            (received >= 3)
                .then_some(())
                .ok_or(format!("{kind:?}: {received} reports"))
        })
        .await;
        sent_more(&users, 20).await;
    }
    drop(rubbish);

    let controller = Controller::start(mesh.folder.path(), mesh.controller).await;
    let tally = end(load, &users).await;
    nothing_lost_or_double(&mesh, &controller, &tally).await;
}

#[tokio::test]
async fn envoy_traffic_passes_unmeasured_with_a_bad_plugin_configuration() {
    let bad = Filter(r#"{"controler": {"cluster": "x"}}"#.to_owned());
    let mut mesh = Mesh::start(&bad).await;
    let controller = Controller::start(mesh.folder.path(), mesh.controller).await;
    let users = Client::new(mesh.entry());
    users.ask_times(50, &Ask::status(CART, 200)).await;
    users.ask_times(10, &Ask::status(CART, 404)).await;
    assert_eq!(users.tally().failures, [""; 0]);
    for text in [
        "requests pass UNMEASURED",
        "`controler` is unknown",
        "the keys here are controller",
    ] {
        let log = mesh.gateway.process.log();
        assert!(log.contains(text), "the log must say {text:?}");
    }

    // It heals, and counts from then on.
    mesh.configure(&Filter::good());
    mesh.configured().await;
    eventually(
        REPORTED,
        "every VM that did not measure says that it does",
        async || {
            let log = mesh.gateway.process.log();
            let (not, does) = (
                log.matches("UNMEASURED").count(),
                log.matches("measures, reports to").count(),
            );
            (does >= not).then_some(()).ok_or(format!("{does} of {not}"))
        },
    )
    .await;
    let users = Client::new(mesh.entry());
    eventually(REPORTED, "reports arrive", async || {
        users.ask(&Ask::status(CART, 200)).await;
        let seen = controller.accounting().await.seen(Mesh::GATEWAY);
        (seen > 0).then_some(()).ok_or("nothing was heard".to_owned())
    })
    .await;
    users.ask_times(20, &Ask::status(CART, 500)).await;
    let tally = users.tally();
    assert_eq!(tally.failures, [""; 0]);
    controller
        .accounts(REPORTED, &tally.counts, Accounting::of_gateway)
        .await;
}
