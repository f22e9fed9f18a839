//! From the document to the model's problem and the present placement. All faults are found together.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::ids::ServiceName;
use gma_core::model::{
    Area, AreaIx, Call, Capacity, DensePlacement, Edge, EdgeIx, Prices, Problem, ProblemError, Service,
    ServiceIx, Shares, Site, Spec, Standby, evaluate,
};
use gma_core::units::{CpuCores, CpuSeconds, Gigabytes, Ratio};

use super::error::{Fault, Path};
use super::file::{self, PlacementProblem, StandbyForm, StandbyPolicy};
use super::limits;
use super::text::Price;

/// Longest name: that of a DNS name.
const MAX_NAME: usize = 253;
/// Longest currency: room for a code or a word.
const MAX_CURRENCY: usize = 16;
/// Largest threshold: an autoscaler that waits for ten times the request. A percentage in its place is larger.
const MAX_THRESHOLD: f64 = 10.0;
/// Services that an error lists.
const LISTED: usize = 8;

/// Checks a document and builds what the solver takes.
pub(super) fn build(file: &PlacementProblem) -> Result<(Problem, DensePlacement), Vec<Fault>> {
    let too_large = limits::check(file);
    if !too_large.is_empty() {
        return Err(too_large);
    }
    let mut builder = Builder::new(file);
    builder.check_currency();
    let spec = builder.spec();
    let placement = builder.placement();
    if !builder.faults.is_empty() {
        return Err(builder.faults);
    }
    let problem = Problem::try_new(spec).map_err(|error| vec![of_model(file, &error)])?;
    let problem = with_measured_use(file, problem)?;
    let mut current = DensePlacement::empty(&problem);
    for (edge, service) in placement {
        current.set(edge, service, true);
    }
    Ok((problem, current))
}

/// Turns the model's refusal into a fault of the document. Only what needs the whole graph is left to the model.
fn of_model(file: &PlacementProblem, error: &ProblemError) -> Fault {
    let calls = Path::root("calls");
    let first = |on_path: &dyn Fn(&file::Call) -> bool| {
        let found = file.calls.iter().position(on_path);
        found.map_or_else(|| calls.clone(), |position| calls.index(position))
    };
    match error {
        ProblemError::EndlessCalls(services) => {
            let members: BTreeSet<&str> = services.iter().map(ServiceName::as_str).collect();
            let on_cycle = |call: &file::Call| {
                members.contains(call.from.as_str()) && members.contains(call.to.as_str())
            };
            let names: Vec<&str> = members.iter().copied().take(LISTED).collect();
            let more = match members.len().saturating_sub(LISTED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Fault::new(
                first(&on_cycle),
                format!(
                    "the calls among {}{more} have no end: each request makes at least one further request on the \
                     cycle; lower perRequest of a call on it",
                    names.join(", ")
                ),
            )
        }
        ProblemError::TooManyCalls(service) => {
            let caller = |call: &file::Call| call.from == service.as_str();
            Fault::new(
                first(&caller),
                format!("{error}; lower perRequest of its calls or of theirs"),
            )
        }
        other => Fault::new(calls, other.to_string()),
    }
}

struct Builder<'f> {
    file: &'f PlacementProblem,
    services: BTreeMap<&'f str, ServiceIx>,
    areas: BTreeMap<&'f str, AreaIx>,
    faults: Vec<Fault>,
}

impl<'f> Builder<'f> {
    fn new(file: &'f PlacementProblem) -> Self {
        let mut this = Self {
            file,
            services: BTreeMap::new(),
            areas: BTreeMap::new(),
            faults: Vec::new(),
        };
        let cloud = Path::root("cloud").key("name");
        this.check_name(&cloud, &file.cloud.name);
        this.areas.insert(&file.cloud.name, AreaIx::Cloud);
        for (position, edge) in file.edges.iter().enumerate() {
            let path = Path::root("edges").index(position).key("name");
            this.check_name(&path, &edge.name);
            let ix = AreaIx::Edge(EdgeIx(ordinal(position)));
            if this.areas.insert(&edge.name, ix).is_some() {
                this.fault(
                    path,
                    format!("an area named `{}` exists already: rename one", edge.name),
                );
            }
        }
        for (position, service) in file.services.iter().enumerate() {
            let path = Path::root("services").index(position).key("name");
            this.check_name(&path, &service.name);
            let ix = ServiceIx(ordinal(position));
            if this.services.insert(&service.name, ix).is_some() {
                this.fault(
                    path,
                    format!("a service named `{}` exists already: rename one", service.name),
                );
            }
        }
        this
    }

