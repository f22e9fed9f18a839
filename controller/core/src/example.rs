//! A small application that the documentation's examples share.

use crate::model::{
    Area, Call, Capacity, Edge, Pin, Prices, Problem, Service, ServiceIx, Site, Spec, Standby,
};
use crate::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Money, Ratio, Rps,
};

/// `front` calls `cart` and `users` once a request; 100 requests/s enter at one edge, 80 ms and 1 Gbit/s from the cloud.
/// Own times are 5, 10 and 5 ms, answers 10 kB.
#[doc(hidden)]
pub fn problem() -> Problem {
    let one = CallsPerRequest::nearest(1.0);
    let area = |name: &str, cpu_core_hour| Area {
        name: name.into(),
        prices: Prices {
            cpu_core_hour: Money::nearest(cpu_core_hour),
            memory_gb_hour: Money::ZERO,
        },
        localities: 1,
    };
    let service = |name: &str, own_ms: f64| Service {
        name: name.into(),
        response: Bytes::nearest(10_000.0),
        overlap: Ratio::nearest(1.0),
        hop_local: Micros::ZERO,
        hop_remote: Micros::ZERO,
        cpu_per_request: CpuSeconds::nearest(0.01),
        pin: Pin::Free,
        sites: vec![
            Site {
                own: Micros::nearest(own_ms * 1e3),
                cpu_request: CpuCores::nearest(1.0),
                memory_request: Gigabytes::ZERO,
                threshold: Ratio::nearest(0.6),
                min_replicas: 1,
            };
            2
        ],
    };
    let spec = Spec {
        cloud: area("cloud", 0.02),
        edges: vec![Edge {
            standby: None,
            area: area("edge", 0.03),
            rtt: Micros::nearest(80_000.0),
            bandwidth: Some(BitsPerSecond::nearest(1e9)),
            traffic_gb: Money::nearest(0.02),
            rate: Rps::nearest(100.0),
            user_calls: vec![(ServiceIx(0), one)],
            measured: None,
            capacity: Capacity::default(),
            target: None,
        }],
        services: vec![
            service("front", 5.0),
            service("cart", 10.0),
            service("users", 5.0),
        ],
        calls: [1, 2]
            .map(|callee| Call {
                caller: ServiceIx(0),
                callee: ServiceIx(callee),
                per_request: one,
            })
            .into(),
        standby: Standby::Distribute(1),
    };
    #[expect(
        clippy::expect_used,
        reason = "a constant, checked by every example that uses it"
    )]
    Problem::try_new(spec).expect("the example is a valid problem")
}
