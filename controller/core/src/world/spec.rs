//! What a world is made of.

use std::time::Duration;

use crate::ids::{AreaName, ServiceName};

/// An application, its areas and their users.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Draws everything that is random in the world.
    pub seed: u64,
    /// Name of the cloud.
    pub cloud: AreaName,
    /// The services; users call the first. Callers come before what they call.
    pub services: Vec<ServiceSpec>,
    /// The edges.
    pub edges: Vec<EdgeSpec>,
    /// What an instance takes from its making until it is Ready, uniform between the two.
    pub start_up: (Duration, Duration),
    /// What written weights take to reach the proxies, uniform between the two.
    pub propagation: (Duration, Duration),
    /// Autoscalers own the replicas of all instances.
    pub autoscaled: bool,
    /// Standard deviation of the level that all own times follow, AR(1) from tick to tick with φ 0.9.
    pub level_sd: f64,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// Its host.
    pub name: ServiceName,
    /// Mean time of a request inside an idle instance, without what it calls, microseconds.
    pub own_us: f64,
    /// CPU time of a request, microseconds; a replica has one core.
    pub cpu_us: f64,
    /// Mean size of its answers.
    pub answer_bytes: f64,
    /// Replicas in the cloud at the start.
    pub replicas: usize,
    /// Calls: groups one after the other, the calls of a group at once.
    pub groups: Vec<Vec<CallSpec>>,
}

/// A call to another service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallSpec {
    /// Position of the service that is called, above the caller's.
    pub callee: usize,
    /// Mean calls per request.
    pub per_request: f64,
}

/// An edge, its link and its users.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSpec {
    /// Its name.
    pub name: AreaName,
    /// Round trip to the cloud, microseconds.
    pub rtt_us: f64,
    /// σ of the logarithm of what the link adds to half of it, beyond the fixed half.
    pub jitter: f64,
    /// Of the link, from the cloud to the edge, bits a second; none: never a limit.
    pub bandwidth: Option<f64>,
    /// Requests a second of its users.
    pub load: Load,
    /// Workers of its gateway; each has a filter of its own.
    pub workers: usize,
}

/// A rate over time: straight lines between points, level before the first and after the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Load(pub Vec<(Duration, f64)>);

// === impl Load ===

impl Load {
    /// The same rate for ever.
    pub fn constant(rate: f64) -> Self {
        Self(vec![(Duration::ZERO, rate)])
    }

    /// Requests a second at a time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use gma_core::world::Load;
    /// let second = Duration::from_secs;
    /// let ramp = Load(vec![(second(60), 40.0), (second(260), 500.0), (second(460), 40.0)]);
    /// assert_eq!([0, 60, 160, 260, 360, 900].map(|at| ramp.at(second(at))), [40.0, 40.0, 270.0, 500.0, 270.0, 40.0]);
    /// ```
    pub fn at(&self, at: Duration) -> f64 {
        let mut before: Option<(Duration, f64)> = None;
        for &(time, rate) in &self.0 {
            if time > at {
                return match before {
                    None => rate,
                    Some((from, start)) => {
                        let share = (at - from).as_secs_f64() / (time - from).as_secs_f64();
                        start + (rate - start) * share
                    }
                };
            }
            before = Some((time, rate));
        }
        before.map_or(0.0, |(_, rate)| rate)
    }
}
