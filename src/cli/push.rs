use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde::Serialize;

use super::Exit;
use super::progress::Progress;
use crate::config::{self, Config, Env, Folder};
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
    problems: Vec<ProblemJson>,
    failure: Option<String>,
}

#[derive(Serialize)]
struct ProblemJson {
    path: String,
    kind: String,
    reason: String,
}

pub(super) async fn run(file: &Path, wanted: &[PathBuf], json: bool, env: Env) -> Exit {
    let config = match config::load(file, &env) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Usage;
        }
    };
    let folders = match choose(&config, wanted) {
        Ok(folders) => folders,
        Err(error) => {
            eprintln!("oxen-sync: {error}");
            return Exit::Usage;
        }
    };
    let started = std::time::Instant::now();
    let finished = match push_once(&config, &folders, env) {
        Ok(push) => {
            if let Some(set_aside) = &push.set_aside {
                tracing::error!(moved_to = %set_aside.moved_to.display(), "the state is rebuilt: {}", set_aside.reason);
            }
            let progress = Progress::new(push.progress());
            let finished = push.finish().await;
            drop(progress);
            finished
        }
        Err(error) => Err(error),
    };
    let outcomes = match finished {
        Ok(outcomes) => outcomes,
        Err(error) => {
            eprintln!("oxen-sync: {error}");
            return Exit::Failure;
        }
    };
    let whole = outcomes.iter().all(FolderOutcome::is_whole);
    if json {
        let outcome = Outcome { whole, folders: outcomes.iter().map(as_json).collect() };
        match serde_json::to_string_pretty(&outcome) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("oxen-sync: {error}"),
        }
    } else {
        outcomes.iter().for_each(say);
        println!(
            "{} in {:.1} s",
            if whole { "everything is on the server" } else { "NOT everything is on the server" },
            started.elapsed().as_secs_f64()
        );
    }
    if whole { Exit::Success } else { Exit::Failure }
}

fn choose(config: &Config, wanted: &[PathBuf]) -> Result<Vec<Folder>, String> {
    if wanted.is_empty() {
        return Ok(config.folders.clone());
    }
    let mut chosen = Vec::new();
    for path in wanted {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        let before = chosen.len();
        chosen.extend(config.folders.iter().filter(|folder| folder.path == path).cloned());
        if chosen.len() == before {
            return Err(format!("{} is no folder of {}", path.display(), config.file.display()));
        }
    }
    Ok(chosen)
}

fn say(outcome: &FolderOutcome) {
    let FolderOutcome { folder, push, intake, problems, failure } = outcome;
    println!("{}", folder.id());
    println!(
        "  {} files pushed ({}), {} removed, in {} commits; {} files in the folder",
        push.files_pushed,
        ByteSize(push.bytes_pushed),
        push.files_removed,
        push.commits,
        intake.last_scan.map_or(0, |scan| scan.files)
    );
    for row in problems {
        println!("  {} {}: {}", row.kind, row.path, row.reason);
    }
    if intake.skipped > 0 {
        println!("  {} links, devices or mounts were passed over", intake.skipped);
    }
    if push.dropped > 0 {
        println!("  {} files changed while they were pushed; run it again", push.dropped);
    }
    if let Some(failure) = failure {
        println!("  failed: {failure}");
    }
}

fn as_json(outcome: &FolderOutcome) -> FolderJson {
    let FolderOutcome { folder, push, problems, failure, .. } = outcome;
    FolderJson {
        path: crate::path::printable(&folder.path),
        whole: outcome.is_whole(),
        files: push.files_pushed,
        removed: push.files_removed,
        bytes: push.bytes_pushed,
        commits: push.commits,
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
