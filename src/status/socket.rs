//! The Unix socket in the state directory, for the owner alone, and the one for a group: `GET /status` answers the report as
//! JSON.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use rustix::process::Gid;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Report;
use super::limit::Limited;
use crate::config::{Config, Control};
use crate::control::api::Refused;
use crate::control::{Client, ClientError};

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

/// Where a service with this config may listen, in the order in which they are tried.
pub fn paths(config: &Config) -> Vec<PathBuf> {
    let for_group = config.control.as_ref().map(|control| control.socket.clone());
    [path(&config.state_dir)].into_iter().chain(for_group).collect()
}

/// Opens the socket for the owner. One that an earlier life left behind is replaced: who calls this owns the state directory.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(state_dir: &Path) -> io::Result<UnixListener> {
    bind_at(&path(state_dir))
}

/// Opens the socket for the members of a group, beside that for the owner.
///
/// # Errors
/// There is no such group, the socket cannot be made, or it cannot be given to the group.
pub fn bind_for(control: &Control) -> io::Result<UnixListener> {
    let gid = gid_of(&control.group)?;
    let listener = bind_at(&control.socket)?;
    rustix::fs::chown(&control.socket, None, Some(gid))?;
    std::fs::set_permissions(&control.socket, Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn bind_at(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The process's mask lets nobody else in, so there is no moment in which another could connect.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The number of a group of this machine (`group(5)`).
fn gid_of(name: &str) -> io::Result<Gid> {
    let groups = std::fs::read_to_string("/etc/group")?;
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(|gid| gid.parse().ok())).flatten()
    };
    let gid = groups.lines().find_map(of_line);
    gid.map(Gid::from_raw).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no group {name} in /etc/group"))
    })
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
) -> Result<Json<Report>, (StatusCode, Json<Refused>)> {
    let _turn = asked.acquire().await;
    let made = tokio::task::spawn_blocking(move || reporter()).await;
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, Json(Refused { error }));
    Ok(Json(made.map_err(|error| failed(error.to_string()))?.map_err(failed)?))
}

/// Asks a running service for its report; `None` where none is running with this state directory.
///
/// # Errors
/// A service is there and does not answer as it should.
pub async fn fetch(state_dir: &Path) -> Result<Option<Report>, ClientError> {
    match Client::connect(&path(state_dir)).await? {
        Some(client) => client.get("/status").await.map(Some),
        None => Ok(None),
    }
}
