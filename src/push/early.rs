//! Staging of a batch that is still being collected: the server works while the rest of the files is looked at and hashed.
//!
//! It only saves time. Whatever goes wrong, the workspace is given up, and all of the batch goes the way of every other
//! when it is due. Until the commit is announced, the journal knows nothing but the workspace.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::batch::Batch;
use super::deliver::Outcome;
use super::prepare::Needed;
use super::pusher::{Failure, Pusher};
use super::verdict::Verdict;
use super::{PushPhase, Target};
use crate::fault_point::{self, Point, passed};
use crate::path::{LocalPath, RepoPath};
use crate::plan::SMALL_FILE_MAX;
use crate::state::{BatchRow, Change};

/// Changes that wait before some of them set out long before the batch is due.
const EARLY_MIN: usize = 1_000;
/// How long before it is due a batch sets out, so that only its commit is left when it is. oxen-server 0.65.2 takes some
/// 15 ms for a workspace with a small file.
pub(super) const EARLY_LEAD: Duration = Duration::from_millis(100);
/// The largest file that goes early, in bytes.
pub(super) const EARLY_SIZE_MAX: u64 = SMALL_FILE_MAX;

/// A batch in its workspace, with the files that are staged so far.
#[derive(Debug)]
pub(super) struct EarlyBatch {
    row: BatchRow,
    /// The commit that the workspace was opened on.
    base: String,
    /// See [`Pusher::clearings`].
    clearings: u64,
    staged: Vec<Change>,
    new: HashSet<LocalPath>,
    locals: HashSet<LocalPath>,
    paths: HashSet<RepoPath>,
    /// All directories above them.
    dirs: HashSet<String>,
}

/// How a batch that set out early came to its end.
#[derive(Debug)]
pub(super) enum Finished {
    /// Its commit was asked for, with what came of that.
    Asked(Result<Outcome, Failure>),
    /// It was given up before, for this reason, and nothing of it is left.
    GivenUp(Failure),
}

/// How many changes are to wait before some of them set out early.
pub(super) fn early_min() -> usize {
    fault_point::early_min(EARLY_MIN)
}

impl EarlyBatch {
    /// Whether a change can join the workspace: none at a path that is staged, nor at one above or below.
    fn has_room_for(&self, local: &LocalPath, path: &RepoPath) -> bool {
        let stands = |dir: &str| RepoPath::parse(dir).is_ok_and(|dir| self.paths.contains(&dir));
        !self.locals.contains(local)
            && !self.paths.contains(path)
            && !self.dirs.contains(path.as_str())
            && !path.ancestors().any(stands)
    }

    fn add(&mut self, batch: Batch, new: HashSet<LocalPath>) {
        self.new.extend(new);
        self.locals.extend(batch.changes.iter().map(|change| change.path.clone()));
        self.dirs.extend(batch.paths.iter().flat_map(RepoPath::ancestors).map(str::to_owned));
        self.paths.extend(batch.paths);
        self.staged.extend(batch.changes);
    }
}

impl Pusher {
    /// Opens a workspace for the batch that `changes` are the first of, and stages them. `None` where none needs to be
    /// sent.
    pub(super) async fn begin_early(&self, changes: &[Change]) -> Result<Option<EarlyBatch>, Failure> {
        let needed = self.prepare(changes).await?;
        if needed.changes.is_empty() {
            return Ok(None);
        }
        let clearings = self.clearings.load(Ordering::Relaxed);
        // What it is to hold is not known yet.
        let batch = self.new_batch(Vec::new(), String::new())?;
        self.journal(&batch).await?;
        self.start_progress(PushPhase::Staging, &[]);
        let Target { client, repo, branch, .. } = &self.target;
        let opened = client.open_workspace(repo, &batch.row.workspace, branch).await;
        let base = match opened {
            Ok(workspace) => workspace.commit_id,
            Err(error) => {
                self.give_up(&batch).await;
                return Err(error.into());
            }
        };
        passed(Point::WorkspaceOpened);
        let mut early = EarlyBatch {
            row: batch.row,
            base,
            clearings,
            staged: Vec::new(),
            new: HashSet::new(),
            locals: HashSet::new(),
            paths: HashSet::new(),
            dirs: HashSet::new(),
        };
        match self.stage_needed(&mut early, needed).await {
            Ok(()) => Ok(Some(early)),
            Err(failure) => {
                self.abandon(&early).await;
                Err(failure)
            }
        }
    }

