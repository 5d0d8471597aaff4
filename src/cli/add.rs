use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use walkdir::WalkDir;

use super::Exit;
use super::args::AddArgs;
use super::out::print;
use super::reach::{Reached, reach};
use crate::config::{self, EditError, Env, LoadError, NewFolder};
use crate::control::api::Done;
use crate::path::{RepoPath, printable};

/// The longest that files are counted.
const COUNT_MAX: Duration = Duration::from_secs(2);
/// The longest that the folder is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(args: AddArgs, env: &Env) -> Exit {
    let file = args.config.file();
    match add(args, env) {
        Ok(Added { what, holds }) => {
            // A service that runs takes the file up by itself; asked to, it has done so when this ends.
            let taken_up = match reach(&file, env, false).await {
                Ok(Reached::Service(client)) => match client.post::<Done>("/reload", &()).await {
                    Ok(_) => "The service that runs has taken it up.".to_owned(),
                    Err(error) => format!("The service that runs has not taken it up yet: {error}"),
                },
                _ => "A running service takes it up by itself within two seconds.".to_owned(),
            };
            print(&format!("{what}\n{taken_up}\n{holds}\n")).err().unwrap_or(Exit::Success)
        }
        Err(error) => {
            eprintln!("oxen-sync: {error}");
            Exit::Usage
        }
    }
}

/// What was added, and what it holds.
struct Added {
    what: String,
    holds: String,
}

fn add(args: AddArgs, env: &Env) -> Result<Added, String> {
    let file = args.config.file();
    let text = config::read(&file).map_err(|error| match &error {
        LoadError::Unreadable { why, .. } if why.kind() == std::io::ErrorKind::NotFound => {
            format!("{error}; oxen-sync init writes a first one")
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
    Ok(Added { what: format!("added to {}: {added}", printable(file)), holds: holds(new.path) })
}

/// What stands at the path. Neither a very large folder nor one that does not answer is waited for.
pub(super) fn holds(path: PathBuf) -> String {
    let (sender, receiver) = mpsc::channel();
    // Nobody can end a call into a filesystem whose server is away: the thread goes with the process.
    std::thread::spawn(move || {
        let trouble = look(&path);
        let is_well = trouble.is_none();
        let _ = sender.send(trouble);
        if is_well {
            let _ = sender.send(Some(count(&path)));
        }
    });
    match receiver.recv_timeout(ANSWER_MAX) {
        Ok(Some(trouble)) => trouble,
        Ok(None) => {
            // Something may be mounted in it whose server is away.
            let counted = receiver.recv_timeout(ANSWER_MAX).ok().flatten();
            counted.unwrap_or_else(|| "What it holds could not be counted in time.".to_owned())
        }
        Err(_) => "But it does not answer: is the server of its filesystem reachable?".to_owned(),
    }
}

/// What is wrong with the folder.
fn look(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("But it is no directory; nothing is watched until it is one.".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some("The folder is not there yet; it is watched when it appears.".to_owned())
        }
        Err(error) => Some(format!("Whether it is there cannot be seen from here: {error}.")),
    }
}

fn count(path: &Path) -> String {
    let until = Instant::now() + COUNT_MAX;
    let (mut files, mut bytes, mut all) = (0_u64, 0_u64, "");
    for entry in WalkDir::new(path).same_file_system(true) {
        if Instant::now() > until {
            all = "more than ";
            break;
        }
        if let Ok(entry) = entry
            && entry.file_type().is_file()
        {
            files += 1;
            bytes += entry.metadata().map_or(0, |found| found.len());
        }
    }
    let plural = if files == 1 { "" } else { "s" };
    format!("It holds {all}{files} file{plural} ({}).", ByteSize(bytes))
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
