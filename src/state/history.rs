use rusqlite::{Connection, OptionalExtension, Row, params};

use super::places::place;
use super::removals::held;
use super::schema::{VERSION, version};
use super::{FolderKey, Held, PlaceKey, Reader, State, StateError};
use crate::fault_point::{Point, passed};
use crate::oxen::CROWDED_DIR_FILES;
use crate::path::{LocalPath, Place};

/// A commit that oxen-sync made and proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRow {
    /// Oxen's id.
    pub commit_id: String,
    /// When it was proved, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Files put.
    pub files: i64,
    /// Files removed.
    pub removed: i64,
    /// Bytes of the files put.
    pub bytes: i64,
}

impl CommitRow {
    /// Of a row with the id, the time, the files, the removals and the bytes.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            commit_id: row.get(0)?,
            at_ms: row.get(1)?,
            files: row.get(2)?,
            removed: row.get(3)?,
            bytes: row.get(4)?,
        })
    }
}

/// When a folder's push is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRow {
    /// How many tries failed in a row.
    pub attempts: u32,
    /// When the next is due, in milliseconds since the epoch.
    pub next_ms: i64,
    /// Whether nothing is tried until someone does something.
    pub stopped: bool,
    /// Why the last try failed and what to do.
    pub reason: String,
}

/// A folder in figures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderSummary {
    /// Files that are proved to be on the branch and still in the folder.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Removals that the brake holds.
    pub held: Option<Held>,
    /// Paths with a problem.
    pub problems: i64,
    /// The last commit.
    pub last_commit: Option<CommitRow>,
    /// What the next try waits for.
    pub retry: Option<RetryRow>,
    /// The directory of the branch with the most files, where these are so many that each new one is slow.
    pub crowded: Option<Crowded>,
}

/// A directory of the branch with very many files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowded {
    /// The directory of the folder that the files are from.
    pub dir: LocalPath,
    /// Which place of the branch they stand at; `None` for the folder's own directory.
    pub place: Option<Place>,
    /// How many there are.
    pub files: u64,
}

/// Rows kept of a folder's commits.
const COMMITS_KEPT: i64 = 10_000;

impl State {
    /// Remembers that a try failed, or forgets it.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn set_retry(&self, folder: FolderKey, retry: Option<&RetryRow>) -> Result<(), StateError> {
        let connection = self.lock();
        match retry {
            Some(row) => connection.execute(
                "INSERT OR REPLACE INTO retry (folder, attempts, next_ms, stopped, reason)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![folder.0, row.attempts, row.next_ms, row.stopped, row.reason],
            )?,
            None => connection.execute("DELETE FROM retry WHERE folder = ?1", [folder.0])?,
        };
        passed(Point::RetryNoted);
        Ok(())
    }

    /// What [`State::set_retry`] was last told.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn retry(&self, folder: FolderKey) -> Result<Option<RetryRow>, StateError> {
        retry(&self.lock(), folder)
    }

    /// The folder in figures.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn summary(&self, folder: FolderKey) -> Result<FolderSummary, StateError> {
        summary(&self.lock(), folder)
    }
}

impl Reader {
    /// The folder that `key` describes, if it was ever seen.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn folder(&self, key: &str) -> Result<Option<FolderKey>, StateError> {
        let id = self
            .connection
            .query_row("SELECT id FROM folder WHERE key = ?1", [key], |row| row.get(0))
            .optional()?;
        Ok(id.map(FolderKey))
    }

    /// The folder in figures.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn summary(&self, folder: FolderKey) -> Result<FolderSummary, StateError> {
        summary(&self.connection, folder)
    }

    /// What the next try of the folder waits for.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn retry(&self, folder: FolderKey) -> Result<Option<RetryRow>, StateError> {
        retry(&self.connection, folder)
    }

    /// The folder's last commits, at most `max`, the newest first.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn last_commits(&self, folder: FolderKey, max: u32) -> Result<Vec<CommitRow>, StateError> {
        Ok(last_commits(&self.connection, folder, max)?)
    }
}

fn last_commits(connection: &Connection, folder: FolderKey, max: u32) -> rusqlite::Result<Vec<CommitRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT commit_id, at_ms, files, removed, bytes FROM commit_made WHERE folder = ?1
         ORDER BY id DESC LIMIT ?2",
    )?;
    statement.query_map(params![folder.0, max], CommitRow::read)?.collect()
}

/// Forgets the oldest commits beyond those that are kept.
pub(super) fn trim(connection: &Connection, folder: FolderKey) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM commit_made WHERE folder = ?1 AND id <=
                (SELECT id FROM commit_made WHERE folder = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![folder.0, COMMITS_KEPT])?;
    Ok(())
}

fn retry(connection: &Connection, folder: FolderKey) -> Result<Option<RetryRow>, StateError> {
    let row = connection
        .prepare_cached("SELECT attempts, next_ms, stopped, reason FROM retry WHERE folder = ?1")?
        .query_row([folder.0], |row| {
            Ok(RetryRow {
                attempts: row.get(0)?,
                next_ms: row.get(1)?,
                stopped: row.get(2)?,
                reason: row.get(3)?,
            })
        })
        .optional()?;
    Ok(row)
}

