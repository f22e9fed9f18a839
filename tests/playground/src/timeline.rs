//! What happened when, printed while it happens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Lines of the report, and a status line for the terminal.
pub(crate) struct Timeline {
    began: Instant,
    bar: ProgressBar,
    events: Vec<TimelineEvent>,
    /// The last phase of each edge.
    phases: BTreeMap<String, String>,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TimelineEvent {
    pub(crate) at_s: f64,
    pub(crate) what: String,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            began: Instant::now(),
            bar,
            events: Vec::new(),
            phases: BTreeMap::new(),
        }
    }

    /// Adds a line.
    pub(crate) fn event(&mut self, what: impl Into<String>) {
        self.event_at(Instant::now(), what);
    }

    /// Adds a line of an earlier moment.
    pub(crate) fn event_at(&mut self, at: Instant, what: impl Into<String>) {
        let event = TimelineEvent {
            at_s: at.saturating_duration_since(self.began).as_secs_f64(),
            what: short(&what.into()),
        };
        let mut line = String::new();
        let _ = write!(line, "{:7.1} s  {}", event.at_s, event.what);
        // Without a terminal the bar swallows lines.
        if self.bar.is_hidden() {
            println!("{line}");
        } else {
            self.bar.println(line);
        }
        self.events.push(event);
    }

    /// Each new phase of an edge is a line.
    pub(crate) fn phase(&mut self, edge: &str, phase: &str, text: &str) {
        if self.phases.get(edge).is_none_or(|last| last != phase) {
            self.phases.insert(edge.to_owned(), phase.to_owned());
            self.event(format!("  {text}"));
        }
    }

    /// Shows the present state where there is a terminal.
    pub(crate) fn status(&self, text: &str) {
        self.bar.set_message(short(text));
    }

    pub(crate) fn events(&self) -> Vec<TimelineEvent> {
        self.events.clone()
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Hosts by their service's name: there is one namespace here.
fn short(text: &str) -> String {
    text.replace(".shop.svc.cluster.local", "")
}
