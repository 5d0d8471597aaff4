use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Transaction, params};

use super::files::split;
use super::history::trim;
use super::{FolderKey, PlaceKey, State, StateError};
use crate::content::{Digests, Signature};
use crate::fault_point::{Point, passed};
use crate::path::LocalPath;

/// Commits after which the oldest are looked for that need not be kept.
const TRIM_EVERY: i64 = 256;

/// How far a batch has come, as a later start must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but a workspace can have reached the server; without its merge no commit can come of it.
    Staging,
    /// The request that commits may have reached the server.
    Committing,
}

/// Which requests carry a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchTransport {
    /// One PUT to one directory.
    Put,
    /// A workspace with one merge.
    Workspace,
}

/// What a batch does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Puts this content there.
    Put {
        /// The file's signature when it was hashed.
        signature: Signature,
        /// The content.
        digests: Digests,
        /// See [`Signature::is_racy`].
        racy: bool,
    },
    /// Removes what stands there.
    Remove,
}

/// One path of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative to the folder.
    pub path: LocalPath,
    /// Where it stands on the branch.
    pub place: PlaceKey,
    /// What happens to it.
    pub kind: ChangeKind,
}

/// A batch as it was journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// Its number; never used twice.
    pub id: i64,
    /// How far it has come.
    pub phase: Phase,
    /// What carries it.
    pub transport: BatchTransport,
    /// The id of its workspace; empty for a PUT.
    pub workspace: String,
    /// The commit's message.
    pub message: String,
}

macro_rules! stored_as_text {
    ($type:ty { $($variant:path => $text:literal),* $(,)? }) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(match self { $($variant => $text),* }.into())
            }
        }
        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_str()? { $($text => Ok($variant),)* _ => Err(FromSqlError::InvalidType) }
            }
        }
    };
}

pub(super) use stored_as_text;

stored_as_text!(Phase { Phase::Staging => "staging", Phase::Committing => "committing" });
stored_as_text!(BatchTransport { BatchTransport::Put => "put", BatchTransport::Workspace => "workspace" });

/// Stands for a SHA-256 that is not known yet, which no file has.
const UNKNOWN: [u8; 32] = [0; 32];

/// The note under which it is kept how long a folder's PUT in doubt was asked for.
fn put_note(folder: FolderKey) -> String {
    format!("put in doubt, folder {}", folder.0)
}

fn insert_changes(transaction: &Transaction<'_>, batch: i64, changes: &[Change]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO batch_change (batch, path, kind, size, mtime_ns, ctime_ns, inode, racy, sha256, xxh3, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for change in changes {
        let none = (Signature { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0 }, UNKNOWN, 0, false);
        let (kind, (signature, sha256, xxh3, racy)) = match change.kind {
            ChangeKind::Put { signature, digests, racy } => {
                (0, (signature, digests.sha256.unwrap_or(UNKNOWN), digests.xxh3, racy))
            }
            ChangeKind::Remove => (1, none),
        };
        statement.execute(params![
            batch,
            change.path.as_bytes(),
            kind,
            signature.size.cast_signed(),
            signature.mtime_ns,
            signature.ctime_ns,
            signature.inode.cast_signed(),
            racy,
            sha256,
            xxh3.to_be_bytes(),
            change.place,
        ])?;
    }
    Ok(())
}

