//! Answers what a running service is asked and told over its socket: see [`crate::control`].

mod flush;
mod offline;
mod release;
mod steer;
mod tell;
mod tickets;
mod verify;

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};

use self::tickets::Tickets;
use super::folders::View;
use crate::config::{Config, Folder};
use crate::control::api::{Flushed, Refused, Verified};
use crate::state::{Reader, State, StateError};

pub use offline::{Offline, OfflineError};

/// Someone waits until the config was read anew, for its problems if it has any.
pub(super) type Reload = oneshot::Sender<Result<(), String>>;

/// What the answers are made from.
#[derive(Debug, Clone)]
pub(super) struct Controls {
    pub(super) config: Arc<Mutex<Config>>,
    pub(super) state: State,
    pub(super) view: View,
    /// Where the service is asked to read its config anew.
    reloads: mpsc::Sender<Reload>,
    flushes: Arc<Tickets<Flushed>>,
    verifications: Arc<Tickets<Verified>>,
}

/// An answer that says no.
#[derive(Debug)]
struct No(StatusCode, String);

impl No {
    fn not_found(error: String) -> Self {
        Self(StatusCode::NOT_FOUND, error)
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, Json(Refused { error: self.1 })).into_response()
    }
}

impl From<StateError> for No {
    fn from(error: StateError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<JsonRejection> for No {
    fn from(error: JsonRejection) -> Self {
        Self(error.status(), error.body_text())
    }
}

impl From<QueryRejection> for No {
    fn from(error: QueryRejection) -> Self {
        Self(error.status(), error.body_text())
    }
}

/// A body of JSON whose mistakes are told as all others are.
type Body<T> = Result<Json<T>, JsonRejection>;
type Answer<T> = Result<Json<T>, No>;

impl Controls {
    pub(super) fn new(
        config: Arc<Mutex<Config>>,
        state: State,
        view: View,
        reloads: mpsc::Sender<Reload>,
    ) -> Self {
        Self { config, state, view, reloads, flushes: Arc::default(), verifications: Arc::default() }
    }

    fn config(&self) -> Config {
        super::run::lock(&self.config).clone()
    }

    /// The folders of these paths; all where none is named.
    fn chosen(&self, paths: &[String]) -> Result<Vec<Folder>, No> {
        self.config().folders_at(paths.iter().map(Path::new)).map_err(No::not_found)
    }

    /// Runs `work` where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, No> + Send + 'static,
    ) -> Result<T, No> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.map_err(|error| No(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
    }

    fn reader(&self) -> Result<Reader, StateError> {
        self.state.reader()
    }
}

/// Answers everything but the status.
pub(super) fn routes(controls: Controls) -> Router {
    Router::new()
        .route("/release", post(release::answer))
        .route("/retry", post(steer::retry))
        .route("/rescan", post(steer::rescan))
        .route("/reload", post(steer::reload))
        .route("/pause", post(steer::pause))
        .route("/resume", post(steer::resume))
        .route("/flush", post(flush::begin))
        .route("/flush/{ticket}", get(flush::ask))
        .route("/verify", post(verify::begin))
        .route("/verify/{ticket}", get(verify::ask))
        .route("/log", get(tell::log))
        .route("/failed", get(tell::failed))
        .route("/why", get(tell::why))
        .with_state(controls)
}
