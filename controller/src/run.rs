//! The commands, and the wiring of `gma run`: logs, platform, server, control loop, shutdown.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gma_core::decide::State;
use gma_core::measured::Learned;
use gma_local::{Client, Topology, World};
use gma_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::{Args, Command, LogArgs, LogFormat, RunArgs};
use crate::check;
use crate::control::ControlLoop;
use crate::convert;
use crate::http;
use crate::kubernetes;
use crate::memory::wall_unix_ms;
use crate::plan;
use crate::platform::file::StateFile;
use crate::platform::local::LocalPlatform;
use crate::platform::{Loaded, Platform as _};
use crate::shared::Shared;
use crate::simulate;
use crate::status;
use crate::uninstall;
use crate::verify;

/// Requests that are open at the end have this long to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the command to its end.
///
/// # Errors
/// What failed, where, and what to do.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Run(args) => run_to_end(args).map(|()| ExitCode::SUCCESS),
        Command::Status(args) => status::status(&args),
        Command::Explain(args) => status::explain(&args),
        Command::Check(args) => check::run(&args),
        Command::Uninstall(args) => uninstall::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Convert(args) => Ok(convert::run(&args).map(|()| ExitCode::SUCCESS)?),
        Command::Simulate(args) => simulate::main(&args).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::main(&args),
        Command::Crd => crd().map(|()| ExitCode::SUCCESS),
    }
}

fn crd() -> anyhow::Result<()> {
    let yaml = gma_k8s::api::crd_yaml()?;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(yaml.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough.
        Err(broken) if broken.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written"),
    }
}

fn run_to_end(run_args: RunArgs) -> anyhow::Result<()> {
    init_log(&run_args.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime could be started")?
        .block_on(run(run_args))
}

fn init_log(args: &LogArgs) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log_filter).with_context(|| {
        format!(
            "--log-filter `{}` is no filter, e.g. gma=debug,info",
            args.log_filter
        )
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Plain => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    // The port is taken before anything starts, so that a second controller ends with nothing to undo.
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "{} cannot be listened on: stop what uses it, or give another --listen",
            args.listen
        )
    })?;
    if args.local.is_some() {
        run_local(args, listener).await
    } else {
        kubernetes::run(&args.kubernetes, listener).await
    }
}

async fn run_local(args: RunArgs, listener: TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let topology = load_topology(args.local.flatten().as_deref(), address)?;
    let edges = topology.areas.edges.iter().map(|edge| edge.name.clone());
    let config = args
        .objective
        .to_config(topology.areas.cloud.name.clone(), edges)?;

    let (world, socket) = match args.world {
        Some(socket) => (None, socket),
        None => {
            let world = World::start(topology, None).await?;
            let socket = world.socket().to_owned();
            (Some(world), socket)
        }
    };
    // Beside the socket: a controller that is started again for the same world finds it, and one for another does not.
    let state = args
        .state
        .unwrap_or_else(|| socket.with_file_name("controller.json"));
    let file = StateFile::open(&state)?;
    info!(state = %file.path().display(), "the controller's state");
    let mut platform = LocalPlatform::new(Client::new(&socket), file);
    let memory = recall(platform.load().await?);

    let telemetry = Telemetry::new(gma_telemetry::Config::default());
    let shared = Arc::new(Shared::new(telemetry, memory.0.at));
    let shutdown = CancellationToken::new();
    let mut tasks = serve(listener, &shared, &shutdown);
    let control = ControlLoop::new(Arc::clone(&shared), platform, config, memory);
    tasks.spawn(control.run(shutdown.clone()));
    info!(%address, "listening; the page is at /");

    let result = until_end(tasks, &shutdown).await;
    if let Some(world) = world {
        world.stop().await;
    }
    result
}

/// The server as the first of the tasks whose end is the process's.
pub(crate) fn serve(
    listener: TcpListener,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
) -> JoinSet<anyhow::Result<()>> {
    let mut tasks = JoinSet::new();
    let server = http::serve(listener, Arc::clone(shared), shutdown.clone());
    tasks.spawn(async move {
        server.await;
        Ok(())
    });
    tasks
}

/// Waits for a signal or the end of a task, then ends all of them.
///
/// # Errors
/// A task ended by itself.
pub(crate) async fn until_end(
    mut tasks: JoinSet<anyhow::Result<()>>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let result = tokio::select! {
        signal = end_signal() => signal.map(|name| info!(signal = name, "ending")),
        Some(ended) = tasks.join_next() => {
            ended.context("a task panicked").flatten().and_then(|()| anyhow::bail!("a task ended by itself"))
        }
    };
    shutdown.cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended.context("a task panicked").flatten() {
                warn!(error = format!("{error:#}"), "failed while ending");
            }
        }
    });
    if drained.await.is_err() {
        warn!(seconds = DRAIN.as_secs(), "gave up waiting for open requests");
    }
    result
}

/// What to start from, and a line in the log that says so.
pub(crate) fn recall(loaded: Loaded) -> (State, Learned) {
    match loaded {
        Loaded::Nothing => Default::default(),
        Loaded::Memory(memory) => {
            let plans = memory
                .machine
                .state
                .edges
                .values()
                .filter_map(|edge| edge.phase.plan());
            for plan in plans {
                info!(edge = %plan.edge, id = plan.id, "goes on: {}", plan.sentence());
            }
            memory.resume(wall_unix_ms())
        }
        Loaded::SetAside { why, place } => {
            warn!(
                place = %place.display(),
                "the state that was found cannot be used and was set aside: {why}; starting from what runs"
            );
            Default::default()
        }
    }
}

/// The filters report to this controller wherever it listens, whatever a file says.
fn load_topology(path: Option<&Path>, controller: SocketAddr) -> anyhow::Result<Topology> {
    let mut topology = match path {
        Some(path) => Topology::read(path)?,
        None => Topology::embedded(controller)?,
    };
    topology.controller.address = controller;
    Ok(topology)
}

async fn end_signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
