use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use bytesize::ByteSize;

use super::{BatchReport, FolderReport, FolderState, ProblemReport, Report};

/// Problems of a folder shown; the JSON holds more.
const SHOWN_MAX: usize = 10;

const PLAIN: Style = Style::new();
const GOOD: Style = AnsiColor::Green.on_default();
const BUSY: Style = AnsiColor::Cyan.on_default();
const WARN: Style = AnsiColor::Yellow.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const STRONG: Style = Style::new().bold();

/// The report as text, one block for each folder, with colours. Where that has more lines than `rows`, folders with nothing
/// to be said of them have a line each; and where these are too many still, they are counted.
pub fn render(report: &Report, rows: Option<usize>) -> String {
    let head = head(report);
    let blocks: Vec<String> = report.folders.iter().map(block).collect();
    let lines = |texts: &[String]| texts.iter().map(|text| text.lines().count() + 1).sum::<usize>();
    let whole = lines(std::slice::from_ref(&head)) + lines(&blocks);
    let Some(rows) = rows.filter(|rows| whole > *rows) else {
        return blocks.into_iter().fold(head, |all, block| format!("{all}\n{block}"));
    };
    let (mut brief, mut told) = (Vec::new(), Vec::new());
    for (folder, block) in report.folders.iter().zip(blocks) {
        if needs_telling(folder) { told.push(block) } else { brief.push(line(folder)) }
    }
    let room = rows.saturating_sub(head.lines().count() + lines(&told) + 3);
    let left = brief.len().saturating_sub(room.max(1));
    if left > 1 {
        brief.truncate(brief.len() - left);
        brief.push(format!("… and {left} more folders with nothing to be said of them\n"));
    }
    let brief = if brief.is_empty() { String::new() } else { format!("\n{}", brief.concat()) };
    told.into_iter().fold(format!("{head}{brief}"), |all, block| format!("{all}\n{block}"))
}

/// Whether more is to be said of a folder than a line holds.
fn needs_telling(folder: &FolderReport) -> bool {
    folder.why.is_some()
        || folder.coverage.is_some()
        || folder.failed > 0
        || folder.held > 0
        || folder.retry.is_some()
        || folder.crowded.is_some()
}

/// A folder in a line.
fn line(folder: &FolderReport) -> String {
    let (style, word) = word(folder.state);
    let more = if folder.waiting > 0 { format!(", {} waiting", folder.waiting) } else { String::new() };
    let batch = folder.batch.as_ref().map(|batch| format!(", {}", batch_text(batch))).unwrap_or_default();
    format!(
        "{style}{word:<9}{style:#}  {} → {}@{}  {} files{more}{batch}\n",
        folder.path, folder.repo, folder.branch, folder.files
    )
}

/// What a folder is in, in a word and its colour.
fn word(state: FolderState) -> (Style, &'static str) {
    match state {
        FolderState::NotRunning => (PLAIN, "stopped"),
        FolderState::Starting => (BUSY, "starting"),
        FolderState::Scanning => (BUSY, "scanning"),
        FolderState::Watching => (GOOD, "watching"),
        FolderState::Pushing => (BUSY, "pushing"),
        FolderState::Paused => (WARN, "paused"),
        FolderState::OutsideWindow => (BUSY, "closed"),
        FolderState::Waiting => (WARN, "waiting"),
        FolderState::Stopped => (BAD, "STOPPED"),
        FolderState::Broken => (BAD, "BROKEN"),
    }
}

fn batch_text(batch: &BatchReport) -> String {
    format!(
        "{}: {} of {} files, {} of {}",
        batch.step,
        batch.files_sent,
        batch.files,
        ByteSize(batch.bytes_sent),
        ByteSize(batch.bytes)
    )
}

fn head(report: &Report) -> String {
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
    out
}

