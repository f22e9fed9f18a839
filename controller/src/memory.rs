//! What the controller remembers beyond its process, and how it is written down.
//!
//! One JSON object. Its `machine` is what the decision machine remembers, with a version and a wall clock of its own (see
//! [`gma_core::decide::saved`]); `learned` is what windows taught of overlaps.

use std::time::{SystemTime, UNIX_EPOCH};

use gma_core::decide::State;
use gma_core::decide::saved::{self, Saved, SavedError};
use gma_core::measured::Learned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::warn;

/// Most that is read or written, bytes: a thousand edges with ten decisions each, and what is learned of 10,000
/// services, are below it.
pub const MAX_BYTES: usize = 16 << 20;

/// What an earlier controller remembered.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Of the decision machine.
    pub machine: Saved,
    /// Of overlaps.
    pub learned: Learned,
}

/// What was written down and cannot be used. None of it goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It was cut off, changed, or is something else.
    #[error("it is no controller's state: {0}")]
    Corrupt(String),
    /// Its machine is not one of a version that is known.
    #[error(transparent)]
    Machine(#[from] SavedError),
    /// Longer than [`MAX_BYTES`].
    #[error("it has {0} bytes, more than a controller writes ({MAX_BYTES})")]
    TooLong(usize),
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    machine: &'a RawValue,
    #[serde(borrow)]
    learned: &'a RawValue,
}

#[derive(Serialize)]
struct Written<'a> {
    machine: Box<RawValue>,
    learned: &'a Learned,
}

// === impl Memory ===

impl Memory {
    /// What is to be written down at `wall_unix_ms`, as JSON.
    ///
    /// # Errors
    /// Where it does not serialise.
    pub fn encode(state: &State, learned: &Learned, wall_unix_ms: u64) -> anyhow::Result<Vec<u8>> {
        let machine = RawValue::from_string(saved::to_json(state, wall_unix_ms)?)?;
        Ok(serde_json::to_vec(&Written { machine, learned })?)
    }

    /// Reads what was written down. What was learned is worth less than the rest: where it is not understood, it is
    /// learned anew.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > MAX_BYTES {
            return Err(Unreadable::TooLong(bytes.len()));
        }
        let corrupt = |error: serde_json::Error| Unreadable::Corrupt(error.to_string());
        let Read { machine, learned } = serde_json::from_slice(bytes).map_err(corrupt)?;
        let machine = saved::from_json(machine.get())?;
        let learned = serde_json::from_str(learned.get()).unwrap_or_else(|error| {
            warn!(%error, "what was learned of overlaps cannot be read; it is learned anew");
            Learned::default()
        });
        Ok(Self { machine, learned })
    }

    /// State and learning to go on with at `wall_unix_ms`.
    pub fn resume(self, wall_unix_ms: u64) -> (State, Learned) {
        (self.machine.resume(wall_unix_ms), self.learned)
    }
}

/// The wall clock, milliseconds since 1970.
pub fn wall_unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use gma_core::ids::Timestamp;
    use std::time::Duration;

    use super::*;

    fn text() -> Vec<u8> {
        let mut state = State::default();
        state.at = Timestamp::from_start(Duration::from_secs(100));
        Memory::encode(&state, &Learned::default(), 1_000_000).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_its_clock_goes_on() {
        let (state, learned) = Memory::decode(&text()).unwrap().resume(1_060_000);
        assert_eq!(state.at.since_start(), Duration::from_secs(160));
        assert_eq!(learned, Learned::default());
    }

    #[test]
    fn what_is_newer_or_broken_is_told_apart() {
        let newer = br#"{"machine": {"version": 99, "brain": []}, "learned": {}}"#;
        let error = Memory::decode(newer).unwrap_err();
        assert!(
            matches!(error, Unreadable::Machine(SavedError::Newer { found: 99 })),
            "{error}"
        );
        let bytes = text();
        for length in 0..bytes.len() {
            let cut = Memory::decode(&bytes[..length]);
            assert!(matches!(cut, Err(Unreadable::Corrupt(_))), "{length}: {cut:?}");
        }
        let long = vec![b' '; MAX_BYTES + 1];
        assert!(matches!(Memory::decode(&long), Err(Unreadable::TooLong(_))));
    }

    #[test]
    fn learning_of_another_form_is_given_up_and_the_rest_is_not() {
        let text = String::from_utf8(text()).unwrap();
        let other = text.replace(r#""learned":{"#, r#""learned":{"fits":7,"#);
        assert_ne!(other, text);
        let memory = Memory::decode(other.as_bytes()).unwrap();
        assert_eq!(memory.machine.state.at.since_start(), Duration::from_secs(100));
        assert_eq!(memory.learned, Learned::default());
    }
}
