//! Builds the bytes of a report around a frozen window.

use prost::Message;

use crate::{VERSION, limits, v1};

/// What is said anew at each send of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeHead<'a> {
    /// Random identity of the VM, not 0.
    pub vm: u64,
    /// Number of the window, from 1.
    pub seq: u64,
    /// Name and version of the module.
    pub module: &'a str,
    /// Hash of the plugin configuration in force.
    pub config_hash: u64,
    /// Milliseconds between the window's end and this send.
    pub age_ms: u64,
    /// Round trip of the last answered report, µs, the controller's time taken off.
    pub round_trip_us: Option<u32>,
}

/// The body of one send: the envelope, then `window` as it is.
///
/// Values past their limit are held at it (age) or left out (round trip), so that a report is never
/// refused for them.
pub fn encode_envelope(head: &EnvelopeHead<'_>, window: &[u8]) -> Vec<u8> {
    let envelope = v1::Envelope {
        version: VERSION,
        vm: head.vm,
        seq: head.seq,
        module: truncated(head.module, limits::MAX_MODULE_BYTES).to_owned(),
        config_hash: head.config_hash,
        age_ms: head.age_ms.min(limits::MAX_AGE_MS),
        round_trip_us: head.round_trip_us.filter(|us| *us <= limits::MAX_ROUND_TRIP_US),
        window: Vec::new(),
    };
    // `window` is the last field, so it can be appended without a copy of the whole.
    let prefix = prost::encoding::encoded_len_varint(window.len() as u64) + 1;
    let mut body = Vec::with_capacity(envelope.encoded_len() + prefix + window.len());
    envelope.encode_raw(&mut body);
    prost::encoding::encode_key(
        WINDOW_FIELD,
        prost::encoding::WireType::LengthDelimited,
        &mut body,
    );
    prost::encoding::encode_varint(window.len() as u64, &mut body);
    body.extend_from_slice(window);
    body
}

/// Number of `Envelope.window` in the proto file.
const WINDOW_FIELD: u32 = 8;

/// The longest prefix of at most `limit` bytes that ends between characters.
fn truncated(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or("")
}
