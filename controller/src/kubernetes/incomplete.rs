//! What a leader does while something of the cluster can't be had: the definition of a kind, or a right.

use gma_k8s::{ActError, Hand, Id, Target};
use tracing::info;

use super::{Leader, to_run};

impl Leader<'_> {
    /// Nothing is begun. Objects are told why, and one that is being deleted does not wait for what may never come.
    pub(super) async fn wait(&mut self) {
        let complaints = self.kube.complaints();
        if complaints.is_empty() {
            // All is being listed for the first time.
            return;
        }
        let why = complaints.join("; ");
        let targets = self.kube.targets();
        self.keep(&to_run(&targets)).await;
        for target in &targets {
            let id = target.id();
            if self.is_resting(&id.uid) {
                continue;
            }
            let done = match target {
                Target::Ending(id) => self.restore(id).await,
                Target::Run(id) | Target::Idle { id, .. } => {
                    let told = self.tell(id, "ClusterIncomplete", &why).await;
                    told.map_err(Into::into)
                }
            };
            self.note(&id.uid, done);
        }
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
