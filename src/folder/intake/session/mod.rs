mod examined;
mod gather;
mod outward;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

use self::gather::Gathering;
use super::super::examine::{Examined, Examiner};
use super::super::root_check::{Broken, OpenedRoot, open_root, watcher_for};
use super::super::scan::{Finding, MOUNT};
use super::super::writers::Writers;
use super::super::{Coverage, Due, Filter, Inbox, Runs, SettleStage, TreeWatch};
use super::asked::Flush;
use super::blocked::Blocked;
use super::look::{Looked, look};
use super::scans::{RunningScan, ScanQueue};
use super::{Finished, IntakeOptions, IntakePhase, IntakeStatus, Out, Outlook, Sight, problems};
use crate::blocking::{blocking, joined};
use crate::content::{FileClock, Signature};
use crate::path::{LocalPath, printable};
use crate::state::{ProblemKind, ProblemRow, Reader, State, StateError};

/// Settling paths beyond which neither hints nor findings are taken in; they wait where they are.
const SETTLING_MAX: usize = 20_000;
/// Finished changes beyond which nothing more is read.
const READY_MAX: usize = 512;
/// Files read side by side at most. Where a folder hangs, each holds one of the 512 threads that all folders share.
const JOBS_MAX: usize = 8;
/// Paths examined in one go.
const EXAMINE_BATCH: usize = 16;
/// The pause between two takings of hints: a few times what the one before took, so that a flood of them leaves room for
/// everything else, and one file alone does not wait for long.
const HINTS_PAUSE_MIN: Duration = Duration::from_millis(5);
const HINTS_PAUSE_MAX: Duration = Duration::from_millis(50);
const HINTS_PAUSE_SHARE: u32 = 8;
/// Hints taken at once that are as good as a look at everything.
const HINTS_MANY: usize = 1_000;
/// The same where the kernel loses events again and again, and all watches begin anew each time.
const DOUBT_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked at whether the folder is still the one that was opened, and whether what could not be come to
/// can be by now.
pub const ROOT_CHECK: Duration = Duration::from_secs(5);
/// How often a folder without full coverage is scanned at least.
pub const UNCOVERED_RESCAN: Duration = Duration::from_secs(60);
/// Paths that a report names.
const EXAMPLES: usize = 20;

type Job = Result<(Vec<Due>, Vec<Examined>), StateError>;

