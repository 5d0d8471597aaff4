//! The shell around a folder's stages: owns its watches, its scan, its clock, and hands finished changes on.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::examine::{Examined, Examiner};
use super::scan::{Finding, Scan, ScanError, ScanSummary};
use super::writers::Writers;
use super::{Coverage, Due, Filter, FilterError, Hint, Inbox, SettleLimits, SettleStage, TreeWatch};
use crate::content::{EntryKind, OpenError, RootDir};
use crate::path::{LocalPath, RepoPath};
use crate::state::{Change, FolderKey, ProblemKind, ProblemRow, State, StateError};

/// What an intake is to do.
#[derive(Debug, Clone)]
pub struct IntakeOptions {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Its number in the state.
    pub folder: FolderKey,
    /// Where it stands on the branch.
    pub remote_dir: RepoPath,
    /// Patterns of what is left out, in order.
    pub exclude: Vec<String>,
    /// Patterns of what alone counts; none for everything.
    pub include: Vec<String>,
    /// How long a file must hold still.
    pub settle: SettleLimits,
    /// Larger files are refused, in bytes.
    pub max_file_size: Option<u64>,
    /// Whether a file that is gone here is to go from the branch.
    pub mirror: bool,
    /// How often everything is looked at without an event.
    pub rescan_interval: Duration,
    /// Whether to go on watching, or to end after one look at everything.
    pub lasting: bool,
}

/// What the intake is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IntakePhase {
    /// It has not come to the folder yet.
    #[default]
    Starting,
    /// It sets up its watches.
    Covering,
    /// It looks at everything.
    Scanning,
    /// It waits for events.
    Watching,
    /// The folder cannot be used: why, and what to do. Tried again by itself.
    Broken(String),
}

/// The intake as it is at a moment.
#[derive(Debug, Clone, Default)]
pub struct IntakeStatus {
    /// What it is doing.
    pub phase: IntakePhase,
    /// Whether all watches that can be had were set up once.
    pub covered: bool,
    /// How much of the folder they cover.
    pub coverage: Coverage,
    /// Directories watched.
    pub watched_dirs: usize,
    /// Paths that wait to be quiet or are being read.
    pub settling: usize,
    /// Of these, found moving or written to at the last look.
    pub busy: usize,
    /// Some of these.
    pub busy_paths: Vec<LocalPath>,
    /// Finished changes that wait to be taken over.
    pub ready: usize,
    /// Hints not yet looked at.
    pub hints: usize,
    /// What the last whole scan saw.
    pub last_scan: Option<ScanSummary>,
    /// Things that are never stored (links, devices, mounts), as the last whole scan counted them.
    pub skipped: u64,
    /// Some of these with the reason.
    pub skipped_paths: Vec<(LocalPath, &'static str)>,
}

/// Settling paths beyond which neither hints nor findings are taken in; they wait where they are.
const SETTLING_MAX: usize = 20_000;
/// Scans queued beyond which they become one of everything.
const SCANS_MAX: usize = 1_000;
/// Finished changes beyond which nothing more is read.
const READY_MAX: usize = 512;
/// Paths examined in one go.
const EXAMINE_BATCH: usize = 64;
/// How often a folder that cannot be used is tried again, and whether a used one is still the same is looked at.
const BROKEN_RETRY: Duration = Duration::from_secs(2);
const ROOT_CHECK: Duration = Duration::from_secs(30);
/// How often a folder without full coverage is scanned at least.
const UNCOVERED_RESCAN: Duration = Duration::from_secs(60);
const EXAMPLES: usize = 20;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the folder {} cannot be opened: {reason}", path.display())]
    Root { path: PathBuf, reason: String },
    #[error("the folder {} is gone or has been replaced", .0.display())]
    Replaced(PathBuf),
    #[error(
        "the folder {} is empty and not the directory it was; is a disk not mounted? nothing is done until it is back",
        .0.display()
    )]
    Unmounted(PathBuf),
    #[error("its .oxenignore cannot be used: {0}")]
    Ignore(#[from] FilterError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<ScanError> for Broken {
    fn from(ScanError::State(error): ScanError) -> Self {
        Self::State(error)
    }
}

