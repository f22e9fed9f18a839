//! Applications to put into a world.

use std::time::Duration;

use super::draw::Draw;
use super::spec::{CallSpec, EdgeSpec, Load, ServiceSpec, Spec};
use crate::generate::{Recipe, RecipeError, generate};

/// Services of a drawn application.
const SERVICES: (usize, usize) = (4, 10);

impl Spec {
    /// A web shop with six services, one edge 60 ms and 400 Mbit/s away, and `load`: what the ramp runs on. CPU times are such that one
    /// replica serves about 250 requests a second; the front page's 100 kB fill the link at 500.
    pub fn shop(seed: u64, load: Load) -> Self {
        let service = |name: &str, own_ms: f64, answer_kb: f64, groups: &[&[(usize, f64)]]| ServiceSpec {
            name: name.into(),
            own_us: own_ms * 1e3,
            cpu_us: 2_400.0,
            answer_bytes: answer_kb * 1e3,
            replicas: 2,
            groups: groups
                .iter()
                .map(|group| {
                    let call = |&(callee, per_request): &(usize, f64)| CallSpec { callee, per_request };
                    group.iter().map(call).collect()
                })
                .collect(),
        };
        Self {
            seed,
            cloud: "cloud".into(),
            services: vec![
                service("front", 6.0, 100.0, &[&[(1, 1.0), (2, 0.8)], &[(3, 0.5)]]),
                service("catalog", 8.0, 30.0, &[&[(4, 0.4)]]),
                service("cart", 5.0, 5.0, &[&[(5, 0.5)]]),
                service("ads", 4.0, 20.0, &[]),
                service("images", 7.0, 40.0, &[]),
                service("store", 6.0, 5.0, &[]),
            ],
            edges: vec![EdgeSpec {
                name: "edge-1".into(),
                rtt_us: 60e3,
                jitter: 0.1,
                bandwidth: Some(400e6),
                load,
                workers: 2,
            }],
            start_up: (Duration::from_secs(3), Duration::from_secs(8)),
            propagation: (Duration::from_millis(200), Duration::from_millis(1500)),
            autoscaled: true,
            level_sd: 0.03,
        }
    }

    /// A drawn application of 4 to 10 services with 1 to 3 edges: every second one of [`crate::generate`], the others a
    /// random tree in which each service calls its children one after the other or all at once.
    ///
    /// # Errors
    /// None that a seed can cause; [`generate`] states it.
    pub fn drawn(seed: u64) -> Result<Self, RecipeError> {
        let mut draw = Draw::new(seed, 0);
        let count = SERVICES.0 + draw.below(SERVICES.1 - SERVICES.0 + 1);
        let parents = if draw.chance(0.5) {
            generated(count, seed)?
        } else {
            tree(count, &mut draw)
        };
        let autoscaled = draw.chance(0.6);
        let mut services: Vec<ServiceSpec> = Vec::with_capacity(count);
        for calls in parents {
            let mut groups: Vec<Vec<CallSpec>> = Vec::new();
            let at_once = draw.chance(0.5);
            for call in calls {
                match groups.last_mut() {
                    Some(group) if at_once => group.push(call),
                    _ => groups.push(vec![call]),
                }
            }
            services.push(ServiceSpec {
                name: format!("s{}", services.len()).as_str().into(),
                own_us: draw.between(2e3, 10e3),
                cpu_us: draw.between(300.0, 1_200.0),
                answer_bytes: draw.between(1e3, 40e3),
                replicas: 1 + draw.below(3),
                groups,
            });
        }
        let count = 1 + draw.below(100) / 60 + draw.below(100) / 85;
        let edges = (1..=count).map(|edge| EdgeSpec {
            name: format!("edge-{edge}").as_str().into(),
            rtt_us: draw.between(20e3, 120e3),
            jitter: draw.between(0.05, 0.3),
            bandwidth: draw.chance(0.5).then_some(1e9),
            load: Load::constant(draw.between(60.0, 250.0)),
            workers: 1 + draw.below(2),
        });
        let edges = edges.collect();
        let slow = draw.between(0.5, 5.0);
        Ok(Self {
            seed,
            cloud: "cloud".into(),
            services,
            edges,
            start_up: (Duration::from_secs(1), Duration::from_secs_f64(2.0 + slow * 3.0)),
            propagation: (
                Duration::from_millis(100),
                Duration::from_secs_f64(0.2 + slow / 2.0),
            ),
            autoscaled,
            level_sd: draw.between(0.0, 0.04),
        })
    }
}

impl Spec {
    /// Mean delay of a user request with everything in one area and no queue, about: parallel calls take as long as the
    /// longest of their means.
    pub fn local_us(&self) -> f64 {
        let mut delays = vec![0.0; self.services.len()];
        for (at, service) in self.services.iter().enumerate().rev() {
            let call = |call: &CallSpec| call.per_request * delays.get(call.callee).copied().unwrap_or(0.0);
            let groups = service.groups.iter();
            let inside: f64 = groups
                .map(|group| group.iter().map(call).fold(0.0, f64::max))
                .sum();
            if let Some(delay) = delays.get_mut(at) {
                *delay = service.own_us + inside;
            }
        }
        delays.first().copied().unwrap_or(0.0)
    }
}

fn generated(count: usize, seed: u64) -> Result<Vec<Vec<CallSpec>>, RecipeError> {
    let spec = generate(&Recipe::sweep(count), seed)?;
    let mut calls = vec![Vec::new(); count];
    for call in &spec.calls {
        if let Some(of_caller) = calls.get_mut(call.caller.position()) {
            of_caller.push(CallSpec {
                callee: call.callee.position(),
                // The simulators' 0.1 to 0.5 leave most services idle here.
                per_request: call.per_request.as_f64() * 2.0,
            });
        }
    }
    Ok(calls)
}

fn tree(count: usize, draw: &mut Draw) -> Vec<Vec<CallSpec>> {
    let mut calls = vec![Vec::new(); count];
    for callee in 1..count {
        let caller = draw.below(callee);
        let per_request = if draw.chance(0.5) {
            1.0
        } else {
            draw.between(0.2, 1.2)
        };
        if let Some(of_caller) = calls.get_mut(caller) {
            of_caller.push(CallSpec { callee, per_request });
        }
    }
    calls
}
