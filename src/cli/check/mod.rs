//! Whether a config would work here: its folders, its servers, and what the kernel allows.

mod folders;
mod kernel;
mod machine;
mod page;
mod server;

use std::path::Path;

use rustix::fs::{Access, AtFlags};
use serde::Serialize;

use self::folders::check_folders;
use self::server::{check_server, check_target};
use super::Exit;
use super::out::{print, print_json, refuse_config};
use crate::config::{self, Config, Env, Server};
use crate::oxen::Client;
use crate::path::printable;
use crate::service::Clients;
use crate::state::is_open_to_others;

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

/// Checks what a run needs; with `all`, everything that may matter.
pub(super) async fn run(file: &Path, json: bool, all: bool, env: Env) -> Exit {
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
    let files = folders.iter().map(|found| found.files).sum();
    folders.into_iter().flat_map(|found| found.findings).for_each(|found| findings.push(found));
    page::check_page(&config, &mut findings).await;
    kernel::check_limits(dirs, config.folders.len() as u64, &mut findings);
    if all {
        machine::check_machine(file, &mut findings);
        machine::check_filesystems(&config, &mut findings).await;
        machine::check_state(&config, files, &mut findings);
        machine::check_service(&config, &mut findings).await;
    }
    let mut clients = Clients::new(env.clone());
    let mut servers: Vec<(&Server, Option<Client>)> = Vec::new();
    for folder in &config.folders {
        let known = servers.iter().find(|(server, _)| **server == *folder.server);
        let client = match known {
            Some((_, client)) => client.clone(),
            None => {
                let client = check_server(&folder.server, &mut clients, &env, &mut findings).await;
                if let Some(client) = client.as_ref().filter(|_| all) {
                    let what = format!("server {}", folder.server.url);
                    machine::check_answers(client, &what, &mut findings).await;
                }
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
