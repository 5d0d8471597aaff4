//! The loop of one folder's pushing: collects, waits, delivers, backs off.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::after_push::AfterPush;
use super::asked::{Flushes, stage_of};
use super::deliver::Failed;
use super::early::{self, EARLY_LEAD, EARLY_SIZE_MAX, EarlyBatch, early_min};
use super::isolate::deliver;
use super::pusher::Failure;
use super::removals::Removals;
use super::tries::Tries;
use super::verdict::Verdict;
use super::{Ask, BatchProgress, PushPhase, PushStatus, Pusher, Rank, Steering};
use crate::config::{self, BatchLimits, DeleteBrake, MessageTemplate, Transport};
use crate::content::Calls;
use crate::folder::intake::{Finished, Outlook};
use crate::path::printable;
use crate::plan::{Marker, Planner};
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
    /// What finishes a run.
    pub marker: Marker,
    /// Whether what is gone from the folder goes from the branch.
    pub mirror: bool,
    /// When removals are held.
    pub delete_brake: DeleteBrake,
    /// What becomes here of files that are on the branch.
    pub after_push: config::AfterPush,
    /// Patterns of what is left out, and of what alone counts: nothing that is left out is taken off.
    pub exclude: Vec<String>,
    /// See `exclude`.
    pub include: Vec<String>,
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
    /// Whom it lets go first.
    pub rank: Rank,
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
/// How long a stop waits for a commit under way, and for a workspace to be given up.
const STOP_COMMIT_WAIT: Duration = Duration::from_secs(20);
const STOP_UNDO_WAIT: Duration = Duration::from_secs(3);

