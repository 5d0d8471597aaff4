use std::path::Path;

use serde::{Deserialize, Serialize};

use super::links;
use super::timers::{self, TimerReport};

use crate::config::{Folder, OnDelete, release_command};
use crate::folder::Coverage;
use crate::folder::intake::{IntakePhase, IntakeStatus};
use crate::path::Place;
use crate::push::{PushPhase, PushStatus};
use crate::state::{Crowded, Reader, StateError};

/// The whole report; `oxen-sync status --json` prints it. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the oxen-sync that made the report.
    pub version: String,
    /// Whether a service is running.
    pub running: bool,
    /// The service's process.
    pub pid: Option<u32>,
    /// When the service started, RFC 3339.
    pub started_at: Option<String>,
    /// The config file in use.
    pub config: String,
    /// Where the state lies that the report was made from, where no service made it.
    #[serde(default)]
    pub state_dir: Option<String>,
    /// Whether there is any state.
    #[serde(default)]
    pub has_state: bool,
    /// The config that was last refused, while it stands.
    pub config_refused: Option<ConfigRefused>,
    /// The page in a browser, where the config asks for one.
    #[serde(default)]
    pub page: Option<PageReport>,
    /// What wakes the service at rest, besides the timers of its folders.
    #[serde(default)]
    pub timers: Vec<TimerReport>,
    /// The folders, in the order of the config.
    pub folders: Vec<FolderReport>,
}

/// A config that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRefused {
    /// When, RFC 3339.
    pub at: String,
    /// Every problem of it, with file, line, column and caret.
    pub problems: String,
}

/// The page in a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageReport {
    /// Its address.
    pub url: String,
    /// Why it is not there, where that is so. It is tried again by itself.
    pub trouble: Option<String>,
}

/// What a folder is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderState {
    /// No service is running.
    #[default]
    NotRunning,
    /// The service is coming to it.
    Starting,
    /// It is being looked through.
    Scanning,
    /// Changes are awaited, and pushed when they come.
    Watching,
    /// Content is on its way to the server.
    Pushing,
    /// A try failed; the next comes by itself.
    Waiting,
    /// The server lets nobody in, or what is needed is missing there.
    Stopped,
    /// The folder itself cannot be used.
    Broken,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FolderReport {
    /// The folder, printable.
    pub path: String,
    /// The server's address.
    pub server: String,
    /// Namespace and name.
    pub repo: String,
    /// The branch.
    pub branch: String,
    /// Where the folder stands on the branch; empty for its root.
    pub remote_dir: String,
    /// Where new files stand, with `{dir}`, `{date}` and the like, if the config says more than a directory.
    #[serde(default)]
    pub layout: Option<String>,
    /// What it is in.
    pub state: FolderState,
    /// Why, and what to do, where it is not as it should be.
    pub why: Option<String>,
    /// Why not all of it is watched by the kernel, where that is so.
    pub coverage: Option<String>,
    /// The share of its directories that the kernel watches, 0 to 1; only while a service runs.
    #[serde(default)]
    pub coverage_ratio: Option<f64>,
    /// Directories watched.
    pub watched_dirs: usize,
    /// Files proved to be on the branch and still in the folder.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Files that wait: to be quiet, to be read, or for their batch.
    pub waiting: u64,
    /// How long ago the oldest change that is not committed yet was first seen, in seconds by a clock that nobody sets.
    /// Removals that the brake holds do not count.
    #[serde(default)]
    pub oldest_waiting_s: Option<u64>,
    /// Whether there is more to look at than `waiting` counts.
    pub waiting_more: bool,
    /// Of those that wait, files that are being written to or move.
    pub busy: usize,
    /// Some of these.
    pub busy_paths: Vec<String>,
    /// Files that are not on the branch because something is wrong with them.
    pub failed: i64,
    /// The first of these.
    pub problems: Vec<ProblemReport>,
    /// How often everything was looked at since the service took the folder up: once at the start, then with each
    /// `rescan_interval` and whenever events were lost.
    #[serde(default)]
    pub scans: u64,
    /// Files and directories that patterns leave out, as the last whole scan counted them.
    pub excluded: u64,
    /// Links, devices and mounts that were passed over.
    pub skipped: u64,
    /// Some of these, each with its reason.
    pub skipped_paths: Vec<ProblemReport>,
    /// Removals that the brake of `on_delete = "mirror"` holds: the branch keeps these files until someone lets them go.
    #[serde(default)]
    pub held: u64,
    /// Since when, RFC 3339.
    #[serde(default)]
    pub held_since: Option<String>,
    /// Whether that was decided before all of the folder was seen; once it was, it is decided anew.
    #[serde(default)]
    pub held_for_now: bool,
    /// The command that lets them go.
    #[serde(default)]
    pub release_command: Option<String>,
    /// The directory of the branch with the most files, where these are so many that each new one is slow, and what to do.
    #[serde(default)]
    pub crowded: Option<CrowdedReport>,
    /// The batch on its way.
    pub batch: Option<BatchReport>,
    /// The last commit.
    pub last_commit: Option<CommitReport>,
    /// The last commits, the newest first.
    #[serde(default)]
    pub recent_commits: Vec<CommitReport>,
    /// Where the server shows the repository.
    #[serde(default)]
    pub repo_url: Option<String>,
    /// What was done since the service took the folder up.
    #[serde(default)]
    pub done: Option<DoneReport>,
    /// What the next try waits for.
    pub retry: Option<RetryReport>,
    /// What is done again and again while the service runs, also when nothing happens.
    #[serde(default)]
    pub timers: Vec<TimerReport>,
}

