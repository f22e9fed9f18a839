//! What is not as it should be.

use gma_core::decide::{Direction, Outcome};

use crate::moves::Move;
use crate::report::{EdgeReport, Report, ms, seconds};

/// The WAN's step must bring the delay to this multiple of `offloadAbove`, else it shows little.
const LEAST_STEP: f64 = 1.3;
/// From the step to the first shifted request, in the median.
const MOST_REACTION_S: f64 = 10.0;
/// Prediction error as a share of the delay.
const MOST_ERROR: f64 = 0.1;

/// What should have happened.
pub(crate) struct Expected {
    /// Moves in their order, and how each ended.
    moves: Vec<Wanted>,
    /// Whether each was noticed as fast as an undisturbed controller does.
    is_fast: bool,
}

struct Wanted {
    direction: Direction,
    outcome: fn(&Outcome) -> bool,
}

// === impl Expected ===

impl Expected {
    /// Offload and unoffload, kept, so many times.
    pub(crate) fn there_and_back(cycles: usize) -> Self {
        let cycle = [Direction::Offload, Direction::Unoffload];
        let moves = cycle.into_iter().cycle().take(2 * cycles);
        let kept = |direction| Wanted {
            direction,
            outcome: |outcome| matches!(outcome, Outcome::Kept),
        };
        Self {
            moves: moves.map(kept).collect(),
            is_fast: true,
        }
    }

    /// One move.
    pub(crate) fn one(direction: Direction, outcome: fn(&Outcome) -> bool) -> Self {
        Self {
            moves: vec![Wanted { direction, outcome }],
            is_fast: true,
        }
    }

    /// A controller that was killed meanwhile may be later.
    pub(crate) fn at_leisure(mut self) -> Self {
        self.is_fast = false;
        self
    }
}

/// One line each; none: all is well.
pub(crate) fn complaints(report: &Report, expected: &Expected) -> Vec<String> {
    let mut complaints = Vec::new();
    let made = report.moves.iter().map(Move::name).collect::<Vec<_>>();
    let matches = |(made, wanted): (&Move, &Wanted)| {
        made.direction == Some(wanted.direction) && (wanted.outcome)(&made.outcome)
    };
    if made.len() != expected.moves.len() || !report.moves.iter().zip(&expected.moves).all(matches) {
        complaints.push(format!(
            "other moves were made than expected: {}",
            made.join(", ")
        ));
    }
    for made in &report.moves {
        of_move(made, report.band_ms, &mut complaints);
    }
    if let Some(reaction) = report.reaction_s
        && expected.is_fast
        && reaction.median > MOST_REACTION_S
    {
        complaints.push(format!(
            "from a step of the WAN to the first shifted request it took {} in the median, not {MOST_REACTION_S} s at most",
            seconds(Some(reaction.median))
        ));
    }
    for (name, edge) in &report.edges {
        of_edge(name, edge, &mut complaints);
    }
    complaints
}

fn of_move(made: &Move, [lower, upper]: [f64; 2], complaints: &mut Vec<String>) {
    let name = made.name();
    if made.outcome != Outcome::Kept {
        return;
    }
    if made.direction == Some(Direction::Offload)
        && made
            .delay_before_ms
            .is_none_or(|before| before < LEAST_STEP * upper)
    {
        complaints.push(format!(
            "the delay before the {name} was {}, not {:.0} ms at least",
            ms(made.delay_before_ms),
            LEAST_STEP * upper
        ));
    }
    if !made
        .measured_ms
        .is_some_and(|after| (lower..=upper).contains(&after))
    {
        complaints.push(format!(
            "the delay after the {name} was {}, outside the band",
            ms(made.measured_ms)
        ));
    }
    if made.error_of_delay().is_none_or(|error| error > MOST_ERROR) {
        complaints.push(format!(
            "the delay after the {name} was predicted as {} and measured as {}",
            ms(made.predicted_ms),
            ms(made.measured_ms)
        ));
    }
}

fn of_edge(name: &str, edge: &EdgeReport, complaints: &mut Vec<String>) {
    let bad = edge.failed.saturating_sub(edge.failed_excused);
    if bad > 0 {
        complaints.push(format!("{name}: {bad} of {} requests failed", edge.sent));
    }
    if edge.failed_excused > edge.most_excused {
        complaints.push(format!(
            "{name}: {} requests failed where at most {} had to",
            edge.failed_excused, edge.most_excused
        ));
    }
    if !edge.counts.equal() {
        complaints.push(format!("{name}: the three counts differ"));
    }
}
