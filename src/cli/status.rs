use std::path::Path;

use super::Exit;
use super::out::{fail, print, print_json, refuse_config};
use crate::config::{self, Config, Env};
use crate::state::{Reader, StateError};
use crate::status::{self, Report};

pub(super) async fn run(file: &Path, json: bool, env: Env) -> Exit {
    let report = match config::load(file, &env) {
        Ok(config) => match status::socket::fetch(&config.state_dir).await {
            Ok(None) => without_service(file, &config).map_err(|error| error.to_string()),
            Ok(Some(report)) => Ok(report),
            Err(error) => Err(error),
        },
        // A service goes on with the config from before it was broken.
        Err(broken) => {
            let text = config::read(file).unwrap_or_default();
            let running = match config::state_dir_of(&String::from_utf8_lossy(&text), &env) {
                Some(state_dir) => status::socket::fetch(&state_dir).await.unwrap_or_default(),
                None => None,
            };
            let Some(report) = running else { return refuse_config(&broken, json) };
            Ok(report)
        }
    };
    let printed = match report {
        Ok(report) if json => print_json(&report),
        Ok(report) => print(&status::render(&report)),
        Err(error) => return fail(&error, json),
    };
    printed.err().unwrap_or(Exit::Success)
}

/// What the state says while nothing runs.
fn without_service(file: &Path, config: &Config) -> Result<Report, StateError> {
    let reader = Reader::open(&config.state_dir)?;
    let mut report = Report::without_service(file, &config.folders, reader.as_ref())?;
    report.state_dir = Some(crate::path::printable(&config.state_dir));
    report.has_state = reader.is_some();
    // The config was just read and found right.
    report.config_refused = None;
    Ok(report)
}
