//! One fault: what was seen, and whether it is as expected.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::counts::Counts;
use super::watch::{Look, Said};
use crate::local::Sent;

/// The users' delay is looked at in windows of this length.
const WINDOW: Duration = Duration::from_secs(1);

/// Failed requests that the fault itself explains.
pub(super) struct Excuse {
    /// Why they may fail.
    pub(super) why: &'static str,
    /// Which.
    pub(super) covers: Box<dyn Fn(&Sent) -> bool + Send>,
}

/// One fault from its beginning to its judgement.
pub(super) struct Trial {
    fault: &'static str,
    /// When it was done to the world, and when it was over; the same where it does not end.
    pub(super) began: Instant,
    pub(super) over: Instant,
    pub(super) ended: Instant,
    pub(super) excuses: Vec<Excuse>,
    /// The machine's account, in short.
    pub(super) account: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) complaints: Vec<String>,
    /// Longest time to recovery that is as expected.
    pub(super) recovers_within: Duration,
    pub(super) band_us: u128,
    pub(super) sent: Vec<Sent>,
    /// Of those, the ones beside the load.
    pub(super) beside: Vec<Sent>,
    pub(super) looks: Vec<Look>,
    pub(super) counts: Option<Counts>,
    counts_explained: bool,
    row: Option<Row>,
}

/// A line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub fault: &'static str,
    /// User requests.
    pub sent: u64,
    /// Of those, not answered with 200.
    pub failed: u64,
    /// Of those, the ones that the fault itself explains.
    pub excused: u64,
    /// From the fault's end (or its beginning, where it does not end) until users were served as before for good:
    /// no request failed, and the mean of no second was above the band. 0: they always were.
    pub recovery_s: f64,
    /// Users, gateway and controller have counted the same.
    pub counts_equal: bool,
    /// The counts.
    pub counts: Option<Counts>,
    /// What the machine said of it.
    pub account: String,
    /// What else was seen.
    pub notes: Vec<String>,
    /// What is not as expected; empty: all is.
    pub complaints: Vec<String>,
}

// === impl Row ===

impl Row {
    /// A fault that could not be tried to its end.
    pub(super) fn broken(fault: &'static str, why: String) -> Self {
        Self {
            fault,
            sent: 0,
            failed: 0,
            excused: 0,
            recovery_s: 0.0,
            counts_equal: false,
            counts: None,
            account: String::new(),
            notes: Vec::new(),
            complaints: vec![why],
        }
    }

    /// Whether all is as expected.
    pub fn is_as_expected(&self) -> bool {
        self.complaints.is_empty()
    }
}

// === impl Trial ===

impl Trial {
    /// A fault that begins now.
    pub(super) fn begin(fault: &'static str) -> Self {
        let now = Instant::now();
        Self {
            fault,
            began: now,
            over: now,
            ended: now,
            excuses: Vec::new(),
            account: Vec::new(),
            notes: Vec::new(),
            complaints: Vec::new(),
            recovers_within: Duration::from_secs(2),
            band_us: u128::MAX,
            sent: Vec::new(),
            beside: Vec::new(),
            looks: Vec::new(),
            counts: None,
            counts_explained: false,
            row: None,
        }
    }

    /// The fault is over now.
    pub(super) fn over(&mut self) {
        self.over = Instant::now();
    }

    /// Some failures are the fault itself.
    pub(super) fn excuse(&mut self, why: &'static str, covers: impl Fn(&Sent) -> bool + Send + 'static) {
        let covers = Box::new(covers);
        self.excuses.push(Excuse { why, covers });
    }

    /// Notes what the machine said, and complains where it should have said something else.
    pub(super) fn says(&mut self, text: impl Into<String>, is_right: bool) {
        let text = text.into();
        if !is_right {
            self.complaints.push(format!("account: {text}"));
        }
        self.account.push(text);
    }

    /// Complains where something is not as expected.
    pub(super) fn expect(&mut self, is_so: bool, complaint: impl FnOnce() -> String) {
        if !is_so {
            self.complaints.push(complaint());
        }
    }

    pub(super) fn judge(&mut self) {
        let failed: Vec<&Sent> = self.sent.iter().filter(|sent| !sent.is_ok()).collect();
        let mut excused = 0;
        for excuse in &self.excuses {
            let covered = failed.iter().filter(|sent| (excuse.covers)(sent)).count();
            excused += covered;
            if covered > 0 {
                self.notes.push(format!("{covered} failed: {}", excuse.why));
            }
        }
        let is_excused = |sent: &Sent| self.excuses.iter().any(|excuse| (excuse.covers)(sent));
        let unexcused: Vec<String> = failed
            .iter()
            .filter(|sent| !is_excused(sent))
            .map(|sent| self.tell(sent))
            .collect();
        let failed = failed.len();
        let load: Vec<Sent> = self
            .sent
            .iter()
            .filter(|sent| !self.is_beside(sent))
            .cloned()
            .collect();
        let recovery = recovery(&load, self.over, self.ended, self.band_us);
        if let Some((first, rest)) = unexcused.split_first() {
            let more = if rest.is_empty() {
                String::new()
            } else {
                format!(" and {} more", rest.len())
            };
            self.complaints
                .push(format!("failed without need: {first}{more}"));
        }
        if recovery > self.recovers_within {
            self.complaints.push(format!(
                "recovered after {:.1} s, expected within {:.1} s",
                recovery.as_secs_f64(),
                self.recovers_within.as_secs_f64()
            ));
        }
        self.story();
        self.row = Some(Row {
            fault: self.fault,
            sent: self.sent.len() as u64,
            failed: failed as u64,
            excused: excused as u64,
            recovery_s: (recovery.as_secs_f64() * 10.0).round() / 10.0,
            counts_equal: self.counts.is_some_and(Counts::equal),
            counts: self.counts,
            account: self.account.join("; "),
            notes: Vec::new(),
            complaints: Vec::new(),
        });
    }

