//! Server-sent events: the view of each round, for pages that follow.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::{StateBody, Which, unknown};
use crate::shared::{MAX_FOLLOWERS, Round, Shared};

/// Between two events: rounds come twice a second.
const GAP: Duration = Duration::from_millis(500);

/// A comment after so long without an event, so that proxies keep the connection and a dead peer is found.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A page that lost the connection comes back after this.
const RETRY: Duration = Duration::from_secs(2);

/// Somebody who follows.
struct Follower {
    shared: Arc<Shared>,
    rounds: watch::Receiver<Option<Arc<Round>>>,
    greeted: bool,
    not_before: Instant,
    /// Given back when the connection ends.
    _permit: OwnedSemaphorePermit,
}

/// Follows the rounds: `now` and `round` of the state as data of unnamed events. The exact totals of every proxy are left
/// out: they are for programs, and large.
pub(super) async fn follow(State(shared): State<Arc<Shared>>, Query(which): Query<Which>) -> Response {
    let Some(shared) = shared.of(which.object.as_deref()) else {
        return unknown(&shared);
    };
    let Ok(permit) = Arc::clone(&shared.followers).try_acquire_owned() else {
        let text = format!("{MAX_FOLLOWERS} pages follow already: close one, or read /api/v1/state\n");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "5")],
            text,
        )
            .into_response();
    };
    let mut rounds = shared.rounds();
    // What there is already is the first event.
    rounds.mark_changed();
    let follower = Follower {
        shared,
        rounds,
        greeted: false,
        not_before: Instant::now(),
        _permit: permit,
    };
    Sse::new(events(follower))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

fn events(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    })
}

impl Follower {
    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<Event> {
        if !self.greeted {
            // The page learns at once that it is connected, even before the first round.
            self.greeted = true;
            return Some(Event::default().retry(RETRY).comment("follow"));
        }
        loop {
            let ending = self.shared.ending.clone();
            let news = async {
                tokio::time::sleep_until(self.not_before).await;
                self.rounds.changed().await
            };
            tokio::select! {
                () = ending.cancelled() => return None,
                changed = news => changed.ok()?,
            }
            let round = self.rounds.borrow_and_update().clone();
            if let Some(round) = round {
                self.not_before = Instant::now() + GAP;
                let body = StateBody {
                    now: round.at,
                    round: Some(&round.view),
                    accounting: None,
                };
                // Both were written as JSON before: this does not fail.
                let data = serde_json::to_string(&body).ok()?;
                return Some(Event::default().data(data));
            }
        }
    }
}
