//! A host for the built filter that does what a test says: the other side of the ABI, without Envoy.
//!
//! It offers exactly the imports that the filter's own code uses; any other that is called fails the test.
//! Time stands still unless a test moves it.

mod imports;
mod request;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use gma_report::{Ack, Report, Verdict, decode, encode_ack};
use wasmi::{AsContextMut, Engine, Instance, Module, Store, TypedFunc, WasmParams, WasmResults};

pub use request::{Request, pairs};

/// How often the filter asks to be ticked.
pub const TICK: Duration = Duration::from_millis(250);

/// A status of the ABI.
pub const BAD_ARGUMENT: u32 = 2;
/// A status of the ABI.
pub const INTERNAL_FAILURE: u32 = 10;

/// A call that the filter made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCall {
    /// What the answer must name.
    pub token: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Headers by name.
    pub headers: BTreeMap<String, String>,
    /// The report.
    pub body: Vec<u8>,
    /// Longest wait that was asked for.
    pub timeout_ms: u32,
}

/// How the scripted controller answers a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A response with this body.
    Body(Vec<u8>),
    /// No connection, a reset or a timeout.
    Failure,
    /// Nothing ever, not even a failure.
    Never,
}

/// What the host knows and has seen.
#[derive(Debug, Default)]
pub(crate) struct State {
    now: Duration,
    random: u64,
    node: BTreeMap<String, Vec<u8>>,
    request: BTreeMap<String, Vec<u8>>,
    /// Properties whose read fails, with the status.
    broken: BTreeMap<String, u32>,
    configuration: Vec<u8>,
    response_body: Vec<u8>,
    refuse_calls: Option<u32>,
    calls: Vec<HttpCall>,
    last_token: u32,
    tick_period_ms: u32,
    log: Vec<(u32, String)>,
    /// Properties read since the last request began.
    reads: Vec<String>,
    host_calls: u32,
}

/// One VM with the filter in it.
#[derive(Debug)]
pub struct Host {
    store: Store<State>,
    instance: Instance,
}

/// Where the module is: `GMA_FILTER`, else where the build puts it.
pub fn module_path() -> PathBuf {
    let built = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/gma-filter.wasm"));
    std::env::var_os("GMA_FILTER").map_or_else(built, PathBuf::from)
}