    fn fault(&mut self, path: Path, text: impl Into<String>) {
        self.faults.push(Fault::new(path, text));
    }

    fn check_name(&mut self, path: &Path, name: &str) {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > MAX_NAME || name.contains(bad) {
            self.fault(
                path.clone(),
                format!(
                    "a name has 1 to {MAX_NAME} characters and no blanks, e.g. cart.shop.svc.cluster.local"
                ),
            );
        }
    }

    fn check_currency(&mut self) {
        let file = self.file;
        let is_word =
            |word: &str| (1..=MAX_CURRENCY).contains(&word.len()) && !word.contains(char::is_whitespace);
        if file
            .currency
            .as_deref()
            .is_some_and(|currency| !is_word(currency))
        {
            self.fault(
                Path::root("currency"),
                format!("a currency is one word of at most {MAX_CURRENCY} characters, e.g. EUR"),
            );
        }
        let cloud = Path::root("cloud").key("prices");
        self.check_price(&cloud.key("cpuCoreHour"), &file.cloud.prices.cpu_core_hour);
        self.check_price(&cloud.key("memoryGBHour"), &file.cloud.prices.memory_gb_hour);
        for (position, edge) in file.edges.iter().enumerate() {
            let path = Path::root("edges").index(position).key("prices");
            self.check_price(&path.key("cpuCoreHour"), &edge.prices.cpu_core_hour);
            self.check_price(&path.key("memoryGBHour"), &edge.prices.memory_gb_hour);
            self.check_price(&path.key("trafficGB"), &edge.prices.traffic_gb);
        }
    }

    fn check_price(&mut self, path: &Path, price: &Price) {
        let Some(own) = &price.currency else { return };
        match &self.file.currency {
            Some(currency) if currency == own => {}
            Some(currency) => self.fault(
                path.clone(),
                format!("`{price}` is in {own}, the file's currency is {currency}: convert the price, all must be in one"),
            ),
            None => self.fault(
                path.clone(),
                format!("`{price}` names a currency: name it once for all prices, `currency: {own}`"),
            ),
        }
    }

    fn service(&mut self, path: Path, name: &str) -> Option<ServiceIx> {
        let found = self.services.get(name).copied();
        if found.is_none() {
            self.fault(
                path,
                format!("`{name}` is no service of this file: add it to services, or correct the name"),
            );
        }
        found
    }

    fn spec(&mut self) -> Spec {
        let file = self.file;
        let cloud = Area {
            name: file.cloud.name.as_str().into(),
            prices: Prices {
                cpu_core_hour: file.cloud.prices.cpu_core_hour.amount,
                memory_gb_hour: file.cloud.prices.memory_gb_hour.amount,
            },
            localities: self.localities(&Path::root("cloud"), file.cloud.localities),
        };
        let edges = file.edges.iter().enumerate();
        let edges = edges.map(|(position, edge)| self.edge(position, edge)).collect();
        let services = file.services.iter().enumerate();
        let services = services
            .map(|(position, service)| self.service_of(position, service))
            .collect();
        Spec {
            cloud,
            edges,
            services,
            calls: self.calls(),
            standby: self.standby(file.standby),
        }
    }

    fn localities(&mut self, area: &Path, localities: u32) -> u32 {
        if localities == 0 {
            self.fault(area.key("localities"), "an area has at least 1 locality");
        }
        localities
    }

