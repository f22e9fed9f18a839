//! `gma-cell`: serves one service of a muBench work model, makes load, generates work models.
#![forbid(unsafe_code)]

mod args;

use std::{
    io::{BufRead, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use gma_cell::{
    load::{self, Report, Target, closed},
    serve::{self, Bound},
    workmodel::{self, WorkModel},
};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Command, GenerateArgs, LoadArgs, ServeArgs};

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("RUST_LOG")
                .unwrap_or_else(|_| "info,gma_cell=info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    if args.die_with_parent {
        set_parent_process_death_signal(Some(Signal::KILL))
            .context("cannot tie this process to its parent")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match args.command {
        Command::Serve(args) => runtime.block_on(serve(args)),
        Command::Load(args) if args.closed => runtime.block_on(load_closed(args)),
        Command::Load(args) => runtime.block_on(load_open(args)),
        Command::Generate(args) => generate(&args),
    }
}

async fn serve(args: ServeArgs) -> Result<()> {
    let model = WorkModel::read(&args.workmodel)?;
    if let Some(cycle) = model.cycle() {
        tracing::warn!(
            cycle = cycle.join(" -> "),
            "services call each other in a cycle: only probabilities end it"
        );
    }
    let (service, zone) = (args.service.clone(), args.zone.clone());
    let config = serve::Config {
        model,
        app: args.app.unwrap_or_else(|| args.service.clone()),
        service: args.service,
        listen: args.listen,
        egress: args.egress,
        host_suffix: args.host_suffix,
        zone: args.zone,
        seed: args.seed,
        faults: args.faults,
    };
    let bound = Bound::bind(config).await?;
    // For whoever gave port 0.
    println!("listening on {}", bound.local_addr());
    tracing::info!(%service, %zone, addr = %bound.local_addr(), "cell serves");
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (told, stop) = tokio::sync::oneshot::channel();
    let serving = bound.run(async { stop.await.unwrap_or(()) }, args.grace.0);
    tokio::pin!(serving);
    tokio::select! {
        _ = &mut serving => bail!("the cell stopped by itself"),
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    let _ = told.send(());
    tokio::select! {
        cut = serving => {
            if cut > 0 {
                bail!("{cut} requests were cut off after the grace period of {}", args.grace);
            }
        }
        _ = term.recv() => bail!("stopped by a second signal"),
        _ = int.recv() => bail!("stopped by a second signal"),
    }
    Ok(())
}

async fn load_open(args: LoadArgs) -> Result<()> {
    let Some(rate_per_sec) = args.rate else {
        bail!("--rate is missing; give requests a second, or --closed")
    };
    let config = load::Config {
        target: Target::new(&args.url, args.host.as_deref(), &args.header)?,
        rate_per_sec,
        arrivals: if args.poisson {
            load::Arrivals::Poisson
        } else {
            load::Arrivals::Constant
        },
        duration: args.duration.map(|duration| duration.0),
        connections: args.connections,
        timeout: args.timeout.0,
        seed: args.seed,
    };
    // The threads of the load are its own; this one only watches.
    let run = load::start(config)?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    let mut shown = 0;
    while !run.is_finished() {
        tokio::select! {
            _ = int.recv() => break,
            _ = term.recv() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        let live = run.live();
        if !args.quiet && live.elapsed.as_secs() > shown {
            shown = live.elapsed.as_secs();
            let mean = live.mean_last_second.map_or("-".to_owned(), |mean| {
                format!("{:.1} ms", mean.as_secs_f64() * 1e3)
            });
            let failed: u64 = live.failed.values().sum();
            eprintln!(
                "{shown:>5} s  sent {}  ok {}  failed {failed}  mean of the last second {mean}",
                live.sent, live.ok
            );
        }
    }
    let report = run.stop();
    print_open(&report);
    write_json(args.json.as_deref(), &report)
}

async fn load_closed(args: LoadArgs) -> Result<()> {
    let target = Target::new(&args.url, args.host.as_deref(), &args.header)?;
    if args.connections == 0 {
        bail!("--connections is 0; give at least 1");
    }
    let counters = Arc::new(closed::Counters::default());
    if args.count_on_stdin {
        let counters = Arc::clone(&counters);
        std::thread::spawn(move || answer_counts(&counters));
    } else if args.duration.is_none() {
        bail!("--duration is missing; a closed loop without --count-on-stdin needs an end");
    }
    let report = closed::run(
        target,
        args.connections,
        args.duration.map(|duration| duration.0),
        counters,
    )
    .await;
    println!(
        "{} completed, {} failed in {:.1} s: {:.0} a second",
        report.completed, report.failed, report.seconds, report.per_second
    );
    print_times("send to answer", &report.service_time_ms);
    write_json(args.json.as_deref(), &report)
}

/// One line `completed failed` for each line that comes in; the end of the input ends the process.
fn answer_counts(counters: &closed::Counters) {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let written = line.and_then(|_| {
            writeln!(out, "{} {}", counters.completed(), counters.failed())?;
            out.flush()
        });
        if written.is_err() {
            break;
        }
    }
    std::process::exit(0);
}

fn print_open(report: &Report) {
    println!(
        "{} sent in {:.1} s, {} ok, {} failed, {} unsent, {} reconnects",
        report.sent,
        report.seconds,
        report.ok,
        report.failed_total(),
        report.unsent,
        report.reconnects
    );
    for (kind, count) in &report.failed {
        println!("  failed: {kind} {count}");
    }
    print_times("due to answer", &report.latency_ms);
    print_times("send to answer", &report.service_time_ms);
}

fn print_times(what: &str, times: &load::Summary) {
    println!(
        "  {what}, ms: mean {:.2}  p50 {:.2}  p90 {:.2}  p95 {:.2}  p99 {:.2}  max {:.2}",
        times.mean, times.p50, times.p90, times.p95, times.p99, times.max
    );
}

fn generate(args: &GenerateArgs) -> Result<()> {
    let params = workmodel::Params {
        namespace: args.namespace.clone(),
        delay_ms: args.delay_ms,
        ..workmodel::Params::default()
    };
    let (_, json) = workmodel::generate(args.seed, args.services, &params)?;
    println!("{}", serde_json::to_string_pretty(&json)?);
    Ok(())
}

fn write_json(path: Option<&Path>, value: &impl serde::Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(value)?;
    std::fs::write(path, text + "\n")
        .with_context(|| format!("cannot write the report to {}", path.display()))
}