/// Runs the intake of one folder until `cancel`, or, when it is not lasting, until everything was looked at once.
/// Finished changes go to `out`; when that is full, nothing more is read, and nothing is lost. Hints in `inbox` come
/// from the kernel and from whoever else has reason to doubt a path.
pub async fn run(
    options: IntakeOptions,
    state: State,
    inbox: Arc<Inbox>,
    out: mpsc::Sender<Change>,
    status: watch::Sender<IntakeStatus>,
    cancel: CancellationToken,
) {
    let writers = Arc::new(Writers::default());
    loop {
        let opened = Session::open(&options, &state, &inbox, &writers, &out, &status, &cancel).await;
        let ended = match opened {
            Ok(mut session) => session.run().await,
            Err(broken) => Err(broken),
        };
        let Err(broken) = ended else { return };
        let reason = broken.to_string();
        let is_new = status.send_if_modified(|status| {
            let phase = IntakePhase::Broken(reason.clone());
            let is_new = status.phase != phase;
            *status = IntakeStatus { phase, covered: status.covered, ..IntakeStatus::default() };
            is_new
        });
        if is_new {
            warn!(folder = %options.path.display(), "folder cannot be used: {reason}");
        }
        if !options.lasting {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(BROKEN_RETRY) => {}
        }
    }
}

type Job = Result<(Vec<Due>, Vec<Examined>), StateError>;