fn summary(connection: &Connection, folder: FolderKey) -> Result<FolderSummary, StateError> {
    let (mut files, mut bytes, mut large) = (0, 0, Vec::new());
    // In the order of the key, so that all of it takes no room.
    let mut by_dir = connection.prepare_cached(
        "SELECT dir, count(*), sum(iif(gone = 0 AND sha256 IS NOT NULL, 1, 0)),
                sum(iif(gone = 0 AND sha256 IS NOT NULL, size, 0))
         FROM file WHERE folder = ?1 GROUP BY dir",
    )?;
    let mut rows = by_dir.query([folder.0])?;
    while let Some(row) = rows.next()? {
        files += row.get::<_, i64>(2)?;
        bytes += row.get::<_, i64>(3)?;
        if row.get::<_, i64>(1)? >= CROWDED_DIR_FILES.cast_signed() {
            large.push(row.get::<_, Vec<u8>>(0)?);
        }
    }
    drop(rows);
    let problems = connection
        .prepare_cached("SELECT count(*) FROM problem WHERE folder = ?1")?
        .query_row([folder.0], |row| row.get(0))?;
    let last_commit = last_commits(connection, folder, 1)?.pop();
    Ok(FolderSummary {
        files,
        bytes,
        held: held(connection, folder)?,
        problems,
        last_commit,
        retry: retry(connection, folder)?,
        crowded: crowded(connection, folder, &large)?,
    })
}

/// The most crowded one among the directories `large` of the folder; times may have spread their files.
fn crowded(
    connection: &Connection,
    folder: FolderKey,
    large: &[Vec<u8>],
) -> rusqlite::Result<Option<Crowded>> {
    // Whoever only reads may find a state that no service of this version has taken over yet.
    if version(connection)? < VERSION {
        return Ok(None);
    }
    let mut most: Option<(i64, PlaceKey, &Vec<u8>)> = None;
    for dir in large {
        let counted = connection
            .prepare_cached(
                "SELECT count(*), place FROM file WHERE folder = ?1 AND dir = ?2 GROUP BY place ORDER BY 1 DESC LIMIT 1",
            )?
            .query_row(params![folder.0, dir], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        if counted.0 >= CROWDED_DIR_FILES.cast_signed() && most.is_none_or(|(files, ..)| files < counted.0) {
            most = Some((counted.0, counted.1, dir));
        }
    }
    let Some((files, key, dir)) = most else { return Ok(None) };
    let place = place(connection, key)?;
    Ok(LocalPath::from_bytes(dir).map(|dir| Crowded { dir, place, files: files.cast_unsigned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Layout, RepoPath};
    use crate::state::{Listed, Places};

    #[test]
    fn the_directory_that_is_crowded_on_the_branch_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let layout = Layout::in_dir("cam/{date}").unwrap();
        let places = Places::load(&state, folder, &RepoPath::parse("cam").unwrap(), &layout).unwrap();
        let days = [0, 1].map(|day| places.for_new(day * 86_400_000_000_000).unwrap());
        let list = |dir: &str, count: u64, place: &dyn Fn(u64) -> PlaceKey| {
            let file = |n| LocalPath::new(format!("{dir}/{n}").as_ref()).unwrap();
            let listed: Vec<_> =
                (0..count).map(|n| Listed { files: vec![(place(n), file(n))], size: 1, xxh3: 1 }).collect();
            state.list_files(folder, &listed).unwrap();
        };
        list("spread", CROWDED_DIR_FILES + 100, &|n| days[usize::from(n % 2 == 0)]);
        assert_eq!(state.summary(folder).unwrap().crowded, None);
        list("flat", CROWDED_DIR_FILES, &|_| days[1]);
        let crowded = state.summary(folder).unwrap().crowded.unwrap();
        assert_eq!((crowded.dir.to_string().as_str(), crowded.files), ("flat", CROWDED_DIR_FILES));
        assert!(crowded.place.unwrap().before.as_str().starts_with("cam/19"));
    }

    #[test]
    fn a_reader_sees_what_the_writer_says() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Reader::open(dir.path()).unwrap().is_none());
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let reader = Reader::open(dir.path()).unwrap().unwrap();
        assert_eq!(reader.folder("b").unwrap(), None);
        assert_eq!(reader.summary(folder).unwrap(), FolderSummary::default());
        let retry = RetryRow { attempts: 2, next_ms: 5, stopped: false, reason: "away".to_owned() };
        state.set_retry(folder, Some(&retry)).unwrap();
        assert_eq!(reader.summary(reader.folder("a").unwrap().unwrap()).unwrap().retry, Some(retry));
        state.set_retry(folder, None).unwrap();
        assert_eq!(state.retry(folder).unwrap(), None);
    }
}
