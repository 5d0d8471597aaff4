//! Where each file of a folder stands on the branch, kept since it was first pushed: neither a later time of the file nor
//! another layout in the config moves what the branch has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// That of the default key.
    own: Place,
    layout: Layout,
    /// Where new files stand, whatever their time is, if it has no part in that.
    fixed: Option<PlaceKey>,
    /// Whether there is another one than the folder's own.
    has_others: AtomicBool,
    lately: Mutex<Lately>,
}

/// Those that were asked for lately. A year of minutes has half a million.
#[derive(Debug, Default)]
struct Lately {
    places: HashMap<PlaceKey, Place>,
    keys: HashMap<Place, PlaceKey>,
}

/// Places kept at hand.
const LATELY_MAX: usize = 1024;

impl Lately {
    fn add(&mut self, key: PlaceKey, place: &Place) {
        if self.places.len() >= LATELY_MAX {
            *self = Self::default();
        }
        self.places.insert(key, place.clone());
        self.keys.insert(place.clone(), key);
    }
}

/// Why it cannot be said where a file stands.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The file cannot stand there under its own name.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
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
        let mut places = Self {
            state: state.clone(),
            folder,
            own: Place::in_dir(remote_dir.clone()),
            layout: layout.clone(),
            fixed: None,
            has_others: AtomicBool::new(state.has_places(folder)?),
            lately: Mutex::default(),
        };
        if !layout.has_time() {
            places.fixed = Some(places.key_of(&layout.place_at(0, &TimeZone::UTC))?);
        }
        Ok(places)
    }

    /// What says where new files stand.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a new file that was changed at `mtime_ns`, in nanoseconds since the epoch.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn for_new(&self, mtime_ns: i64) -> Result<PlaceKey, StateError> {
        match self.fixed {
            Some(key) => Ok(key),
            None => self.key_of(&self.layout.place_at(mtime_ns, &TimeZone::system())),
        }
    }

    fn key_of(&self, place: &Place) -> Result<PlaceKey, StateError> {
        if *place == self.own {
            return Ok(PlaceKey::default());
        }
        if let Some(key) = self.lately().keys.get(place) {
            return Ok(*key);
        }
        let key = self.state.note_place(self.folder, place)?;
        self.has_others.store(true, Ordering::Relaxed);
        self.lately().add(key, place);
        Ok(key)
    }

    fn place_of(&self, key: PlaceKey) -> Result<Place, StateError> {
        if key == PlaceKey::default() {
            return Ok(self.own.clone());
        }
        if let Some(place) = self.lately().places.get(&key) {
            return Ok(place.clone());
        }
        let place = place(&self.state.lock(), key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.lately().add(key, &place);
        Ok(place)
    }

    /// Where `file` of a place stands.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn path_of(&self, key: PlaceKey, file: &LocalPath) -> Result<RepoPath, PlaceError> {
        Ok(self.place_of(key)?.path_of(file)?)
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
        for found in self.known_files_at(path)? {
            if !files.contains(&found) {
                files.push(found);
            }
        }
        Ok(files)
    }

    /// The files of known places that stand at `path`, were they there.
    fn known_files_at(&self, path: &RepoPath) -> Result<Vec<(PlaceKey, LocalPath)>, StateError> {
        let mut files = Vec::new();
        files.extend(self.own.file_at(path).map(|file| (PlaceKey::default(), file)));
        if !self.has_others.load(Ordering::Relaxed) {
            return Ok(files);
        }
        let dirs = path.ancestors().chain([""]);
        for (key, place) in self.state.places_before(self.folder, dirs)? {
            files.extend(place.file_at(path).map(|file| (key, file)));
        }
        Ok(files)
    }

    /// Another file of the folder that is on the branch where a new `file` is to stand, or a directory above it. That can
    /// only be where files came to the branch under another layout than today's.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn in_the_way(&self, key: PlaceKey, file: &LocalPath) -> Result<Option<LocalPath>, StateError> {
        if !self.has_others.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let path = match self.path_of(key, file) {
            Ok(path) => path,
            Err(PlaceError::Refused(_)) => return Ok(None),
            Err(PlaceError::State(error)) => return Err(error),
        };
        let above = path.ancestors().filter_map(|dir| RepoPath::parse(dir).ok());
        for path in [path.clone()].into_iter().chain(above) {
            for (other_key, other) in self.known_files_at(&path)? {
                // A file that has become a directory, which the server sees in the same way.
                let is_own = other_key == key && file.starts_with(&other);
                if is_own {
                    continue;
                }
                let row = self.state.file(self.folder, &other)?;
                if row.is_some_and(|row| row.place == other_key) {
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
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(before, behind): (String, String)| parsed(&before, &behind)))
}

/// Nothing else was ever written.
fn parsed(before: &str, behind: &str) -> Option<Place> {
    Some(Place { before: RepoPath::parse(before).ok()?, behind: RepoPath::parse(behind).ok()? })
}

impl State {
    fn has_places(&self, folder: FolderKey) -> Result<bool, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT 1 FROM place WHERE folder = ?1 LIMIT 1")?;
        Ok(statement.exists([folder.0])?)
    }

    /// The places whose first part is one of `dirs`.
    fn places_before<'a>(
        &self,
        folder: FolderKey,
        dirs: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<(PlaceKey, Place)>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, behind FROM place WHERE folder = ?1 AND before = ?2")?;
        let mut places = Vec::new();
        for dir in dirs {
            let mut rows = statement.query(params![folder.0, dir])?;
            while let Some(row) = rows.next()? {
                let (key, behind): (PlaceKey, String) = (row.get(0)?, row.get(1)?);
                places.extend(parsed(dir, &behind).map(|place| (key, place)));
            }
        }
        Ok(places)
    }

    fn note_place(&self, folder: FolderKey, place: &Place) -> Result<PlaceKey, StateError> {
        let texts = params![folder.0, place.before.as_str(), place.behind.as_str()];
        let known = self
            .lock()
            .prepare_cached("SELECT id FROM place WHERE folder = ?1 AND before = ?2 AND behind = ?3")?
            .query_row(texts, |row| row.get(0))
            .optional()?;
        if let Some(key) = known {
            return Ok(key);
        }
        self.write(|transaction| {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO place (folder, before, behind) VALUES (?1, ?2, ?3)")?
                .execute(texts)?;
            transaction.query_row(
                "SELECT id FROM place WHERE folder = ?1 AND before = ?2 AND behind = ?3",
                texts,
                |row| row.get(0),
            )
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
    fn any_number_of_places_takes_little_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let layout = layout("{date}/{hour}/{minute}/{path}");
        let places = Places::load(&state, folder, &repo("cam"), &layout).unwrap();
        let minutes = 0..i64::try_from(LATELY_MAX).unwrap() + 10;
        let mut keys: Vec<_> =
            minutes.map(|minute| places.for_new(MTIME_NS + minute * 60_000_000_000).unwrap()).collect();
        assert!(places.lately().places.len() <= LATELY_MAX && places.lately().keys.len() <= LATELY_MAX);
        assert_eq!(places.for_new(MTIME_NS).unwrap(), keys[0], "also one that is not at hand");
        let path = places.path_of(keys[1], &local("x")).unwrap();
        assert_eq!(places.files_at(&path).unwrap()[0], (keys[1], local("x")));
        keys.dedup();
        assert_eq!(keys.len(), LATELY_MAX + 10);
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
