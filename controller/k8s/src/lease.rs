//! One leader at a time, by a `Lease`.
//!
//! Written on kube's coordination API: no library for it supports this version of kube. The protocol is that of client-go.
//! A candidate takes the lease when nobody has it, or when it has not changed for its duration by the candidate's own
//! clock: wall clocks of two machines are never compared. A leader renews every [`RENEW`]; what it may write ends
//! [`HOLD`] after the beginning of its last renewal, which is before anybody else may take the lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::error::{ActError, explain, has_code};
use crate::kube_api::post_as_us;

/// Time between renewals, and between a candidate's looks.
const RENEW: Duration = Duration::from_secs(2);
/// A leader that has not renewed for this long no longer is.
const HOLD: Duration = Duration::from_secs(10);
/// A lease that has not changed for this long may be taken; the difference to [`HOLD`] is for what is under way.
const DURATION: Duration = Duration::from_secs(15);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Whether this process leads.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

/// The lease as this process takes part in it.
#[derive(Debug)]
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    until: watch::Sender<Option<Instant>>,
    /// The lease of another as it was last seen to change, and when.
    seen: Option<(Option<String>, Option<MicroTime>, Instant)>,
    complaint: Option<String>,
}

// === impl Leadership ===

impl Leadership {
    /// Whether this process leads now. Asked before each write.
    pub fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn check(&self) -> Result<(), ActError> {
        if self.is_held() {
            Ok(())
        } else {
            Err(ActError::Failed(
                "this controller no longer leads: nothing is written".to_owned(),
            ))
        }
    }

    /// Waits until it leads; for ever where the candidate has ended.
    pub async fn gained(&self) {
        while !self.is_held() {
            let mut changes = self.0.clone();
            if timeout(RENEW, changes.changed())
                .await
                .is_ok_and(|change| change.is_err())
            {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it no longer leads.
    pub async fn lost(&self) {
        let mut changes = self.0.clone();
        loop {
            let until = *changes.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                change = changes.changed() => if change.is_err() { return },
            }
        }
    }
}

// === impl Candidate ===

impl Candidate {
    /// Takes part in the lease `name` as `identity`, which no other process has.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let (until, receiver) = watch::channel(None);
        let candidate = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            until,
            seen: None,
            complaint: None,
        };
        (candidate, Leadership(receiver))
    }

    /// Takes and renews the lease for ever.
    pub(crate) async fn run(mut self) {
        loop {
            self.turn().await;
            sleep(RENEW).await;
        }
    }

    /// Gives the lease away, so that another need not wait until it ends.
    pub(crate) async fn release(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
    ) -> anyhow::Result<()> {
        let api: Api<Lease> = Api::namespaced(client, namespace);
        let Some(mut lease) = timeout(ANSWER, api.get_opt(name)).await?? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(identity) {
            spec.holder_identity = None;
            spec.renew_time = Some(now());
            timeout(ANSWER, api.replace(name, &post_as_us(), &lease)).await??;
        }
        Ok(())
    }

    async fn turn(&mut self) {
        let began = Instant::now();
        let complaint = match timeout(ANSWER, self.try_turn(began)).await {
            Ok(Ok(leads)) => {
                self.tell(leads.then(|| began + HOLD));
                None
            }
            // A lost race: somebody else was faster, and the next look shows who.
            Ok(Err(error)) if has_code(&error, 409) => None,
            Ok(Err(error)) => Some(explain(&error)),
            Err(_) => Some("the API server does not answer".to_owned()),
        };
        if complaint != self.complaint {
            if let Some(error) = &complaint {
                warn!(
                    error,
                    lease = self.name,
                    "the lease can't be taken or renewed; it is tried again"
                );
            }
            self.complaint = complaint;
        }
        let ended = self.until.borrow().is_some_and(|until| Instant::now() >= until);
        if ended {
            self.tell(None);
        }
    }

    fn tell(&self, until: Option<Instant>) {
        let before = self.until.send_replace(until);
        match (before, until) {
            (None, Some(_)) => info!(lease = self.name, identity = self.identity, "leading"),
            (Some(_), None) => warn!(lease = self.name, identity = self.identity, "no longer leading"),
            _ => {}
        }
    }

    /// Whether it leads after this turn.
    async fn try_turn(&mut self, began: Instant) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            self.api.create(&post_as_us(), &self.first()).await?;
            return Ok(true);
        };
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let is_mine = holder.as_deref() == Some(self.identity.as_str());
        if let Some(holder) = holder.filter(|_| !is_mine)
            && !self.has_ended(holder, spec.renew_time.clone(), began)
        {
            return Ok(false);
        }
        if !is_mine {
            spec.acquire_time = Some(now());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(seconds(DURATION));
        spec.renew_time = Some(now());
        self.seen = None;
        self.api.replace(&self.name, &post_as_us(), &lease).await?;
        Ok(true)
    }

    /// Whether the holder has let it end, by this process's own clock.
    fn has_ended(&mut self, holder: String, renewed: Option<MicroTime>, now: Instant) -> bool {
        match &self.seen {
            Some((who, when, at)) if who.as_deref() == Some(&holder) && *when == renewed => {
                now.duration_since(*at) >= DURATION
            }
            _ => {
                self.seen = Some((Some(holder), renewed, now));
                false
            }
        }
    }

    fn first(&self) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds(DURATION)),
                acquire_time: Some(now()),
                renew_time: Some(now()),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn now() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_time_alone() {
        let (until, receiver) = watch::channel(None);
        let leadership = Leadership(receiver);
        assert!(!leadership.is_held());
        leadership.lost().await;
        until.send_replace(Some(Instant::now() + HOLD));
        leadership.gained().await;
        assert!(leadership.is_held());
        let begin = Instant::now();
        leadership.lost().await;
        assert_eq!(begin.elapsed(), HOLD);
        assert!(!leadership.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_prolongs_it() {
        let (until, receiver) = watch::channel(Some(Instant::now() + HOLD));
        let leadership = Leadership(receiver);
        let begin = Instant::now();
        let renewal = async {
            sleep(HOLD / 2).await;
            until.send_replace(Some(Instant::now() + HOLD));
        };
        tokio::join!(renewal, leadership.lost());
        assert_eq!(begin.elapsed(), HOLD + HOLD / 2);
    }
}
