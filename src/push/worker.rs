//! The loop of one folder's pushing: collects, waits, delivers, backs off.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deliver::Failed;
use super::pusher::Failure;
use super::removals::Removals;
use super::tries::Tries;
use super::verdict::Verdict;
use super::{PushPhase, PushStatus, Pusher};
use crate::config::{BatchLimits, DeleteBrake, MessageTemplate, Transport};
use crate::content::Calls;
use crate::folder::intake::Outlook;
use crate::oxen::CommitInfo;
use crate::path::RepoPath;
use crate::plan::{self, Planner};
use crate::state::{Change, FolderKey, Places, RetryRow};

/// What to push and how.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Its number in the state.
    pub folder: FolderKey,
    /// Where its files stand on the branch.
    pub places: Arc<Places>,
    /// What carries batches.
    pub transport: Transport,
    /// When batches are closed.
    pub limits: BatchLimits,
    /// Whether what is gone from the folder goes from the branch.
    pub mirror: bool,
    /// When removals are held.
    pub delete_brake: DeleteBrake,
    /// What a person types to let them go.
    pub release_command: String,
    /// What commits say.
    pub message: MessageTemplate,
    /// This machine's name.
    pub host: String,
    /// What tells this installation's workspaces from others'.
    pub instance: String,
    /// Requests of one batch under way at once.
    pub concurrency: usize,
    /// How often the branch is looked at when nothing is to be pushed.
    pub check_interval: Duration,
    /// Whether to try for ever, or to give up after some tries.
    pub lasting: bool,
    /// Counts the calls into the folder that are made here.
    pub calls: Arc<Calls>,
}

/// How a worker that does not last ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushReport {
    /// What was done.
    pub status: PushStatus,
    /// Why it gave up, if it did.
    pub failure: Option<String>,
}

/// Tries of a worker that does not last.
const TRIES_MAX: u32 = 5;
/// Groups of one batch that fail, with none that passes, after which the server is at fault and not a file.
const FAILED_GROUPS_MAX: usize = 16;
/// How long a stop waits for a commit under way, and for a workspace to be given up.
const STOP_COMMIT_WAIT: Duration = Duration::from_secs(20);
const STOP_UNDO_WAIT: Duration = Duration::from_secs(3);

