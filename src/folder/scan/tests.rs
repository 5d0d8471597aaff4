use super::*;
use crate::content::{Wanted, hash_file};
use crate::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, PlaceKey, State};
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
        Self { folder: tempfile::tempdir().unwrap(), _state_dir: state_dir, state, key, filter, threads: 1 }
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
                let hashed = hash_file(&mut root.open_file(&path).unwrap(), Wanted::Both).unwrap();
                let kind =
                    ChangeKind::Put { signature: hashed.signature, digests: hashed.digests, racy: false };
                Change { path, place: PlaceKey::default(), kind }
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
                Finding::Apart(path) => format!("apart {path}"),
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
        let set = |mode| fs::set_permissions(self.folder.path().join(path), fs::Permissions::from_mode(mode));
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
fn a_file_that_is_being_taken_off_is_told_by_its_own_name() {
    let f = Fixture::new();
    for path in ["d/.oxen-sync-taking-off.a", "d/.oxen-sync-taking-off.", "hidden/.oxen-sync-taking-off.b"] {
        f.write(path);
    }
    assert_eq!(f.scan(), ["apart d/a"]);
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
