//! A link's delay, bandwidth and cut, changed live.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::protocol::Late;
use crate::topology::Bandwidth;

/// What a link does to bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Added round trip time, half of it in each direction.
    pub rtt: Duration,
    /// Of each direction; none: no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Nothing passes; what was under way waits, as retransmissions would.
    pub cut: bool,
    /// Chunks that come late.
    pub late: Option<Late>,
    /// Added to what goes up.
    pub delay_up: Duration,
}

/// From or to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Edge to cloud.
    Up,
    /// Cloud to edge.
    Down,
}

/// The WAN between an edge and the cloud.
#[derive(Debug)]
pub struct Link {
    settings: watch::Sender<LinkSettings>,
    /// When each direction has sent what it took, by [`Direction`].
    free_at: [Mutex<Option<Instant>>; 2],
    /// Chunks so far, of both directions.
    chunks: AtomicU32,
}

/// A link in one direction.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The link.
    pub link: Arc<Link>,
    /// Which way.
    pub direction: Direction,
}

// === impl Link ===

impl Link {
    /// A link over which nothing has gone yet.
    pub fn new(settings: LinkSettings) -> Self {
        Self {
            settings: watch::Sender::new(settings),
            free_at: [Mutex::new(None), Mutex::new(None)],
            chunks: AtomicU32::new(0),
        }
    }

    /// What it does now.
    pub fn settings(&self) -> LinkSettings {
        *self.settings.borrow()
    }

    /// Changes the link for what arrives from now on. A queue behind an old bandwidth is forgotten.
    pub fn set(&self, settings: LinkSettings) {
        let before = self.settings.send_replace(settings);
        if before.bandwidth != settings.bandwidth {
            for free_at in &self.free_at {
                *free_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
    }

    /// When `bytes` that reach the link at `now` come out of it: they wait for the direction's earlier bytes, take
    /// their time at its bandwidth, and travel half the round trip, longer where they are late.
    fn out_at(&self, direction: Direction, now: Instant, bytes: usize) -> Instant {
        let LinkSettings {
            rtt,
            bandwidth,
            late,
            delay_up,
            cut: _,
        } = self.settings();
        let up = if direction == Direction::Up {
            delay_up
        } else {
            Duration::ZERO
        };
        let travel = rtt / 2 + up + late.map_or(Duration::ZERO, |late| self.lateness(late));
        let Some(bandwidth) = bandwidth else {
            return now + travel;
        };
        let [up, down] = &self.free_at;
        let free_at = match direction {
            Direction::Up => up,
            Direction::Down => down,
        };
        let mut free_at = free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = free_at.map_or(now, |free_at| free_at.max(now)) + bandwidth.time_of(bytes);
        *free_at = Some(sent);
        sent + travel
    }

    /// How late the next chunk is.
    fn lateness(&self, late: Late) -> Duration {
        let number = self.chunks.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(late.every.max(1)) {
            late.by
        } else {
            Duration::ZERO
        }
    }

    /// Returns once the link is not cut.
    pub(crate) async fn joined(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let mut settings = self.settings.subscribe();
        let _joined = settings.wait_for(|settings| !settings.cut).await;
    }
}

// === impl Hop ===

impl Hop {
    /// The way back.
    pub(crate) fn reversed(&self) -> Self {
        let direction = match self.direction {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        };
        Self {
            link: Arc::clone(&self.link),
            direction,
        }
    }
}

/// When `bytes` that enter the path at `now` come out of its last link.
pub(super) fn out_at(path: &[Hop], now: Instant, bytes: usize) -> Instant {
    path.iter()
        .fold(now, |at, hop| hop.link.out_at(hop.direction, at, bytes))
}

/// The path's round trip time.
pub(super) fn rtt(path: &[Hop]) -> Duration {
    path.iter().map(|hop| hop.link.settings().rtt).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(rtt_ms: u64, bandwidth: Option<&str>) -> Hop {
        let settings = LinkSettings {
            rtt: Duration::from_millis(rtt_ms),
            bandwidth: bandwidth.map(|text| text.parse().unwrap()),
            ..LinkSettings::default()
        };
        Hop {
            link: Arc::new(Link::new(settings)),
            direction: Direction::Up,
        }
    }

    #[test]
    fn half_the_round_trip_is_added_on_each_link_of_the_path() {
        let now = Instant::now();
        let path = [hop(20, None), hop(30, None)];
        assert_eq!(out_at(&path, now, 1) - now, Duration::from_millis(25));
        assert_eq!(rtt(&path), Duration::from_millis(50));
    }

    #[test]
    fn bytes_queue_behind_those_of_the_same_direction_only() {
        let now = Instant::now();
        let up = hop(0, Some("8Mbps"));
        let path = std::slice::from_ref(&up);
        assert_eq!(out_at(path, now, 1000) - now, Duration::from_millis(1));
        assert_eq!(out_at(path, now, 1000) - now, Duration::from_millis(2));
        assert_eq!(
            out_at(&[up.reversed()], now, 1000) - now,
            Duration::from_millis(1)
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(
            out_at(path, later, 1000) - later,
            Duration::from_millis(1),
            "an idle link saves nothing up"
        );
    }

    #[test]
    fn one_chunk_in_so_many_is_late_and_reports_are_delayed_one_way() {
        let now = Instant::now();
        let up = hop(20, None);
        up.link.set(LinkSettings {
            late: Some(Late {
                every: 3,
                by: Duration::from_millis(200),
            }),
            ..up.link.settings()
        });
        let delays: Vec<u128> = (0..6)
            .map(|_| (out_at(std::slice::from_ref(&up), now, 1) - now).as_millis())
            .collect();
        assert_eq!(delays, [210, 10, 10, 210, 10, 10]);
        up.link.set(LinkSettings {
            delay_up: Duration::from_secs(10),
            ..LinkSettings::default()
        });
        assert_eq!(
            out_at(std::slice::from_ref(&up), now, 1) - now,
            Duration::from_secs(10)
        );
        assert_eq!(out_at(&[up.reversed()], now, 1), now, "answers are not delayed");
    }

    #[test]
    fn a_new_bandwidth_forgets_the_old_queue() {
        let now = Instant::now();
        let up = hop(0, Some("1kbps"));
        let path = std::slice::from_ref(&up);
        assert!(out_at(path, now, 1000) - now >= Duration::from_secs(8));
        up.link.set(LinkSettings {
            bandwidth: Some("8Mbps".parse().unwrap()),
            ..LinkSettings::default()
        });
        assert_eq!(out_at(path, now, 1000) - now, Duration::from_millis(1));
    }
}
