//! An application from a seed, written as muBench writes it.
//!
//! Shape: a tree under `s0`, at most four deep, with `s0` calling in parallel and `s1` one after the other; some
//! subtrees are called in few requests, the others in all. Sleeps are then scaled so that the mean delay of a
//! request, without network and work, is the target.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{WorkModel, WorkModelError, mean_delay};

/// `s0`, its two children, and the two that `s1` calls in sequence.
const MIN_SERVICES: usize = 5;
/// A file of more would be no small application, and the tree would be searched in vain for room.
const MAX_SERVICES: usize = 200;
/// Levels below `s0`.
const MAX_DEPTH: usize = 3;
/// Draws behind the scaling: the mean is then within 1 % (the sd of a request's delay is about a third of it).
const SAMPLES: u32 = 2_000;
/// Part of a service's delay that varies, and the sigma of its logarithm.
const VARYING: f64 = 0.4;
const SIGMA: f64 = 0.5;

/// What the application should be like.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Namespace in the hosts, `s0.NAMESPACE.svc.cluster.local`.
    pub namespace: String,
    /// Mean delay of a request at `s0` without network and work, ms.
    pub delay_ms: f64,
    /// Probabilities of the calls that are rare.
    pub rare: (f64, f64),
    /// Share of the calls that are rare, of those that may be; at least two are.
    pub rare_share: f64,
    /// Mean sizes of answers, kB.
    pub response_kb: (f64, f64),
}

/// Why no application comes out.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Too few or too many.
    #[error("{0} services cannot be generated; ask for {MIN_SERVICES} to {MAX_SERVICES}")]
    Services(usize),
    /// The parameters make a model that the reader refuses.
    #[error("the parameters give no valid model: {0}")]
    Params(#[from] WorkModelError),
}

/// A service while the tree grows.
struct Node {
    depth: usize,
    delay_ms: f64,
    response_kb: f64,
    /// (callee, probability) by group.
    groups: Vec<Vec<(usize, f64)>>,
}

impl Default for Params {
    /// 45 ms of sleeps: with timers that round up to a millisecond and ten hops this gives 45 - 60 ms.
    fn default() -> Self {
        Self {
            namespace: "shop".to_owned(),
            delay_ms: 45.0,
            rare: (0.05, 0.3),
            rare_share: 0.3,
            response_kb: (1.0, 20.0),
        }
    }
}

/// Generates a model and its JSON. The same arguments give the same result.
///
/// # Errors
/// A number of services outside 5 … 200, or parameters out of range.
pub fn generate(seed: u64, services: usize, params: &Params) -> Result<(WorkModel, Value), GenerateError> {
    if !(MIN_SERVICES..=MAX_SERVICES).contains(&services) {
        return Err(GenerateError::Services(services));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut nodes = grow(services, params, &mut rng);
    let unscaled = WorkModel::try_from(&to_json(&nodes, params))?;
    let mean_ms = mean_delay(&unscaled, "s0", SAMPLES, &mut rng).as_secs_f64() * 1_000.0;
    for node in &mut nodes {
        node.delay_ms *= params.delay_ms / mean_ms;
    }
    let value = to_json(&nodes, params);
    Ok((WorkModel::try_from(&value)?, value))
}

fn grow(services: usize, params: &Params, rng: &mut StdRng) -> Vec<Node> {
    let rare_from = rng.random_range(5..=6);
    let mut nodes: Vec<Node> = Vec::with_capacity(services);
    for ix in 0..services {
        let parent = parent_of(ix, &nodes, rng);
        // s1 to s3 are always called; of the rest at least s4 and one more are rare.
        let rare = ix == 4 || ix == rare_from || (ix > 4 && rng.random::<f64>() < params.rare_share);
        let probability = if rare {
            round(rng.random_range(params.rare.0..=params.rare.1), 100.0)
        } else {
            1.0
        };
        let in_sequence = ix == 4 || (ix > 4 && parent != 0 && rng.random::<bool>());
        let depth = nodes.get(parent).map_or(0, |node| node.depth + 1);
        if let Some(node) = nodes.get_mut(parent) {
            match node.groups.last_mut().filter(|_| in_sequence) {
                Some(group) => group.push((ix, probability)),
                None => node.groups.push(vec![(ix, probability)]),
            }
        }
        nodes.push(Node {
            depth,
            delay_ms: rng.random_range(4.0..=12.0),
            response_kb: round(
                rng.random_range(params.response_kb.0..=params.response_kb.1),
                10.0,
            ),
            groups: Vec::new(),
        });
    }
    nodes
}

fn parent_of(ix: usize, nodes: &[Node], rng: &mut StdRng) -> usize {
    match ix {
        0..=2 => 0,
        3 | 4 => 1,
        _ => {
            let open: Vec<usize> = nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.depth < MAX_DEPTH)
                .map(|(ix, _)| ix)
                .collect();
            open.get(rng.random_range(0..open.len())).copied().unwrap_or(0)
        }
    }
}

