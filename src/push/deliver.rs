use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Semaphore, watch};

use super::prove::prove;
use super::stage::Source;
use super::verdict::Verdict;
use super::worker::{PushOptions, PushPhase, PushStatus};
use super::{Target, worker};
use crate::config::{MessageFacts, Transport};
use crate::content::{EntryKind, RootDir};
use crate::folder::{Hint, Inbox};
use crate::oxen::{CommitInfo, Reason};
use crate::path::{LocalPath, RepoPath};
use crate::plan::{self, Carrier};
use crate::state::{
    BatchRow, BatchTransport, Change, ChangeKind, Phase, ProblemKind, ProblemRow, State, StateError,
};

/// Delivers batches of one folder to its target.
#[derive(Debug)]
pub struct Pusher {
    /// What to push and how.
    pub options: PushOptions,
    /// Where to.
    pub target: Target,
    /// What is known and under way.
    pub state: State,
    /// Paths that must be looked at again are hinted at here.
    pub inbox: Arc<Inbox>,
    /// Memory for content, in MiB, shared by all folders.
    pub budget: Arc<Semaphore>,
    /// What is being done.
    pub status: watch::Sender<PushStatus>,
    /// The next batch goes by workspace: a PUT may still be at work on the server, and would be refused when it lands
    /// after the workspace; or a PUT was refused for what a workspace can do.
    pub(super) put_in_doubt: AtomicBool,
    /// Files that the server said to have taken and that were not on the branch.
    unproved: Mutex<HashSet<LocalPath>>,
    /// Whether workspaces that an earlier life left behind were looked for.
    pub(super) swept: AtomicBool,
}

/// Why a delivery came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub verdict: Verdict,
    pub reason: String,
    pub retry_after: Option<std::time::Duration>,
    /// The server failed in itself, or said what is not so: it may be the content that makes it.
    pub is_server_fault: bool,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self { verdict: Verdict::Again, reason: error.to_string(), retry_after: None, is_server_fault: false }
    }
}

/// A delivery that failed, with the changes that are still to be pushed.
#[derive(Debug)]
pub(super) struct Failed {
    pub failure: Failure,
    pub changes: Vec<Change>,
}

/// A batch on its way, with everything that its steps need.
pub(super) struct Batch {
    pub row: BatchRow,
    pub changes: Vec<Change>,
    pub paths: Vec<RepoPath>,
    pub info: CommitInfo,
}

impl Pusher {
    /// A pusher that has done nothing yet.
    pub fn new(
        options: PushOptions,
        target: Target,
        state: State,
        inbox: Arc<Inbox>,
        budget: Arc<Semaphore>,
        status: watch::Sender<PushStatus>,
    ) -> Self {
        Self {
            options,
            target,
            state,
            inbox,
            budget,
            status,
            put_in_doubt: AtomicBool::new(false),
            unproved: Mutex::default(),
            swept: AtomicBool::new(false),
        }
    }

    /// Sees to it that `changes` are on the branch, as far as they still hold.
    pub(super) fn deliver(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), Failed>> {
        async move {
            match self.prepare(&changes).await {
                Ok((changes, _)) if changes.is_empty() => Ok(()),
                Ok((changes, message)) => self.send(changes, message).await,
                Err(failure) => Err(Failed { failure, changes }),
            }
        }
        .boxed()
    }

    /// Makes sure of the target, settles what is open, and leaves out what needs no sending.
    async fn prepare(&self, changes: &[Change]) -> Result<(Vec<Change>, String), Failure> {
        self.phase(PushPhase::Connecting);
        self.target.ensure(&format!("{}-first", self.workspace_prefix())).await?;
        self.recover().await?;
        self.sweep().await?;
        self.phase(PushPhase::Listing);
        self.seed().await?;

        let (folder, changes) = (self.options.folder, changes.to_vec());
        let (needed, is_new, confirmed) = self
            .blocking(move |state| {
                let (mut needed, mut is_new, mut confirmed) = (Vec::new(), Vec::new(), Vec::new());
                for change in changes {
                    let row = state.file(folder, &change.path)?;
                    match (&change.kind, row) {
                        (ChangeKind::Put { signature, digests, racy }, Some(row))
                            if row.holds(signature.size, digests) =>
                        {
                            confirmed.push((change.path, *signature, digests.sha256, *racy));
                        }
                        (ChangeKind::Remove, None) => {}
                        (_, row) => {
                            is_new.push(row.is_none());
                            needed.push(change);
                        }
                    }
                }
                state.confirm_files(folder, &confirmed)?;
                Ok((needed, is_new, confirmed.len()))
            })
            .await?;
        if confirmed > 0 {
            tracing::debug!(folder = %self.options.path.display(), files = confirmed, "on the branch already");
        }
        let message = self.message(&needed, &is_new);
        let needed = self.clear_the_way(needed, &is_new).await?;
        self.remove_unproved(&needed).await?;
        Ok((needed, message))
    }

