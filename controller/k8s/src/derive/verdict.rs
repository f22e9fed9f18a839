//! What a user is told: why there can be no instance, and what to know of one.

use std::fmt;

use gma_core::ids::AreaName;

use super::MAX_NAME;
use crate::rule::MANAGER;

/// What a user should know of an instance that is made all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The selector of the cloud's Deployment matches the edge's pods too, and it has an autoscaler. The edge gets none:
    /// Kubernetes stops both where two select the same pod. The cloud's counts the edge's load as well.
    SharedSelector {
        /// The cloud's Deployment.
        deployment: String,
        /// What ends it.
        fix: String,
    },
    /// The autoscalers of the cloud's Deployment and of the user's at the edge select the same pods, so that Kubernetes
    /// stops both.
    AutoscalersStopped {
        /// What ends it.
        fix: String,
    },
    /// Metrics that the edge's autoscaler has not: they are not of its pods.
    MetricsLeftOut(Vec<String>),
    /// The edge has no autoscaler: no metric was left.
    NoMetricLeft,
    /// Labels of nodes that are still asked for.
    NodeLabelsKept(Vec<String>),
    /// The pods of an existing Deployment are not kept to nodes of this edge.
    NotConfined {
        /// What they should ask for.
        fix: String,
    },
}

/// Why there can be no instance at an edge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its pods have an identity or a node each.
    #[error(
        "{kind} {name} is not a Deployment: {}; pin the service to the cloud (spec.services[].pin), or make a Deployment for the edge and list it in spec.services[].edge.deployments",
        why(kind)
    )]
    Kind {
        /// Kind of the workload.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Its pods share stored data.
    #[error("pods of {name} hold the volume claims {}: their data is in the cloud; pin the service to the cloud (spec.services[].pin)", .claims.join(", "))]
    VolumeClaim {
        /// The Deployment.
        name: String,
        /// Names of the volumes.
        claims: Vec<String>,
    },
    /// The Service would not reach its pods.
    #[error(
        "Service {service} does not select the pods of {name}; correct its selector, or name the right Deployment in spec.services[].cloud.deployment"
    )]
    NotSelected {
        /// The Service.
        service: String,
        /// The Deployment.
        name: String,
    },
    /// Its name does not fit into a label.
    #[error(
        "the name {name} has more than {MAX_NAME} characters, the most that a label has; make a Deployment for the edge and list it in spec.services[].edge.deployments"
    )]
    NameTooLong {
        /// The Deployment.
        name: String,
    },
    /// Somebody else has it.
    #[error(
        "there is a Deployment {name} that {MANAGER} did not make for {object}; list it in spec.services[].edge.deployments, or rename it"
    )]
    NameTaken {
        /// The derived name.
        name: String,
        /// The object.
        object: String,
    },
    /// It is an instance at an edge itself.
    #[error(
        "{name} is an instance at an edge; name the cloud's Deployment in spec.services[].cloud.deployment"
    )]
    NotOfTheCloud {
        /// The Deployment.
        name: String,
    },
    /// The edge has no locality.
    #[error("the edge {edge} has no locality that a node can have; correct spec.areas.edges[].localities")]
    NoLocality {
        /// The edge.
        edge: AreaName,
    },
    /// Not an object that an API server gives.
    #[error("{what}: {why}")]
    Malformed {
        /// Which field of which object.
        what: String,
        /// What is wrong.
        why: String,
    },
}

// === impl Note ===

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedSelector { deployment, fix } => write!(
                f,
                "the selector of {deployment} matches the edge's pods too: its autoscaler counts their load, and the edge has none; {fix}"
            ),
            Self::AutoscalersStopped { fix } => write!(
                f,
                "Kubernetes stops its autoscaler and the cloud's: the selector of the cloud's Deployment matches its pods too; {fix}"
            ),
            Self::MetricsLeftOut(metrics) => write!(
                f,
                "the edge's autoscaler does not use {}: not a metric of its own pods",
                metrics.join(", ")
            ),
            Self::NoMetricLeft => {
                f.write_str("the edge has no autoscaler: none of the cloud's metrics is one of its own pods")
            }
            Self::NodeLabelsKept(keys) => write!(
                f,
                "pods ask for the node labels {}: without a node at the edge that has them they stay Pending",
                keys.join(", ")
            ),
            Self::NotConfined { fix } => write!(f, "its pods may run outside this edge; {fix}"),
        }
    }
}

fn why(kind: &str) -> &'static str {
    match kind {
        "StatefulSet" => "its pods have names and data of their own, which a copy at an edge would not share",
        "DaemonSet" => "it has a pod on every node that it selects, the edge's included",
        _ => "only a Deployment's pods can be copied and scaled",
    }
}