    fn edge(&mut self, position: usize, edge: &file::Edge) -> Edge {
        let path = Path::root("edges").index(position);
        if edge.bandwidth.is_some_and(|bandwidth| bandwidth.0.as_f64() < 1.0) {
            self.fault(
                path.key("bandwidth"),
                "a bandwidth is at least 1bit/s: leave it out where there is no limit",
            );
        }
        let mut user_calls = Vec::new();
        let mut called = BTreeSet::new();
        for (number, call) in edge.user_calls.iter().enumerate() {
            let path = path.key("userCalls").index(number);
            let Some(service) = self.service(path.key("to"), &call.to) else {
                continue;
            };
            if !called.insert(service) {
                self.fault(
                    path.clone(),
                    format!("a call to `{}` is there already: add the two up", call.to),
                );
            }
            self.check_calls(&path, call.per_request.as_f64());
            user_calls.push((service, call.per_request));
        }
        Edge {
            standby: None,
            area: Area {
                name: edge.name.as_str().into(),
                prices: Prices {
                    cpu_core_hour: edge.prices.cpu_core_hour.amount,
                    memory_gb_hour: edge.prices.memory_gb_hour.amount,
                },
                localities: self.localities(&path, edge.localities),
            },
            rtt: edge.rtt.0,
            bandwidth: edge.bandwidth.map(|bandwidth| bandwidth.0),
            traffic_gb: edge.prices.traffic_gb.amount,
            rate: edge.user_requests_per_second,
            user_calls,
            measured: edge.measured_delay.map(|delay| delay.0),
            capacity: Capacity {
                cpu: edge.capacity.cpu.map(|cpu| cpu.0),
                memory: edge.capacity.memory.map(|memory| memory.0),
                pods: edge.capacity.pods,
            },
            target: edge.target_delay.map(|delay| delay.0),
        }
    }

    fn check_calls(&mut self, path: &Path, per_request: f64) {
        if per_request > gma_core::model::MAX_CALLS {
            self.fault(
                path.key("perRequest"),
                format!(
                    "{per_request} calls a request are more than {:e}",
                    gma_core::model::MAX_CALLS
                ),
            );
        }
    }

    fn service_of(&mut self, position: usize, service: &file::Service) -> Service {
        let path = Path::root("services").index(position);
        let overlap = service.overlap.as_f64();
        if !(overlap > 0.0 && overlap <= 1.0) {
            self.fault(
                path.key("overlap"),
                format!("{overlap}: above 0 and at most 1; 1 where calls are made one after the other, 1/n where all n at once"),
            );
        }
        self.check_threshold(&path, service.autoscaler_threshold);
        for (area, value) in &service.areas {
            let path = path.key("areas").key(area);
            if !self.areas.contains_key(area.as_str()) {
                self.fault(
                    path.clone(),
                    format!("`{area}` is neither the cloud nor an edge of this file"),
                );
            }
            if let Some(threshold) = value.autoscaler_threshold {
                self.check_threshold(&path, threshold);
            }
        }
        let names =
            std::iter::once(&self.file.cloud.name).chain(self.file.edges.iter().map(|edge| &edge.name));
        let sites: Vec<Site> = names.map(|area| site(service, service.areas.get(area))).collect();
        match (service.cpu_per_request, service.cpu_use) {
            (Some(_), Some(_)) => self.fault(
                path.key("cpuUse"),
                "given beside cpuPerRequest: keep one, both say how much CPU requests cost",
            ),
            (None, None) if sites.iter().any(|site| site.cpu_request > CpuCores::ZERO) => self.fault(
                path.clone(),
                "cpuPerRequest (e.g. 2ms) or cpuUse (e.g. 500m) is missing: replicas follow the use over the request",
            ),
            _ => {}
        }
        Service {
            name: service.name.as_str().into(),
            response: service.response_size.0,
            overlap: service.overlap,
            hop_local: service.hops.local.0,
            hop_remote: service.hops.remote.0,
            cpu_per_request: service.cpu_per_request.map_or(CpuSeconds::ZERO, |time| time.0),
            pin: service.pin.into(),
            sites,
        }
    }

    fn check_threshold(&mut self, path: &Path, threshold: Ratio) {
        let threshold = threshold.as_f64();
        if !(threshold > 0.0 && threshold <= MAX_THRESHOLD) {
            self.fault(
                path.key("autoscalerThreshold"),
                format!("{threshold}: above 0 and at most {MAX_THRESHOLD}, e.g. 0.6 for 60 %"),
            );
        }
    }

