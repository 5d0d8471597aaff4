//! What is asked of the state about single paths and about the past, beside whoever writes it.

use rusqlite::{OptionalExtension, params};

use super::files::{FILE_COLUMNS, file_row, range_below, split};
use super::history::CommitRow;
use super::places::place;
use super::problems::{COLUMNS, problem};
use super::{BatchTransport, FileRow, FolderKey, PlaceKey, ProblemRow, Reader, StateError};
use crate::path::{LocalPath, Place};

/// A batch that the journal holds open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBatch {
    /// Its number.
    pub id: i64,
    /// What carries it.
    pub transport: BatchTransport,
    /// When it was written down, in milliseconds since the epoch.
    pub since_ms: i64,
}

/// What is known of all files below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BelowDir {
    /// Files that are proved to be on the branch and still in the folder.
    pub files: i64,
    /// Files that the branch alone holds.
    pub gone: i64,
    /// Paths with a problem.
    pub problems: i64,
}

impl Reader {
    /// All that is known of `path`.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn file(&self, folder: FolderKey, path: &LocalPath) -> Result<Option<FileRow>, StateError> {
        let (dir, name) = split(path);
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {FILE_COLUMNS} FROM file WHERE folder = ?1 AND dir = ?2 AND name = ?3"
        ))?;
        Ok(statement.query_row(params![folder.0, dir, name], file_row).optional()?)
    }

    /// The problem with `path`, if there is one.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn problem(&self, folder: FolderKey, path: &LocalPath) -> Result<Option<ProblemRow>, StateError> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM problem WHERE folder = ?1 AND path = ?2"))?;
        Ok(statement.query_row(params![folder.0, path.as_bytes()], problem).optional()?.flatten())
    }

    /// The open batch that `path` is part of.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn batch_of(&self, folder: FolderKey, path: &LocalPath) -> Result<Option<OpenBatch>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, transport, created_ms FROM batch JOIN batch_change ON batch = id
             WHERE folder = ?1 AND path = ?2 ORDER BY id DESC LIMIT 1",
        )?;
        let found = statement.query_row(params![folder.0, path.as_bytes()], |row| {
            Ok(OpenBatch { id: row.get(0)?, transport: row.get(1)?, since_ms: row.get(2)? })
        });
        Ok(found.optional()?)
    }

    /// The place of this number; `None` for the folder's own directory.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn place(&self, key: PlaceKey) -> Result<Option<Place>, StateError> {
        Ok(place(&self.connection, key)?)
    }

    /// What is known of the files below a directory.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn below(&self, folder: FolderKey, dir: &LocalPath) -> Result<BelowDir, StateError> {
        let (low, high) = range_below(dir);
        let count = |filter: &str| {
            self.connection
                .prepare_cached(&format!(
                    "SELECT count(*) FROM file WHERE folder = ?1 AND (dir = ?2 OR (dir >= ?3 AND dir < ?4)) AND {filter}"
                ))?
                .query_row(params![folder.0, dir.as_bytes(), low, high], |row| row.get(0))
        };
        let problems = self
            .connection
            .prepare_cached("SELECT count(*) FROM problem WHERE folder = ?1 AND path >= ?2 AND path < ?3")?
            .query_row(params![folder.0, low, high], |row| row.get(0))?;
        Ok(BelowDir {
            files: count("gone = 0 AND sha256 IS NOT NULL")?,
            gone: count("gone > 0 AND sha256 IS NOT NULL")?,
            problems,
        })
    }

    /// What is wrong with the database, if anything is. Reads all of it.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn check(&self) -> Result<Option<String>, StateError> {
        let said: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((said != "ok").then_some(said))
    }

    /// The latest commits of a folder that were proved at `since_ms` or later, at most `limit`, the newest first.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn commits(
        &self,
        folder: FolderKey,
        since_ms: i64,
        limit: i64,
    ) -> Result<Vec<CommitRow>, StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT commit_id, at_ms, files, removed, bytes FROM commit_made
             WHERE folder = ?1 AND at_ms >= ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let rows = statement.query_map(params![folder.0, since_ms, limit], CommitRow::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Digests, Signature};
    use crate::state::{BatchRow, Change, ChangeKind, Phase, Presence, ProblemKind, State};
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    #[test]
    fn a_reader_knows_of_each_path_what_the_writer_knows() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let kind =
            ChangeKind::Put { signature, digests: Digests { sha256: Some([1; 32]), xxh3: 1 }, racy: false };
        let change = |path: &str| Change { path: local(path), place: PlaceKey::default(), kind };
        let batch = |id| BatchRow {
            id,
            phase: Phase::Staging,
            transport: BatchTransport::Workspace,
            workspace: String::new(),
            message: String::new(),
        };
        let changes = [change("d/a"), change("d/e/b"), change("da/c")];
        state.open_batch(folder, &batch(1), &changes, 5).unwrap();
        let reader = state.reader().unwrap();
        let open = OpenBatch { id: 1, transport: BatchTransport::Workspace, since_ms: 5 };
        assert_eq!(reader.batch_of(folder, &local("d/a")).unwrap(), Some(open));
        state.close_batch(folder, 1, Some("c1"), &changes, 7).unwrap();
        state.open_batch(folder, &batch(2), &changes[..1], 8).unwrap();
        state.close_batch(folder, 2, Some("c2"), &changes[..1], 9).unwrap();
        assert_eq!(reader.batch_of(folder, &local("d/a")).unwrap(), None);
        let row = reader.file(folder, &local("d/a")).unwrap().unwrap();
        assert_eq!((row.commit_id.as_deref(), row.pushed_ms), (Some("c2"), Some(9)));
        state.mark_gone(folder, &[local("d/e/b")], Presence::Kept).unwrap();
        let row = ProblemRow {
            path: local("d/bad"),
            kind: ProblemKind::Refused,
            reason: "why".to_owned(),
            since_ms: 1,
            signature: None,
        };
        state.set_problem(folder, &row).unwrap();
        assert_eq!(reader.problem(folder, &local("d/bad")).unwrap(), Some(row));
        assert_eq!(reader.problem(folder, &local("d/a")).unwrap(), None);
        assert_eq!(reader.below(folder, &local("d")).unwrap(), BelowDir { files: 1, gone: 1, problems: 1 });
        assert_eq!(
            reader.below(folder, &LocalPath::root()).unwrap(),
            BelowDir { files: 2, gone: 1, problems: 1 }
        );
        let ids = |since, limit| {
            let commits = reader.commits(folder, since, limit).unwrap();
            commits.into_iter().map(|row| row.commit_id).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids(0, 9), ids(8, 9), ids(0, 1)),
            (vec!["c2".to_owned(), "c1".to_owned()], vec!["c2".to_owned()], vec!["c2".to_owned()])
        );
    }
}
