//! Lets go removals that the brake holds.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State as Shared;

use super::{Answer, Body, Controls};
use crate::config::Folder;
use crate::control::api::{Done, FolderDone, Folders};
use crate::state::{State, StateError};
use crate::status::name_of;

/// After so long it is answered, whether or not some are held still: to write it down for very many files takes longer than
/// an answer may. Whoever asks asks again until none are left.
const TURN_MAX: Duration = Duration::from_secs(3);

pub(super) async fn answer(Shared(controls): Shared<Controls>, body: Body<Folders>) -> Answer<Done> {
    let Json(Folders { folders }) = body?;
    let folders = controls.chosen(&folders)?;
    let done = controls.blocking(move |controls| {
        let done = release_in(&controls.state, &folders, TURN_MAX)?;
        for (folder, released) in folders.iter().zip(&done.folders).filter(|(_, done)| done.files > 0) {
            tracing::info!(folder = %folder.id(), files = released.files, "removals are let go by hand");
            controls.view.refresh(&folder.id(), &controls.state)?;
        }
        Ok(done)
    });
    done.await.map(Json)
}

/// Lets go what is held of the folders, for so long and a step longer. Counts how many of each: none of any once nothing
/// is held.
pub(super) fn release_in(state: &State, folders: &[Folder], time: Duration) -> Result<Done, StateError> {
    let keys: Vec<_> = folders.iter().map(|folder| folder.id().key()).collect();
    let released = release_for(state, &keys, time)?;
    let mut done = Done::default();
    for (folder, files) in folders.iter().zip(released) {
        done.folders.push(FolderDone { folder: name_of(folder), files, until: None });
    }
    Ok(done)
}

fn release_for(state: &State, keys: &[String], time: Duration) -> Result<Vec<u64>, StateError> {
    let start = Instant::now();
    let mut released = vec![0; keys.len()];
    for (key, files) in keys.iter().zip(&mut released) {
        let Some(folder) = state.reader()?.folder(key)? else { continue };
        loop {
            let more = state.release_some_held(folder)?;
            *files += more;
            if more == 0 {
                break;
            }
            if start.elapsed() >= time {
                return Ok(released);
            }
        }
    }
    Ok(released)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Digests, Signature};
    use crate::path::LocalPath;
    use crate::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, PlaceKey, Presence};
    use std::path::Path;

    fn hold(state: &State, id: i64, key: &str, names: &[&str]) {
        let folder = state.folder(key).unwrap();
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let kind =
            ChangeKind::Put { signature, digests: Digests { sha256: Some([1; 32]), xxh3: 1 }, racy: false };
        let paths: Vec<_> = names.iter().map(|name| LocalPath::new(Path::new(name)).unwrap()).collect();
        let changes: Vec<_> = paths
            .iter()
            .map(|path| Change { path: path.clone(), place: PlaceKey::default(), kind })
            .collect();
        let batch = BatchRow {
            id,
            phase: Phase::Staging,
            transport: BatchTransport::Put,
            workspace: String::new(),
            message: String::new(),
        };
        state.open_batch(folder, &batch, &changes, 0).unwrap();
        state.close_batch(folder, id, Some("c"), &changes, 0).unwrap();
        state.mark_gone(folder, &paths, Presence::Waiting).unwrap();
        state.hold_removals(folder, None, 1).unwrap();
    }

    #[test]
    fn who_asks_again_until_none_are_let_go_has_let_all_go() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        hold(&state, 1, "a", &["x", "y"]);
        hold(&state, 2, "b", &["x"]);
        let keys = ["none", "a", "b"].map(str::to_owned);
        let turns = [(); 3].map(|()| release_for(&state, &keys, Duration::ZERO).unwrap());
        assert_eq!(turns, [[0, 2, 0], [0, 0, 1], [0, 0, 0]]);
    }
}