/// What was done for a folder since the service took it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoneReport {
    /// Commits proved.
    pub commits: u64,
    /// Files put by them.
    pub files: u64,
    /// Files removed by them.
    pub removed: u64,
    /// Bytes of the files put.
    pub bytes: u64,
    /// Tries to push that failed.
    pub failed_tries: u64,
}

/// A path that is not on the branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemReport {
    /// Relative to the folder, printable.
    pub path: String,
    /// `refused`, `unreadable`, `quarantined`, `busy` or `skipped`.
    pub kind: String,
    /// What is wrong and what to do.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: Option<String>,
}

/// A directory of the branch with very many files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdedReport {
    /// Its path on the branch, printable; empty for the root.
    pub dir: String,
    /// Files in it.
    pub files: u64,
    /// What to do.
    pub help: String,
}

/// A batch on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport {
    /// `connecting`, `recovering`, `listing`, `staging`, `committing` or `proving`.
    pub step: String,
    /// Changes in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Changes sent.
    pub files_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

/// A commit that was made and proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitReport {
    /// Oxen's id.
    pub id: String,
    /// Where the server shows it.
    #[serde(default)]
    pub url: Option<String>,
    /// When it was proved, RFC 3339.
    pub at: String,
    /// Files put.
    pub files: i64,
    /// Files removed.
    pub removed: i64,
    /// Bytes of the files put.
    pub bytes: i64,
}

/// What the next try waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryReport {
    /// Tries that failed in a row.
    pub attempts: u32,
    /// When the next is due, RFC 3339.
    pub next_at: String,
    /// Why the last one failed and what to do.
    pub reason: String,
}

/// What a running service knows of a folder beyond the state.
#[derive(Debug, Clone, Default)]
pub struct LiveFolder {
    /// Watching, settling, scanning.
    pub intake: IntakeStatus,
    /// Planning and pushing.
    pub push: PushStatus,
}

impl LiveFolder {
    /// Files that wait: to be quiet, to be read, or for their batch.
    pub fn waiting(&self) -> u64 {
        let Self { intake, push } = self;
        let under_way = step(&push.phase).map_or(0, |_| push.batch.files);
        intake.settling as u64 + intake.ready as u64 + push.pending + under_way
    }
}

const PROBLEMS_MAX: i64 = 100;
const COMMITS_MAX: u32 = 10;