/// The module, read and translated once for all tests of a process.
pub fn module() -> Result<&'static Module> {
    static MODULE: OnceLock<std::result::Result<Module, String>> = OnceLock::new();
    let load = || -> Result<Module> {
        let path = module_path();
        let bytes = std::fs::read(&path).with_context(|| {
            format!(
                "no filter at {}: build it with `make filter`, or name one in GMA_FILTER",
                path.display()
            )
        })?;
        let mut config = wasmi::Config::default();
        // Tests enter a part of the module only.
        config.compilation_mode(wasmi::CompilationMode::LazyTranslation);
        Ok(Module::new(&Engine::new(&config), bytes)?)
    };
    MODULE
        .get_or_init(|| load().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

// === impl Host: what Envoy does ===

impl Host {
    /// A new VM on a sidecar of workload `shopfront`.
    pub fn new() -> Result<Self> {
        let module = module()?;
        let state = State {
            now: Duration::from_secs(1000),
            random: 7,
            node: request::node(),
            ..State::default()
        };
        let mut store = Store::new(module.engine(), state);
        let instance = imports::linker(module)?.instantiate_and_start(&mut store, module)?;
        let mut host = Self { store, instance };
        host.enter::<(), ()>("_initialize", ())?;
        Ok(host)
    }

    /// Says who the proxy is; to be called before a configuration.
    pub fn set_node_id(&mut self, id: &str) {
        self.store
            .data_mut()
            .node
            .insert("xds.node.id".to_owned(), id.as_bytes().to_vec());
    }

    /// Takes a property of the node away.
    pub fn remove_node(&mut self, property: &str) {
        self.store.data_mut().node.remove(property);
    }

    /// A plugin configuration for a root context.
    pub fn configure(&mut self, root: u32, json: &str) -> Result<bool> {
        self.store.data_mut().configuration = json.as_bytes().to_vec();
        let accepted: u32 = self.enter("proxy_on_configure", (root, json.len() as u32))?;
        Ok(accepted != 0)
    }

    /// A request has ended. Gives the host calls that the filter made for it.
    pub fn log(&mut self, request: &Request) -> Result<u32> {
        let state = self.store.data_mut();
        state.request.clone_from(request.properties());
        state.reads.clear();
        let before = state.host_calls;
        // Envoy gives each stream a context of its own, of which the VM was never told.
        self.enter::<u32, ()>("proxy_on_log", 4711)?;
        let state = self.store.data_mut();
        state.request.clear();
        Ok(state.host_calls - before)
    }

    /// Calls the timer of a root context.
    pub fn tick(&mut self, root: u32) -> Result<()> {
        self.enter("proxy_on_tick", root)
    }

    /// Answers a call.
    pub fn answer(&mut self, root: u32, token: u32, reply: &Reply) -> Result<()> {
        let (headers, body) = match reply {
            Reply::Body(body) => (3, body.clone()),
            Reply::Failure => (0, Vec::new()),
            Reply::Never => return Ok(()),
        };
        let size = body.len() as u32;
        self.store.data_mut().response_body = body;
        self.enter("proxy_on_http_call_response", (root, token, headers, size, 0u32))
    }

    fn enter<P: WasmParams, R: WasmResults>(&mut self, name: &str, parameters: P) -> Result<R> {
        let function: TypedFunc<P, R> = self.instance.get_typed_func(&self.store, name)?;
        function
            .call(self.store.as_context_mut(), parameters)
            .with_context(|| format!("in {name}"))
    }
}

// === impl Host: what a test scripts and sees ===

impl Host {
    /// Time on the host's clock.
    pub fn now(&self) -> Duration {
        self.store.data().now
    }

    /// Moves the clock, without ticks.
    pub fn advance(&mut self, time: Duration) {
        self.store.data_mut().now += time;
    }

    /// Ticks each 250 ms for `time` and answers each call at once. Gives the calls.
    pub fn run(
        &mut self,
        root: u32,
        time: Duration,
        mut reply: impl FnMut(&HttpCall) -> Reply,
    ) -> Result<Vec<HttpCall>> {
        let end = self.now() + time;
        let mut seen = Vec::new();
        while self.now() < end {
            self.advance(TICK);
            self.tick(root)?;
            while let Some(call) = self.take_call() {
                self.answer(root, call.token, &reply(&call))?;
                seen.push(call);
            }
        }
        Ok(seen)
    }

    /// The oldest call that was not yet taken.
    pub fn take_call(&mut self) -> Option<HttpCall> {
        let calls = &mut self.store.data_mut().calls;
        (!calls.is_empty()).then(|| calls.remove(0))
    }

    /// From now on calls are refused with this status, or accepted again.
    pub fn refuse_calls(&mut self, status: Option<u32>) {
        self.store.data_mut().refuse_calls = status;
    }

    /// Reading this property fails with this status.
    pub fn break_property(&mut self, property: &str, status: u32) {
        self.store.data_mut().broken.insert(property.to_owned(), status);
    }

    /// Properties that were read for the last request, in order.
    pub fn reads(&self) -> &[String] {
        &self.store.data().reads
    }

    /// Lines of the log, with their level (4: error, 5: critical).
    pub fn lines(&self) -> &[(u32, String)] {
        &self.store.data().log
    }

    /// The timer that was asked for.
    pub fn tick_period_ms(&self) -> u32 {
        self.store.data().tick_period_ms
    }

    /// Size of the VM's linear memory.
    pub fn memory_bytes(&self) -> usize {
        self.instance
            .get_memory(&self.store, "memory")
            .map_or(0, |memory| memory.data_size(&self.store))
    }
}

// === the controller's side ===

/// The report of a call, checked as the controller checks it.
#[expect(clippy::panic, reason = "only tests call this")]
pub fn report(call: &HttpCall) -> Report {
    match decode(&call.body) {
        Ok(report) => report,
        Err(error) => panic!("the filter sent a report that the controller refuses: {error:?}"),
    }
}

/// An ack of this report, to be altered.
pub fn ack(call: &HttpCall) -> Ack {
    let head = report(call).head;
    let verdict = Verdict::Stored;
    Ack {
        vm: head.vm,
        seq: head.seq,
        verdict,
        next_ms: 0,
        resync: false,
        served_us: 0,
    }
}

/// Stores the report.
pub fn stored(call: &HttpCall) -> Reply {
    Reply::Body(encode_ack(&ack(call)))
}
