//! The look that finds what events missed: a walk that compares each directory with what is known of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use tokio_util::sync::CancellationToken;

use super::walk::Walk;
use super::{Filter, TreeWatch};
use crate::content::{DirEntries, DirEntry, EntryKind, Mounts, OpenError, RootDir, Signature};
use crate::path::LocalPath;
use crate::state::{FolderKey, KnownFile, Presence, Reader, StateError};

/// What a scan reports, one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A file that differs from what is known, or is not known.
    Differs(LocalPath, Signature),
    /// A known file that the folder no longer has.
    Gone(LocalPath),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::hash_file;
    use crate::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, State};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::Mutex;

    struct Fixture {
        folder: tempfile::TempDir,
        _state_dir: tempfile::TempDir,
        state: State,
        key: FolderKey,
        filter: Filter,
        threads: usize,
    }

    impl Fixture {
        fn new() -> Self {
            let state_dir = tempfile::tempdir().unwrap();
            let (state, _) = State::open(state_dir.path(), "").unwrap();
            let key = state.folder("f").unwrap();
            let filter = Filter::new(["*.tmp", "hidden/"], [], "").unwrap();
            Self {
                folder: tempfile::tempdir().unwrap(),
                _state_dir: state_dir,
                state,
                key,
                filter,
                threads: 1,
            }
        }

        fn write(&self, path: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "content").unwrap();
        }

        /// Says that all of `paths` are on the branch as they are.
        fn know(&self, paths: &[&str]) {
            let root = RootDir::open(self.folder.path()).unwrap();
            let changes: Vec<_> = paths
                .iter()
                .map(|path| {
                    let path = LocalPath::new(Path::new(path)).unwrap();
                    let hashed = hash_file(&mut root.open_file(&path).unwrap()).unwrap();
                    let kind =
                        ChangeKind::Put { signature: hashed.signature, digests: hashed.digests, racy: false };
                    Change { path, kind }
                })
                .collect();
            let batch = BatchRow {
                id: self.state.next_batch_id().unwrap(),
                phase: Phase::Staging,
                transport: BatchTransport::Workspace,
                workspace: String::new(),
                message: String::new(),
            };
            self.state.open_batch(self.key, &batch, &changes, 0).unwrap();
            self.state.close_batch(self.key, batch.id, Some("c"), &changes, 0).unwrap();
        }

        /// What `scan` reports of a folder that was opened as `root`.
        fn found_by<T>(
            &self,
            root: &RootDir,
            scan: impl FnOnce(&Scan<'_>, &mut [Reader], Report<'_>) -> T,
        ) -> (Vec<String>, T) {
            let mut readers: Vec<_> = (0..self.threads).map(|_| self.state.reader().unwrap()).collect();
            let scanner = Scan {
                root,
                filter: &self.filter,
                folder: self.key,
                watch: None,
                cancel: &CancellationToken::new(),
            };
            let found = Mutex::new(Vec::new());
            let report = |finding| {
                found.lock().unwrap().push(match finding {
                    Finding::Differs(path, _) => format!("differs {path}"),
                    Finding::Gone(path) => format!("gone {path}"),
                    Finding::Unreadable(path, _) => format!("unreadable {path}"),
                    Finding::Skipped(path, _) => format!("skipped {path}"),
                });
                ControlFlow::Continue(())
            };
            let done = scan(&scanner, &mut readers, &report);
            (found.into_inner().unwrap(), done)
        }

        fn root(&self) -> RootDir {
            RootDir::open(self.folder.path()).unwrap()
        }

        fn scan_from(&self, start: &str) -> (Vec<String>, ScanSummary) {
            let start = LocalPath::new(Path::new(start)).unwrap();
            self.found_by(&self.root(), |scan, readers, report| scan.run(readers, &start, report).unwrap())
        }

        /// A scan by someone who is bound by modes, with this one at `path`.
        fn scan_with_mode(&self, path: &str, mode: u32) -> (Vec<String>, ScanSummary) {
            let set =
                |mode| fs::set_permissions(self.folder.path().join(path), fs::Permissions::from_mode(mode));
            let root = self.root();
            set(mode).unwrap();
            // Capabilities are a thread's own: without them even root is bound by the mode.
            let scanned = std::thread::scope(|scope| {
                let scan = scope.spawn(|| {
                    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
                    let mut mine = capabilities(None).unwrap();
                    mine.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
                    set_capabilities(None, mine).unwrap();
                    self.found_by(&root, |scan, readers, report| {
                        scan.run(readers, &LocalPath::root(), report).unwrap()
                    })
                });
                scan.join()
            });
            set(0o700).unwrap();
            scanned.unwrap()
        }

        fn scan(&self) -> Vec<String> {
            self.scan_from("").0
        }
    }

    #[test]
    fn only_what_differs_from_the_known_is_found() {
        let f = Fixture::new();
        for path in ["a", "d/b", "d/e/c", "x.tmp", "hidden/y"] {
            f.write(path);
        }
        symlink("a", f.folder.path().join("link")).unwrap();
        assert_eq!(f.scan(), ["differs a", "skipped link", "differs d/b", "differs d/e/c"]);
        f.know(&["a", "d/b", "d/e/c"]);
        assert_eq!(f.scan(), ["skipped link"]);
        fs::write(f.folder.path().join("d/b"), "other").unwrap();
        assert_eq!(f.scan(), ["skipped link", "differs d/b"]);
        let (_, summary) = f.scan_from("");
        assert_eq!((summary.files, summary.dirs, summary.complete), (3, 3, true));
        assert_eq!(summary.excluded, 2);
    }

    #[test]
    fn what_is_gone_is_found_however_it_went() {
        let f = Fixture::new();
        for path in ["a", "d/b", "d/e/c", "g", "h/i"] {
            f.write(path);
        }
        f.know(&["a", "d/b", "d/e/c", "g", "h/i"]);
        fs::remove_file(f.folder.path().join("a")).unwrap();
        fs::remove_dir_all(f.folder.path().join("d")).unwrap();
        fs::remove_file(f.folder.path().join("g")).unwrap();
        fs::create_dir(f.folder.path().join("g")).unwrap();
        fs::remove_dir_all(f.folder.path().join("h")).unwrap();
        f.write("h");
        let found = f.scan();
        assert_eq!(found, ["gone a", "gone g", "differs h", "gone d/b", "gone d/e/c", "gone h/i"]);
        assert_eq!(f.scan_from("d").0, ["gone d/b", "gone d/e/c"]);
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_not_taken_for_empty() {
        let f = Fixture::new();
        f.write("d/e/a");
        f.know(&["d/e/a"]);
        let (found, summary) = f.scan_with_mode("d", 0o000);
        assert_eq!((found, summary.complete), (vec!["unreadable d".to_owned()], false));
    }

    #[test]
    fn what_lies_below_a_name_that_cannot_be_looked_at_is_not_gone() {
        let f = Fixture::new();
        for path in ["d/a", "d/e/b", "z"] {
            f.write(path);
        }
        f.know(&["d/a", "d/e/b", "z"]);
        // As where a disk fails, or the program behind a mount has died.
        let entries = DirEntries::from_iter([(OsStr::new("d"), EntryKind::Unknown)]);
        let (found, ()) = f.found_by(&f.root(), |scan, readers, report| {
            let (root, mut seen) = (LocalPath::root(), Seen::default());
            let differing = scan.compare(&root, &entries, &readers[0], &mut seen).unwrap();
            let [Difference::Entry { index: 0, was_here }, Difference::Gone(z)] = &differing[..] else {
                panic!("{differing:?}");
            };
            assert_eq!(z, b"z");
            let _ = scan.tell(&root, entries.get(0).unwrap(), *was_here, &mut Vec::new(), &mut seen, report);
            seen.visited.push(root.clone());
            let _ = scan.report_vanished(&readers[0], &root, &seen, report).unwrap();
        });
        assert_eq!(found, ["unreadable d"]);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_taken_for_empty() {
        let f = Fixture::new();
        f.write("a");
        f.write("d/e/b");
        f.know(&["a", "d/e/b"]);
        for mode in [0o000, 0o100] {
            let (found, summary) = f.scan_with_mode("", mode);
            assert_eq!((found, summary.complete), (vec!["unreadable ".to_owned()], false), "{mode:o}");
        }
    }

    #[test]
    fn many_threads_find_what_one_finds() {
        let mut f = Fixture::new();
        let paths: Vec<_> = (0..300).map(|n| format!("{}/{}/{n}", n % 7, n % 41)).collect();
        paths.iter().for_each(|path| f.write(path));
        f.know(&paths.iter().map(String::as_str).step_by(2).collect::<Vec<_>>());
        for gone in paths.iter().step_by(6) {
            fs::remove_file(f.folder.path().join(gone)).unwrap();
        }
        fs::remove_dir_all(f.folder.path().join("3")).unwrap();
        let sorted = |(mut found, summary): (Vec<String>, ScanSummary)| {
            found.sort();
            (found, summary)
        };
        let alone = sorted(f.scan_from(""));
        assert!(alone.0.len() > 100 && alone.1.complete, "{alone:?}");
        f.threads = 4;
        assert_eq!(sorted(f.scan_from("")), alone);
    }

    #[test]
    fn whoever_listens_no_more_ends_all_threads() {
        let mut f = Fixture::new();
        (0..200).for_each(|n| f.write(&format!("{n}/file")));
        f.threads = 4;
        let root = LocalPath::root();
        let (_, summary) =
            f.found_by(&f.root(), |scan, readers, _| scan.run(readers, &root, &|_| ControlFlow::Break(())));
        assert!(!summary.unwrap().complete);
    }
}
