use rusqlite::{OptionalExtension, Row, params};

use super::files::range_below;
use super::journal::stored_as_text;
use super::{FolderKey, Reader, State, StateError};
use crate::content::Signature;
use crate::fault_point::{Point, passed};
use crate::path::LocalPath;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// What kind of problem keeps a path from the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// It can never stand on the branch under its name, or is nothing that can be stored.
    Refused,
    /// It cannot be read; tried again when it changes and at every scan.
    Unreadable,
    /// The server would not take it as it is; tried again when it changes.
    Quarantined,
    /// It has not held still; tried again all the time.
    Busy,
}

stored_as_text!(ProblemKind {
    ProblemKind::Refused => "refused",
    ProblemKind::Unreadable => "unreadable",
    ProblemKind::Quarantined => "quarantined",
    ProblemKind::Busy => "busy",
});

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Quarantined => "quarantined",
            Self::Busy => "busy",
        })
    }
}

/// A path that is not on the branch, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemRow {
    /// Relative to the folder.
    pub path: LocalPath,
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What is wrong and what to do.
    pub reason: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: i64,
    /// The version of the file that it is about.
    pub signature: Option<Signature>,
}

pub(super) const COLUMNS: &str = "path, kind, reason, since_ms, size, mtime_ns, ctime_ns, inode";

pub(super) fn problem(row: &Row<'_>) -> rusqlite::Result<Option<ProblemRow>> {
    let Some(path) = LocalPath::from_bytes(&row.get::<_, Vec<u8>>(0)?) else { return Ok(None) };
    let signature = match row.get::<_, Option<i64>>(4)? {
        Some(size) => Some(Signature {
            size: size.cast_unsigned(),
            mtime_ns: row.get(5)?,
            ctime_ns: row.get(6)?,
            inode: row.get::<_, i64>(7)?.cast_unsigned(),
        }),
        None => None,
    };
    Ok(Some(ProblemRow { path, kind: row.get(1)?, reason: row.get(2)?, since_ms: row.get(3)?, signature }))
}

impl State {
    /// The problem with `path`, if there is one.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn problem(&self, folder: FolderKey, path: &LocalPath) -> Result<Option<ProblemRow>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM problem WHERE folder = ?1 AND path = ?2"))?;
        Ok(statement.query_row(params![folder.0, path.as_bytes()], problem).optional()?.flatten())
    }

    /// Writes a problem down; says whether it is another than the one that was known.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn set_problem(&self, folder: FolderKey, row: &ProblemRow) -> Result<bool, StateError> {
        if let Some(known) = self.problem(folder, &row.path)?
            && (known.kind, &known.reason, known.signature) == (row.kind, &row.reason, row.signature)
        {
            return Ok(false);
        }
        let signature = row.signature;
        self.lock().execute(
            "INSERT OR REPLACE INTO problem (folder, path, kind, reason, since_ms, size, mtime_ns, ctime_ns, inode)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                folder.0,
                row.path.as_bytes(),
                row.kind,
                row.reason,
                row.since_ms,
                signature.map(|s| s.size.cast_signed()),
                signature.map(|s| s.mtime_ns),
                signature.map(|s| s.ctime_ns),
                signature.map(|s| s.inode.cast_signed()),
            ],
        )?;
        passed(Point::ProblemNoted);
        Ok(true)
    }

    /// Forgets the problem with `path`; says whether there was one.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn clear_problem(&self, folder: FolderKey, path: &LocalPath) -> Result<bool, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("DELETE FROM problem WHERE folder = ?1 AND path = ?2")?;
        Ok(statement.execute(params![folder.0, path.as_bytes()])? > 0)
    }

    /// All problems of the folder, in the order of their paths.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn problems(&self, folder: FolderKey) -> Result<Vec<ProblemRow>, StateError> {
        let connection = self.lock();
        list(&connection, folder, i64::MAX)
    }

    /// The problems with `start` and with what lies below it.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn problems_below(
        &self,
        folder: FolderKey,
        start: &LocalPath,
    ) -> Result<Vec<ProblemRow>, StateError> {
        let (low, high) = range_below(start);
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM problem WHERE folder = ?1 AND path = ?2
             UNION ALL SELECT {COLUMNS} FROM problem WHERE folder = ?1 AND path >= ?3 AND path < ?4"
        ))?;
        let rows = statement.query_map(params![folder.0, start.as_bytes(), low, high], problem)?;
        let mut found = Vec::new();
        for row in rows {
            found.extend(row?);
        }
        Ok(found)
    }

    /// Forgets why these files were set aside, and all below these directories, so that they are tried once more when they
    /// are looked at. Returns the paths of all problems there, which are to be looked at.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn retry_problems(
        &self,
        folder: FolderKey,
        starts: &[LocalPath],
    ) -> Result<Vec<LocalPath>, StateError> {
        let mut paths = Vec::new();
        for start in starts {
            for row in self.problems_below(folder, start)? {
                if row.kind == ProblemKind::Quarantined {
                    self.clear_problem(folder, &row.path)?;
                }
                paths.push(row.path);
            }
        }
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }

    /// Forgets why files were set aside, so that they are tried once more when they are looked at.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn release_quarantine(&self, folder: FolderKey) -> Result<usize, StateError> {
        Ok(self.lock().execute(
            "DELETE FROM problem WHERE folder = ?1 AND kind = ?2",
            params![folder.0, ProblemKind::Quarantined],
        )?)
    }
}

