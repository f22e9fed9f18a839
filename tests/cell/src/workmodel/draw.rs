//! What one request does: all chance of a cell is here, so that a seed gives the same requests again.

use rand::{Rng, seq::index};
use std::time::Duration;

use super::{Behaviour, Delay, Function, WorkModel};

/// The course of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Digits of pi to compute; 0 where the function computes none.
    pub digits: u32,
    /// Delay beside the internal function.
    pub delay: Duration,
    /// Bytes of the answer.
    pub response_bytes: usize,
    /// Calls: an entry a group, in it (group, call) ordinals of the behaviour, in the order of the calls.
    pub calls: Vec<Vec<(usize, usize)>>,
}

/// Depth at which [`mean_delay`] stops following calls; only a cycle gets there.
const MAX_DEPTH: u32 = 64;

/// Draws one request. Groups without a call in this request are left out.
pub fn draw(behaviour: &Behaviour, delay: Option<&Delay>, rng: &mut impl Rng) -> Plan {
    let digits = match &behaviour.internal {
        Function::ComputePi { digits } => rng.random_range(digits.0..=digits.1),
        Function::Loader(loader) => loader
            .cpu
            .map_or(0, |cpu| rng.random_range(cpu.digits.0..=cpu.digits.1)),
        Function::Colosseum => 0,
    };
    Plan {
        digits,
        delay: delay.map_or(Duration::ZERO, |delay| delay.draw(rng)),
        response_bytes: behaviour.response.draw(rng),
        calls: draw_calls(behaviour, rng),
    }
}

fn draw_calls(behaviour: &Behaviour, rng: &mut impl Rng) -> Vec<Vec<(usize, usize)>> {
    let mut groups = Vec::with_capacity(behaviour.groups.len());
    for (group_ix, group) in behaviour.groups.iter().enumerate() {
        let size = group.calls.len();
        let turns: Vec<usize> = if group.seq_len < size {
            index::sample(rng, size, group.seq_len).into_vec()
        } else {
            (0..size).collect()
        };
        let calls: Vec<(usize, usize)> = turns
            .into_iter()
            .filter(|turn| {
                let probability = group.calls.get(*turn).map_or(0.0, |call| call.probability);
                rng.random::<f64>() < probability
            })
            .map(|turn| (group_ix, turn))
            .collect();
        if !calls.is_empty() {
            groups.push(calls);
        }
    }
    groups
}

/// Mean time of a request at `service` over `samples` draws, sleeps and delays only: no work, no network.
///
/// Groups run side by side, so the slowest counts; within a group times add up. A mean over draws, because the mean
/// of a maximum is not the maximum of means.
pub fn mean_delay(model: &WorkModel, service: &str, samples: u32, rng: &mut impl Rng) -> Duration {
    let sum: f64 = (0..samples).map(|_| one_delay(model, service, rng, 0)).sum();
    Duration::from_secs_f64(sum / f64::from(samples.max(1)))
}

fn one_delay(model: &WorkModel, service: &str, rng: &mut impl Rng, depth: u32) -> f64 {
    let Some(service) = model.get(service) else {
        return 0.0;
    };
    if depth == MAX_DEPTH {
        return 0.0;
    }
    let plan = draw(&service.behaviour, service.delay.as_ref(), rng);
    let sleep = match &service.behaviour.internal {
        Function::Loader(loader) => loader.sleep.unwrap_or_default(),
        Function::ComputePi { .. } | Function::Colosseum => Duration::ZERO,
    };
    let mut slowest = 0.0_f64;
    for group in &plan.calls {
        let mut sum = 0.0;
        for (group_ix, call_ix) in group {
            let call = service
                .behaviour
                .groups
                .get(*group_ix)
                .and_then(|group| group.calls.get(*call_ix));
            sum += call.map_or(0.0, |call| one_delay(model, &call.service, rng, depth + 1));
        }
        slowest = slowest.max(sum);
    }
    (sleep + plan.delay).as_secs_f64() + slowest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    fn model(text: &str) -> WorkModel {
        text.parse().unwrap()
    }

    #[test]
    fn probabilities_and_samples_are_kept() {
        let model = model(
            r#"{
            "s0": {"external_services": [
                {"seq_len": 2, "services": ["s1", "s2", "s3"]},
                {"seq_len": 9, "services": ["s1", "s2"], "probabilities": {"s1": 0.2}},
                {"seq_len": 1, "services": ["s3"], "probabilities": {"s3": 0}}]},
            "s1": {}, "s2": {}, "s3": {}}"#,
        );
        let mut rng = SmallRng::seed_from_u64(3);
        let s0 = model.get("s0").unwrap();
        let mut rare = 0;
        let mut sampled = [0; 3];
        for _ in 0..10_000 {
            let plan = draw(&s0.behaviour, None, &mut rng);
            assert_eq!(plan.calls.len(), 2, "the third group is never called");
            assert_eq!(plan.calls[0].len(), 2);
            plan.calls[0].iter().for_each(|(_, call)| sampled[*call] += 1);
            assert_eq!(*plan.calls[1].last().unwrap(), (1, 1));
            rare += plan.calls[1].len() - 1;
        }
        // Binomial, 4 standard deviations: 4 * sqrt(10,000 * 0.2 * 0.8) = 160; for 2 of 3: 189.
        assert!((1840..=2160).contains(&rare), "{rare}");
        assert!(
            sampled.iter().all(|count| (6478..=6856).contains(count)),
            "{sampled:?}"
        );
    }

    #[test]
    fn a_seed_gives_the_same_requests() {
        let model =
            model(r#"{"s0": {"external_services": [{"seq_len": 1, "services": ["s0", "s1"]}]}, "s1": {}}"#);
        let s0 = model.get("s0").unwrap();
        let plans = |seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            (0..20)
                .map(|_| draw(&s0.behaviour, None, &mut rng))
                .collect::<Vec<_>>()
        };
        assert_eq!(plans(1), plans(1));
        assert_ne!(plans(1), plans(2));
    }

    #[test]
    fn groups_overlap_and_calls_add_up() {
        let sleep = |ms: u32| {
            format!(
                r#""internal_service": {{"loader": {{"sleep_stress": {{"run": true, "sleep_time": {}}}}}}}"#,
                f64::from(ms) / 1000.0
            )
        };
        let text = format!(
            r#"{{"s0": {{{}, "external_services": [{{"services": ["s1", "s2"]}}, {{"services": ["s3"]}}]}},
                 "s1": {{{}}}, "s2": {{{}}}, "s3": {{{}}}}}"#,
            sleep(1),
            sleep(10),
            sleep(20),
            sleep(25)
        );
        let mean = mean_delay(&model(&text), "s0", 3, &mut SmallRng::seed_from_u64(1));
        assert_eq!(mean.as_millis(), 31);
    }
}
