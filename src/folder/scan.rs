//! The look that finds what events missed: a walk that compares each directory with what is known of it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use tokio_util::sync::CancellationToken;

use super::{Filter, TreeWatch};
use crate::content::{DirEntry, EntryKind, Mounts, OpenError, RootDir, Signature};
use crate::path::LocalPath;
use crate::state::{FolderKey, KnownFile, Presence, Reader, StateError};

/// What a scan reports, one by one, in the order of the walk.
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
    /// What is known of it.
    pub reader: &'a Reader,
    /// Its number there.
    pub folder: FolderKey,
    /// Watches each directory before it is listed; `None` where nothing is watched.
    pub watch: Option<&'a TreeWatch>,
    /// Ends the scan early.
    pub cancel: &'a CancellationToken,
}

/// A link is not followed: what it points to may lie outside, or be stored twice.
const SYMLINK: &str = "a symlink; symlinks are not followed";
const SPECIAL: &str = "a socket, pipe or device, no file";
pub(super) const MOUNT: &str = "another filesystem is mounted here; add a folder of its own to sync it";

impl Scan<'_> {
    /// Looks at everything from `start` on down. `report` may wait, and may end the scan.
    ///
    /// # Errors
    /// The state cannot be read. What the filesystem refuses is a finding.
    pub fn run(
        &self,
        start: &LocalPath,
        report: &mut dyn FnMut(Finding) -> ControlFlow<()>,
    ) -> Result<ScanSummary, ScanError> {
        let mut summary = ScanSummary { complete: true, ..ScanSummary::default() };
        let mut visited = HashSet::new();
        // Directories whose content is there and was not seen.
        let mut hidden = HashSet::new();
        let mut stack = vec![start.clone()];
        let mounts = Mounts::below(self.root);
        while let Some(dir) = stack.pop() {
            if self.cancel.is_cancelled() {
                summary.complete = false;
                return Ok(summary);
            }
            if let Some(watch) = self.watch {
                watch.cover_one(&dir);
            }
            let entries = match self.root.read_dir(&dir, &mounts) {
                Ok(entries) => entries,
                // It went away, or something else took its name: what was known in it is gone.
                Err(OpenError::Gone | OpenError::NotAFile | OpenError::Symlink) => continue,
                Err(OpenError::Mounted) => {
                    hidden.insert(dir.clone());
                    if report(Finding::Skipped(dir, MOUNT)).is_break() {
                        summary.complete = false;
                        return Ok(summary);
                    }
                    continue;
                }
                Err(error) => {
                    summary.complete = false;
                    hidden.insert(dir.clone());
                    if report(Finding::Unreadable(dir, error.to_string())).is_break() {
                        return Ok(summary);
                    }
                    continue;
                }
            };
            summary.dirs += 1;
            let known = self.reader.files_in(self.folder, &dir)?;
            let below_from = stack.len();
            let mut seen = Seen { stack: &mut stack, hidden: &mut hidden, summary: &mut summary };
            if self.compare(&dir, entries, known, &mut seen, report).is_break() {
                summary.complete = false;
                return Ok(summary);
            }
            // Depth first and in order, so that memory holds one path of siblings and no more.
            stack[below_from..].reverse();
            visited.insert(dir);
        }
        if self.report_vanished(start, &visited, &hidden, report)?.is_break() {
            summary.complete = false;
        }
        Ok(summary)
    }

    /// Walks the sorted names of a directory and the sorted rows known of it side by side.
    fn compare(
        &self,
        dir: &LocalPath,
        entries: Vec<DirEntry>,
        known: Vec<KnownFile>,
        seen: &mut Seen<'_>,
        report: &mut dyn FnMut(Finding) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Seen { stack, hidden, summary } = seen;
        let mut known = known.into_iter().peekable();
        for entry in entries {
            let name = entry.name.as_encoded_bytes();
            while let Some(row) = known.next_if(|row| row.name.as_slice() < name) {
                self.report_gone(dir, &row, report)?;
            }
            let row = known.next_if(|row| row.name == name);
            let path = dir.join(&entry.name);
            match entry.kind {
                EntryKind::File(signature) => {
                    if self.filter.excludes_file(&path) {
                        summary.excluded += 1;
                        continue;
                    }
                    summary.files += 1;
                    summary.bytes += signature.size;
                    let unchanged = row.is_some_and(|row| {
                        row.signature == Some(signature) && !row.racy && row.presence == Presence::Here
                    });
                    if !unchanged {
                        report(Finding::Differs(path, signature))?;
                    }
                    continue;
                }
                EntryKind::Dir { device } if device == self.root.id().device => {
                    if self.filter.excludes_dir(&path) {
                        summary.excluded += 1;
                    } else {
                        stack.push(path);
                    }
                }
                EntryKind::Dir { .. } | EntryKind::Mount if self.filter.excludes_dir(&path) => {}
                EntryKind::Dir { .. } => {
                    hidden.insert(path.clone());
                    report(Finding::Skipped(path, MOUNT))?;
                }
                EntryKind::Mount => {
                    hidden.insert(path.clone());
                    report(Finding::Skipped(path, MOUNT))?;
                    // Also over a file: what was known there is hidden and not gone.
                    continue;
                }
                EntryKind::Symlink if self.filter.excludes_file(&path) => {}
                EntryKind::Symlink => report(Finding::Skipped(path, SYMLINK))?,
                EntryKind::Special if self.filter.excludes_file(&path) => {}
                EntryKind::Special => report(Finding::Skipped(path, SPECIAL))?,
                EntryKind::Unknown => {
                    // It may be a directory.
                    hidden.insert(path.clone());
                    summary.complete = false;
                    report(Finding::Unreadable(path, "it cannot be looked at".to_owned()))?;
                    continue;
                }
            }
            if let Some(row) = row {
                self.report_gone(dir, &row, report)?;
            }
        }
        for row in known {
            self.report_gone(dir, &row, report)?;
        }
        ControlFlow::Continue(())
    }

    fn report_gone(
        &self,
        dir: &LocalPath,
        row: &KnownFile,
        report: &mut dyn FnMut(Finding) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let path = dir.join(std::os::unix::ffi::OsStrExt::from_bytes(row.name.as_slice()));
        // A file that was only listed on the branch was never here; one that a changed filter hides is not gone.
        let is_told = matches!(row.presence, Presence::Kept | Presence::Waiting);
        if is_told || row.signature.is_none() || self.filter.excludes_file(&path) {
            return ControlFlow::Continue(());
        }
        report(Finding::Gone(path))
    }

    /// Reports what is known in directories below `start` that the walk did not come to. Below a directory that was not
    /// seen, nothing is known to be gone.
    fn report_vanished(
        &self,
        start: &LocalPath,
        visited: &HashSet<LocalPath>,
        hidden: &HashSet<LocalPath>,
        report: &mut dyn FnMut(Finding) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ScanError> {
        for dir in self.reader.dirs_below(self.folder, start)? {
            let is_hidden = || hidden.contains(&dir) || ancestors(&dir).any(|above| hidden.contains(&above));
            if visited.contains(&dir) || self.filter.excludes_dir(&dir) || is_hidden() {
                continue;
            }
            for row in self.reader.files_in(self.folder, &dir)? {
                if self.report_gone(&dir, &row, report).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What a walk has come to.
struct Seen<'a> {
    /// Directories still to be listed.
    stack: &'a mut Vec<LocalPath>,
    /// Directories whose content is there and was not seen.
    hidden: &'a mut HashSet<LocalPath>,
    summary: &'a mut ScanSummary,
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

    struct Fixture {
        folder: tempfile::TempDir,
        _state_dir: tempfile::TempDir,
        state: State,
        key: FolderKey,
        filter: Filter,
    }

    impl Fixture {
        fn new() -> Self {
            let state_dir = tempfile::tempdir().unwrap();
            let (state, _) = State::open(state_dir.path(), "").unwrap();
            let key = state.folder("f").unwrap();
            let filter = Filter::new(["*.tmp", "hidden/"], [], "").unwrap();
            Self { folder: tempfile::tempdir().unwrap(), _state_dir: state_dir, state, key, filter }
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
            scan: impl FnOnce(&Scan<'_>, &mut dyn FnMut(Finding) -> ControlFlow<()>) -> T,
        ) -> (Vec<String>, T) {
            let reader = self.state.reader().unwrap();
            let scanner = Scan {
                root,
                filter: &self.filter,
                reader: &reader,
                folder: self.key,
                watch: None,
                cancel: &CancellationToken::new(),
            };
            let mut found = Vec::new();
            let mut report = |finding| {
                found.push(match finding {
                    Finding::Differs(path, _) => format!("differs {path}"),
                    Finding::Gone(path) => format!("gone {path}"),
                    Finding::Unreadable(path, _) => format!("unreadable {path}"),
                    Finding::Skipped(path, _) => format!("skipped {path}"),
                });
                ControlFlow::Continue(())
            };
            let done = scan(&scanner, &mut report);
            (found, done)
        }

        fn root(&self) -> RootDir {
            RootDir::open(self.folder.path()).unwrap()
        }

        fn scan_from(&self, start: &str) -> (Vec<String>, ScanSummary) {
            let start = LocalPath::new(Path::new(start)).unwrap();
            self.found_by(&self.root(), |scan, report| scan.run(&start, report).unwrap())
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
                    self.found_by(&root, |scan, report| scan.run(&LocalPath::root(), report).unwrap())
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
        let entries = vec![DirEntry { name: "d".into(), kind: EntryKind::Unknown }];
        let (found, ()) = f.found_by(&f.root(), |scan, report| {
            let (root, mut hidden) = (LocalPath::root(), HashSet::new());
            let (mut stack, mut summary) = (Vec::new(), ScanSummary::default());
            let mut seen = Seen { stack: &mut stack, hidden: &mut hidden, summary: &mut summary };
            let known = scan.reader.files_in(f.key, &root).unwrap();
            let _ = scan.compare(&root, entries, known, &mut seen, report);
            let visited = HashSet::from([root.clone()]);
            let _ = scan.report_vanished(&root, &visited, &hidden, report).unwrap();
        });
        assert_eq!(found, ["unreadable d", "gone z"]);
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
}
