//! A comparison of all of a folder with all of its branch.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use tokio::sync::watch;

use super::flush::Wait;
use super::{Answer, Body, Controls, No};
use crate::config::Folder;
use crate::control::api::{Difference, FolderVerified, Folders, Ticket, Verified};
use crate::push::compare::{Compared, compare};
use crate::status::name_of;

/// A comparison that nobody has asked for in so long is given up: it reads every file.
const ASKED_AGAIN_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn begin(Shared(controls): Shared<Controls>, body: Body<Folders>) -> Answer<Ticket> {
    let Json(Folders { folders }) = body?;
    let folders = controls.chosen(&folders)?;
    let first = Verified {
        done: folders.is_empty(),
        folders: folders
            .iter()
            .map(|folder| FolderVerified { folder: name_of(folder), ..Default::default() })
            .collect(),
    };
    let (ticket, progress) = controls.verifications.add(first);
    tokio::spawn(async move {
        // One after the other: each reads with all that the disk gives.
        let all = async {
            for (at, folder) in folders.iter().enumerate() {
                verify(&controls, folder, at, &progress).await;
            }
        };
        let abandoned = async {
            while controls.verifications.asked_for(ticket).is_some_and(|ago| ago < ASKED_AGAIN_MAX) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! { () = all => {}, () = abandoned => {} }
    });
    Ok(Json(Ticket { ticket }))
}

pub(super) async fn ask(
    Shared(controls): Shared<Controls>,
    Path(ticket): Path<u64>,
    Query(wait): Query<Wait>,
) -> Answer<Verified> {
    let wait = Duration::from_secs(wait.wait_s);
    let found = controls.verifications.get(ticket, wait, |verified| verified.done).await;
    found
        .map(Json)
        .ok_or_else(|| No::not_found(format!("there is no comparison {ticket}; the service may be another")))
}

async fn verify(controls: &Controls, folder: &Folder, at: usize, progress: &watch::Sender<Verified>) {
    let set = |verified: FolderVerified| {
        progress.send_modify(|all| {
            if let Some(slot) = all.folders.get_mut(at) {
                *slot = verified;
            }
            all.done = all.folders.iter().all(|folder| folder.done);
        });
    };
    let ended = match controls.view.comparison(&folder.id(), &controls.state) {
        Some(comparison) => {
            let told = compare(&comparison, |compared| set(verified(folder, compared, false))).await;
            told.map_err(|error| error.to_string())
        }
        None => Err("the folder is not at work; oxen-sync status says why".to_owned()),
    };
    set(outcome(folder, ended));
}

/// How a comparison ended, as it is answered.
pub(super) fn outcome(folder: &Folder, ended: Result<Compared, String>) -> FolderVerified {
    match ended {
        Ok(compared) => verified(folder, &compared, true),
        Err(failure) => FolderVerified {
            folder: name_of(folder),
            done: true,
            failure: Some(failure),
            ..FolderVerified::default()
        },
    }
}

/// What was found, as it is answered.
pub(super) fn verified(folder: &Folder, compared: &Compared, done: bool) -> FolderVerified {
    FolderVerified {
        folder: name_of(folder),
        done,
        failure: None,
        commit: compared.commit.clone(),
        files: compared.files,
        bytes: compared.bytes,
        under_way: compared.under_way,
        held_back: compared.held_back,
        kept: compared.kept,
        others: compared.others,
        different: compared.different,
        differences: compared
            .differences
            .iter()
            .map(|found| Difference {
                path: found.path.to_string(),
                kind: found.kind.word().to_owned(),
                reason: found.reason.clone(),
            })
            .collect(),
    }
}
