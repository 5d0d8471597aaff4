//! The commands that ask: why, log, failed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bytesize::ByteSize;

use super::Exit;
use super::out::{print, print_json};
use super::reach::{Reached, choose, fail_client, fail_offline, folders_of, reach, texts_of};
use super::when::{local, localised};
use crate::config::Env;
use crate::folder::writers::writers_of;
use crate::service::Offline;
use crate::status::{FailedReport, LogReport, WhyFolder, WhyReport, WriterProcess, writers_text};

/// The longest that a file's own filesystem is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Says why a path is where it is.
pub(super) async fn why(file: &Path, path: &Path, json: bool, env: &Env) -> Exit {
    let text = texts_of(&[path.to_path_buf()]).remove(0);
    let report = match reach(file, env, json).await {
        Ok(Reached::Service(client)) => {
            let asked = client.get::<WhyReport>(&format!("/why?path={}", encoded(&text))).await;
            asked.map_err(|error| fail_client(&error, json))
        }
        Ok(Reached::Nothing(config)) => {
            Offline(&config).why(&text).await.map_err(|error| fail_offline(&error, json))
        }
        Err(exit) => Err(exit),
    };
    let mut report = match report {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    // Who asks may see more processes than the service does.
    let writers = writers(path);
    if !writers.is_empty() {
        for step in report.folders.iter_mut().flat_map(|folder| &mut folder.steps) {
            if step.step == "writers" {
                step.detail = writers_text(&writers);
            }
        }
    }
    let exit = if report.folders.is_empty() { Exit::Failure } else { Exit::Success };
    let printed = if json { print_json(&report) } else { print(&localised(&why_text(&report))) };
    printed.err().unwrap_or(exit)
}

/// The programs that have a file open for writing. One whose filesystem does not answer is not waited for.
fn writers(path: &Path) -> Vec<WriterProcess> {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_path_buf();
    // It goes with the process.
    std::thread::spawn(move || sender.send(writers_of(&path)));
    let found = receiver.recv_timeout(ANSWER_MAX).unwrap_or_default();
    found.into_iter().map(|(pid, command)| WriterProcess { pid, command }).collect()
}

/// As a value in the query of an address.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn why_text(report: &WhyReport) -> String {
    let mut out = format!("{}\n", report.path);
    if let Some(next) = &report.next {
        let _ = writeln!(out, "  {next}");
    }
    for WhyFolder { folder, answer, next, steps, .. } in &report.folders {
        let _ = writeln!(out, "  {answer}");
        if let Some(next) = next {
            let _ = writeln!(out, "  To do: {next}");
        }
        let _ = writeln!(out, "\n  {:<9} {}", "folder", folder.path);
        for step in steps {
            let label = if step.step == "folder" { "here" } else { &step.step };
            let _ = writeln!(out, "  {label:<9} {}", step.detail);
        }
    }
    out
}

/// Lists the commits that were made.
pub(super) async fn log(
    file: &Path,
    wanted: &[PathBuf],
    (since, count): (Option<Duration>, usize),
    json: bool,
    env: &Env,
) -> Exit {
    let since_ms = since.map_or(0, |since| {
        let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        jiff::Timestamp::now().as_millisecond().saturating_sub(ms)
    });
    let log = match reach(file, env, json).await {
        Ok(Reached::Service(client)) => {
            let mut log = LogReport::default();
            let mut failed = None;
            for folder in one_by_one(wanted) {
                let query = format!("/log?since_ms={since_ms}&limit={count}{folder}");
                match client.get::<LogReport>(&query).await {
                    Ok(more) => log.commits.extend(more.commits),
                    Err(error) => failed = Some(fail_client(&error, json)),
                }
            }
            log.commits.sort_by(|one, other| other.commit.at.cmp(&one.commit.at));
            log.commits.truncate(count);
            failed.map_or(Ok(log), Err)
        }
        Ok(Reached::Nothing(config)) => match choose(&config, wanted, json) {
            Ok(folders) => {
                let log = Offline(&config).log(&folders, since_ms, count);
                log.map_err(|error| fail_offline(&error, json))
            }
            Err(exit) => Err(exit),
        },
        Err(exit) => Err(exit),
    };
    match log {
        Ok(log) if json => print_json(&log).err().unwrap_or(Exit::Success),
        Ok(log) => print(&log_text(&log)).err().unwrap_or(Exit::Success),
        Err(exit) => exit,
    }
}

/// A part of a query for each of some folders, or one for all of them.
fn one_by_one(wanted: &[PathBuf]) -> Vec<String> {
    if wanted.is_empty() {
        return vec![String::new()];
    }
    folders_of(wanted).iter().map(|folder| format!("&folder={}", encoded(folder))).collect()
}

fn log_text(log: &LogReport) -> String {
    let mut out = String::new();
    for logged in &log.commits {
        let commit = &logged.commit;
        let removed =
            if commit.removed > 0 { format!(", {} removed", commit.removed) } else { String::new() };
        let plural = if commit.files == 1 { "" } else { "s" };
        let bytes = ByteSize(u64::try_from(commit.bytes).unwrap_or(0));
        let _ = writeln!(
            out,
            "{}  {}  {} file{plural}{removed}, {bytes}  {}",
            local(&commit.at),
            commit.id,
            commit.files,
            logged.folder
        );
    }
    if out.is_empty() { "no commit yet\n".to_owned() } else { out }
}

/// Lists what is not on the branch, and why.
pub(super) async fn failed(file: &Path, wanted: &[PathBuf], json: bool, env: &Env) -> Exit {
    let failed = match reach(file, env, json).await {
        Ok(Reached::Service(client)) => {
            let mut all = FailedReport::default();
            let mut error = None;
            for folder in one_by_one(wanted) {
                match client.get::<FailedReport>(&format!("/failed?{}", folder.trim_start_matches('&'))).await
                {
                    Ok(more) => all.folders.extend(more.folders),
                    Err(failed) => error = Some(fail_client(&failed, json)),
                }
            }
            error.map_or(Ok(all), Err)
        }
        Ok(Reached::Nothing(config)) => match choose(&config, wanted, json) {
            Ok(folders) => Offline(&config).failed(&folders).map_err(|error| fail_offline(&error, json)),
            Err(exit) => Err(exit),
        },
        Err(exit) => Err(exit),
    };
    match failed {
        Ok(failed) if json => print_json(&failed).err().unwrap_or(Exit::Success),
        Ok(failed) => print(&failed_text(&failed)).err().unwrap_or(Exit::Success),
        Err(exit) => exit,
    }
}

fn failed_text(report: &FailedReport) -> String {
    let mut out = String::new();
    for folder in &report.folders {
        let _ = writeln!(out, "{}: {} failed", folder.folder, folder.failed);
        for problem in &folder.problems {
            let since = problem.since.as_deref().map(local).unwrap_or_default();
            let _ =
                writeln!(out, "  {}\n    {} since {since}: {}", problem.path, problem.kind, problem.reason);
        }
        let shown = i64::try_from(folder.problems.len()).unwrap_or(i64::MAX);
        if folder.failed > shown {
            let _ = writeln!(out, "  … and {} more", folder.failed - shown);
        }
    }
    if out.is_empty() {
        return "nothing has failed\n".to_owned();
    }
    out.push_str("to have them tried again: oxen-sync retry, with their paths or without\n");
    out
}
