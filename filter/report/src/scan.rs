//! Looks at a message's fields without building it.
//!
//! Two bytes on the wire (an empty series) become some 200 in memory, so repeated fields are counted
//! before the message is decoded.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::error::Echo;
use crate::{Problem, limits};

const ENVELOPE_VM: u32 = 2;
const ENVELOPE_SEQ: u32 = 3;
const WINDOW_IDENTITY: u32 = 3;
const WINDOW_SERIES: u32 = 4;
const WINDOW_TOTALS: u32 = 5;
const WINDOW_UNMEASURED: u32 = 6;
const IDENTITY_LABELS: u32 = 5;
const TOTALS_KEYS: u32 = 1;

/// One field: its number and, where it has one, its length-delimited content.
type Field<'a> = (u32, &'a [u8]);

/// Calls `visit` for each length-delimited field; other fields come with their bytes on the wire.
/// `None` where the bytes are no message.
fn walk<'a>(mut rest: &'a [u8], mut visit: impl FnMut(Field<'a>)) -> Option<()> {
    while !rest.is_empty() {
        let (field, wire) = decode_key(&mut rest).ok()?;
        if wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let (content, after) = rest.split_at_checked(length)?;
            visit((field, content));
            rest = after;
        } else {
            let before = rest;
            skip_field(wire, field, &mut rest, DecodeContext::default()).ok()?;
            visit((field, before.get(..before.len() - rest.len())?));
        }
    }
    Some(())
}

/// The VM and number of a report, as far as they can be read from bytes that are otherwise broken.
pub(crate) fn echo(body: &[u8]) -> Option<Echo> {
    let (mut vm, mut seq) = (0, 0);
    // A broken rest is no concern: both fields come before the window.
    let _ = walk(body, |(field, content)| match field {
        ENVELOPE_VM => vm = content.try_into().map_or(0, u64::from_le_bytes),
        ENVELOPE_SEQ => seq = decode_varint(&mut &*content).unwrap_or(0),
        _ => {}
    });
    (vm != 0 && seq != 0).then_some(Echo { vm, seq })
}

/// Refuses a window with more entries than the format allows, before it is built.
pub(crate) fn check_counts(window: &[u8]) -> Result<(), Problem> {
    let mut series = 0;
    let mut unmeasured = 0;
    let mut labels = 0;
    let mut totals = 0;
    let mut nested = Some(());
    let walked = walk(window, |(field, content)| match field {
        WINDOW_SERIES => series += 1,
        WINDOW_UNMEASURED => unmeasured += 1,
        WINDOW_IDENTITY => nested = nested.and(count(content, IDENTITY_LABELS, &mut labels)),
        WINDOW_TOTALS => nested = nested.and(count(content, TOTALS_KEYS, &mut totals)),
        _ => {}
    });
    walked.and(nested).ok_or(Problem::Malformed { what: "window" })?;
    for (field, found, limit) in [
        ("series", series, limits::MAX_SERIES),
        ("unmeasured", unmeasured, limits::MAX_UNMEASURED),
        ("identity.labels", labels, limits::MAX_LABELS),
        ("totals.keys", totals, limits::MAX_TOTALS),
    ] {
        if found > limit {
            return Err(Problem::TooLarge { field, found, limit });
        }
    }
    Ok(())
}

fn count(message: &[u8], wanted: u32, found: &mut usize) -> Option<()> {
    walk(message, |(field, _)| *found += usize::from(field == wanted))
}
