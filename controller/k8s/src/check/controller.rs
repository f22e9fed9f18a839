//! Whether a controller runs, and what it says of an object.

use serde_json::Value;

use super::told::Told;
use super::{Finding, path, text};
use crate::kube_api::LEADER_LABEL;

/// Label of the controller's pods.
const APP: (&str, &str) = ("app.kubernetes.io/name", "gma");
/// Service of the leader.
const REPORTS: &str = "gma-reports";

/// What is known of the controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Controller<'a> {
    pub(super) namespace: &'a str,
    /// Pods of its namespace; none: they are not known.
    pub(super) pods: Option<&'a [Value]>,
    /// Services of its namespace; none: they are not known.
    pub(super) services: Option<&'a [Value]>,
    pub(super) told: &'a Told,
}

/// Whether one runs, leads and can be reached.
pub(super) fn check(controller: &Controller<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own = controller.namespace;
    if let Some(services) = controller.services
        && !services
            .iter()
            .any(|service| text(service, "/metadata/name") == Some(REPORTS))
    {
        findings.push(Finding::error(
            format!("Service {own}/{REPORTS}"),
            "it is not there: the filters' reports go nowhere",
            "apply deploy/base",
        ));
    }
    let why = match controller.told {
        Told::State { .. } => return findings,
        Told::Nothing(why) => why,
    };
    let Some(pods) = controller.pods else {
        return findings;
    };
    let pods: Vec<&Value> = pods
        .iter()
        .filter(|pod| label(pod, APP.0) == Some(APP.1))
        .collect();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let leads = |pod: &&Value| leader(pod).is_some();
    let object = format!("Namespace {own}");
    findings.push(match (pods.len(), ready) {
        (0, _) => Finding::error(object, "no controller runs in it", "apply deploy/base"),
        (all, 0) => Finding::error(
            object,
            format!("none of the {all} pods of the controller is ready"),
            format!("`kubectl -n {own} logs -l {}={}` says what they wait for", APP.0, APP.1),
        ),
        _ if !pods.iter().any(leads) => Finding::error(
            object,
            "no pod of the controller leads: reports are stored by nobody",
            format!("`kubectl -n {own} logs -l {}={}` says why the lease is not taken", APP.0, APP.1),
        ),
        _ => Finding::warning(
            object,
            format!("the controller's state is not known, nor who reports: {why}"),
            format!(
                "be allowed to get pods/proxy there, or `kubectl -n {own} port-forward svc/{REPORTS} 8080:80` and \
                 give --address http://127.0.0.1:8080"
            ),
        ),
    });
    findings
}

/// What the controller wrote of an object.
pub(super) fn account(object: &Value, told: &Told) -> Vec<Finding> {
    let name = format!("EdgePlacement {}", path(object));
    let mut findings = Vec::new();
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let observed = number("/status/observedGeneration");
    if let Told::State { leads, .. } = told
        && (!leads || observed < number("/metadata/generation"))
    {
        findings.push(Finding::warning(
            &name,
            "the controller does not look after this version of it yet",
            "wait some seconds; if it stays so, the controller's log says why",
        ));
    }
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        findings.push(Finding::warning(
            &name,
            "it is being deleted: what was changed for it is given back first",
            "`gma uninstall` waits for it, and does it where no controller runs",
        ));
    }
    let Some(ready) = condition(object, "Ready") else {
        return findings;
    };
    let reason = text(ready, "/reason").unwrap_or_default();
    if text(ready, "/status") == Some("False") {
        let message = text(ready, "/message").unwrap_or_default();
        let (what, fix) = message
            .split_once("; ")
            .unwrap_or((message, "`gma explain` says more"));
        let what = format!("not ready ({reason}): {what}");
        findings.push(if is_for_ever(reason) {
            Finding::error(&name, what, fix)
        } else {
            Finding::warning(&name, what, fix)
        });
    }
    findings
}

/// Name of a pod that leads.
pub(super) fn leader(pod: &Value) -> Option<&str> {
    label(pod, LEADER_LABEL)?;
    text(pod, "/metadata/name")
}

/// Whether the controller does nothing for an object, by its own account.
pub(super) fn is_left_alone(object: &Value) -> bool {
    condition(object, "Ready")
        .and_then(|ready| text(ready, "/reason"))
        .is_some_and(is_for_ever)
}

/// Reasons that time alone does not end.
fn is_for_ever(reason: &str) -> bool {
    matches!(reason, "SpecRefused" | "AnotherObject" | "ClusterIncomplete")
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| text(condition, "/type") == Some(type_))
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        text(condition, "/type") == Some("Ready") && text(condition, "/status") == Some("True")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(is_ready: bool, leads: bool) -> Value {
        let status = if is_ready { "True" } else { "False" };
        let mut labels = json!({"app.kubernetes.io/name": "gma"});
        if leads {
            labels[LEADER_LABEL] = "true".into();
        }
        json!({"metadata": {"name": "gma-1", "labels": labels}, "status": {"conditions": [{"type": "Ready", "status": status}]}})
    }

    #[test]
    fn a_controller_that_is_silent_is_looked_for_by_its_pods() {
        let told = Told::Nothing("403".to_owned());
        let services = [json!({"metadata": {"name": REPORTS}})];
        for (pods, words) in [
            (vec![], "no controller runs"),
            (vec![pod(false, false)], "none of the 1 pods"),
            (vec![pod(true, false)], "no pod of the controller leads"),
            (vec![pod(true, false), pod(true, true)], "nor who reports: 403"),
        ] {
            let controller = Controller {
                namespace: "gma-system",
                pods: Some(&pods),
                services: Some(&services),
                told: &told,
            };
            let findings = check(&controller);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].what.contains(words), "{findings:?}");
        }
    }

    #[test]
    fn what_the_controller_says_of_an_object_is_repeated() {
        let told = Told::State {
            leads: true,
            heard: Default::default(),
        };
        let object = |reason: &str, status: &str| {
            json!({"metadata": {"namespace": "shop", "name": "shop", "generation": 2}, "status": {"observedGeneration": 2,
                "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "too few; send more"}]}})
        };
        assert_eq!(account(&object("Enforcing", "True"), &told), []);
        let findings = account(&object("TooFewRequests", "False"), &told);
        let text = findings[0].to_string();
        assert_eq!(
            text,
            "warning: EdgePlacement shop/shop: not ready (TooFewRequests): too few; send more"
        );
        assert!(is_left_alone(&object("AnotherObject", "False")));
        let mut newer = object("Enforcing", "True");
        newer["metadata"]["generation"] = 3.into();
        assert_eq!(account(&newer, &told).len(), 1);
    }
}
