//! Files that are gone from a folder whose removals are to go to the branch: waiting, held, or let go.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::files::split;
use super::{FolderKey, Reader, State, StateError};
use crate::path::LocalPath;

/// So many removals are let go, or kept, in one step; who else wants to write comes in between.
const RELEASE_STEP: u64 = 10_000;
/// How long the others have for that.
const RELEASE_PAUSE: Duration = Duration::from_millis(1);

/// What the brake counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovalCounts {
    /// Removals that nobody let go yet.
    pub waiting: u64,
    /// Files of the branch that the folder has.
    pub here: u64,
}

/// Removals that are held until someone lets them go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub files: u64,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: i64,
    /// Where they are judged once more, when all of the folder was seen: how many files there were before them.
    pub before: Option<u64>,
}

/// The note of the state under which it is kept since when removals of a folder are held; behind that, where they are
/// judged once more, how many files there were before.
fn note(folder: FolderKey) -> String {
    format!("held since, folder {}", folder.0)
}

/// The note under which it is kept what of a folder was let go lately.
fn lately_note(folder: FolderKey) -> String {
    format!("let go lately, folder {}", folder.0)
}

// The first condition is that of the index.
const IS_WAITING: &str = "folder = ?1 AND gone > 1 AND gone = 2";

// Which are to go is written down before any of them changes.
const RELEASE: &str = "UPDATE file SET gone = 3 WHERE folder = ?1 AND (dir, name) IN
    (SELECT dir, name FROM file WHERE folder = ?1 AND gone > 1 AND gone = 2 LIMIT ?2)";

const KEEP: &str = "UPDATE file SET gone = 1 WHERE folder = ?1 AND (dir, name) IN
    (SELECT dir, name FROM file WHERE folder = ?1 AND gone > 1 LIMIT ?2)";

const RELEASED: &str = "SELECT dir, name FROM file
    WHERE folder = ?1 AND gone > 1 AND gone = 3 AND (dir, name) > (?2, ?3) ORDER BY dir, name LIMIT ?4";

fn waiting(connection: &Connection, folder: FolderKey) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(&format!("SELECT count(*) FROM file WHERE {IS_WAITING}"))?
        .query_row([folder.0], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a moment, where blocking is allowed, and nothing tells of who waits"
)]
fn pause() {
    std::thread::sleep(RELEASE_PAUSE);
}

fn some_wait(connection: &Connection, folder: FolderKey) -> rusqlite::Result<bool> {
    connection.prepare_cached(&format!("SELECT 1 FROM file WHERE {IS_WAITING} LIMIT 1"))?.exists([folder.0])
}

fn held_since(connection: &Connection, folder: FolderKey) -> rusqlite::Result<Option<(i64, Option<u64>)>> {
    let value = connection
        .prepare_cached("SELECT value FROM note WHERE key = ?1")?
        .query_row([note(folder)], |row| row.get::<_, String>(0))
        .optional()?;
    let parts = |value: String| {
        let (since, before) = value.split_once(' ').unwrap_or((&value, ""));
        Some((since.parse().ok()?, before.parse().ok()))
    };
    Ok(value.and_then(parts))
}

pub(super) fn held(connection: &Connection, folder: FolderKey) -> rusqlite::Result<Option<Held>> {
    let Some((since_ms, before)) = held_since(connection, folder)? else { return Ok(None) };
    let files = waiting(connection, folder)?;
    Ok((files > 0).then_some(Held { files, since_ms, before }))
}

