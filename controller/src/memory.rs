//! What the controller remembers beyond its process, and how it is written down.
//!
//! One JSON object. Its `machine` is what the decision machine remembers; `learned` is what windows taught of
//! overlaps. A restarted controller goes on with both; the machine's clock goes on by the time that passed.

use std::time::{SystemTime, UNIX_EPOCH};

use gma_core::decide::State;
use gma_core::decide::saved::{self, SavedError, VERSION, Written};
use gma_core::ids::Timestamp;
use gma_core::measured::Learned;
use serde::Serialize;
use serde_json::Value;

/// Most that is read or written, bytes: a thousand edges with ten decisions each, and what is learned of 10,000
/// services, are below it.
pub const MAX_BYTES: usize = 16 << 20;

/// What the controller remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Of the decision machine.
    pub state: State,
    /// Of overlaps.
    pub learned: Learned,
    /// When it was written down, milliseconds since 1970; none: it was not, or by a version that did not say.
    written_ms: Option<u64>,
}

/// What was written down and cannot be used. None of it goes away by itself.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// A newer controller wrote it.
    #[error("it has version {found}, and this controller reads up to {VERSION}: a newer controller wrote it")]
    Newer {
        /// Its version.
        found: u64,
    },
    /// It was cut off, changed, or is something else.
    #[error("it is no controller's state: {0}")]
    Corrupt(String),
    /// Longer than [`MAX_BYTES`].
    #[error("it has {0} bytes, more than a controller writes ({MAX_BYTES})")]
    TooLong(usize),
}

#[derive(Serialize)]
struct Whole<'a> {
    machine: Written<'a>,
    learned: &'a Learned,
}

// === impl Memory ===

impl Memory {
    /// What is to be written down at `wall`, as JSON.
    ///
    /// # Errors
    /// Where it does not serialise.
    pub fn encode(state: &State, learned: &Learned, wall: SystemTime) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Whole {
            machine: Written::new(state, unix_ms(wall)),
            learned,
        })
    }

    /// Reads what was written down.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > MAX_BYTES {
            return Err(Unreadable::TooLong(bytes.len()));
        }
        let corrupt = |error: serde_json::Error| Unreadable::Corrupt(error.to_string());
        let mut whole: Value = serde_json::from_slice(bytes).map_err(corrupt)?;
        let learned = whole.get_mut("learned").map(Value::take);
        // Before there was a version, the machine's part was all.
        let machine = whole.get_mut("machine").map(Value::take);
        let saved = saved::from_value(machine.unwrap_or(whole)).map_err(|error| match error {
            SavedError::Newer { found } => Unreadable::Newer { found },
            error => Unreadable::Corrupt(error.to_string()),
        })?;
        let learned = match learned {
            Some(learned) => serde_json::from_value(learned).map_err(corrupt)?,
            None if saved.version == 0 => Learned::default(),
            None => return Err(Unreadable::Corrupt("what was learned is missing".to_owned())),
        };
        Ok(Self {
            state: saved.state,
            learned,
            written_ms: saved.wall_unix_ms,
        })
    }

    /// What the controller's clock shows at `wall`: it goes on from the machine's last moment by the time that passed
    /// since. Where the machine's wall clock was set back, none passed.
    pub fn clock(&self, wall: SystemTime) -> Timestamp {
        saved::clock(self.state.at, self.written_ms, unix_ms(wall))
    }
}

fn unix_ms(wall: SystemTime) -> u64 {
    let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn state() -> State {
        let mut state = State::default();
        state.at = Timestamp::from_start(Duration::from_secs(100));
        state
    }

    #[test]
    fn the_clock_goes_on_by_what_passed_and_never_back() {
        let bytes = Memory::encode(&state(), &Learned::default(), at(1_000)).unwrap();
        let memory = Memory::decode(&bytes).unwrap();
        assert_eq!(memory.state, state());
        assert_eq!(memory.clock(at(1_060)).since_start(), Duration::from_secs(160));
        assert_eq!(memory.clock(at(900)).since_start(), Duration::from_secs(100));
        assert_eq!(Memory::default().clock(at(900)), Timestamp::default());
    }

    #[test]
    fn what_is_newer_or_broken_is_told_apart() {
        let bytes = Memory::encode(&state(), &Learned::default(), at(1_000)).unwrap();
        let newer = br#"{"machine": {"version": 7, "brain": []}, "soul": {}}"#;
        assert_eq!(Memory::decode(newer), Err(Unreadable::Newer { found: 7 }));
        for length in 0..bytes.len() {
            let cut = Memory::decode(&bytes[..length]);
            assert!(matches!(cut, Err(Unreadable::Corrupt(_))), "{length}: {cut:?}");
        }
        let long = vec![b' '; MAX_BYTES + 1];
        assert_eq!(Memory::decode(&long), Err(Unreadable::TooLong(MAX_BYTES + 1)));
    }
}
