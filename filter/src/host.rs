//! Calls into the host, each with the status that it returned.
#![expect(
    unsafe_code,
    reason = "declares and makes the calls of the proxy-wasm ABI 0.2.1"
)]
#![expect(
    clippy::unused_self,
    reason = "the receiver is the right to call the host: what it returns is borrowed"
)]

use std::ptr::null_mut;

use gma_filter_core::{Controller, HostError, Properties, Property, RawNode, Timestamp};
use proxy_wasm::types::{BufferType, LogLevel, Status};

use crate::memory;

// The SDK declares the same imports, with enums as results: a status that it does not list is undefined
// behaviour there, and a number here.
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_property(path: *const u8, size: usize, value: *mut *mut u8, value_size: *mut usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        most: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision_ns: u64, time_ns: *mut u64) -> u32;
    fn random_get(buffer: *mut u8, size: usize) -> u32;
}

const OK: u32 = Status::Ok as u32;
const NOT_FOUND: u32 = Status::NotFound as u32;

/// WASI's monotonic clock: a step of the wall clock must not stretch a window.
const MONOTONIC: u32 = 1;

/// The right to call the host. What it returns is borrowed from it, so that no call can free it too early.
pub(crate) struct Host(());

impl Host {
    /// There must be one at a time: callbacks make it, and no callback runs inside another.
    pub(crate) fn enter() -> Self {
        Self(())
    }

    /// A line in the proxy's log. A host that cannot log cannot be told so.
    pub(crate) fn log(&mut self, level: LogLevel, message: &str) {
        // SAFETY: address and length of a live text.
        let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
    }

    /// Time on the monotonic clock; 0 where the host has none: then nothing is ever due.
    pub(crate) fn now(&mut self) -> Timestamp {
        let mut nanos = 0;
        // SAFETY: the host writes one number.
        let _ = unsafe { clock_time_get(MONOTONIC, 1000, &raw mut nanos) };
        Timestamp::from_nanos(nanos)
    }

    /// A random number; 0 where the host has none.
    pub(crate) fn random(&mut self) -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: the host writes 8 bytes.
        let _ = unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
        u64::from_le_bytes(bytes)
    }

    /// Asks for `proxy_on_tick`; gives the status.
    pub(crate) fn set_tick_period(&mut self, milliseconds: u32) -> u32 {
        // SAFETY: a number.
        unsafe { proxy_set_tick_period_milliseconds(milliseconds) }
    }

    /// The first bytes of the plugin configuration or of an answer's body.
    pub(crate) fn buffer(&mut self, buffer: BufferType, most: usize) -> Option<&[u8]> {
        returned(|value, size| {
            // SAFETY: the host writes an address, from `memory::allocate`, and a length.
            unsafe { proxy_get_buffer_bytes(buffer as u32, 0, most, value, size) }
        })
        .unwrap_or(None)
    }

    /// Ends this VM where the request asks for it and leaves the proxy, or enters the mesh, here.
    #[cfg(feature = "trap")]
    pub(crate) fn trap_if_asked(&mut self) {
        let is_asked = |path: &[u8], wanted: &[u8]| {
            let value = property(path).ok().flatten();
            value.is_some_and(|value| value.starts_with(wanted))
        };
        if is_asked(b"request\0path", b"/gma-trap") && is_asked(b"xds\0cluster_name", b"outbound|") {
            self.log(LogLevel::Critical, "this VM ends, as a test asks");
            std::process::abort();
        }
    }

    /// What the host knows of this proxy.
    pub(crate) fn node(&mut self) -> RawNode {
        let read = |path: &[u8]| property(path).ok().flatten().map(<[u8]>::to_vec);
        RawNode {
            id: read(b"xds\0node\0id"),
            namespace: read(b"xds\0node\0metadata\0NAMESPACE"),
            workload: read(b"xds\0node\0metadata\0WORKLOAD_NAME"),
            cluster_id: read(b"xds\0node\0metadata\0CLUSTER_ID"),
            labels: read(b"xds\0node\0metadata\0LABELS"),
            locality: read(b"xds\0node\0locality"),
        }
    }

    /// Posts a report; gives the call's token or the status.
    pub(crate) fn post(&mut self, controller: &Controller, body: &[u8]) -> Result<u32, u32> {
        let headers = pairs(&[
            (":method", "POST"),
            (":path", &controller.path),
            (":authority", &controller.authority),
            ("content-type", gma_filter_core::CONTENT_TYPE),
        ]);
        let trailers = pairs(&[]);
        let timeout_ms = u32::try_from(controller.timeout.as_millis()).unwrap_or(u32::MAX);
        let mut token = 0;
        // SAFETY: addresses and lengths of live bytes; the host writes one number.
        let status = unsafe {
            proxy_http_call(
                controller.cluster.as_ptr(),
                controller.cluster.len(),
                headers.as_ptr(),
                headers.len(),
                body.as_ptr(),
                body.len(),
                trailers.as_ptr(),
                trailers.len(),
                timeout_ms,
                &raw mut token,
            )
        };
        if status == OK { Ok(token) } else { Err(status) }
    }
}

impl Properties for Host {
    fn read(&mut self, wanted: Property) -> Result<Option<&[u8]>, HostError> {
        property(path(wanted)).map_err(|_| HostError)
    }
}

/// The host's name of a property: parts with NUL between them.
const fn path(property: Property) -> &'static [u8] {
    match property {
        Property::ClusterName => b"xds\0cluster_name",
        Property::Code => b"response\0code",
        Property::Duration => b"request\0duration",
        Property::ResponseSize => b"response\0total_size",
        Property::Locality => b"upstream\0locality",
        Property::Flags => b"response\0flags",
        Property::GrpcTrailer => b"response\0trailers\0grpc-status",
        Property::GrpcHeader => b"response\0headers\0grpc-status",
        Property::RequestSize => b"request\0total_size",
        Property::Attempts => b"upstream\0request_attempt_count",
    }
}

fn property<'a>(path: &[u8]) -> Result<Option<&'a [u8]>, u32> {
    returned(|value, size| {
        // SAFETY: address and length of live bytes; the host writes an address and a length.
        unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) }
    })
}

/// Makes a call that returns bytes. The lifetime is the caller's to bound: the bytes live until the next call.
fn returned<'a>(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Option<&'a [u8]>, u32> {
    memory::clear();
    let (mut value, mut size) = (null_mut(), 0);
    match call(&raw mut value, &raw mut size) {
        OK if value.is_null() || size == 0 => Ok(Some(&[])),
        // SAFETY: the host wrote `size` bytes into memory that it had from `memory::allocate`.
        OK => Ok(Some(unsafe { std::slice::from_raw_parts(value, size) })),
        NOT_FOUND => Ok(None),
        status => Err(status),
    }
}

/// The ABI's form of a map: the number of pairs, their lengths, then keys and values, each with a NUL.
fn pairs(map: &[(&str, &str)]) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let mut bytes = u32::try_from(map.len()).unwrap_or(0).to_le_bytes().to_vec();
    for (key, value) in map {
        bytes.extend(length(key));
        bytes.extend(length(value));
    }
    for text in map.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}