impl Reader {
    /// The first `limit` problems of the folder, in the order of their paths.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn problems(&self, folder: FolderKey, limit: i64) -> Result<Vec<ProblemRow>, StateError> {
        list(&self.connection, folder, limit)
    }

    /// How many there are.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn problems_count(&self, folder: FolderKey) -> Result<i64, StateError> {
        let mut statement =
            self.connection.prepare_cached("SELECT count(*) FROM problem WHERE folder = ?1")?;
        Ok(statement.query_row([folder.0], |row| row.get(0))?)
    }
}

fn list(
    connection: &rusqlite::Connection,
    folder: FolderKey,
    limit: i64,
) -> Result<Vec<ProblemRow>, StateError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM problem WHERE folder = ?1 ORDER BY path LIMIT ?2"))?;
    let rows = statement.query_map(params![folder.0, limit], problem)?;
    let mut found = Vec::new();
    for row in rows {
        found.extend(row?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_problem_is_reported_once_and_cleared_once() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let row = ProblemRow {
            path: LocalPath::new(Path::new("x")).unwrap(),
            kind: ProblemKind::Quarantined,
            reason: "no".to_owned(),
            since_ms: 1,
            signature: Some(Signature { size: 1, mtime_ns: 2, ctime_ns: 3, inode: 4 }),
        };
        assert!(state.set_problem(folder, &row).unwrap());
        assert!(!state.set_problem(folder, &ProblemRow { since_ms: 9, ..row.clone() }).unwrap());
        assert_eq!(state.problems(folder).unwrap(), std::slice::from_ref(&row));
        assert!(state.set_problem(folder, &ProblemRow { signature: None, ..row.clone() }).unwrap());
        let below = |start: &str| {
            let start = LocalPath::new(Path::new(start)).unwrap();
            state.problems_below(folder, &start).unwrap().len()
        };
        let other = ProblemRow { path: LocalPath::new(Path::new("x y/z")).unwrap(), ..row.clone() };
        assert!(state.set_problem(folder, &other).unwrap());
        assert_eq!([below(""), below("x"), below("x y"), below("z")], [2, 1, 1, 0]);
        assert!(state.clear_problem(folder, &row.path).unwrap());
        assert!(!state.clear_problem(folder, &row.path).unwrap());
    }
}
