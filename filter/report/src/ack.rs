//! The controller's answer to a report.

use prost::Message;

use crate::{limits, v1};

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counted.
    Stored,
    /// Was counted before: the earlier answer was lost.
    Duplicate,
    /// Never will be counted: the filter drops the window and counts its requests under the reason.
    Refused(v1::Reason),
    /// Not counted now: the filter sends it again.
    Busy,
}

/// The controller's answer to one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Echo of the report's VM.
    pub vm: u64,
    /// Echo of the report's number.
    pub seq: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// When the next report is wanted, ms; 0: the filter's own pace. A filter reads it within
    /// [`limits::MIN_NEXT_MS`] and [`limits::MAX_NEXT_MS`].
    pub next_ms: u32,
    /// The next window must carry identity and totals.
    pub resync: bool,
    /// Time that the controller spent on this report, µs.
    pub served_us: u32,
}

/// Why an answer is no ack. The filter sends its report again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// Not a message of the format, or longer than an ack can be.
    #[error("the answer is not an ack")]
    Malformed,
    /// An ack, of another report.
    #[error("the answer is for another report")]
    NoEcho,
    /// A verdict or reason that this version does not know.
    #[error("the ack's verdict is unknown")]
    UnknownVerdict,
}

/// Bytes of an ack.
pub fn encode_ack(ack: &Ack) -> Vec<u8> {
    let (verdict, reason) = match ack.verdict {
        Verdict::Stored => (v1::Verdict::Stored, v1::Reason::Unspecified),
        Verdict::Duplicate => (v1::Verdict::Duplicate, v1::Reason::Unspecified),
        Verdict::Refused(reason) => (v1::Verdict::Refused, reason),
        Verdict::Busy => (v1::Verdict::Busy, v1::Reason::Unspecified),
    };
    v1::Ack {
        vm: ack.vm,
        seq: ack.seq,
        verdict: verdict.into(),
        reason: reason.into(),
        next_ms: ack.next_ms,
        resync: ack.resync,
        served_us: ack.served_us,
    }
    .encode_to_vec()
}

/// Reads the answer to the report (`vm`, `seq`).
///
/// A refusal for a reason that this version does not know counts as malformed: the window must not
/// block the next one.
pub fn decode_ack(bytes: &[u8], vm: u64, seq: u64) -> Result<Ack, AckError> {
    if bytes.len() > limits::MAX_ACK_BYTES {
        return Err(AckError::Malformed);
    }
    let ack = v1::Ack::decode(bytes).map_err(|_| AckError::Malformed)?;
    if (ack.vm, ack.seq) != (vm, seq) {
        return Err(AckError::NoEcho);
    }
    let verdict = match v1::Verdict::try_from(ack.verdict) {
        Ok(v1::Verdict::Stored) => Verdict::Stored,
        Ok(v1::Verdict::Duplicate) => Verdict::Duplicate,
        Ok(v1::Verdict::Refused) => Verdict::Refused(refusal(ack.reason)),
        Ok(v1::Verdict::Busy) => Verdict::Busy,
        Ok(v1::Verdict::Unspecified) | Err(_) => return Err(AckError::UnknownVerdict),
    };
    let next_ms = match ack.next_ms {
        0 => 0,
        ms => ms.clamp(limits::MIN_NEXT_MS, limits::MAX_NEXT_MS),
    };
    Ok(Ack {
        vm,
        seq,
        verdict,
        next_ms,
        resync: ack.resync,
        served_us: ack.served_us,
    })
}

fn refusal(reason: i32) -> v1::Reason {
    match v1::Reason::try_from(reason) {
        Ok(
            known @ (v1::Reason::RefusedVersion
            | v1::Reason::RefusedTooLarge
            | v1::Reason::RefusedUnknownNode
            | v1::Reason::RefusedLimit),
        ) => known,
        _ => v1::Reason::RefusedMalformed,
    }
}
