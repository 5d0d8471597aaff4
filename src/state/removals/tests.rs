use super::*;
use crate::content::{Digests, Signature};
use crate::state::{
    BatchRow, BatchTransport, Change, ChangeKind, Confirmed, Listed, Phase, PlaceKey, Presence,
};
use std::path::Path;

fn listed(path: &str, xxh3: u128) -> Listed {
    Listed { files: vec![(PlaceKey::default(), local(path))], size: 1, xxh3 }
}

fn local(path: &str) -> LocalPath {
    LocalPath::new(Path::new(path)).unwrap()
}

const SIGNATURE: Signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
const DIGESTS: Digests = Digests { sha256: Some([1; 32]), xxh3: 1 };

fn with_files(state: &State, paths: &[&str]) -> FolderKey {
    let folder = state.folder("a").unwrap();
    let kind = ChangeKind::Put { signature: SIGNATURE, digests: DIGESTS, racy: false };
    let changes: Vec<_> =
        paths.iter().map(|path| Change { path: local(path), place: PlaceKey::default(), kind }).collect();
    let batch = BatchRow {
        id: 1,
        phase: Phase::Staging,
        transport: BatchTransport::Put,
        workspace: String::new(),
        message: String::new(),
    };
    state.open_batch(folder, &batch, &changes, 0).unwrap();
    state.close_batch(folder, 1, Some("c"), &changes, 0).unwrap();
    folder
}

fn mark(state: &State, folder: FolderKey, paths: &[&str]) {
    let paths: Vec<_> = paths.iter().map(|path| local(path)).collect();
    state.mark_gone(folder, &paths, Presence::Waiting).unwrap();
}

#[test]
fn what_is_held_stays_so_until_it_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "d/b", "d/e/c", "here"]);
    assert_eq!(state.hold_removals(folder, None, 3).unwrap(), None, "nothing waits");
    mark(&state, folder, &["a", "d/b"]);
    let counts = state.reader().unwrap().removal_counts(folder).unwrap();
    assert_eq!(counts, RemovalCounts { waiting: 2, here: 2 });
    assert_eq!(state.held(folder).unwrap(), None, "it waits and is not held");
    assert_eq!(
        state.hold_removals(folder, None, 5).unwrap(),
        Some(Held { files: 2, since_ms: 5, before: None })
    );
    mark(&state, folder, &["d/e/c"]);
    drop(state);

    let (state, _) = State::open(dir.path(), "").unwrap();
    assert_eq!(
        state.hold_removals(folder, None, 9).unwrap(),
        Some(Held { files: 3, since_ms: 5, before: None })
    );
    assert_eq!(state.summary(folder).unwrap().held, Some(Held { files: 3, since_ms: 5, before: None }));
    assert!(!state.end_holding(folder).unwrap());
    assert_eq!(state.released_removals(folder, None, 9).unwrap(), []);
    assert_eq!(state.release_removals(folder, None).unwrap(), 3);
    assert_eq!((state.held(folder).unwrap(), state.removals_waiting(folder).unwrap()), (None, 0));
    let first = state.released_removals(folder, None, 2).unwrap();
    assert_eq!(first, [local("a"), local("d/b")]);
    assert_eq!(state.released_removals(folder, first.last(), 2).unwrap(), [local("d/e/c")]);
}

#[test]
fn what_is_held_for_now_says_what_there_was_before_until_it_is_held_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "b"]);
    mark(&state, folder, &["a"]);
    let for_now = Held { files: 1, since_ms: 5, before: Some(2) };
    assert_eq!(state.hold_removals(folder, Some(2), 5).unwrap(), Some(for_now));
    drop(state);

    let (state, _) = State::open(dir.path(), "").unwrap();
    assert_eq!(state.held(folder).unwrap(), Some(for_now));
    assert!(!state.end_holding(folder).unwrap());
    let for_good = Held { before: None, ..for_now };
    assert_eq!(state.hold_removals(folder, None, 9).unwrap(), Some(for_good), "since then all the same");
    assert_eq!(state.release_some_held(folder).unwrap(), 1);
}

#[test]
fn a_file_whose_content_is_here_under_another_name_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    let here = |path: &str, content: u8| Confirmed {
        path: local(path),
        signature: SIGNATURE,
        digests: Digests { sha256: Some([content; 32]), xxh3: content.into() },
        racy: false,
    };
    let rows = [("moved", 1), ("to", 1), ("coming", 2), ("lost", 3), ("only listed", 3), ("also gone", 3)];
    state.begin_listing(folder).unwrap();
    state.list_files(folder, &rows.map(|(path, content)| listed(path, content))).unwrap();
    state.end_listing(folder, "c").unwrap();
    let known = rows.iter().filter(|(path, _)| *path != "only listed");
    let known: Vec<_> = known.map(|(path, content)| here(path, *content as u8)).collect();
    state.confirm_files(folder, &known).unwrap();
    mark(&state, folder, &["moved", "coming", "lost", "also gone"]);
    let lost = |coming: &[u128]| {
        state.reader().unwrap().removals_lost(folder, &coming.iter().copied().collect()).unwrap()
    };
    assert_eq!((lost(&[2]), lost(&[])), (2, 3));
}

#[test]
fn no_more_removals_go_than_were_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "b", "c", "here"]);
    mark(&state, folder, &["a", "b"]);
    let counted = state.reader().unwrap().removal_counts(folder).unwrap().waiting;
    mark(&state, folder, &["c"]);
    assert_eq!(state.release_removals(folder, Some(counted)).unwrap(), 2);
    let counts = state.reader().unwrap().removal_counts(folder).unwrap();
    assert_eq!(counts, RemovalCounts { waiting: 1, here: 1 });
    assert_eq!(state.released_removals(folder, None, 9).unwrap().len(), 2);
}

