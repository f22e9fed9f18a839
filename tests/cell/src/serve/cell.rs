//! The answer to one request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Config, ServeError, Targets,
    calls::{Caller, Context, Outgoing, Target, forwarded},
    fault::Fault,
    metrics::{Metrics, Served},
    trace, work,
};
use crate::workmodel::{Behaviour, Plan, Service, draw};

/// Largest POST body. A trace of a request has some kilobytes; muBench pads to what a user asks for.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Answers up to this size share one block of memory.
const FILLER: &[u8] = &[b'm'; 64 * 1024];

/// A service that answers.
#[derive(Debug)]
pub(super) struct Cell {
    name: String,
    service: Service,
    targets: Targets,
    caller: Caller,
    metrics: Metrics,
    fault: Fault,
    zone: HeaderValue,
    seed: u64,
    requests: AtomicU64,
    in_flight: AtomicUsize,
}

/// Why a request gets another answer than 200.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("Error in external services request")]
    Child,
    #[error("told to fail")]
    Fault,
    #[error("internal function: {0}")]
    Internal(#[from] std::io::Error),
}

/// Counts a request as in flight until it is dropped, answered or not.
struct InFlight<'a>(&'a AtomicUsize);

// === impl Cell ===

impl Cell {
    pub(super) fn new(config: Config) -> Result<Self, ServeError> {
        let Config {
            model,
            service: name,
            egress,
            host_suffix,
            zone,
            app,
            seed,
            listen: _,
            faults: _,
        } = config;
        let Some(service) = model.get(&name).cloned() else {
            let known: Vec<&str> = model.services().map(|(name, _)| name).collect();
            return Err(ServeError::UnknownService {
                service: name,
                known: known.join(", "),
            });
        };
        // All services, not only its callees: a trace may name any.
        let targets = model
            .services()
            .map(|(name, service)| Ok((name.to_owned(), Target::new(name, service, egress, &host_suffix)?)))
            .collect::<Result<Targets, ServeError>>()?;
        Ok(Self {
            metrics: Metrics::new(&zone, &app, &name, &service.path, &targets),
            zone: HeaderValue::from_str(&zone).map_err(|_| ServeError::Zone(zone))?,
            seed: seed ^ fnv1a(&name),
            caller: Caller::new(),
            fault: Fault::default(),
            requests: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            name,
            service,
            targets,
        })
    }