    /// Stages more changes of the batch. Where that fails, its workspace is given up.
    pub(super) async fn stage_early(
        &self,
        early: &mut EarlyBatch,
        changes: &[Change],
    ) -> Result<(), Failure> {
        let staged = self.try_stage_early(early, changes).await;
        if staged.is_err() {
            self.abandon(early).await;
        }
        staged
    }

    /// Those of the changes that can join what is staged, and those that have to wait for the next batch.
    pub(super) fn split_for_early(
        &self,
        early: &EarlyBatch,
        changes: Vec<Change>,
    ) -> (Vec<Change>, Vec<Change>) {
        let (mut fits, mut later): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| {
            matches!(self.path_of(change), Ok(Some(path)) if early.has_room_for(&change.path, &path))
        });
        let marker = &self.options.marker;
        let waits = |change: &mut Change| later.iter().any(|left| marker.finishes(change, &left.path));
        let waiting: Vec<_> = fits.extract_if(.., waits).collect();
        later.extend(waiting);
        (fits, later)
    }

    /// Commits the batch once `rest`, which has room in it, is staged as well.
    pub(super) async fn finish_early(&self, mut early: EarlyBatch, rest: &[Change]) -> Finished {
        let ready = async {
            self.try_stage_early(&mut early, rest).await?;
            self.find_way_clear(&early).await
        };
        if let Err(failure) = ready.await {
            self.abandon(&early).await;
            return Finished::GivenUp(failure);
        }
        if early.staged.is_empty() {
            self.abandon(&early).await;
            return Finished::Asked(Ok(Outcome { said_yes: false, unproved: Vec::new() }));
        }
        Finished::Asked(self.commit_early(early).await)
    }

    async fn try_stage_early(&self, early: &mut EarlyBatch, changes: &[Change]) -> Result<(), Failure> {
        let needed = self.needed(changes).await?;
        if self.clearings.load(Ordering::Relaxed) != early.clearings {
            return Err(outdated("the way on the branch had to be cleared"));
        }
        self.stage_needed(early, needed).await
    }

    async fn stage_needed(&self, early: &mut EarlyBatch, needed: Needed) -> Result<(), Failure> {
        if needed.changes.is_empty() {
            return Ok(());
        }
        let source = self.open_source().await?;
        let mut batch = self.batch_of(early.row.clone(), needed.changes)?;
        let gone = source.confirm_removals(self, &batch.changes).await?;
        batch.retain(&gone);
        self.extend_progress(&batch.changes);
        let staged = self.stage(&source, &batch).await?;
        batch.keep(&staged);
        early.add(batch, needed.new);
        Ok(())
    }

    async fn commit_early(&self, early: EarlyBatch) -> Result<Outcome, Failure> {
        let message = self.message(&early.staged, &early.new);
        let row = BatchRow { message, ..early.row };
        let batch = self.batch_of(row.clone(), early.staged)?;
        let changes = batch.changes.clone();
        self.blocking(move |state| state.commit_collected(&row, &changes)).await?;
        self.commit_workspace(&batch, Some(&early.base)).await
    }

    /// Makes sure that no directory has come meanwhile where a file is staged: see [`Pusher::clear_the_way`].
    async fn find_way_clear(&self, early: &EarlyBatch) -> Result<(), Failure> {
        let head = self.target.head().await?;
        if head == early.base {
            return Ok(());
        }
        let paths: Vec<_> = early.paths.iter().cloned().collect();
        let found = self.look_up_new(&head, &paths).await?;
        match found.iter().any(|(_, entry)| entry.as_ref().is_some_and(|entry| entry.is_dir)) {
            true => Err(outdated("another writer has made a directory where a file is to be")),
            false => Ok(()),
        }
    }

    async fn abandon(&self, early: &EarlyBatch) {
        if let Ok(batch) = self.batch_of(early.row.clone(), Vec::new()) {
            self.give_up(&batch).await;
        }
    }

    /// What cannot be undone at once is undone by the next recovery.
    async fn give_up(&self, batch: &Batch) {
        self.target.doubt();
        if self.delete_workspace(&batch.row.workspace).await.is_ok() {
            let _ = self.close(batch, None, &[]).await;
        }
    }
}

fn outdated(why: &str) -> Failure {
    let reason = format!("{why} while the batch was being staged; it is staged once more");
    Failure::of_surroundings(Verdict::Ask, reason)
}
