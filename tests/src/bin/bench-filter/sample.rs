//! A round's samples: a new Envoy for each variant, warmed up, then CPU and requests over slices of load.

use std::{
    fs,
    io::{Read, Seek, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::{
    config::{Ports, Variant, bootstrap},
    cores::Cores,
    load::Load,
};

/// How long Envoy may take to answer its first request: it compiles the module first.
const STARTED: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for an answer of Envoy to a single question.
const ANSWERED: Duration = Duration::from_secs(5);

/// Load on one Envoy until the next has its turn: long against what caches and connections need to get warm
/// again, short against the moods of a machine that others use.
const SLICE: Duration = Duration::from_millis(150);
/// Load before a slice counts.
const LEAD: Duration = Duration::from_millis(30);

/// What a message shows of Envoy's log.
const LOG_LINES: usize = 10;
const LOG_WIDTH: usize = 240;

/// What is run.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) envoy: PathBuf,
    pub(crate) cell: PathBuf,
}

/// How long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) sample: Duration,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// CPU time of all of Envoy's threads for a request, µs.
    pub(crate) cpu_us: f64,
    /// Requests a second.
    pub(crate) per_second: f64,
}

/// A running Envoy. Killed on drop.
#[derive(Debug)]
pub(crate) struct Envoy {
    child: Child,
    log: fs::File,
    ports: Ports,
}

/// Takes a sample of each variant, in the order of `variants`. All Envoys live at once and the load goes from one
/// to the next in short slices, in the order that `order` gives for a turn, so that a machine that gets slower
/// or faster does so for all of them alike.
pub(crate) fn take_round(
    programs: &Programs,
    cores: &Cores,
    sink: SocketAddr,
    variants: &[Variant],
    timing: Timing,
    order: &dyn Fn(u32) -> Vec<usize>,
) -> Result<Vec<Sample>> {
    let start = |variant| Subject::start(programs, cores, sink, variant);
    let mut subjects = variants
        .iter()
        .map(|variant| start(variant).with_context(|| format!("variant {variant}")))
        .collect::<Result<Vec<_>>>()?;
    for subject in &mut subjects {
        subject.load.resume()?;
        sleep(timing.warm_up);
        subject.load.pause()?;
    }
    for turn in 0..timing.slices() {
        for ix in order(turn) {
            if let Some(subject) = subjects.get_mut(ix) {
                subject.slice()?;
            }
        }
    }
    subjects.iter().map(Subject::end).collect()
}

/// An Envoy with its load, and what was measured so far.
#[derive(Debug)]
struct Subject<'a> {
    variant: &'a Variant,
    load: Load,
    envoy: Envoy,
    requests: u64,
    cpu_ns: u64,
    time: Duration,
}

// === impl Timing ===

impl Timing {
    fn slices(self) -> u32 {
        let slices = self.sample.as_millis().div_ceil(SLICE.as_millis());
        u32::try_from(slices).unwrap_or(u32::MAX)
    }
}

// === impl Subject ===

impl<'a> Subject<'a> {
    fn start(programs: &Programs, cores: &Cores, sink: SocketAddr, variant: &'a Variant) -> Result<Self> {
        let envoy = Envoy::start(programs, cores, variant, sink)?;
        let load = Load::start(&programs.cell, envoy.target())?;
        load.pause()?;
        Ok(Self {
            variant,
            load,
            envoy,
            requests: 0,
            cpu_ns: 0,
            time: Duration::ZERO,
        })
    }

    fn slice(&mut self) -> Result<()> {
        self.load.resume()?;
        sleep(LEAD);
        let (requests, cpu, start) = (self.load.completed()?, self.envoy.cpu_ns()?, Instant::now());
        sleep(SLICE);
        self.requests += self.load.completed()? - requests;
        self.cpu_ns += self.envoy.cpu_ns()? - cpu;
        self.time += start.elapsed();
        self.load.pause()
    }

    fn end(&self) -> Result<Sample> {
        self.envoy.check_module(self.variant)?;
        self.envoy
            .figures(self.requests, self.cpu_ns, self.time.as_secs_f64())
    }
}

// === impl Envoy ===

impl Envoy {
    pub(crate) fn start(
        programs: &Programs,
        cores: &Cores,
        variant: &Variant,
        sink: SocketAddr,
    ) -> Result<Self> {
        let ports = free_ports()?;
        let config = bootstrap(variant, ports, sink).to_string();
        let log = tempfile::tempfile().context("no place for Envoy's log")?;
        let stderr = log.try_clone()?;
        // setpriv ties it to this process and then becomes Envoy, so the id is Envoy's.
        let child = cores.on_envoys(|| {
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&programs.envoy)
                .args([
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "warn",
                    "--config-yaml",
                    &config,
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr)
                .spawn()
                .context("cannot start Envoy by setpriv (package util-linux)")
        })?;
        let mut envoy = Self { child, log, ports };
        envoy.wait_until_started()?;
        Ok(envoy)
    }

