//! The open loop.
//!
//! ```text
//! pacer thread ── due times ──► queue ──► one task a connection ──► statistics
//! ```
//!
//! The pacer has a thread of its own: it sleeps to within some 0.1 ms, where the runtime's timers round up to 1 ms,
//! which would be in every latency. The tasks share a second thread.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::{
    Arrivals, Report, Second, Target,
    schedule::Schedule,
    stats::{Sample, Stats},
    wire::{Connection, Failure},
};

/// Requests that may be due and wait for a connection; what falls due beyond is counted as unsent.
const MAX_BACKLOG: usize = 100_000;
/// How long a server that is behind at the end may take to catch up.
const DRAIN: Duration = Duration::from_secs(30);
/// Highest rate; past it one core of the generator is the limit.
const MAX_RATE: f64 = 100_000.0;
/// Most connections.
const MAX_CONNECTIONS: usize = 4_096;
/// The pacer looks this often whether it should stop.
const PACER_STEP: Duration = Duration::from_millis(20);

/// What load, on whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// Server and request.
    pub target: Target,
    /// Requests a second.
    pub rate_per_sec: f64,
    /// Gaps between them.
    pub arrivals: Arrivals,
    /// How long requests fall due; `None`: until [`Handle::stop`].
    pub duration: Option<Duration>,
    /// Requests that may be in flight at a time. Too few, and requests wait for one; that wait is in their latency.
    pub connections: usize,
    /// When a request is given up.
    pub timeout: Duration,
    /// Of Poisson gaps.
    pub seed: u64,
}

/// Why no load can be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A number out of range.
    #[error("{what} is {given}; give {remedy}")]
    Range {
        /// Which one.
        what: &'static str,
        /// Its value.
        given: String,
        /// What is allowed.
        remedy: String,
    },
    /// The system gives no thread.
    #[error("cannot start a thread for the load: {0}; raise the limit on processes")]
    Thread(#[from] io::Error),
}

/// A run that goes on. Dropping it stops the sending and does not wait.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    config: Config,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The figures of a run that goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Since the first request was due.
    pub elapsed: Duration,
    /// Requests that were tried.
    pub sent: u64,
    /// Answered below 400.
    pub ok: u64,
    /// By kind, as in [`Report::failed`].
    pub failed: std::collections::BTreeMap<String, u64>,
    /// Sent and without an answer.
    pub in_flight: u64,
    /// Mean latency of the ok requests that ended in the last second.
    pub mean_last_second: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    start: OnceLock<Instant>,
    stop: AtomicBool,
    sent: AtomicU64,
    /// µs from the start to where requests ended to fall due; 0 while they do.
    ended_us: AtomicU64,
    stats: Mutex<Stats>,
}

type Queue = Arc<AsyncMutex<mpsc::Receiver<Duration>>>;