    fn calls(&mut self) -> Vec<Call> {
        let mut pairs = BTreeSet::new();
        let mut calls = Vec::new();
        for (position, call) in self.file.calls.iter().enumerate() {
            let path = Path::root("calls").index(position);
            let caller = self.service(path.key("from"), &call.from);
            let callee = self.service(path.key("to"), &call.to);
            let (Some(caller), Some(callee)) = (caller, callee) else {
                continue;
            };
            if !pairs.insert((caller, callee)) {
                self.fault(
                    path.clone(),
                    format!(
                        "a call from `{}` to `{}` is there already: add the two up",
                        call.from, call.to
                    ),
                );
            }
            self.check_calls(&path, call.per_request.as_f64());
            calls.push(Call {
                caller,
                callee,
                per_request: call.per_request,
            });
        }
        calls
    }

    fn placement(&mut self) -> BTreeSet<(EdgeIx, ServiceIx)> {
        let mut placed = BTreeSet::new();
        for (position, edge) in self.file.edges.iter().enumerate() {
            for (number, name) in edge.placement.iter().enumerate() {
                let path = Path::root("edges").index(position).key("placement").index(number);
                let Some(service) = self.service(path.clone(), name) else {
                    continue;
                };
                if !placed.insert((EdgeIx(ordinal(position)), service)) {
                    self.fault(path, format!("`{name}` is there twice: keep one"));
                }
            }
        }
        placed
    }

    fn standby(&mut self, policy: StandbyPolicy) -> Standby {
        let path = Path::root("standby").key("cloudPercent");
        match (policy.form, policy.cloud_percent) {
            (StandbyForm::Failover, None) => Standby::Failover,
            (StandbyForm::Failover, Some(_)) => {
                self.fault(
                    path,
                    "with form failover nothing stays on the cloud: leave it out",
                );
                Standby::Failover
            }
            (StandbyForm::Distribute, None) => Standby::default(),
            (StandbyForm::Distribute, Some(percent)) => {
                if !(1..=99).contains(&percent) {
                    self.fault(
                        path,
                        format!("{percent}: from 1 to 99; for nothing on the cloud use form: failover"),
                    );
                }
                Standby::Distribute(percent)
            }
        }
    }
}

fn site(service: &file::Service, here: Option<&file::InArea>) -> Site {
    let requests = here.and_then(|here| here.requests).unwrap_or_default();
    let cpu = requests.cpu.or(service.requests.cpu);
    let memory = requests.memory.or(service.requests.memory);
    Site {
        own: here.and_then(|here| here.own_time).unwrap_or(service.own_time).0,
        cpu_request: cpu.map_or(CpuCores::ZERO, |cpu| cpu.0),
        memory_request: memory.map_or(Gigabytes::ZERO, |memory| memory.0),
        threshold: here
            .and_then(|here| here.autoscaler_threshold)
            .unwrap_or(service.autoscaler_threshold),
        min_replicas: here
            .and_then(|here| here.min_replicas)
            .unwrap_or(service.min_replicas),
    }
}

/// CPU time of a request = use over all areas / requests a second, which do not depend on the placement.
fn with_measured_use(file: &PlacementProblem, problem: Problem) -> Result<Problem, Vec<Fault>> {
    if file.services.iter().all(|service| service.cpu_use.is_none()) {
        return Ok(problem);
    }
    let rates = evaluate(
        &problem,
        &DensePlacement::cloud_only(&problem),
        &Shares::cloud_only(&problem),
    )
    .rates;
    let mut spec = problem.spec().clone();
    for (position, (service, written)) in spec.services.iter_mut().zip(&file.services).enumerate() {
        let Some(in_use) = written.cpu_use else { continue };
        let rate: f64 = problem
            .areas()
            .map(|area| rates.get(ServiceIx(ordinal(position)), area))
            .sum();
        if rate > 0.0 {
            service.cpu_per_request = CpuSeconds::nearest(in_use.0.as_f64() / rate);
        }
    }
    Problem::try_new(spec).map_err(|error| vec![of_model(file, &error)])
}

/// Positions are below [`MAX_SERVICES`].
fn ordinal(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
