use super::*;

#[test]
fn one_process_owns_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let (state, set_aside) = State::open(dir.path(), "").unwrap();
    assert!(set_aside.is_none());
    assert!(matches!(State::open(dir.path(), ""), Err(StateError::Locked(_))));
    drop(state);
    State::open(dir.path(), "").unwrap();
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, is_taken) in [(0o777, false), (0o1777, false), (0o770, false), (0o755, true), (0o700, true)] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = State::open(dir.path(), "");
        assert_eq!(opened.is_ok(), is_taken, "{mode:o}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("run: chmod go-w /"), "{error}");
        }
    }
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_broken_database_is_set_aside_and_a_new_one_begins() {
    for garbage in [&b"not a database at all, but long enough to be looked at as one....."[..], &[0; 5000]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), garbage).unwrap();
        let (state, set_aside) = State::open(dir.path(), "").unwrap();
        assert_eq!(fs::read(set_aside.unwrap().moved_to).unwrap(), garbage);
        state.folder("a").unwrap();
    }
}

#[test]
fn a_database_that_cannot_be_opened_now_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    assert!(matches!(State::open(dir.path(), ""), Err(StateError::Database(_))));
    assert!(dir.path().join(FILE).is_dir(), "it is not set aside");
}

#[test]
fn a_database_of_an_earlier_version_keeps_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    let path = crate::path::LocalPath::new(Path::new("d/x")).unwrap();
    let files = vec![(crate::state::PlaceKey::default(), path.clone())];
    state.list_files(folder, &[crate::state::Listed { files, size: 1, xxh3: 7 }]).unwrap();
    let crowd: Vec<_> = (0..crate::oxen::CROWDED_DIR_FILES)
        .map(|n| crate::path::LocalPath::new(Path::new(&format!("d/{n}"))).unwrap())
        .map(|path| vec![(crate::state::PlaceKey::default(), path)])
        .map(|files| crate::state::Listed { files, size: 1, xxh3: 7 })
        .collect();
    state.list_files(folder, &crowd).unwrap();
    let known = state.file(folder, &path).unwrap();
    let to_2 = "DROP TABLE place; ALTER TABLE file DROP COLUMN place;
                ALTER TABLE batch_change DROP COLUMN place; PRAGMA user_version = 2";
    state.lock().execute_batch(to_2).unwrap();
    drop(state);
    let reader = Reader::open(dir.path()).unwrap().unwrap();
    assert_eq!(reader.summary(folder).unwrap().crowded, None, "whoever reads it before the service does");
    drop(reader);
    let (state, set_aside) = State::open(dir.path(), "").unwrap();
    assert!(set_aside.is_none());
    assert_eq!((state.file(folder, &path).unwrap(), known.is_some()), (known, true));
    drop(state);
    let (_, set_aside) = State::open(dir.path(), "").unwrap();
    assert!(set_aside.is_none(), "it is of this version now");
}

#[test]
fn a_database_of_another_version_is_set_aside() {
    for version in [1, schema::VERSION + 1] {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        state.lock().pragma_update(None, "user_version", version).unwrap();
        drop(state);
        let (_, set_aside) = State::open(dir.path(), "").unwrap();
        assert!(set_aside.unwrap().reason.contains("another version"));
    }
}

#[test]
fn a_database_of_another_machine_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    drop(State::open(dir.path(), "here").unwrap());
    let (_, set_aside) = State::open(dir.path(), "here").unwrap();
    assert!(set_aside.is_none());
    // One that has no id, or cannot read it just now, says nothing.
    let (_, set_aside) = State::open(dir.path(), "").unwrap();
    assert!(set_aside.is_none());
    let (_, set_aside) = State::open(dir.path(), "there").unwrap();
    assert!(set_aside.unwrap().reason.contains("another machine"));
    let (_, set_aside) = State::open(dir.path(), "there").unwrap();
    assert!(set_aside.is_none());
}

#[test]
fn a_database_that_cannot_be_used_stays_where_whoever_asks_wants_that() {
    let dir = tempfile::tempdir().unwrap();
    drop(State::open(dir.path(), "here").unwrap());
    let error = State::open_as_it_is(dir.path(), "there").unwrap_err();
    assert!(error.to_string().contains("another machine"), "{error}");
    let (_, set_aside) = State::open(dir.path(), "here").unwrap();
    assert!(set_aside.is_none());
}

#[test]
fn a_folder_keeps_its_number_and_its_root() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = State::open(dir.path(), "").unwrap();
    let folder = state.folder("a").unwrap();
    assert_ne!(state.folder("b").unwrap(), folder);
    assert_eq!(state.root_id(folder).unwrap(), None);
    let id = RootId { device: u64::MAX, inode: 7, born_ns: Some(-1) };
    state.set_root_id(folder, id).unwrap();
    drop(state);
    let (state, _) = State::open(dir.path(), "").unwrap();
    assert_eq!(state.folder("a").unwrap(), folder);
    assert_eq!(state.root_id(folder).unwrap(), Some(id));
}
