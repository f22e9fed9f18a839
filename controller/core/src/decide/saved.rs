//! The machine's state as JSON, to go on with after a restart.
//!
//! Times of a [`State`] count from a start. With the state its wall clock is saved, and the clock of who loads it goes on
//! from [`clock`]: so back-offs and the hour of the budget pass while no controller runs. What is measured against the
//! mesh does not: a step, a verification and an alarm saw nothing meanwhile, see [`State::interrupt`]. A wall clock that
//! went backwards counts as no time.
//!
//! ```
//! use gma_core::decide::{State, saved};
//! let text = saved::to_json(&State::default(), 1_700_000_000_000).unwrap();
//! let saved = saved::from_json(&text).unwrap();
//! let now = saved::clock(saved.state.at, saved.wall_unix_ms, 1_700_000_060_000);
//! assert_eq!(now.since_start().as_secs(), 60);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::State;
use super::phase::{BackOff, Phase};
use super::plan::{Direction, Outcome};
use crate::ids::{AreaName, Timestamp};

/// What this controller writes. Version 0 had no version and no wall clock.
pub const VERSION: u32 = 1;

/// A state and when it was true.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Version that it was written in.
    pub version: u32,
    /// Milliseconds since 1970 at [`State::at`]; none where the version had none.
    pub wall_unix_ms: Option<u64>,
    /// The state.
    pub state: State,
}

/// Why a state can't be loaded or saved. No variant goes away by itself.
#[derive(Debug)]
pub enum SavedError {
    /// It is no JSON, or cut off.
    NotJson(serde_json::Error),
    /// A newer controller wrote it.
    Newer {
        /// Its version.
        found: u64,
    },
    /// It is JSON, and no state of its version.
    NotAState {
        /// Its version.
        version: u32,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// It can't be written as JSON.
    NotWritten(serde_json::Error),
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(error) => write!(
                f,
                "the saved state is no whole JSON ({error}): without it the machine starts from what runs"
            ),
            Self::Newer { found } => write!(
                f,
                "the saved state has version {found}, this controller knows {VERSION}: run the newer controller, or \
                 move the state away to start from what runs"
            ),
            Self::NotAState { version, error } => write!(
                f,
                "the saved state is not what version {version} writes ({error}): without it the machine starts from what runs"
            ),
            Self::NotWritten(error) => write!(f, "the state can't be written as JSON: {error}"),
        }
    }
}

impl std::error::Error for SavedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotJson(error) | Self::NotAState { error, .. } | Self::NotWritten(error) => Some(error),
            Self::Newer { .. } => None,
        }
    }
}

/// A state on its way to a file: `{version, wallUnixMs, state}`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written<'a> {
    version: u32,
    wall_unix_ms: u64,
    state: &'a State,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    wall_unix_ms: u64,
    state: State,
}

/// The state as one line of JSON; `wall_unix_ms`: the wall clock at [`State::at`].
///
/// # Errors
/// [`SavedError::NotWritten`]; a state that [`super::step`] made can be written.
pub fn to_json(state: &State, wall_unix_ms: u64) -> Result<String, SavedError> {
    serde_json::to_string(&Written::new(state, wall_unix_ms)).map_err(SavedError::NotWritten)
}

/// Reads what this version or a former one wrote.
///
/// # Errors
/// Why it can't be used; a machine that starts from [`State::default`] goes on from what it finds in the mesh.
pub fn from_json(text: &str) -> Result<Saved, SavedError> {
    from_value(serde_json::from_str(text).map_err(SavedError::NotJson)?)
}

/// The same of parsed JSON.
///
/// # Errors
/// As [`from_json`].
pub fn from_value(value: Value) -> Result<Saved, SavedError> {
    let found = value.get("version").map_or(Some(0), Value::as_u64);
    match found {
        None | Some(0) => version_0(value),
        Some(1) => {
            let Read { wall_unix_ms, state } = serde_json::from_value(value).map_err(not_a_state(1))?;
            Ok(Saved {
                version: 1,
                wall_unix_ms: Some(wall_unix_ms),
                state,
            })
        }
        Some(found) => Err(SavedError::Newer { found }),
    }
}

/// Where the machine's clock goes on: at its last moment `at`, whose wall clock was `then_ms`, and what passed to
/// `now_ms`; nothing where the wall clock is not known or went backwards.
pub fn clock(at: Timestamp, then_ms: Option<u64>, now_ms: u64) -> Timestamp {
    let passed = then_ms.map_or(0, |then| now_ms.saturating_sub(then));
    at.after(Duration::from_millis(passed))
}

// === impl Saved ===

impl Saved {
    /// The state to go on with when the wall clock shows `now_ms`; see [`clock`].
    pub fn resume(self, now_ms: u64) -> State {
        let at = clock(self.state.at, self.wall_unix_ms, now_ms);
        State { at, ..self.state }
    }
}

fn not_a_state(version: u32) -> impl Fn(serde_json::Error) -> SavedError {
    move |error| SavedError::NotAState { version, error }
}

/// The bare state. It remembered failed moves by direction only: here by the services of the last one.
fn version_0(value: Value) -> Result<Saved, SavedError> {
    #[derive(Deserialize)]
    struct Edge {
        failures: BTreeMap<Direction, BackOff>,
    }
    #[derive(Deserialize)]
    struct Edges {
        edges: BTreeMap<AreaName, Edge>,
    }
    let Edges { edges: former } = Edges::deserialize(&value).map_err(not_a_state(0))?;
    let mut state: State = serde_json::from_value(value).map_err(not_a_state(0))?;
    for (name, Edge { failures }) in former {
        let Some(edge) = state.edges.get_mut(&name) else {
            continue;
        };
        for (direction, back_off) in failures {
            let under_way = match &edge.phase {
                Phase::RollingBack { plan, .. } => Some(&**plan),
                _ => None,
            };
            let closed = edge.decisions.iter().rev();
            let closed = closed.filter(|plan| matches!(plan.outcome, Outcome::RolledBack { .. }));
            let last = under_way
                .into_iter()
                .chain(closed)
                .find(|plan| plan.direction() == Some(direction));
            if let Some(plan) = last {
                let services = plan.add.union(&plan.remove).cloned();
                let failed = services.map(|service| (service, back_off)).collect();
                edge.failed.insert(direction, failed);
            }
        }
    }
    Ok(Saved {
        version: 0,
        wall_unix_ms: None,
        state,
    })
}

// === impl Written ===

impl<'a> Written<'a> {
    /// The state with the wall clock at [`State::at`], milliseconds since 1970.
    pub const fn new(state: &'a State, wall_unix_ms: u64) -> Self {
        Self {
            version: VERSION,
            wall_unix_ms,
            state,
        }
    }
}
