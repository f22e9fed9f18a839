use super::*;
use gma_core::model::{EdgeIx, ServiceIx};
use gma_core::units::{BitsPerSecond, Bytes, CpuCores, CpuSeconds, Gigabytes, Micros};
use proptest::prelude::*;

const GOOD: &str = "\
apiVersion: gma.dev/v1alpha1
kind: PlacementProblem
currency: EUR
cloud:
  prices: {cpuCoreHour: '0.0208', memoryGBHour: 0.0104}
edges:
- name: edge-1
  prices: {cpuCoreHour: 0.028 EUR, trafficGB: 0.02}
  rtt: 80ms
  bandwidth: 1Gbit/s
  userRequestsPerSecond: 50
  userCalls: [{to: front}]
  targetDelay: 100ms
  placement: [front]
services:
- name: front
  responseSize: 1.5MB
  ownTime: 5ms
  cpuUse: 500m
  requests: {cpu: 1, memory: 256Mi}
  areas:
    edge-1: {minReplicas: 0, requests: {cpu: 250m}}
- {name: cart, responseSize: 10kB, ownTime: 2ms, pin: cloud}
calls:
- {from: front, to: cart, perRequest: 1.5}
";

fn error_of(text: &str) -> String {
    Loaded::parse("t.yaml", text).unwrap_err().to_string()
}

#[test]
fn a_whole_file_is_read() {
    let loaded = Loaded::parse("t.yaml", GOOD).unwrap();
    let front = loaded.problem.service(ServiceIx(0)).unwrap();
    assert_eq!(front.response.as_f64(), 1.5e6);
    assert_eq!(front.sites[0].cpu_request.as_f64(), 1.0);
    assert_eq!(front.sites[1].cpu_request.as_f64(), 0.25);
    assert_eq!(front.sites[1].memory_request.as_f64(), 0.268_435_456);
    assert_eq!(front.sites[1].min_replicas, 0);
    // 0.5 cores at 50 requests/s.
    assert_eq!(front.cpu_per_request.as_f64(), 0.01);
    assert!(loaded.current.contains(EdgeIx(0), ServiceIx(0)));
}