/// The work in a folder from its opening until it cannot be used any more.
pub(super) struct Session<'a> {
    options: &'a IntakeOptions,
    out: &'a mut Out,
    /// Who waits until all that is in the folder was handed on.
    flushes: Vec<Flush>,
    status: &'a watch::Sender<IntakeStatus>,
    outlook: &'a watch::Sender<Outlook>,
    cancel: CancellationToken,
    /// Ends with the session, and with it what it has begun.
    children: CancellationToken,
    _end_children: DropGuard,
    examiner: Examiner,
    /// For hints; opened by the first.
    reader: Arc<Mutex<Option<Reader>>>,
    inbox: Arc<Inbox>,
    watch: Option<Arc<TreeWatch>>,
    coverage: Coverage,
    settle: SettleStage,
    jobs: JoinSet<Job>,
    jobs_max: usize,
    outbox: VecDeque<Finished>,
    scans: ScanQueue,
    scan: Option<RunningScan>,
    gathering: Gathering,
    skipped: (u64, Vec<(LocalPath, &'static str)>),
    blocked: Blocked,
    /// Whether the times of files say how long they have been quiet, and that is asked.
    is_dated_here: bool,
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        options: &'a IntakeOptions,
        state: &State,
        inbox: &Arc<Inbox>,
        writers: &Arc<Writers>,
        out: &'a mut Out,
        (status, outlook): (&'a watch::Sender<IntakeStatus>, &'a watch::Sender<Outlook>),
        cancel: &CancellationToken,
    ) -> Result<Self, Broken> {
        let opened = {
            let (options, state, inbox) = (options.clone(), state.clone(), Arc::clone(inbox));
            let cancel = cancel.clone();
            blocking(move || open_root(&options, &state, &inbox, &cancel)).await
        };
        let OpenedRoot { root, filter, watch, coverage, is_dated_here } = opened?;
        let examiner = Examiner {
            root: Arc::new(root),
            filter: Arc::new(filter),
            state: state.clone(),
            folder: options.folder,
            places: Arc::clone(&options.places),
            max_file_size: options.max_file_size,
            mirror: options.mirror,
            writers: Arc::clone(writers),
            runs: options.marker.clone().map(|marker| Arc::new(Runs::new(marker))),
        };
        // Some may have been written down before of which nobody was told.
        outlook.send_modify(|outlook| {
            *outlook = Outlook {
                removals: outlook.removals + 1,
                sight: Sight::Looking,
                gathering: options.marker.is_some(),
            }
        });
        let children = cancel.child_token();
        let settle = SettleStage::new(options.settle);
        let mut scans = ScanQueue::default();
        scans.add(LocalPath::root());
        Ok(Self {
            options,
            out,
            flushes: Vec::new(),
            status,
            outlook,
            cancel: cancel.clone(),
            _end_children: children.clone().drop_guard(),
            children,
            examiner,
            reader: Arc::default(),
            inbox: Arc::clone(inbox),
            watch: watch.map(Arc::new),
            coverage,
            settle: if options.marker.is_some() { settle.by_dirs() } else { settle },
            jobs: JoinSet::new(),
            jobs_max: std::thread::available_parallelism().map_or(2, usize::from).min(JOBS_MAX),
            outbox: VecDeque::new(),
            scans,
            scan: None,
            gathering: Gathering::default(),
            skipped: (0, Vec::new()),
            blocked: Blocked::default(),
            is_dated_here: is_dated_here && !options.lasting,
        })
    }

    /// Runs until cancelled (`Ok`) or until the folder cannot be used any more. `told` is the reason why it could not be
    /// used before, as it was logged.
    pub(super) async fn run(&mut self, told: &mut Option<String>) -> Result<(), Broken> {
        self.status.send_modify(|status| status.phase = IntakePhase::Covering);
        self.cover().await;
        self.status.send_modify(|status| status.covered = true);
        let changes = self.out.changes.clone();
        let mut last_scan = Instant::now();
        let mut hints_from = Instant::now();
        let mut root_check = tokio::time::interval_at(Instant::now() + ROOT_CHECK, ROOT_CHECK);
        root_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_work();
            self.hand_on_runs();
            self.note_coverage();
            self.answer_flushes();
            self.publish();
            if !self.options.lasting && self.is_idle() {
                return Ok(());
            }
            let accepting = self.settle.len() < SETTLING_MAX;
            let examine_at = self.may_examine().then(|| self.settle.next_due()).flatten();
            let rescan_at = last_scan + self.rescan_interval();
            let inbox = Arc::clone(&self.inbox);
            let hinted = async {
                tokio::time::sleep_until(hints_from).await;
                inbox.arrival().await;
            };
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(()),
                permit = changes.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(change) = self.outbox.pop_front() {
                            permit.send(change);
                            self.out.handed += 1;
                        }
                        self.hand_on();
                    }
                    Err(_) => return Ok(()),
                },
                Some(ask) = self.out.steering.asks.recv() => self.asked(ask),
                Ok(()) = self.out.steering.paused.changed() => {}
                Some(job) = self.jobs.join_next() => self.examined(joined(job)?),
                () = until(examine_at), if examine_at.is_some() => {}
                _ = root_check.tick() => {
                    self.check_root().await?;
                    self.blocked.look_again(&self.examiner.root, &self.inbox).await;
                }
                () = tokio::time::sleep_until(rescan_at), if self.options.lasting && self.scan.is_none() => {
                    last_scan = Instant::now();
                    self.doubt_everything(false).await?;
                }
                () = hinted, if accepting => {
                    let from = Instant::now();
                    let in_doubt = self.take_hints().await?;
                    // In a large folder that takes long, and may be the only thing that is ever done.
                    let pause = if in_doubt {
                        DOUBT_EVERY.max(from.elapsed())
                    } else {
                        (from.elapsed() * HINTS_PAUSE_SHARE).clamp(HINTS_PAUSE_MIN, HINTS_PAUSE_MAX)
                    };
                    hints_from = Instant::now() + pause;
                }
                finding = next_finding(&mut self.scan), if accepting && self.scan.is_some() => match finding {
                    Some(finding) => {
                        self.found(finding)?;
                        // Those that have come with it, so that not each costs a round.
                        while self.settle.len() < SETTLING_MAX
                            && let Some(finding) = self.scan.as_mut().and_then(RunningScan::try_next)
                        {
                            self.found(finding)?;
                        }
                    }
                    None => if self.scan_ended().await? {
                        last_scan = Instant::now();
                        if told.take().is_some() {
                            info!(folder = %printable(&self.options.path), "the folder can be used again");
                        }
                    },
                },
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.scan.is_none()
            && self.scans.is_empty()
            && self.settle.is_empty()
            && self.jobs.is_empty()
            && self.outbox.is_empty()
            && self.gathering.len() == 0
    }

    fn may_examine(&self) -> bool {
        self.jobs.len() < self.jobs_max
            && self.outbox.len() < READY_MAX
            && !*self.out.steering.paused.borrow()
    }

    fn rescan_interval(&self) -> Duration {
        match self.coverage {
            Coverage::Full => self.options.rescan_interval,
            _ => self.options.rescan_interval.min(UNCOVERED_RESCAN),
        }
    }

    fn start_work(&mut self) {
        while self.may_examine() {
            let due = self.settle.take_due(Instant::now(), EXAMINE_BATCH);
            if due.is_empty() {
                break;
            }
            let examiner = self.examiner.clone();
            self.jobs.spawn_blocking(move || {
                let examined = examiner.examine(&due)?;
                Ok((due, examined))
            });
        }
        if self.scan.is_none()
            && let Some(start) = self.scans.take()
        {
            if start.is_root() {
                self.skipped = (0, Vec::new());
                self.status.send_modify(|status| status.scans += 1);
                self.flushes.iter_mut().for_each(Flush::scan_begins);
            }
            self.gather_from(&start);
            let cancel = self.children.clone();
            self.scan = Some(RunningScan::start(start, &self.examiner, self.watch.as_ref(), cancel));
        }
    }

    fn found(&mut self, finding: Finding) -> Result<(), Broken> {
        let now = Instant::now();
        match finding {
            // What lies there already need not wait once more; the look that is due compares it with this one.
            Finding::Differs(path, signature)
                if self.gathering.was_quiet(&path, &signature) || self.has_rested(&signature) =>
            {
                self.settle.found_at_rest(&path, signature, now);
            }
            Finding::Differs(path, signature) => self.settle.found(&path, Some(signature), now),
            Finding::Gone(path) => self.settle.found(&path, None, now),
            Finding::Apart(path) => self.inbox.add_stray(path),
            Finding::Skipped(path, reason) => {
                self.skipped.0 += 1;
                if reason == MOUNT {
                    self.blocked.add(path.clone());
                }
                if self.skipped.1.len() < EXAMPLES {
                    self.skipped.1.push((path, reason));
                }
            }
            Finding::Unreadable(path, reason) => {
                self.blocked.add(path.clone());
                let row = ProblemRow {
                    path,
                    kind: ProblemKind::Unreadable,
                    reason,
                    since_ms: jiff::Timestamp::now().as_millisecond(),
                    signature: None,
                };
                if self.examiner.state.set_problem(self.options.folder, &row)? {
                    self.report_problem(&row);
                }
            }
        }
        Ok(())
    }

    /// Whether nothing has happened to a file for the quiet time, by a clock that can be trusted. The service waits all
    /// the same: it has the time.
    fn has_rested(&self, signature: &Signature) -> bool {
        self.is_dated_here
            && FileClock::read().rest(signature).is_some_and(|rest| rest >= self.options.settle.quiet)
    }

    /// Says whether the scan that ended had looked at everything.
    async fn scan_ended(&mut self) -> Result<bool, Broken> {
        let Some(scan) = self.scan.take() else { return Ok(false) };
        let (whole, start) = (scan.whole, scan.start.clone());
        let summary = scan.summary().await?;
        self.gathered_from(&start);
        debug!(
            folder = %printable(&self.options.path),
            files = summary.files, dirs = summary.dirs, complete = summary.complete, "scan ended"
        );
        if whole {
            self.status.send_modify(|status| status.last_scan = Some(summary));
        }
        let (examiner, inbox) = (self.examiner.clone(), Arc::clone(&self.inbox));
        blocking(move || problems::forget_old(&start, &examiner, &inbox)).await?;
        if whole {
            let now = Instant::now();
            self.flushes.iter_mut().for_each(|flush| flush.scan_ended(now));
        }
        Ok(whole)
    }

    /// Says whether everything is in doubt.
    async fn take_hints(&mut self) -> Result<bool, Broken> {
        let hints = self.inbox.take();
        // Looking at many of them takes a while.
        self.publish_sight(if hints.len() > HINTS_MANY { Sight::Looking } else { Sight::Coming });
        let (examiner, watch, reader) = (self.examiner.clone(), self.watch.clone(), Arc::clone(&self.reader));
        let looked = blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let reader = match &mut *reader {
                Some(reader) => reader,
                unopened => unopened.insert(examiner.state.reader()?),
            };
            look(hints, &examiner, reader, watch.as_ref())
        });
        let looked = looked.await;
        let now = Instant::now();
        for looked in looked? {
            match looked {
                Looked::Path(path, seen) => self.settle.touch(&path, seen, now),
                Looked::Tree(path) => self.scans.add(path),
                Looked::Everything => {
                    self.doubt_everything(true).await?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Watches all directories there are.
    async fn cover(&mut self) {
        let Some(watch) = self.watch.clone() else { return };
        let (filter, root) = (Arc::clone(&self.examiner.filter), Arc::clone(&self.examiner.root));
        blocking(move || watch.cover(&LocalPath::root(), &root, &filter)).await;
        self.note_coverage();
    }

    /// Asks once more for a watcher that could not be had when the folder was opened.
    async fn ask_for_watcher(&mut self) {
        let (root, inbox) = (Arc::clone(&self.examiner.root), Arc::clone(&self.inbox));
        let (watch, coverage) = blocking(move || watcher_for(&root, &inbox)).await;
        self.watch = watch.map(Arc::new);
        if self.watch.is_none() {
            self.coverage = coverage;
        }
        self.cover().await;
    }

    async fn check_root(&self) -> Result<(), Broken> {
        let root = Arc::clone(&self.examiner.root);
        if blocking(move || root.is_current()).await.unwrap_or(false) {
            return Ok(());
        }
        Err(Broken::Replaced(self.options.path.clone()))
    }

    /// Looks at everything anew; also at the watches where events may have been lost.
    async fn doubt_everything(&mut self, events_lost: bool) -> Result<(), Broken> {
        self.publish_sight(Sight::Looking);
        self.check_root().await?;
        let (root, options) = (Arc::clone(&self.examiner.root), self.options.clone());
        let filter = blocking(move || Filter::of_folder(&options.exclude, &options.include, &root)).await?;
        self.examiner.filter = Arc::new(filter);
        match self.watch.clone() {
            Some(watch) if events_lost || watch.is_in_doubt() => {
                blocking(move || watch.reset()).await;
                self.cover().await;
            }
            None if self.options.lasting => self.ask_for_watcher().await,
            _ => {}
        }
        self.scans.add(LocalPath::root());
        Ok(())
    }
}

async fn next_finding(scan: &mut Option<RunningScan>) -> Option<Finding> {
    scan.as_mut()?.next().await
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
