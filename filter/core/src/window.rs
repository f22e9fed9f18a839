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
    let mut open = Part {
        unmeasured,
        ..header.part(header.seq, &first)
    };
    let mut full = VecDeque::new();
    measure.keys.drain(|series| {
        let requests = series.count + series.long_count;
        header.append(&mut open, &mut full, series);
        open.requests += requests;
        open.seq
    });
    if header.identity.is_some() {
        let totals = v1::Totals {
            unmeasured: measure.unmeasured.total(),
            ..measure.keys.totals()
        };
        let tail = v1::Window {
            totals: Some(totals),
            ..v1::Window::default()
        };
        header.make_room(&mut open, &mut full, tail.encoded_len());
        append(&tail, &mut open.bytes);
    }
    number(open, full)
}

impl Header<'_> {
    fn window(&self) -> v1::Window {
        let duration_ms = u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX);
        v1::Window {
            node_id: self.node_id.to_owned(),
            duration_ms,
            ..v1::Window::default()
        }
    }

    fn part(&self, seq: u64, window: &v1::Window) -> Part {
        Part {
            seq,
            bytes: window.encode_to_vec(),
            ended: self.ended,
            requests: 0,
            says_who: self.identity.is_some(),
            unmeasured: Vec::new(),
        }
    }

    fn append(&self, open: &mut Part, full: &mut VecDeque<Part>, series: v1::Series) {
        let window = v1::Window {
            series: vec![series],
            ..v1::Window::default()
        };
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
        append(
            &v1::Window {
                parts_left: left,
                ..v1::Window::default()
            },
            &mut part.bytes,
        );
        left = left.saturating_sub(1);
    }
    match full.pop_front() {
        None => Parts {
            first: last,
            rest: full,
        },
        Some(first) => {
            full.push_back(last);
            Parts { first, rest: full }
        }
    }
}

#[cfg(test)]
mod tests {
    use gma_report::histogram::{HIGHEST_US, bucket_of, lowest_us};
    use gma_report::limits::MAX_REPORT_BYTES;
    use gma_report::v1::Outcome;
    use gma_report::{EnvelopeHead, Report, decode, encode_envelope};

    use super::*;
    use crate::accumulator::{Measured, Observation};
    use crate::keys::Destination;

    fn header(identity: Option<&v1::Identity>) -> Header<'_> {
        let ended = Timestamp::from_nanos(5);
        Header {
            node_id: "sidecar~a~b~c",
            identity,
            duration: Duration::from_secs(2),
            ended,
            seq: 7,
        }
    }

    fn report(part: &Part) -> (usize, Report) {
        let (module, config_hash) = ("m", 1);
        let head = EnvelopeHead {
            vm: 1,
            seq: part.seq,
            module,
            config_hash,
            age_ms: 0,
            round_trip_us: None,
        };
        let body = encode_envelope(&head, &part.bytes);
        (body.len(), decode(&body).unwrap())
    }

    fn add(measure: &mut Measure, cluster: &str, locality: u8, outcome: Outcome, duration_us: u64) {
        let route = measure.keys.route(cluster.as_bytes()).unwrap();
        let destination = match locality {
            0 => Destination::None,
            n => measure.keys.destination(&[0x0a, 1, b'0' + n]),
        };
        let measured = Measured::Answer {
            duration_us,
            response_bytes: 1,
        };
        measure
            .keys
            .add(
                route,
                destination,
                outcome,
                &Observation {
                    measured,
                    sample: None,
                },
            )
            .unwrap();
    }

    #[test]
    fn an_empty_window_is_one_small_part() {
        let parts = freeze(&mut Measure::new(1), &header(None));
        assert!(parts.rest.is_empty());
        let (bytes, report) = report(&parts.first);
        assert!(bytes < 200);
        assert_eq!((report.head.seq, report.window.parts_left), (7, 0));
        assert_eq!(report.window.duration, Duration::from_secs(2));
    }

    /// Every key that there can be, each with every bucket: the most that a filter can say.
    #[test]
    fn the_largest_window_comes_in_parts_and_loses_nothing() {
        let mut measure = Measure::new(1);
        let outcomes = [
            Outcome::Ok,
            Outcome::ClientError,
            Outcome::ServerError,
            Outcome::NoResponse,
        ];
        let last = bucket_of(HIGHEST_US);
        let mut added = 0;
        for service in 0..256 {
            for bucket in 0..=last {
                add(
                    &mut measure,
                    &format!("outbound|80||s{service}.a"),
                    0,
                    Outcome::Ok,
                    lowest_us(bucket),
                );
                added += 1;
            }
        }
        for locality in 0..=48 {
            for outcome in outcomes {
                for bucket in (0..=last).step_by(2) {
                    add(
                        &mut measure,
                        "outbound|80||late.a",
                        locality,
                        outcome,
                        lowest_us(bucket),
                    );
                    added += 1;
                }
            }
        }
        measure.unmeasured.add(Reason::NoCluster, 3);
        let parts = freeze(&mut measure, &header(Some(&v1::Identity::default())));
        let all: Vec<_> = std::iter::once(&parts.first).chain(&parts.rest).collect();
        assert!(all.len() > 1);
        let mut counted = 0;
        for (part, number) in all.iter().zip(0..) {
            let (bytes, report) = report(part);
            assert!(bytes <= MAX_REPORT_BYTES && part.bytes.len() <= MAX_WINDOW_BYTES);
            let (left, is_last) = (all.len() - 1 - number, number == all.len() - 1);
            assert_eq!(
                (report.head.seq, report.window.parts_left),
                (7 + number as u64, left as u32)
            );
            assert_eq!(report.window.identity.is_some(), number == 0);
            assert_eq!(
                report.window.totals.is_some(),
                is_last,
                "totals come when all parts have come"
            );
            assert_eq!(report.window.unmeasured.len(), usize::from(number == 0));
            let requests: u64 = report.window.series.iter().map(|series| series.count).sum();
            assert_eq!(requests, part.requests);
            counted += requests;
        }
        assert_eq!(counted, added);
        assert!(
            freeze(&mut measure, &header(None)).rest.is_empty(),
            "nothing is left"
        );
    }
}