struct Session<'a> {
    options: &'a IntakeOptions,
    out: &'a mpsc::Sender<Change>,
    status: &'a watch::Sender<IntakeStatus>,
    cancel: CancellationToken,
    examiner: Examiner,
    inbox: Arc<Inbox>,
    watch: Option<Arc<TreeWatch>>,
    coverage: Coverage,
    settle: SettleStage,
    jobs: JoinSet<Job>,
    jobs_max: usize,
    outbox: VecDeque<Change>,
    scans: VecDeque<LocalPath>,
    scan: Option<RunningScan>,
    skipped: (u64, Vec<(LocalPath, &'static str)>),
}

struct RunningScan {
    whole: bool,
    findings: mpsc::Receiver<Finding>,
    task: JoinHandle<Result<ScanSummary, ScanError>>,
}

impl<'a> Session<'a> {
    async fn open(
        options: &'a IntakeOptions,
        state: &State,
        inbox: &Arc<Inbox>,
        writers: &Arc<Writers>,
        out: &'a mpsc::Sender<Change>,
        status: &'a watch::Sender<IntakeStatus>,
        cancel: &CancellationToken,
    ) -> Result<Self, Broken> {
        let opened = {
            let (options, state, inbox) = (options.clone(), state.clone(), Arc::clone(inbox));
            blocking(move || open_root(&options, &state, &inbox)).await
        };
        let (root, filter, watch, coverage) = opened?;
        let examiner = Examiner {
            root: Arc::new(root),
            filter: Arc::new(filter),
            state: state.clone(),
            folder: options.folder,
            remote_dir: options.remote_dir.clone(),
            max_file_size: options.max_file_size,
            mirror: options.mirror,
            writers: Arc::clone(writers),
        };
        Ok(Self {
            options,
            out,
            status,
            cancel: cancel.clone(),
            examiner,
            inbox: Arc::clone(inbox),
            watch: watch.map(Arc::new),
            coverage,
            settle: SettleStage::new(options.settle),
            jobs: JoinSet::new(),
            jobs_max: std::thread::available_parallelism().map_or(2, usize::from),
            outbox: VecDeque::new(),
            scans: VecDeque::from([LocalPath::root()]),
            scan: None,
            skipped: (0, Vec::new()),
        })
    }

    /// Runs until cancelled (`Ok`) or until the folder cannot be used any more.
    async fn run(&mut self) -> Result<(), Broken> {
        self.status.send_modify(|status| status.phase = IntakePhase::Covering);
        self.cover(LocalPath::root()).await;
        self.status.send_modify(|status| status.covered = true);
        let mut last_scan = Instant::now();
        let mut root_check = tokio::time::interval_at(Instant::now() + ROOT_CHECK, ROOT_CHECK);
        root_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_work();
            self.publish();
            if !self.options.lasting && self.is_idle() {
                return Ok(());
            }
            let accepting = self.settle.len() < SETTLING_MAX;
            let examine_at = self.may_examine().then(|| self.settle.next_due()).flatten();
            let rescan_at = last_scan + self.rescan_interval();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(()),
                permit = self.out.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => if let Some(change) = self.outbox.pop_front() { permit.send(change) },
                    Err(_) => return Ok(()),
                },
                Some(job) = self.jobs.join_next() => self.examined(joined(job)?),
                () = self.inbox.arrival(), if accepting => self.take_hints().await?,
                finding = next_finding(&mut self.scan), if accepting && self.scan.is_some() => match finding {
                    Some(finding) => self.found(finding)?,
                    None => if self.scan_ended().await? { last_scan = Instant::now() },
                },
                () = until(examine_at), if examine_at.is_some() => {}
                () = tokio::time::sleep_until(rescan_at), if self.options.lasting && self.scan.is_none() => {
                    last_scan = Instant::now();
                    self.check_root().await?;
                    self.cover(LocalPath::root()).await;
                    self.queue_scan(LocalPath::root());
                }
                _ = root_check.tick() => self.check_root().await?,
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.scan.is_none()
            && self.scans.is_empty()
            && self.settle.is_empty()
            && self.jobs.is_empty()
            && self.outbox.is_empty()
    }

    fn may_examine(&self) -> bool {
        self.jobs.len() < self.jobs_max && self.outbox.len() < READY_MAX
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
            && let Some(start) = self.scans.pop_front()
        {
            self.scan = Some(self.start_scan(start));
        }
    }

    fn start_scan(&mut self, start: LocalPath) -> RunningScan {
        let whole = start.is_root();
        if whole {
            self.skipped = (0, Vec::new());
        }
        let (sender, findings) = mpsc::channel(256);
        let examiner = self.examiner.clone();
        let watch = self.watch.clone();
        let cancel = self.cancel.clone();
        let task = tokio::task::spawn_blocking(move || {
            let reader = examiner.state.reader()?;
            let scan = Scan {
                root: &examiner.root,
                filter: &examiner.filter,
                reader: &reader,
                folder: examiner.folder,
                watch: watch.as_deref(),
                cancel: &cancel,
            };
            // Waits for room; ends when nobody listens any more.
            let mut report = |finding| match sender.blocking_send(finding) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            scan.run(&start, &mut report)
        });
        RunningScan { whole, findings, task }
    }

    fn queue_scan(&mut self, start: LocalPath) {
        if self.scans.iter().any(|queued| start.starts_with(queued)) {
            return;
        }
        self.scans.retain(|queued| !queued.starts_with(&start));
        self.scans.push_back(start);
        if self.scans.len() > SCANS_MAX {
            self.scans = VecDeque::from([LocalPath::root()]);
        }
    }

    fn found(&mut self, finding: Finding) -> Result<(), Broken> {
        let now = Instant::now();
        match finding {
            Finding::Differs(path, signature) => self.settle.found(&path, Some(signature), now),
            Finding::Gone(path) => self.settle.found(&path, None, now),
            Finding::Skipped(path, reason) => {
                self.skipped.0 += 1;
                if self.skipped.1.len() < EXAMPLES {
                    self.skipped.1.push((path, reason));
                }
            }
            Finding::Unreadable(path, reason) => {
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

    /// Says whether the scan that ended had looked at everything.
    async fn scan_ended(&mut self) -> Result<bool, Broken> {
        let Some(scan) = self.scan.take() else { return Ok(false) };
        let summary = joined(scan.task.await)?;
        debug!(
            folder = %self.options.path.display(),
            files = summary.files, dirs = summary.dirs, complete = summary.complete, "scan ended"
        );
        if scan.whole {
            self.status.send_modify(|status| status.last_scan = Some(summary));
            if summary.complete {
                self.forget_old_problems().await?;
            }
        }
        Ok(scan.whole)
    }

    /// Problems of paths that are gone, and of directories that can be listed again, are over.
    async fn forget_old_problems(&self) -> Result<(), Broken> {
        let examiner = self.examiner.clone();
        blocking(move || {
            for problem in examiner.state.problems(examiner.folder)? {
                let over = match examiner.root.look(&problem.path) {
                    Err(OpenError::Gone) => true,
                    Ok(EntryKind::Dir { .. }) => examiner.root.read_dir(&problem.path).is_ok(),
                    Ok(EntryKind::File(_)) => examiner.filter.excludes_file(&problem.path),
                    _ => false,
                };
                if over {
                    examiner.state.clear_problem(examiner.folder, &problem.path)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn take_hints(&mut self) -> Result<(), Broken> {
        let hints = self.inbox.take();
        let examiner = self.examiner.clone();
        let watch = self.watch.clone();
        let looked: Result<Vec<Looked>, StateError> = blocking(move || {
            let reader = examiner.state.reader()?;
            let mut looked = Vec::new();
            for hint in hints {
                let path = match hint {
                    Hint::Tree(path) => {
                        looked.push(Looked::Tree(path));
                        continue;
                    }
                    Hint::Path(path) => path,
                };
                if path.as_bytes() == IGNORE_FILE.as_bytes() {
                    looked.push(Looked::IgnoreFile);
                }
                if examiner.filter.excludes_file(&path) && examiner.filter.excludes_dir(&path) {
                    continue;
                }
                let is_dir = matches!(examiner.root.look(&path), Ok(EntryKind::Dir { .. }));
                if is_dir {
                    if examiner.filter.excludes_dir(&path) {
                        continue;
                    }
                    if let Some(watch) = &watch {
                        watch.cover(&path, examiner.root.id().device, &examiner.filter);
                    }
                    // What was known under this name as a file is gone.
                    if examiner.state.file(examiner.folder, &path)?.is_some() {
                        looked.push(Looked::Path(path.clone()));
                    }
                    looked.push(Looked::Tree(path));
                    continue;
                }
                // Whatever stands here now, it is no directory: what was known below is gone.
                if !reader.dirs_below(examiner.folder, &path)?.is_empty() {
                    looked.push(Looked::Tree(path.clone()));
                }
                if let Some(watch) = &watch {
                    watch.uncover(&path);
                }
                looked.push(Looked::Path(path));
            }
            Ok(looked)
        })
        .await;
        let now = Instant::now();
        for looked in looked? {
            match looked {
                Looked::Path(path) => self.settle.touch(&path, now),
                Looked::Tree(path) => {
                    if path.is_root() {
                        self.check_root().await?;
                        self.cover(LocalPath::root()).await;
                    }
                    self.queue_scan(path);
                }
                Looked::IgnoreFile => self.reload_filter().await?,
            }
        }
        Ok(())
    }

    fn examined(&mut self, job: (Vec<Due>, Vec<Examined>)) {
        let now = Instant::now();
        for (due, examined) in job.0.into_iter().zip(job.1) {
            let path = due.path;
            match examined {
                Examined::Moving(signature) if self.options.lasting || !due.overdue => {
                    self.settle.moving(&path, signature, now);
                }
                Examined::Moving(signature) => {
                    self.settle.settled(&path, now);
                    let row = ProblemRow {
                        path,
                        kind: ProblemKind::Busy,
                        reason: "it did not hold still for as long as was waited (settle.max_wait); run again when \
                                 its writer is done"
                            .to_owned(),
                        since_ms: jiff::Timestamp::now().as_millisecond(),
                        signature,
                    };
                    // A problem that cannot be written down is told all the same.
                    let _ = self.examiner.state.set_problem(self.options.folder, &row);
                    self.report_problem(&row);
                }
                Examined::Nothing => {
                    self.settle.settled(&path, now);
                }
                Examined::Directory => {
                    self.settle.settled(&path, now);
                    self.queue_scan(path);
                }
                Examined::Problem(row, is_new) => {
                    self.settle.settled(&path, now);
                    if is_new {
                        self.report_problem(&row);
                    }
                }
                Examined::Finished(change) => {
                    if self.settle.settled(&path, now) {
                        self.outbox.push_back(change);
                    }
                }
            }
        }
    }

    fn report_problem(&self, row: &ProblemRow) {
        warn!(
            folder = %self.options.path.display(), path = %row.path, kind = %row.kind,
            "not pushed: {}", row.reason
        );
    }

    async fn cover(&mut self, start: LocalPath) {
        let Some(watch) = self.watch.clone() else { return };
        let (filter, device) = (Arc::clone(&self.examiner.filter), self.examiner.root.id().device);
        let before = self.coverage.clone();
        self.coverage = blocking(move || {
            watch.cover(&start, device, &filter);
            watch.coverage()
        })
        .await;
        if self.coverage != before {
            match &self.coverage {
                Coverage::LimitReached { watched } => warn!(
                    folder = %self.options.path.display(), watched,
                    "the kernel's limit of watches is reached; what is not watched is scanned every {} s; raise it \
                     with: sysctl fs.inotify.max_user_watches=1048576", UNCOVERED_RESCAN.as_secs()
                ),
                _ => info!(folder = %self.options.path.display(), "all directories are watched"),
            }
        }
    }

    async fn check_root(&self) -> Result<(), Broken> {
        let root = Arc::clone(&self.examiner.root);
        if blocking(move || root.is_current()).await.unwrap_or(false) {
            return Ok(());
        }
        Err(Broken::Replaced(self.options.path.clone()))
    }

    async fn reload_filter(&mut self) -> Result<(), Broken> {
        let (root, options) = (Arc::clone(&self.examiner.root), self.options.clone());
        let filter = blocking(move || read_filter(&options, &root)).await?;
        info!(folder = %self.options.path.display(), ".oxenignore has changed and is in use");
        self.examiner.filter = Arc::new(filter);
        self.cover(LocalPath::root()).await;
        self.queue_scan(LocalPath::root());
        Ok(())
    }

    fn publish(&self) {
        let phase = match &self.scan {
            Some(scan) if scan.whole => IntakePhase::Scanning,
            _ if self.scans.iter().any(LocalPath::is_root) => IntakePhase::Scanning,
            _ => IntakePhase::Watching,
        };
        self.status.send_modify(|status| {
            status.phase = phase;
            status.coverage = self.coverage.clone();
            status.watched_dirs = self.watch.as_ref().map_or(0, |watch| watch.watched());
            status.settling = self.settle.len();
            if status.busy != self.settle.busy() {
                status.busy_paths = self.settle.busy_paths(EXAMPLES);
            }
            status.busy = self.settle.busy();
            status.ready = self.outbox.len();
            status.hints = self.inbox.len();
            if !matches!(status.phase, IntakePhase::Scanning) {
                status.skipped = self.skipped.0;
                if status.skipped_paths.len() != self.skipped.1.len() {
                    status.skipped_paths.clone_from(&self.skipped.1);
                }
            }
        });
    }
}

enum Looked {
    Path(LocalPath),
    Tree(LocalPath),
    IgnoreFile,
}

/// The file in a folder that may leave more of it out.
const IGNORE_FILE: &str = ".oxenignore";
const IGNORE_FILE_MAX: u64 = 1024 * 1024;

type OpenedRoot = (RootDir, Filter, Option<TreeWatch>, Coverage);

fn open_root(options: &IntakeOptions, state: &State, inbox: &Arc<Inbox>) -> Result<OpenedRoot, Broken> {
    let root = RootDir::open(&options.path).map_err(|error| Broken::Root {
        path: options.path.clone(),
        reason: OpenError::from(error).to_string(),
    })?;
    // Only the inode: a device may get another number at every boot.
    let known = state.root_id(options.folder)?;
    let is_other = known.is_some_and(|known| known.inode != root.id().inode);
    if is_other && root.read_dir(&LocalPath::root()).is_ok_and(|entries| entries.is_empty()) {
        return Err(Broken::Unmounted(options.path.clone()));
    }
    let filter = read_filter(options, &root)?;
    state.set_root_id(options.folder, root.id())?;
    let unwatched = |reason: String| (None, Coverage::None { reason });
    let (watch, coverage) = if !options.lasting {
        (None, Coverage::Full)
    } else if let Some(name) = remote_filesystem(root.filesystem_magic().unwrap_or(0)) {
        unwatched(format!("{name} tells of no changes made elsewhere; it is scanned on a timer"))
    } else {
        match TreeWatch::new(&options.path, Arc::clone(inbox)) {
            Ok(watch) => (Some(watch), Coverage::Full),
            Err(error) => unwatched(format!(
                "the kernel gives no watcher ({error}); it is scanned on a timer; raise \
                 fs.inotify.max_user_instances"
            )),
        }
    };
    if let Coverage::None { reason } = &coverage {
        warn!(folder = %options.path.display(), "the folder is not watched: {reason}");
    }
    Ok((root, filter, watch, coverage))
}

fn read_filter(options: &IntakeOptions, root: &RootDir) -> Result<Filter, Broken> {
    let mut ignore = String::new();
    if let Some(path) = LocalPath::new(IGNORE_FILE.as_ref())
        && let Ok(opened) = root.open_file(&path)
    {
        let unreadable = |error: std::io::Error| {
            Broken::Ignore(FilterError { pattern: String::new(), reason: error.to_string() })
        };
        opened.file.take(IGNORE_FILE_MAX).read_to_string(&mut ignore).map_err(unreadable)?;
    }
    let filter = Filter::new(
        options.exclude.iter().map(String::as_str),
        options.include.iter().map(String::as_str),
        &ignore,
    )?;
    Ok(filter)
}

/// Filesystems whose changes may be made by other machines or processes without an event here (`statfs(2)`).
fn remote_filesystem(magic: i64) -> Option<&'static str> {
    Some(match magic & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x5346_414f => "AFS",
        0x0bd0_0bd0 => "Lustre",
        _ => return None,
    })
}

async fn next_finding(scan: &mut Option<RunningScan>) -> Option<Finding> {
    scan.as_mut()?.findings.recv().await
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// Runs `work` where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The value of a task that nobody aborts; its panic goes on here.
fn joined<T>(task: Result<T, tokio::task::JoinError>) -> T {
    match task {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => panic!("the runtime is shutting down"),
        },
    }
}
