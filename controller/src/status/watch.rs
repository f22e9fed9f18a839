//! `--watch`: the status anew each second, until Ctrl-C.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::client::Client;
use super::error::StatusError;
use super::paint::{Paint, Tone};
use super::report::StatusReport;
use super::table;
use crate::args::OutputFormat;

const EVERY: Duration = Duration::from_secs(1);

/// To the upper left corner; the rest of each line and of the screen is cleared as it is written, so nothing flickers.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
/// A screen of its own, and back: what was there before is there again.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// How a look is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Redrawn on a terminal.
    Screen(Paint),
    /// A line an edge.
    Lines,
    /// A JSON object a look.
    Json,
    /// A YAML document a look.
    Yaml,
}

/// Looks each second. A controller that stops answering is waited for; one that never answered is an error.
pub(super) async fn run(client: &Client, format: OutputFormat) -> anyhow::Result<()> {
    let form = match format {
        OutputFormat::Table if io::stdout().is_terminal() => Form::Screen(Paint::of_stdout()),
        OutputFormat::Table => Form::Lines,
        OutputFormat::Json => Form::Json,
        OutputFormat::Yaml => Form::Yaml,
    };
    // One listener for the whole time: a signal between two waits is not lost.
    let mut signals = Signals::listen()?;
    let first = client.state().await?;
    let mut look = StatusReport::of(&first);
    let screen = matches!(form, Form::Screen(_));
    if screen {
        write(ENTER)?;
    }
    let mut period = tokio::time::interval(EVERY);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    period.tick().await;
    let ended = loop {
        match shown(&look, form).and_then(|text| write(&text)) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
        tokio::select! {
            () = signals.ended() => break Ok(()),
            _ = period.tick() => {}
        }
        look = tokio::select! {
            () = signals.ended() => break Ok(()),
            state = client.state() => state.and_then(|state| StatusReport::of(&state)),
        };
        if let Err(error) = &look
            && !error.is_transient()
        {
            break look.map(drop).map_err(Into::into);
        }
    };
    if screen {
        write(LEAVE)?;
    }
    ended
}

/// What ends a watch.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("no handler for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("no handler for SIGTERM")?,
        })
    }

    async fn ended(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn shown(look: &Result<StatusReport, StatusError>, form: Form) -> anyhow::Result<String> {
    let report = match look {
        Ok(report) => report,
        Err(error) => return Ok(waiting(error, form)),
    };
    Ok(match form {
        Form::Screen(paint) => drawn(&table::all(report, paint)),
        Form::Lines => report.edges.iter().map(|edge| table::line(edge) + "\n").collect(),
        Form::Json => serde_json::to_string(report).context("the status is no JSON")? + "\n",
        Form::Yaml => format!(
            "---\n{}",
            serde_norway::to_string(report).context("the status is no YAML")?
        ),
    })
}

fn waiting(error: &StatusError, form: Form) -> String {
    match form {
        Form::Screen(paint) => drawn(&(paint.paint(Tone::Bad, &format!("{error}; trying again")) + "\n")),
        Form::Lines => format!("{error}; trying again\n"),
        // Programs read objects only; what is missing they see by the time.
        Form::Json | Form::Yaml => String::new(),
    }
}

fn drawn(text: &str) -> String {
    let lines = text.replace('\n', &format!("{CLEAR_LINE}\r\n"));
    format!("{HOME}{lines}{CLEAR_BELOW}")
}

/// Writes at once; false where nobody reads any more.
fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("the status can't be written"),
    }
}
