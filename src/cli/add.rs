use std::path::{Component, Path, PathBuf};

use super::Exit;
use super::args::AddArgs;
use crate::config::{self, EditError, Env, LoadError, NewFolder};
use crate::path::{RepoPath, printable};

pub(super) fn run(args: AddArgs, env: &Env) -> Exit {
    match add(args, env) {
        Ok(done) => {
            println!("{done}");
            Exit::Success
        }
        Err(error) => {
            eprintln!("oxen-sync: {error}");
            Exit::Usage
        }
    }
}

fn add(args: AddArgs, env: &Env) -> Result<String, String> {
    let file = args.config.file();
    let text = config::read(&file).map_err(|error| match &error {
        LoadError::Unreadable { why, .. } if why.kind() == std::io::ErrorKind::NotFound => {
            format!("{error}; copy the example config there first")
        }
        _ => error.to_string(),
    })?;
    let text = String::from_utf8(text).map_err(|_| EditError::NotToml.to_string())?;
    let path = absolute(&args.path)?;
    let remote_dir = match args.remote_dir.as_deref().map(RepoPath::parse) {
        Some(Ok(dir)) => Some(dir),
        Some(Err(refusal)) => return Err(format!("--remote-dir cannot be used: {refusal}")),
        None => None,
    };
    let new = NewFolder { path, server: args.server, repo: args.repo, branch: args.branch, remote_dir };
    let changed = config::add_folder(&text, &new).map_err(|error| error.to_string())?;
    // Nothing is written that a running service would refuse.
    let config = config::parse(&changed, &file, env)
        .map_err(|problems| format!("the config would not be right with this folder:\n{problems}"))?;
    config::write_atomically(&file, &changed).map_err(|error| error.to_string())?;
    let added = config.folders.last().map(|folder| folder.id().to_string()).unwrap_or_default();
    let missing = match std::fs::metadata(&new.path) {
        Ok(found) if found.is_dir() => String::new(),
        Ok(_) => "\nBut it is no directory; nothing is watched until it is one.".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "\nThe folder is not there yet; it is watched when it appears.".to_owned()
        }
        Err(error) => format!("\nWhether it is there cannot be seen from here: {error}."),
    };
    Ok(format!(
        "added to {}: {added}\nA running service takes it up by itself within two seconds.{missing}",
        printable(file)
    ))
}

/// The path as the config wants it: absolute, without `.` and `..`.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let has_dots = absolute.components().any(|part| part == Component::ParentDir);
    match std::fs::canonicalize(&absolute) {
        // `..` behind a link means something else than the words say, so the kernel decides.
        Ok(real) if has_dots => Ok(real),
        Err(error) if has_dots => Err(format!("cannot make out where {} is: {error}", printable(path))),
        _ => Ok(absolute),
    }
}
