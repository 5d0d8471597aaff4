use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use super::Exit;
use super::out::{fail, print, print_coloured, print_json, print_json_line};
use super::reach::{Reached, reach};
use super::when::localised;
use crate::config::{Config, Env};
use crate::state::{Reader, StateError};
use crate::status::{self, Report};

/// How often it is looked whether something has changed.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Moves the cursor to the upper left corner and clears what is below (ECMA-48).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Says once what is going on, or again and again.
pub(super) async fn run(file: &Path, json: bool, watch: bool, env: Env) -> Exit {
    let is_terminal = std::io::stdout().is_terminal();
    let mut every = tokio::time::interval(WATCH_EVERY);
    let mut last = None;
    loop {
        every.tick().await;
        let report = match report(file, json, &env).await {
            Ok(report) => report,
            Err(exit) if watch && last.is_some() => {
                // A service that is being started anew answers again in a moment.
                let _ = exit;
                continue;
            }
            Err(exit) => return exit,
        };
        let rows = if is_terminal { super::out::rows() } else { None };
        let printed = match (json, watch) {
            (true, false) => print_json(&report),
            (true, true) if last.as_ref() == Some(&report) => Ok(()),
            (true, true) => print_json_line(&report),
            (false, false) => print_coloured(&localised(&status::render(&report, rows))),
            (false, true) if is_terminal => {
                print_coloured(&format!("{CLEAR}{}", localised(&status::render(&report, rows))))
            }
            (false, true) if last.as_ref() == Some(&report) => Ok(()),
            (false, true) => print(&format!(
                "{}\n",
                anstream::adapter::strip_str(&localised(&status::render(&report, None)))
            )),
        };
        match printed {
            Ok(()) if watch => last = Some(report),
            printed => return printed.err().unwrap_or(Exit::Success),
        }
    }
}

async fn report(file: &Path, json: bool, env: &Env) -> Result<Report, Exit> {
    match reach(file, env, json).await? {
        Reached::Service(client) => client.get("/status").await.map_err(|error| fail(&error, json)),
        Reached::Nothing(config) => without_service(file, &config).map_err(|error| fail(&error, json)),
    }
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
