//! What the controller remembers beyond its process, and how it is written down.
//!
//! One JSON object. Its `machine` is what the decision machine remembers; `learned` is what windows taught of
//! overlaps. A restarted controller goes on with both; the machine's clock goes on by the time that passed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gma_core::decide::State;
use gma_core::ids::Timestamp;
use gma_core::measured::Learned;
use serde::{Deserialize, Serialize};

/// Version that is written. One more for each change that an older controller would misread.
const VERSION: u32 = 1;

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
    /// When it was written down, since 1970; none: it was not.
    written: Option<Duration>,
}

/// What was written down and cannot be used. None of it goes away by itself.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// A newer controller wrote it.
    #[error("it has version {found}, and this controller reads up to {VERSION}: a newer controller wrote it")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It was cut off, changed, or is something else.
    #[error("it is no controller's state: {0}")]
    Corrupt(String),
    /// Longer than [`MAX_BYTES`].
    #[error("it has {0} bytes, more than a controller writes ({MAX_BYTES})")]
    TooLong(usize),
}

#[derive(Deserialize)]
struct Versioned {
    machine: Version,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Read {
    machine: Machine<State>,
    learned: Learned,
}

#[derive(Serialize)]
struct Written<'a> {
    machine: Machine<&'a State>,
    learned: &'a Learned,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine<S> {
    version: u32,
    wall_unix_ms: u64,
    state: S,
}

// === impl Memory ===

impl Memory {
    /// What is to be written down at `wall`, as JSON.
    ///
    /// # Errors
    /// Where it does not serialise.
    pub fn encode(state: &State, learned: &Learned, wall: SystemTime) -> serde_json::Result<Vec<u8>> {
        let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let machine = Machine {
            version: VERSION,
            wall_unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            state,
        };
        serde_json::to_vec(&Written { machine, learned })
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
        // The version first: the rest of a newer one may be anything.
        let Version { version: found } = serde_json::from_slice::<Versioned>(bytes)
            .map_err(corrupt)?
            .machine;
        if found > VERSION {
            return Err(Unreadable::Newer { found });
        }
        let Read { machine, learned } = serde_json::from_slice(bytes).map_err(corrupt)?;
        Ok(Self {
            state: machine.state,
            learned,
            written: Some(Duration::from_millis(machine.wall_unix_ms)),
        })
    }

    /// What the controller's clock shows at `wall`: it goes on from the machine's last moment by the time that passed
    /// since. Where the machine's wall clock was set back, none passed.
    pub fn clock(&self, wall: SystemTime) -> Timestamp {
        let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let passed = self
            .written
            .map_or(Duration::ZERO, |then| now.saturating_sub(then));
        self.state.at.after(passed)
    }
}

#[cfg(test)]
mod tests {
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
