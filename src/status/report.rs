use std::path::Path;

use serde::{Deserialize, Serialize};

use super::look::{report, step};
use super::timers::{self, TimerReport};
use crate::config::Folder;
use crate::folder::intake::IntakeStatus;
use crate::push::PushStatus;
use crate::state::{Reader, StateError};

/// The whole report; `oxen-sync status --json` prints it. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigRefused {
    /// When it was refused, RFC 3339.
    pub at: String,
    /// Every problem of it, with file, line, column and caret.
    pub problems: String,
}

/// The page in a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PageReport {
    /// Its address.
    pub url: String,
    /// Why it is not there, where that is so. It is tried again by itself.
    pub trouble: Option<String>,
}

/// What a folder is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Someone has paused it; `paused_until` says for how long.
    Paused,
    /// Nothing is sent at this time of the week; `window_opens_at` says when that ends.
    OutsideWindow,
    /// A try failed; the next comes by itself.
    Waiting,
    /// The server lets nobody in, or what is needed is missing there.
    Stopped,
    /// The folder itself cannot be used.
    Broken,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Whether someone has paused it; it stays so over restarts.
    #[serde(default)]
    pub paused: bool,
    /// Until when it is paused, RFC 3339; none where that is until someone resumes it.
    #[serde(default)]
    pub paused_until: Option<String>,
    /// Whether what it sends waits while a folder of a higher priority is sent.
    #[serde(default)]
    pub behind: bool,
    /// When its upload window opens, RFC 3339 in the machine's time zone, where it is closed.
    #[serde(default)]
    pub window_opens_at: Option<String>,
    /// Why not all of it is watched by the kernel, where that is so.
    pub coverage: Option<String>,
    /// The share of its directories that the kernel watches, 0 to 1; only while a service runs.
    #[serde(default)]
    pub coverage_ratio: Option<f64>,
    /// Directories watched.
    pub watched_dirs: usize,
    /// Files proved to be on the branch and still in the folder.
    pub files: i64,
    /// Bytes of the files that `files` counts.
    pub bytes: i64,
    /// Files that wait: to be quiet, to be read, or for their batch.
    pub waiting: u64,
    /// How long ago the oldest change that is not committed yet was first seen, in seconds by a clock that nobody sets.
    /// Removals that the brake holds do not count.
    #[serde(default)]
    pub oldest_waiting_s: Option<u64>,
    /// Whether there is more to look at than `waiting` counts.
    pub waiting_more: bool,
    /// Of the files that wait, those that are being written to or move.
    pub busy: usize,
    /// Some of the files that are being written to or move.
    pub busy_paths: Vec<String>,
    /// Files that are not on the branch because something is wrong with them.
    pub failed: i64,
    /// The first of the files that failed.
    pub problems: Vec<ProblemReport>,
    /// How often everything was looked at since the service took the folder up: once at the start, then with each
    /// `rescan_interval` and whenever events were lost.
    #[serde(default)]
    pub scans: u64,
    /// Files that wait for their run to be finished by a file of the name in `batch.marker`, counted up to 10,000. They are
    /// not among those that are `waiting`.
    #[serde(default)]
    pub held_back: usize,
    /// The name of the file that finishes a run, where the config names one.
    #[serde(default)]
    pub marker: Option<String>,
    /// Why files that `after_push` is to take off stay, where that does not pass by itself, and what to do.
    #[serde(default)]
    pub staying: Option<String>,
    /// Files and directories that patterns leave out, as the last whole scan counted them.
    pub excluded: u64,
    /// Links, devices and mounts that were passed over.
    pub skipped: u64,
    /// Some of what was passed over, each with its reason.
    pub skipped_paths: Vec<ProblemReport>,
    /// Removals that the brake of `on_delete = "mirror"` holds: the branch keeps these files until someone lets them go.
    #[serde(default)]
    pub held: u64,
    /// Since when removals are held, RFC 3339.
    #[serde(default)]
    pub held_since: Option<String>,
    /// Whether `held` was decided before all of the folder was seen; once it was, it is decided anew.
    #[serde(default)]
    pub held_for_now: bool,
    /// The command that lets the held removals go.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// Files that are on the branch and were taken off the machine, as `after_push` says.
    #[serde(default)]
    pub taken_off: u64,
    /// Their bytes.
    #[serde(default)]
    pub taken_off_bytes: u64,
}

/// A path that is not on the branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProblemReport {
    /// Relative to the folder, printable.
    pub path: String,
    /// `refused`, `unreadable`, `quarantined`, `busy` or `skipped`.
    pub kind: String,
    /// What is wrong and what to do.
    pub reason: String,
    /// Since when it is so, RFC 3339.
    pub since: Option<String>,
}

/// A directory of the branch with very many files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchReport {
    /// `connecting`, `recovering`, `listing`, `staging`, `committing` or `proving`.
    pub step: String,
    /// Changes in it.
    pub files: u64,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// Changes sent.
    pub files_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

/// A commit that was made and proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
