//! What a running service can be told over its socket: for its owner alone, as the status is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::clients;
use super::folders::View;
use crate::path::printable;
use crate::state::{Reader, State, StateError};
use crate::status::socket;

/// Where removals are let go: takes the keys of folders, answers how many of each. Whoever asks asks again until these
/// are none: to write it down for very many files takes longer than an answer may.
const RELEASE: &str = "/release";

/// After so long it is answered, whether or not some are held still.
const TURN_MAX: Duration = Duration::from_secs(3);
/// The longest that is waited for an answer. The socket waits no longer for a client either.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);

/// Why held removals cannot be let go.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The service that runs does not do it.
    #[error("{0}")]
    Service(String),
}

/// Lets go what is held of the folders with these keys, whether or not a service runs with the state in `state_dir`.
/// Returns how many removals of each, and whether a service takes care of them at once.
///
/// # Errors
/// The state cannot be used, or the service does not answer as it should.
pub async fn release(state_dir: &Path, keys: &[String]) -> Result<(Vec<u64>, bool), ReleaseError> {
    if let Some(client) = socket::connect(state_dir).await.map_err(ReleaseError::Service)? {
        let mut released = vec![0; keys.len()];
        loop {
            let more = tell(&client, state_dir, keys).await.map_err(ReleaseError::Service)?;
            if more.iter().all(|files| *files == 0) {
                return Ok((released, true));
            }
            released.iter_mut().zip(more).for_each(|(files, more)| *files += more);
        }
    }
    // Asking makes no state where there is none.
    if Reader::open(state_dir)?.is_none() {
        return Ok((vec![0; keys.len()], false));
    }
    let state = State::open_as_it_is(state_dir, &clients::machine())?;
    let released = release_for(&state, keys, Duration::MAX)?;
    tell_log(keys, &released);
    state.checkpoint()?;
    Ok((released, false))
}

async fn tell(client: &reqwest::Client, state_dir: &Path, keys: &[String]) -> Result<Vec<u64>, String> {
    let path = socket::path(state_dir);
    let failed =
        |error: reqwest::Error| format!("the service at {} does not answer: {error}", printable(&path));
    let request = client.post(format!("http://localhost{RELEASE}")).json(keys).timeout(ANSWER_WAIT_MAX);
    let answer = request.send().await.map_err(failed)?;
    match answer.status() {
        StatusCode::OK => answer.json().await.map_err(failed),
        StatusCode::NOT_FOUND => Err(format!(
            "the service at {} is of a version that knows no brake; restart it",
            printable(&path)
        )),
        _ => {
            let reason = answer.text().await.map_err(failed)?;
            Err(format!("the service at {} cannot let removals go: {reason}", printable(&path)))
        }
    }
}

/// Answers the commands on the socket.
pub(super) fn commands(state: State, view: View) -> Router {
    Router::new().route(RELEASE, post(answer)).with_state(Arc::new((state, view)))
}

async fn answer(
    Shared(service): Shared<Arc<(State, View)>>,
    Json(keys): Json<Vec<String>>,
) -> Result<Json<Vec<u64>>, (StatusCode, String)> {
    let released = tokio::task::spawn_blocking(move || {
        let (state, view) = &*service;
        let released = release_for(state, &keys, TURN_MAX)?;
        tell_log(&keys, &released);
        for (key, _) in keys.iter().zip(&released).filter(|(_, files)| **files > 0) {
            view.refresh(key, state)?;
        }
        Ok::<_, StateError>(released)
    });
    let failed = |reason: String| (StatusCode::INTERNAL_SERVER_ERROR, reason);
    let released = released.await.map_err(|error| failed(error.to_string()))?;
    released.map(Json).map_err(|error| failed(error.to_string()))
}

/// Lets go what is held of the folders, for so long and a step longer. Returns how many of each: none of any once nothing
/// is held.
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

fn tell_log(keys: &[String], released: &[u64]) {
    for (key, files) in keys.iter().zip(released).filter(|(_, files)| **files > 0) {
        tracing::info!(folder = %key, files, "removals are let go by hand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Digests, Signature};
    use crate::path::LocalPath;
    use crate::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, PlaceKey, Presence};

    fn hold(state: &State, id: i64, key: &str, names: &[&str]) {
        let folder = state.folder(key).unwrap();
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let kind = ChangeKind::Put { signature, digests: Digests { sha256: [1; 32], xxh3: 1 }, racy: false };
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
