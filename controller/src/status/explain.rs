//! A decision from its alarm to its result, and what would end a hold.

use gma_core::decide::{Decision, Direction, Outcome, Searched, Trigger};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::solver::Lost;
use serde::Serialize;

use super::error::StatusError;
use super::paint::{Paint, Tone};
use super::read::{AccountView, RoundView, StateView};
use super::table::{short, statistic, steps};

/// Why an edge is as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Which edge.
    pub edge: AreaName,
    /// What the controller does there, in a sentence.
    pub sentence: String,
    /// Why nothing is done, where nothing is.
    pub held: Option<Held>,
    /// The decision that was asked for, or the last one.
    pub decision: Option<Decision>,
    /// It in a sentence.
    pub told: Option<String>,
    /// What it reached, in order.
    pub steps: Vec<Step>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The reason and its numbers.
    pub reason: serde_json::Value,
    /// What would have to change for it to end.
    pub ends: Option<String>,
}

/// Something that a decision reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What.
    pub what: String,
    /// When, on the controller's clock.
    pub at: Timestamp,
    /// Seconds after the decision's first step.
    pub after_seconds: f64,
}

/// The explanations of one edge or of all; with a decision's number only of its edge.
pub(super) fn explain(
    state: &StateView,
    edge: Option<&str>,
    decision: Option<u64>,
) -> Result<Vec<Explanation>, StatusError> {
    let round = state.round.as_ref().ok_or(StatusError::NothingSeen)?;
    let asked = |name: &AreaName| edge.is_none_or(|edge| edge == name.as_str());
    let accounts: Vec<(&AreaName, &AccountView)> =
        round.edges.iter().filter(|(name, _)| asked(name)).collect();
    if let (Some(edge), true) = (edge, accounts.is_empty()) {
        return Err(StatusError::NoEdge {
            edge: edge.to_owned(),
            known: listed(round.config.edges.keys().map(AreaName::to_string)),
        });
    }
    let Some(id) = decision else {
        return Ok(accounts
            .into_iter()
            .map(|(name, account)| one(round, name, account, account.all().pop()))
            .collect());
    };
    let found = accounts.iter().find_map(|(name, account)| {
        let of_id = account
            .all()
            .into_iter()
            .find(|(_, decision)| decision.id == id)?;
        Some(one(round, name, account, Some(of_id)))
    });
    found
        .map(|found| vec![found])
        .ok_or_else(|| StatusError::NoDecision {
            id,
            known: listed(
                accounts
                    .iter()
                    .flat_map(|(_, account)| account.all())
                    .map(|(_, decision)| decision.id.to_string()),
            ),
        })
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn one(
    round: &RoundView,
    edge: &AreaName,
    account: &AccountView,
    decision: Option<(&str, &Decision)>,
) -> Explanation {
    let held = account.held.clone().map(|reason| Held {
        reason,
        ends: round.ends.get(edge).cloned(),
    });
    let times = decision.map(|(_, decision)| decision.times);
    let first = times.map(|times| times.alarm.unwrap_or(times.decided));
    let steps = times
        .into_iter()
        .flat_map(|times| steps(&times))
        .filter_map(|(what, at)| {
            Some(Step {
                what: what.to_owned(),
                at: at?,
                after_seconds: at?.since(first?).as_secs_f64(),
            })
        });
    Explanation {
        edge: edge.clone(),
        sentence: account.sentence.clone(),
        held,
        decision: decision.map(|(_, decision)| decision.clone()),
        told: decision.map(|(told, _)| told.to_owned()),
        steps: steps.collect(),
    }
}

/// For people.
pub(super) fn text(all: &[Explanation], paint: Paint) -> String {
    let blocks: Vec<String> = all.iter().map(|explanation| block(explanation, paint)).collect();
    if blocks.is_empty() {
        return "no edge was evaluated yet\n".to_owned();
    }
    blocks.join("\n")
}

fn block(explanation: &Explanation, paint: Paint) -> String {
    let mut text = format!(
        "{}  {}\n",
        paint.paint(Tone::Strong, explanation.edge.as_str()),
        short(&explanation.sentence)
    );
    let mut row = |name: &str, value: &str| text.push_str(&format!("  {name:12}  {value}\n"));
    if let Some(held) = &explanation.held {
        row(
            "hold ends",
            held.ends.as_deref().unwrap_or("the controller does not say when"),
        );
    }
    let Some(decision) = &explanation.decision else {
        row("decision", "none yet");
        return text;
    };
    row(
        "decision",
        &format!("{}, {}", decision.id, outcome(&decision.outcome)),
    );
    trigger(decision, &mut row);
    if let Some(planned) = &decision.planned {
        row("chosen", &short(&planned.reasons));
        let (before, after) = (planned.cost_before, planned.cost_after);
        row(
            "cost",
            &format!("{before:.4} → {after:.4} an hour, as the model counts"),
        );
        if let Some(search) = &planned.search {
            considered(search, &mut row);
        }
    }
    row("add", &names(&decision.add));
    row("remove", &names(&decision.remove));
    if let Some(planned) = &decision.planned {
        let change = planned.predicted_us - planned.measured_us;
        row(
            "predicted",
            &format!("{} ({:+.1} ms)", ms(planned.predicted_us), change / 1e3),
        );
    }
    let mut name = "steps";
    for step in &explanation.steps {
        row(name, &format!("{:>+7.1} s  {}", step.after_seconds, step.what));
        name = "";
    }
    if let Some(after) = &decision.after {
        let reading = &after.reading;
        row(
            "measured",
            &format!(
                "{} ({:.1} – {:.1}) in {:.1} s after it",
                ms(reading.value_us),
                reading.low_us / 1e3,
                reading.high_us / 1e3,
                reading.window.as_secs_f64()
            ),
        );
        row(
            "error",
            &format!(
                "{:+.1} ms against the prediction",
                after.prediction_error_us / 1e3
            ),
        );
    }
    text
}

/// What the planner compared, and how good its answer is proven to be.
fn considered(search: &Searched, row: &mut impl FnMut(&str, &str)) {
    let proven = if search.optimal {
        "proven to be the cheapest".to_owned()
    } else {
        format!("at most {:.1} % could be saved", search.gap * 100.0)
    };
    let cut = if search.exhausted {
        ", the search was cut short"
    } else {
        ""
    };
    row(
        "considered",
        &format!("{} placements; {proven}{cut}", search.evaluations),
    );
    if search.together.len() > 1 {
        let edges = listed(search.together.iter().map(AreaName::to_string));
        row(
            "together",
            &format!("{edges}: {:.4} an hour", search.cost_together),
        );
    }
    if let Some(other) = &search.runner_up {
        row(
            "runner-up",
            &format!(
                "add {}, remove {}: {}, {:.4} an hour; {}",
                names(&other.add),
                names(&other.remove),
                ms(other.predicted_us),
                other.cost,
                match other.lost {
                    Lost::Slower => "it misses the target by more, or has no room",
                    Lost::Dearer => "it costs more",
                    Lost::MovesMore => "it moves more",
                }
            ),
        );
    }
}

fn trigger(decision: &Decision, row: &mut impl FnMut(&str, &str)) {
    match &decision.trigger {
        Trigger::Band {
            direction,
            reading,
            statistic: of,
            offload_above_us,
            unoffload_below_us,
            target_us,
        } => {
            let bound = match direction {
                Direction::Offload => format!("above {}", ms(*offload_above_us)),
                Direction::Unoffload => format!("below {}", ms(*unoffload_below_us)),
            };
            row(
                "because",
                &format!(
                    "{} {} ({:.1} – {:.1}) {bound}, {} requests in {:.1} s",
                    statistic(*of),
                    ms(reading.value_us),
                    reading.low_us / 1e3,
                    reading.high_us / 1e3,
                    reading.requests,
                    reading.window.as_secs_f64()
                ),
            );
            row("asked for", &ms(*target_us));
        }
        Trigger::Overload {
            service,
            own_before_us,
            own_now_us,
            from,
            to,
        } => {
            let inside = format!("{} inside, {} before", ms(*own_now_us), ms(*own_before_us));
            row(
                "because",
                &format!("{service} was overloaded at the edge: {inside}"),
            );
            row("share", &format!("{from} % to {to} %"));
        }
        Trigger::OverloadOver { service, from, to } => {
            row(
                "because",
                &format!("{service} was no longer overloaded at the edge"),
            );
            row("share", &format!("{from} % to {to} %"));
        }
        Trigger::InstanceFailed => row("because", "an instance at the edge that carried traffic failed"),
        Trigger::Failing => row(
            "because",
            "callers at the edge saw an instance there fail, and not in the cloud",
        ),
        Trigger::Unfinished => row("because", "a move was found that no finished decision explains"),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Running => "under way".to_owned(),
        Outcome::Recommended => "recommended, not done".to_owned(),
        Outcome::Kept => "kept".to_owned(),
        Outcome::Unverified => "kept; it could not be judged in time".to_owned(),
        Outcome::RolledBack { cause } => format!("taken back: {}", short(&cause.to_string())),
        Outcome::Abandoned { cause: None } => "left where it was: the mode does not enforce".to_owned(),
        Outcome::Abandoned { cause: Some(cause) } => {
            format!("left where it was: {}", short(&cause.to_string()))
        }
    }
}

fn names<'a>(services: impl IntoIterator<Item = &'a ServiceName>) -> String {
    listed(services.into_iter().map(|service| short(service.as_str())))
}

fn ms(us: f64) -> String {
    format!("{:.1} ms", us / 1e3)
}
