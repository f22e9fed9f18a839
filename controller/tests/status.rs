//! `gma status` and `gma explain` as a user runs them, against the rounds of an offload that was recorded in the playground.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use gma::shared::{Round, Shared};
use gma_core::ids::Timestamp;
use gma_telemetry::Telemetry;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const ROUNDS: &str = include_str!("../testdata/offload.json");

/// A controller's HTTP on a thread of its own; ended with the value.
struct Served {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Served {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared::new(
            Telemetry::new(gma_telemetry::Config::default()),
            Timestamp::default(),
        ));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(gma::http::serve(
            listener,
            Arc::clone(&shared),
            CancellationToken::new(),
        ));
        Self {
            shared,
            address,
            _runtime: runtime,
        }
    }

    fn with(round: &Value) -> Self {
        let served = Self::start();
        served.publish(round);
        served
    }

    fn publish(&self, round: &Value) {
        let at: Timestamp = serde_json::from_value(round["at"].clone()).unwrap();
        self.shared.publish(Round::new(at, round).unwrap());
    }

    fn run(&self, args: &[&str]) -> Output {
        gma(&self.address.to_string(), args)
    }

    fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

fn command(address: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gma"));
    command.args(args).args(["--address", address]);
    command
}

fn gma(address: &str, args: &[&str]) -> Output {
    command(address, args).output().unwrap()
}

fn fails(output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(part), "{said}");
    assert!(output.stdout.is_empty());
}

fn in_phase(phase: &str) -> Value {
    let rounds: Vec<Value> = serde_json::from_str(ROUNDS).unwrap();
    let found = rounds
        .into_iter()
        .rfind(|round| round["edges"]["edge-1"]["phase"] == phase);
    found.unwrap_or_else(|| panic!("no recorded round is {phase}"))
}

fn held() -> Value {
    let mut round = in_phase("observing");
    let edge = &mut round["edges"]["edge-1"];
    edge["phase"] = json!("held");
    edge["sentence"] = json!("held: coverage 40 % of the gateways, 90 % needed");
    edge["held"] = json!({"kind": "lowCoverage", "of": "gateways", "share": 0.4, "needed": 0.9});
    edge["reading"] = Value::Null;
    round["ends"] = json!({"edge-1": "when at least 90 % of the gateways' proxies are heard"});
    round["snapshot"]["edges"]["edge-1"]["coverage"] = json!({"expected": 5, "heard": 2, "blind": 1});
    round
}

#[test]
fn status_tells_what_an_edge_does_and_how_far() {
    let text = Served::with(&in_phase("acting")).says(&["status"]);
    for part in [
        "edge-1  acting, weight of the edge 99 %: offload at",
        "mean ",
        "band 60.0 – 120.0 ms",
        "s0.shop 50 %, s1.shop 99 %",
        "decision 1: first request shifted",
        "an hour",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colour in a pipe:\n{text}");
}

#[test]
fn a_hold_is_told_with_what_ends_it() {
    let served = Served::with(&held());
    let status = served.says(&["status"]);
    for part in [
        "held: coverage 40 % of the gateways",
        "ends        when at least 90 %",
        "no reading, band",
        "2 of 5 proxies heard, 1 partly blind",
    ] {
        assert!(status.contains(part), "no `{part}` in\n{status}");
    }
    let explained = served.says(&["explain", "edge-1"]);
    assert!(
        explained.contains("hold ends     when at least 90 %"),
        "{explained}"
    );
}

#[test]
fn explain_tells_a_decision_from_its_trigger_to_its_result() {
    let served = Served::with(&in_phase("observing"));
    let text = served.says(&["explain", "--decision", "1"]);
    let order = [
        "decision      1, kept",
        "because       mean 184.5 ms",
        "above 120.0 ms, 276 requests in 4.0 s",
        "asked for     92.2 ms",
        "chosen        the cheapest set that meets 92.2 ms",
        "cost",
        "add           s0.shop, s1.shop",
        "predicted     74.2 ms (-110.3 ms)",
        "+0.0 s  outside the band",
        "instances ready",
        "first request shifted",
        "last weights in force",
        "effect judged",
        "finished",
        "measured",
        "against the prediction",
    ];
    let mut rest = text.as_str();
    for part in order {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("no `{part}` in its place in\n{text}");
        };
        rest = after;
    }
    // Without a number: the last one.
    let last = served.says(&["explain"]);
    assert!(last.contains("decision      2, kept"), "{last}");
    assert!(last.contains("below 60.0 ms"), "{last}");
}

