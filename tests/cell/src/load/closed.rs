//! The closed loop: each connection sends its next request when the last one is answered.
//!
//! It makes a server work as hard as it can, to measure what a request costs there. The generator itself must cost
//! less: one thread, one prepared request, no allocation in the loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Summary, Target,
    stats::Latencies,
    wire::{Connection, Failure},
};

/// Pause after a failure, so that a server that is away is not called in a tight loop.
const PAUSE: Duration = Duration::from_millis(10);

/// What was done so far; readable from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    completed: AtomicU64,
    failed: AtomicU64,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedReport {
    /// What was asked.
    pub url: String,
    /// Connections, and so requests in flight.
    pub connections: usize,
    /// Length of the run, s.
    pub seconds: f64,
    /// Answered with 200.
    pub completed: u64,
    /// Any other end.
    pub failed: u64,
    /// `completed / seconds`.
    pub per_second: f64,
    /// From send to whole answer, completed ones.
    pub service_time_ms: Summary,
}

// === impl Counters ===

impl Counters {
    /// Requests that were answered with 200.
    pub fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }

    /// Requests that ended in any other way.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// Sends for `duration`, or for ever, over so many connections. What is in flight at the end is cut off.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub async fn run(
    target: Target,
    connections: usize,
    duration: Option<Duration>,
    counters: Arc<Counters>,
) -> ClosedReport {
    let start = Instant::now();
    let end = duration.map(|duration| start + duration);
    let target = Arc::new(target);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(send_until(Arc::clone(&target), end, Arc::clone(&counters)));
    }
    let mut latencies = Latencies::new();
    while let Some(done) = tasks.join_next().await {
        if let Ok(times) = done {
            latencies.add(&times);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    ClosedReport {
        url: target.url().to_owned(),
        connections,
        seconds,
        completed: counters.completed(),
        failed: counters.failed(),
        per_second: counters.completed() as f64 / seconds,
        service_time_ms: latencies.summary(),
    }
}

async fn send_until(target: Arc<Target>, end: Option<Instant>, counters: Arc<Counters>) -> Latencies {
    let mut times = Latencies::new();
    let sending = send(&target, &counters, &mut times);
    match end {
        None => sending.await,
        Some(end) => {
            tokio::select! {
                biased;
                () = sleep_until(end) => {}
                () = sending => {}
            }
        }
    }
    times
}

async fn send(target: &Target, counters: &Counters, times: &mut Latencies) {
    loop {
        if send_over_one(target, counters, times).await.is_err() {
            counters.failed.fetch_add(1, Relaxed);
            sleep(PAUSE).await;
        }
    }
}

async fn send_over_one(target: &Target, counters: &Counters, times: &mut Latencies) -> Result<(), Failure> {
    let mut connection = Connection::open(target.addr()).await?;
    loop {
        let sent = std::time::Instant::now();
        let answer = connection.exchange(target.request()).await?;
        if answer.status == 200 {
            counters.completed.fetch_add(1, Relaxed);
            times.record(sent.elapsed());
        } else {
            counters.failed.fetch_add(1, Relaxed);
        }
        if !answer.keep {
            return Ok(());
        }
    }
}
