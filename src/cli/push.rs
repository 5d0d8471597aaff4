use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use indicatif::MultiProgress;
use serde::Serialize;

use super::Exit;
use super::out::{fail, print, print_json, refuse_config};
use super::progress::Progress;
use super::reach::choose;
use crate::config::{self, Env};
use crate::path::printable;
use crate::service::{FolderOutcome, push_once};

/// The outcome as `--json` prints it. Fields are only ever added.
#[derive(Serialize)]
struct Outcome {
    whole: bool,
    folders: Vec<FolderJson>,
}

#[derive(Serialize)]
struct FolderJson {
    path: String,
    whole: bool,
    files: u64,
    removed: u64,
    bytes: u64,
    commits: u64,
    held: u64,
    problems: Vec<ProblemJson>,
    failure: Option<String>,
}

#[derive(Serialize)]
struct ProblemJson {
    path: String,
    kind: String,
    reason: String,
}

pub(super) async fn run(file: &Path, wanted: &[PathBuf], json: bool, env: Env, bars: MultiProgress) -> Exit {
    let config = match config::load(file, &env) {
        Ok(config) => config,
        Err(error) => return refuse_config(&error, json),
    };
    let folders = match choose(&config, wanted, json) {
        Ok(folders) => folders,
        Err(exit) => return exit,
    };
    let started = std::time::Instant::now();
    let finished = match push_once(&config, &folders, env) {
        Ok(push) => {
            if let Some(set_aside) = &push.set_aside {
                tracing::error!(moved_to = %printable(&set_aside.moved_to), "the state is rebuilt: {}", set_aside.reason);
            }
            let progress = Progress::new(bars, push.progress());
            let finished = push.finish().await;
            drop(progress);
            finished
        }
        Err(error) => Err(error),
    };
    let outcomes = match finished {
        Ok(outcomes) => outcomes,
        Err(error) => return fail(&error, json),
    };
    let whole = outcomes.iter().all(FolderOutcome::is_whole);
    let printed = if json {
        print_json(&Outcome { whole, folders: outcomes.iter().map(as_json).collect() })
    } else {
        let mut text: String = outcomes.iter().map(|outcome| block(file, outcome)).collect();
        let verdict = match (whole, outcomes.iter().all(FolderOutcome::is_pushed)) {
            (true, _) => "everything is on the server",
            (false, true) => "everything is on the server, and REMOVALS ARE HELD",
            (false, false) => "NOT everything is on the server",
        };
        let _ = writeln!(text, "{verdict} in {:.1} s", started.elapsed().as_secs_f64());
        print(&text)
    };
    match printed {
        Err(exit) => exit,
        Ok(()) if whole => Exit::Success,
        Ok(()) => Exit::Failure,
    }
}

/// What is said of a folder.
fn block(config: &Path, outcome: &FolderOutcome) -> String {
    let FolderOutcome { folder, push, intake, problems, held, failure } = outcome;
    let plural = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!("{}\n", folder.id());
    let mut line = |words: String| text = format!("{text}  {words}\n");
    line(format!(
        "{} pushed ({}), {} removed, in {}; {} in the folder",
        plural(push.files_pushed, "file"),
        ByteSize(push.bytes_pushed),
        push.files_removed,
        plural(push.commits, "commit"),
        plural(intake.last_scan.map_or(0, |scan| scan.files), "file")
    ));
    for row in problems {
        line(format!("{} {}: {}", row.kind, row.path, row.reason));
    }
    let excluded = intake.last_scan.map_or(0, |scan| scan.excluded);
    if excluded > 0 {
        line(format!("{excluded} files and directories are left out by patterns"));
    }
    if intake.skipped > 0 {
        line(format!("{} links, devices or mounts were passed over", intake.skipped));
    }
    if push.dropped > 0 {
        line(format!("{} changed while they were pushed; run it again", plural(push.dropped, "file")));
    }
    if let Some(held) = held {
        line(format!(
            "{} held: the folder lost too many files at once, so the branch keeps them; if they are to go there too: {}",
            plural(held.files, "removal"),
            config::release_command(config, &folder.path)
        ));
    }
    if let Some(failure) = failure {
        line(format!("failed: {failure}"));
    }
    text
}

fn as_json(outcome: &FolderOutcome) -> FolderJson {
    let FolderOutcome { folder, push, problems, held, failure, .. } = outcome;
    FolderJson {
        path: printable(&folder.path),
        whole: outcome.is_whole(),
        files: push.files_pushed,
        removed: push.files_removed,
        bytes: push.bytes_pushed,
        commits: push.commits,
        held: held.map_or(0, |held| held.files),
        problems: problems
            .iter()
            .map(|row| ProblemJson {
                path: row.path.to_string(),
                kind: row.kind.to_string(),
                reason: row.reason.clone(),
            })
            .collect(),
        failure: failure.clone(),
    }
}