#[test]
fn programs_get_the_same_as_json_and_yaml() {
    let served = Served::with(&in_phase("verifying"));
    let status: Value = serde_json::from_str(&served.says(&["status", "-o", "json"])).unwrap();
    let edge = &status["edges"][0];
    assert_eq!(edge["edge"], "edge-1");
    assert_eq!(edge["phase"], "verifying");
    assert_eq!(edge["plan"]["id"], 1);
    assert_eq!(edge["services"].as_array().unwrap().len(), 6);
    assert_eq!(edge["services"][0]["weight"], 99);
    assert_eq!(edge["band"]["offloadAboveMs"], 120.0);
    let yaml: Value = serde_norway::from_str(&served.says(&["status", "-o", "yaml"])).unwrap();
    assert_eq!(yaml, status);

    let explained: Value = serde_json::from_str(&served.says(&["explain", "-o", "json"])).unwrap();
    assert_eq!(explained[0]["decision"]["id"], 1);
    assert_eq!(explained[0]["steps"][0]["afterSeconds"], 0.0);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = gma(&free.to_string(), &["status"]);
    fails(&nobody, "nothing answers at http://127.0.0.1:");
    fails(&nobody, "--address");
    fails(&gma("https://gma", &["status"]), "only http is spoken");

    let served = Served::start();
    fails(&served.run(&["status"]), "has not seen its platform yet");
    served.publish(&in_phase("observing"));
    fails(
        &served.run(&["explain", "edge-7"]),
        "no edge `edge-7`: it has edge-1",
    );
    fails(
        &served.run(&["explain", "--decision", "9"]),
        "decision 9 is not remembered: the last ones are 1, 2",
    );
    let mut strange = in_phase("observing");
    strange["config"]["mode"] = json!("magic");
    served.publish(&strange);
    fails(&served.run(&["status"]), "round.config.mode");
}

/// Answers one connection with `answer`, whatever is asked.
fn stranger(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked);
        let _ = stream.write_all(answer.as_bytes());
    });
    address
}

#[test]
fn another_server_is_told_from_a_controller() {
    for (answer, part) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "404 Not Found",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "no JSON"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "no HTTP"),
    ] {
        let output = gma(&stranger(answer).to_string(), &["status"]);
        fails(&output, "is no gma controller");
        fails(&output, part);
    }
    let cut = stranger("HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n{");
    fails(&gma(&cut.to_string(), &["status"]), "can't be read");
}

/// A child that watches, with its lines.
fn watching(served: &Served, args: &[&str]) -> (Child, impl Iterator<Item = String>) {
    let mut child = command(&served.address.to_string(), args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map_while(Result::ok))
}

#[test]
fn a_watch_in_a_pipe_prints_lines_and_ends_cleanly() {
    let served = Served::with(&in_phase("observing"));
    let (mut child, mut lines) = watching(&served, &["status", "--watch"]);
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("edge-1: observing: ") && first.contains("requests/s"),
        "{first}"
    );
    served.publish(&held());
    let seen = lines.find(|line| line.contains("held: coverage 40 %"));
    assert!(seen.is_some_and(|line| !line.contains('\u{1b}')));
    let id = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_watch_ends_when_nobody_reads_any_more() {
    let served = Served::with(&in_phase("observing"));
    let (mut child, mut lines) = watching(&served, &["status", "--watch", "-o", "json"]);
    let report: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!(report["edges"][0]["phase"], "observing");
    drop(lines);
    assert!(child.wait().unwrap().success());
}
