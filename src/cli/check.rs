use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags};
use serde::Serialize;

use super::Exit;
use super::out::{print, print_json, refuse_config};
use crate::blocking::joined;
use crate::config::{self, Config, Env, Folder, KeySource, Server, find_key};
use crate::content::{Calls, EntryKind, Mounts, OpenError, RootDir};
use crate::folder::Filter;
use crate::oxen::Client;
use crate::path::{LocalPath, printable};
use crate::service::Clients;
use crate::state::is_open_to_others;

/// Whoever waits in front of a terminal waits no longer for a folder's answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

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
        self.push(Finding { level, what: what.into(), detail: detail.into() });
    }

    fn push(&mut self, finding: Finding) {
        self.ok &= finding.level != Level::Failure;
        self.findings.push(finding);
    }
}

pub(super) async fn run(file: &Path, json: bool, env: Env) -> Exit {
    let mut findings = Findings { ok: true, findings: Vec::new() };
    let config = match config::load(file, &env) {
        Ok(config) => config,
        Err(error) => return refuse_config(&error, json),
    };
    findings.add(Level::Ok, "config", format!("{} is right", printable(file)));
    let folders = check_folders(&config).await;
    let real_paths: Vec<_> = folders.iter().filter_map(|found| found.real_path.as_deref()).collect();
    check_state_dir(&config, &real_paths, &mut findings);
    let dirs = folders.iter().map(|found| found.dirs).sum();
    folders.into_iter().flat_map(|found| found.findings).for_each(|found| findings.push(found));
    check_watches(dirs, &mut findings);
    let mut clients = Clients::new(env.clone());
    let mut servers: Vec<(&Server, Option<Client>)> = Vec::new();
    for folder in &config.folders {
        let known = servers.iter().find(|(server, _)| **server == *folder.server);
        let client = match known {
            Some((_, client)) => client.clone(),
            None => {
                let client = check_server(&folder.server, &mut clients, &env, &mut findings).await;
                servers.push((&folder.server, client.clone()));
                client
            }
        };
        // A server that does not answer was told once.
        if let Some(client) = client {
            check_target(folder, &client, &mut findings).await;
        }
    }
    let printed = if json {
        print_json(&findings)
    } else {
        let line = |finding: &Finding| {
            let mark = match finding.level {
                Level::Ok => "ok      ",
                Level::Warning => "warning ",
                Level::Failure => "FAILED  ",
            };
            format!("{mark}{}: {}\n", finding.what, finding.detail)
        };
        print(&findings.findings.iter().map(line).collect::<String>())
    };
    match printed {
        Err(exit) => exit,
        Ok(()) if findings.ok => Exit::Success,
        Ok(()) => Exit::Failure,
    }
}

/// Whether this process may do so with the rights that it acts with: capabilities count, as they do when it runs.
fn may(path: &Path, access: Access) -> Result<(), rustix::io::Errno> {
    rustix::fs::accessat(rustix::fs::CWD, path, access, AtFlags::EACCESS)
}

/// Whether the service could write there, without taking it from one that runs.
fn check_state_dir(config: &Config, real_paths: &[&Path], findings: &mut Findings) {
    let (dir, what) = (&config.state_dir, "state directory");
    // Where the directory is missing, the nearest one above must let it be made.
    let existing = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    if let Err(error) = may(existing, Access::WRITE_OK | Access::EXEC_OK) {
        let detail = format!(
            "{} cannot be written: {error}; give it to the user that runs oxen-sync",
            printable(existing)
        );
        return findings.add(Level::Failure, what, detail);
    }
    if dir.metadata().is_ok_and(|found| is_open_to_others(&found)) {
        let detail = format!("others can write to {0}; run: chmod go-w {0}", printable(dir));
        return findings.add(Level::Failure, what, detail);
    }
    let socket = crate::status::socket::path(dir);
    if let Err(error) = std::os::unix::net::SocketAddr::from_pathname(&socket) {
        let detail = format!("{}: {error}; choose a shorter state_dir", printable(&socket));
        return findings.add(Level::Failure, what, detail);
    }
    // Links may lead from one to the other; the words in the config were compared already.
    let real = std::fs::canonicalize(existing).unwrap_or_else(|_| existing.to_path_buf());
    match real_paths.iter().find(|folder| real.starts_with(folder)) {
        Some(folder) => {
            let folder = printable(folder);
            let detail = format!("{} lies in the watched folder {folder}; choose another", printable(dir));
            findings.add(Level::Failure, what, detail);
        }
        None => findings.add(Level::Ok, what, format!("{} can be written", printable(dir))),
    }
}

