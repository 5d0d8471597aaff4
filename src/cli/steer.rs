//! The commands that change what a service does: pause, resume, rescan, retry, release.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Exit;
use super::out::{fail, print};
use super::reach::{Reached, choose, fail_client, fail_offline, folders_of, reach, texts_of};
use super::when::localised;
use crate::config::{Env, Folder, OnDelete};
use crate::control::api::{Done, FolderDone, FolderName, Folders, Paths, Pausing};
use crate::service::Offline;

/// Pauses folders, for a time or until they are resumed.
pub(super) async fn pause(file: &Path, wanted: &[PathBuf], time: Option<Duration>, env: &Env) -> Exit {
    let for_s = time.map(|time| time.as_secs().max(1));
    set_pause(file, wanted, Some(for_s), env).await
}

pub(super) async fn resume(file: &Path, wanted: &[PathBuf], env: &Env) -> Exit {
    set_pause(file, wanted, None, env).await
}

async fn set_pause(file: &Path, wanted: &[PathBuf], pause: Option<Option<u64>>, env: &Env) -> Exit {
    let done = match reach(file, env, false).await {
        Ok(Reached::Service(client)) => {
            let folders = folders_of(wanted);
            let asked = match pause {
                Some(for_s) => client.post("/pause", &Pausing { folders, for_s }).await,
                None => client.post("/resume", &Folders { folders }).await,
            };
            asked.map_err(|error| fail_client(&error, false))
        }
        Ok(Reached::Nothing(config)) => match choose(&config, wanted, false) {
            Ok(folders) => {
                Offline(&config).pause(&folders, pause).map_err(|error| fail_offline(&error, false))
            }
            Err(exit) => Err(exit),
        },
        Err(exit) => Err(exit),
    };
    tell(done, |done| {
        let what = match (pause, &done.until) {
            (None, _) => "goes on".to_owned(),
            (Some(_), Some(until)) => format!("paused until {until}; to go on: oxen-sync resume"),
            (Some(_), None) => "paused; to go on: oxen-sync resume".to_owned(),
        };
        Some(what)
    })
}

pub(super) async fn rescan(file: &Path, wanted: &[PathBuf], env: &Env) -> Exit {
    let done = match reach(file, env, false).await {
        Ok(Reached::Service(client)) => {
            let asked = client.post("/rescan", &Folders { folders: folders_of(wanted) }).await;
            asked.map_err(|error| fail_client(&error, false))
        }
        Ok(Reached::Nothing(_)) => Err(fail(
            &"no service is running; it compares everything when it starts, and so does push",
            false,
        )),
        Err(exit) => Err(exit),
    };
    tell(done, |_| Some("is compared with what is known, here and on the branch".to_owned()))
}

pub(super) async fn retry(file: &Path, wanted: &[PathBuf], env: &Env) -> Exit {
    let mut is_running = true;
    let done: Result<Done, Exit> = match reach(file, env, false).await {
        Ok(Reached::Service(client)) => {
            let asked = client.post("/retry", &Paths { paths: texts_of(wanted) }).await;
            asked.map_err(|error| fail_client(&error, false))
        }
        Ok(Reached::Nothing(config)) => {
            is_running = false;
            Offline(&config).retry(&texts_of(wanted)).map_err(|error| fail_offline(&error, false))
        }
        Err(exit) => Err(exit),
    };
    let when = if is_running { "now" } else { "at the next start or push" };
    let nothing = "nothing has failed there\n";
    tell_or(done, nothing, |done| {
        let plural = if done.files == 1 { "" } else { "s" };
        (done.files > 0).then(|| format!("{} file{plural} tried again {when}", done.files))
    })
}

/// Lets held removals go.
pub(super) async fn release(file: &Path, wanted: &[PathBuf], env: &Env) -> Exit {
    let (done, config) = match reach(file, env, false).await {
        Ok(Reached::Service(client)) => {
            let body = Folders { folders: folders_of(wanted) };
            let mut all = Done::default();
            loop {
                match client.post::<Done>("/release", &body).await {
                    Ok(more) if more.folders.iter().all(|folder| folder.files == 0) => break (Ok(all), None),
                    Ok(more) => add(&mut all, more),
                    Err(error) => break (Err(fail_client(&error, false)), None),
                }
            }
        }
        Ok(Reached::Nothing(config)) => {
            let done = match choose(&config, wanted, false) {
                Ok(folders) => {
                    Offline(&config).release(&folders).map_err(|error| fail_offline(&error, false))
                }
                Err(exit) => Err(exit),
            };
            (done, Some(config))
        }
        Err(exit) => (Err(exit), None),
    };
    let mode = |name: &FolderName| {
        let is_it = |folder: &&Folder| crate::status::name_of(folder) == *name;
        config.as_ref().map(|config| config.folders.iter().find(is_it).map(|folder| folder.on_delete))
    };
    tell_or(done, "nothing is held\n", |done| {
        let when = match mode(&done.folder) {
            None => "the service removes them now",
            Some(Some(OnDelete::Keep)) => "the branch keeps them all the same, as on_delete = \"keep\" says",
            Some(_) => "the next start or push removes them",
        };
        let plural = if done.files == 1 { "" } else { "s" };
        (done.files > 0).then(|| format!("{} removal{plural} let go; {when}", done.files))
    })
}

fn add(all: &mut Done, more: Done) {
    for folder in more.folders {
        match all.folders.iter_mut().find(|known| known.folder == folder.folder) {
            Some(known) => known.files += folder.files,
            None => all.folders.push(folder),
        }
    }
}

/// Prints a line for each folder, and nothing where nothing is to be said of it.
fn tell(done: Result<Done, Exit>, line: impl Fn(&FolderDone) -> Option<String>) -> Exit {
    tell_or(done, "the config has no folder\n", line)
}

fn tell_or(done: Result<Done, Exit>, nothing: &str, line: impl Fn(&FolderDone) -> Option<String>) -> Exit {
    let done = match done {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    let mut text = String::new();
    for folder in &done.folders {
        if let Some(line) = line(folder) {
            let _ = writeln!(text, "{}: {line}", folder.folder);
        }
    }
    let text = if text.is_empty() { nothing } else { &text };
    print(&localised(text)).err().unwrap_or(Exit::Success)
}
