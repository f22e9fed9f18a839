//! What neither the configuration nor the metrics hold: which field of the problem waits for it, and how to get it.

use super::config::{Config, ServiceKeys};
use super::instances::Instances;
use super::metrics::{Measured, Metrics, Users};
use super::queries::Queries;
use super::report::Missing;
use super::traps::listed;

/// A quantity of the edge's users: what lacks it, its field, what it is, its metric, its query.
type OfUsers = (
    fn(&Users) -> bool,
    &'static str,
    &'static str,
    &'static str,
    fn(&Queries) -> &str,
);

/// A quantity of each service, likewise.
type OfServices = (
    fn(&Measured, &Instances) -> bool,
    &'static str,
    &'static str,
    &'static str,
    fn(&Queries) -> &str,
);

const OF_USERS: [OfUsers; 3] = [
    (
        |users| users.requests_per_second.is_none(),
        "edges[0].userRequestsPerSecond",
        "0 for now: requests a second that users send to the edge's gateway.",
        "users.requestsPerSecond",
        |queries| &queries.user_rate,
    ),
    (
        |users| users.calls_per_second.is_empty(),
        "edges[0].userCalls",
        "none for now: calls of the gateway per user request, the quotient of this rate and the users' rate. Without one, no \
         request reaches a service.",
        "users.callsPerSecond",
        |queries| &queries.user_calls,
    ),
    (
        |users| users.measured_delay.is_none(),
        "edges[0].measuredDelay",
        "absent for now: the mean user delay (the query answers in ms). Without it predictions start from the model's delay.",
        "users.measuredDelay",
        |queries| &queries.user_delay,
    ),
];

const OF_SERVICES: [OfServices; 3] = [
    (
        |measured, _| measured.requests_per_second.is_none(),
        "services[].cpuPerRequest, calls[].perRequest",
        "requests a second in both areas, the denominator of both quotients. Without it CPU use is divided by the rate that \
         follows from the calls.",
        "services.NAME.requestsPerSecond",
        |queries| &queries.service_rate,
    ),
    (
        |measured, _| measured.response_size.is_none(),
        "services[].responseSize",
        "0 B for now: the mean size of an answer, in bytes. Without it the link's bandwidth and its price play no part.",
        "services.NAME.responseSize",
        |queries| &queries.response_size,
    ),
    (
        |measured, instances| measured.cpu_use.is_none() && instances.request_cpu(),
        "services[].cpuUse",
        "0 for now: cores in use in both areas, the sum over the service's pods. Without it replicas stay at their minimum.",
        "services.NAME.cpuUse",
        |queries| &queries.cpu_use,
    ),
];

/// What neither the configuration nor the metrics hold.
pub(super) fn missing(
    config: &Config,
    instances: &[Instances],
    metrics: &Metrics,
    queries: &Queries,
) -> Vec<Missing> {
    let entry = |field: &str, what: String, metric: &str, query: &str| Missing {
        field: field.to_owned(),
        what,
        metric: metric.to_owned(),
        query: query.to_owned(),
    };
    let mut all: Vec<Missing> = OF_USERS
        .iter()
        .filter(|(lacks, ..)| lacks(&metrics.users))
        .map(|(_, field, what, metric, query)| entry(field, (*what).to_owned(), metric, query(queries)))
        .collect();
    let mut measured = metrics.services.values();
    if measured.all(|measured| measured.calls_per_second.is_empty()) {
        let what = "none for now: calls between services per request of the caller, the quotient of this rate and the caller's.";
        all.push(entry(
            "calls",
            what.to_owned(),
            "services.NAME.callsPerSecond",
            &queries.calls,
        ));
    }
    let none = Measured::default();
    let of = |service: &ServiceKeys| metrics.services.get(&service.name).unwrap_or(&none);
    for (lacks, field, what, metric, query) in &OF_SERVICES {
        let services = config.app.services.iter().zip(instances);
        let names: Vec<&str> = services
            .filter(|(service, instances)| lacks(of(service), instances))
            .map(|(service, _)| service.name.as_str())
            .collect();
        if !names.is_empty() {
            let what = format!("{what} Missing for {}.", listed(&names));
            all.push(entry(field, what, metric, query(queries)));
        }
    }
    all
}
