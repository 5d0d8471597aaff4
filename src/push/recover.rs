use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::deliver::{Batch, Failure, Pusher};
use super::verdict::Verdict;
use super::worker::PushPhase;
use super::{Target, verdict};
use crate::oxen::{CommitInfo, Reason};
use crate::path::RepoPath;
use crate::state::{BatchTransport, Change, Phase};

/// How long a PUT whose answer was lost may still be at work on the server. It carries at most 100 small files, which
/// take oxen-server 0.65.2 a third of a second.
const PUT_IN_DOUBT: Duration = Duration::from_secs(5);
const PUT_ASK_EVERY: Duration = Duration::from_millis(250);

impl Pusher {
    /// Settles every batch that the journal holds open: what may have been committed is finished or asked about, the
    /// rest is undone. Nothing else may be sent before.
    pub(super) async fn recover(&self) -> Result<(), Failure> {
        let folder = self.options.folder;
        let open = self.blocking(move |state| state.open_batches(folder)).await?;
        for (row, changes) in open {
            self.phase(PushPhase::Recovering);
            let (changes, paths): (Vec<Change>, Vec<RepoPath>) = changes
                .into_iter()
                .filter_map(|change| {
                    let path = RepoPath::for_file(&self.options.remote_dir, &change.path).ok()?;
                    Some((change, path))
                })
                .unzip();
            let author = &self.target.author;
            let info = CommitInfo {
                message: row.message.clone(),
                name: author.name.clone(),
                email: author.email.clone(),
            };
            let batch = Batch { row, changes, paths, info };
            match (batch.row.phase, batch.row.transport) {
                (Phase::Staging, _) => {
                    let Target { client, repo, .. } = &self.target;
                    client.delete_workspace(repo, &batch.row.workspace).await?;
                    self.close(&batch, None, &[]).await?;
                }
                // What stays unproved is found again: by whoever holds it still, or by the scan at the start.
                (Phase::Committing, BatchTransport::Workspace) => {
                    self.commit_workspace(&batch, None).await?;
                }
                (Phase::Committing, BatchTransport::Put) => self.ask_for_put(&batch).await?,
            }
            tracing::info!(
                folder = %self.folder_path().display(), batch = batch.row.id,
                "a batch that was under way is settled"
            );
        }
        Ok(())
    }

    /// Commits a workspace that holds all of `batch`, once: a second request for the same workspace waits for the
    /// first and then finds it gone (oxen-server 0.65.2), so this may be repeated after a lost answer or a crash.
    /// `base` is the commit it was opened on, where that is known. Returns what the branch does not hold afterwards.
    pub(super) async fn commit_workspace(
        &self,
        batch: &Batch,
        base: Option<&str>,
    ) -> Result<Vec<Change>, Failure> {
        let Target { client, repo, branch, .. } = &self.target;
        let workspace = &batch.row.workspace;
        self.phase(PushPhase::Committing);
        let base = match base {
            Some(base) => Some(base.to_owned()),
            None => {
                let found = client.workspaces(repo).await?.into_iter().find(|found| found.id == *workspace);
                found.map(|found| found.commit_id)
            }
        };
        let head = client.branch(repo, branch).await?;
        let has_moved = head.as_ref().map(|head| &head.commit_id) != base.as_ref();
        if has_moved && self.proof_of_head(batch).await?.is_whole() {
            // Whoever brought it, the branch holds it: a commit would repeat its parent's content.
            client.delete_workspace(repo, workspace).await?;
            return self.settle(batch, None).await;
        }
        let error = match client.merge_workspace(repo, workspace, branch, &batch.info).await {
            Ok(commit) => return self.settle(batch, Some(commit.id)).await,
            Err(error) => error,
        };
        match (verdict::verdict(&error), error.reason()) {
            (Verdict::Ask, Reason::WorkspaceNotFound) => self.settle(batch, None).await,
            (Verdict::Ask, Reason::Conflict | Reason::NoChanges) => {
                client.delete_workspace(repo, workspace).await?;
                self.settle(batch, None).await
            }
            (Verdict::Split, _) => {
                client.delete_workspace(repo, workspace).await?;
                self.close(batch, None, &[]).await?;
                Err(error.into())
            }
            // The workspace stays as it is, and so does the journal.
            _ => {
                self.target.doubt();
                Err(error.into())
            }
        }
    }

    async fn ask_for_put(&self, batch: &Batch) -> Result<(), Failure> {
        let until = Instant::now() + PUT_IN_DOUBT;
        loop {
            if self.proof_of_head(batch).await?.is_whole() || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(PUT_ASK_EVERY).await;
        }
        if !self.settle(batch, None).await?.is_empty() {
            self.put_in_doubt.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Deletes workspaces of ours that no open batch knows: an earlier life may have lost its state.
    pub(super) async fn sweep(&self) -> Result<(), Failure> {
        if self.swept.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Target { client, repo, .. } = &self.target;
        let prefix = format!("{}-", self.workspace_prefix());
        for workspace in client.workspaces(repo).await? {
            if workspace.id.starts_with(&prefix) {
                client.delete_workspace(repo, &workspace.id).await?;
                tracing::info!(%repo, workspace = %workspace.id, "a workspace left behind is deleted");
            }
        }
        self.swept.store(true, Ordering::Relaxed);
        Ok(())
    }
}
