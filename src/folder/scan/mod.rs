//! The look that finds what events missed: a walk that compares each directory with what is known of it.

#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use tokio_util::sync::CancellationToken;

use self::walk::Walk;
use super::{Filter, TreeWatch};
use crate::content::{
    DirEntries, DirEntry, EntryKind, Mounts, OpenError, RootDir, Signature, is_apart, own_name,
};
use crate::path::LocalPath;
use crate::state::{FolderKey, KnownFile, Presence, Reader, StateError};

/// What a scan reports, one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A file that differs from what is known, or is not known.
    Differs(LocalPath, Signature),
    /// A known file that the folder no longer has.
    Gone(LocalPath),
    /// A file, by its own name, that has the one of a file which is being taken off.
    Apart(LocalPath),
    /// A directory that could not be listed, and why; nothing is said of what lies in it.
    Unreadable(LocalPath, String),
    /// Something that is never stored, and why.
    Skipped(LocalPath, &'static str),
}

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanSummary {
    /// Regular files looked at that the filter lets through.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories listed.
    pub dirs: u64,
    /// Files and directories that the filter leaves out; what lies in such a directory is not counted.
    pub excluded: u64,
    /// Whether it saw all that it set out to see.
    pub complete: bool,
}

/// Why a scan could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a scan works with.
#[derive(Debug)]
pub struct Scan<'a> {
    /// The folder.
    pub root: &'a RootDir,
    /// What counts in it.
    pub filter: &'a Filter,
    /// Its number in the state.
    pub folder: FolderKey,
    /// Watches each directory before it is listed; `None` where nothing is watched.
    pub watch: Option<&'a TreeWatch>,
    /// Ends the scan early.
    pub cancel: &'a CancellationToken,
}

/// Takes a finding in; it may wait, and may end the scan.
pub type Report<'a> = &'a (dyn Fn(Finding) -> ControlFlow<()> + Sync);

/// A link is not followed: what it points to may lie outside, or be stored twice.
const SYMLINK: &str = "a symlink; symlinks are not followed";
const SPECIAL: &str = "a socket, pipe or device, no file";
pub(super) const MOUNT: &str = "another filesystem is mounted here; add a folder of its own to sync it";

