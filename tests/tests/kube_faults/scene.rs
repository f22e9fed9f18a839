//! An application under a controller that looks after others too.

use std::time::Duration;

use anyhow::ensure;
use gma_k8s::api::EdgePlacementStatus;
use gma_tests::kube::{App, Controller, OBJECT, until};
use gma_tests::rig::Cluster;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

/// Longest wait for something that takes a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Longest wait for a whole move.
pub(crate) const MOVE: Duration = Duration::from_secs(120);

/// An application and its controller.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) controller: &'a Controller,
    pub(crate) namespace: &'static str,
    pub(crate) app: App,
    /// The first of its edges.
    pub(crate) edge: &'static str,
}

// === impl Scene ===

impl<'a> Scene<'a> {
    pub(crate) async fn start(
        cluster: &'a Cluster,
        controller: &'a Controller,
        namespace: &'static str,
        edges: &'static [&'static str],
    ) -> anyhow::Result<Self> {
        Ok(Self {
            cluster,
            controller,
            namespace,
            app: App::create_with_edges(cluster, namespace, controller.address, edges).await?,
            edge: edges.first().copied().unwrap_or_default(),
        })
    }

    /// Waits until something is so; a failure says of which application, what its edges say, and the controller's log.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        match until(&format!("{}: {what}", self.namespace), limit, look).await {
            Ok(found) => Ok(found),
            Err(error) => Err(error.context(format!(
                "it says: {}\n--- the controller's log ---\n{}",
                self.said().await,
                self.controller.log()
            ))),
        }
    }

    /// The first edge's share; 0 where there is no rule.
    pub(crate) async fn share(&self) -> anyhow::Result<u64> {
        self.share_at(self.edge).await
    }

    pub(crate) async fn share_at(&self, edge: &str) -> anyhow::Result<u64> {
        Ok(self.app.share_at(edge).await?.unwrap_or(0))
    }

    pub(crate) async fn until_share(&self, wanted: u64) -> anyhow::Result<()> {
        self.until_share_at(self.edge, wanted).await
    }

    pub(crate) async fn until_share_at(&self, edge: &str, wanted: u64) -> anyhow::Result<()> {
        self.until(&format!("{wanted} % at {edge}"), MOVE, async || {
            let share = self.share_at(edge).await?;
            Ok(if share == wanted {
                Ok(())
            } else {
                Err(format!("{share} %"))
            })
        })
        .await
    }

    /// The first weights are written.
    pub(crate) async fn until_in_a_shift(&self) -> anyhow::Result<()> {
        self.until("the shift begins", MOVE, async || {
            let share = self.share().await?;
            Ok(if share > 0 {
                Ok(())
            } else {
                Err(format!("{share} %"))
            })
        })
        .await
    }

    /// The last move at the first edge was kept.
    pub(crate) async fn until_kept(&self) -> anyhow::Result<()> {
        self.until("the move is kept", MOVE, async || {
            let outcomes = self.outcomes().await?;
            Ok(if outcomes.first().is_some_and(|last| last == "Kept") {
                Ok(())
            } else {
                Err(format!("{outcomes:?}"))
            })
        })
        .await
    }

    /// Waits for a condition of this status whose message has a text.
    pub(crate) async fn until_condition(&self, type_: &str, status: &str, text: &str) -> anyhow::Result<()> {
        self.until(&format!("{type_} is {status}: {text}"), SOON, async || {
            let conditions = self.status().await?.conditions;
            let found = conditions.into_iter().find(|one| one.type_ == type_);
            let is_so = found
                .as_ref()
                .is_some_and(|one| one.status == status && one.message.contains(text));
            Ok(if is_so { Ok(()) } else { Err(format!("{found:?}")) })
        })
        .await
    }

    /// The object's status.
    pub(crate) async fn status(&self) -> anyhow::Result<EdgePlacementStatus> {
        Ok(self.app.api().get(OBJECT).await?.status.unwrap_or_default())
    }

    /// What the first edge's machine does, as the status has it.
    pub(crate) async fn edge_state(&self) -> anyhow::Result<Option<String>> {
        let edges = self.status().await?.edges;
        let edge = edges.into_iter().find(|edge| edge.name == self.edge);
        Ok(edge.map(|edge| edge.state))
    }

    /// What came of the decisions, newest first; `Running` for one that is under way.
    pub(crate) async fn outcomes(&self) -> anyhow::Result<Vec<String>> {
        let decisions = self.status().await?.decisions.into_iter();
        let outcome = |outcome: Option<String>| outcome.unwrap_or_else(|| "Running".to_owned());
        Ok(decisions.map(|one| outcome(one.outcome)).collect())
    }

    /// What the edges' machines say.
    pub(crate) async fn said(&self) -> String {
        let object = format!("{}/{OBJECT}", self.namespace);
        let round = self.controller.round_of(&object).await.unwrap_or_default();
        let edges = round.get("edges").and_then(Value::as_object);
        let said = edges.into_iter().flatten().map(|(name, edge)| {
            let sentence = edge.get("sentence").and_then(Value::as_str).unwrap_or_default();
            format!("{name}: {sentence}")
        });
        said.collect::<Vec<_>>().join("; ")
    }

    /// Notes of the events with a reason.
    pub(crate) async fn events(&self, reason: &str) -> anyhow::Result<Vec<String>> {
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let events = events.list(&ListParams::default()).await?.items.into_iter();
        let of_reason = events.filter(|event| event.reason.as_deref() == Some(reason));
        Ok(of_reason.filter_map(|event| event.note).collect())
    }
}

/// Nothing crashed.
pub(crate) fn is_sound(controller: &Controller) -> anyhow::Result<()> {
    let log = controller.process.log();
    ensure!(
        !log.contains("panicked") && log.matches("listening; standing by").count() == 1,
        "{log}"
    );
    Ok(())
}
