//! The controller's page in a real browser, fed with the rounds of a real offload that was recorded.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gma::shared::{Round, Shared};
use gma_core::ids::Timestamp;
use gma_telemetry::Telemetry;
use gma_tests::browser::{Browser, Scheme};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Rounds of an offload in the playground: before, each step, verified, and the rest after it.
const ROUNDS: &str = include_str!("../../controller/testdata/offload.json");

/// A controller's HTTP without the controller behind it.
struct Served {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    async fn at(address: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new(
            Telemetry::new(gma_telemetry::Config::default()),
            Timestamp::default(),
        ));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(gma::http::serve(listener, Arc::clone(&shared), shutdown.clone()));
        Self {
            shared,
            address,
            shutdown,
            server,
        }
    }

    fn publish(&self, round: &Value) {
        let at: Timestamp = serde_json::from_value(round["at"].clone()).unwrap();
        self.shared.publish(Round::new(at, round).unwrap());
    }

    /// Ends; pages that follow are no reason to wait.
    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.server)
            .await
            .expect("the server ends although a page follows")
            .unwrap();
    }
}

fn rounds() -> Vec<Value> {
    serde_json::from_str(ROUNDS).unwrap()
}

fn in_phase(phase: &str) -> Value {
    let found = rounds()
        .into_iter()
        .rfind(|round| round["edges"]["edge-1"]["phase"] == phase);
    found.unwrap_or_else(|| panic!("no recorded round is {phase}"))
}

/// A round in which the edge is held for a reason that names a number.
fn held() -> Value {
    let mut round = in_phase("observing");
    let edge = &mut round["edges"]["edge-1"];
    edge["phase"] = json!("held");
    edge["sentence"] = json!("held: coverage 40 % of the gateways, 90 % needed");
    edge["held"] = json!({"kind": "lowCoverage", "of": "gateways", "share": 0.4, "needed": 0.9});
    round["ends"] = json!({"edge-1": "when at least 90 % of the gateways' proxies are heard"});
    round["snapshot"]["edges"]["edge-1"]["coverage"] = json!({"expected": 5, "heard": 2, "blind": 0});
    round
}

/// A round with `services` services in a tree, all of them in the cloud and every fifth at each of three edges.
fn large(services: usize) -> Value {
    let mut round = in_phase("observing");
    let host = |i: usize| format!("service-{i}.shop.svc.cluster.local");
    let edges = ["edge-1", "edge-2", "edge-3"];
    let instance = |i: usize, area: &str| json!({"service": host(i), "area": area, "phase": "ready", "reason": null, "replicas": 2, "cpuSeconds": 1.0, "memoryBytes": 1});
    let call = |caller: Value, callee: usize, area: &str, ok: usize| {
        json!({"caller": caller, "callee": host(callee), "calleeArea": area,
            "outcomes": {"ok": ok, "clientError": 0, "serverError": 0, "noResponse": 0, "cancelled": 0, "long": 0},
            "timed": ok, "sumUs": ok * 12_000, "responseBytes": ok * 1000})
    };
    let mut instances = Vec::new();
    let mut calls: Vec<Value> = edges
        .iter()
        .map(|edge| call(json!({"user": {"edge": edge}}), 0, "cloud", 4000))
        .collect();
    for i in 0..services {
        instances.push(instance(i, "cloud"));
        if i % 5 == 0 {
            instances.extend(edges.iter().map(|edge| instance(i, edge)));
        }
        if i > 0 {
            let caller = json!({"instance": {"service": host((i - 1) / 3), "area": "cloud"}});
            calls.push(call(caller, i, "cloud", 4000 / i));
        }
    }
    round["cluster"]["instances"] = json!(instances);
    round["cluster"]["routing"] = json!({});
    round["snapshot"]["calls"] = json!(calls);
    for field in ["edges", "history", "histogram"] {
        for edge in edges {
            round[field][edge] = round[field]["edge-1"].clone();
        }
    }
    for edge in edges {
        round["config"]["edges"][edge] = round["config"]["edges"]["edge-1"].clone();
        round["snapshot"]["edges"][edge] = round["snapshot"]["edges"]["edge-1"].clone();
    }
    round
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page")
}