/// Opens the connections and starts sending. Returns once they are open or were refused, after five seconds at most.
/// A server that is not there yet is no error: its requests fail and count.
///
/// # Errors
/// A number is out of range, or there is no thread to be had.
pub fn start(config: Config) -> Result<Handle, LoadError> {
    check(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shared = Arc::new(Shared {
        start: OnceLock::new(),
        stop: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        ended_us: AtomicU64::new(0),
        stats: Mutex::new(Stats::new()),
    });
    let (due, queue) = mpsc::channel(MAX_BACKLOG);
    let (opened, all_open) = std::sync::mpsc::sync_channel(1);
    let sender = {
        let (shared, config) = (Arc::clone(&shared), config.clone());
        let send = async move {
            let connections = connect_all(&config).await;
            shared.started();
            if opened.send(()).is_ok() {
                send_all(shared, config, connections, queue).await;
            }
        };
        thread::Builder::new()
            .name("load-sender".to_owned())
            .spawn(move || runtime.block_on(send))?
    };
    if all_open.recv().is_err() {
        return Err(LoadError::Thread(io::Error::other(
            "the sender ended before it began",
        )));
    }
    let pacer = {
        let (shared, config) = (Arc::clone(&shared), config.clone());
        thread::Builder::new()
            .name("load-pacer".to_owned())
            .spawn(move || pace(&shared, &config, &due))?
    };
    Ok(Handle {
        shared,
        config,
        threads: vec![pacer, sender],
    })
}

fn check(config: &Config) -> Result<(), LoadError> {
    if !(config.rate_per_sec > 0.0 && config.rate_per_sec <= MAX_RATE) {
        let given = config.rate_per_sec.to_string();
        return Err(LoadError::Range {
            what: "the rate",
            given,
            remedy: format!("more than 0, at most {MAX_RATE}"),
        });
    }
    if !(1..=MAX_CONNECTIONS).contains(&config.connections) {
        let given = config.connections.to_string();
        return Err(LoadError::Range {
            what: "connections",
            given,
            remedy: format!("1 to {MAX_CONNECTIONS}"),
        });
    }
    if config.timeout.is_zero() {
        let remedy = "a time such as 60s".to_owned();
        return Err(LoadError::Range {
            what: "the timeout",
            given: "0".to_owned(),
            remedy,
        });
    }
    Ok(())
}

// === impl Handle ===

impl Handle {
    /// The figures so far.
    pub fn live(&self) -> Live {
        let stats = self.shared.stats();
        let (sent, failed) = (self.shared.sent.load(Relaxed), stats.failed_total());
        let elapsed = self.shared.now();
        Live {
            elapsed,
            sent,
            ok: stats.ok,
            failed: stats.failed.clone(),
            in_flight: sent.saturating_sub(stats.ok + failed),
            mean_last_second: stats.mean_of_last_second(elapsed),
        }
    }

    /// When the first request was due.
    pub fn started(&self) -> Instant {
        self.shared.started()
    }

    /// The seconds so far.
    pub fn timeline(&self) -> Vec<Second> {
        self.shared.stats().timeline.clone()
    }

    /// Whether nothing is left to send or to wait for.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }

    /// Sends no more, waits for what is in flight (at most the timeout) and reports. Blocks its thread.
    pub fn stop(self) -> Report {
        self.shared.stop.store(true, Relaxed);
        self.wait()
    }

    /// Waits for the end of the duration and of what is in flight, and reports. Blocks its thread.
    pub fn wait(mut self) -> Report {
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a thread of the load generator panicked; its figures are not whole");
            }
        }
        self.report()
    }

    fn report(&self) -> Report {
        let stats = self.shared.stats();
        let failed = stats.failed_total();
        Report {
            url: self.config.target.url().to_owned(),
            rate_per_sec: self.config.rate_per_sec,
            seconds: Duration::from_micros(self.shared.ended_us.load(Relaxed)).as_secs_f64(),
            sent: stats.ok + failed,
            ok: stats.ok,
            failed: stats.failed.clone(),
            statuses: stats.statuses.clone(),
            unsent: stats.unsent,
            reconnects: stats.reconnects,
            latency_ms: stats.latency.summary(),
            service_time_ms: stats.service_time.summary(),
            timeline: stats.timeline.clone(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

// === impl Shared ===

impl Shared {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        // Only sums are kept: a thread that panicked cannot have left them half changed in a way that matters.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the first request was due; the first call sets it.
    fn started(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    fn now(&self) -> Duration {
        self.started().elapsed()
    }

    fn ended(&self, at: Duration) {
        self.ended_us
            .store(u64::try_from(at.as_micros()).unwrap_or(u64::MAX).max(1), Relaxed);
    }
}

/// Lets requests fall due, until the duration is over or somebody says stop.
fn pace(shared: &Shared, config: &Config, due: &mpsc::Sender<Duration>) {
    let end = config.duration.unwrap_or(Duration::MAX);
    for at in Schedule::new(config.rate_per_sec, config.arrivals, config.seed) {
        while let Some(left) = at
            .min(end)
            .checked_sub(shared.now())
            .filter(|left| !left.is_zero())
        {
            if shared.stop.load(Relaxed) {
                return shared.ended(shared.now());
            }
            thread::sleep(left.min(PACER_STEP));
        }
        if at >= end || shared.stop.load(Relaxed) {
            return shared.ended(shared.now().min(end));
        }
        match due.try_send(at) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => shared.stats().unsent += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => return shared.ended(shared.now()),
        }
    }
}

async fn connect_all(config: &Config) -> Vec<Option<Connection>> {
    let mut opening = JoinSet::new();
    for _ in 0..config.connections {
        opening.spawn(Connection::open(config.target.addr()));
    }
    opening.join_all().await.into_iter().map(Result::ok).collect()
}

async fn send_all(
    shared: Arc<Shared>,
    config: Config,
    connections: Vec<Option<Connection>>,
    queue: mpsc::Receiver<Duration>,
) {
    let queue = Arc::new(AsyncMutex::new(queue));
    let config = Arc::new(config);
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(work(
            Arc::clone(&shared),
            Arc::clone(&config),
            Arc::clone(&queue),
            connection,
        ));
    }
    while tasks.join_next().await.is_some() {}
}

/// Sends the requests that fall to one connection.
async fn work(shared: Arc<Shared>, config: Arc<Config>, queue: Queue, mut connection: Option<Connection>) {
    let mut opened = connection.is_some();
    let give_up = config.duration.map(|duration| duration.saturating_add(DRAIN));
    loop {
        let next = queue.lock().await.recv().await;
        let Some(due) = next else { return };
        if shared.stop.load(Relaxed) || give_up.is_some_and(|at| shared.now() > at) {
            shared.stats().unsent += 1;
            continue;
        }
        shared.sent.fetch_add(1, Relaxed);
        let sent = shared.now();
        if connection.as_ref().is_some_and(Connection::is_spent) {
            connection = None;
        }
        let reopens = connection.is_none() && std::mem::replace(&mut opened, true);
        let answered = timeout(config.timeout, exchange(&mut connection, &config.target)).await;
        let outcome = answered.unwrap_or(Err(Failure::Timeout)).map_err(Failure::name);
        if outcome.is_err() {
            connection = None;
        }
        let sample = Sample {
            due,
            sent,
            done: shared.now(),
            outcome,
        };
        let mut stats = shared.stats();
        stats.reconnects += u64::from(reopens);
        stats.add(sample);
    }
}

async fn exchange(connection: &mut Option<Connection>, target: &Target) -> Result<u16, Failure> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(target.addr()).await?),
    };
    let answer = open.exchange(target.request()).await?;
    if !answer.keep {
        *connection = None;
    }
    Ok(answer.status)
}