/// The wall clock, for what a person reads.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Runs until `cancel`, or, when it does not last, until `changes` ends and all of them are delivered or given up.
/// `kick` cuts a wait short; `sure` is told once the branch is there and known.
pub async fn run(
    pusher: Pusher,
    (mut changes, outlook): (mpsc::Receiver<Change>, watch::Receiver<Outlook>),
    kick: Arc<Notify>,
    sure: oneshot::Sender<()>,
    cancel: CancellationToken,
) -> PushReport {
    let lasting = pusher.options.lasting;
    let mut planner = Planner::new(pusher.options.limits);
    let mut tries = Tries::load(&pusher);
    let mut removals = Removals::load(&pusher, outlook);
    let (mut open, mut sure) = (true, Some(sure));
    removals.keep(&pusher).await;
    // What an earlier life left under way is settled, and the branch looked at, even when nothing is to be pushed.
    let mut check_at = Some(Instant::now());
    let failure = loop {
        removals.step(&pusher, &mut planner).await;
        publish(&pusher, &planner, &removals, &tries);
        if !open && planner.is_empty() && removals.is_done() && check_at.is_none() {
            break None;
        }
        if !lasting && removals.failures() >= TRIES_MAX {
            break Some("the state cannot be asked about removals; is its disk full?".to_owned());
        }
        // One shot judges what it has seen once it has seen everything.
        let at_end = !open && !lasting;
        let judge_at = if at_end { removals.due_at_end(&changes) } else { removals.due_at(&changes) };
        let due =
            planner.due_with(removals.judged_at(&changes)).map(|due| if open { due } else { Instant::now() });
        let at = [due, check_at].into_iter().flatten().min().map(|at| at.max(tries.not_before));
        tokio::select! {
            biased;
            () = cancel.cancelled() => break None,
            change = changes.recv(), if open && !planner.is_full() => match change {
                Some(change) => take_in(&mut planner, change, &mut changes),
                None => open = false,
            },
            () = removals.changed() => {}
            () = sleep_until(judge_at), if judge_at.is_some() => {
                removals.judge(&pusher, &planner, &changes, at_end).await;
            }
            () = kick.notified() => {
                removals.kick(&pusher);
                tries.not_before = Instant::now();
                check_at = Some(Instant::now());
                pusher.target.doubt();
            }
            () = sleep_until(at), if at.is_some() => {
                let now = Instant::now();
                let checks = check_at.is_some_and(|at| at <= now);
                if checks {
                    pusher.target.doubt();
                }
                let batch = if checks { Vec::new() } else { planner.take(now).unwrap_or_default() };
                let batch = removals.part(&pusher, batch).await;
                publish_pending(&pusher, &planner, &removals);
                let delivery = deliver(&pusher, batch, tries.suspects_content());
                tokio::pin!(delivery);
                let result = loop {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => break None,
                        result = &mut delivery => break Some(result),
                        change = changes.recv(), if open && !planner.is_full() => match change {
                            Some(change) => {
                                take_in(&mut planner, change, &mut changes);
                                publish_pending(&pusher, &planner, &removals);
                            }
                            None => open = false,
                        },
                    }
                };
                match result {
                    Some(Ok(())) => {
                        if checks {
                            check_at = lasting.then(|| Instant::now() + pusher.options.check_interval);
                            // Nobody may wait for it any more.
                            sure.take().map(|sure| sure.send(()));
                        }
                        tries.succeeded(&pusher, checks).await;
                    }
                    Some(Err(Failed { failure, changes })) => {
                        planner.put_back(changes, Instant::now());
                        tries.failed(&pusher, &failure, checks).await;
                        if !lasting && (failure.verdict == Verdict::Stop || tries.failures() >= TRIES_MAX) {
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

/// Delivers one batch. Where something in it is at fault, or, with `suspects_content`, may be, it goes in smaller and
/// smaller ones until that is found. A file is only set aside for a reason that nobody knows when others of its batch
/// went through: else it is the server that is at fault.
async fn deliver(pusher: &Pusher, batch: Vec<Change>, suspects_content: bool) -> Result<(), Failed> {
    if batch.is_empty() {
        // Only what is open is to be settled.
        return pusher.deliver(batch).await.map(|_| ());
    }
    let mut groups = vec![batch];
    if pusher.options.transport == Transport::Put {
        groups = groups_for_put(pusher, groups).await?;
    }
    if suspects_content {
        groups = groups.into_iter().flat_map(halves).collect();
    }
    // Large groups come before small ones, so that what is well passes early, however many are at fault.
    let mut groups = VecDeque::from(groups);
    let (mut something_passed, mut failed_groups) = (false, 0);
    let mut suspects = Vec::<(Change, Failure)>::new();
    while let Some(group) = groups.pop_front() {
        let (failure, changes) = match pusher.deliver(group).await {
            Ok(was_sent) => {
                something_passed |= was_sent;
                continue;
            }
            Err(Failed { failure, changes }) => (failure, changes),
        };
        failed_groups += 1;
        let gives_up = !something_passed && failed_groups >= FAILED_GROUPS_MAX;
        let suspected = failure.may_be_content && suspects_content && !gives_up;
        let outcome = match (&changes[..], failure.verdict) {
            ([change], Verdict::Split) => pusher.quarantine(change, &failure.reason).await,
            ([change], _) if suspected => {
                suspects.push((change.clone(), failure));
                continue;
            }
            (_, verdict) if verdict == Verdict::Split || suspected => {
                groups.extend(halves(changes));
                continue;
            }
            _ => Err(failure),
        };
        if let Err(failure) = outcome {
            let suspects = suspects.into_iter().map(|(change, _)| change);
            let changes = changes.into_iter().chain(suspects).chain(groups.into_iter().flatten()).collect();
            return Err(Failed { failure, changes });
        }
    }
    if !something_passed && let Some((_, failure)) = suspects.first() {
        let failure = failure.clone();
        return Err(Failed { failure, changes: suspects.into_iter().map(|(change, _)| change).collect() });
    }
    while let Some((change, failure)) = suspects.pop() {
        if let Err(failure) = pusher.quarantine(&change, &failure.reason).await {
            let suspects = suspects.into_iter().map(|(change, _)| change);
            return Err(Failed { failure, changes: suspects.chain([change]).collect() });
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
    let places = &pusher.options.places;
    let path_of =
        |change: &Change| places.path_of(change.place, &change.path).unwrap_or_else(|_| RepoPath::root());
    let (groups, rest) = plan::groups_for_put(batch.into_iter().flatten().collect(), path_of, &info);
    for change in &rest {
        let reason = "a PUT cannot carry it (its size, its name, or a removal); set transport = \"auto\"";
        if let Err(failure) = pusher.quarantine(change, reason).await {
            return Err(Failed { failure, changes: groups.into_iter().flatten().chain(rest).collect() });
        }
    }
    Ok(groups)
}

/// Takes in a change, and those that have come with it.
fn take_in(planner: &mut Planner, first: Change, changes: &mut mpsc::Receiver<Change>) {
    let now = Instant::now();
    planner.add(first, now);
    while !planner.is_full()
        && let Ok(change) = changes.try_recv()
    {
        planner.add(change, now);
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// Says what waits for a later batch.
fn publish_pending(pusher: &Pusher, planner: &Planner, removals: &Removals) {
    pusher.status.send_modify(|status| {
        status.pending = planner.len() as u64 + removals.len();
        status.pending_bytes = planner.bytes();
    });
}

fn publish(pusher: &Pusher, planner: &Planner, removals: &Removals, tries: &Tries) {
    publish_pending(pusher, planner, removals);
    pusher.status.send_modify(|status| {
        status.has_more = removals.has_more();
        status.is_holding = removals.is_holding();
        // Nothing is under way by now, however it ended.
        status.hitch = None;
        status.phase = match tries.row() {
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