impl Scan<'_> {
    /// Looks at everything from `start` on down, on as many threads as there are `readers` of what is known of the folder.
    /// The findings of one directory come in its order, those of different ones in any.
    ///
    /// # Errors
    /// The state cannot be read. What the filesystem refuses is a finding.
    pub fn run(
        &self,
        readers: &mut [Reader],
        start: &LocalPath,
        report: Report<'_>,
    ) -> Result<ScanSummary, ScanError> {
        let mounts = Mounts::below(self.root);
        let walk = Walk::from(start.clone());
        let Some((reader, others)) = readers.split_first_mut() else { return Ok(ScanSummary::default()) };
        let work = |reader: &mut Reader| self.work(&walk, reader, &mounts, report);
        let ends: Vec<_> = std::thread::scope(|scope| {
            let work = &work;
            let others: Vec<_> = others.iter_mut().map(|reader| scope.spawn(move || work(reader))).collect();
            let own = work(reader);
            let joined = others
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)));
            std::iter::once(own).chain(joined).collect()
        });
        let mut all = Seen::default();
        for end in ends {
            all.add(end?);
        }
        let mut summary = all.summary;
        summary.complete = !walk.has_ended() && !self.cancel.is_cancelled() && all.unseen == 0;
        if !walk.has_ended() && self.report_vanished(reader, start, &all, report)?.is_break() {
            summary.complete = false;
        }
        Ok(summary)
    }

    /// Lists directories until none is left.
    fn work(
        &self,
        walk: &Walk,
        reader: &Reader,
        mounts: &Mounts,
        report: Report<'_>,
    ) -> Result<Seen, ScanError> {
        let mut seen = Seen::default();
        while let Some(mut dir) = walk.next() {
            let listed = if self.cancel.is_cancelled() {
                Ok(ControlFlow::Break(()))
            } else {
                self.list(dir.path(), reader, mounts, &mut seen, report)
            };
            match listed {
                Ok(ControlFlow::Continue(below)) => dir.found(below),
                Ok(ControlFlow::Break(())) => walk.end(),
                Err(error) => {
                    walk.end();
                    return Err(error);
                }
            }
        }
        Ok(seen)
    }

    /// Compares one directory with what is known of it; returns the directories in it.
    fn list(
        &self,
        dir: &LocalPath,
        reader: &Reader,
        mounts: &Mounts,
        seen: &mut Seen,
        report: Report<'_>,
    ) -> Result<ControlFlow<(), Vec<LocalPath>>, ScanError> {
        if self.filter.excludes_dir(dir) {
            return Ok(ControlFlow::Continue(Vec::new()));
        }
        if let Some(watch) = self.watch {
            watch.cover_one(dir);
        }
        let entries = match self.root.read_dir(dir, mounts) {
            Ok(entries) => entries,
            // It went away, or something else took its name: what was known in it is gone.
            Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => {
                return Ok(ControlFlow::Continue(Vec::new()));
            }
            Err(error) => {
                seen.hidden.push(dir.clone());
                let finding = match error {
                    OpenError::Mounted => Finding::Skipped(dir.clone(), MOUNT),
                    error => {
                        seen.unseen += 1;
                        Finding::Unreadable(dir.clone(), error.to_string())
                    }
                };
                return Ok(report(finding).map_continue(|()| Vec::new()));
            }
        };
        seen.summary.dirs += 1;
        let differing = self.compare(dir, &entries, reader, seen)?;
        let mut below = Vec::new();
        for difference in differing {
            let told = match difference {
                Difference::Gone(name) => report(Finding::Gone(dir.join(OsStr::from_bytes(&name)))),
                Difference::Entry { index, was_here } => match entries.get(index) {
                    Some(entry) => self.tell(dir, entry, was_here, &mut below, seen, report),
                    None => ControlFlow::Continue(()),
                },
            };
            if told.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        seen.visited.push(dir.clone());
        // The last found is handed out first: depth first, so that memory holds one path of siblings and no more.
        below.reverse();
        Ok(ControlFlow::Continue(below))
    }

    /// Walks the sorted names of a directory and the sorted rows known of it side by side. Files that are as they are known
    /// are counted here and not told.
    fn compare(
        &self,
        dir: &LocalPath,
        entries: &DirEntries,
        reader: &Reader,
        seen: &mut Seen,
    ) -> Result<Vec<Difference>, StateError> {
        let mut differing = Vec::new();
        let mut next = 0;
        let mut note = |index, entry: DirEntry<'_>, known: Option<KnownFile>, differing: &mut Vec<_>| {
            if let EntryKind::File(signature) = entry.kind {
                if self.filter.excludes_file_in(dir, entry.name) {
                    seen.summary.excluded += 1;
                    if is_apart(entry.name) {
                        differing.push(Difference::Entry { index, was_here: false });
                    }
                    return;
                }
                seen.summary.files += 1;
                seen.summary.bytes += signature.size;
                let is_as_known = |known: KnownFile| {
                    known.signature == Some(signature) && !known.racy && known.presence == Presence::Here
                };
                if known.is_some_and(is_as_known) {
                    return;
                }
            }
            let was_here = known.is_some_and(|known| known.can_go());
            differing.push(Difference::Entry { index, was_here });
        };
        reader.each_file_in(self.folder, dir, |name, known| {
            while let Some(entry) = entries.get(next).filter(|entry| entry.name.as_bytes() < name) {
                note(next, entry, None, &mut differing);
                next += 1;
            }
            match entries.get(next).filter(|entry| entry.name.as_bytes() == name) {
                Some(entry) => {
                    note(next, entry, Some(known), &mut differing);
                    next += 1;
                }
                None if self.has_gone(dir, name, known) => differing.push(Difference::Gone(name.to_vec())),
                None => {}
            }
        })?;
        while let Some(entry) = entries.get(next) {
            note(next, entry, None, &mut differing);
            next += 1;
        }
        Ok(differing)
    }

    /// Reports what stands at a name, where that is no file that is as it is known.
    fn tell(
        &self,
        dir: &LocalPath,
        entry: DirEntry<'_>,
        was_here: bool,
        below: &mut Vec<LocalPath>,
        seen: &mut Seen,
        report: Report<'_>,
    ) -> ControlFlow<()> {
        let path = dir.join(entry.name);
        match entry.kind {
            EntryKind::File(_) if is_apart(entry.name) => {
                return match own_name(entry.name) {
                    Some(own) => report(Finding::Apart(dir.join(own))),
                    None => ControlFlow::Continue(()),
                };
            }
            EntryKind::File(signature) => return report(Finding::Differs(path, signature)),
            EntryKind::Dir { device } if device == self.root.id().device => {
                if self.filter.excludes_dir(&path) {
                    seen.summary.excluded += 1;
                } else {
                    below.push(path.clone());
                }
            }
            EntryKind::Dir { .. } | EntryKind::Mount if self.filter.excludes_dir(&path) => {}
            EntryKind::Dir { .. } => {
                seen.hidden.push(path.clone());
                report(Finding::Skipped(path.clone(), MOUNT))?;
            }
            EntryKind::Mount => {
                seen.hidden.push(path.clone());
                // Also over a file: what was known there is hidden and not gone.
                return report(Finding::Skipped(path, MOUNT));
            }
            EntryKind::Symlink | EntryKind::Special if self.filter.excludes_file(&path) => {}
            EntryKind::Symlink => report(Finding::Skipped(path.clone(), SYMLINK))?,
            EntryKind::Special => report(Finding::Skipped(path.clone(), SPECIAL))?,
            EntryKind::Unknown => {
                // It may be a directory.
                seen.hidden.push(path.clone());
                seen.unseen += 1;
                return report(Finding::Unreadable(path, "it cannot be looked at".to_owned()));
            }
        }
        if was_here && !self.filter.excludes_file(&path) {
            report(Finding::Gone(path))?;
        }
        ControlFlow::Continue(())
    }

    /// Whether a file that is known, and that the folder has no more, is news; one that a changed filter hides is not.
    fn has_gone(&self, dir: &LocalPath, name: &[u8], known: KnownFile) -> bool {
        known.can_go() && !self.filter.excludes_file(&dir.join(OsStr::from_bytes(name)))
    }

    /// Reports what is known in directories at and below `start` that the walk did not come to. Below a directory that was
    /// not seen, nothing is known to be gone.
    fn report_vanished(
        &self,
        reader: &Reader,
        start: &LocalPath,
        seen: &Seen,
        report: Report<'_>,
    ) -> Result<ControlFlow<()>, ScanError> {
        let visited: HashSet<&LocalPath> = seen.visited.iter().collect();
        let hidden: HashSet<&LocalPath> = seen.hidden.iter().collect();
        let mut next = Some(start.clone());
        while let Some(dir) = next {
            let is_hidden = || hidden.contains(&dir) || ancestors(&dir).any(|above| hidden.contains(&above));
            if !visited.contains(&dir) && !self.filter.excludes_dir(&dir) && !is_hidden() {
                let mut gone = Vec::new();
                reader.each_file_in(self.folder, &dir, |name, known| {
                    if self.has_gone(&dir, name, known) {
                        gone.push(dir.join(OsStr::from_bytes(name)));
                    }
                })?;
                for path in gone {
                    if report(Finding::Gone(path)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            let after = (dir != *start).then_some(&dir);
            next = reader.next_dir(self.folder, start, after)?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Where a directory is not as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Difference {
    /// The entry with this index; a file of its name may have been here before.
    Entry { index: usize, was_here: bool },
    /// A known file that no entry has the name of.
    Gone(Vec<u8>),
}

/// What a thread has come to.
#[derive(Debug, Default)]
struct Seen {
    /// Directories that were listed.
    visited: Vec<LocalPath>,
    /// Directories whose content is there and was not seen.
    hidden: Vec<LocalPath>,
    /// What could not be looked at.
    unseen: u64,
    summary: ScanSummary,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.visited.extend(other.visited);
        self.hidden.extend(other.hidden);
        self.unseen += other.unseen;
        let (all, more) = (&mut self.summary, other.summary);
        all.files += more.files;
        all.bytes += more.bytes;
        all.dirs += more.dirs;
        all.excluded += more.excluded;
    }
}

fn ancestors(path: &LocalPath) -> impl Iterator<Item = LocalPath> {
    std::iter::successors(path.parent(), LocalPath::parent)
}
