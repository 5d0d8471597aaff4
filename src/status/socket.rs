//! The Unix socket in the state directory: `GET /status` answers the report as JSON. For its owner alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Report;
use super::limit::Limited;
use crate::path::printable;

/// Reports made at once: each takes a thread that work may need.
const REPORTS_MAX: usize = 4;
const CONNECTIONS_MAX: usize = 32;
/// From connecting to the last byte of the answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(20);

/// Makes a report; may block.
pub type Reporter = Arc<dyn Fn() -> Result<Report, String> + Send + Sync>;

/// The socket's path in a state directory.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("oxen-sync.sock")
}

/// Opens the socket. One that an earlier life left behind is replaced: who calls this owns the state directory.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(state_dir: &Path) -> io::Result<UnixListener> {
    let path = path(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The process's mask and the directory let nobody else in, so there is no moment in which another could connect.
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `cancel`, then removes the socket. `others` answer what else may be asked.
pub async fn serve(listener: UnixListener, reporter: Reporter, others: Router, cancel: CancellationToken) {
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_path_buf));
    let asked = Arc::new(Semaphore::new(REPORTS_MAX));
    let app = Router::new().route("/status", get(status)).with_state((reporter, asked)).merge(others);
    let listener = Limited::new(listener, CONNECTIONS_MAX, CONNECTION_TIME_MAX);
    let served = axum::serve(listener, app).with_graceful_shutdown(async move { cancel.cancelled().await });
    if let Err(error) = served.await {
        tracing::warn!("the status socket failed: {error}");
    }
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
}

async fn status(
    State((reporter, asked)): State<(Reporter, Arc<Semaphore>)>,
) -> Result<Json<Report>, (StatusCode, String)> {
    let _turn = asked.acquire().await;
    let made = tokio::task::spawn_blocking(move || reporter()).await;
    let failed = |reason: String| (StatusCode::INTERNAL_SERVER_ERROR, reason);
    Ok(Json(made.map_err(|error| failed(error.to_string()))?.map_err(failed)?))
}

/// Who asks a running service; `None` where none is running.
///
/// # Errors
/// A service is there and does not let us in.
pub async fn connect(state_dir: &Path) -> Result<Option<reqwest::Client>, String> {
    let path = path(state_dir);
    match tokio::net::UnixStream::connect(&path).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(format!(
                "cannot ask the service at {}: {error}; ask as root, or as the user it runs as",
                printable(&path)
            ));
        }
        Err(error) => return Err(format!("cannot ask the service at {}: {error}", printable(&path))),
    }
    let failed =
        |error: reqwest::Error| format!("the service at {} does not answer: {error}", printable(&path));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .unix_socket(path.clone())
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .map_err(failed)?;
    Ok(Some(client))
}

/// Asks a running service for its report; `None` where none is running.
///
/// # Errors
/// A service is there and does not answer as it should.
pub async fn fetch(state_dir: &Path) -> Result<Option<Report>, String> {
    let Some(client) = connect(state_dir).await? else { return Ok(None) };
    let path = path(state_dir);
    let failed =
        |error: reqwest::Error| format!("the service at {} does not answer: {error}", printable(&path));
    let answer = client.get("http://localhost/status").send().await.map_err(failed)?;
    if !answer.status().is_success() {
        let reason = answer.text().await.map_err(failed)?;
        return Err(format!("the service at {} cannot report: {reason}", printable(&path)));
    }
    answer.json().await.map(Some).map_err(failed)
}
