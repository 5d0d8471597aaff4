//! Waits until everything that is in a folder at the call is on the branch.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Exit;
use super::out::{fail, print, print_json};
use super::reach::{Reached, fail_client, folders_of, reach};
use crate::config::Env;
use crate::control::Client;
use crate::control::api::{Flushed, FolderFlushed, Folders, Ticket};
use crate::status::Report;

/// How long one question waits for the end.
const WAIT_S: u64 = 5;
/// How long a service that is being started may take to answer.
const COMES_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn run(
    file: &Path,
    wanted: &[PathBuf],
    limit: Option<Duration>,
    json: bool,
    env: &Env,
) -> Exit {
    let came = Instant::now();
    let reached = loop {
        match reach(file, env, json).await {
            // One that was just started answers in a moment.
            Ok(Reached::Nothing(_)) if came.elapsed() < COMES_WITHIN => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            reached => break reached,
        }
    };
    let client = match reached {
        Ok(Reached::Service(client)) => client,
        Ok(Reached::Nothing(_)) => {
            return fail(&"no service is running; oxen-sync push does the same without one", json);
        }
        Err(exit) => return exit,
    };
    let ticket = match client.post::<Ticket>("/flush", &Folders { folders: folders_of(wanted) }).await {
        Ok(Ticket { ticket }) => ticket,
        Err(error) => return fail_client(&error, json),
    };
    let (started, mut told) = (Instant::now(), String::new());
    let flushed = loop {
        let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        let wait_s = left.map_or(WAIT_S, |left| left.as_secs().min(WAIT_S));
        let flushed = match client.get::<Flushed>(&format!("/flush/{ticket}?wait_s={wait_s}")).await {
            Ok(flushed) => flushed,
            Err(error) => return fail_client(&error, json),
        };
        if flushed.done || left.is_some_and(|left| left < Duration::from_secs(1)) {
            break flushed;
        }
        tell_waiting(&client, &flushed, &mut told).await;
    };
    let is_whole = flushed.folders.iter().all(FolderFlushed::is_whole);
    let printed = if json { print_json(&flushed) } else { print(&text(&flushed)) };
    printed.err().unwrap_or(if is_whole { Exit::Success } else { Exit::Failure })
}

/// Says what is waited for, once for each reason.
async fn tell_waiting(client: &Client, flushed: &Flushed, told: &mut String) {
    let Ok(report) = client.get::<Report>("/status").await else { return };
    let waits = |path: &str| flushed.folders.iter().any(|folder| !folder.done && folder.folder.path == path);
    let mut text = String::new();
    for folder in report.folders.iter().filter(|folder| waits(&folder.path)) {
        let why = folder.why.as_deref().or(folder.retry.as_ref().map(|retry| retry.reason.as_str()));
        let busy = folder.busy_paths.first().map(|path| format!("{path} is being written"));
        let why = why.map(str::to_owned).or(busy);
        if let Some(why) = why {
            let _ = writeln!(text, "{}: waiting, {why}", folder.path);
        }
    }
    if !text.is_empty() && text != *told {
        eprint!("{text}");
        *told = text;
    }
}

fn text(flushed: &Flushed) -> String {
    let mut out = String::new();
    for folder in &flushed.folders {
        let FolderFlushed { folder: name, done, failure, commit, failed, held } = folder;
        let _ = match (done, failure) {
            (false, _) => writeln!(out, "{name}: NOT everything is on the branch yet; see oxen-sync status"),
            (true, Some(failure)) => writeln!(out, "{name}: NOT everything is on the branch: {failure}"),
            (true, None) if folder.is_whole() => match commit {
                Some(commit) => writeln!(out, "{name}: everything is on the branch, at commit {commit}"),
                None => writeln!(out, "{name}: there is nothing to push"),
            },
            (true, None) if *failed > 0 => {
                writeln!(
                    out,
                    "{name}: NOT everything is on the branch: {failed} failed; see oxen-sync failed"
                )
            }
            (true, None) => {
                writeln!(
                    out,
                    "{name}: everything is on the branch, and {held} removals are held; see oxen-sync status"
                )
            }
        };
    }
    if out.is_empty() { "the config has no folder\n".to_owned() } else { out }
}
