use std::path::Path;

use super::Exit;
use crate::config::{self, Env};
use crate::state::Reader;
use crate::status::{self, Report};

pub(super) async fn run(file: &Path, json: bool, env: Env) -> Exit {
    let report = match config::load(file, &env) {
        Ok(config) => match status::socket::fetch(&config.state_dir).await {
            Ok(None) => Reader::open(&config.state_dir)
                .and_then(|reader| Report::without_service(file, &config.folders, reader.as_ref()))
                .map_err(|error| error.to_string()),
            Ok(Some(report)) => Ok(report),
            Err(error) => Err(error),
        },
        // A service goes on with the config from before it was broken.
        Err(broken) => {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let running = match config::state_dir_of(&text, &env) {
                Some(state_dir) => status::socket::fetch(&state_dir).await.unwrap_or_default(),
                None => None,
            };
            let Some(report) = running else {
                eprintln!("{broken}");
                return Exit::Usage;
            };
            Ok(report)
        }
    };
    match report {
        Ok(report) if json => match serde_json::to_string_pretty(&report) {
            Ok(text) => {
                println!("{text}");
                Exit::Success
            }
            Err(error) => fail(&error),
        },
        Ok(report) => {
            print!("{}", status::render(&report));
            Exit::Success
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> Exit {
    eprintln!("oxen-sync: {error}");
    Exit::Failure
}