/// Reports on one folder of the config in the file `config`: from the state, and from the running service where `live` is
/// given.
///
/// # Errors
/// The state cannot be read.
pub fn report(
    config: &Path,
    folder: &Folder,
    live: Option<&LiveFolder>,
    reader: Option<&Reader>,
) -> Result<FolderReport, StateError> {
    let id = folder.id();
    let mut report = FolderReport {
        path: crate::path::printable(&id.path),
        server: folder.server.url.to_string(),
        repo: id.repo.to_string(),
        branch: id.branch.to_string(),
        remote_dir: crate::path::printable(id.remote_dir.as_str()),
        layout: folder.layout.is_written_out().then(|| folder.layout.to_string()),
        repo_url: links::repo(&folder.server.url, &folder.repo),
        ..FolderReport::default()
    };
    if let Some(reader) = reader
        && let Some(key) = reader.folder(&id.key())?
    {
        let summary = reader.summary(key)?;
        let problems = reader.problems(key, PROBLEMS_MAX)?.into_iter().map(|row| ProblemReport {
            path: row.path.to_string(),
            kind: row.kind.to_string(),
            reason: row.reason,
            since: Some(time(row.since_ms)),
        });
        report.problems = problems.collect();
        report.files = summary.files;
        report.bytes = summary.bytes;
        report.failed = summary.problems;
        if let Some(held) = summary.held.filter(|_| folder.on_delete == OnDelete::Mirror) {
            report.held = held.files;
            report.held_since = Some(time(held.since_ms));
            report.held_for_now = held.before.is_some();
            report.release_command = Some(release_command(config, &folder.path));
        }
        let commits = reader.commits(key, COMMITS_MAX)?.into_iter().map(|row| CommitReport {
            url: links::commit(&folder.server.url, &folder.repo, &row.commit_id),
            id: row.commit_id,
            at: time(row.at_ms),
            files: row.files,
            removed: row.removed,
            bytes: row.bytes,
        });
        report.recent_commits = commits.collect();
        report.last_commit = report.recent_commits.first().cloned();
        report.crowded = summary.crowded.map(|crowded| crowded_report(folder, crowded));
        report.retry = summary.retry.map(|row| RetryReport {
            attempts: row.attempts,
            next_at: time(row.next_ms),
            reason: row.reason,
        });
    }
    if let Some(live) = live {
        add_live(&mut report, live);
        report.timers = timers::of_folder(folder, &live.intake.coverage);
    }
    Ok(report)
}

/// What to do about a directory with so many files that they slow the server down.
pub const CROWDED_HELP: &str = "let new files go into a new directory from time to time, or let oxen-sync put them into \
                                one: remote_path = \"{dir}/{date}/{name}\"";

fn crowded_report(folder: &Folder, crowded: Crowded) -> CrowdedReport {
    let place = crowded.place.unwrap_or_else(|| Place::in_dir(folder.remote_dir.clone()));
    // A file of any name says where the others are.
    let path = place.path_of(&crowded.dir.join("x".as_ref()));
    let help = if folder.layout.has_time() {
        "let a smaller part of the time name the directories of new files: {hour} or {minute} in remote_path"
            .to_owned()
    } else {
        CROWDED_HELP.to_owned()
    };
    let dir = path.map_or_else(|_| crowded.dir.to_string(), |path| crate::path::printable(path.dir()));
    CrowdedReport { dir, files: crowded.files, help }
}

