//! What the host calls. The names are ours; `gma-filter-link` gives them the ABI's after linking.
#![expect(unsafe_code, reason = "exports functions by name")]

use std::cell::{OnceCell, RefCell};

use gma_filter_core::{
    Answer, Call, Cause, Config, MAX_ACK_BYTES, Node, Session, TICK, Timestamp, Vm, config_hash,
};
use proxy_wasm::types::{BufferType, LogLevel, Status};

use crate::host::Host;
use crate::memory;

/// Name and version in every report.
const MODULE: &str = concat!("gma-filter ", env!("CARGO_PKG_VERSION"));

const BAD_ARGUMENT: u32 = Status::BadArgument as u32;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

thread_local! {
    /// Leaked, so that it needs no destructor and a request no check for one.
    static VM: OnceCell<&'static RefCell<Vm>> = const { OnceCell::new() };
}

/// Runs `act` on the VM's state. A callback inside a callback would find it taken and does nothing: the host
/// enters a VM for memory only while it serves a call.
fn with_vm<R>(host: &mut Host, act: impl FnOnce(&mut Vm, &mut Host) -> R) -> Option<R> {
    VM.with(|cell| {
        let vm = cell.get_or_init(|| Box::leak(Box::new(RefCell::new(Vm::new(host.random(), MODULE)))));
        Some(act(&mut *vm.try_borrow_mut().ok()?, host))
    })
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the host calls this once, first; nothing else calls the constructors.
    unsafe { __wasm_call_ctors() }
}

#[unsafe(export_name = "gma_on_memory_allocate")]
extern "C" fn on_memory_allocate(size: usize) -> *mut u8 {
    memory::allocate(size)
}

#[unsafe(export_name = "gma_on_log")]
extern "C" fn on_log(_stream: u32) {
    #[cfg(feature = "trap")]
    Host::enter().trap_if_asked();
    with_vm(&mut Host::enter(), Vm::observe);
}

/// Always true: a proxy must not refuse its traffic because it cannot be measured.
#[unsafe(export_name = "gma_on_configure")]
extern "C" fn on_configure(root: u32, size: usize) -> bool {
    with_vm(&mut Host::enter(), |vm, host| configure(vm, host, root, size));
    true
}

fn configure(vm: &mut Vm, host: &mut Host, root: u32, size: usize) {
    let json = if size == 0 {
        None
    } else {
        host.buffer(BufferType::PluginConfiguration, size)
    };
    let json = json.unwrap_or_default().to_vec();
    let session = Config::parse(&json)
        .map_err(|error| error.to_string())
        .and_then(|config| {
            let node = Node::read(host.node()).map_err(|error| error.to_string())?;
            Ok(Session {
                root,
                config,
                config_hash: config_hash(&json),
                node,
            })
        });
    let now = host.now();
    // A root without a good configuration ticks too: it tells older roots that it lives.
    let status = host.set_tick_period(TICK.as_millis() as u32);
    if status != Status::Ok as u32 {
        let message = format!("{MODULE}: cannot report: the host refused a timer, status {status}");
        host.log(LogLevel::Critical, &message);
    }
    match session {
        Ok(session) => {
            let cluster = &session.config.controller.cluster;
            host.log(
                LogLevel::Info,
                &format!("{MODULE}: measures, reports to {cluster}"),
            );
            vm.configure(session, now);
        }
        Err(error) => {
            vm.suspend(root, now);
            let message = format!(
                "{MODULE}: requests pass UNMEASURED: the plugin configuration cannot be used: {error}. \
                 Correct pluginConfig of the WasmPlugin; traffic is not affected."
            );
            host.log(LogLevel::Critical, &message);
        }
    }
}

#[unsafe(export_name = "gma_on_tick")]
extern "C" fn on_tick(root: u32) {
    with_vm(&mut Host::enter(), |vm, host| {
        let now = host.now();
        send(vm, host, root, now);
    });
}

fn send(vm: &mut Vm, host: &mut Host, root: u32, now: Timestamp) {
    let Some(body) = vm.tick(root, now) else { return };
    let Some(session) = vm.session() else { return };
    let notice = match host.post(&session.config.controller, &body) {
        Ok(token) => {
            vm.sent(Call { root, token }, now);
            None
        }
        Err(BAD_ARGUMENT) => vm.not_sent(Cause::NoCluster, now),
        Err(status) => vm.not_sent(Cause::Host(status), now),
    };
    if let Some(notice) = notice {
        host.log(LogLevel::Warn, &format!("{MODULE}: {notice}"));
    }
}

#[unsafe(export_name = "gma_on_http_call_response")]
extern "C" fn on_http_call_response(root: u32, token: u32, headers: u32, body_size: usize, _trailers: u32) {
    with_vm(&mut Host::enter(), |vm, host| {
        let now = host.now();
        // One byte more than an ack can have: then it is none, and need not be copied whole.
        let most = body_size.min(MAX_ACK_BYTES + 1);
        let body = match (headers, most) {
            (0, _) => None,
            (_, 0) => Some(&[][..]),
            _ => host.buffer(BufferType::HttpCallResponseBody, most),
        };
        let answer = body.map_or(Answer::None, Answer::Body);
        if let Some(notice) = vm.answered(Call { root, token }, answer, now) {
            host.log(LogLevel::Warn, &format!("{MODULE}: {notice}"));
        }
        // The next part, or what came up meanwhile.
        send(vm, host, root, now);
    });
}
