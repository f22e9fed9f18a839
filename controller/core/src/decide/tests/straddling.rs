//! A delay that is a little outside the band: the shortest narrow window can't tell, the time of the alarm can.

use std::time::Duration;

use super::world::{CLOUD, EDGE, area};
use crate::decide::evidence::{Since, read};
use crate::decide::{Config, Position, Reading};
use crate::ids::Timestamp;
use crate::snapshot::{
    Coverage, DELAY_SLOT, DelaySlot, DelayStats, EdgeSnapshot, Measured, OutcomeCounts, Snapshot,
};

/// 100 requests, half of them half as long as the mean and half of them longer by as much.
fn slot(mean_us: u32) -> DelaySlot {
    let half = mean_us / 2;
    DelaySlot {
        count: 100,
        sum_us: u64::from(mean_us) * 100,
        buckets: [(half, 50), (mean_us + half, 50)].into(),
    }
}

fn at(slots: usize) -> Timestamp {
    Timestamp::from_start(DELAY_SLOT * slots as u32)
}

/// Reads slots that began at the start, against the default band (60 to 120 ms).
fn reading(slots: Vec<DelaySlot>, alarm: Option<Timestamp>) -> Reading {
    let now = at(slots.len());
    let delay = DelayStats {
        count: 800,
        mean_us: 0.0,
        p50_us: 0,
        p90_us: 0,
        p95_us: 0,
        p99_us: 0,
    };
    let edge = EdgeSnapshot {
        user_delay: Measured::Present { value: delay },
        outcomes: OutcomeCounts {
            ok: 800,
            ..OutcomeCounts::default()
        },
        rate_rps: 200.0,
        rtt: Measured::NotYet,
        report_age: Measured::Present {
            value: Duration::ZERO,
        },
        slots,
        slots_end: now,
        coverage: Coverage::default(),
    };
    let config = Config::new(area(CLOUD), [area(EDGE)]);
    let snapshot = Snapshot {
        at: now,
        window: Duration::from_secs(4),
        edges: [(area(EDGE), edge)].into(),
        calls: Vec::new(),
        received: Vec::new(),
        coverage: Vec::new(),
        network: Vec::new(),
    };
    let since = Since {
        at: Timestamp::default(),
        alarm,
    };
    let edge = snapshot.edges.get(&area(EDGE));
    let objective = config.edges[&area(EDGE)];
    read(edge, &snapshot, &objective, &config, since).unwrap()
}

#[test]
fn a_delay_a_little_above_is_above_once_the_alarm_lasts() {
    let slots = vec![slot(124_000); 600];
    let first = reading(slots.clone(), None);
    assert_eq!(
        first.position,
        Position::Inside,
        "it may lie in the band: {first:?}"
    );
    assert!(first.low_us < 120_000.0 && first.value_us > 120_000.0);
    let short = reading(slots.clone(), Some(at(590)));
    assert_eq!(short.position, Position::Inside, "{short:?}");
    let long = reading(slots, Some(at(480)));
    assert_eq!(long.position, Position::Above, "{long:?}");
    assert!(long.from >= at(480), "{long:?}");
}

#[test]
fn what_was_before_the_alarm_is_not_asked() {
    let slots = [vec![slot(150_000); 560], vec![slot(122_000); 40]].concat();
    let read = reading(slots, Some(at(560)));
    assert_eq!(read.position, Position::Inside, "{read:?}");
}

#[test]
fn a_value_in_the_band_ends_it() {
    let slots = [vec![slot(150_000); 560], vec![slot(112_000); 40]].concat();
    let read = reading(slots, Some(at(0)));
    assert_eq!(read.position, Position::Inside, "{read:?}");
    assert!(read.value_us < 120_000.0, "{read:?}");
}