    /// What is wrong with it.
    pub(super) const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Requests on the service's route that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match request.uri().path() {
            path if path == self.service.path => self.work(request).await,
            "/healthz" => text(StatusCode::OK, Bytes::from_static(b"ok\n")),
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.metrics.text().into());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            _ => refuse(
                StatusCode::NOT_FOUND,
                &format!("no such route; the service answers on {}", self.service.path),
            ),
        }
    }

    async fn work(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.in_flight.fetch_add(1, Relaxed);
        let _in_flight = InFlight(&self.in_flight);
        let method = request.method().clone();
        if method != Method::GET && method != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST");
        }
        let headers = forwarded(request.headers());
        let performed = if self.fault.fails(request.uri().query()) {
            Err(Refusal::Fault)
        } else {
            self.perform(request, &headers).await
        };
        let mut response = match performed {
            Ok(served) => {
                self.metrics.served(&method, served);
                text(StatusCode::OK, filler(served.bytes))
            }
            Err(refusal @ Refusal::BadRequest(_)) => refuse(StatusCode::BAD_REQUEST, &refusal.to_string()),
            Err(refusal) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &refusal.to_string()),
        };
        response.headers_mut().extend(headers);
        response.headers_mut().insert("x-cell-zone", self.zone.clone());
        response
    }

    async fn perform(
        self: &Arc<Self>,
        request: Request<Incoming>,
        headers: &http::HeaderMap,
    ) -> Result<Served, Refusal> {
        let query = request
            .uri()
            .query()
            .filter(|query| !query.is_empty())
            .map(Arc::from);
        let behaviour = self.behaviour(query.as_deref());
        let plan = draw(behaviour, self.service.delay.as_ref(), &mut self.next_rng());
        let groups = self.groups(request, behaviour, &plan).await?;

        let start = Instant::now();
        work::perform(&behaviour.internal, plan.digits).await?;
        if plan.delay > Duration::ZERO {
            tokio::time::sleep(plan.delay).await;
        }
        let between = Instant::now();
        let context = Context {
            headers: Arc::new(headers.clone()),
            query,
        };
        if !self.call_groups(groups, &context).await {
            return Err(Refusal::Child);
        }
        Ok(Served {
            internal: between - start,
            external: between.elapsed(),
            bytes: plan.response_bytes,
        })
    }

    fn behaviour(&self, query: Option<&str>) -> &Behaviour {
        let mut pairs = query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let bid = pairs.find(|(key, _)| *key == "bid").map(|(_, value)| value);
        bid.and_then(|bid| self.service.alternatives.get(bid))
            .unwrap_or(&self.service.behaviour)
    }

    /// The calls of this request: as its trace says, else as drawn.
    async fn groups(
        &self,
        request: Request<Incoming>,
        behaviour: &Behaviour,
        plan: &Plan,
    ) -> Result<Vec<Vec<Outgoing>>, Refusal> {
        let is_trace = request.method() == Method::POST
            && request
                .headers()
                .get("request-type")
                .is_none_or(|kind| !kind.as_bytes().eq_ignore_ascii_case(b"iot"));
        if request.method() == Method::POST {
            let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
            let body = body
                .map_err(|error| Refusal::BadRequest(format!("the body cannot be read: {error}")))?
                .to_bytes();
            if is_trace && !body.is_empty() {
                return self.traced(&body);
            }
        }
        let outgoing = |(group_ix, call_ix): &(usize, usize)| {
            let call = behaviour.groups.get(*group_ix)?.calls.get(*call_ix)?;
            self.outgoing(&call.service, None)
        };
        Ok(plan
            .calls
            .iter()
            .map(|group| group.iter().filter_map(outgoing).collect())
            .collect())
    }

    fn traced(&self, body: &[u8]) -> Result<Vec<Vec<Outgoing>>, Refusal> {
        let bad = |what: String| Refusal::BadRequest(what);
        let groups = trace::parse(body, &self.name).map_err(|error| bad(error.to_string()))?;
        let mut out = Vec::with_capacity(groups.len());
        for trace::Calls(calls) in groups {
            let mut group = Vec::with_capacity(calls.len());
            for (key, callee_groups) in calls {
                let service = trace::name(&key).to_owned();
                let rest = serde_json::to_vec(&trace::Calls(vec![(key, callee_groups)]));
                let rest = rest.map_err(|error| bad(error.to_string()))?;
                let outgoing = self.outgoing(&service, Some(rest.into()));
                group.push(
                    outgoing.ok_or_else(|| {
                        bad(format!("the trace calls {service}, which the work model lacks"))
                    })?,
                );
            }
            out.push(group);
        }
        Ok(out)
    }

    fn outgoing(&self, service: &str, trace: Option<Bytes>) -> Option<Outgoing> {
        let target = self.targets.get(service)?.clone();
        Some(Outgoing {
            service: service.to_owned(),
            target,
            trace,
        })
    }

    /// Makes all calls, the groups side by side. A failed call does not keep the others from being made.
    async fn call_groups(self: &Arc<Self>, mut groups: Vec<Vec<Outgoing>>, context: &Context) -> bool {
        let Some(last) = groups.pop() else { return true };
        // Dropped, and so stopped, with this request.
        let mut others = JoinSet::new();
        for group in groups {
            let (cell, context) = (Arc::clone(self), context.clone());
            others.spawn(async move { cell.call_group(group, &context).await });
        }
        let mut all_well = self.call_group(last, context).await;
        while let Some(done) = others.join_next().await {
            all_well &= done.unwrap_or(false);
        }
        all_well
    }

    async fn call_group(&self, group: Vec<Outgoing>, context: &Context) -> bool {
        let mut all_well = true;
        for outgoing in group {
            let callee = outgoing.service.clone();
            if let Err(error) = self.caller.call(outgoing, context).await {
                tracing::debug!(%error, callee, "call failed");
                self.metrics.call_failed(&callee);
                all_well = false;
            }
        }
        all_well
    }

    fn next_rng(&self) -> SmallRng {
        // A generator a request: what one draws does not depend on how requests interleave.
        SmallRng::seed_from_u64(self.seed.wrapping_add(self.requests.fetch_add(1, Relaxed)))
    }
}

// === impl InFlight ===

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn text(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "message": message }).to_string();
    let mut response = text(status, body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn filler(bytes: usize) -> Bytes {
    FILLER
        .get(..bytes)
        .map_or_else(|| Bytes::from(vec![b'm'; bytes]), Bytes::from_static)
}

/// A hash that is the same in every build; it only tells the services of a seed apart.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