#[test]
fn what_was_let_go_lately_is_known_until_someone_lets_more_go() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "b"]);
    assert_eq!(state.let_go_lately(folder).unwrap(), []);
    for lately in [vec![(1, 10)], vec![(1, 10), (70_000, 8)]] {
        state.note_let_go(folder, &lately).unwrap();
        assert_eq!(state.let_go_lately(folder).unwrap(), lately);
    }
    assert_eq!(state.release_some_held(folder).unwrap(), 0, "nothing is held");
    assert_eq!(state.let_go_lately(folder).unwrap().len(), 2);
    mark(&state, folder, &["a"]);
    state.hold_removals(folder, None, 5).unwrap();
    assert_eq!(state.release_some_held(folder).unwrap(), 1);
    assert_eq!(state.let_go_lately(folder).unwrap(), []);
}

#[test]
fn what_is_not_let_go_yet_is_held_still() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "b", "c", "d"]);
    mark(&state, folder, &["a", "b", "c", "d"]);
    state.hold_removals(folder, None, 5).unwrap();
    assert_eq!(state.release_step(folder, 2, false).unwrap(), (2, true));
    assert_eq!(state.held(folder).unwrap(), Some(Held { files: 2, since_ms: 5, before: None }));
    assert!(!state.end_holding(folder).unwrap());
    assert_eq!(state.release_step(folder, 2, false).unwrap(), (2, false));
    assert_eq!(state.held(folder).unwrap(), None);
    assert_eq!(state.release_some_held(folder).unwrap(), 0);
}

#[test]
fn what_comes_back_is_not_held_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "b"]);
    mark(&state, folder, &["a"]);
    state.hold_removals(folder, None, 5).unwrap();
    let back = Confirmed { path: local("a"), signature: SIGNATURE, digests: DIGESTS, racy: false };
    state.confirm_files(folder, &[back]).unwrap();
    assert_eq!(state.held(folder).unwrap(), None);
    assert!(state.end_holding(folder).unwrap());
    mark(&state, folder, &["b"]);
    assert_eq!(state.held(folder).unwrap(), None, "what goes later is judged anew");
}

#[test]
fn a_branch_that_is_to_keep_everything_keeps_what_was_to_go() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["a", "b"]);
    mark(&state, folder, &["a"]);
    state.release_removals(folder, None).unwrap();
    mark(&state, folder, &["b"]);
    state.hold_removals(folder, None, 5).unwrap();
    assert!(state.has_mirrored(folder).unwrap());
    state.keep_removed(folder).unwrap();
    assert_eq!(state.released_removals(folder, None, 9).unwrap(), []);
    assert_eq!((state.held(folder).unwrap(), state.removals_waiting(folder).unwrap()), (None, 0));
    assert!(!state.has_mirrored(folder).unwrap());
}

#[test]
fn a_listing_of_the_branch_lets_nothing_go() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["same", "other", "lost"]);
    mark(&state, folder, &["same", "other", "lost"]);
    state.hold_removals(folder, None, 5).unwrap();
    state.begin_listing(folder).unwrap();
    state.list_files(folder, &[listed("same", 1), listed("other", 2)]).unwrap();
    state.end_listing(folder, "c9").unwrap();
    assert_eq!(
        state.held(folder).unwrap(),
        Some(Held { files: 1, since_ms: 5, before: None }),
        "what others did is theirs"
    );
}

#[test]
fn removals_are_found_without_a_look_at_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let connection = state.lock();
    let by_index = |query: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let plan: Vec<String> =
            statement.query_map([1], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(plan.iter().all(|step| step.contains("file_removed")), "{query}: {plan:?}");
    };
    by_index(&format!("SELECT count(*) FROM file WHERE {IS_WAITING}"));
    by_index(&format!("SELECT 1 FROM file WHERE {IS_WAITING} LIMIT 1"));
    by_index(&KEEP[KEEP.find("SELECT").unwrap()..KEEP.rfind(" LIMIT").unwrap()]);
    by_index(&RELEASE[RELEASE.find("SELECT").unwrap()..RELEASE.rfind(" LIMIT").unwrap()]);
    by_index(RELEASED.split(" AND (dir").next().unwrap());
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {LOST}")).unwrap();
    let plan: Vec<String> =
        statement.query_map([1], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
    let steps = plan.iter().filter(|step| step.contains("SEARCH")).collect::<Vec<_>>();
    assert!(
        matches!(&steps[..], [lost, here] if lost.contains("file_removed")
            && here.contains("file_by_content (folder=? AND xxh3=?)")),
        "{plan:?}"
    );
    by_index(&RELEASED.replace("?2", "x''").replace("?3", "x''").replace("?4", "9"));
}

#[test]
fn removals_below_a_directory_are_found_by_whole_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = with_files(&state, &["d/e/a", "d0/b", "d-/c"]);
    mark(&state, folder, &["d0/b", "d-/c"]);
    assert!(!state.has_removals_below(folder, &local("d")).unwrap());
    mark(&state, folder, &["d/e/a"]);
    for dir in ["d", "d/e"] {
        assert!(state.has_removals_below(folder, &local(dir)).unwrap());
    }
    state.release_removals(folder, None).unwrap();
    assert!(state.has_removals_below(folder, &local("d")).unwrap());
}
