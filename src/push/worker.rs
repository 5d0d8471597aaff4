//! The loop of one folder's pushing: collects, waits, delivers, backs off.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Pusher;
use super::backoff::Backoff;
use super::deliver::{Failed, Failure};
use super::verdict::Verdict;
use crate::config::{BatchLimits, MessageTemplate, Transport};
use crate::oxen::CommitInfo;
use crate::path::RepoPath;
use crate::plan::{self, Planner};
use crate::state::{Change, FolderKey, RetryRow};

/// What to push and how.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Its number in the state.
    pub folder: FolderKey,
    /// Where it stands on the branch.
    pub remote_dir: RepoPath,
    /// What carries batches.
    pub transport: Transport,
    /// When batches are closed.
    pub limits: BatchLimits,
    /// Whether what is gone from the folder goes from the branch.
    pub mirror: bool,
    /// What commits say.
    pub message: MessageTemplate,
    /// This machine's name.
    pub host: String,
    /// What tells this installation's workspaces from others'.
    pub instance: String,
    /// Requests of one batch under way at once.
    pub concurrency: usize,
    /// Whether to try for ever, or to give up after some tries.
    pub lasting: bool,
}

/// What the pushing is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PushPhase {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// It makes sure of repository and branch.
    Connecting,
    /// It settles what was under way.
    Recovering,
    /// It lists what the branch holds.
    Listing,
    /// It sends content.
    Staging,
    /// The request that commits is under way.
    Committing,
    /// It compares the branch with what was sent.
    Proving,
    /// A try failed; the next comes by itself.
    Waiting {
        /// Why, and what to do.
        reason: String,
        /// When the next try is due, in milliseconds since the epoch.
        next_ms: i64,
        /// Tries that failed in a row.
        attempts: u32,
    },
    /// Nobody is let in; tried again now and then, and at once after a reload.
    Stopped {
        /// Why, and what to do.
        reason: String,
        /// When the next try is due, in milliseconds since the epoch.
        next_ms: i64,
    },
}

/// How far the batch under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchProgress {
    /// Changes in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Changes staged.
    pub files_sent: u64,
    /// Bytes that the server has.
    pub bytes_sent: u64,
}

/// The pushing as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushStatus {
    /// What it is doing.
    pub phase: PushPhase,
    /// The batch under way, or the last one.
    pub batch: BatchProgress,
    /// Changes that wait for a batch.
    pub pending: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Commits proved since the start.
    pub commits: u64,
    /// Files in them.
    pub files_pushed: u64,
    /// Removals in them.
    pub files_removed: u64,
    /// Bytes in them.
    pub bytes_pushed: u64,
    /// Files put in quarantine since the start.
    pub quarantined: u64,
    /// Changes left out because their file was not what it was.
    pub dropped: u64,
}

/// How a worker that does not last ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushReport {
    /// What was done.
    pub status: PushStatus,
    /// Why it gave up, if it did.
    pub failure: Option<String>,
}

/// Memory for content that is read or sent, for all folders together.
pub const BUDGET_MIB: usize = 24;

const fn backoff(base: Duration, cap: Duration) -> Backoff {
    match Backoff::new(base, cap) {
        Some(backoff) => backoff,
        None => panic!("the bounds of a backoff are in order"),
    }
}

/// Between tries of one request.
pub(super) const REQUEST_BACKOFF: Backoff = backoff(Duration::from_millis(500), Duration::from_secs(5));
/// Between tries of a batch.
const BATCH_BACKOFF: Backoff = backoff(Duration::from_secs(1), Duration::from_secs(300));
/// Between tries of a target that lets nobody in.
const STOPPED_RETRY: Duration = Duration::from_secs(15 * 60);
/// Failures of the server itself after which the content is suspected.
const SUSPECT_AFTER: u32 = 4;
/// Tries of a worker that does not last.
const TRIES_MAX: u32 = 5;
/// How long a stop waits for a commit under way, and for a workspace to be given up.
const STOP_COMMIT_WAIT: Duration = Duration::from_secs(20);
const STOP_UNDO_WAIT: Duration = Duration::from_secs(3);

