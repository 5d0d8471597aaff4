use super::pusher::{Failure, Pusher};
use super::{PushPhase, Target};
use crate::fault_point::{Point, passed};
use crate::path::printable;
use crate::state::{BatchTransport, Phase};

impl Pusher {
    /// Settles every batch that the journal holds open: what may have been committed is finished or asked about, the
    /// rest is undone. Nothing else may be sent before.
    pub(super) async fn recover(&self) -> Result<(), Failure> {
        let folder = self.options.folder;
        let open = self.blocking(move |state| state.open_batches(folder)).await?;
        for (row, changes) in open {
            self.phase(PushPhase::Recovering);
            let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
            let batch = self.batch_of(row, changes)?;
            match (batch.row.phase, batch.row.transport) {
                (Phase::Staging, _) => {
                    self.delete_workspace(&batch.row.workspace).await?;
                    self.close(&batch, None, &[]).await?;
                }
                (Phase::Committing, BatchTransport::Workspace) => {
                    self.commit_workspace(&batch, None).await?;
                }
                (Phase::Committing, BatchTransport::Put) => self.ask_for_put(&batch).await?,
            }
            passed(Point::BatchRecovered);
            // What stayed unproved is found to differ, whoever held the change before.
            paths.into_iter().for_each(|path| self.inbox.add(crate::folder::Hint::Path(path)));
            tracing::info!(
                folder = %printable(&self.options.path), batch = batch.row.id,
                "a batch that was under way is settled"
            );
        }
        Ok(())
    }

    /// Deletes workspaces of ours, at a time when none is wanted: an earlier life may have lost its state, and a request
    /// for one that was given up may have come to its end all the same.
    pub(super) async fn sweep(&self) -> Result<(), Failure> {
        let Target { client, repo, .. } = &self.target;
        let prefix = format!("{}-", self.workspace_prefix());
        for workspace in client.workspaces(repo).await? {
            if workspace.id.starts_with(&prefix) {
                self.delete_workspace(&workspace.id).await?;
                tracing::info!(%repo, workspace = %workspace.id, "a workspace left behind is deleted");
            }
        }
        Ok(())
    }
}
