use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::{Batch, bytes_of};
use super::deliver::Outcome;
use super::prove::{Proof, prove};
use super::pusher::{Failure, Pusher};
use super::{PushPhase, Target, worker};
use crate::content::{RootDir, Signature, is_absent, is_file};
use crate::fault_point::{Point, passed};
use crate::folder::Hint;
use crate::oxen::Commit;
use crate::path::{LocalPath, printable};
use crate::state::{Change, ChangeKind};

impl Pusher {
    /// Writes a batch into the journal, before anything of it goes out.
    pub(super) async fn journal(&self, batch: &Batch) -> Result<(), Failure> {
        let (folder, row, changes) = (self.options.folder, batch.row.clone(), batch.changes.clone());
        self.blocking(move |state| state.open_batch(folder, &row, &changes, worker::now_ms())).await
    }

    /// Compares a batch with the branch and closes it with what is proved. `commit` is the server's word that it has
    /// committed all of it.
    pub(super) async fn settle(&self, batch: &Batch, commit: Option<Commit>) -> Result<Outcome, Failure> {
        self.phase(PushPhase::Proving);
        let mut proof = self.proof_of_head(batch).await?;
        if !proof.is_whole()
            && let Some(commit) = &commit
        {
            // Another commit may stand on top by now; ours holds what it holds.
            proof = self.proof(&commit.id, batch).await?;
        }
        passed(Point::BatchProved);
        let (mut proved, mut unproved) = (Vec::new(), Vec::new());
        for (change, holds) in batch.changes.iter().zip(&proof.holds) {
            if *holds { &mut proved } else { &mut unproved }.push(change.clone());
        }
        let said_yes = commit.is_some();
        let commit_id = commit.as_ref().map(|commit| commit.id.clone()).or(proof.commit_id);
        let folder = self.options.folder;
        let known = self.blocking(move |state| state.listing(folder)).await?.head;
        self.close(batch, commit_id.as_deref(), &proved).await?;
        // Closing forgets the head, so that an end in between leaves no head that knows less than the rows.
        if let Some(commit) =
            commit.filter(|commit| known.is_some() && commit.parent_ids.first() == known.as_ref())
        {
            self.blocking(move |state| state.set_head(folder, &commit.id)).await?;
        }
        if !proved.is_empty() {
            self.tell(commit_id.as_deref(), &proved);
            let as_pushed = proved.into_iter().map(|change| match change.kind {
                ChangeKind::Put { signature, .. } => (change.path, Some(signature)),
                ChangeKind::Remove => (change.path, None),
            });
            self.look_again(as_pushed.collect()).await;
        }
        Ok(Outcome { said_yes, unproved })
    }

    /// What the branch holds of a batch by now.
    pub(super) async fn proof_of_head(&self, batch: &Batch) -> Result<Proof, Failure> {
        let head = self.target.head().await?;
        self.proof(&head, batch).await
    }

    async fn proof(&self, revision: &str, batch: &Batch) -> Result<Proof, Failure> {
        let Target { client, repo, .. } = &self.target;
        Ok(prove(client, repo, revision, &batch.changes, &batch.paths, self.options.concurrency).await?)
    }

    /// Closes a batch with what of it is proved.
    pub(super) async fn close(
        &self,
        batch: &Batch,
        commit_id: Option<&str>,
        proved: &[Change],
    ) -> Result<(), Failure> {
        self.unclear_merges.store(0, Ordering::Relaxed);
        let (folder, id) = (self.options.folder, batch.row.id);
        let (commit_id, proved) = (commit_id.map(str::to_owned), proved.to_vec());
        self.blocking(move |state| {
            state.close_batch(folder, id, commit_id.as_deref(), &proved, worker::now_ms())
        })
        .await
    }

    /// Remembers that a commit of ours is the head, unless another's lies below it.
    pub(super) async fn advance(&self, commit: &Commit) -> Result<(), Failure> {
        let Some(parent) = commit.parent_ids.first().cloned() else { return Ok(()) };
        let (folder, id) = (self.options.folder, commit.id.clone());
        self.blocking(move |state| state.advance_head(folder, &parent, &id)).await
    }

    /// A file may have changed back to what the branch held before, or gone, while its commit was under way or while it
    /// waited; then nobody waits for it any more. So each is compared with the folder once more: with the signature that
    /// the state has of it by now, or with its absence.
    pub(super) async fn look_again(&self, as_pushed: Vec<(LocalPath, Option<Signature>)>) {
        let (path, inbox) = (self.options.path.clone(), Arc::clone(&self.inbox));
        let calls = Arc::clone(&self.options.calls);
        let looking = tokio::task::spawn_blocking(move || {
            let Ok(root) = RootDir::open_counted(&path, &calls) else { return };
            for (path, signature) in as_pushed {
                let found = root.look(&path);
                if !signature.map_or_else(|| is_absent(&found), |signature| is_file(&found, &signature)) {
                    inbox.add(Hint::Path(path));
                }
            }
        });
        // What a panic in there, which is a bug, or a folder that does not answer leaves out, the next scan finds.
        let _ = self.options.calls.answered(looking).await;
    }

    fn tell(&self, commit_id: Option<&str>, proved: &[Change]) {
        let removed = proved.iter().filter(|change| change.kind == ChangeKind::Remove).count();
        let bytes: u64 = proved.iter().map(bytes_of).sum();
        let files = proved.len() - removed;
        tracing::info!(
            folder = %printable(&self.options.path), repo = %self.target.repo, branch = %self.target.branch,
            commit = commit_id.unwrap_or("unknown"), files, removed, bytes, "committed and proved"
        );
        self.status.send_modify(|status| {
            status.commits += 1;
            status.files_pushed += files as u64;
            status.files_removed += removed as u64;
            status.bytes_pushed += bytes;
        });
    }
}