/// The wall clock, for what a person reads.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Runs until `cancel`, or, when it does not last, until `changes` ends and all of them are delivered or given up.
/// `kick` cuts a wait short.
pub async fn run(
    pusher: Pusher,
    mut changes: mpsc::Receiver<Change>,
    kick: Arc<Notify>,
    cancel: CancellationToken,
) -> PushReport {
    let lasting = pusher.options.lasting;
    let mut planner = Planner::new(pusher.options.limits);
    let mut tries = Tries::load(&pusher);
    let mut open = true;
    // What an earlier life left under way is settled even when nothing else is to be done.
    let mut unsettled =
        pusher.state.open_batches(pusher.options.folder).is_ok_and(|batches| !batches.is_empty());
    let failure = loop {
        publish(&pusher, &planner, &tries);
        if !open && planner.is_empty() && !unsettled {
            break None;
        }
        let due = planner.due_at().map(|due| if open { due } else { Instant::now() });
        let at = if unsettled { Some(tries.not_before) } else { due.map(|due| due.max(tries.not_before)) };
        tokio::select! {
            biased;
            () = cancel.cancelled() => break None,
            change = changes.recv(), if open && !planner.is_full() => match change {
                Some(change) => planner.add(change, Instant::now()),
                None => open = false,
            },
            () = kick.notified() => tries.not_before = Instant::now(),
            () = sleep_until(at), if at.is_some() => {
                let batch = if unsettled { Vec::new() } else { planner.take(Instant::now()).unwrap_or_default() };
                let delivery = deliver(&pusher, batch, tries.suspects_content());
                tokio::pin!(delivery);
                let result = loop {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => break None,
                        result = &mut delivery => break Some(result),
                        change = changes.recv(), if open && !planner.is_full() => match change {
                            Some(change) => planner.add(change, Instant::now()),
                            None => open = false,
                        },
                    }
                };
                match result {
                    Some(Ok(())) => {
                        unsettled = false;
                        tries.succeeded(&pusher).await;
                    }
                    Some(Err(Failed { failure, changes })) => {
                        planner.put_back(changes, Instant::now());
                        tries.failed(&pusher, &failure).await;
                        if !lasting && (failure.verdict == Verdict::Stop || tries.failures >= TRIES_MAX) {
                            break Some(failure.reason);
                        }
                    }
                    None => {
                        // A commit is waited for; anything before it is given up and undone.
                        if pusher.status.borrow().phase == PushPhase::Committing {
                            let _ = tokio::time::timeout(STOP_COMMIT_WAIT, &mut delivery).await;
                        }
                        break None;
                    }
                }
            }
        }
    };
    if cancel.is_cancelled() {
        // What this does not manage is managed at the next start.
        let _ = tokio::time::timeout(STOP_UNDO_WAIT, pusher.recover()).await;
    }
    let status = pusher.status.borrow().clone();
    PushReport { status, failure }
}

/// Delivers one batch, in smaller and smaller ones where something in it is at fault.
async fn deliver(pusher: &Pusher, batch: Vec<Change>, suspects_content: bool) -> Result<(), Failed> {
    if batch.is_empty() {
        // Only what is open is to be settled.
        return pusher.deliver(batch).await;
    }
    let mut groups = vec![batch];
    if pusher.options.transport == Transport::Put {
        groups = groups_for_put(pusher, groups).await?;
    }
    if suspects_content {
        groups = groups.into_iter().flat_map(halves).collect();
    }
    while let Some(group) = groups.pop() {
        let Err(Failed { failure, changes }) = pusher.deliver(group).await else { continue };
        let split = failure.verdict == Verdict::Split || failure.is_server_fault && suspects_content;
        let outcome = match (&changes[..], split) {
            ([change], true) => pusher.quarantine(change, &failure.reason).await,
            (_, true) => {
                groups.extend(halves(changes));
                continue;
            }
            _ => Err(failure),
        };
        if let Err(failure) = outcome {
            let changes = changes.into_iter().chain(groups.into_iter().flatten()).collect();
            return Err(Failed { failure, changes });
        }
    }
    Ok(())
}

fn halves(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    let second = changes.split_off(changes.len() / 2);
    [changes, second].into_iter().filter(|half| !half.is_empty()).collect()
}

