//! From the folder to the branch: each file of the folder is read, and its hash compared with that of its place.

use std::sync::Arc;
use std::time::Duration;

use super::super::prove::look_up;
use super::{CompareError, Compared, Comparison, DifferenceKind, blocking};
use crate::content::{
    Digests, EntryKind, FileClock, Mounts, OpenError, ReadError, RootDir, Signature, Wanted, hash_file,
};
use crate::folder::Filter;
use crate::folder::writers::Writers;
use crate::oxen::Entry;
use crate::path::{LocalPath, RepoPath};
use crate::state::{FileRow, PlaceError, ProblemRow};

/// Files that are hashed before the server is asked for them.
const FILES_MAX: usize = 500;
/// And bytes, so that progress is told.
const BYTES_MAX: u64 = 256 << 20;

/// A file of the folder that is to be on the branch.
struct Hashed {
    path: LocalPath,
    on_branch: RepoPath,
    signature: Signature,
    digests: Digests,
    row: Option<FileRow>,
    problem: Option<ProblemRow>,
    rest: Option<Duration>,
}

/// What is still to be looked at.
struct Left {
    root: RootDir,
    filter: Filter,
    writers: Writers,
    mounts: Mounts,
    dirs: Vec<LocalPath>,
    files: Vec<LocalPath>,
}

/// What was made of some files.
#[derive(Default)]
struct Read {
    hashed: Vec<Hashed>,
    under_way: u64,
    /// With what keeps them from the branch.
    missing: Vec<(LocalPath, String)>,
    bytes: u64,
}

pub(super) async fn compare(
    comparison: &Comparison,
    head: &str,
    compared: &mut Compared,
    progress: &impl Fn(&Compared),
) -> Result<(), CompareError> {
    let opened = {
        let comparison = comparison.clone();
        blocking(move || open(&comparison)).await?
    };
    let mut left = Some(opened);
    while let Some(now) = left.take() {
        let asked = comparison.clone();
        let (now, read) = blocking(move || read_some(&asked, now)).await?;
        let is_end = now.dirs.is_empty() && now.files.is_empty();
        left = (!is_end).then_some(now);
        compared.files += read.hashed.len() as u64;
        compared.bytes += read.bytes;
        compared.under_way += read.under_way;
        for (path, reason) in read.missing {
            compared.differs(path, DifferenceKind::Missing, reason);
        }
        let paths: Vec<_> = read.hashed.iter().map(|file| file.on_branch.clone()).collect();
        let Comparison { client, repo, concurrency, .. } = comparison;
        let mut entries: Vec<Option<Entry>> = paths.iter().map(|_| None).collect();
        for (index, entry) in look_up(client, repo, head, &paths, *concurrency).await? {
            if let Some(slot) = entries.get_mut(index) {
                *slot = entry;
            }
        }
        for (file, entry) in read.hashed.into_iter().zip(entries) {
            judge(comparison, file, entry.as_ref(), compared)?;
        }
        progress(compared);
    }
    Ok(())
}

fn open(comparison: &Comparison) -> Result<Left, CompareError> {
    let failed = |error: &dyn std::fmt::Display| CompareError::Folder(error.to_string());
    let root = RootDir::open_counted(&comparison.path, &comparison.calls).map_err(|error| failed(&error))?;
    let filter = Filter::of_folder(&comparison.exclude, &comparison.include, &root);
    let filter = filter.map_err(|error| failed(&format!("its .oxenignore cannot be used: {error}")))?;
    let mounts = Mounts::below(&root);
    let writers = Writers::default();
    Ok(Left { root, filter, writers, mounts, dirs: vec![LocalPath::root()], files: Vec::new() })
}

/// Reads some of what is left, in the order of the folder's tree.
fn read_some(comparison: &Comparison, mut left: Left) -> Result<(Left, Read), CompareError> {
    let mut read = Read::default();
    while read.hashed.len() < FILES_MAX && read.bytes < BYTES_MAX {
        if let Some(path) = left.files.pop() {
            read_file(comparison, &left, path, &mut read)?;
            continue;
        }
        let Some(dir) = left.dirs.pop() else { break };
        let entries = match left.root.read_dir(&dir, &left.mounts) {
            Ok(entries) => entries,
            Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink | OpenError::Mounted) => continue,
            Err(error @ OpenError::Io(_)) => {
                read.missing.push((dir, format!("the directory cannot be read: {error}")));
                continue;
            }
        };
        let (device, mut dirs) = (left.root.id().device, Vec::new());
        for entry in entries.iter() {
            let path = dir.join(entry.name);
            match entry.kind {
                EntryKind::Dir { device: its } if its == device && !left.filter.excludes_dir(&path) => {
                    dirs.push(path);
                }
                EntryKind::File(_) if !left.filter.excludes_file(&path) => left.files.push(path),
                _ => {}
            }
        }
        // The first of them comes out first.
        left.files.reverse();
        left.dirs.extend(dirs.into_iter().rev());
    }
    Ok((left, read))
}