/// Pictures in every size and colour, none of which may scroll sideways or be hard to read.
async fn look(browser: &mut Browser, name: &str) {
    for (width, height) in [(390, 844), (768, 1024), (1280, 900)] {
        for scheme in [Scheme::Light, Scheme::Dark] {
            browser.look(width, height, scheme).await;
            // Two frames: the size is observed in one and drawn in the next.
            let settled = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true), 100))))";
            browser.value(settled).await;
            let what = format!("{name}-{width}-{}", scheme.name());
            browser.picture(&pictures().join(format!("{what}.png"))).await;
            let wide = browser
                .value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                .await;
            assert_eq!(wide, 0, "{what} scrolls sideways");
            let faint = browser.value(FAINT).await;
            assert_eq!(faint, json!([]), "{what}: contrast below 4.5");
        }
    }
}

/// Texts whose contrast with what is behind them is below 4.5 (WCAG 2.1, 1.4.3). SVG boxes count as background.
const FAINT: &str = r"(() => {
    const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
    const behind = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const rect = at instanceof SVGGElement ? at.querySelector(':scope > rect') : null;
            if (rect) return numbers(getComputedStyle(rect).fill);
            const colour = numbers(getComputedStyle(at).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || node.closest('title, noscript') || !node.getClientRects().length) continue;
        const style = getComputedStyle(node);
        const colour = numbers(node instanceof SVGElement ? style.fill : style.color);
        const [a, b] = [light(colour), light(behind(node))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${node.textContent.trim()}: ${colour} on ${behind(node)}`);
    }
    return faint;
})()";

fn text_of(selector: &str) -> String {
    format!("document.querySelector('{selector}').textContent")
}

async fn until_text(browser: &mut Browser, selector: &str, part: &str) {
    browser
        .until(&format!(
            "(document.querySelector({selector:?})?.textContent ?? '').includes({part:?})"
        ))
        .await;
}

#[tokio::test]
async fn page_follows_a_move_live_and_shows_why_it_holds() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let served = Served::start().await;
    browser.go(&format!("http://{}/", served.address)).await;
    until_text(&mut browser, "#connection", "Connected, no data yet").await;
    until_text(&mut browser, "#nothing", "has not seen its platform").await;
    look(&mut browser, "empty").await;

    // A mark on the document: what follows happens without loading it again.
    browser.value("window.mark = 'same document'").await;
    for round in rounds() {
        served.publish(&round);
        let sentence = round["edges"]["edge-1"]["sentence"].as_str().unwrap();
        let short = sentence.replace(".shop.svc.cluster.local", "");
        until_text(&mut browser, "[data-edge='edge-1'] .sentence", &short).await;
    }
    assert_eq!(browser.value("window.mark").await, "same document");
    assert_eq!(browser.value(&text_of("#connection")).await, "Live");
    until_text(&mut browser, "#decisions", "kept").await;

    served.publish(&in_phase("acting"));
    until_text(&mut browser, "[data-edge='edge-1'] .chip", "acting").await;
    until_text(&mut browser, "#graph", "%").await;
    let steps = browser
        .value("document.querySelectorAll('.steps li[data-done=yes]').length")
        .await;
    assert!(steps.as_u64().unwrap() >= 2, "{steps} steps are done");
    look(&mut browser, "acting").await;

    served.publish(&held());
    until_text(
        &mut browser,
        "[data-edge='edge-1'] .sentence",
        "held: coverage 40 %",
    )
    .await;
    until_text(
        &mut browser,
        "[data-edge='edge-1'] .ends",
        "when at least 90 % of the gateways' proxies are heard",
    )
    .await;
    until_text(&mut browser, "#announce", "held: coverage 40 %").await;
    until_text(&mut browser, "[data-edge='edge-1'] dl", "2 of 5").await;
    look(&mut browser, "held").await;
    assert_eq!(browser.problems().await, Vec::<String>::new());
    served.stop().await;
}

#[tokio::test]
async fn page_says_that_the_connection_is_lost_and_comes_back() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let served = Served::start().await;
    let address = served.address;
    served.publish(&in_phase("observing"));
    browser.go(&format!("http://{address}/")).await;
    until_text(&mut browser, "#connection", "Live").await;
    assert_eq!(browser.problems().await, Vec::<String>::new());

    served.stop().await;
    until_text(&mut browser, "#connection", "Connection lost").await;
    browser
        .until("document.querySelector('main').dataset.stale === 'yes'")
        .await;
    browser.look(768, 1024, Scheme::Light).await;
    browser.picture(&pictures().join("lost-768-light.png")).await;

    let served = Served::at(address).await;
    served.publish(&held());
    until_text(&mut browser, "#connection", "Live").await;
    until_text(
        &mut browser,
        "[data-edge='edge-1'] .sentence",
        "held: coverage 40 %",
    )
    .await;
    // The browser asks for the icon when it likes, so also while nobody answers.
    let while_away = ["/api/v1/events", "/page/icon.svg"];
    let refused = |problem: &String| {
        problem.contains("net::ERR_") && while_away.iter().any(|path| problem.contains(path))
    };
    let others: Vec<String> = browser
        .problems()
        .await
        .into_iter()
        .filter(|p| !refused(p))
        .collect();
    assert_eq!(others, Vec::<String>::new());
    served.stop().await;
}

#[tokio::test]
async fn page_is_readable_with_200_services_and_three_edges() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let served = Served::start().await;
    served.publish(&large(200));
    browser.go(&format!("http://{}/", served.address)).await;
    until_text(
        &mut browser,
        "#graph-note",
        "The 24 busiest of 200 services are drawn",
    )
    .await;
    let boxes = browser
        .value("document.querySelectorAll('#graph .node').length")
        .await;
    assert!(boxes.as_u64().unwrap() <= 4 * 26, "{boxes} boxes");
    let rows = browser
        .value("document.querySelectorAll('#placement-rows tr').length")
        .await;
    assert_eq!(rows, 200);
    let cards = browser.value("document.querySelectorAll('.card').length").await;
    assert_eq!(cards, 3);
    look(&mut browser, "large").await;

    // The table has every call, by keyboard alone.
    browser
        .value("document.querySelector('#calls summary').focus()")
        .await;
    browser.press("Enter", 13).await;
    browser.until("document.querySelector('#calls').open").await;
    browser
        .until("document.querySelectorAll('#calls-rows tr').length === 202")
        .await;
    browser
        .value("(() => { const field = document.querySelector('#calls-filter'); field.value = 'service-199'; field.dispatchEvent(new Event('input')); })()")
        .await;
    browser
        .until("document.querySelectorAll('#calls-rows tr').length === 1")
        .await;
    assert_eq!(browser.problems().await, Vec::<String>::new());
    served.stop().await;
}

#[tokio::test]
async fn page_takes_names_for_text_and_speaks_to_screen_readers() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let served = Served::start().await;
    let evil = "<img src=x onerror=alert(1)>.shop.svc.cluster.local";
    let text = in_phase("acting").to_string();
    let mut round: Value = serde_json::from_str(&text.replace("s1.shop.svc.cluster.local", evil)).unwrap();
    round["edges"]["edge-1"]["complaint"] = json!("<script>alert(1)</script>");
    served.publish(&round);
    browser.go(&format!("http://{}/", served.address)).await;
    until_text(&mut browser, ".complaint", "<script>alert(1)</script>").await;
    until_text(&mut browser, "#placement-rows", "<img src=x onerror=alert(1)>").await;
    let made = browser
        .value("document.querySelectorAll('main img, main script').length")
        .await;
    assert_eq!(made, 0);

    let tree = browser.accessible().await;
    for (role, name) in [
        ("banner", ""),
        ("main", ""),
        ("contentinfo", ""),
        ("heading", "Edges"),
        ("heading", "edge-1"),
        ("heading", "Calls"),
        ("heading", "What runs where, and what it costs"),
        ("heading", "Last decisions"),
        ("region", "Call graph, scrolls"),
        ("status", ""),
        ("table", "Replicas by service and area, and the cost of each area"),
    ] {
        assert!(
            tree.iter()
                .any(|found| found.role == role && (name.is_empty() || found.name == name)),
            "no {role} {name}: {tree:#?}"
        );
    }
    let graph = tree
        .iter()
        .find(|found| found.name.starts_with("Call graph by area."));
    assert!(
        graph.is_some_and(|graph| graph.role == "image" && graph.name.contains("edge-1: ")),
        "{graph:?}"
    );
    // The first stop of the keyboard leads past the head, and is seen there.
    browser.press("Tab", 9).await;
    assert_eq!(browser.value("document.activeElement.className").await, "skip");
    assert_eq!(
        browser
            .value("document.activeElement.getBoundingClientRect().left >= 0")
            .await,
        true
    );
    assert_eq!(browser.problems().await, Vec::<String>::new());
    served.stop().await;
}
