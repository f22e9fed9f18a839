//! `make bench-ingest`: what reports of a large mesh cost the controller.
//!
//! 10,000 proxies of 3 VMs each run 200 services in a cloud and 4 edges, 2 gateways an edge. Each VM reports 10 active
//! keys of 500 requests at the pace that it is asked for (sidecars 10 s, gateways 0.5 s), for 6 minutes of simulated
//! time, so that the ring of 5 minutes is full. Each 0.5 s a snapshot is taken, as the control loop does. What is
//! timed is `Telemetry::ingest` and `Telemetry::snapshot` alone; reports are encoded as they are sent and count
//! neither as CPU nor, but for one of them, as memory.
//!
//! Prints a table and, as the last line, the same as JSON. Ends with 1 where a bound is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark: what fails ends it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_report::histogram::{bucket_of, encode_buckets};
use gma_report::{EnvelopeHead, decode_ack, encode_envelope, v1};
use gma_telemetry::{Config, Directory, Event, Proxy, ProxyRole, Telemetry};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

const PROXIES: usize = 10_000;
const VMS: usize = 3;
const SERVICES: usize = 200;
const EDGES: usize = 4;
const GATEWAYS: usize = 2;
/// Of each VM: one inbound, the rest outbound (at a gateway all outbound).
const KEYS: usize = 10;
const REQUESTS: u32 = 500;
/// A sidecar's pace is 100 ticks, a gateway's 5.
const TICK: Duration = Duration::from_millis(100);
const SIDECAR_TICKS: usize = 100;
const GATEWAY_TICKS: usize = 5;
const SNAPSHOT_TICKS: usize = 5;
const SIMULATED: Duration = Duration::from_secs(360);
const WINDOW: Duration = Duration::from_secs(4);
/// Different histograms.
const SHAPES: u32 = 64;

const MOST_CORES: f64 = 1.0;
const MOST_MIB: f64 = 300.0;

struct Sender {
    node: String,
    area: usize,
    /// None: a gateway.
    service: Option<usize>,
    vm: u64,
    seq: u64,
}

#[derive(Default)]
struct Spent {
    ingest: Duration,
    snapshots: Duration,
    taken: u32,
    bytes: u64,
    requests: u64,
    reports: u64,
}

fn main() -> ExitCode {
    let before_mib = peak_mib();
    let mut telemetry = Telemetry::new(Config::default());
    let (directory, mut senders) = mesh();
    telemetry.set_directory(&directory, Timestamp::default());
    drop(directory);
    let shapes: Vec<(Vec<u8>, u64)> = (0..SHAPES).map(shape).collect();
    let mut spent = Spent::default();
    let ticks = SIMULATED.as_millis() / TICK.as_millis();
    for tick in 0..usize::try_from(ticks).unwrap() {
        let now = Timestamp::from_start(TICK * u32::try_from(tick).unwrap());
        for (at, sender) in senders.iter_mut().enumerate() {
            let pace = if sender.service.is_some() {
                SIDECAR_TICKS
            } else {
                GATEWAY_TICKS
            };
            if (tick + at).is_multiple_of(pace) {
                send(&mut telemetry, sender, &shapes, now, &mut spent);
            }
        }
        if tick.is_multiple_of(SNAPSHOT_TICKS) {
            let began = cpu();
            let snapshot = telemetry.snapshot(now, WINDOW);
            spent.snapshots += cpu() - began;
            spent.taken += 1;
            drop(snapshot);
        }
    }
    report(&telemetry, &spent, before_mib)
}