async fn groups_for_put(pusher: &Pusher, batch: Vec<Vec<Change>>) -> Result<Vec<Vec<Change>>, Failed> {
    let author = &pusher.target.author;
    // The message is not known yet: leave room for the longest.
    let info = CommitInfo {
        message: " ".repeat(MessageTemplate::MAX_LEN * 2),
        name: author.name.clone(),
        email: author.email.clone(),
    };
    let remote_dir = &pusher.options.remote_dir;
    let path_of =
        |change: &Change| RepoPath::for_file(remote_dir, &change.path).unwrap_or_else(|_| RepoPath::root());
    let (groups, rest) = plan::groups_for_put(batch.into_iter().flatten().collect(), path_of, &info);
    for change in &rest {
        let reason = "a PUT cannot carry it (its size, its name, or a removal); set transport = \"auto\"";
        if let Err(failure) = pusher.quarantine(change, reason).await {
            return Err(Failed { failure, changes: groups.into_iter().flatten().chain(rest).collect() });
        }
    }
    Ok(groups)
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

fn publish(pusher: &Pusher, planner: &Planner, tries: &Tries) {
    pusher.status.send_modify(|status| {
        status.pending = planner.len() as u64;
        status.pending_bytes = planner.bytes();
        status.phase = match &tries.row {
            None => PushPhase::Idle,
            Some(RetryRow { reason, next_ms, stopped: true, .. }) => {
                PushPhase::Stopped { reason: reason.clone(), next_ms: *next_ms }
            }
            Some(RetryRow { reason, next_ms, attempts, .. }) => {
                PushPhase::Waiting { reason: reason.clone(), next_ms: *next_ms, attempts: *attempts }
            }
        };
    });
}

/// Tries that failed in a row, kept in the state so that a restart does not storm a server that is in trouble.
struct Tries {
    failures: u32,
    server_faults: u32,
    not_before: Instant,
    row: Option<RetryRow>,
}

impl Tries {
    fn load(pusher: &Pusher) -> Self {
        let row = pusher.state.retry(pusher.options.folder).unwrap_or_default();
        // A wall clock that jumped must not make us wait longer than we ever would, and someone who starts the service
        // has likely done something about a stop.
        let wait =
            row.as_ref().filter(|row| !row.stopped && pusher.options.lasting).map_or(Duration::ZERO, |row| {
                let left = u64::try_from(row.next_ms - now_ms()).unwrap_or(0);
                Duration::from_millis(left).min(BATCH_BACKOFF.bound(row.attempts))
            });
        Self {
            failures: row.as_ref().map_or(0, |row| row.attempts),
            server_faults: 0,
            not_before: Instant::now() + wait,
            row,
        }
    }

    fn suspects_content(&self) -> bool {
        self.server_faults >= SUSPECT_AFTER
    }

    async fn succeeded(&mut self, pusher: &Pusher) {
        let Some(row) = self.row.take() else { return };
        tracing::info!(
            folder = %pusher.options.path.display(), tries = row.attempts,
            "pushing again; it had failed with: {}", row.reason
        );
        let folder = pusher.options.folder;
        *self = Self { failures: 0, server_faults: 0, not_before: Instant::now(), row: None };
        // Kept in memory too; a row that stays costs one wait after the next start.
        let _ = pusher.blocking(move |state| state.set_retry(folder, None)).await;
    }

    async fn failed(&mut self, pusher: &Pusher, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        self.server_faults = if failure.is_server_fault { self.server_faults + 1 } else { 0 };
        let stopped = failure.verdict == Verdict::Stop;
        let wait = match failure.verdict {
            Verdict::Stop => STOPPED_RETRY,
            // An answer that only has to be asked for is asked for at once, unless that goes on and on.
            Verdict::Ask if self.failures <= 2 => Duration::ZERO,
            _ => BATCH_BACKOFF.wait(self.failures, fastrand::f64(), failure.retry_after),
        };
        self.not_before = Instant::now() + wait;
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let row = RetryRow {
            attempts: self.failures,
            next_ms: now_ms().saturating_add(wait_ms),
            stopped,
            reason: failure.reason.clone(),
        };
        // One line for each change of state, not for each try.
        if self.row.as_ref().is_none_or(|known| known.reason != row.reason) {
            let folder = pusher.options.path.display();
            if stopped {
                tracing::error!(%folder, "pushing stopped: {}", row.reason);
            } else {
                tracing::warn!(%folder, "pushing failed and is tried again by itself: {}", row.reason);
            }
        }
        self.row = Some(row.clone());
        let folder = pusher.options.folder;
        let _ = pusher.blocking(move |state| state.set_retry(folder, Some(&row))).await;
    }
}