impl Reader {
    /// What the brake counts. Looks at every row of the folder.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn removal_counts(&self, folder: FolderKey) -> Result<RemovalCounts, StateError> {
        // Both from one moment: a file that goes from one to the other is counted once.
        let (waiting, here): (i64, i64) = self
            .connection
            .prepare_cached(
                "SELECT (SELECT count(*) FROM file WHERE folder = ?1 AND gone > 1 AND gone = 2),
                        (SELECT count(*) FROM file WHERE folder = ?1 AND gone = 0 AND mtime_ns IS NOT NULL)",
            )?
            .query_row([folder.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(RemovalCounts { waiting: waiting.cast_unsigned(), here: here.cast_unsigned() })
    }
}

/// Each content whose removal waits and that stands nowhere else, and of how many files. SQLite would rather look at every
/// file for each of them than use the index, and at many files of one content again and again.
const LOST: &str = "SELECT xxh3, files FROM
        (SELECT xxh3, count(*) AS files FROM file WHERE folder = ?1 AND gone > 1 AND gone = 2 GROUP BY xxh3) AS lost
     WHERE NOT EXISTS
        (SELECT 1 FROM file INDEXED BY file_by_content
         WHERE folder = ?1 AND xxh3 = lost.xxh3 AND gone = 0 AND mtime_ns IS NOT NULL)";

impl Reader {
    /// Of how many files whose removal waits the folder has the content at no other path, where those of `coming` are about
    /// to be pushed from there.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn removals_lost(&self, folder: FolderKey, coming: &HashSet<u128>) -> Result<u64, StateError> {
        let mut statement = self.connection.prepare_cached(LOST)?;
        let contents = statement.query_map([folder.0], |row| {
            Ok((u128::from_be_bytes(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        let mut lost = 0;
        for content in contents {
            let (xxh3, files) = content?;
            if !coming.contains(&xxh3) {
                lost += files;
            }
        }
        Ok(lost)
    }
}

impl State {
    /// The removals that are held, if any.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn held(&self, folder: FolderKey) -> Result<Option<Held>, StateError> {
        Ok(held(&self.lock(), folder)?)
    }

    /// Whether the brake holds what waits. Quicker than [`State::held`], which counts it.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn is_holding(&self, folder: FolderKey) -> Result<bool, StateError> {
        Ok(held_since(&self.lock(), folder)?.is_some())
    }

    /// How many removals nobody has let go yet, held or not.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn removals_waiting(&self, folder: FolderKey) -> Result<u64, StateError> {
        Ok(waiting(&self.lock(), folder)?)
    }

    /// Whether the folder is known to have had files that the branch does not keep without it.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn has_mirrored(&self, folder: FolderKey) -> Result<bool, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT 1 FROM file WHERE folder = ?1 AND gone != 1 AND sha256 IS NOT NULL LIMIT 1",
        )?;
        Ok(statement.exists([folder.0])?)
    }

    /// Holds what waits, and what is still to come, until it is let go; with `before`, until it is judged once more, by
    /// how many files there were. Returns what is held; nothing, where nothing waits.
    ///
    /// # Errors
    /// SQLite says no; then nothing is let go either.
    pub fn hold_removals(
        &self,
        folder: FolderKey,
        before: Option<u64>,
        now_ms: i64,
    ) -> Result<Option<Held>, StateError> {
        self.write(|transaction| {
            if waiting(transaction, folder)? > 0 {
                let since_ms = held_since(transaction, folder)?.map_or(now_ms, |(since_ms, _)| since_ms);
                let before = before.map(|before| format!(" {before}")).unwrap_or_default();
                transaction.execute(
                    "INSERT INTO note VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                    params![note(folder), format!("{since_ms}{before}")],
                )?;
            }
            held(transaction, folder)
        })
    }

    /// Lets removals go that wait: all of them, or at most so many, whichever. Nothing is held any more. Returns how many
    /// these are.
    ///
    /// # Errors
    /// SQLite says no; then some may wait still.
    pub fn release_removals(&self, folder: FolderKey, at_most: Option<u64>) -> Result<u64, StateError> {
        let at_most = at_most.unwrap_or(u64::MAX);
        let mut files = 0;
        loop {
            let most = RELEASE_STEP.min(at_most - files);
            let is_last = files + most == at_most;
            let (more, some_wait) = self.release_step(folder, most, is_last)?;
            files += more;
            if is_last || !some_wait {
                return Ok(files);
            }
            pause();
        }
    }

