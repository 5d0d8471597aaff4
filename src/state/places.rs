//! Where each file of a folder stands on the branch, kept since it was first pushed: neither a later time of the file nor
//! another layout in the config moves what the branch has.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use jiff::tz::TimeZone;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use super::{FolderKey, State, StateError};
use crate::path::{Layout, LocalPath, Place, Refusal, RepoPath};

/// The number of a [`Place`] in the state. The default one is the folder's own directory, without any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PlaceKey(i64);

impl ToSql for PlaceKey {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for PlaceKey {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

/// The places of a folder: where its files stand, and where new ones are to.
#[derive(Debug)]
pub struct Places {
    state: State,
    folder: FolderKey,
    layout: Layout,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<PlaceKey, Place>,
    keys: HashMap<Place, PlaceKey>,
    /// By the directory that comes first.
    by_before: HashMap<RepoPath, Vec<PlaceKey>>,
}

impl Known {
    fn add(&mut self, key: PlaceKey, place: Place) {
        if self.by_key.insert(key, place.clone()).is_none() {
            self.by_before.entry(place.before.clone()).or_default().push(key);
            self.keys.insert(place, key);
        }
    }

    /// The files of known places that stand at `path`, were they there.
    fn files_at(&self, path: &RepoPath) -> Vec<(PlaceKey, LocalPath)> {
        let dirs = path.ancestors().map(RepoPath::parse).chain([Ok(RepoPath::root())]);
        let keys = dirs.filter_map(|dir| self.by_before.get(&dir.ok()?)).flatten();
        keys.filter_map(|key| Some((*key, self.by_key.get(key)?.file_at(path)?))).collect()
    }
}

impl Places {
    /// Those of `folder`, whose files stand below `remote_dir` unless a layout says more, and whose new files stand as
    /// `layout` says.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn load(
        state: &State,
        folder: FolderKey,
        remote_dir: &RepoPath,
        layout: &Layout,
    ) -> Result<Self, StateError> {
        let mut known = Known::default();
        known.add(PlaceKey::default(), Place::in_dir(remote_dir.clone()));
        for (key, place) in state.places(folder)? {
            known.add(key, place);
        }
        Ok(Self { state: state.clone(), folder, layout: layout.clone(), known: RwLock::new(known) })
    }

    /// What says where new files stand.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a new file that was changed at `mtime_ns`, in nanoseconds since the epoch.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn for_new(&self, mtime_ns: i64) -> Result<PlaceKey, StateError> {
        self.key_of(&self.layout.place_at(mtime_ns, &TimeZone::system()))
    }

    fn key_of(&self, place: &Place) -> Result<PlaceKey, StateError> {
        if let Some(key) = self.known().keys.get(place) {
            return Ok(*key);
        }
        let key = self.state.note_place(self.folder, place)?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).add(key, place.clone());
        Ok(key)
    }

    /// Where `file` of a place stands.
    ///
    /// # Errors
    /// Why it cannot stand there under its own name.
    pub fn path_of(&self, key: PlaceKey, file: &LocalPath) -> Result<RepoPath, Refusal> {
        let known = self.known();
        // A key is handed out by the state that all of them are loaded from.
        let place = known.by_key.get(&key).or_else(|| known.by_key.get(&PlaceKey::default()));
        place.map_or(Err(Refusal::NotPlain), |place| place.path_of(file))
    }

    /// Which files of the folder a path on the branch can be, the likeliest first.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn files_at(&self, path: &RepoPath) -> Result<Vec<(PlaceKey, LocalPath)>, StateError> {
        let mut files = Vec::new();
        if let Some((place, file)) = self.layout.file_at(path) {
            files.push((self.key_of(&place)?, file));
        }
        for found in self.known().files_at(path) {
            if !files.contains(&found) {
                files.push(found);
            }
        }
        Ok(files)
    }

    /// Another file of the folder that is on the branch where a new `file` is to stand, or a directory above it. That can
    /// only be where files came to the branch under another layout than today's.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn in_the_way(&self, key: PlaceKey, file: &LocalPath) -> Result<Option<LocalPath>, StateError> {
        if self.known().by_key.len() == 1 {
            return Ok(None);
        }
        let Ok(path) = self.path_of(key, file) else { return Ok(None) };
        let above = path.ancestors().filter_map(|dir| RepoPath::parse(dir).ok());
        for path in [path.clone()].into_iter().chain(above) {
            let found = self.known().files_at(&path);
            for (other_key, other) in found {
                // A file that has become a directory, which the server sees in the same way.
                let is_own = other_key == key && file.starts_with(&other);
                let stands_there = || {
                    Ok::<_, StateError>(
                        self.state.file(self.folder, &other)?.is_some_and(|row| row.place == other_key),
                    )
                };
                if !is_own && stands_there()? {
                    return Ok(Some(other));
                }
            }
        }
        Ok(None)
    }
}

