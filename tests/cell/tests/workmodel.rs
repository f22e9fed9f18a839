//! Work models as files have them: what is read, and what each mistake is called.

use gma_cell::workmodel::{Delay, Function, Sizes, WorkModel};
use std::time::Duration;

const MUBENCH: &str = r#"{
  "s0": {
    "external_services": [
      {"seq_len": 100, "services": ["s1"]},
      {"seq_len": 1, "services": ["s2", "sdb1"], "probabilities": {"s2": 0.3}}
    ],
    "internal_service": {"compute_pi": {"mean_response_size": 11, "range_complexity": [50, 100]}},
    "alternative_behaviors": {"quiet": {"external_services": []}},
    "request_method": "rest", "workers": 4, "threads": 16, "replicas": 1,
    "cpu-requests": "1000m", "image": "msvcbench/microservice_v4-screen:latest", "namespace": "default",
    "url": "s0.default.svc.cluster.local", "path": "/api/v1"
  },
  "s1": {
    "internal_service": {"loader": {
      "cpu_stress": {"run": true, "range_complexity": [100, 200], "thread_pool_size": 2, "trials": 3},
      "memory_stress": {"run": false, "memory_size": 10000, "memory_io": 1000},
      "sleep_stress": {"run": true, "sleep_time": 0.025}, "mean_bandwidth": 4}},
    "request_parameters": {"response_dist": "const", "response_size": 2.5},
    "gma_delay": {"mean_ms": 5, "sigma": 0.5}
  },
  "s2": {"internal_service": {"loader": {}}},
  "sdb1": {}
}"#;

#[test]
fn a_mubench_model_is_read_whole() {
    let model: WorkModel = MUBENCH.parse().unwrap();
    let s0 = model.get("s0").unwrap();
    assert_eq!(
        (s0.url.as_str(), s0.path.as_str()),
        ("s0.default.svc.cluster.local", "/api/v1")
    );
    assert_eq!(s0.behaviour.internal, Function::ComputePi { digits: (50, 100) });
    assert_eq!(s0.behaviour.response, Sizes::Exponential(11_000.0));
    assert_eq!(s0.behaviour.groups[1].calls[0].probability, 0.3);
    assert_eq!(s0.behaviour.groups[1].calls[1].probability, 1.0);
    assert!(s0.alternatives["quiet"].groups.is_empty());
    assert_eq!(s0.alternatives["quiet"].internal, s0.behaviour.internal);
    assert_eq!(model.callees("s0"), ["s1", "s2", "sdb1"]);

    let s1 = model.get("s1").unwrap();
    assert_eq!((s1.url.as_str(), s1.path.as_str()), ("s1", "/api/v1"));
    assert_eq!(s1.behaviour.response, Sizes::Fixed(2_500));
    assert_eq!(
        s1.delay,
        Some(Delay {
            mean: Duration::from_millis(5),
            sigma: 0.5
        })
    );
    let Function::Loader(loader) = &s1.behaviour.internal else {
        panic!("{:?}", s1.behaviour.internal)
    };
    let cpu = loader.cpu.unwrap();
    assert_eq!((cpu.digits, cpu.threads, cpu.trials), ((100, 200), 2, 3));
    assert_eq!((loader.memory, loader.disk), (None, None));
    assert_eq!(loader.sleep, Some(Duration::from_millis(25)));

    // Without parameters muBench's loader sleeps 10 ms.
    let Function::Loader(loader) = &model.get("s2").unwrap().behaviour.internal else {
        panic!()
    };
    assert_eq!(loader.sleep, Some(Duration::from_millis(10)));
    assert_eq!(model.cycle(), None);
}

#[test]
fn a_cycle_is_allowed_and_named() {
    let model: WorkModel = r#"{"a": {"external_services": [{"services": ["b"]}]},
        "b": {"external_services": [{"services": ["c"], "probabilities": {"c": 0.5}}]},
        "c": {"external_services": [{"services": ["b"]}]}}"#
        .parse()
        .unwrap();
    assert_eq!(model.cycle().unwrap(), ["b", "c", "b"]);
}

#[test]
fn each_mistake_names_service_key_and_remedy() {
    let cases = [
        (
            "{",
            "the work model is not JSON: EOF while parsing an object at line 1 column 1; check the file near that line",
        ),
        ("{}", "work model, top level: no service; describe at least one"),
        (
            r#"{"s0": []}"#,
            "work model, s0: a list where an object belongs; describe the service by an object",
        ),
        (
            r#"{"s0": {"external_services": [{"services": ["s9"]}]}}"#,
            "work model, s0.external_services[0].services[0]: the model has no service \"s9\"; describe it at the top level or take it out of the group",
        ),
        (
            r#"{"s0": {"external_services": [{"seq_len": 1}]}}"#,
            "work model, s0.external_services[0]: no \"services\"; list the services that the group calls",
        ),
        (
            r#"{"s0": {"external_services": [{"seq_len": -1, "services": ["s0"]}]}}"#,
            "work model, s0.external_services[0].seq_len: -1 is out of range; write a number from 0 to 1000000",
        ),
        (
            r#"{"s0": {"external_services": [{"services": ["s0"], "probabilities": {"s0": 1.5}}]}}"#,
            "work model, s0.external_services[0].probabilities.s0: 1.5 is out of range; write a number from 0 to 1",
        ),
        (
            r#"{"s0": {"external_services": [{"services": ["s0"], "probabilities": {"s1": 1}}]}, "s1": {}}"#,
            "work model, s0.external_services[0].probabilities.s1: not among the group's services; add it to \"services\" or take it out here",
        ),
        (
            r#"{"s0": {"internal_service": {"fibonacci": {}}}}"#,
            "work model, s0.internal_service.fibonacci: the cell has no function \"fibonacci\"; write one of {\"compute_pi\": {…}}, {\"loader\": {…}}, {\"colosseum\": {}}",
        ),
        (
            r#"{"s0": {"internal_service": {"compute_pi": {"range_complexity": [9, 3]}}}}"#,
            "work model, s0.internal_service.compute_pi.range_complexity: 9 is above 3; write the smaller number first",
        ),
        (
            r#"{"s0": {"internal_service": {"compute_pi": {"range_complexity": [1, 1e9]}}}}"#,
            "work model, s0.internal_service.compute_pi.range_complexity[1]: 1000000000 is out of range; write a number from 1 to 20000",
        ),
        (
            r#"{"s0": {"internal_service": {"loader": {"sleep_stress": {"run": "yes"}}}}}"#,
            "work model, s0.internal_service.loader.sleep_stress.run: a string where a boolean belongs; write true or false",
        ),
        (
            r#"{"s0": {"request_method": "grpc"}}"#,
            "work model, s0.request_method: \"grpc\" is not served: cells are called by GET; write \"rest\" or leave the key out",
        ),
        (
            r#"{"s0": {"url": "http://s0/x"}}"#,
            "work model, s0.url: \"http://s0/x\" is no host; write host or host:port, without http:// and path",
        ),
        (
            r#"{"s0": {"path": "api"}}"#,
            "work model, s0.path: \"api\" is no path; start it with a slash and write no query",
        ),
        (
            r#"{"s0": {"gma_delay": {"sigma": 1}}}"#,
            "work model, s0.gma_delay: no \"mean_ms\"; write the mean delay in milliseconds",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            text.parse::<WorkModel>().unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = WorkModel::read("no/such/workmodel.json".as_ref())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the work model no/such/workmodel.json: "),
        "{error}"
    );
}
