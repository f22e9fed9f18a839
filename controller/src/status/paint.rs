//! Colour, only where a person looks.

use std::io::IsTerminal as _;

/// Whether to paint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(bool);

/// What a text is, as far as colour tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// Waiting for something.
    Wait,
    /// At work.
    Busy,
    /// Wrong.
    Bad,
}

impl Paint {
    /// Paints on a terminal, unless `NO_COLOR` is set to something or the terminal knows no colour.
    pub(crate) fn of_stdout() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self(std::io::stdout().is_terminal() && !plain)
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Wait => "33",
            Tone::Busy => "36",
            Tone::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

impl Tone {
    /// Of a phase, by its name in the state.
    pub(crate) fn of_phase(phase: &str) -> Self {
        match phase {
            "observing" | "coolingDown" => Self::Good,
            "acting" | "verifying" => Self::Busy,
            "rollingBack" => Self::Bad,
            _ => Self::Wait,
        }
    }
}