    /// Requests beside the load are as slow as they were told to be.
    fn is_beside(&self, sent: &Sent) -> bool {
        self.beside
            .iter()
            .any(|beside| beside.at == sent.at && beside.path == sent.path)
    }

    /// The fault itself explains why the counts differ, if they are as it would have them.
    pub(super) fn explain_counts(&mut self, why: &'static str, is_so: bool) {
        if is_so {
            self.notes.push(format!("counts differ: {why}"));
            self.counts_explained = true;
        }
    }

    fn tell(&self, sent: &Sent) -> String {
        let at = if sent.at >= self.began {
            format!("{:.2} s after the fault", (sent.at - self.began).as_secs_f64())
        } else {
            format!("{:.2} s before the fault", (self.began - sent.at).as_secs_f64())
        };
        let status = sent
            .status
            .map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        format!(
            "{} sent {at}, {status} after {:.2} s",
            sent.path,
            sent.took.as_secs_f64()
        )
    }

    pub(super) fn into_row(mut self) -> Row {
        if let Some(counts) = self.counts
            && !counts.equal()
            && !self.counts_explained
        {
            self.complaints.push(format!("counts differ: {counts:?}"));
        }
        let row = self
            .row
            .unwrap_or_else(|| Row::broken(self.fault, "not judged".to_owned()));
        Row {
            notes: self.notes,
            complaints: self.complaints,
            ..row
        }
    }

    /// Each account once, with how long it held.
    fn story(&mut self) {
        let mut spans: Vec<(String, Instant, Instant)> = Vec::new();
        for look in self.looks.iter().filter(|look| look.at >= self.began) {
            let name = look.said.as_ref().map_or_else(|| "no answer".to_owned(), name);
            match spans.last_mut() {
                Some((last, _, to)) if *last == name => *to = look.at,
                _ => spans.push((name, look.at, look.at)),
            }
        }
        let told: Vec<String> = spans
            .iter()
            .map(|(name, from, to)| format!("{name} {:.1} s", (*to - *from).as_secs_f64()))
            .collect();
        self.notes.push(format!("phases: {}", told.join(", ")));
    }
}

/// Phase, and the reason where it is held.
fn name(said: &Said) -> String {
    match &said.held {
        Some(held) => format!("held({held})"),
        None => said.phase.clone(),
    }
}

/// Time from `over` to the last request that failed and was sent after it, or to the end of the last second whose mean
/// delay is above the band.
fn recovery(sent: &[Sent], over: Instant, ended: Instant, band_us: u128) -> Duration {
    let failed = sent
        .iter()
        .filter(|sent| !sent.is_ok() && sent.at >= over)
        .map(|sent| sent.at)
        .max();
    let mut slow = None;
    let mut from = over;
    while from < ended {
        let to = from + WINDOW;
        let window = sent
            .iter()
            .filter(|sent| sent.at >= from && sent.at < to && sent.is_ok());
        let (count, sum) = window.fold((0_u128, 0_u128), |(count, sum), sent| {
            (count + 1, sum + sent.took.as_micros())
        });
        if count > 0 && sum / count > band_us {
            slow = Some(to);
        }
        from = to;
    }
    let last = failed.max(slow);
    last.map_or(Duration::ZERO, |last| last.saturating_duration_since(over))
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn sent(start: Instant, at_ms: u64, took_ms: u64, status: u16) -> Sent {
        Sent {
            at: start + Duration::from_millis(at_ms),
            took: Duration::from_millis(took_ms),
            path: "/".to_owned(),
            status: StatusCode::from_u16(status).ok(),
            body: String::new(),
            zone: String::new(),
        }
    }

    #[test]
    fn recovery_ends_with_the_last_failure_or_the_last_slow_second() {
        let start = Instant::now();
        let end = start + Duration::from_secs(5);
        let well = [sent(start, 100, 20, 200), sent(start, 3_100, 20, 200)];
        assert_eq!(recovery(&well, start, end, 100_000), Duration::ZERO);
        let failing = [sent(start, 100, 20, 200), sent(start, 1_300, 20, 503)];
        assert_eq!(
            recovery(&failing, start, end, 100_000),
            Duration::from_millis(1_300)
        );
        let slow = [sent(start, 2_300, 150, 200), sent(start, 3_300, 20, 200)];
        assert_eq!(recovery(&slow, start, end, 100_000), Duration::from_secs(3));
    }

    #[test]
    fn a_failure_without_an_excuse_is_a_complaint() {
        let mut trial = Trial::begin("test");
        let start = trial.began;
        trial.sent = vec![sent(start, 10, 5, 503), sent(start, 900, 5, 500)];
        trial.excuse("inside", move |sent| sent.at < start + Duration::from_millis(50));
        trial.judge();
        let row = trial.into_row();
        assert_eq!((row.failed, row.excused), (2, 1));
        assert_eq!(row.complaints.len(), 1, "{:?}", row.complaints);
        assert!(
            row.complaints[0].contains("0.90 s after the fault"),
            "{:?}",
            row.complaints
        );
    }
}
