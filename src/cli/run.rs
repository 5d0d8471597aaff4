use std::path::Path;

use super::Exit;
use crate::config::Env;
use crate::service::{self, RunError};

pub(super) async fn run(config: &Path, env: Env) -> Exit {
    match service::run(config, env).await {
        Ok(()) => Exit::Success,
        Err(RunError::Config(error)) => {
            if super::log::is_journal() {
                tracing::error!("the config cannot be used:\n{error}");
            } else {
                // Carets need their lines as they are.
                eprintln!("{error}");
            }
            Exit::Usage
        }
        Err(error) => {
            tracing::error!("oxen-sync cannot run: {error}");
            Exit::Failure
        }
    }
}