fn read_file(
    comparison: &Comparison,
    left: &Left,
    path: LocalPath,
    read: &mut Read,
) -> Result<(), CompareError> {
    let mut opened = match left.root.open_file(&path) {
        Ok(opened) => opened,
        Err(OpenError::Io(error)) => {
            read.missing.push((path, format!("it cannot be read: {error}")));
            return Ok(());
        }
        // It was there a moment ago.
        Err(_) => {
            read.under_way += 1;
            return Ok(());
        }
    };
    let hashed = match hash_file(&mut opened, Wanted::Oxens) {
        Ok(hashed) if !left.writers.has_writer(&opened) => hashed,
        Ok(_) | Err(ReadError::Changed) => {
            read.under_way += 1;
            return Ok(());
        }
        Err(ReadError::Open(error)) => {
            read.missing.push((path, format!("it cannot be read: {error}")));
            return Ok(());
        }
    };
    read.bytes += hashed.signature.size;
    let row = comparison.state.file(comparison.folder, &path)?;
    let place = match &row {
        Some(row) => row.place,
        None => comparison.places.for_new(hashed.signature.mtime_ns)?,
    };
    let on_branch = match comparison.places.path_of(place, &path) {
        Ok(on_branch) => on_branch,
        Err(PlaceError::Refused(refusal)) => {
            read.missing.push((path, refusal.to_string()));
            return Ok(());
        }
        Err(PlaceError::State(error)) => return Err(error.into()),
    };
    let problem = comparison.state.problem(comparison.folder, &path)?;
    let rest = FileClock::read().rest(&hashed.signature);
    let (signature, digests) = (hashed.signature, hashed.digests);
    read.hashed.push(Hashed { path, on_branch, signature, digests, row, problem, rest });
    Ok(())
}

fn judge(
    comparison: &Comparison,
    file: Hashed,
    entry: Option<&Entry>,
    compared: &mut Compared,
) -> Result<(), CompareError> {
    let holds = entry.is_some_and(|entry| {
        !entry.is_dir && entry.size == file.signature.size && entry.xxh3 == Some(file.digests.xxh3)
    });
    if holds {
        return Ok(());
    }
    let is_known = file.row.as_ref().is_some_and(|row| row.known.signature == Some(file.signature));
    // What has changed lately may be on its way; where a clock cannot be trusted, what is not known yet may be too.
    let may_come = !is_known && file.rest.is_none_or(|rest| rest < comparison.patience);
    if file.problem.is_none() && !is_known && comparison.is_of_unfinished_run(&file.path)? {
        compared.held_back += 1;
        return Ok(());
    }
    if file.problem.is_none() && may_come {
        compared.under_way += 1;
        return Ok(());
    }
    let (kind, words) = match entry {
        None => (DifferenceKind::Missing, "it is not on the branch"),
        Some(entry) if entry.is_dir => (DifferenceKind::Missing, "the branch has a directory of its name"),
        Some(_) => (DifferenceKind::Content, "the branch holds other bytes"),
    };
    let reason = match (file.problem, is_known) {
        (Some(problem), _) => problem.reason,
        (None, true) => format!(
            "{words}, although they were proved to be the same; another writer has changed it: oxen-sync push puts it there \
             again"
        ),
        (None, false) => {
            format!("{words}, and nobody has noticed; have everything looked at: oxen-sync rescan")
        }
    };
    compared.differs(file.path, kind, reason);
    Ok(())
}

/// Whether the folder has a file at `path` that counts.
pub(super) fn has_file(root: &RootDir, filter: &Filter, path: &LocalPath) -> bool {
    matches!(root.look(path), Ok(EntryKind::File(_))) && !filter.excludes_file(path)
}

/// The folder, open, with what counts in it.
pub(super) fn opened(comparison: &Comparison) -> Result<Arc<(RootDir, Filter)>, CompareError> {
    let Left { root, filter, .. } = open(comparison)?;
    Ok(Arc::new((root, filter)))
}
