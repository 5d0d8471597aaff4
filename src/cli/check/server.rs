use std::os::unix::fs::MetadataExt;

use super::{Findings, Level};
use crate::config::{Env, Folder, KeySource, Server, find_key};
use crate::oxen::Client;
use crate::path::printable;
use crate::service::Clients;

/// Asks a server whether it is there; its client, where it is.
pub(super) async fn check_server(
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

pub(super) async fn check_target(folder: &Folder, client: &Client, findings: &mut Findings) {
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
    let fixed_dir = folder.layout.fixed_dir();
    let has = |name: &str| branches.iter().any(|branch| branch.name == name);
    if branches.iter().any(|branch| branch.name != folder.branch.as_str())
        && (fixed_dir.is_root() || !fixed_dir.dir().is_empty())
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
