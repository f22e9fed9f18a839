//! For the benchmark: a filter that does nothing, on the stock SDK.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::LogLevel;

struct Empty;

impl Context for Empty {}
impl HttpContext for Empty {}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_http_context(|_, _| Box::new(Empty));
}}
