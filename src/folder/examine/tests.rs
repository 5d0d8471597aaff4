use super::*;
use crate::content::Digests;
use crate::path::{Layout, RepoPath};
use crate::state::{BatchRow, BatchTransport, Leaving, Phase};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

struct Fixture {
    dir: tempfile::TempDir,
    _state_dir: tempfile::TempDir,
    examiner: Examiner,
}

fn local(path: &str) -> LocalPath {
    LocalPath::new(Path::new(path)).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let (dir, state_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (state, _) = State::open(state_dir.path(), "").unwrap();
        let folder = state.folder("f").unwrap();
        let places = Places::load(&state, folder, &RepoPath::root(), &Layout::in_dir("").unwrap()).unwrap();
        let examiner = Examiner {
            root: Arc::new(RootDir::open(dir.path()).unwrap()),
            filter: Arc::new(Filter::new(["*.tmp"], [], "").unwrap()),
            state,
            folder,
            places: Arc::new(places),
            max_file_size: Some(10),
            mirror: false,
            writers: Arc::default(),
            runs: None,
        };
        Self { dir, _state_dir: state_dir, examiner }
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    fn due(&self, due: Due) -> Examined {
        self.examiner.examine(&[due]).unwrap().remove(0)
    }

    /// What is due when a path has been quiet since it was looked at.
    fn quiet(&self, path: LocalPath) -> Due {
        let seen = match self.examiner.root.look(&path) {
            Ok(EntryKind::File(signature)) => Some(signature),
            _ => None,
        };
        Due { path, seen, overdue: false }
    }

    fn look(&self, name: &str) -> Examined {
        self.due(self.quiet(local(name)))
    }

    fn push(&self, name: &str) {
        let Examined::Finished(change) = self.look(name) else { panic!("{name} is not finished") };
        let Examiner { state, folder, .. } = &self.examiner;
        let batch = BatchRow {
            id: state.next_batch_id().unwrap(),
            phase: Phase::Staging,
            transport: BatchTransport::Put,
            workspace: String::new(),
            message: String::new(),
        };
        state.open_batch(*folder, &batch, std::slice::from_ref(&change), 0).unwrap();
        state.close_batch(*folder, batch.id, Some("c"), &[change], 0).unwrap();
    }
}

#[test]
fn a_file_with_a_writer_is_not_taken_until_it_is_overdue() {
    let f = Fixture::new();
    f.write("a", "half");
    let writer = fs::OpenOptions::new().append(true).open(f.dir.path().join("a")).unwrap();
    assert!(matches!(f.look("a"), Examined::Moving(Some(_))));
    let overdue = Due { path: local("a"), seen: None, overdue: true };
    assert!(matches!(f.due(overdue), Examined::Finished(_)));
    drop(writer);
    assert!(matches!(f.look("a"), Examined::Finished(_)));
}

#[test]
fn a_file_that_moved_since_it_was_seen_is_not_taken() {
    let f = Fixture::new();
    f.write("a", "1");
    let EntryKind::File(seen) = f.examiner.root.look(&local("a")).unwrap() else { panic!() };
    f.write("a", "22");
    let due = Due { path: local("a"), seen: Some(seen), overdue: false };
    assert!(matches!(f.due(due), Examined::Moving(Some(by_now)) if by_now.size == 2));
    // Also where nothing was seen, and no event has told of what came since.
    let due = Due { path: local("a"), seen: None, overdue: false };
    assert!(matches!(f.due(due), Examined::Moving(Some(by_now)) if by_now.size == 2));
}

#[test]
fn a_large_file_is_hashed_for_oxen_alone_unless_the_branch_may_hold_it() {
    let mut f = Fixture::new();
    f.examiner.max_file_size = None;
    let sha256 = |examined| match examined {
        Examined::Finished(Change { kind: ChangeKind::Put { digests, .. }, .. }) => digests.sha256,
        other => panic!("{other:?}"),
    };
    let file = fs::File::create(f.dir.path().join("a")).unwrap();
    file.set_len(RESUMED_MIN - 1).unwrap();
    drop(file);
    assert!(sha256(f.look("a")).is_some(), "small enough");
    let resize = |len| fs::File::options().write(true).open(f.dir.path().join("a")).unwrap().set_len(len);
    resize(RESUMED_MIN).unwrap();
    assert_eq!(sha256(f.look("a")), None);
    f.push("a");
    fs::write(f.dir.path().join("a"), vec![1; usize::try_from(RESUMED_MIN).unwrap()]).unwrap();
    assert!(sha256(f.look("a")).is_some(), "of the size that the branch has");
    resize(RESUMED_MIN + 1).unwrap();
    assert_eq!(sha256(f.look("a")), None);
}

#[test]
fn content_that_the_branch_holds_is_not_sent_again() {
    let f = Fixture::new();
    f.write("a", "1");
    f.push("a");
    f.write("a", "1");
    assert_eq!(f.look("a"), Examined::Nothing);
    let row = f.examiner.state.file(f.examiner.folder, &local("a")).unwrap().unwrap();
    let EntryKind::File(by_now) = f.examiner.root.look(&local("a")).unwrap() else { panic!() };
    assert_eq!(row.known.signature, Some(by_now), "the new signature is remembered");
    f.write("a", "2");
    assert!(matches!(f.look("a"), Examined::Finished(_)));
}

#[test]
fn a_file_that_is_gone_is_kept_or_mirrored() {
    let mut f = Fixture::new();
    f.write("a", "1");
    f.push("a");
    fs::remove_file(f.dir.path().join("a")).unwrap();
    f.examiner.mirror = true;
    let presence =
        |f: &Fixture| f.examiner.state.file(f.examiner.folder, &local("a")).unwrap().unwrap().known.presence;
    assert_eq!((f.look("a"), presence(&f)), (Examined::Removed, Presence::Waiting));
    assert_eq!(f.look("a"), Examined::Nothing, "it is written down");
    f.examiner.state.release_removals(f.examiner.folder, None).unwrap();
    let remove = Change { path: local("a"), place: PlaceKey::default(), kind: ChangeKind::Remove };
    assert_eq!(f.look("a"), Examined::Finished(remove));
    f.write("a", "1");
    f.push("a");
    fs::remove_file(f.dir.path().join("a")).unwrap();
    f.examiner.mirror = false;
    assert_eq!((f.look("a"), presence(&f)), (Examined::Nothing, Presence::Kept));
    f.write("a", "1");
    assert!(matches!(f.look("a"), Examined::Finished(_)), "whether the branch still holds it is to be asked");
}

#[test]
fn a_directory_that_is_not_the_folder_any_more_says_nothing_of_it() {
    let mut f = Fixture::new();
    f.examiner.mirror = true;
    f.write("a", "1");
    f.push("a");
    // The folder is another, and what was opened is emptied.
    let (path, away) = (f.dir.path().to_path_buf(), f.dir.path().with_extension("away"));
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    fs::remove_file(away.join("a")).unwrap();
    assert_eq!(f.look("a"), Examined::Moving(None), "it is looked at again");
    fs::remove_dir(&path).unwrap();
    assert_eq!(f.look("a"), Examined::Moving(None));
    assert_eq!(f.examiner.state.removals_waiting(f.examiner.folder).unwrap(), 0);
    fs::rename(&away, &path).unwrap();
    assert_eq!(f.look("a"), Examined::Removed);
}

#[test]
fn a_file_that_a_directory_replaced_is_gone() {
    let mut f = Fixture::new();
    f.examiner.mirror = true;
    f.write("a", "1");
    f.push("a");
    fs::remove_file(f.dir.path().join("a")).unwrap();
    fs::create_dir(f.dir.path().join("a")).unwrap();
    assert_eq!(f.look("a"), Examined::Removed);
    fs::create_dir(f.dir.path().join("b")).unwrap();
    assert_eq!(f.look("b"), Examined::Directory);
}

#[test]
fn what_can_never_be_stored_is_refused_with_a_reason() {
    let mut f = Fixture::new();
    f.write("back\\slash", "1");
    f.write("large", "12345678901");
    fs::write(f.dir.path().join(OsStr::from_bytes(b"\xff")), "1").unwrap();
    f.write("a.tmp", "1");
    assert_eq!(f.look("a.tmp"), Examined::Nothing);
    let latin = LocalPath::root().join(OsStr::from_bytes(b"\xff"));
    for path in [local("back\\slash"), local("large"), latin] {
        let due = f.quiet(path);
        let first = f.due(due.clone());
        assert!(
            matches!(first, Examined::Problem { ref row, is_new: true, .. } if row.kind == ProblemKind::Refused)
        );
        assert_eq!(f.due(due), Examined::Nothing, "told once");
    }
    f.examiner.max_file_size = None;
    assert!(matches!(f.look("large"), Examined::Finished(_)), "a raised limit releases it");
}

#[test]
fn what_was_taken_off_is_not_removed_by_a_folder_that_mirrors_since() {
    let mut f = Fixture::new();
    f.examiner.mirror = true;
    let Examiner { state, folder, .. } = f.examiner.clone();
    let row = |name: &str| state.file(folder, &local(name)).unwrap().unwrap();
    for name in ["ours", "theirs"] {
        f.write(name, name);
        f.push(name);
        let signature = row(name).known.signature.unwrap();
        let digests = Digests { sha256: row(name).sha256, xxh3: row(name).xxh3 };
        let confirmed = [Confirmed { path: local(name), signature, digests, racy: false }];
        state.confirm_files(folder, &confirmed).unwrap();
        if name == "ours" {
            let leaving = vec![Leaving { path: local(name), signature }];
            assert_eq!(state.begin_taking_off(folder, leaving, None, 1).unwrap().len(), 1);
            // A look that had seen it before is written down late.
            state.confirm_files(folder, &confirmed).unwrap();
            state.end_taking_off(folder, &[local(name)], &[]).unwrap();
        }
        fs::remove_file(f.dir.path().join(name)).unwrap();
    }
    assert_eq!((f.look("ours"), row("ours").known.presence), (Examined::Nothing, Presence::Kept));
    assert_eq!((f.look("theirs"), row("theirs").known.presence), (Examined::Removed, Presence::Waiting));
}
