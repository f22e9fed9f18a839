//! Incremental evaluation is full evaluation, after any sequence of changes.

use proptest::prelude::*;

use super::tests::{SERVICES, placement, specs};
use super::*;
use crate::units::{CpuCores, Gigabytes, Ratio};

fn near(ours: f64, full: f64) -> bool {
    (ours - full).abs() <= 1e-9 * full.abs().max(1e-9)
}

/// Drops what calls back, or what runs at once: each has code of its own.
fn shaped(mut spec: Spec, acyclic: bool, serial: bool) -> Spec {
    if acyclic {
        spec.calls.retain(|call| call.caller < call.callee);
    }
    if serial {
        spec.services
            .iter_mut()
            .for_each(|service| service.overlap = Ratio::nearest(1.0));
    }
    spec
}

fn capacity(pods: u32) -> Capacity {
    Capacity {
        cpu: Some(CpuCores::nearest(f64::from(pods))),
        memory: Some(Gigabytes::ZERO),
        pods: Some(pods),
    }
}

proptest! {
    #[test]
    fn any_sequence_of_changes_ends_where_a_full_evaluation_does(
        spec in specs(2),
        (acyclic, serial) in any::<(bool, bool)>(),
        start in any::<u32>(),
        changes in prop::collection::vec((0..2_u32, prop::collection::vec(0..SERVICES as u32, 1..4)), 1..20),
        pods in 1..40_u32,
    ) {
        let mut spec = shaped(spec, acyclic, serial);
        spec.edges[1].capacity = capacity(pods);
        let problem = Problem::try_new(spec).unwrap();
        let mut placement = placement(&problem, start);
        let mut ours = Incremental::new(&problem, &placement);
        for (edge, services) in changes {
            let edge = EdgeIx(edge);
            let mut services: Vec<ServiceIx> = services.into_iter().map(ServiceIx).collect();
            services.sort_unstable();
            services.dedup();
            let (before, peek) = (ours.look(edge), ours.peek(edge, &services));
            prop_assert_eq!(ours.look(edge), before);
            ours.flip_all(edge, &services);
            for service in services {
                placement.set(edge, service, !placement.contains(edge, service));
            }
            let full = evaluate(&problem, &placement, &Shares::resting(&problem, &placement));
            for (edge, _) in problem.edges() {
                let delay = full.edges[edge.position()].delay.as_f64();
                prop_assert!(near(ours.delay_us(edge), delay), "{} {delay}", ours.delay_us(edge));
            }
            let cost = full.cost.total().as_f64();
            prop_assert!(near(ours.cost(), cost), "{} {cost}", ours.cost());
            let there: u32 = problem.services().map(|(j, _)| full.replicas.get(j, AreaIx::Edge(EdgeIx(1)))).sum();
            prop_assert_eq!(ours.fits(), there <= pods);
            prop_assert_eq!(ours.placement(), placement.clone());
            prop_assert!(near(peek.delay_us, ours.delay_us(edge)) && near(peek.cost, ours.cost()));
        }
    }
}