/// What was found in a folder.
struct FolderFound {
    findings: Vec<Finding>,
    /// Directories that would be watched.
    dirs: u64,
    /// Where it stands, with no link on the way.
    real_path: Option<PathBuf>,
}

/// Looks at all folders side by side, and waits for none that does not answer.
async fn check_folders(config: &Config) -> Vec<FolderFound> {
    let looks: Vec<_> = config
        .folders
        .iter()
        .map(|folder| {
            let calls = Arc::new(Calls::with_limit(ANSWER_MAX));
            let (folder, counted) = (folder.clone(), Arc::clone(&calls));
            (calls, tokio::task::spawn_blocking(move || check_folder(&folder, &counted)))
        })
        .collect();
    let mut all = Vec::with_capacity(looks.len());
    for (folder, (calls, look)) in config.folders.iter().zip(looks) {
        all.push(match calls.answered(look).await {
            Ok(found) => joined(found),
            Err(silence) => {
                let (what, detail) = (what_of(folder), silence.to_string());
                let findings = vec![Finding { level: Level::Failure, what, detail }];
                FolderFound { findings, dirs: 0, real_path: None }
            }
        });
    }
    all
}

fn what_of(folder: &Folder) -> String {
    format!("folder {}", printable(&folder.path))
}

fn check_folder(folder: &Folder, calls: &Arc<Calls>) -> FolderFound {
    let real_path = {
        let _call = calls.begin();
        std::fs::canonicalize(&folder.path).ok()
    };
    let finding = |level, detail| Finding { level, what: what_of(folder), detail };
    let (findings, dirs) = match look_through(folder, calls) {
        Err(reason) => (vec![finding(Level::Failure, reason)], 0),
        Ok(Contents { files, dirs, unreadable, mounts }) => {
            let reading = match unreadable.first() {
                None => finding(Level::Ok, format!("{files} files in {dirs} directories can be read")),
                Some(first) => finding(
                    Level::Failure,
                    format!(
                        "{} of its entries cannot be read, for one {}; give the user that runs oxen-sync read access",
                        unreadable.len(),
                        printable(first.under(&folder.path))
                    ),
                ),
            };
            let passed_by = mounts.first().map(|first| {
                let detail = format!(
                    "{} of its directories have another filesystem mounted over them and are passed by, for one {}; \
                     add a folder of its own to sync it",
                    mounts.len(),
                    printable(first.under(&folder.path))
                );
                finding(Level::Warning, detail)
            });
            ([reading].into_iter().chain(passed_by).collect(), dirs)
        }
    };
    FolderFound { findings, dirs, real_path }
}

/// What a run would find in a folder.
#[derive(Default)]
struct Contents {
    files: u64,
    dirs: u64,
    unreadable: Vec<LocalPath>,
    mounts: Vec<LocalPath>,
}

