use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Access;

use super::{Finding, Level, may};
use crate::blocking::joined;
use crate::config::{Config, Folder, TakeOff, show_duration};
use crate::content::{Calls, EntryKind, Mounts, OpenError, RootDir};
use crate::folder::{Filter, remote_filesystem};
use crate::oxen::CROWDED_DIR_FILES;
use crate::path::{LocalPath, printable};
use crate::plan::retire;
use crate::status::CROWDED_HELP;

/// Whoever waits in front of a terminal waits no longer for a folder's answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What was found in a folder.
pub(super) struct FolderFound {
    pub(super) findings: Vec<Finding>,
    /// Directories that would be watched.
    pub(super) dirs: u64,
    /// Files that would be pushed.
    pub(super) files: u64,
    /// Where it stands, with no link on the way.
    pub(super) real_path: Option<PathBuf>,
}

/// Looks at all folders side by side, and waits for none that does not answer.
pub(super) async fn check_folders(config: &Config) -> Vec<FolderFound> {
    let looks: Vec<_> = config
        .folders
        .iter()
        .map(|folder| {
            let calls = Arc::new(Calls::with_limit(ANSWER_MAX));
            let (folder, counted) = (folder.clone(), Arc::clone(&calls));
            (calls, tokio::task::spawn_blocking(move || check_folder(&folder, &counted)))
        })
        .collect();
    let mut all = Vec::with_capacity(looks.len());
    for (folder, (calls, look)) in config.folders.iter().zip(looks) {
        all.push(match calls.answered(look).await {
            Ok(found) => joined(found),
            Err(silence) => {
                let (what, detail) = (what_of(folder), silence.to_string());
                let findings = vec![Finding { level: Level::Failure, what, detail }];
                FolderFound { findings, dirs: 0, files: 0, real_path: None }
            }
        });
    }
    note_shared(config, &mut all);
    all
}

/// Links may lead from one folder to another; the words in the config were compared already.
fn note_shared(config: &Config, all: &mut [FolderFound]) {
    let real_paths: Vec<_> = all.iter().map(|found| found.real_path.clone()).collect();
    for (index, (folder, found)) in config.folders.iter().zip(all).enumerate() {
        let Some(real) = real_paths.get(index).and_then(Option::as_deref) else { continue };
        let overlaps = |other: &Path| other.starts_with(real) || real.starts_with(other);
        let others = real_paths.iter().zip(&config.folders).enumerate().filter(|(other, _)| *other != index);
        let mut shared = others.filter(|(_, (other, _))| other.as_deref().is_some_and(overlaps));
        if folder.after_push.action != TakeOff::Keep
            && let Some((_, (_, other))) = shared.next()
        {
            let detail = format!(
                "after_push would take files off that {} watches too, through a link, and may not have pushed; give each \
                 folder files of its own, or write after_push.do = \"keep\"",
                printable(&other.path)
            );
            found.findings.push(Finding { level: Level::Failure, what: what_of(folder), detail });
        }
    }
}

fn what_of(folder: &Folder) -> String {
    format!("folder {}", printable(&folder.path))
}

fn check_folder(folder: &Folder, calls: &Arc<Calls>) -> FolderFound {
    let real_path = {
        let _call = calls.begin();
        std::fs::canonicalize(&folder.path).ok()
    };
    let finding = |level, detail| Finding { level, what: what_of(folder), detail };
    let (findings, dirs, files) = match look_through(folder, calls) {
        Err(reason) => (vec![finding(Level::Failure, reason)], 0, 0),
        Ok(Contents { files, dirs, unreadable, mounts, crowded }) => {
            let reading = match unreadable.first() {
                None => finding(Level::Ok, format!("{files} files in {dirs} directories can be read")),
                Some(first) => finding(
                    Level::Failure,
                    format!(
                        "{} of its entries cannot be read, for one {}; give the user that runs oxen-sync read access",
                        unreadable.len(),
                        printable(first.under(&folder.path))
                    ),
                ),
            };
            let passed_by = mounts.first().map(|first| {
                let detail = format!(
                    "{} of its directories have another filesystem mounted over them and are passed by, for one {}; \
                     add a folder of its own to sync it",
                    mounts.len(),
                    printable(first.under(&folder.path))
                );
                finding(Level::Warning, detail)
            });
            let crowded = crowded.filter(|_| !folder.layout.has_time()).map(|(dir, files)| {
                let detail = format!(
                    "{files} files lie in one directory, {}; the server looks each new file up among all of them, which \
                     slows every commit down; {CROWDED_HELP}",
                    printable(dir.under(&folder.path))
                );
                finding(Level::Warning, detail)
            });
            let taken_off = after_push(folder, calls).map(|(level, detail)| finding(level, detail));
            let findings = [reading].into_iter().chain(passed_by).chain(crowded).chain(taken_off);
            (findings.collect(), dirs, files)
        }
    };
    FolderFound { findings, dirs, files, real_path }
}