    async fn send(&self, changes: Vec<Change>, message: String) -> Result<(), Failed> {
        let batch = match self.batch(changes, message) {
            Ok(batch) => batch,
            Err((failure, changes)) => return Err(Failed { failure, changes }),
        };
        let all = batch.changes.clone();
        let sent = match self.carrier(&batch) {
            Carrier::Put => self.send_by_put(batch).await,
            Carrier::Workspace => self.send_by_workspace(batch).await,
        };
        match sent {
            Ok(unproved) if unproved.is_empty() => {
                self.put_in_doubt.store(false, Ordering::Relaxed);
                Ok(())
            }
            Ok(unproved) => {
                self.lock_unproved().extend(unproved.iter().map(|change| change.path.clone()));
                let failure = Failure {
                    verdict: Verdict::Ask,
                    reason: format!(
                        "the server said yes, and {} of the files are not on the branch, for one {}; they are sent once more",
                        unproved.len(),
                        unproved.first().map(|change| change.path.to_string()).unwrap_or_default()
                    ),
                    retry_after: None,
                    is_server_fault: true,
                };
                Err(Failed { failure, changes: unproved })
            }
            Err(failure) => Err(Failed { failure, changes: all }),
        }
    }

    fn carrier(&self, batch: &Batch) -> Carrier {
        match self.options.transport {
            Transport::Workspace => Carrier::Workspace,
            Transport::Put => Carrier::Put,
            Transport::Auto if self.put_in_doubt.load(Ordering::Relaxed) => Carrier::Workspace,
            Transport::Auto if !self.target.is_put_safe() => Carrier::Workspace,
            Transport::Auto => plan::carrier(&batch.changes, &batch.paths, &batch.info),
        }
    }

    /// A workspace takes a file for unchanged when the size and the time of storing are those of the content that the
    /// branch holds at its path, whatever its bytes (oxen-server 0.65.2). Files that were found missing once are
    /// therefore removed in a commit before: what is not there is not taken for unchanged.
    async fn remove_unproved(&self, changes: &[Change]) -> Result<(), Failure> {
        let again: Vec<_> = {
            let mut unproved = self.lock_unproved();
            changes.iter().map(|change| &change.path).filter(|path| unproved.remove(*path)).cloned().collect()
        };
        if again.is_empty() {
            return Ok(());
        }
        let paths: Vec<_> =
            again.iter().filter_map(|path| RepoPath::for_file(&self.options.remote_dir, path).ok()).collect();
        // Should we end in between, the files must be found to differ.
        let folder = self.options.folder;
        self.blocking(move |state| state.forget_files(folder, &again)).await?;
        self.remove_files(&paths).await
    }