    /// Keeps when removals were let go lately, in milliseconds since the epoch, and how many files there were before.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn note_let_go(&self, folder: FolderKey, lately: &[(i64, u64)]) -> Result<(), StateError> {
        let text: Vec<_> = lately.iter().map(|(at_ms, before)| format!("{at_ms} {before}")).collect();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO note VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                params![lately_note(folder), text.join(",")],
            )?;
            Ok(())
        })
    }

    /// What was kept so; what cannot be read is left out.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn let_go_lately(&self, folder: FolderKey) -> Result<Vec<(i64, u64)>, StateError> {
        let connection = self.lock();
        let text = connection
            .prepare_cached("SELECT value FROM note WHERE key = ?1")?
            .query_row([lately_note(folder)], |row| row.get::<_, String>(0))
            .optional()?
            .unwrap_or_default();
        let entry = |entry: &str| {
            let (at_ms, before) = entry.split_once(' ')?;
            Some((at_ms.parse().ok()?, before.parse().ok()?))
        };
        Ok(text.split(',').filter_map(entry).collect())
    }

    /// Lets some of the removals go that are held; the rest is held still. Returns how many these are: none once nothing
    /// is held.
    ///
    /// # Errors
    /// SQLite says no; then all stays as it was.
    pub fn release_some_held(&self, folder: FolderKey) -> Result<u64, StateError> {
        // What waits and is not held is judged by the brake.
        if self.held(folder)?.is_none() {
            return Ok(0);
        }
        // Who lets these go has seen what went before.
        self.note_let_go(folder, &[])?;
        let (files, some_wait) = self.release_step(folder, RELEASE_STEP, false)?;
        if some_wait {
            pause();
        }
        Ok(files)
    }

    /// Returns how many were let go, and whether some wait still. They are not held where these are the last.
    fn release_step(&self, folder: FolderKey, most: u64, is_last: bool) -> Result<(u64, bool), StateError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.write(|transaction| {
            let files = transaction.prepare_cached(RELEASE)?.execute(params![folder.0, most])?;
            let some_wait = some_wait(transaction, folder)?;
            if is_last || !some_wait {
                transaction.execute("DELETE FROM note WHERE key = ?1", [note(folder)])?;
            }
            Ok((files as u64, some_wait))
        })
    }

    /// Forgets that removals are held, where none is any more or they were let go. Says whether that is so.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn end_holding(&self, folder: FolderKey) -> Result<bool, StateError> {
        self.write(|transaction| {
            if some_wait(transaction, folder)? && held_since(transaction, folder)?.is_some() {
                return Ok(false);
            }
            transaction.execute("DELETE FROM note WHERE key = ?1", [note(folder)])?;
            Ok(true)
        })
    }

    /// The branch keeps what is gone from the folder, also what was to be removed from it.
    ///
    /// # Errors
    /// SQLite says no; then some of it may be kept already.
    pub fn keep_removed(&self, folder: FolderKey) -> Result<(), StateError> {
        let most = i64::try_from(RELEASE_STEP).unwrap_or(i64::MAX);
        loop {
            let files = self.write(|transaction| {
                let files = transaction.prepare_cached(KEEP)?.execute(params![folder.0, most])?;
                if files == 0 {
                    transaction.execute("DELETE FROM note WHERE key = ?1", [note(folder)])?;
                }
                Ok(files)
            })?;
            if files == 0 {
                return Ok(());
            }
            pause();
        }
    }

    /// Some of the removals that were let go and are not on the branch yet, in order, from behind `after` on.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn released_removals(
        &self,
        folder: FolderKey,
        after: Option<&LocalPath>,
        count: usize,
    ) -> Result<Vec<LocalPath>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(RELEASED)?;
        let (dir, name) = after.map_or_else(Default::default, split);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![folder.0, dir, name, count], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let mut paths = Vec::new();
        for row in rows {
            let (dir, name) = row?;
            let path = if dir.is_empty() { name } else { [dir, name].join(&b'/') };
            paths.extend(LocalPath::from_bytes(&path));
        }
        Ok(paths)
    }

    /// Whether a file below `dir` waits to be removed from the branch.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn has_removals_below(&self, folder: FolderKey, dir: &LocalPath) -> Result<bool, StateError> {
        let connection = self.lock();
        let below = |end: u8| [dir.as_bytes(), &[end]].concat();
        for gone in [2, 3] {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM file WHERE folder = ?1 AND gone > 1 AND gone = ?2 AND dir = ?3
                 UNION ALL
                 SELECT 1 FROM file WHERE folder = ?1 AND gone > 1 AND gone = ?2 AND dir >= ?4 AND dir < ?5 LIMIT 1",
            )?;
            if statement.exists(params![folder.0, gone, dir.as_bytes(), below(b'/'), below(b'/' + 1)])? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
