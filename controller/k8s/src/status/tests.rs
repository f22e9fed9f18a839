use std::time::Duration;

use gma_core::decide::Phase;

use super::*;

fn told(phase: Phase) -> EdgePlacementStatus {
    told_unread(phase, None)
}

fn told_unread(phase: Phase, unread: Option<HoldReason>) -> EdgePlacementStatus {
    let mut state = State::default();
    let edge = state.edges.entry("edge-1".into()).or_default();
    (edge.phase, edge.unread) = (phase, unread);
    let mut config = Config::new("cloud".into(), ["edge-1".into()]);
    config.mode = Mode::Enforce;
    let short = [("edge-1".into(), [("web.shop.svc.cluster.local".into(), 2)].into())].into();
    let told = Told {
        now: Timestamp::from_start(Duration::from_secs(1_800_000_000)),
        config: &config,
        state: &state,
        cluster: &Cluster::default(),
        short_if_lost: &short,
        unsaved: None,
    };
    let known = Known {
        generation: 3,
        held: &[],
        pinned: &[],
        no_metrics: Some("503 Service Unavailable"),
    };
    status(&told, &known)
}

fn held(reason: HoldReason) -> Phase {
    Phase::Held {
        reason,
        since: Timestamp::default(),
        alarm: None,
    }
}

fn of(status: &EdgePlacementStatus, type_: &str) -> (String, String) {
    let condition = status.conditions.iter().find(|one| one.type_ == type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_hold_that_a_person_must_end_is_not_ready_and_one_that_passes_is() {
    let shape = HoldReason::RuleShape {
        service: "cart".into(),
        what: "it has a subset".to_owned(),
    };
    for (phase, ready, fresh) in [
        (Phase::Observing, pair("True", "Enforcing"), "True"),
        (held(HoldReason::NoTraffic), pair("True", "Enforcing"), "True"),
        (
            held(HoldReason::NotHeardYet),
            pair("False", "NotHeardYet"),
            "False",
        ),
        (held(shape), pair("False", "RuleShape"), "True"),
    ] {
        let status = told(phase.clone());
        assert_eq!(of(&status, "Ready"), ready, "{phase:?}");
        assert_eq!(of(&status, "TelemetryFresh").0, fresh, "{phase:?}");
        assert_eq!(of(&status, "WithinBand"), pair("Unknown", "NoReading"));
        assert_eq!(status.observed_generation, Some(3));
    }
    // Silence while something is under way is no hold.
    let until = Timestamp::default();
    let silent = told_unread(Phase::CoolingDown { until }, Some(HoldReason::NotHeardYet));
    assert_eq!(of(&silent, "TelemetryFresh"), pair("False", "NotHeardYet"));
}

#[test]
fn by_readiness_it_says_what_there_is_not_and_why() {
    let mut config = Config::new("cloud".into(), ["edge-1".into()]);
    config.steering = Steering::Readiness;
    let held = [(
        ServiceName::from("cart"),
        "two edges".to_owned(),
        "regions".to_owned(),
    )];
    for (held, reason, words) in [
        (
            &held[..0],
            pair("True", "ByReadiness"),
            ["in one step", "regions"],
        ),
        (&held[..], pair("False", "Held"), ["two edges", "regions"]),
    ] {
        let told = Told {
            now: Timestamp::default(),
            config: &config,
            state: &State::default(),
            cluster: &Cluster::default(),
            short_if_lost: &BTreeMap::new(),
            unsaved: None,
        };
        let known = Known {
            generation: 3,
            held,
            pinned: &[],
            no_metrics: None,
        };
        let status = status(&told, &known);
        assert_eq!(of(&status, "RoutingApplied"), reason);
        let mut conditions = status.conditions.iter();
        let said = &conditions
            .find(|one| one.type_ == "RoutingApplied")
            .unwrap()
            .message;
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    assert_eq!(
        of(&told(Phase::Observing), "RoutingApplied"),
        pair("True", "Writable")
    );
}

#[test]
fn what_is_only_read_is_not_of_the_essence() {
    let before = told(Phase::Observing);
    let mut after = before.clone();
    for edge in &mut after.edges {
        edge.measured = Some(MeasuredDelay::default());
    }
    if let Some(summary) = &mut after.summary {
        summary.delay = "182.4ms".to_owned();
    }
    assert_eq!(essence(&after), essence(&before));
    assert_ne!(essence(&told(held(HoldReason::NoTraffic))), essence(&before));
}

#[test]
fn a_condition_that_did_not_change_keeps_its_time() {
    let mut before = told(Phase::Observing);
    for condition in &mut before.conditions {
        condition.last_transition_time = Time(jiff::Timestamp::UNIX_EPOCH);
    }
    let mut after = told(held(HoldReason::NotHeardYet));
    keep_transitions(&mut after, &before);
    for condition in &after.conditions {
        let is_kept = condition.last_transition_time == Time(jiff::Timestamp::UNIX_EPOCH);
        let has_changed = matches!(condition.type_.as_str(), "Ready" | "TelemetryFresh");
        assert_eq!(is_kept, !has_changed, "{}", condition.type_);
    }
}

#[test]
fn what_the_cloud_lacks_without_an_edge_is_told_of_that_edge() {
    let status = told(Phase::Observing);
    let missing = &status.edges.first().unwrap().short_if_lost;
    assert_eq!(
        serde_json::to_value(missing).unwrap(),
        serde_json::json!([{"service": "web", "replicas": 2}])
    );
}

#[test]
fn costs_are_not_measured_where_no_instance_tells_its_cpu_and_the_reason_is_told() {
    let status = told(Phase::Observing);
    let condition = status
        .conditions
        .iter()
        .find(|one| one.type_ == "CostMeasured")
        .unwrap();
    assert_eq!(of(&status, "CostMeasured"), pair("False", "NoMetrics"));
    assert!(
        condition.message.contains("503 Service Unavailable"),
        "{}",
        condition.message
    );
}