    fn lock_unproved(&self) -> MutexGuard<'_, HashSet<LocalPath>> {
        self.unproved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, changes: Vec<Change>, message: String) -> Result<Batch, (Failure, Vec<Change>)> {
        let id = match self.state.next_batch_id() {
            Ok(id) => id,
            Err(error) => return Err((error.into(), changes)),
        };
        let (changes, paths) = changes
            .into_iter()
            .filter_map(|change| {
                let path = RepoPath::for_file(&self.options.remote_dir, &change.path).ok()?;
                Some((change, path))
            })
            .unzip();
        let row = BatchRow {
            id,
            phase: Phase::Staging,
            transport: BatchTransport::Workspace,
            // Never one that was used before, also not by a state that was lost: it might hold what was staged then.
            workspace: format!("{}-{id}-{:x}", self.workspace_prefix(), worker::now_ms()),
            message: message.clone(),
        };
        let author = &self.target.author;
        let info = CommitInfo { message, name: author.name.clone(), email: author.email.clone() };
        Ok(Batch { row, changes, paths, info })
    }

    fn message(&self, changes: &[Change], is_new: &[bool]) -> String {
        let is_put = |change: &Change| change.kind != ChangeKind::Remove;
        let puts = changes.iter().filter(|change| is_put(change)).count() as u64;
        let added =
            changes.iter().zip(is_new).filter(|(change, is_new)| **is_new && is_put(change)).count() as u64;
        let facts = MessageFacts {
            host: &self.options.host,
            folder: &self.options.path,
            added,
            changed: puts - added,
            removed: changes.len() as u64 - puts,
            bytes: changes.iter().map(bytes_of).sum(),
            at: &jiff::Zoned::now(),
        };
        self.options.message.render(&facts)
    }

    async fn send_by_put(&self, mut batch: Batch) -> Result<Vec<Change>, Failure> {
        let Some(dir) = batch.paths.first().and_then(|path| RepoPath::parse(path.dir()).ok()) else {
            return Ok(Vec::new());
        };
        self.start_progress(PushPhase::Staging, &batch.changes);
        let source = self.open_source().await?;
        let all: Vec<_> = (0..batch.changes.len()).collect();
        let permit = self.memory(batch.changes.iter().map(bytes_of).sum()).await;
        let bodies = source.read(self, &batch, &all).await?;
        let keep: Vec<_> = bodies.iter().map(|(index, _)| *index).collect();
        batch.retain(&keep);
        if batch.changes.is_empty() {
            return Ok(Vec::new());
        }
        let files = bodies
            .into_iter()
            .zip(&batch.paths)
            .map(|((_, mut body), path)| {
                path.name().clone_into(&mut body.name);
                body
            })
            .collect();
        batch.row.transport = BatchTransport::Put;
        batch.row.phase = Phase::Committing;
        batch.row.workspace.clear();
        self.journal(&batch).await?;
        self.phase(PushPhase::Committing);
        let Target { client, repo, branch, .. } = &self.target;
        let put = client.put_files(repo, branch, &dir, files, &batch.info).await;
        drop(permit);
        match put {
            Ok(commit) => self.settle(&batch, Some(commit.id)).await,
            // A file stands where a directory of the path is to be. A workspace makes the one out of the other.
            Err(error) if error.reason() == Reason::TargetMustBeDirectory => {
                self.close(&batch, None, &[]).await?;
                self.put_in_doubt.store(true, Ordering::Relaxed);
                Err(Failure { verdict: Verdict::Ask, ..error.into() })
            }
            Err(error) => {
                let failure = Failure::from(error.clone());
                match failure.verdict {
                    // Nothing was committed: the server said so, or never saw it.
                    Verdict::Again | Verdict::Split | Verdict::Stop => {
                        self.close(&batch, None, &[]).await?;
                        self.target.doubt();
                        Err(failure)
                    }
                    Verdict::Ask if error.reason() == Reason::NoChanges => self.settle(&batch, None).await,
                    // The journal stays open; recovering asks the branch.
                    Verdict::Ask => Err(failure),
                }
            }
        }
    }

    async fn send_by_workspace(&self, mut batch: Batch) -> Result<Vec<Change>, Failure> {
        let Target { client, repo, branch, .. } = &self.target;
        let source = self.open_source().await?;
        let gone = source.confirm_removals(self, &batch.changes).await;
        batch.retain(&gone);
        if batch.changes.is_empty() {
            return Ok(Vec::new());
        }
        self.journal(&batch).await?;
        self.start_progress(PushPhase::Staging, &batch.changes);
        let staging = async {
            let workspace = client.open_workspace(repo, &batch.row.workspace, branch).await?;
            Ok::<_, Failure>((workspace, self.stage(&source, &batch).await?))
        };
        let (workspace, staged) = match staging.await {
            Ok(staged) => staged,
            Err(failure) => {
                self.target.doubt();
                // What cannot be undone at once is undone by the next recovery.
                if client.delete_workspace(repo, &batch.row.workspace).await.is_ok() {
                    self.close(&batch, None, &[]).await?;
                }
                return Err(failure);
            }
        };
        let dropped: Vec<_> = (0..batch.changes.len())
            .filter(|index| !staged.contains(index))
            .filter_map(|index| batch.changes.get(index).map(|change| change.path.clone()))
            .collect();
        batch.retain(&staged);
        if batch.changes.is_empty() {
            client.delete_workspace(repo, &batch.row.workspace).await?;
            self.close(&batch, None, &[]).await?;
            return Ok(Vec::new());
        }
        let id = batch.row.id;
        self.blocking(move |state| state.commit_batch(id, &dropped)).await?;
        self.commit_workspace(&batch, Some(&workspace.commit_id)).await
    }

    /// Compares a batch with the branch, closes it with what is proved, and returns what is not.
    pub(super) async fn settle(
        &self,
        batch: &Batch,
        commit_id: Option<String>,
    ) -> Result<Vec<Change>, Failure> {
        self.phase(PushPhase::Proving);
        let mut proof = self.proof_of_head(batch).await?;
        if !proof.is_whole()
            && let Some(commit_id) = &commit_id
        {
            // Another commit may stand on top by now; ours holds what it holds.
            proof = self.proof(commit_id, batch).await?;
        }
        let (mut proved, mut unproved) = (Vec::new(), Vec::new());
        for (change, holds) in batch.changes.iter().zip(&proof.holds) {
            if *holds { &mut proved } else { &mut unproved }.push(change.clone());
        }
        let commit_id = commit_id.or(proof.commit_id);
        self.close(batch, commit_id.as_deref(), &proved).await?;
        if !proved.is_empty() {
            self.tell(commit_id.as_deref(), &proved);
            self.look_again(proved).await;
        }
        Ok(unproved)
    }

    /// What the branch holds of a batch by now.
    pub(super) async fn proof_of_head(&self, batch: &Batch) -> Result<super::prove::Proof, Failure> {
        let head = self.target.head().await?;
        self.proof(&head, batch).await
    }

    async fn proof(&self, revision: &str, batch: &Batch) -> Result<super::prove::Proof, Failure> {
        let Target { client, repo, .. } = &self.target;
        Ok(prove(client, repo, revision, &batch.changes, &batch.paths, self.options.concurrency).await?)
    }

    pub(super) async fn close(
        &self,
        batch: &Batch,
        commit_id: Option<&str>,
        proved: &[Change],
    ) -> Result<(), Failure> {
        let (folder, id) = (self.options.folder, batch.row.id);
        let (commit_id, proved) = (commit_id.map(str::to_owned), proved.to_vec());
        self.blocking(move |state| {
            state.close_batch(folder, id, commit_id.as_deref(), &proved, worker::now_ms())
        })
        .await
    }

    async fn journal(&self, batch: &Batch) -> Result<(), Failure> {
        let (folder, row, changes) = (self.options.folder, batch.row.clone(), batch.changes.clone());
        self.blocking(move |state| state.open_batch(folder, &row, &changes, worker::now_ms())).await
    }

    /// A file may have changed back to what the branch held before, or gone, while its commit was under way; then
    /// nobody waits for it any more. So each is compared with the folder once more.
    async fn look_again(&self, proved: Vec<Change>) {
        let (path, inbox) = (self.options.path.clone(), Arc::clone(&self.inbox));
        let looking = tokio::task::spawn_blocking(move || {
            let Ok(root) = RootDir::open(&path) else { return };
            for change in proved {
                let kind = root.look(&change.path);
                let is_as_pushed = match change.kind {
                    ChangeKind::Put { signature, .. } => {
                        matches!(kind, Ok(EntryKind::File(by_now)) if by_now == signature)
                    }
                    ChangeKind::Remove => !matches!(kind, Ok(EntryKind::File(_))),
                };
                if !is_as_pushed {
                    inbox.add(Hint::Path(change.path));
                }
            }
        });
        // A panic in there is a bug that the rescan makes good.
        let _ = looking.await;
    }

    fn tell(&self, commit_id: Option<&str>, proved: &[Change]) {
        let removed = proved.iter().filter(|change| change.kind == ChangeKind::Remove).count();
        let bytes: u64 = proved.iter().map(bytes_of).sum();
        let files = proved.len() - removed;
        tracing::info!(
            folder = %self.options.path.display(), repo = %self.target.repo, branch = %self.target.branch,
            commit = commit_id.unwrap_or("unknown"), files, removed, bytes, "committed and proved"
        );
        self.status.send_modify(|status| {
            status.commits += 1;
            status.files_pushed += files as u64;
            status.files_removed += removed as u64;
            status.bytes_pushed += bytes;
        });
    }

    /// Writes down that the server would not take this version of the file.
    pub(super) async fn quarantine(&self, change: &Change, reason: &str) -> Result<(), Failure> {
        let signature = match change.kind {
            ChangeKind::Put { signature, .. } => Some(signature),
            ChangeKind::Remove => None,
        };
        let row = ProblemRow {
            path: change.path.clone(),
            kind: ProblemKind::Quarantined,
            reason: reason.to_owned(),
            since_ms: worker::now_ms(),
            signature,
        };
        tracing::warn!(
            folder = %self.options.path.display(), path = %row.path,
            "not pushed: {reason}; it is tried again when it changes"
        );
        self.status.send_modify(|status| status.quarantined += 1);
        let folder = self.options.folder;
        self.blocking(move |state| state.set_problem(folder, &row).map(|_| ())).await
    }

    /// Drops a change whose file is not what it was; whoever watches the folder looks at it again.
    pub(super) fn drop_change(&self, path: &LocalPath, reason: &dyn std::fmt::Display) {
        tracing::debug!(folder = %self.options.path.display(), %path, "left out of the batch: {reason}");
        self.status.send_modify(|status| status.dropped += 1);
        self.inbox.add(Hint::Path(path.clone()));
    }

    pub(super) async fn open_source(&self) -> Result<Source, Failure> {
        let (path, folder) = (self.options.path.clone(), self.options.folder);
        let opened = self
            .blocking(move |state| {
                let known = state.root_id(folder)?;
                Ok(RootDir::open(&path)
                    .map(|root| (known.is_none_or(|id| id.inode == root.id().inode), root)))
            })
            .await?;
        let unusable = |reason: String| Failure {
            verdict: Verdict::Again,
            reason: format!("the folder {} cannot be read: {reason}", self.options.path.display()),
            retry_after: None,
            is_server_fault: false,
        };
        match opened {
            Ok((true, root)) => Ok(Source { root: Arc::new(root) }),
            Ok((false, _)) => Err(unusable("it is not the directory that was looked at".to_owned())),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    /// Waits for memory for `bytes` of content.
    pub(super) async fn memory(&self, bytes: u64) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let mib = bytes.div_ceil(1 << 20).clamp(1, worker::BUDGET_MIB as u64);
        let mib = u32::try_from(mib).unwrap_or(u32::MAX);
        Arc::clone(&self.budget).acquire_many_owned(mib).await.ok()
    }

    /// What the ids of this folder's workspaces begin with; nobody else's do.
    pub(super) fn workspace_prefix(&self) -> String {
        format!("oxen-sync-{}-{}", self.options.instance, self.options.folder.number())
    }

    pub(super) fn phase(&self, phase: PushPhase) {
        self.status.send_if_modified(|status| {
            let is_new = status.phase != phase;
            status.phase = phase;
            is_new
        });
    }

    fn start_progress(&self, phase: PushPhase, changes: &[Change]) {
        self.status.send_modify(|status| {
            status.phase = phase;
            status.batch = worker::BatchProgress {
                files: changes.len() as u64,
                bytes: changes.iter().map(bytes_of).sum(),
                files_sent: 0,
                bytes_sent: 0,
            };
        });
    }

    pub(super) fn sent(&self, files: u64, bytes: u64) {
        self.status.send_modify(|status| {
            status.batch.files_sent += files;
            status.batch.bytes_sent += bytes;
        });
    }

    /// Runs `work` on the state where blocking is allowed.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, Failure> {
        let state = self.state.clone();
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(done) => Ok(done?),
            Err(error) => Err(Failure {
                verdict: Verdict::Again,
                reason: format!("an internal step failed: {error}"),
                retry_after: None,
                is_server_fault: false,
            }),
        }
    }

    /// The folder's path, for messages.
    pub(super) fn folder_path(&self) -> &PathBuf {
        &self.options.path
    }
}

impl Batch {
    /// Keeps only the changes at `indices`, which are in any order.
    pub(super) fn retain(&mut self, indices: &[usize]) {
        let mut keep = vec![false; self.changes.len()];
        for index in indices {
            if let Some(slot) = keep.get_mut(*index) {
                *slot = true;
            }
        }
        let mut at = keep.iter();
        self.changes.retain(|_| *at.next().unwrap_or(&false));
        let mut at = keep.iter();
        self.paths.retain(|_| *at.next().unwrap_or(&false));
    }
}

pub(super) fn bytes_of(change: &Change) -> u64 {
    match change.kind {
        ChangeKind::Put { signature, .. } => signature.size,
        ChangeKind::Remove => 0,
    }
}
