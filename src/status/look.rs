use std::path::Path;

use super::report::{
    BatchReport, CommitReport, CrowdedReport, DoneReport, FolderReport, FolderState, LiveFolder,
    ProblemReport, RetryReport,
};
use super::{links, timers};
use crate::config::{Folder, OnDelete, release_command};
use crate::folder::Coverage;
use crate::folder::intake::{IntakePhase, IntakeStatus};
use crate::path::Place;
use crate::push::{PushPhase, PushStatus};
use crate::state::{CommitRow, Crowded, Reader, StateError};

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
        marker: folder.marker.clone(),
        window_opens_at: folder.upload_window.opens_at(&jiff::Zoned::now()),
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
        let commits = reader.last_commits(key, COMMITS_MAX)?;
        let commits = commits.into_iter().map(|row| commit_report(folder, row));
        report.recent_commits = commits.collect();
        report.last_commit = report.recent_commits.first().cloned();
        report.crowded = summary.crowded.map(|crowded| crowded_report(folder, crowded));
        let pause = reader.pause(key)?;
        report.paused = pause.is_some();
        report.paused_until = pause.and_then(|pause| pause.until_ms).map(time);
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

/// A commit of a folder.
pub(super) fn commit_report(folder: &Folder, row: CommitRow) -> CommitReport {
    CommitReport {
        url: links::commit(&folder.server.url, &folder.repo, &row.commit_id),
        id: row.commit_id,
        at: time(row.at_ms),
        files: row.files,
        removed: row.removed,
        bytes: row.bytes,
    }
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
        taken_off: push.taken_off,
        taken_off_bytes: push.taken_off_bytes,
    });
    let under_way = step(&push.phase);
    report.watched_dirs = intake.watched_dirs;
    report.waiting = live.waiting();
    let looking =
        matches!(intake.phase, IntakePhase::Starting | IntakePhase::Covering | IntakePhase::Scanning);
    report.waiting_more = intake.hints > 0 || looking || push.has_more;
    report.busy = intake.busy;
    report.busy_paths = intake.busy_paths.iter().map(ToString::to_string).collect();
    report.held_back = intake.held_back;
    report.staying = Some(&push.staying).filter(|why| !why.is_empty()).cloned();
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
    report.behind = under_way.is_some() && push.is_behind;
    report.batch = under_way.map(|step| BatchReport {
        step: step.to_owned(),
        files: push.batch.files,
        bytes: push.batch.bytes,
        files_sent: push.batch.files_sent,
        bytes_sent: push.batch.bytes_sent,
    });
}

/// What a folder at work is in, and why where something is wrong.
pub fn state_of(intake: &IntakeStatus, push: &PushStatus) -> (FolderState, Option<String>) {
    if let Some(reason) = intake.trouble() {
        return (FolderState::Broken, Some(reason));
    }
    match (&intake.phase, &push.phase) {
        (IntakePhase::Broken(_), _) => (FolderState::Broken, None),
        (_, PushPhase::Paused) => (FolderState::Paused, None),
        (_, PushPhase::OutsideWindow) => (FolderState::OutsideWindow, None),
        (_, PushPhase::Stopped { reason, .. }) => (FolderState::Stopped, Some(reason.clone())),
        (_, PushPhase::Waiting { reason, .. }) => (FolderState::Waiting, Some(reason.clone())),
        (IntakePhase::Starting | IntakePhase::Covering, _) => (FolderState::Starting, None),
        (IntakePhase::Scanning, _) => (FolderState::Scanning, push.hitch.clone()),
        (IntakePhase::Watching, phase) if step(phase).is_some() => (FolderState::Pushing, push.hitch.clone()),
        (IntakePhase::Watching, _) => (FolderState::Watching, None),
    }
}

pub(super) fn step(phase: &PushPhase) -> Option<&'static str> {
    match phase {
        PushPhase::Idle
        | PushPhase::Paused
        | PushPhase::OutsideWindow
        | PushPhase::Waiting { .. }
        | PushPhase::Stopped { .. } => None,
        PushPhase::Connecting => Some("connecting"),
        PushPhase::Recovering => Some("recovering"),
        PushPhase::Listing => Some("listing"),
        PushPhase::Staging => Some("staging"),
        PushPhase::Committing => Some("committing"),
        PushPhase::Proving => Some("proving"),
    }
}

/// A moment of the wall clock as RFC 3339.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string())
}