/// The wall clock, for what a person reads.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Runs until `cancel`, or, when it does not last, until `changes` ends and all of them are delivered or given up.
/// `kick` cuts a wait short; `sure` is told once the branch is there and known; `steering` is how others ask and pause it.
pub async fn run(
    pusher: Pusher,
    (changes, outlook): (mpsc::Receiver<Finished>, watch::Receiver<Outlook>),
    (kick, sure): (Arc<Notify>, oneshot::Sender<()>),
    steering: Steering,
    cancel: CancellationToken,
) -> PushReport {
    let lasting = pusher.options.lasting;
    let limits = pusher.options.limits;
    // Nobody waits for a single file of one shot: a pause in reading the folder ends no batch of it.
    let quiet = if lasting { limits.quiet } else { limits.max_wait };
    let planner = Planner::new(BatchLimits { quiet, ..limits }, pusher.options.marker.clone());
    let mut collected = Collected::new(planner, changes, steering);
    let mut tries = Tries::load(&pusher);
    let mut removals = Removals::load(&pusher, outlook);
    let mut after_push = AfterPush::load(&pusher);
    // The batch that is staged while it is collected, and whether that may be tried.
    let (mut early, mut goes_early) = (None, pusher.options.transport != Transport::Put);
    let mut sure = Some(sure);
    removals.keep(&pusher).await;
    // What an earlier life left under way is settled, and the branch looked at, even when nothing is to be pushed.
    let mut check_at = Some(Instant::now());
    let failure = loop {
        // What was left out of a batch comes again, and what finishes its run behind it.
        for path in pusher.take_left_out() {
            for marker in collected.planner.take_markers_of(&path) {
                pusher.drop_change(&marker, &"its run is not complete any more");
            }
        }
        // Who gathered may have ended before all of a run had come.
        if !collected.open || (!removals.is_gathering() && collected.changes.is_empty()) {
            collected.planner.close_runs(Instant::now());
        }
        removals.step(&pusher, &mut collected.planner).await;
        after_push.take_strays(&pusher);
        let is_calm = removals.is_holding() || (removals.len() == 0 && !removals.has_more());
        collected.flushes.step(&mut collected.planner, collected.received, is_calm);
        if collected.is_held() && early.take().is_some() {
            collected.planner.put_back_early(Instant::now());
            undo(&pusher).await;
        }
        let waits = Waits { is_staging: early.is_some(), held: collected.held() };
        publish(&pusher, &collected.planner, &removals, &tries, waits);
        let is_held = collected.is_held();
        if !collected.open
            && collected.planner.is_empty()
            && early.is_none()
            && removals.is_done()
            && after_push.is_settled()
            && check_at.is_none()
        {
            break None;
        }
        if !lasting && removals.failures() >= TRIES_MAX {
            break Some("the state cannot be asked about removals; is its disk full?".to_owned());
        }
        // One shot judges what it has seen once it has seen everything.
        let at_end = !collected.open && !lasting;
        let judge_at = if at_end {
            removals.due_at_end(&collected.changes)
        } else {
            removals.due_at(&collected.changes)
        };
        let due = collected
            .planner
            .due_with(removals.judged_at(&collected.changes))
            .map(|due| if collected.open { due } else { Instant::now() });
        // A look at the branch would settle the batch that is being collected.
        let check = check_at.filter(|_| early.is_none());
        let at = [due, check].into_iter().flatten().min().map(|at| at.max(tries.not_before));
        let at = at.filter(|_| !is_held);
        // Only where nothing of ours is under way.
        let takes_off_at = after_push.due_at(tries.row().is_some()).filter(|_| !is_held && early.is_none());
        let may_set_out = goes_early
            && !is_held
            && collected.open
            && tries.row().is_none()
            && removals.len() == 0
            && !collected.planner.is_full();
        let now = Instant::now();
        // One shot has nobody who waits for a single file, and sends what it finds in as few requests as it can.
        let soon = || {
            let due = collected.planner.due_at().filter(|due| lasting && now < *due)?;
            due.checked_sub(EARLY_LEAD.min(pusher.options.limits.quiet / 2))
        };
        let is_many = collected.planner.len() >= early_min();
        let sets_out_at = may_set_out.then(|| if is_many { Some(now) } else { soon() }).flatten();
        if sets_out_at.is_some_and(|at| at <= now) {
            let set_out = collected.planner.take_early(EARLY_SIZE_MAX);
            if !set_out.is_empty() {
                // Nothing is counted here and as part of the batch.
                publish_pending(&pusher, &collected.planner, &removals);
                if early.is_none() {
                    pusher.start_progress(PushPhase::Connecting, &set_out);
                }
                let staged = {
                    // On the heap: a folder at rest takes no memory for what it may have to do.
                    let mut staging = Box::pin(stage_early(&pusher, &mut early, &set_out));
                    let work = &mut staging.as_mut();
                    collected.take_in_during(work, &pusher, (&removals, &[]), &cancel).await
                };
                match staged {
                    Ended::Done(Ok(())) => {}
                    Ended::Done(Err(failure)) => {
                        let folder = printable(&pusher.options.path);
                        tracing::debug!(%folder, "no batch sets out early: {}", failure.reason);
                        goes_early = false;
                        collected.planner.put_back_early(Instant::now());
                    }
                    Ended::Paused => {
                        // What it had begun is undone above, once all that set out is back.
                        collected.planner.put_back_early(Instant::now());
                        early = None;
                        undo(&pusher).await;
                    }
                    Ended::Cancelled => break None,
                }
                continue;
            }
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => break None,
            change = collected.changes.recv(), if collected.open && !collected.planner.is_full() => match change {
                Some(change) => collected.take_in(change),
                None => collected.open = false,
            },
            () = removals.changed() => {}
            () = pusher.inbox.stray() => {}
            Some(ask) = collected.steering.asks.recv() => collected.answer(ask, &[], tries.row().is_some()),
            Ok(()) = collected.steering.holds.changed() => {}
            () = sleep_until(judge_at), if judge_at.is_some() => {
                removals.judge(&pusher, &collected.planner, &collected.changes, at_end).await;
            }
            () = kick.notified() => {
                removals.kick(&pusher);
                tries.not_before = Instant::now();
                check_at = Some(Instant::now());
                pusher.target.doubt();
            }
            () = sleep_until(sets_out_at), if sets_out_at.is_some_and(|at| at > now) => {}
            () = sleep_until(at), if at.is_some() => {
                let now = Instant::now();
                let checks = check.is_some_and(|at| at <= now);
                if checks {
                    pusher.target.doubt();
                }
                let batch = if checks { Vec::new() } else { collected.planner.take(now).unwrap_or_default() };
                let mut batch = removals.part(&pusher, batch).await;
                let early = early.take();
                if let Some(early) = &early {
                    let (fits, later) = pusher.split_for_early(early, batch);
                    batch = fits;
                    collected.planner.put_back(later, now);
                }
                let set_out = collected.planner.release_early_but(&batch);
                publish_pending(&pusher, &collected.planner, &removals);
                let all = [&set_out[..], &batch[..]].concat();
                if early.is_none() {
                    pusher.start_progress(PushPhase::Connecting, &all);
                }
                let suspects_content = tries.suspects_content();
                let mut delivery = Box::pin(deliver_all(&pusher, early, set_out, batch, suspects_content));
                let work = &mut delivery.as_mut();
                match collected.take_in_during(work, &pusher, (&removals, &all), &cancel).await {
                    Ended::Done(Ok(())) => {
                        if checks {
                            check_at = lasting.then(|| Instant::now() + pusher.options.check_interval);
                            // Nobody may wait for it any more.
                            sure.take().map(|sure| sure.send(()));
                        }
                        goes_early = pusher.options.transport != Transport::Put;
                        collected.planner.landed();
                        tries.succeeded(&pusher, checks).await;
                    }
                    Ended::Done(Err(Failed { failure, changes })) => {
                        collected.planner.put_back(changes, Instant::now());
                        collected.planner.landed();
                        tries.failed(&pusher, &failure, checks).await;
                        if !lasting && (failure.verdict == Verdict::Stop || tries.failures() >= TRIES_MAX) {
                            break Some(failure.reason);
                        }
                    }
                    Ended::Paused => {
                        collected.planner.put_back(all, Instant::now());
                        collected.planner.landed();
                        undo(&pusher).await;
                    }
                    Ended::Cancelled => {
                        // A commit is waited for; anything before it is given up and undone.
                        if pusher.status.borrow().phase == PushPhase::Committing {
                            let _ = tokio::time::timeout(STOP_COMMIT_WAIT, &mut delivery).await;
                        }
                        break None;
                    }
                }
            }
            // The last of all: what is to be pushed does not wait for it.
            () = sleep_until(takes_off_at), if takes_off_at.is_some() => {
                let found = {
                    let mut finding = Box::pin(after_push.find(&pusher));
                    collected.take_in_during(&mut finding.as_mut(), &pusher, (&removals, &[]), &cancel).await
                };
                match found {
                    Ended::Done(found) => after_push.take_off(&pusher, found).await,
                    Ended::Paused => {}
                    Ended::Cancelled => break None,
                }
            }
        }
    };
    if cancel.is_cancelled() {
        undo(&pusher).await;
    }
    let status = pusher.status.borrow().clone();
    PushReport { status, failure }
}

