use std::path::Path;

use super::Exit;
use crate::config::{self, Env};
use crate::state::Reader;
use crate::status::{self, Report};

pub(super) async fn run(file: &Path, json: bool, env: Env) -> Exit {
    // A service may run with a config that has since been broken: then only the state directory is wanted of it.
    let config = match config::load(file, &env) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Usage;
        }
    };
    let report = match status::socket::fetch(&config.state_dir).await {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Reader::open(&config.state_dir)
            .and_then(|reader| Report::without_service(file, &config.folders, reader.as_ref()))
            .map_err(|error| error.to_string()),
        Err(error) => Err(error),
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
