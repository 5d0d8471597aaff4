use rusqlite::{Connection, OptionalExtension, params};

use super::removals::held;
use super::{FolderKey, Held, Reader, State, StateError};
use crate::fault_point::{Point, passed};

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
    let (files, bytes) = connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(size), 0) FROM file WHERE folder = ?1 AND gone = 0 AND sha256 IS NOT NULL",
        )?
        .query_row([folder.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let problems = connection
        .prepare_cached("SELECT count(*) FROM problem WHERE folder = ?1")?
        .query_row([folder.0], |row| row.get(0))?;
    let last_commit = connection
        .prepare_cached(
            "SELECT commit_id, at_ms, files, removed, bytes FROM commit_made WHERE folder = ?1
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row([folder.0], |row| {
            Ok(CommitRow {
                commit_id: row.get(0)?,
                at_ms: row.get(1)?,
                files: row.get(2)?,
                removed: row.get(3)?,
                bytes: row.get(4)?,
            })
        })
        .optional()?;
    Ok(FolderSummary {
        files,
        bytes,
        held: held(connection, folder)?,
        problems,
        last_commit,
        retry: retry(connection, folder)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