/// The directory, and every VM.
fn mesh() -> (Directory, Vec<Sender>) {
    let mut directory = Directory {
        services: (0..SERVICES)
            .map(|service| host(service).as_str().into())
            .collect::<BTreeSet<_>>(),
        ..Directory::default()
    };
    let mut senders = Vec::new();
    for area in 0..=EDGES {
        directory
            .areas
            .insert(region(area), area_name(area).as_str().into());
    }
    for proxy in 0..PROXIES {
        let is_gateway = proxy < EDGES * GATEWAYS;
        // Half of the sidecars run in the cloud.
        let area = if is_gateway {
            1 + proxy % EDGES
        } else if proxy.is_multiple_of(2) {
            0
        } else {
            1 + proxy / 2 % EDGES
        };
        let service = (!is_gateway).then_some(proxy / 8 % SERVICES);
        let kind = if is_gateway { "router" } else { "sidecar" };
        let node = format!(
            "{kind}~10.{area}.{}.{}~pod-{proxy}.shop~shop.svc.cluster.local",
            proxy / 250,
            proxy % 250
        );
        let role = service.map_or(ProxyRole::Gateway, |service| ProxyRole::Sidecar {
            ports: BTreeMap::from([(8080, host(service).as_str().into())]),
        });
        let listed = Proxy {
            area: area_name(area).as_str().into(),
            role,
            ready: true,
        };
        directory.proxies.insert(node.clone(), listed);
        senders.extend((0..VMS).map(|vm| Sender {
            node: node.clone(),
            area,
            service,
            vm: 1 + (proxy * VMS + vm) as u64,
            seq: 0,
        }));
    }
    (directory, senders)
}

fn host(service: usize) -> String {
    format!("service-{service}.shop.svc.cluster.local")
}

fn area_name(area: usize) -> String {
    if area == 0 {
        "cloud".to_owned()
    } else {
        format!("edge-{area}")
    }
}

fn region(area: usize) -> String {
    format!("region-{area}")
}

/// A histogram of [`REQUESTS`] that spreads over a decade, and the sum of its durations.
fn shape(seed: u32) -> (Vec<u8>, u64) {
    let mut durations: Vec<u64> = (0..REQUESTS)
        .map(|at| 3_000 + u64::from(seed) * 200 + u64::from(at * at % 9_973) * 4)
        .collect();
    durations.sort_unstable();
    let mut bytes = Vec::new();
    encode_buckets(durations.iter().map(|us| (bucket_of(*us), 1)), &mut bytes);
    (bytes, durations.iter().sum())
}

fn send(
    telemetry: &mut Telemetry,
    sender: &mut Sender,
    shapes: &[(Vec<u8>, u64)],
    now: Timestamp,
    spent: &mut Spent,
) {
    sender.seq += 1;
    let body = body(sender, shapes);
    let began = cpu();
    let ingested = telemetry.ingest(&body, now, now);
    spent.ingest += cpu() - began;
    assert!(
        matches!(ingested.event, Event::Stored { .. }),
        "{:?}",
        ingested.event
    );
    let ack = decode_ack(&ingested.ack.unwrap(), sender.vm, sender.seq).unwrap();
    let pace = if sender.service.is_some() {
        SIDECAR_TICKS
    } else {
        GATEWAY_TICKS
    };
    assert_eq!(
        u128::from(ack.next_ms),
        pace as u128 * TICK.as_millis(),
        "the pace that is asked for"
    );
    spent.bytes += body.len() as u64;
    spent.reports += 1;
    spent.requests += KEYS as u64 * u64::from(REQUESTS);
}

fn body(sender: &Sender, shapes: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let series = (0..KEYS).map(|key| {
        let (histogram, sum_us) =
            &shapes[(sender.seq as usize + key * 7 + sender.vm as usize) % shapes.len()];
        v1::Series {
            key: Some(self::key(sender, key)),
            count: REQUESTS.into(),
            sum_us: *sum_us,
            histogram: histogram.clone(),
            response_bytes: 1_000 * u64::from(REQUESTS),
            ..v1::Series::default()
        }
    });
    let ticks = if sender.service.is_some() {
        SIDECAR_TICKS
    } else {
        GATEWAY_TICKS
    };
    let window = v1::Window {
        node_id: sender.node.clone(),
        duration_ms: u32::try_from(ticks as u128 * TICK.as_millis()).unwrap(),
        series: series.collect(),
        ..v1::Window::default()
    };
    let head = EnvelopeHead {
        vm: sender.vm,
        seq: sender.seq,
        module: "gma-filter 0.1.0",
        config_hash: 1,
        age_ms: 0,
        round_trip_us: Some(20_000),
    };
    encode_envelope(&head, &window.encode_to_vec())
}