/// What becomes of files after they were pushed, and whether that can be done.
fn after_push(folder: &Folder, calls: &Arc<Calls>) -> Option<(Level, String)> {
    let what = match &folder.after_push.action {
        TakeOff::Keep => return None,
        TakeOff::Delete => "deleted here".to_owned(),
        TakeOff::Move(to) => format!("moved below {}", printable(to)),
    };
    let age = show_duration(folder.after_push.min_age);
    Some(match can_take_off(folder, calls) {
        Ok(()) => (
            Level::Ok,
            format!(
                "files are {what} {age} after they were proved to be on the branch (after_push); the unit of a service \
                 must let it write there (ReadWritePaths, systemd/README.md)"
            ),
        ),
        Err(reason) => (
            Level::Failure,
            format!("files are to be {what} after they were pushed, and cannot be: {reason}"),
        ),
    })
}

fn can_take_off(folder: &Folder, calls: &Arc<Calls>) -> Result<(), String> {
    let open = |path: &Path| {
        let shown = printable(path);
        let root = RootDir::open_counted(path, calls)
            .map_err(|error| format!("{shown} cannot be opened: {}", OpenError::from(error)))?;
        match root.may_change(&LocalPath::root()) {
            Ok(()) => Ok(root),
            Err(OpenError::Io(error)) if error.kind() == ErrorKind::ReadOnlyFilesystem => Err(format!(
                "{shown} is mounted read-only; where oxen-sync runs as a service, name it in ReadWritePaths of its unit \
                 (systemd/README.md)"
            )),
            Err(_) => {
                Err(format!("{shown} may not be written to; let the user that runs oxen-sync write there"))
            }
        }
    };
    let root = open(&folder.path)?;
    if let Some(name) = root.filesystem_magic().ok().and_then(remote_filesystem) {
        return Err(retire::remote(name));
    }
    let TakeOff::Move(to) = &folder.after_push.action else { return Ok(()) };
    if open(to)?.id().device != root.id().device {
        return Err(format!("{} lies on another filesystem than the folder", printable(to)));
    }
    Ok(())
}

/// What a run would find in a folder.
#[derive(Default)]
struct Contents {
    files: u64,
    dirs: u64,
    unreadable: Vec<LocalPath>,
    mounts: Vec<LocalPath>,
    /// The directory with the most files in it, where those are many.
    crowded: Option<(LocalPath, u64)>,
}

/// Tries to read what a run would read of the folder.
fn look_through(folder: &Folder, calls: &Arc<Calls>) -> Result<Contents, String> {
    let root = RootDir::open_counted(&folder.path, calls)
        .map_err(|error| format!("cannot be opened: {}", OpenError::from(error)))?;
    let mounts = Mounts::below(&root);
    root.read_dir(&LocalPath::root(), &mounts).map_err(|error| format!("cannot be listed: {error}"))?;
    let filter = Filter::of_folder(&folder.exclude, &folder.include, &root)
        .map_err(|error| format!("its .oxenignore cannot be used: {error}"))?;
    let mut found = Contents::default();
    let mut stack = vec![LocalPath::root()];
    while let Some(dir) = stack.pop() {
        found.dirs += 1;
        let entries = match root.read_dir(&dir, &mounts) {
            Ok(entries) => entries,
            Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => continue,
            Err(OpenError::Mounted) => {
                found.mounts.push(dir);
                continue;
            }
            Err(OpenError::Io(_)) => {
                found.unreadable.push(dir);
                continue;
            }
        };
        let before = found.files;
        for entry in entries.iter() {
            let path = dir.join(entry.name);
            match entry.kind {
                EntryKind::File(_) if filter.excludes_file(&path) => {}
                EntryKind::File(_) => {
                    found.files += 1;
                    let _call = calls.begin();
                    if may(&path.under(&folder.path), Access::READ_OK).is_err() {
                        found.unreadable.push(path);
                    }
                }
                EntryKind::Dir { .. } | EntryKind::Mount | EntryKind::Unknown
                    if filter.excludes_dir(&path) => {}
                EntryKind::Dir { device } if device == root.id().device => stack.push(path),
                EntryKind::Dir { .. } | EntryKind::Mount => found.mounts.push(path),
                EntryKind::Unknown => found.unreadable.push(path),
                EntryKind::Symlink | EntryKind::Special => {}
            }
        }
        let files = found.files - before;
        if files >= found.crowded.as_ref().map_or(CROWDED_DIR_FILES, |(_, most)| most + 1) {
            found.crowded = Some((dir, files));
        }
    }
    Ok(found)
}