/// The place of this number; `None` for the folder's own directory.
pub(super) fn place(connection: &Connection, key: PlaceKey) -> rusqlite::Result<Option<Place>> {
    let found = connection
        .prepare_cached("SELECT before, behind FROM place WHERE id = ?1")?
        .query_row([key], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    // Nothing else was ever written.
    Ok(found.and_then(|(before, behind)| {
        Some(Place { before: RepoPath::parse(&before).ok()?, behind: RepoPath::parse(&behind).ok()? })
    }))
}

impl State {
    fn places(&self, folder: FolderKey) -> Result<Vec<(PlaceKey, Place)>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT id FROM place WHERE folder = ?1")?;
        let mut rows = statement.query([folder.0])?;
        let mut places = Vec::new();
        while let Some(row) = rows.next()? {
            let key = row.get(0)?;
            places.extend(place(&connection, key)?.map(|place| (key, place)));
        }
        Ok(places)
    }

    fn note_place(&self, folder: FolderKey, place: &Place) -> Result<PlaceKey, StateError> {
        let texts = params![folder.0, place.before.as_str(), place.behind.as_str()];
        self.write(|transaction| {
            let known = transaction
                .prepare_cached("SELECT id FROM place WHERE folder = ?1 AND before = ?2 AND behind = ?3")?
                .query_row(texts, |row| row.get(0))
                .optional()?;
            if let Some(key) = known {
                return Ok(key);
            }
            transaction
                .prepare_cached("INSERT INTO place (folder, before, behind) VALUES (?1, ?2, ?3)")?
                .execute(texts)?;
            Ok(PlaceKey(transaction.last_insert_rowid()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn repo(path: &str) -> RepoPath {
        RepoPath::parse(path).unwrap()
    }

    fn layout(below: &str) -> Layout {
        Layout::in_dir("cam").unwrap().with_path(below).unwrap()
    }

    const MTIME_NS: i64 = 1_793_887_402_000_000_000;

    #[test]
    fn a_place_is_known_again_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let places = Places::load(&state, folder, &repo("cam"), &layout("{path}")).unwrap();
        assert_eq!(places.for_new(MTIME_NS).unwrap(), PlaceKey::default(), "it needs none of its own");

        let dated = Places::load(&state, folder, &repo("cam"), &layout("{date}/{path}")).unwrap();
        let key = dated.for_new(MTIME_NS).unwrap();
        assert_eq!(dated.for_new(MTIME_NS).unwrap(), key);
        let path = dated.path_of(key, &local("x")).unwrap();
        let later = Places::load(&state, folder, &repo("cam"), &layout("{path}")).unwrap();
        assert_eq!(later.path_of(key, &local("x")).unwrap(), path);
        let other = state.folder("b").unwrap();
        assert_ne!(
            Places::load(&state, other, &repo("cam"), &layout("{date}/{path}")).unwrap().for_new(0).unwrap(),
            key
        );
    }

    #[test]
    fn a_path_on_the_branch_is_read_as_the_layout_of_today_first() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let dated = Places::load(&state, folder, &repo("cam"), &layout("{date}/{path}")).unwrap();
        let found = dated.files_at(&repo("cam/2026-11-05/x")).unwrap();
        assert_eq!(
            found.iter().map(|(_, file)| file.clone()).collect::<Vec<_>>(),
            [local("x"), local("2026-11-05/x")]
        );
        assert_eq!(found[1].0, PlaceKey::default());
        assert_eq!(dated.files_at(&repo("cam/x")).unwrap(), [(PlaceKey::default(), local("x"))]);
        assert_eq!(dated.files_at(&repo("else/x")).unwrap(), []);
    }

    #[test]
    fn a_new_file_does_not_take_the_path_of_one_from_before() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let dated = Places::load(&state, folder, &repo("cam"), &layout("{date}/{path}")).unwrap();
        let key = dated.for_new(MTIME_NS).unwrap();
        let day = dated.path_of(key, &local("x")).unwrap().as_str()["cam/".len()..]
            .trim_end_matches("/x")
            .to_owned();
        let blocker = |path: &str| dated.in_the_way(key, &local(path)).unwrap();
        assert_eq!(blocker("x"), None);
        for old in [local(&format!("{day}/x")), local(&format!("{day}/y"))] {
            state
                .list_files(
                    folder,
                    &[super::super::Listed { files: vec![(PlaceKey::default(), old)], size: 1, xxh3: 1 }],
                )
                .unwrap();
        }
        assert_eq!(blocker("x"), Some(local(&format!("{day}/x"))));
        assert_eq!(
            blocker("y/z"),
            Some(local(&format!("{day}/y"))),
            "it would turn that file into a directory"
        );
        assert_eq!(blocker("z"), None);
    }
}
