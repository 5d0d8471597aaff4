//! A flush: everything that is in a folder at the call is on the branch when it ends.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use serde::Deserialize;
use tokio::sync::watch;

use super::{Answer, Body, Controls, No};
use crate::config::Folder;
use crate::control::api::{Flushed, FolderFlushed, Folders, Ticket};
use crate::status::{FolderState, name_of};

/// How soon a folder that could not be asked is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a question may wait for the end.
#[derive(Deserialize)]
pub(super) struct Wait {
    #[serde(default)]
    pub(super) wait_s: u64,
}

pub(super) async fn begin(Shared(controls): Shared<Controls>, body: Body<Folders>) -> Answer<Ticket> {
    let Json(Folders { folders }) = body?;
    let folders = controls.chosen(&folders)?;
    let first = Flushed {
        done: folders.is_empty(),
        folders: folders
            .iter()
            .map(|folder| FolderFlushed { folder: name_of(folder), ..FolderFlushed::default() })
            .collect(),
    };
    let (ticket, progress) = controls.flushes.add(first);
    tokio::spawn(async move {
        // Nobody can ask for it any more once it is closed.
        let all = futures_util::future::join_all(
            folders.iter().enumerate().map(|(at, folder)| flush(&controls, folder, at, &progress)),
        );
        tokio::select! { _ = all => {}, () = progress.closed() => {} }
    });
    Ok(Json(Ticket { ticket }))
}

pub(super) async fn ask(
    Shared(controls): Shared<Controls>,
    Path(ticket): Path<u64>,
    Query(wait): Query<Wait>,
) -> Answer<Flushed> {
    let wait = Duration::from_secs(wait.wait_s);
    let found = controls.flushes.get(ticket, wait, |flushed| flushed.done).await;
    found
        .map(Json)
        .ok_or_else(|| No::not_found(format!("there is no flush {ticket}; the service may be another")))
}

async fn flush(controls: &Controls, folder: &Folder, at: usize, progress: &watch::Sender<Flushed>) {
    let ended = wait(controls, folder).await;
    progress.send_modify(|flushed| {
        if let Some(slot) = flushed.folders.get_mut(at) {
            *slot = ended;
        }
        flushed.done = flushed.folders.iter().all(|folder| folder.done);
    });
}

/// When the folder's window opens by the config as it is now, in words.
fn opens_at(controls: &Controls, folder: &Folder) -> String {
    let id = folder.id();
    let config = controls.config();
    let now = config.folders.iter().find(|folder| folder.id() == id);
    let opens = now.and_then(|folder| folder.upload_window.opens_at(&jiff::Zoned::now()));
    opens.map_or_else(String::new, |opens| format!(", which opens {opens}"))
}

async fn wait(controls: &Controls, folder: &Folder) -> FolderFlushed {
    let failed = |failure: String| FolderFlushed {
        folder: name_of(folder),
        done: true,
        failure: Some(failure),
        ..FolderFlushed::default()
    };
    let id = folder.id();
    // A pause between two tries is cut short.
    controls.view.kick(&id);
    loop {
        // What needs a person ends it; everything else passes by itself.
        let (state, why) = controls.view.state_of(&id);
        match state {
            Some(FolderState::Broken | FolderState::Stopped) => {
                return failed(why.unwrap_or_else(|| "the folder cannot be used".to_owned()));
            }
            Some(FolderState::Paused) => {
                return failed("the folder is paused; to go on: oxen-sync resume".to_owned());
            }
            Some(FolderState::OutsideWindow) => {
                let opens = opens_at(controls, folder);
                return failed(format!(
                    "the folder is outside its upload window{opens}; to send sooner: change upload_window in the config"
                ));
            }
            Some(_) => {}
            // The service answers before all of its folders are at work.
            None if controls.config().folders.iter().any(|folder| folder.id() == id) => {}
            None => return failed("the folder is no longer in the config".to_owned()),
        }
        let asked = async {
            match controls.view.asks(&id) {
                Some(asks) => asks.flush().await,
                None => None,
            }
        };
        tokio::select! {
            biased;
            flushed = asked => if flushed.is_some() { break },
            () = controls.view.trouble(&id) => continue,
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    let summed = controls.blocking(move |controls| {
        let reader = controls.reader()?;
        Ok(match reader.folder(&id.key())? {
            Some(key) => reader.summary(key)?,
            None => Default::default(),
        })
    });
    match summed.await {
        Ok(summary) => FolderFlushed {
            folder: name_of(folder),
            done: true,
            failure: None,
            commit: summary.last_commit.map(|commit| commit.commit_id),
            failed: summary.problems.cast_unsigned(),
            held: summary.held.map_or(0, |held| held.files),
        },
        Err(No(_, error)) => failed(error),
    }
}