#[test]
fn each_fault_is_named_with_path_line_and_remedy() {
    let cases = [
        (
            "rtt: 80ms",
            "rtt: 80",
            "t.yaml:9:8: edges[0].rtt: `80` has no unit: a duration needs one of s, ms",
        ),
        (
            "rtt: 80ms",
            "rtt: 80 lightyears",
            "edges[0].rtt: `80 lightyears` has the unit `lightyears`",
        ),
        (
            "rtt: 80ms",
            "rtt: -80ms",
            "edges[0].rtt: `-80ms`: a duration must not be negative",
        ),
        ("rtt: 80ms", "rtt: .inf", "edges[0].rtt"),
        ("rtt: 80ms", "rtt: [80ms]", "expected a duration such as 80ms"),
        ("  rtt: 80ms\n", "", "t.yaml:7:3: edges[0]: missing field `rtt`"),
        ("rtt:", "rrt:", "unknown field `rrt`, expected one of"),
        (
            "Second: 50",
            "Second: .nan",
            "edges[0].userRequestsPerSecond: NaN is no rate",
        ),
        (
            "Second: 50",
            "Second: -1",
            "edges[0].userRequestsPerSecond: -1 is no rate",
        ),
        (
            "to: cart",
            "to: card",
            "t.yaml:25:21: calls[0].to: `card` is no service",
        ),
        ("from: front", "from: fron", "calls[0].from: `fron` is no service"),
        (
            "[{to: front}]",
            "[{to: x}]",
            "edges[0].userCalls[0].to: `x` is no service",
        ),
        (
            "[{to: front}]",
            "[{to: front}, {to: front}]",
            "edges[0].userCalls[1]: a call to `front` is there already",
        ),
        (
            "placement: [front]",
            "placement: [front, x]",
            "t.yaml:14:22: edges[0].placement[1]: `x` is no service",
        ),
        (
            "placement: [front]",
            "placement: [front, front]",
            "edges[0].placement[1]: `front` is there twice",
        ),
        (
            "0.028 EUR",
            "0.028 USD",
            "t.yaml:8:25: edges[0].prices.cpuCoreHour: `0.028 USD` is in USD, the file's currency is EUR",
        ),
        (
            "currency: EUR\n",
            "",
            "edges[0].prices.cpuCoreHour: `0.028 EUR` names a currency: name it once",
        ),
        (
            "'0.0208'",
            "cheap",
            "cloud.prices.cpuCoreHour: `cheap` is no price",
        ),
        ("'0.0208'", "nan", "cloud.prices.cpuCoreHour: `nan` is no price"),
        (
            "'0.0208'",
            "-1",
            "cloud.prices.cpuCoreHour: `-1` is no price: it must be finite and not negative",
        ),
        (
            "name: cart",
            "name: front",
            "services[1].name: a service named `front` exists already",
        ),
        (
            "name: edge-1",
            "name: cloud",
            "edges[0].name: an area named `cloud` exists already",
        ),
        (
            "    edge-1:",
            "    edge-9:",
            "services[0].areas.edge-9: `edge-9` is neither",
        ),
        (
            "  cpuUse: 500m\n",
            "",
            "services[0]: cpuPerRequest (e.g. 2ms) or cpuUse",
        ),
        (
            "cpuUse: 500m",
            "cpuUse: 500m\n  cpuPerRequest: 1ms",
            "services[0].cpuUse: given beside cpuPerRequest",
        ),
        ("256Mi", "256", "services[0].requests.memory: `256` has no unit"),
        ("kind: Placement", "kind: Displacement", "kind: unknown variant"),
        (
            "calls:\n",
            "calls:\n- {from: cart, to: front, perRequest: 1}\n",
            "t.yaml:25:3: calls[0]: the calls among cart, front have no end",
        ),
        ("pin: cloud", "overlap: 0", "services[1].overlap: 0: above 0"),
        (
            "pin: cloud",
            "autoscalerThreshold: 60",
            "services[1].autoscalerThreshold: 60: above 0 and at most 10, e.g. 0.6",
        ),
        (
            "1Gbit/s",
            "0bit/s",
            "edges[0].bandwidth: a bandwidth is at least 1bit/s",
        ),
        (
            "calls:\n",
            "calls:\n- {from: front, to: cart}\n",
            "calls[1]: a call from `front` to `cart` is there already",
        ),
        (
            "calls:",
            "standby: {form: failover, cloudPercent: 1}\ncalls:",
            "standby.cloudPercent: with form failover",
        ),
        (
            "calls:",
            "standby: {form: distribute, cloudPercent: 0}\ncalls:",
            "standby.cloudPercent: 0: from 1 to 99",
        ),
        (
            "{minReplicas: 0,",
            "{minReplicas: -1,",
            "services[0].areas.edge-1.minReplicas",
        ),
        ("name: cart", "name: ''", "services[1].name: a name has 1 to 253"),
    ];
    for (from, to, expected) in cases {
        assert!(GOOD.contains(from), "{from}");
        let error = error_of(&GOOD.replacen(from, to, 1));
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
}

#[test]
fn json_faults_have_path_and_line_too() {
    let json = Loaded::parse("t.yaml", GOOD).unwrap().file.to_json().unwrap();
    let error = error_of(&json.replace("\"80ms\"", "80"));
    assert!(
        error.contains("edges[0].rtt: `80` has no unit") && error.contains("t.yaml:1"),
        "{error}"
    );
    let error = error_of(&json.replace("\"to\": \"cart\"", "\"to\": \"x\""));
    assert!(
        error.contains("calls[0].to: `x` is no service") && error.contains("t.yaml:6"),
        "{error}"
    );
    let error = error_of(&format!("{json} 7"));
    assert!(error.contains("trailing characters"), "{error}");
}

#[test]
fn all_faults_are_reported_together() {
    let text = GOOD
        .replace("to: cart", "to: x")
        .replace("0.028 EUR", "0.028 USD");
    let error = error_of(&text);
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn what_is_too_large_is_refused_with_the_limit() {
    let many: String = (0..=MAX_SERVICES)
        .map(|i| format!("- {{name: s{i}, responseSize: 1B, ownTime: 1ms}}\n"))
        .collect();
    let error = error_of(&GOOD.replace("calls:\n", &format!("{many}calls:\n")));
    assert!(
        error.contains("services: 10003 services are more than 10000"),
        "{error}"
    );
    let long = format!("{GOOD}# {}", " ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap()));
    assert!(error_of(&long).contains("longer than 8388608 bytes"));
    // These take the YAML parser minutes.
    for nested in ["[".repeat(1_000_000), "{a: ".repeat(1_000_000)] {
        assert!(error_of(&nested).contains("t.yaml:1:1: more than 200 brackets are open"));
    }
}

#[test]
fn quantities_are_read_with_their_units() {
    let us = |text: &str| Text::<Micros>::parse(text).map(|time| time.0.as_f64());
    assert_eq!(us("1.5s"), Ok(1.5e6));
    assert_eq!(us("2m"), Ok(120e6));
    assert_eq!(us("0.3ms"), Ok(300.0));
    assert_eq!(Text::<Bytes>::parse("2MiB").unwrap().0.as_f64(), 2_097_152.0);
    assert_eq!(Text::<BitsPerSecond>::parse("100 Mbps").unwrap().0.as_f64(), 1e8);
    assert_eq!(Text::<CpuCores>::parse("250m").unwrap().0.as_f64(), 0.25);
    assert_eq!(Text::<CpuCores>::parse("1e-1").unwrap().0.as_f64(), 0.1);
    assert_eq!(
        Text::<Gigabytes>::parse("512Mi").unwrap().0.as_f64(),
        0.536_870_912
    );
    for wrong in [
        "", "ms", "80", "1e400s", "nans", "inf s", "--1s", "1,5s", "80 ms s",
    ] {
        assert!(us(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn quantities_are_written_as_people_write_them() {
    let time = |us: f64| Text(Micros::nearest(us)).to_string();
    assert_eq!(time(80_000.0), "80ms");
    assert_eq!(time(1.5e6), "1.5s");
    assert_eq!(time(300.0), "300us");
    assert_eq!(Text(Bytes::nearest(1.5e6)).to_string(), "1.5MB");
    assert_eq!(Text(BitsPerSecond::nearest(1e9)).to_string(), "1Gbit/s");
    assert_eq!(Text(CpuCores::nearest(0.5)).to_string(), "500m");
    assert_eq!(Text(CpuCores::nearest(2.0)).to_string(), "2");
    assert_eq!(Text(Gigabytes::nearest(0.268_435_456)).to_string(), "256Mi");
    assert_eq!(Text(Gigabytes::nearest(2.0)).to_string(), "2G");
    assert_eq!(Text(CpuSeconds::nearest(0.002)).to_string(), "2ms");
}

#[test]
fn a_file_and_its_problem_survive_writing() {
    let loaded = Loaded::parse("t.yaml", GOOD).unwrap();
    let yaml = loaded.file.to_yaml().unwrap();
    assert_eq!(
        PlacementProblem::parse("y", &yaml).unwrap(),
        loaded.file,
        "{yaml}"
    );
    let json = loaded.file.to_json().unwrap();
    assert_eq!(
        PlacementProblem::parse("j", &json).unwrap(),
        loaded.file,
        "{json}"
    );

    let written = PlacementProblem::from_problem(&loaded.problem, &loaded.current);
    let again = Loaded::parse("w", &written.to_yaml().unwrap()).unwrap();
    assert_eq!(again.problem, loaded.problem);
    assert_eq!(again.current, loaded.current);
}

fn survives<T: Quantity>(value: f64) -> bool {
    T::from_base(value).is_err()
        || Text::<T>::parse(&Text(T::from_base(value).unwrap()).to_string())
            .is_ok_and(|read| read.0.base().to_bits() == value.to_bits())
}

proptest! {
    #[test]
    fn any_quantity_is_written_to_the_bit(bits in any::<u64>(), small in 0.0..1e9f64) {
        for value in [f64::from_bits(bits).abs(), small, (small * 1e3).round() / 1e3] {
            prop_assert!(survives::<Micros>(value));
            prop_assert!(survives::<Bytes>(value));
            prop_assert!(survives::<BitsPerSecond>(value));
            prop_assert!(survives::<Gigabytes>(value));
            prop_assert!(survives::<CpuCores>(value));
            prop_assert!(survives::<CpuSeconds>(value));
        }
    }
}