impl State {
    /// Writes a batch down, durable when it returns, before anything of it goes out.
    ///
    /// # Errors
    /// SQLite says no; then nothing may be sent.
    pub fn open_batch(
        &self,
        folder: FolderKey,
        batch: &BatchRow,
        changes: &[Change],
        now_ms: i64,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO batch (id, folder, phase, transport, workspace, message, created_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    batch.id,
                    folder.0,
                    batch.phase,
                    batch.transport,
                    batch.workspace,
                    batch.message,
                    now_ms
                ],
            )?;
            insert_changes(transaction, batch.id, changes)?;
            Ok(())
        })?;
        passed(Point::BatchJournaled);
        Ok(())
    }

    /// A number for the next batch, above every one ever used.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn next_batch_id(&self) -> Result<i64, StateError> {
        let last: Option<i64> = self
            .lock()
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'batch'", [], |row| row.get(0))
            .optional()?;
        Ok(last.unwrap_or(0) + 1)
    }

    /// Says that the committing request of the batch is about to go out; durable when it returns. Paths in `dropped`
    /// are not part of it; what was not known yet of the others when the batch was opened is in `hashed`.
    ///
    /// # Errors
    /// SQLite says no; then the request may not be sent.
    pub fn commit_batch(
        &self,
        batch: i64,
        dropped: &[LocalPath],
        hashed: &[(LocalPath, [u8; 32])],
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut statement =
                transaction.prepare_cached("DELETE FROM batch_change WHERE batch = ?1 AND path = ?2")?;
            for path in dropped {
                statement.execute(params![batch, path.as_bytes()])?;
            }
            let mut statement = transaction
                .prepare_cached("UPDATE batch_change SET sha256 = ?3 WHERE batch = ?1 AND path = ?2")?;
            for (path, sha256) in hashed {
                statement.execute(params![batch, path.as_bytes(), sha256])?;
            }
            transaction
                .execute("UPDATE batch SET phase = ?2 WHERE id = ?1", params![batch, Phase::Committing])?;
            Ok(())
        })?;
        passed(Point::CommitAnnounced);
        Ok(())
    }

    /// The same for a batch that was written down without its changes, since it was still being collected.
    ///
    /// # Errors
    /// SQLite says no; then the request may not be sent.
    pub fn commit_collected(&self, batch: &BatchRow, changes: &[Change]) -> Result<(), StateError> {
        self.write(|transaction| {
            insert_changes(transaction, batch.id, changes)?;
            transaction.execute(
                "UPDATE batch SET phase = ?2, message = ?3 WHERE id = ?1",
                params![batch.id, Phase::Committing, batch.message],
            )?;
            Ok(())
        })?;
        passed(Point::CommitAnnounced);
        Ok(())
    }

    /// The batches that were not closed, oldest first.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn open_batches(&self, folder: FolderKey) -> Result<Vec<(BatchRow, Vec<Change>)>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT id, phase, transport, workspace, message FROM batch WHERE folder = ?1 ORDER BY id",
        )?;
        let batches = statement
            .query_map([folder.0], |row| {
                Ok(BatchRow {
                    id: row.get(0)?,
                    phase: row.get(1)?,
                    transport: row.get(2)?,
                    workspace: row.get(3)?,
                    message: row.get(4)?,
                })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let mut statement = connection.prepare_cached(
            "SELECT path, kind, size, mtime_ns, ctime_ns, inode, racy, sha256, xxh3, place
             FROM batch_change WHERE batch = ?1 ORDER BY path",
        )?;
        let mut found = Vec::new();
        for batch in batches {
            let mut changes = Vec::new();
            let mut rows = statement.query([batch.id])?;
            while let Some(row) = rows.next()? {
                let Some(path) = LocalPath::from_bytes(&row.get::<_, Vec<u8>>(0)?) else { continue };
                let kind = match row.get::<_, i64>(1)? {
                    0 => ChangeKind::Put {
                        signature: Signature {
                            size: row.get::<_, i64>(2)?.cast_unsigned(),
                            mtime_ns: row.get(3)?,
                            ctime_ns: row.get(4)?,
                            inode: row.get::<_, i64>(5)?.cast_unsigned(),
                        },
                        racy: row.get(6)?,
                        digests: Digests {
                            sha256: Some(row.get(7)?).filter(|sha256| *sha256 != UNKNOWN),
                            xxh3: u128::from_be_bytes(row.get(8)?),
                        },
                    },
                    _ => ChangeKind::Remove,
                };
                changes.push(Change { path, place: row.get(9)?, kind });
            }
            found.push((batch, changes));
        }
        Ok(found)
    }

    /// How long the branch has been asked for the PUT of this batch, over all lives.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn waited_for_put(&self, folder: FolderKey, batch: i64) -> Result<Duration, StateError> {
        let note = self.note(&put_note(folder))?.unwrap_or_default();
        let waited = note.split_once(' ').filter(|(id, _)| *id == batch.to_string());
        let ms = waited.and_then(|(_, ms)| ms.parse().ok()).unwrap_or(0);
        Ok(Duration::from_millis(ms))
    }

    /// Writes that down, in place of what was known of an earlier batch.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn note_waited_for_put(
        &self,
        folder: FolderKey,
        batch: i64,
        waited: Duration,
    ) -> Result<(), StateError> {
        self.set_note(&put_note(folder), Some(&format!("{batch} {}", waited.as_millis())))
    }

    /// Closes a batch: `proved` is on the branch with `commit_id`, the rest of it is as if it had never been tried.
    /// Files, journal and history change in one transaction.
    ///
    /// # Errors
    /// SQLite says no; then the batch stays open and is asked about again.
    pub fn close_batch(
        &self,
        folder: FolderKey,
        batch: i64,
        commit_id: Option<&str>,
        proved: &[Change],
        now_ms: i64,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut put = transaction.prepare_cached(
                "INSERT INTO file (folder, dir, name, size, mtime_ns, ctime_ns, inode, racy, gone, sha256, xxh3,
                                   commit_id, pushed_ms, place)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT DO UPDATE SET size = ?4, mtime_ns = ?5, ctime_ns = ?6, inode = ?7, racy = ?8, gone = 0,
                     sha256 = ?9, xxh3 = ?10, commit_id = ?11, pushed_ms = ?12, place = ?13",
            )?;
            let mut remove = transaction
                .prepare_cached("DELETE FROM file WHERE folder = ?1 AND dir = ?2 AND name = ?3")?;
            let mut became_dir = transaction.prepare_cached(
                "DELETE FROM file WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND place = ?4
                     AND NOT EXISTS (SELECT 1 FROM place WHERE id = ?4 AND behind != '')",
            )?;
            let mut settled =
                transaction.prepare_cached("DELETE FROM problem WHERE folder = ?1 AND path = ?2")?;
            let (mut files, mut removed, mut bytes) = (0_i64, 0_i64, 0_i64);
            let mut dirs = std::collections::HashSet::new();
            for change in proved {
                let (dir, name) = split(&change.path);
                match change.kind {
                    ChangeKind::Put { signature, digests, racy } => {
                        put.execute(params![
                            folder.0,
                            dir,
                            name,
                            signature.size.cast_signed(),
                            signature.mtime_ns,
                            signature.ctime_ns,
                            signature.inode.cast_signed(),
                            racy,
                            digests.sha256,
                            digests.xxh3.to_be_bytes(),
                            commit_id,
                            now_ms,
                            change.place,
                        ])?;
                        // Where this path leads through a file that was there, that file has become a directory.
                        let above = std::iter::successors(change.path.parent(), LocalPath::parent);
                        for dir in above.take_while(|dir| !dir.is_root()) {
                            if !dirs.insert((change.place, dir.clone())) {
                                break;
                            }
                            let (dir, name) = split(&dir);
                            became_dir.execute(params![folder.0, dir, name, change.place])?;
                        }
                        files += 1;
                        bytes = bytes.saturating_add(signature.size.cast_signed());
                    }
                    ChangeKind::Remove => {
                        remove.execute(params![folder.0, dir, name])?;
                        removed += 1;
                    }
                }
                settled.execute(params![folder.0, change.path.as_bytes()])?;
            }
            if let Some(commit_id) = commit_id.filter(|_| !proved.is_empty()) {
                transaction.execute(
                    "INSERT INTO commit_made (folder, commit_id, at_ms, files, removed, bytes)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![folder.0, commit_id, now_ms, files, removed, bytes],
                )?;
                if transaction.last_insert_rowid() % TRIM_EVERY == 0 {
                    trim(transaction, folder)?;
                }
            }
            if !proved.is_empty() {
                // The rows say more by now than the commit that they were last compared with.
                transaction.execute("UPDATE folder SET head = NULL WHERE id = ?1", [folder.0])?;
            }
            transaction.execute("DELETE FROM batch WHERE id = ?1", [batch])?;
            Ok(())
        })?;
        passed(Point::BatchClosed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
