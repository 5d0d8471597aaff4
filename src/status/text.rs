use std::fmt::Write as _;

use bytesize::ByteSize;

use super::{FolderReport, FolderState, ProblemReport, Report};

/// Problems of a folder shown; the JSON holds more.
const SHOWN_MAX: usize = 10;

/// The report as text, one block for each folder.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let _ = match (report.running, report.pid) {
        (true, Some(pid)) => writeln!(
            out,
            "oxen-sync {} is running (process {pid}, since {})",
            report.version,
            report.started_at.as_deref().unwrap_or("an unknown time")
        ),
        _ => {
            let state_dir = report.state_dir.as_deref().unwrap_or("an unknown place");
            if report.has_state {
                writeln!(
                    out,
                    "oxen-sync is not running; this is what it knew when it last ran (state: {state_dir})"
                )
            } else {
                writeln!(
                    out,
                    "oxen-sync is not running, and has not run with the state directory {state_dir}; if the service \
                     has another one, set state_dir in the config"
                )
            }
        }
    };
    let _ = writeln!(out, "config: {}", report.config);
    if let Some(refused) = &report.config_refused {
        let _ = writeln!(
            out,
            "\nThe config was changed at {} and refused; the one before it is in use:",
            refused.at
        );
        for line in refused.problems.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    if let Some(page) = &report.page {
        let trouble = page.trouble.as_ref().map(|why| format!(" is not there: {why}")).unwrap_or_default();
        let _ = writeln!(out, "page:   {}{trouble}", page.url);
    }
    for folder in &report.folders {
        let _ = writeln!(out);
        folder_block(&mut out, folder);
    }
    out
}

fn folder_block(out: &mut String, folder: &FolderReport) {
    let place = match &folder.layout {
        Some(layout) => format!(" as {layout}"),
        None if folder.remote_dir.is_empty() => String::new(),
        None => format!(" in {}", folder.remote_dir),
    };
    let _ = writeln!(
        out,
        "{}  →  {} branch {}{place} at {}",
        folder.path, folder.repo, folder.branch, folder.server
    );
    let _ = writeln!(out, "  state     {}", state(folder));
    if let Some(why) = &folder.why {
        let _ = writeln!(out, "  why       {why}");
    }
    if let Some(coverage) = &folder.coverage {
        let _ = writeln!(out, "  coverage  {coverage}");
    }
    let more = if folder.waiting_more { " and more to look at" } else { "" };
    let held = if folder.held > 0 { format!(", {} there alone (held)", folder.held) } else { String::new() };
    let _ = writeln!(
        out,
        "  files     {} here and on the branch ({}){held}, {} waiting{more}, {} failed",
        folder.files,
        size(folder.bytes),
        folder.waiting,
        folder.failed
    );
    if folder.excluded > 0 {
        let _ = writeln!(out, "  excluded  {} files and directories by patterns", folder.excluded);
    }
    if let Some(batch) = &folder.batch {
        let _ = writeln!(
            out,
            "  batch     {}: {} of {} files, {} of {}",
            batch.step,
            batch.files_sent,
            batch.files,
            ByteSize(batch.bytes_sent),
            ByteSize(batch.bytes)
        );
    }
    if let Some(retry) = &folder.retry {
        let _ = writeln!(out, "  next try  {} (after {} that failed)", retry.next_at, retry.attempts);
        if folder.why.is_none() {
            let _ = writeln!(out, "  because   {}", retry.reason);
        }
    }
    let _ = match &folder.last_commit {
        Some(commit) => writeln!(
            out,
            "  last      commit {} at {}: {} files, {} removed, {}",
            commit.id,
            commit.at,
            commit.files,
            commit.removed,
            size(commit.bytes)
        ),
        None => writeln!(out, "  last      no commit yet"),
    };
    if folder.held > 0 {
        let why = if folder.held_for_now {
            "the folder seems to lose too many files, so the branch keeps them until all of the folder was seen, which \
             then decides; if they are to go there now"
        } else {
            "the folder lost too many files at once, so the branch keeps them; if they are to go there too"
        };
        let plural = if folder.held == 1 { "" } else { "s" };
        let _ = writeln!(
            out,
            "  HELD      {} removal{plural} since {}: {why}: {}",
            folder.held,
            folder.held_since.as_deref().unwrap_or("an unknown time"),
            folder.release_command.as_deref().unwrap_or("oxen-sync release")
        );
    }
    if let Some(crowded) = &folder.crowded {
        let dir = if crowded.dir.is_empty() { "the root" } else { &crowded.dir };
        let _ = writeln!(
            out,
            "  crowded   {} files in {dir} of the branch make the server slow for every new one there; {}",
            crowded.files, crowded.help
        );
    }
    if folder.busy > 0 {
        let _ = writeln!(out, "  busy      {} being written: {}", folder.busy, folder.busy_paths.join(", "));
    }
    list(out, "failed", &folder.problems, usize::try_from(folder.failed).unwrap_or(0));
    list(out, "skipped", &folder.skipped_paths, usize::try_from(folder.skipped).unwrap_or(0));
}

fn list(out: &mut String, label: &str, rows: &[ProblemReport], total: usize) {
    for row in rows.iter().take(SHOWN_MAX) {
        let kind = if row.kind == label { String::new() } else { format!(" ({})", row.kind) };
        let _ = writeln!(out, "  {label:<8}  {}{kind}: {}", row.path, row.reason);
    }
    let shown = rows.len().min(SHOWN_MAX);
    if total > shown {
        let _ = writeln!(out, "  {label:<8}  … and {} more", total - shown);
    }
}

fn state(folder: &FolderReport) -> String {
    match folder.state {
        FolderState::NotRunning => "not running".to_owned(),
        FolderState::Starting => "starting".to_owned(),
        FolderState::Scanning => "looking through the folder".to_owned(),
        FolderState::Watching => format!("watching {} directories", folder.watched_dirs),
        FolderState::Pushing => "pushing".to_owned(),
        FolderState::Waiting => "waiting for the next try".to_owned(),
        FolderState::Stopped => "STOPPED".to_owned(),
        FolderState::Broken => "BROKEN".to_owned(),
    }
}

fn size(bytes: i64) -> ByteSize {
    ByteSize(u64::try_from(bytes).unwrap_or(0))
}
