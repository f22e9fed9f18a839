//! Freezes a window into the bytes that every send of it repeats.
//!
//! A window over 1 MiB becomes several parts, each a window of its own number. Series are encoded one at a
//! time, so that freezing needs the memory of the bytes and of one series, not of all.

use std::collections::VecDeque;
use std::time::Duration;

use gma_report::limits::MAX_WINDOW_BYTES;
use gma_report::v1::{self, Reason};
use prost::Message;

use crate::measure::Measure;
use crate::time::Timestamp;
use crate::unmeasured;

/// Room for `parts_left`, which is known last: its key and a number up to 15.
const PARTS_LEFT_BYTES: usize = 2;

/// A window that is to be sent, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) seq: u64,
    /// A `v1::Window`.
    pub(crate) bytes: Vec<u8>,
    /// End of the window.
    pub(crate) ended: Timestamp,
    /// Requests in its series, to be counted should it be refused.
    pub(crate) requests: u64,
    /// Whether it carries identity or totals.
    pub(crate) says_who: bool,
    /// Unmeasured requests that it tells of.
    pub(crate) unmeasured: Vec<(Reason, u64)>,
}

/// At least one part, in the order in which they are sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) first: Part,
    pub(crate) rest: VecDeque<Part>,
}

/// What a window says beside its series.
pub(crate) struct Header<'a> {
    pub(crate) node_id: &'a str,
    /// Where the controller asked for it: who this is, and totals with the window's last part.
    pub(crate) identity: Option<&'a v1::Identity>,
    pub(crate) duration: Duration,
    pub(crate) ended: Timestamp,
    /// Number of the first part.
    pub(crate) seq: u64,
}

/// Takes everything that was measured and not yet sent.
pub(crate) fn freeze(measure: &mut Measure, header: &Header<'_>) -> Parts {
    measure.has_news = false;
    let unmeasured = measure.unmeasured.take();
    let first = v1::Window {
        identity: header.identity.cloned(),
        unmeasured: unmeasured::wire(&unmeasured),
        ..header.window()
    };
    let mut open = Part { unmeasured, ..header.part(header.seq, &first) };
    let mut full = VecDeque::new();
    measure.keys.drain(|series| {
        let requests = series.count + series.long_count;
        header.append(&mut open, &mut full, series);
        open.requests += requests;
        open.seq
    });
    if header.identity.is_some() {
        let totals = v1::Totals { unmeasured: measure.unmeasured.total(), ..measure.keys.totals() };
        let tail = v1::Window { totals: Some(totals), ..v1::Window::default() };
        header.make_room(&mut open, &mut full, tail.encoded_len());
        append(&tail, &mut open.bytes);
    }
    number(open, full)
}

impl Header<'_> {
    fn window(&self) -> v1::Window {
        let duration_ms = u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX);
        v1::Window { node_id: self.node_id.to_owned(), duration_ms, ..v1::Window::default() }
    }

    fn part(&self, seq: u64, window: &v1::Window) -> Part {
        Part { seq, bytes: window.encode_to_vec(), ended: self.ended, requests: 0, says_who: self.identity.is_some(), unmeasured: Vec::new() }
    }

    fn append(&self, open: &mut Part, full: &mut VecDeque<Part>, series: v1::Series) {
        let window = v1::Window { series: vec![series], ..v1::Window::default() };
        self.make_room(open, full, window.encoded_len());
        append(&window, &mut open.bytes);
    }

    /// Begins a new part where `bytes` more would be too many.
    fn make_room(&self, open: &mut Part, full: &mut VecDeque<Part>, bytes: usize) {
        if open.bytes.len() + bytes + PARTS_LEFT_BYTES > MAX_WINDOW_BYTES {
            let next = self.part(open.seq + 1, &self.window());
            full.push_back(std::mem::replace(open, next));
        }
    }
}

/// A message's fields may come in any order and in several pieces: pieces are joined by appending.
fn append(piece: &v1::Window, bytes: &mut Vec<u8>) {
    bytes.reserve(piece.encoded_len());
    piece.encode_raw(bytes);
}

/// Tells each part how many follow.
fn number(last: Part, mut full: VecDeque<Part>) -> Parts {
    let mut left = u32::try_from(full.len()).unwrap_or(u32::MAX);
    for part in &mut full {
        append(&v1::Window { parts_left: left, ..v1::Window::default() }, &mut part.bytes);
        left = left.saturating_sub(1);
    }
    match full.pop_front() {
        None => Parts { first: last, rest: full },
        Some(first) => {
            full.push_back(last);
            Parts { first, rest: full }
        }
    }
}