    /// Where requests go.
    pub(crate) fn target(&self) -> SocketAddr {
        self.ports.a
    }

    /// CPU and requests over a window. `completed` counts requests.
    pub(crate) fn sample(
        &self,
        window: Duration,
        mut completed: impl FnMut() -> Result<u64>,
    ) -> Result<Sample> {
        let (requests_before, cpu_before, start) = (completed()?, self.cpu_ns()?, Instant::now());
        sleep(window);
        let (requests, cpu, seconds) = (completed()?, self.cpu_ns()?, start.elapsed().as_secs_f64());
        self.figures(requests - requests_before, cpu - cpu_before, seconds)
    }

    #[expect(clippy::cast_precision_loss, reason = "a window has less than 2^53 ns")]
    pub(crate) fn figures(&self, requests: u64, cpu_ns: u64, seconds: f64) -> Result<Sample> {
        ensure!(
            requests > 0,
            "no request was completed in {seconds:.1} s; {}",
            self.log()
        );
        Ok(Sample {
            cpu_us: cpu_ns as f64 / 1_000.0 / requests as f64,
            per_second: requests as f64 / seconds,
        })
    }

    /// Time on a CPU of all threads since their start. The first number of `schedstat`, exact.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut sum = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("Envoy is gone; {}", self.log()))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| {
                format!(
                    "{} is missing: the kernel lacks CONFIG_SCHED_INFO",
                    path.display()
                )
            })?;
            let first = text.split(' ').next().unwrap_or_default();
            sum += first
                .parse::<u64>()
                .with_context(|| format!("{}: \"{text}\"", path.display()))?;
        }
        Ok(sum)
    }

    /// Fails where the module does not run: it fails open, and the figure would be that of no filter.
    pub(crate) fn check_module(&self, variant: &Variant) -> Result<()> {
        let Some(module) = &variant.module else {
            return Ok(());
        };
        let stats = ask(self.ports.admin, "/stats?filter=^wasm%5C.")?;
        let active = stats
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.ends_with("v8.active"))
            .and_then(|(_, value)| value.trim().parse::<u64>().ok());
        // One VM a worker and one on the main thread, besides the base VM.
        if active.unwrap_or(0) < 2 {
            bail!("{} does not run in Envoy; {}", module.display(), self.log());
        }
        let log = self.log_text();
        ensure!(
            !log.contains("Function: proxy_"),
            "{} failed while it ran; {}",
            module.display(),
            self.log()
        );
        Ok(())
    }

    fn wait_until_started(&mut self) -> Result<()> {
        let end = Instant::now() + STARTED;
        while !ask(self.ports.a, "/").is_ok_and(|answer| answer.ends_with("ok")) {
            if let Some(status) = self.child.try_wait()? {
                bail!("Envoy ended at its start ({status}); {}", self.log());
            }
            ensure!(
                Instant::now() < end,
                "Envoy does not answer within {STARTED:?}; {}",
                self.log()
            );
            sleep(LOOK);
        }
        Ok(())
    }

    /// The end of its log, for a message. Envoy may write its whole configuration into one line.
    fn log(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(LOG_LINES)..)
            .unwrap_or_default();
        let cut = tail
            .iter()
            .map(|line| line.chars().take(LOG_WIDTH).collect::<String>());
        format!("the end of its log:\n{}", cut.collect::<Vec<_>>().join("\n"))
    }

    fn log_text(&self) -> String {
        let mut bytes = Vec::new();
        let read = self.log.try_clone().and_then(|mut log| {
            log.rewind()?;
            log.read_to_end(&mut bytes)
        });
        read.map_or_else(
            |error| format!("(unreadable: {error})"),
            |_| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Four loopback ports that were free at the same time.
fn free_ports() -> Result<Ports> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback has no free port");
    let (admin, a, b, c) = (bind()?, bind()?, bind()?, bind()?);
    Ok(Ports {
        admin: admin.local_addr()?,
        a: a.local_addr()?,
        b: b.local_addr()?,
        c: c.local_addr()?,
    })
}

/// One GET; the head and the body.
fn ask(addr: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWERED)?;
    stream.set_read_timeout(Some(ANSWERED))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: cart.shop.svc.cluster.local\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
