//! Whom a command asks: the service that runs, or the state that it left.

use std::path::{Path, PathBuf};

use super::Exit;
use super::out::{fail, refuse_config};
use crate::config::{self, Config, Env};
use crate::control::{Client, ClientError};
use crate::path::text_of_path;
use crate::service::OfflineError;
use crate::status::socket;

/// Whom to ask.
pub(super) enum Reached {
    /// The service that runs.
    Service(Client),
    /// No service runs; the config says where the state is.
    Nothing(Box<Config>),
}

/// Finds the service of the config in `file`, whose mistakes keep nobody from asking a service that runs with the one from
/// before.
pub(super) async fn reach(file: &Path, env: &Env, json: bool) -> Result<Reached, Exit> {
    let loaded = config::load(file, env);
    let sockets = match &loaded {
        Ok(config) => socket::paths(config),
        Err(_) => {
            let text = config::read(file).unwrap_or_default();
            let state_dir = config::state_dir_of(&String::from_utf8_lossy(&text), env);
            state_dir.as_deref().map(socket::path).into_iter().collect()
        }
    };
    let mut denied = None;
    for path in sockets {
        match Client::connect(&path).await {
            Ok(Some(client)) => return Ok(Reached::Service(client)),
            Ok(None) => {}
            // The one in the state directory is for the owner alone; there may be another.
            Err(error) => denied = denied.or(Some(error)),
        }
    }
    if let Some(error) = denied {
        return Err(fail(&error, json));
    }
    match loaded {
        Ok(config) => Ok(Reached::Nothing(Box::new(config))),
        Err(error) => Err(refuse_config(&error, json)),
    }
}

/// The paths of a command line as they are asked for: absolute.
pub(super) fn texts_of(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| text_of_path(&absolute(path))).collect()
}

/// Folders of a command line as the config writes them: absolute.
pub(super) fn folders_of(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| absolute(path).to_string_lossy().into_owned()).collect()
}

/// A path without `.` and with a beginning; links stay what they are.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Says that a service did not do it.
pub(super) fn fail_client(error: &ClientError, json: bool) -> Exit {
    let exit = fail(error, json);
    if matches!(error, ClientError::NotFound(_)) { Exit::Usage } else { exit }
}

/// Says that it could not be done in the state.
pub(super) fn fail_offline(error: &OfflineError, json: bool) -> Exit {
    let exit = fail(error, json);
    if matches!(error, OfflineError::Unknown(_)) { Exit::Usage } else { exit }
}

/// The folders of a command line in a config.
pub(super) fn choose(config: &Config, wanted: &[PathBuf], json: bool) -> Result<Vec<config::Folder>, Exit> {
    config.folders_at(wanted.iter().map(PathBuf::as_path)).map_err(|error| {
        fail(&error, json);
        Exit::Usage
    })
}
