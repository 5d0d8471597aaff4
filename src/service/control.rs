//! What a running service can be told over its socket: for its owner alone, as the status is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::clients;
use super::folders::View;
use crate::path::printable;
use crate::state::{Reader, State, StateError};
use crate::status::socket;

/// Where removals are let go: takes the keys of folders, answers how many of each.
const RELEASE: &str = "/release";

/// The longest that it may take to write down for very many files that they may go.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(10 * 60);

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
        return Ok((tell(&client, state_dir, keys).await.map_err(ReleaseError::Service)?, true));
    }
    // Asking makes no state where there is none.
    if Reader::open(state_dir)?.is_none() {
        return Ok((vec![0; keys.len()], false));
    }
    let state = State::open_as_it_is(state_dir, &clients::machine())?;
    let released = keys.iter().map(|key| release_one(&state, key)).collect::<Result<_, _>>()?;
    state.checkpoint()?;
    Ok((released, false))
}

async fn tell(client: &reqwest::Client, state_dir: &Path, keys: &[String]) -> Result<Vec<u64>, String> {
    let path = socket::path(state_dir);
    let failed =
        |error: reqwest::Error| format!("the service at {} does not answer: {error}", printable(&path));
    let request = client.post(format!("http://localhost{RELEASE}")).json(keys).timeout(RELEASE_WAIT_MAX);
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
        keys.iter()
            .map(|key| {
                let files = release_one(state, key)?;
                if files > 0 {
                    view.refresh(key, state)?;
                }
                Ok(files)
            })
            .collect::<Result<Vec<u64>, StateError>>()
    });
    let failed = |reason: String| (StatusCode::INTERNAL_SERVER_ERROR, reason);
    let released = released.await.map_err(|error| failed(error.to_string()))?;
    released.map(Json).map_err(|error| failed(error.to_string()))
}

fn release_one(state: &State, key: &str) -> Result<u64, StateError> {
    let Some(folder) = state.reader()?.folder(key)? else { return Ok(0) };
    // What waits and is not held is judged by the brake.
    if state.held(folder)?.is_none() {
        return Ok(0);
    }
    let files = state.release_removals(folder, None)?;
    tracing::info!(folder = %key, files, "removals are let go by hand");
    Ok(files)
}
