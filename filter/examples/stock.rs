//! For the benchmark: the filter's measurement as the stock SDK suggests it. The same properties, in the same
//! cases, the same counts, sums and histograms, maps by text; reports nothing.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;
use std::collections::HashMap;

use hdrhistogram::Histogram;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::LogLevel;

const HIGHEST_US: u64 = 60_000_000;
/// UH, UF, UC, UR, UT, UO: nothing answered.
const NOTHING_ANSWERED: i64 = 0xf6;
const GRPC_SERVER_ERRORS: [u32; 8] = [1, 2, 4, 8, 12, 13, 14, 15];

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Ok,
    ClientError,
    ServerError,
    NoResponse,
    Cancelled,
}

#[derive(Default)]
struct Series {
    count: u32,
    long_count: u32,
    sum_us: u64,
    response_bytes: u64,
    sampled: u32,
    sampled_request_bytes: u64,
    sampled_attempts: u64,
    histogram: Option<Histogram<u32>>,
}

#[derive(Default)]
struct Cluster {
    answers: u32,
    shows_grpc: bool,
    /// By the locality's bytes and the outcome.
    series: HashMap<(Vec<u8>, Outcome), Series>,
}

struct State {
    clusters: HashMap<String, Cluster>,
    unmeasured: u64,
    until_sample: u32,
    random: u32,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State {
        clusters: HashMap::new(),
        unmeasured: 0,
        until_sample: 16,
        random: 1,
    });
}

struct Stock;

impl Context for Stock {}

impl HttpContext for Stock {
    fn on_log(&mut self) {
        STATE.with_borrow_mut(|state| {
            if self.measure(state).is_none() {
                state.unmeasured += 1;
            }
        });
    }
}

impl Stock {
    fn measure(&self, state: &mut State) -> Option<()> {
        let name = String::from_utf8(self.get_property(vec!["xds", "cluster_name"])?).ok()?;
        let is_outbound = name.starts_with("outbound|");
        if !is_outbound && !name.starts_with("inbound|") {
            return None;
        }
        let code = self.number(vec!["response", "code"]);
        let duration_us = self.number(vec!["request", "duration"])?.unsigned_abs() / 1000;
        let cluster = state.clusters.entry(name).or_default();
        let outcome = self.outcome(cluster, code);
        let is_long = duration_us > HIGHEST_US || code == Some(101);
        let is_answer = !is_long && outcome != Outcome::Cancelled;
        let size = match is_answer {
            true => self.number(vec!["response", "total_size"]).unwrap_or(0),
            false => 0,
        };
        let locality = match is_outbound {
            true => self
                .get_property(vec!["upstream", "locality"])
                .unwrap_or_default(),
            false => Vec::new(),
        };
        let series = cluster.series.entry((locality, outcome)).or_default();
        if is_long {
            series.long_count += 1;
            return Some(());
        }
        series.count += 1;
        if is_answer {
            series.sum_us += duration_us;
            series.response_bytes += size.unsigned_abs();
            if series.histogram.is_none() {
                series.histogram = Histogram::new(2).ok();
            }
            series.histogram.as_mut()?.record(duration_us).ok()?;
            state.until_sample -= 1;
            if state.until_sample == 0 {
                state.random = state.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.until_sample = 1 + (state.random >> 16) % 31;
                self.sample(series);
            }
        }
        Some(())
    }

    fn outcome(&self, cluster: &mut Cluster, code: Option<i64>) -> Outcome {
        match code {
            None | Some(0) => Outcome::Cancelled,
            Some(200) => self.grpc_outcome(cluster),
            Some(502..=504) => {
                let flags = self.number(vec!["response", "flags"]).unwrap_or(0);
                match flags & NOTHING_ANSWERED {
                    0 => Outcome::ServerError,
                    _ => Outcome::NoResponse,
                }
            }
            Some(..=399) => Outcome::Ok,
            Some(400..=499) => Outcome::ClientError,
            Some(500..) => Outcome::ServerError,
        }
    }

    /// Asked in the first 16 answers of a cluster, then in 1 of 64, and always once it has shown a status.
    fn grpc_outcome(&self, cluster: &mut Cluster) -> Outcome {
        let number = cluster.answers;
        cluster.answers = number.wrapping_add(1);
        if !cluster.shows_grpc && number >= 16 && !number.is_multiple_of(64) {
            return Outcome::Ok;
        }
        let trailer = self.get_property(vec!["response", "trailers", "grpc-status"]);
        let status = trailer.or_else(|| self.get_property(vec!["response", "headers", "grpc-status"]));
        let Some(status) = status else {
            return Outcome::Ok;
        };
        cluster.shows_grpc = true;
        let status = String::from_utf8(status).ok().and_then(|text| text.parse().ok());
        match status {
            Some(0) => Outcome::Ok,
            Some(status) if !GRPC_SERVER_ERRORS.contains(&status) => Outcome::ClientError,
            _ => Outcome::ServerError,
        }
    }

    fn sample(&self, series: &mut Series) {
        let request_bytes = self.number(vec!["request", "total_size"]);
        let attempts = self.number(vec!["upstream", "request_attempt_count"]);
        if let (Some(request_bytes), Some(attempts)) = (request_bytes, attempts) {
            series.sampled += 1;
            series.sampled_request_bytes += request_bytes.unsigned_abs();
            series.sampled_attempts += attempts.unsigned_abs();
        }
    }

    fn number(&self, path: Vec<&str>) -> Option<i64> {
        let bytes = self.get_property(path)?;
        Some(i64::from_le_bytes(bytes.try_into().ok()?))
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_http_context(|_, _| Box::new(Stock));
}}