/// Key 0 of a sidecar is what it received; the others go to 9 services, in its own area and the cloud in turn.
fn key(sender: &Sender, key: usize) -> v1::Key {
    let ok = v1::Outcome::Ok.into();
    if sender.service.is_some() && key == 0 {
        return v1::Key {
            direction: v1::Direction::Inbound.into(),
            port: 8080,
            outcome: ok,
            ..v1::Key::default()
        };
    }
    let callee = (sender.service.unwrap_or(0) * 3 + key * 11 + 1) % SERVICES;
    let area = if key.is_multiple_of(2) { sender.area } else { 0 };
    v1::Key {
        direction: v1::Direction::Outbound.into(),
        service: host(callee),
        port: 80,
        destination: Some(v1::Locality {
            region: region(area),
            zone: "zone-a".to_owned(),
            sub_zone: String::new(),
        }),
        outcome: ok,
        ..v1::Key::default()
    }
}

fn report(telemetry: &Telemetry, spent: &Spent, before_mib: f64) -> ExitCode {
    let counters = telemetry.counters();
    let peak_mib = peak_mib();
    let accounted: u64 = telemetry.accounting().keys.iter().map(|key| key.count).sum();
    let lost = spent.requests.abs_diff(accounted) + counters.series_dropped_requests + counters.totals_merged;
    let simulated = SIMULATED.as_secs_f64();
    let cores = (spent.ingest + spent.snapshots).as_secs_f64() / simulated;
    let a_report_us = spent.ingest.as_secs_f64() * 1e6 / spent.reports as f64;
    let a_snapshot_ms = spent.snapshots.as_secs_f64() * 1e3 / f64::from(spent.taken);
    let rows = [
        ("simulated", format!("{simulated:.0} s")),
        ("VMs", counters.vms.to_string()),
        ("keys of the call graph", counters.series.to_string()),
        (
            "reports a second",
            format!("{:.0}", spent.reports as f64 / simulated),
        ),
        (
            "bytes a report",
            format!("{:.0}", spent.bytes as f64 / spent.reports as f64),
        ),
        ("CPU of a report", format!("{a_report_us:.1} µs")),
        ("CPU of a snapshot", format!("{a_snapshot_ms:.2} ms, each 0.5 s")),
        ("cores", format!("{cores:.3} (at most {MOST_CORES})")),
        (
            "peak memory",
            format!("{peak_mib:.0} MiB (at most {MOST_MIB}), {before_mib:.0} at the start"),
        ),
        ("requests", spent.requests.to_string()),
        ("requests lost", format!("{lost} (none)")),
    ];
    for (what, value) in rows {
        println!("{what:<24} {value}");
    }
    println!(
        "{}",
        serde_json::json!({
            "simulated_s": simulated, "vms": counters.vms, "series": counters.series, "reports": spent.reports,
            "reports_per_s": spent.reports as f64 / simulated, "bytes_per_report": spent.bytes / spent.reports,
            "cpu_us_per_report": a_report_us, "cpu_ms_per_snapshot": a_snapshot_ms, "cores": cores,
            "peak_mib": peak_mib, "requests": spent.requests, "lost": lost,
        })
    );
    if cores < MOST_CORES && peak_mib <= MOST_MIB && lost == 0 {
        ExitCode::SUCCESS
    } else {
        eprintln!("a bound is broken");
        ExitCode::FAILURE
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Most memory that this process held, MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process's memory");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("the kernel says VmHWM");
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>().expect("in kB");
    kib / 1_024.0
}
