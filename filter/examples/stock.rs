//! For the benchmark: the filter's measurement as the stock SDK suggests it. The same properties of each
//! request, the same histograms and counts, a map by text; reports nothing.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;
use std::collections::HashMap;

use hdrhistogram::Histogram;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::LogLevel;

/// Direction, service and the rest in the cluster's name; the locality's bytes; the code's class.
type Key = (String, Vec<u8>, i64);

#[derive(Default)]
struct Series {
    count: u32,
    sum_us: u64,
    response_bytes: u64,
    histogram: Option<Histogram<u32>>,
}

thread_local! {
    static SERIES: RefCell<HashMap<Key, Series>> = RefCell::new(HashMap::new());
}

struct Stock;

impl Context for Stock {}

impl HttpContext for Stock {
    fn on_log(&mut self) {
        let Some(cluster) = self.get_property(vec!["xds", "cluster_name"]) else {
            return;
        };
        let Ok(cluster) = String::from_utf8(cluster) else {
            return;
        };
        let duration_us = self.number(vec!["request", "duration"]).unwrap_or(0) / 1000;
        let code = self.number(vec!["response", "code"]).unwrap_or(0);
        let size = self.number(vec!["response", "total_size"]).unwrap_or(0);
        let locality = match cluster.starts_with("outbound|") {
            true => self
                .get_property(vec!["upstream", "locality"])
                .unwrap_or_default(),
            false => Vec::new(),
        };
        SERIES.with_borrow_mut(|all| {
            let series = all.entry((cluster, locality, code / 100)).or_default();
            series.count += 1;
            series.sum_us += duration_us.unsigned_abs();
            series.response_bytes += size.unsigned_abs();
            if series.histogram.is_none() {
                series.histogram = Histogram::new(2).ok();
            }
            if let Some(histogram) = &mut series.histogram {
                histogram.saturating_record(duration_us.unsigned_abs());
            }
        });
    }
}

impl Stock {
    fn number(&self, path: Vec<&str>) -> Option<i64> {
        let bytes = self.get_property(path)?;
        Some(i64::from_le_bytes(bytes.try_into().ok()?))
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_http_context(|_, _| Box::new(Stock));
}}