/// Gives up what was begun. What this does not manage is managed before anything else is sent.
async fn undo(pusher: &Pusher) {
    let _ = tokio::time::timeout(STOP_UNDO_WAIT, pusher.recover()).await;
}

/// The changes that came and are not under way.
#[derive(Debug)]
struct Collected {
    planner: Planner,
    changes: mpsc::Receiver<Finished>,
    /// Whether more may come.
    open: bool,
    /// How many came.
    received: u64,
    steering: Steering,
    flushes: Flushes,
}

/// How work ended beside which changes were taken in.
enum Ended<T> {
    Done(T),
    /// It is not to go on, and was not at a commit.
    Paused,
    Cancelled,
}

impl Collected {
    fn new(planner: Planner, changes: mpsc::Receiver<Finished>, steering: Steering) -> Self {
        Self { planner, changes, open: true, received: 0, steering, flushes: Flushes::default() }
    }

    /// What it is in where something keeps it from the server.
    fn held(&self) -> Option<PushPhase> {
        self.steering.holds.borrow().phase()
    }

    fn is_held(&self) -> bool {
        self.held().is_some()
    }

    /// Takes in a change, and those that have come with it.
    fn take_in(&mut self, first: Finished) {
        let now = Instant::now();
        self.planner.add_seen(first.change, first.run, first.seen, now);
        self.received += 1;
        while !self.planner.is_full()
            && let Ok(Finished { change, run, seen }) = self.changes.try_recv()
        {
            self.planner.add_seen(change, run, seen, now);
            self.received += 1;
        }
    }

