use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::deliver::Outcome;
use super::pusher::{Failure, Pusher};
use super::verdict::{Verdict, is_over, verdict};
use super::{PushPhase, Target};
use crate::fault_point::{Point, passed};
use crate::oxen::{Error, Reason};

/// Requests to commit one workspace without a clear answer after which another one is begun.
const UNCLEAR_MERGES_MAX: u32 = 3;

impl Pusher {
    /// Stages a batch in a workspace of its own and commits that.
    pub(super) async fn send_by_workspace(&self, mut batch: Batch) -> Result<Outcome, Failure> {
        let nothing = Outcome { said_yes: false, unproved: Vec::new() };
        let Target { client, repo, branch, .. } = &self.target;
        let source = self.open_source().await?;
        let gone = source.confirm_removals(self, &batch.changes).await?;
        batch.retain(&gone);
        if batch.changes.is_empty() {
            return Ok(nothing);
        }
        self.journal(&batch).await?;
        self.start_progress(PushPhase::Staging, &batch.changes);
        let staging = async {
            let workspace = client.open_workspace(repo, &batch.row.workspace, branch).await?;
            passed(Point::WorkspaceOpened);
            Ok::<_, Failure>((workspace, self.stage(&source, &batch).await?))
        };
        let (workspace, staged) = match staging.await {
            Ok(staged) => staged,
            Err(failure) => {
                self.target.doubt();
                // What cannot be undone at once is undone by the next recovery.
                if self.delete_workspace(&batch.row.workspace).await.is_ok() {
                    self.close(&batch, None, &[]).await?;
                }
                return Err(failure);
            }
        };
        let dropped: Vec<_> = (0..batch.changes.len())
            .filter(|index| !staged.indices.contains(index))
            .filter_map(|index| batch.changes.get(index).map(|change| change.path.clone()))
            .collect();
        let hashed = batch.keep(&staged);
        if batch.changes.is_empty() {
            self.delete_workspace(&batch.row.workspace).await?;
            self.close(&batch, None, &[]).await?;
            return Ok(nothing);
        }
        let id = batch.row.id;
        self.blocking(move |state| state.commit_batch(id, &dropped, &hashed)).await?;
        self.commit_workspace(&batch, Some(&workspace.commit_id)).await
    }

    /// Commits a workspace that holds all of `batch`, once: a second request for the same workspace waits for the
    /// first and then finds it gone (oxen-server 0.65.2), so this may be repeated after a lost answer or a crash.
    /// `base` is the commit it was opened on, where that is known.
    pub(super) async fn commit_workspace(
        &self,
        batch: &Batch,
        base: Option<&str>,
    ) -> Result<Outcome, Failure> {
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
            self.delete_workspace(workspace).await?;
            return self.settle(batch, None).await;
        }
        let error = match client.merge_workspace(repo, workspace, branch, &batch.info).await {
            Ok(commit) => {
                passed(Point::WorkspaceMerged);
                return self.settle(batch, Some(commit)).await;
            }
            Err(error) => error,
        };
        // A server that goes down with this very commit, again and again, is not to be asked for it for ever. Should it
        // be made all the same, the next workspace holds nothing new.
        let is_unclear = error.request_reached_server() && !matches!(error.code(), Some(401 | 403 | 429));
        let is_hopeless =
            is_unclear && self.unclear_merges.fetch_add(1, Ordering::Relaxed) + 1 >= UNCLEAR_MERGES_MAX;
        match (verdict(&error), error.reason()) {
            (Verdict::Ask, Reason::WorkspaceNotFound) => self.settle(batch, None).await,
            (Verdict::Ask, Reason::Conflict | Reason::NoChanges) => {
                self.delete_workspace(workspace).await?;
                self.settle(batch, None).await
            }
            // The server itself says that it is done with the request, and why it came to nothing.
            (judged, _) if judged == Verdict::Split || is_over(&error) || is_hopeless => {
                if self.proof_of_head(batch).await?.is_whole() {
                    return self.settle(batch, None).await;
                }
                self.delete_workspace(workspace).await?;
                self.close(batch, None, &[]).await?;
                self.target.doubt();
                let verdict = if judged == Verdict::Ask { Verdict::Again } else { judged };
                let failure = Failure::from(error);
                let may_be_content = failure.may_be_content || is_hopeless;
                Err(Failure { verdict, may_be_content, ..failure })
            }
            // The workspace stays as it is, and so does the journal.
            _ => {
                self.target.doubt();
                Err(error.into())
            }
        }
    }
    /// Deletes a workspace of ours; one that is gone already is all right.
    pub(super) async fn delete_workspace(&self, workspace: &str) -> Result<(), Error> {
        self.target.client.delete_workspace(&self.target.repo, workspace).await?;
        passed(Point::WorkspaceDeleted);
        Ok(())
    }
}