/// Tries to read what a run would read of the folder.
fn look_through(folder: &Folder, calls: &Arc<Calls>) -> Result<Contents, String> {
    let root = RootDir::open_counted(&folder.path, calls)
        .map_err(|error| format!("cannot be opened: {}", OpenError::from(error)))?;
    let mounts = Mounts::below(&root);
    root.read_dir(&LocalPath::root(), &mounts).map_err(|error| format!("cannot be listed: {error}"))?;
    let filter = Filter::of_folder(&folder.exclude, &folder.include, &root)
        .map_err(|error| format!("its .oxenignore cannot be used: {error}"))?;
    let mut found = Contents::default();
    let mut stack = vec![LocalPath::root()];
    while let Some(dir) = stack.pop() {
        found.dirs += 1;
        let entries = match root.read_dir(&dir, &mounts) {
            Ok(entries) => entries,
            Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => continue,
            Err(OpenError::Mounted) => {
                found.mounts.push(dir);
                continue;
            }
            Err(OpenError::Io(_)) => {
                found.unreadable.push(dir);
                continue;
            }
        };
        for entry in entries.iter() {
            let path = dir.join(entry.name);
            match entry.kind {
                EntryKind::File(_) if filter.excludes_file(&path) => {}
                EntryKind::File(_) => {
                    found.files += 1;
                    let _call = calls.begin();
                    if may(&path.under(&folder.path), Access::READ_OK).is_err() {
                        found.unreadable.push(path);
                    }
                }
                EntryKind::Dir { .. } | EntryKind::Mount | EntryKind::Unknown
                    if filter.excludes_dir(&path) => {}
                EntryKind::Dir { device } if device == root.id().device => stack.push(path),
                EntryKind::Dir { .. } | EntryKind::Mount => found.mounts.push(path),
                EntryKind::Unknown => found.unreadable.push(path),
                EntryKind::Symlink | EntryKind::Special => {}
            }
        }
    }
    Ok(found)
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

/// Asks a server whether it is there; its client, where it is.
async fn check_server(
    server: &Server,
    clients: &mut Clients,
    env: &Env,
    findings: &mut Findings,
) -> Option<Client> {
    let what = format!("server {}", server.url);
    let key = match find_key(server, env) {
        Ok(Some((_, source))) => {
            warn_of_open_key(&source, &what, findings);
            format!("with the key from {source}")
        }
        Ok(None) => "without a key".to_owned(),
        Err(error) => {
            findings.add(Level::Failure, what, error.to_string());
            return None;
        }
    };
    let client = match clients.get(server) {
        Ok((client, _)) => client,
        Err(error) => {
            findings.add(Level::Failure, what, error.to_string());
            return None;
        }
    };
    match client.health().await {
        Ok(info) => {
            let version = info
                .version
                .map_or_else(|| "of unknown version".to_owned(), |version| format!("oxen {version}"));
            findings.add(Level::Ok, what.clone(), format!("answers, {version}, {key}"));
        }
        Err(error) => {
            findings.add(Level::Failure, what, error.to_string());
            return None;
        }
    }
    if server.sends_in_the_clear() {
        let detail = "allow_http = true: others on the network can read and change the files, and read the key; use \
                      https where others share it";
        findings.add(Level::Warning, what, detail);
    }
    Some(client)
}

/// The Oxen CLI makes its file readable to all.
fn warn_of_open_key(source: &KeySource, what: &str, findings: &mut Findings) {
    if let KeySource::OxenCli(path) = source
        && std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o044 != 0)
    {
        let detail = format!(
            "others on this machine can read the API key in {0}; run: chmod 600 {0}",
            printable(path)
        );
        findings.add(Level::Warning, what, detail);
    }
}

async fn check_target(folder: &Folder, client: &Client, findings: &mut Findings) {
    let what = format!("{} branch {} at {}", folder.repo, folder.branch, folder.server.url);
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
    if branches.iter().any(|branch| branch.name != folder.branch.as_str())
        && (folder.remote_dir.is_root() || !folder.remote_dir.dir().is_empty())
    {
        let detail = "the repository has other branches, and the server (oxen 0.65.2) mixes up new directories of one \
                      path on different branches; give each rig a remote_dir of one segment of its own, or a \
                      repository of its own";
        findings.add(Level::Warning, what.clone(), detail);
    }
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