    /// Answers a question; `under_way` are the changes that are being delivered.
    fn answer(&mut self, ask: Ask, under_way: &[Change], is_waiting: bool) {
        match ask {
            Ask::Path(path, answer) => {
                // Nobody may wait for it any more.
                let _ = answer.send(stage_of(&path, &self.planner, under_way, is_waiting));
            }
            Ask::Flush { handed, answer } => self.flushes.add(handed, answer),
        }
    }

    /// Takes changes in until `work`, which delivers those `under_way`, is done or is not to go on. A commit that was asked
    /// for comes to its end before a pause begins.
    async fn take_in_during<T>(
        &mut self,
        work: &mut Pin<&mut impl Future<Output = T>>,
        pusher: &Pusher,
        (removals, under_way): (&Removals, &[Change]),
        cancel: &CancellationToken,
    ) -> Ended<T> {
        loop {
            let is_committing = pusher.status.borrow().phase == PushPhase::Committing;
            if self.is_held() && !is_committing {
                return Ended::Paused;
            }
            let takes_in = self.open && !self.planner.is_full();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ended::Cancelled,
                done = work.as_mut() => return Ended::Done(done),
                Some(ask) = self.steering.asks.recv() => self.answer(ask, under_way, false),
                Ok(()) = self.steering.holds.changed() => {}
                change = self.changes.recv(), if takes_in => match change {
                    Some(change) => {
                        self.take_in(change);
                        publish_pending(pusher, &self.planner, removals);
                    }
                    None => self.open = false,
                },
            }
        }
    }
}

/// Stages changes of the batch that is being collected, and begins it with the first.
async fn stage_early(
    pusher: &Pusher,
    early: &mut Option<EarlyBatch>,
    changes: &[Change],
) -> Result<(), Failure> {
    let _delivering = pusher.options.rank.enter();
    let staged = match early {
        Some(early) => pusher.stage_early(early, changes).await,
        None => {
            *early = pusher.begin_early(changes).await?;
            return Ok(());
        }
    };
    if staged.is_err() {
        *early = None;
    }
    staged
}

/// Delivers a batch, part of which may have set out early: `set_out`.
async fn deliver_all(
    pusher: &Pusher,
    early: Option<EarlyBatch>,
    set_out: Vec<Change>,
    rest: Vec<Change>,
    suspects_content: bool,
) -> Result<(), Failed> {
    let _delivering = pusher.options.rank.enter();
    let Some(early) = early else {
        return deliver(pusher, [set_out, rest].concat(), suspects_content).await;
    };
    let finished = pusher.finish_early(early, &rest).await;
    let all = [set_out, rest].concat();
    match finished {
        early::Finished::Asked(sent) => pusher.sum_up(sent, all),
        early::Finished::GivenUp(failure) => {
            let folder = printable(&pusher.options.path);
            tracing::debug!(%folder, "a batch that set out early begins anew: {}", failure.reason);
            deliver(pusher, all, suspects_content).await
        }
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
        status.waiting_since = planner.waiting_since();
    });
}

/// What is waited for that only the loop knows of.
#[derive(Debug)]
struct Waits {
    is_staging: bool,
    held: Option<PushPhase>,
}

fn publish(pusher: &Pusher, planner: &Planner, removals: &Removals, tries: &Tries, waits: Waits) {
    publish_pending(pusher, planner, removals);
    pusher.status.send_modify(|status| {
        status.has_more = removals.has_more();
        status.is_holding = removals.is_holding();
        // No request is under way by now, however the last one ended.
        status.hitch = None;
        status.is_behind = false;
        if !waits.is_staging {
            status.batch = BatchProgress::default();
        }
        status.phase = match (waits.held, tries.row()) {
            (Some(held), _) => held,
            (None, None) if waits.is_staging => PushPhase::Staging,
            (None, None) => PushPhase::Idle,
            (None, Some(RetryRow { reason, next_ms, stopped: true, .. })) => {
                PushPhase::Stopped { reason: reason.clone(), next_ms: *next_ms }
            }
            (None, Some(RetryRow { reason, next_ms, attempts, .. })) => {
                PushPhase::Waiting { reason: reason.clone(), next_ms: *next_ms, attempts: *attempts }
            }
        };
    });
}