fn block(folder: &FolderReport) -> String {
    let mut text = String::new();
    let out = &mut text;
    let place = match &folder.layout {
        Some(layout) => format!(" as {layout}"),
        None if folder.remote_dir.is_empty() => String::new(),
        None => format!(" in {}", folder.remote_dir),
    };
    let _ = writeln!(
        out,
        "{STRONG}{}{STRONG:#}  →  {} branch {}{place} at {}",
        folder.path, folder.repo, folder.branch, folder.server
    );
    let (style, _) = word(folder.state);
    let _ = writeln!(out, "  state     {style}{}{style:#}", state(folder));
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
    if let Some(done) = folder.done.as_ref().filter(|done| done.taken_off > 0) {
        let _ = writeln!(
            out,
            "  taken off {} files ({}) since the start; the branch holds them",
            done.taken_off,
            ByteSize(done.taken_off_bytes)
        );
    }
    if let Some(why) = &folder.staying {
        let _ = writeln!(out, "  stays     after_push: {why}");
    }
    if let Some(marker) = folder.marker.as_ref().filter(|_| folder.held_back > 0) {
        let files = if folder.held_back == 1 { "file waits" } else { "files wait" };
        let (count, marker) = (folder.held_back, crate::path::printable(marker));
        let _ = writeln!(out, "  runs      {count} {files} until a file {marker} finishes the run");
    }
    if folder.excluded > 0 {
        let _ = writeln!(out, "  excluded  {} files and directories by patterns", folder.excluded);
    }
    if let Some(batch) = &folder.batch {
        let _ = writeln!(out, "  batch     {}", batch_text(batch));
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
            "  last      commit {} at {}: {} file{}, {} removed, {}",
            commit.id,
            commit.at,
            commit.files,
            if commit.files == 1 { "" } else { "s" },
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
            "  {BAD}HELD{BAD:#}      {} removal{plural} since {}: {why}: {}",
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
    if folder.failed > 0 {
        let _ = writeln!(
            out,
            "            all of them: oxen-sync failed; to have them tried again: oxen-sync retry"
        );
    }
    text
}

fn list(out: &mut String, label: &str, rows: &[ProblemReport], total: usize) {
    for row in rows.iter().take(SHOWN_MAX) {
        let kind = if row.kind == label { String::new() } else { format!(" ({})", row.kind) };
        let style = if label == "failed" { BAD } else { PLAIN };
        let _ = writeln!(out, "  {style}{label:<8}{style:#}  {}{kind}: {}", row.path, row.reason);
    }
    let shown = rows.len().min(SHOWN_MAX);
    if total > shown {
        let _ = writeln!(out, "  {label:<8}  … and {} more", total - shown);
    }
}

fn state(folder: &FolderReport) -> String {
    match folder.state {
        FolderState::NotRunning if folder.paused => format!("not running, and {}", paused(folder)),
        FolderState::NotRunning => "not running".to_owned(),
        FolderState::Starting => "starting".to_owned(),
        FolderState::Scanning => "looking through the folder".to_owned(),
        FolderState::Watching => format!("watching {} directories", folder.watched_dirs),
        FolderState::Pushing if folder.behind => "pushing, waits for folders of a higher priority".to_owned(),
        FolderState::Pushing => "pushing".to_owned(),
        FolderState::Paused => paused(folder),
        FolderState::OutsideWindow => match &folder.window_opens_at {
            Some(opens) => format!("waiting for its upload window, which opens {opens}"),
            None => "waiting for its upload window".to_owned(),
        },
        FolderState::Waiting => "waiting for the next try".to_owned(),
        FolderState::Stopped => "STOPPED".to_owned(),
        FolderState::Broken => "BROKEN".to_owned(),
    }
}

fn paused(folder: &FolderReport) -> String {
    match &folder.paused_until {
        Some(until) => format!("PAUSED until {until}; to go on: oxen-sync resume"),
        None => "PAUSED; to go on: oxen-sync resume".to_owned(),
    }
}

fn size(bytes: i64) -> ByteSize {
    ByteSize(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::DoneReport;

    fn report(folders: usize, failing: usize) -> Report {
        let folder = |n| FolderReport {
            path: format!("/data/{n}"),
            repo: "lab/cells".to_owned(),
            branch: "main".to_owned(),
            state: FolderState::Watching,
            files: 7,
            failed: i64::from(n < failing),
            ..FolderReport::default()
        };
        let mut report = Report::without_service("/etc/x.toml".as_ref(), &[], None).unwrap();
        report.folders = (0..folders).map(folder).collect();
        report
    }

    #[test]
    fn many_folders_fit_a_screen_and_what_is_wrong_is_never_left_out() {
        for (folders, failing) in [(1, 0), (3, 1), (20, 2), (200, 3)] {
            let text = render(&report(folders, failing), Some(40));
            assert!(text.lines().count() <= 40, "{folders} folders, {failing} failing:\n{text}");
            for n in 0..failing {
                assert!(text.contains(&format!("/data/{n}{STRONG:#}  →")), "{text}");
            }
        }
        let text = render(&report(200, 0), None);
        assert_eq!(text.matches("state ").count(), 200, "nothing is left out where there is room");
        assert!(render(&report(200, 1), Some(30)).contains("more folders with nothing to be said of them"));
    }

    #[test]
    fn a_folder_that_is_empty_by_our_own_doing_says_so() {
        let mut report = report(1, 0);
        let done = DoneReport { taken_off: 2, taken_off_bytes: 3 << 20, ..DoneReport::default() };
        report.folders[0].done = Some(done);
        let text = render(&report, None);
        assert!(
            text.contains("taken off 2 files (3.0 MiB) since the start; the branch holds them"),
            "{text}"
        );
    }
}
