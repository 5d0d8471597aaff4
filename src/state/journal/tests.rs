use super::*;
use std::path::Path;

fn change(path: &str, size: u64) -> Change {
    Change {
        path: LocalPath::new(Path::new(path)).unwrap(),
        place: PlaceKey::default(),
        kind: ChangeKind::Put {
            signature: Signature { size, mtime_ns: 1, ctime_ns: 2, inode: 3 },
            digests: Digests { sha256: Some([9; 32]), xxh3: u128::MAX },
            racy: false,
        },
    }
}

fn batch(id: i64) -> BatchRow {
    BatchRow {
        id,
        phase: Phase::Staging,
        transport: BatchTransport::Workspace,
        workspace: "w".to_owned(),
        message: "m".to_owned(),
    }
}

#[test]
fn an_open_batch_is_found_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    let gone = Change { kind: ChangeKind::Remove, ..change("z", 0) };
    let late = |sha256| {
        let change = change("c", 3);
        let ChangeKind::Put { signature, digests, racy } = change.kind else { panic!("it puts a file") };
        Change { kind: ChangeKind::Put { signature, digests: Digests { sha256, ..digests }, racy }, ..change }
    };
    let changes = [change("a", 1), change("b", 2), late(None), gone.clone()];
    assert_eq!(state.next_batch_id().unwrap(), 1);
    state.open_batch(folder, &batch(1), &changes, 0).unwrap();
    assert_eq!(state.open_batches(folder).unwrap(), [(batch(1), changes.to_vec())]);
    state.commit_batch(1, &[changes[1].path.clone()], &[(changes[2].path.clone(), [7; 32])]).unwrap();
    drop(state);

    let (state, _) = State::open(dir.path(), "").unwrap();
    let found = state.open_batches(folder).unwrap();
    let committing = BatchRow { phase: Phase::Committing, ..batch(1) };
    assert_eq!(found, [(committing, vec![change("a", 1), late(Some([7; 32])), gone])]);
    assert_eq!(state.next_batch_id().unwrap(), 2);
}

#[test]
fn a_batch_that_is_still_collected_has_no_changes_until_its_commit_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    state.open_batch(folder, &batch(1), &[], 0).unwrap();
    assert_eq!(state.open_batches(folder).unwrap(), [(batch(1), Vec::new())]);
    let changes = vec![change("a", 1), change("b", 2)];
    let said = BatchRow { message: "2 files".to_owned(), ..batch(1) };
    state.commit_collected(&said, &changes).unwrap();
    let committing = BatchRow { phase: Phase::Committing, ..said };
    assert_eq!(state.open_batches(folder).unwrap(), [(committing, changes)]);
}

#[test]
fn the_wait_for_a_put_outlives_the_process_and_counts_for_its_batch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    let waited = Duration::from_millis(1_250);
    state.note_waited_for_put(folder, 12, waited).unwrap();
    drop(state);
    let (state, _) = State::open(dir.path(), "").unwrap();
    assert_eq!(state.waited_for_put(folder, 12).unwrap(), waited);
    for (folder, batch) in [(folder, 1), (folder, 13), (state.folder("b").unwrap(), 12)] {
        assert_eq!(state.waited_for_put(folder, batch).unwrap(), Duration::ZERO);
    }
}

#[test]
fn a_file_that_became_a_directory_is_known_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    for (id, path) in [(1, "t"), (2, "t/x/y")] {
        let changes = [change(path, 1)];
        state.open_batch(folder, &batch(id), &changes, 0).unwrap();
        state.close_batch(folder, id, Some("c"), &changes, 0).unwrap();
    }
    assert!(state.file(folder, &change("t", 1).path).unwrap().is_none());
    assert!(state.file(folder, &change("t/x/y", 1).path).unwrap().is_some());
}

#[test]
fn closing_a_batch_moves_what_is_proved_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    let changes = [change("d/a", 1), change("d/b", 2)];
    state.open_batch(folder, &batch(1), &changes, 0).unwrap();
    state.close_batch(folder, 1, Some("c1"), &changes[..1], 5).unwrap();
    assert!(state.open_batches(folder).unwrap().is_empty());
    let row = state.file(folder, &changes[0].path).unwrap().unwrap();
    assert_eq!((row.commit_id.as_deref(), row.pushed_ms), (Some("c1"), Some(5)));
    assert!(state.file(folder, &changes[1].path).unwrap().is_none());

    let remove = Change { kind: ChangeKind::Remove, ..changes[0].clone() };
    state.open_batch(folder, &batch(2), std::slice::from_ref(&remove), 6).unwrap();
    state.close_batch(folder, 2, Some("c2"), &[remove], 7).unwrap();
    assert!(state.file(folder, &changes[0].path).unwrap().is_none());
}