fn to_json(nodes: &[Node], params: &Params) -> Value {
    let services = nodes.iter().enumerate().map(|(ix, node)| {
        let groups: Vec<Value> = node.groups.iter().map(|group| group_json(group)).collect();
        let loader = json!({
            "sleep_stress": {"run": true, "sleep_time": round(node.delay_ms * (1.0 - VARYING), 1_000.0) / 1_000.0},
            "mean_response_size": node.response_kb,
            "mean_bandwidth": node.response_kb,
        });
        let service = json!({
            "external_services": groups,
            "internal_service": {"loader": loader},
            "gma_delay": {"mean_ms": round(node.delay_ms * VARYING, 1_000.0), "sigma": SIGMA},
            "request_method": "rest",
            "url": format!("s{ix}.{}.svc.cluster.local", params.namespace),
            "path": super::DEFAULT_PATH,
        });
        (format!("s{ix}"), service)
    });
    Value::Object(services.collect())
}

fn group_json(group: &[(usize, f64)]) -> Value {
    let names: Vec<String> = group.iter().map(|(callee, _)| format!("s{callee}")).collect();
    let rare = group.iter().filter(|(_, probability)| *probability < 1.0);
    let probabilities: serde_json::Map<String, Value> = rare
        .map(|(callee, probability)| (format!("s{callee}"), json!(probability)))
        .collect();
    let mut value = json!({"seq_len": names.len(), "services": names});
    if let (Some(value), false) = (value.as_object_mut(), probabilities.is_empty()) {
        value.insert("probabilities".to_owned(), Value::Object(probabilities));
    }
    value
}

fn round(value: f64, per_unit: f64) -> f64 {
    (value * per_unit).round() / per_unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_keeps_the_promised_shape() {
        for seed in 0..10 {
            let (model, json) = generate(seed, 10, &Params::default()).unwrap();
            assert_eq!(model.services().count(), 10);
            assert_eq!(model.cycle(), None);
            assert!(
                model.get("s0").unwrap().behaviour.groups.len() >= 2,
                "s0 calls in parallel"
            );
            assert!(
                model.get("s1").unwrap().behaviour.groups[0].calls.len() >= 2,
                "s1 calls in sequence"
            );
            let calls: Vec<_> = model
                .services()
                .flat_map(|(_, service)| &service.behaviour.groups)
                .flat_map(|group| &group.calls)
                .collect();
            assert_eq!(calls.len(), 9, "a tree");
            let rare = calls.iter().filter(|call| call.probability < 1.0);
            assert!(rare.clone().all(|call| (0.05..=0.3).contains(&call.probability)));
            assert!((2..=6).contains(&rare.count()));
            assert_eq!(WorkModel::try_from(&json).unwrap(), model);
        }
    }

    #[test]
    fn sleeps_are_scaled_to_the_mean_that_is_asked_for() {
        for seed in 0..3 {
            let params = Params {
                delay_ms: 30.0,
                ..Params::default()
            };
            let (model, json) = generate(seed, 10, &params).unwrap();
            let mean = mean_delay(&model, "s0", 2_000, &mut StdRng::seed_from_u64(7)).as_secs_f64() * 1_000.0;
            // Two independent means of so many draws, each with a standard error under 0.3 ms.
            assert!((mean - 30.0).abs() < 4.0 * 0.43, "seed {seed}: {mean} ms");
            assert_eq!(json, generate(seed, 10, &params).unwrap().1);
        }
    }

    #[test]
    fn the_number_of_services_is_bounded() {
        let error = generate(1, 4, &Params::default()).unwrap_err().to_string();
        assert_eq!(error, "4 services cannot be generated; ask for 5 to 200");
        assert!(generate(1, 200, &Params::default()).is_ok());
    }
}