fn add_live(report: &mut FolderReport, live: &LiveFolder) {
    let LiveFolder { intake, push } = live;
    (report.state, report.why) = state_of(intake, push);
    report.coverage = match &intake.coverage {
        Coverage::Full => None,
        Coverage::Partial { watched, missing, reason } => Some(format!(
            "{watched} directories are watched and {missing} are not, so everything is scanned every minute: {reason}"
        )),
        Coverage::None { reason } => Some(reason.clone()),
    };
    report.coverage_ratio = Some(match &intake.coverage {
        Coverage::Full => 1.0,
        Coverage::Partial { watched, missing, .. } => *watched as f64 / (watched + missing).max(1) as f64,
        Coverage::None { .. } => 0.0,
    });
    let oldest = intake.waiting_since.into_iter().chain(push.waiting_since).min();
    report.oldest_waiting_s = oldest.map(|since| since.elapsed().as_secs());
    report.done = Some(DoneReport {
        commits: push.commits,
        files: push.files_pushed,
        removed: push.files_removed,
        bytes: push.bytes_pushed,
        failed_tries: push.failures,
    });
    let under_way = step(&push.phase);
    report.watched_dirs = intake.watched_dirs;
    report.waiting = live.waiting();
    let looking =
        matches!(intake.phase, IntakePhase::Starting | IntakePhase::Covering | IntakePhase::Scanning);
    report.waiting_more = intake.hints > 0 || looking || push.has_more;
    report.busy = intake.busy;
    report.busy_paths = intake.busy_paths.iter().map(ToString::to_string).collect();
    report.scans = intake.scans;
    report.excluded = intake.last_scan.map_or(0, |scan| scan.excluded);
    report.skipped = intake.skipped;
    report.skipped_paths = intake
        .skipped_paths
        .iter()
        .map(|(path, reason)| ProblemReport {
            path: path.to_string(),
            kind: "skipped".to_owned(),
            reason: (*reason).to_owned(),
            since: None,
        })
        .collect();
    report.batch = under_way.map(|step| BatchReport {
        step: step.to_owned(),
        files: push.batch.files,
        bytes: push.batch.bytes,
        files_sent: push.batch.files_sent,
        bytes_sent: push.batch.bytes_sent,
    });
}

fn state_of(intake: &IntakeStatus, push: &PushStatus) -> (FolderState, Option<String>) {
    if let Some(reason) = intake.trouble() {
        return (FolderState::Broken, Some(reason));
    }
    match (&intake.phase, &push.phase) {
        (IntakePhase::Broken(_), _) => (FolderState::Broken, None),
        (_, PushPhase::Stopped { reason, .. }) => (FolderState::Stopped, Some(reason.clone())),
        (_, PushPhase::Waiting { reason, .. }) => (FolderState::Waiting, Some(reason.clone())),
        (IntakePhase::Starting | IntakePhase::Covering, _) => (FolderState::Starting, None),
        (IntakePhase::Scanning, _) => (FolderState::Scanning, push.hitch.clone()),
        (IntakePhase::Watching, phase) if step(phase).is_some() => (FolderState::Pushing, push.hitch.clone()),
        (IntakePhase::Watching, _) => (FolderState::Watching, None),
    }
}

fn step(phase: &PushPhase) -> Option<&'static str> {
    match phase {
        PushPhase::Idle | PushPhase::Waiting { .. } | PushPhase::Stopped { .. } => None,
        PushPhase::Connecting => Some("connecting"),
        PushPhase::Recovering => Some("recovering"),
        PushPhase::Listing => Some("listing"),
        PushPhase::Staging => Some("staging"),
        PushPhase::Committing => Some("committing"),
        PushPhase::Proving => Some("proving"),
    }
}

/// A moment of the wall clock as RFC 3339.
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string())
}

impl Report {
    /// Makes it the report of the running service that has been running since `started_at`.
    #[must_use]
    pub fn with_service(self, started_at: &str) -> Self {
        Self {
            running: true,
            pid: Some(std::process::id()),
            started_at: Some(started_at.to_owned()),
            timers: timers::of_service(),
            ..self
        }
    }

    /// Reports on all folders of a config from the state alone, as when no service runs.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn without_service(
        config: &Path,
        folders: &[Folder],
        reader: Option<&Reader>,
    ) -> Result<Self, StateError> {
        let refused = match reader {
            Some(reader) => reader.note(super::CONFIG_REFUSED)?,
            None => None,
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: false,
            pid: None,
            started_at: None,
            config: crate::path::printable(config),
            state_dir: None,
            has_state: true,
            config_refused: refused.and_then(|note| serde_json::from_str(&note).ok()),
            page: None,
            timers: Vec::new(),
            folders: folders
                .iter()
                .map(|folder| report(config, folder, None, reader))
                .collect::<Result<_, _>>()?,
        })
    }
}
