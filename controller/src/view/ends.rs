//! What would have to change for a hold to end.

use gma_core::decide::{Covered, HoldReason, NoPlan};

use super::Seen;

/// The condition, for a person: goes on after "ends".
pub(super) fn when(reason: &HoldReason, seen: &Seen<'_>) -> String {
    match reason {
        HoldReason::NotHeardYet | HoldReason::NoInterval => {
            "when enough reports of the edge have come".to_owned()
        }
        HoldReason::EdgeSilent { .. } => {
            "when a gateway of the edge reports again; until then nothing is written for the edge".to_owned()
        }
        HoldReason::StaleTelemetry { .. } => "when the gateways' reports are fresh again".to_owned(),
        HoldReason::NoTraffic => "when users of the edge send requests".to_owned(),
        HoldReason::TooFewRequests { seen_rps, needed_rps } => {
            format!("when about {needed_rps:.1} requests a second come: {seen_rps:.1} were seen")
        }
        HoldReason::Errors { .. } => {
            let most = seen.config.most_errors * 100.0;
            format!("when at most {most:.0} % of the requests fail")
        }
        HoldReason::LowCoverage { of, needed, .. } => {
            let proxies = match of {
                Covered::Gateways => "gateways' proxies",
                Covered::UsersPath => "proxies of each service on the users' path",
            };
            format!("when at least {:.0} % of the {proxies} are heard", needed * 100.0)
        }
        HoldReason::EdgeUnavailable { .. } => "when the platform can run instances there again".to_owned(),
        HoldReason::Autoscaling { .. } => format!(
            "when it has wanted the same count for {:.0} s, after {:.0} s at the latest",
            seen.config.autoscaler_quiet.as_secs_f64(),
            seen.config.autoscaler_patience.as_secs_f64()
        ),
        HoldReason::BackingOff { until, .. } => format!(
            "in {:.0} s, or when a move without these services would help",
            until.since(seen.now).as_secs_f64()
        ),
        HoldReason::RuleOwned { service, .. } => {
            format!("when nobody else manages the locality settings of {service}'s rule")
        }
        HoldReason::RuleShape { service, .. } => format!("when the rule of {service} has the shape named"),
        HoldReason::LocalityUnproven { service, .. } => {
            format!("when a proxy has reported a request to {service} there, with the locality")
        }
        HoldReason::EndpointOutsideAreas { .. } => {
            "when an area of the configuration has the locality, or the endpoint is gone".to_owned()
        }
        HoldReason::Suspended => "when the operator resumes".to_owned(),
        HoldReason::MovesSpent { per_hour } => {
            format!("when fewer than {per_hour} moves lie in the last hour")
        }
        HoldReason::ServiceBusy { edge, .. } => format!("when the move at {edge} has ended"),
        HoldReason::Relieved { .. } => {
            "when the service has had its whole share there again, step by step".to_owned()
        }
        HoldReason::NoPlan { why } => no_plan(why),
        HoldReason::Recommending => "when the mode is `enforce`, or the delay is back in the band".to_owned(),
    }
}

fn no_plan(why: &NoPlan) -> String {
    match why {
        NoPlan::NotEnoughData { .. } => "when what is missing was measured".to_owned(),
        NoPlan::Capacity { .. } => "when the edge has more room, or the band is wider".to_owned(),
        NoPlan::Pins { .. } => "when these services may move, or the band is wider".to_owned(),
        NoPlan::TargetBelowLeak { reachable_us, .. } => format!(
            "when the band allows {:.1} ms, or the standby form is failover",
            reachable_us / 1_000.0
        ),
        NoPlan::NoBetterPlacement | NoPlan::Unsuitable { .. } => {
            "when another placement would help: load, round trip or band have to change".to_owned()
        }
    }
}
