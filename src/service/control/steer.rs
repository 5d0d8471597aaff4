//! Pausing, resuming, looking at everything anew, trying again.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::{Answer, Body, Controls, No};
use crate::config::{Config, Folder};
use crate::control::api::{Done, FolderDone, Folders, Paths, Pausing};
use crate::folder::Hint;
use crate::path::{LocalPath, path_of_text, printable};
use crate::state::{Pause, State, StateError};
use crate::status::name_of;

pub(super) async fn pause(Shared(controls): Shared<Controls>, body: Body<Pausing>) -> Answer<Done> {
    let Json(Pausing { folders, for_s }) = body?;
    let pause = Pause { until_ms: for_s.map(|s| later(Duration::from_secs(s))) };
    set_pause(controls, &folders, Some(pause)).await
}

pub(super) async fn resume(Shared(controls): Shared<Controls>, body: Body<Folders>) -> Answer<Done> {
    let Json(Folders { folders }) = body?;
    set_pause(controls, &folders, None).await
}

/// The wall clock after so long, in milliseconds since the epoch.
pub(super) fn later(time: Duration) -> i64 {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_millisecond().saturating_add(ms)
}

async fn set_pause(controls: Controls, folders: &[String], pause: Option<Pause>) -> Answer<Done> {
    let folders = controls.chosen(folders)?;
    let done = controls.blocking(move |controls| {
        let done = pause_in(&controls.state, &folders, pause)?;
        for folder in &folders {
            controls.view.set_paused(&folder.id(), pause.is_some());
            match pause {
                Some(_) => tracing::info!(folder = %folder.id(), "paused by hand"),
                None => tracing::info!(folder = %folder.id(), "resumed by hand"),
            }
        }
        Ok(done)
    });
    done.await.map(Json)
}

/// Writes down that folders are paused, or are not any more.
pub(super) fn pause_in(state: &State, folders: &[Folder], pause: Option<Pause>) -> Result<Done, StateError> {
    let mut done = Done::default();
    for folder in folders {
        state.set_pause(state.folder(&folder.id().key())?, pause)?;
        let until = pause.and_then(|pause| pause.until_ms).map(crate::status::time);
        done.folders.push(FolderDone { folder: name_of(folder), files: 0, until });
    }
    Ok(done)
}

pub(super) async fn rescan(Shared(controls): Shared<Controls>, body: Body<Folders>) -> Answer<Done> {
    let Json(Folders { folders }) = body?;
    let mut done = Done::default();
    for folder in controls.chosen(&folders)? {
        controls.view.hint(&folder.id(), [Hint::Tree(LocalPath::root())]);
        controls.view.kick(&folder.id());
        done.folders.push(FolderDone { folder: name_of(&folder), ..FolderDone::default() });
    }
    Ok(Json(done))
}

/// Takes the config as it is now, and answers once that is done.
pub(super) async fn reload(Shared(controls): Shared<Controls>) -> Answer<Done> {
    let (done, is_done) = oneshot::channel();
    let gone = || No(StatusCode::SERVICE_UNAVAILABLE, "the service is being stopped".to_owned());
    controls.reloads.send(done).await.map_err(|_| gone())?;
    match is_done.await.map_err(|_| gone())? {
        Ok(()) => Ok(Json(Done::default())),
        Err(problems) => Err(No(StatusCode::CONFLICT, format!("the config is refused:\n{problems}"))),
    }
}

pub(super) async fn retry(Shared(controls): Shared<Controls>, body: Body<Paths>) -> Answer<Done> {
    let Json(Paths { paths }) = body?;
    let done = controls.blocking(move |controls| {
        let mut done = Done::default();
        for (folder, starts) in starts_of(&controls.config(), &paths).map_err(No::not_found)? {
            let (files, paths) = retry_in(&controls.state, &folder, &starts)?;
            controls.view.hint(&folder.id(), paths.into_iter().map(Hint::Path));
            controls.view.kick(&folder.id());
            done.folders.push(FolderDone { folder: name_of(&folder), files, until: None });
        }
        Ok(done)
    });
    done.await.map(Json)
}

/// Has what is wrong with files at and below `starts` be forgotten. Returns how many there are, and their paths.
pub(super) fn retry_in(
    state: &State,
    folder: &Folder,
    starts: &[LocalPath],
) -> Result<(u64, Vec<LocalPath>), StateError> {
    let paths = state.retry_problems(state.folder(&folder.id().key())?, starts)?;
    Ok((paths.len() as u64, paths))
}

/// Which folders the paths lie in, and where; all of all folders where none is named.
pub(super) fn starts_of(config: &Config, paths: &[String]) -> Result<Vec<(Folder, Vec<LocalPath>)>, String> {
    if paths.is_empty() {
        return Ok(config.folders.iter().map(|folder| (folder.clone(), vec![LocalPath::root()])).collect());
    }
    let mut starts: Vec<_> = config.folders.iter().map(|folder| (folder.clone(), Vec::new())).collect();
    for path in paths.iter().map(|text| path_of_text(text)) {
        let mut is_known = false;
        for (folder, starts) in &mut starts {
            if let Some(local) = LocalPath::below(&folder.path, &path) {
                starts.push(local);
                is_known = true;
            }
        }
        if !is_known {
            return Err(format!("{} lies in no folder of {}", printable(&path), printable(&config.file)));
        }
    }
    starts.retain(|(_, starts)| !starts.is_empty());
    Ok(starts)
}
