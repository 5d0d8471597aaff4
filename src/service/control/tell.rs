//! What is asked about single paths and about the past.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Answer, Controls, No};
use crate::config::{Config, Folder};
use crate::content::{EntryKind, OpenError, RootDir};
use crate::folder::{Filter, Runs};
use crate::path::{LocalPath, Place, path_of_text, printable};
use crate::state::{PlaceKey, Reader, StateError};
use crate::status::{self, Facts, FailedReport, Here, LivePath, LogReport, WhyReport};

/// The longest that a folder may take to say what stands at a path.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
pub(super) struct Past {
    folder: Option<String>,
    #[serde(default)]
    since_ms: i64,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct Of {
    path: String,
}

pub(super) async fn log(
    Shared(controls): Shared<Controls>,
    query: Result<Query<Past>, QueryRejection>,
) -> Answer<LogReport> {
    let Query(Past { folder, since_ms, limit }) = query?;
    let folders = controls.chosen(folder.as_slice())?;
    let limit = limit.unwrap_or(status::LOG_MAX);
    let log = controls
        .blocking(move |controls| Ok(status::log(&folders, Some(&controls.reader()?), since_ms, limit)?));
    log.await.map(Json)
}

pub(super) async fn failed(
    Shared(controls): Shared<Controls>,
    query: Result<Query<Past>, QueryRejection>,
) -> Answer<FailedReport> {
    let Query(Past { folder, .. }) = query?;
    let folders = controls.chosen(folder.as_slice())?;
    let failed = controls.blocking(move |controls| Ok(status::failed(&folders, Some(&controls.reader()?))?));
    failed.await.map(Json)
}

pub(super) async fn why(
    Shared(controls): Shared<Controls>,
    query: Result<Query<Of>, QueryRejection>,
) -> Answer<WhyReport> {
    let Query(Of { path }) = query?;
    let path = path_of_text(&path);
    let config = controls.config();
    let mut report = begun(&config, &path);
    for (folder, local) in lies_in(&config, &path) {
        let (state, why) = controls.view.state_of(&folder.id());
        let is_behind = controls.view.is_behind(&folder.id());
        let live = match controls.view.asks(&folder.id()) {
            Some(asks) => {
                let (intake, push) = asks.stage_of(&local).await;
                LivePath { folder: state.unwrap_or_default(), why, intake, push, is_behind }
            }
            None => LivePath { folder: state.unwrap_or_default(), why, intake: None, push: None, is_behind },
        };
        let reader = controls.reader()?;
        let facts = facts(&folder, &local, Some(reader), Some(live)).await?;
        report.folders.push(status::why(&facts));
    }
    Ok(Json(report))
}

impl From<LookError> for No {
    fn from(error: LookError) -> Self {
        Self(axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// A report on a path that says nothing yet but where it does not lie.
pub(super) fn begun(config: &Config, path: &std::path::Path) -> WhyReport {
    let next = lies_in(config, path).is_empty().then(|| {
        format!(
            "it lies in no folder of {}; to add one: oxen-sync add FOLDER --repo NAMESPACE/NAME",
            printable(&config.file)
        )
    });
    WhyReport { path: printable(path), folders: Vec::new(), next }
}

/// The folders that a path lies in, and where.
pub(super) fn lies_in(config: &Config, path: &std::path::Path) -> Vec<(Folder, LocalPath)> {
    let local = |folder: &Folder| LocalPath::below(&folder.path, path);
    config.folders.iter().filter_map(|folder| Some((folder.clone(), local(folder)?))).collect()
}

/// Why nothing can be said of a path.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A step inside failed.
    #[error("an internal step failed: {0}")]
    Inside(String),
}

/// All that is known of a path of a folder. A folder that does not answer is not waited for.
pub(super) async fn facts(
    folder: &Folder,
    local: &LocalPath,
    reader: Option<Reader>,
    live: Option<LivePath>,
) -> Result<Facts, LookError> {
    let looked = {
        let (folder, local) = (folder.clone(), local.clone());
        tokio::task::spawn_blocking(move || look(&folder, &local))
    };
    let (here, left_out) = match timeout(LOOK_WAIT_MAX, looked).await {
        Ok(Ok(looked)) => looked,
        Ok(Err(error)) => return Err(LookError::Inside(error.to_string())),
        Err(_) => (Here::Unknown("the folder does not answer".to_owned()), None),
    };
    let (folder, local) = (folder.clone(), local.clone());
    let known = tokio::task::spawn_blocking(move || {
        let mut facts = Facts {
            folder: status::name_of(&folder),
            on_branch: own_place(&folder, &here).path_of(&local).map(|path| printable(path.as_str())),
            here,
            left_out,
            writers: Vec::new(),
            row: None,
            taken_off: None,
            after_push: folder.after_push.clone(),
            now_ms: jiff::Timestamp::now().as_millisecond(),
            problem: None,
            batch: None,
            retry: None,
            pause: None,
            unfinished_run: None,
            window_opens: folder.upload_window.opens_at(&jiff::Zoned::now()),
            below: Default::default(),
            quiet: folder.settle.quiet,
            live,
        };
        let Some(reader) = reader else { return Ok(facts) };
        let Some(key) = reader.folder(&folder.id().key())? else { return Ok(facts) };
        facts.row = reader.file(key, &local)?;
        if let Some(row) = &facts.row {
            let place = match row.place {
                own if own == PlaceKey::default() => Some(Place::in_dir(folder.remote_dir.clone())),
                other => reader.place(other)?,
            };
            if let Some(place) = place {
                facts.on_branch = place.path_of(&local).map(|path| printable(path.as_str()));
            }
        }
        if let Some(signature) = facts.row.as_ref().and_then(|row| row.known.signature) {
            facts.taken_off = reader.taken_off(key, &local, &signature)?;
        }
        facts.unfinished_run = unfinished_run(&folder, &local, &facts, |marker| {
            Ok(reader.file(key, marker)?.is_some_and(|row| row.is_here()))
        })?;
        facts.problem = reader.problem(key, &local)?;
        facts.batch = reader.batch_of(key, &local)?;
        facts.retry = reader.retry(key)?;
        facts.pause = reader.pause(key)?;
        if facts.here == Here::Dir {
            facts.below = reader.below(key, &local)?;
        }
        Ok::<_, StateError>(facts)
    });
    Ok(known.await.map_err(|error| LookError::Inside(error.to_string()))??)
}

/// The marker that a file waits for. One that is on its way finishes its run too: the file is then on its way itself.
fn unfinished_run(
    folder: &Folder,
    local: &LocalPath,
    facts: &Facts,
    is_pushed: impl Fn(&LocalPath) -> Result<bool, StateError>,
) -> Result<Option<String>, StateError> {
    let (Some(marker), Here::File(signature)) = (&folder.marker, &facts.here) else { return Ok(None) };
    let is_known = facts.row.as_ref().is_some_and(|row| row.known.signature == Some(*signature));
    let waits = !is_known && Runs::new(marker).holds_back(local, is_pushed)?;
    Ok(waits.then(|| marker.clone()))
}

/// Where a new file would stand.
fn own_place(folder: &Folder, here: &Here) -> Place {
    match here {
        Here::File(signature) => folder.layout.place_at(signature.mtime_ns, &jiff::tz::TimeZone::system()),
        _ => Place::in_dir(folder.remote_dir.clone()),
    }
}

/// What stands at a path, and what leaves it out.
fn look(folder: &Folder, local: &LocalPath) -> (Here, Option<crate::folder::LeftOut>) {
    let root = match RootDir::open(&folder.path) {
        Ok(root) => root,
        Err(error) => return (Here::Unknown(format!("the folder cannot be opened: {error}")), None),
    };
    let here = match root.look(local) {
        Ok(EntryKind::File(signature)) => Here::File(signature),
        Ok(EntryKind::Dir { .. }) => Here::Dir,
        Ok(EntryKind::Symlink) | Err(OpenError::Symlink) => {
            Here::NotStored("a symbolic link, or lies behind one")
        }
        Ok(EntryKind::Special) => Here::NotStored("a device, a pipe or a socket"),
        Ok(EntryKind::Mount) | Err(OpenError::Mounted) => {
            Here::NotStored("on another filesystem that is mounted inside the folder")
        }
        Ok(EntryKind::Unknown) => Here::Unknown("the kernel does not say".to_owned()),
        Err(OpenError::Gone | OpenError::NotAFile) => Here::Gone,
        Err(error @ OpenError::Io(_)) => Here::Unknown(error.to_string()),
    };
    let left_out = match Filter::of_folder(&folder.exclude, &folder.include, &root) {
        Ok(filter) => filter.left_out(local, here == Here::Dir),
        Err(error) => {
            let reason = format!("the folder's .oxenignore cannot be used: {error}");
            return (Here::Unknown(reason), None);
        }
    };
    (here, left_out)
}
