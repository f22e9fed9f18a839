//! What a leader does while something of the cluster can't be had: the definition of a kind, or a right.

use gma_k8s::{ActError, Hand, Id, Target};
use tracing::info;

use super::{Leader, MOST_TOLD};

impl Leader<'_> {
    /// Nothing is steered. Objects are told why, and one that is being deleted does not wait for what may never come.
    pub(super) async fn wait(&mut self) -> anyhow::Result<()> {
        let complaints = self.kube.complaints();
        if complaints.is_empty() {
            // All is being listed for the first time.
            return Ok(());
        }
        match self.kube.target() {
            Target::None => return Ok(()),
            Target::Ending { id } => {
                self.stop().await;
                return self.restore(&id).await;
            }
            Target::Run { .. } | Target::Faulty { .. } => {}
        }
        let why = complaints.join("; ");
        let objects = self.kube.objects().unwrap_or_default();
        for id in objects.iter().take(MOST_TOLD) {
            self.tell(id, "ClusterIncomplete", &why).await?;
        }
        Ok(())
    }

    /// Gives back what was changed for an object.
    pub(super) async fn give_back(&self, id: &Id) -> Result<(), ActError> {
        if !self.kube.knows_changes() {
            return Err(ActError::Failed(self.kube.missing().join("; ")));
        }
        Hand::new(self.kube, id).give_back().await?;
        info!(object = id.path(), "what was changed is restored");
        Ok(())
    }
}
