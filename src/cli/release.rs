use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Exit;
use super::out::{fail, print, refuse_config};
use super::push::choose;
use crate::config::{self, Env, Folder, OnDelete};
use crate::service;

pub(super) async fn run(file: &Path, wanted: &[PathBuf], env: &Env) -> Exit {
    let config = match config::load(file, env) {
        Ok(config) => config,
        Err(error) => return refuse_config(&error, false),
    };
    let folders = match choose(&config, wanted) {
        Ok(folders) => folders,
        Err(error) => {
            fail(&error, false);
            return Exit::Usage;
        }
    };
    let keys: Vec<String> = folders.iter().map(|folder| folder.id().key()).collect();
    match service::release(&config.state_dir, &keys).await {
        Ok((released, is_running)) => {
            print(&told(&folders, &released, is_running)).err().unwrap_or(Exit::Success)
        }
        Err(error) => fail(&error, false),
    }
}

/// What came of it, a line for each folder of which something was held.
fn told(folders: &[Folder], released: &[u64], is_running: bool) -> String {
    let mut text = String::new();
    for (folder, files) in folders.iter().zip(released).filter(|(_, files)| **files > 0) {
        let plural = if *files == 1 { "" } else { "s" };
        let when = match (is_running, folder.on_delete) {
            (true, _) => "the service removes them now",
            (false, OnDelete::Mirror) => "the next start or push removes them",
            (false, OnDelete::Keep) => "the branch keeps them all the same, as on_delete = \"keep\" says",
        };
        let _ = writeln!(text, "{}: {files} removal{plural} let go; {when}", folder.id());
    }
    if text.is_empty() { "nothing is held\n".to_owned() } else { text }
}
