use std::path::Path;

use serde::Serialize;
use walkdir::WalkDir;

use super::Exit;
use crate::config::{self, Config, Env, Folder, find_key};
use crate::content::RootDir;
use crate::path::LocalPath;
use crate::service::Clients;

/// How a thing that was tried came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    Warning,
    Failure,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    what: String,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Findings {
    ok: bool,
    findings: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, level: Level, what: impl Into<String>, detail: impl Into<String>) {
        self.ok &= level != Level::Failure;
        self.findings.push(Finding { level, what: what.into(), detail: detail.into() });
    }
}

pub(super) async fn run(file: &Path, json: bool, env: Env) -> Exit {
    let mut findings = Findings { ok: true, findings: Vec::new() };
    let config = match config::load(file, &env) {
        Ok(config) => config,
        Err(error) if json => {
            findings.add(Level::Failure, "config", error.to_string());
            print_json(&findings);
            return Exit::Usage;
        }
        Err(error) => {
            eprintln!("{error}");
            return Exit::Usage;
        }
    };
    findings.add(Level::Ok, "config", format!("{} is right", file.display()));
    check_state_dir(&config, &mut findings);
    let mut dirs = 0;
    for folder in &config.folders {
        dirs += check_folder(folder, &mut findings);
    }
    check_watches(dirs, &mut findings);
    let mut clients = Clients::new(env.clone());
    for folder in &config.folders {
        check_target(folder, &mut clients, &env, &mut findings).await;
    }
    if json {
        print_json(&findings);
    } else {
        for finding in &findings.findings {
            let mark = match finding.level {
                Level::Ok => "ok      ",
                Level::Warning => "warning ",
                Level::Failure => "FAILED  ",
            };
            println!("{mark}{}: {}", finding.what, finding.detail);
        }
    }
    if findings.ok { Exit::Success } else { Exit::Failure }
}

fn print_json(findings: &Findings) {
    match serde_json::to_string_pretty(findings) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("oxen-sync: {error}"),
    }
}

/// Whether the service could write there, without taking it from one that runs.
fn check_state_dir(config: &Config, findings: &mut Findings) {
    let dir = &config.state_dir;
    // Where the directory is missing, the nearest one above must let it be made.
    let existing = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    match rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => findings.add(Level::Ok, "state directory", format!("{} can be written", dir.display())),
        Err(error) => findings.add(
            Level::Failure,
            "state directory",
            format!(
                "{} cannot be written: {error}; give it to the user that runs oxen-sync",
                existing.display()
            ),
        ),
    }
}

/// Tries to read the folder; answers how many directories it has.
fn check_folder(folder: &Folder, findings: &mut Findings) -> u64 {
    let what = format!("folder {}", crate::path::printable(&folder.path));
    match RootDir::open(&folder.path).map_err(crate::content::OpenError::from) {
        Ok(root) => {
            if let Err(error) = root.read_dir(&LocalPath::root()) {
                findings.add(Level::Failure, what, format!("cannot be listed: {error}"));
                return 0;
            }
        }
        Err(error) => {
            findings.add(Level::Failure, what, format!("cannot be opened: {error}"));
            return 0;
        }
    }
    let (mut dirs, mut files, mut unreadable) = (0_u64, 0_u64, Vec::new());
    for entry in WalkDir::new(&folder.path).same_file_system(true) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => dirs += 1,
            Ok(entry) if entry.file_type().is_file() => {
                files += 1;
                if rustix::fs::access(entry.path(), rustix::fs::Access::READ_OK).is_err() {
                    unreadable.push(entry.into_path());
                }
            }
            Ok(_) => {}
            Err(error) => unreadable.extend(error.path().map(Path::to_path_buf)),
        }
    }
    match unreadable.first() {
        None => findings.add(Level::Ok, what, format!("{files} files in {dirs} directories can be read")),
        Some(first) => findings.add(
            Level::Failure,
            what,
            format!(
                "{} of its entries cannot be read, for one {}; give the user that runs oxen-sync read access",
                unreadable.len(),
                crate::path::printable(first)
            ),
        ),
    }
    dirs
}

fn check_watches(dirs: u64, findings: &mut Findings) {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";
    let limit = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match limit {
        Some(limit) if dirs <= limit => findings.add(
            Level::Ok,
            "inotify watches",
            format!("{dirs} are needed and {limit} allowed"),
        ),
        Some(limit) => findings.add(
            Level::Failure,
            "inotify watches",
            format!(
                "{dirs} are needed and only {limit} allowed; raise it with: sysctl fs.inotify.max_user_watches={}",
                (dirs * 2).max(1_048_576)
            ),
        ),
        None => findings.add(Level::Warning, "inotify watches", format!("{LIMIT} cannot be read")),
    }
}

async fn check_target(folder: &Folder, clients: &mut Clients, env: &Env, findings: &mut Findings) {
    let server = &folder.server;
    let what = format!("{} branch {} at {}", folder.repo, folder.branch, server.url);
    let key = match find_key(server, env) {
        Ok(Some((_, source))) => format!("with the key from {source}"),
        Ok(None) => "without a key".to_owned(),
        Err(error) => return findings.add(Level::Failure, what, error.to_string()),
    };
    let client = match clients.get(server) {
        Ok((client, _)) => client,
        Err(error) => return findings.add(Level::Failure, what, error.to_string()),
    };
    match client.health().await {
        Ok(info) => {
            let version = info
                .version
                .map_or_else(|| "of unknown version".to_owned(), |version| format!("oxen {version}"));
            findings.add(Level::Ok, format!("server {}", server.url), format!("answers, {version}, {key}"));
        }
        Err(error) => {
            return findings.add(Level::Failure, format!("server {}", server.url), error.to_string());
        }
    }
    if server.sends_in_the_clear() {
        let detail = "the key and the data travel unencrypted; use https where others share the network";
        findings.add(Level::Warning, format!("server {}", server.url), detail);
    }
    match client.repo_exists(&folder.repo).await {
        Ok(true) => {}
        Ok(false) if folder.create_repo => {
            return findings.add(Level::Ok, what, "the repository is not there yet and will be made");
        }
        Ok(false) => {
            let detail = "the repository is not there; make it, or set create_repo = true";
            return findings.add(Level::Failure, what, detail);
        }
        Err(error) => return findings.add(Level::Failure, what, error.to_string()),
    }
    let branches = match client.branches(&folder.repo).await {
        Ok(branches) => branches,
        Err(error) => return findings.add(Level::Failure, what, error.to_string()),
    };
    let has = |name: &str| branches.iter().any(|branch| branch.name == name);
    match &folder.create_branch_from {
        _ if has(folder.branch.as_str()) => findings.add(Level::Ok, what, "is there"),
        _ if branches.is_empty() => {
            findings.add(Level::Ok, what, "the repository is empty; the branch will be made");
        }
        Some(from) if has(from.as_str()) => {
            findings.add(
                Level::Ok,
                what,
                format!("the branch is not there yet and will be made from {from}"),
            );
        }
        Some(from) => findings.add(Level::Failure, what, format!("neither the branch nor {from} is there")),
        None => {
            let detail = "the branch is not there; make it, or set create_branch_from = \"main\"";
            findings.add(Level::Failure, what, detail);
        }
    }
}
