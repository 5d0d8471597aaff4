use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::Target;
use super::memory::Memory;
use super::progress::PushStatus;
use super::verdict::{Verdict, may_be_content, verdict};
use super::worker::PushOptions;
use crate::content::Silence;
use crate::folder::Inbox;
use crate::oxen::Error;
use crate::path::LocalPath;
use crate::state::{State, StateError};

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
    /// Memory for content.
    pub(super) memory: Memory,
    /// What is being done.
    pub status: watch::Sender<PushStatus>,
    /// Files that the server said to have taken and that were not on the branch.
    unproved: Mutex<HashSet<LocalPath>>,
    /// Files that were left out of a batch of late, where files are taken by runs.
    left_out: Mutex<Vec<LocalPath>>,
    /// Requests to commit one workspace that came to no clear end, in a row.
    pub(super) unclear_merges: AtomicU32,
    /// Commits of ours that cleared the way on the branch; a workspace from before one of them holds what stood there.
    pub(super) clearings: AtomicU64,
    /// Whether the branch was compared with what is known of it, and workspaces left behind were looked for, since it was
    /// last in doubt.
    pub(super) surveyed: AtomicBool,
    /// Held by the one upload in parts that goes where the server's rate is limited.
    pub(super) upload_turn: tokio::sync::Mutex<()>,
}

/// Why a delivery came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub verdict: Verdict,
    pub reason: String,
    pub retry_after: Option<Duration>,
    /// Nobody knows why, and it may be what was sent.
    pub may_be_content: bool,
}

impl Failure {
    /// One that says nothing against what was to be sent.
    pub(super) fn of_surroundings(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into(), retry_after: None, may_be_content: false }
    }

    /// The same where nothing of the content was sent yet.
    pub(super) fn before_content(self) -> Self {
        Self { may_be_content: false, ..self }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::of_surroundings(Verdict::Again, error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            verdict: verdict(&error),
            reason: error.to_string(),
            retry_after: error.retry_after(),
            may_be_content: may_be_content(&error),
        }
    }
}

impl Pusher {
    /// A pusher that has done nothing yet. `shared` is memory for content, in MiB, that all folders of its server have
    /// together.
    pub fn new(
        options: PushOptions,
        target: Target,
        state: State,
        inbox: Arc<Inbox>,
        shared: Arc<Semaphore>,
        status: watch::Sender<PushStatus>,
    ) -> Self {
        Self {
            options,
            target,
            state,
            inbox,
            memory: Memory::new(shared),
            status,
            unproved: Mutex::default(),
            left_out: Mutex::default(),
            unclear_merges: AtomicU32::new(0),
            clearings: AtomicU64::new(0),
            surveyed: AtomicBool::new(false),
            upload_turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn lock_unproved(&self) -> MutexGuard<'_, HashSet<LocalPath>> {
        self.unproved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_left_out(&self) -> MutexGuard<'_, Vec<LocalPath>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was left out of a batch since this was asked last, where files are taken by runs.
    pub(super) fn take_left_out(&self) -> Vec<LocalPath> {
        std::mem::take(&mut *self.lock_left_out())
    }

    /// What the ids of this folder's workspaces begin with; nobody else's do.
    pub(super) fn workspace_prefix(&self) -> String {
        format!("oxen-sync-{}-{}", self.options.instance, self.options.folder.number())
    }

    /// Runs `work` in the folder where blocking is allowed. Nobody else is to wait for a folder that does not answer: what
    /// is held meanwhile, such as memory, is let go with the failure.
    pub(super) async fn in_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, Failure> {
        match self.options.calls.answered(self.blocking(work)).await {
            Ok(done) => done,
            Err(silence) => Err(self.unanswered(silence)),
        }
    }

    /// Waits until the folder answers, so that no try adds a call to those that hang. One shot does not wait.
    pub(super) async fn folder_answers(&self) -> Result<(), Failure> {
        if !self.options.lasting
            && let Some(silence) = self.options.calls.silence()
        {
            return Err(self.unanswered(silence));
        }
        self.options.calls.answering().await;
        Ok(())
    }

    fn unanswered(&self, silence: Silence) -> Failure {
        let verdict = if self.options.lasting { Verdict::Again } else { Verdict::Stop };
        Failure::of_surroundings(verdict, silence.to_string())
    }

    /// Runs `work` on the state where blocking is allowed.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, Failure> {
        let state = self.state.clone();
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(done) => Ok(done?),
            Err(error) => {
                Err(Failure::of_surroundings(Verdict::Again, format!("an internal step failed: {error}")))
            }
        }
    }
}
