//! Uploads of large files, so that a later life goes on with what the server has of them by then.

use rusqlite::{Connection, OptionalExtension, params};

use super::files::split;
use super::{FolderKey, State, StateError};
use crate::content::{Digests, Signature};
use crate::path::LocalPath;

/// From this size on, in bytes, an upload that is broken off by the end of the process is gone on with by the next one.
pub const RESUMED_MIN: u64 = 32 << 20;

/// An upload that was begun, and how far it has come. It may be gone on the server: nothing but time rests on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// Relative to the folder.
    pub path: LocalPath,
    /// The file's signature when it was hashed.
    pub signature: Signature,
    /// The content, as far as it was known when the upload began.
    pub digests: Digests,
    /// See [`Signature::is_racy`].
    pub racy: bool,
    /// The server's name for it.
    pub upload_id: String,
    /// The length of each part but the last, in bytes.
    pub part_size: u64,
    /// How many parts there are.
    pub num_parts: u64,
    /// How many may be under way at once.
    pub part_window: u64,
    /// Parts from the first one on that the server has.
    pub sent: u64,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS upload_begun (
    folder       INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    dir          BLOB NOT NULL,
    name         BLOB NOT NULL,
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    ctime_ns     INTEGER NOT NULL,
    inode        INTEGER NOT NULL,
    racy         INTEGER NOT NULL,
    sha256       BLOB,
    xxh3         BLOB NOT NULL,
    upload_id    TEXT NOT NULL,
    part_size    INTEGER NOT NULL,
    num_parts    INTEGER NOT NULL,
    part_window  INTEGER NOT NULL,
    sent         INTEGER NOT NULL,
    PRIMARY KEY (folder, dir, name)
) STRICT, WITHOUT ROWID";

/// Where they stood when both hashes were known before an upload began. A program of that time finds none then, and
/// none that it cannot read.
const FROM_BEFORE: &str = "INSERT OR IGNORE INTO upload_begun SELECT * FROM upload; DROP TABLE upload";

/// Makes the table where it is missing; it changes nothing that is read.
pub(super) fn make(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLE)?;
    if transaction.table_exists(None, "upload")? {
        transaction.execute_batch(FROM_BEFORE)?;
    }
    transaction.commit()
}

impl State {
    /// The upload of `path` that was begun last, if it did not come to its end.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn upload(&self, folder: FolderKey, path: &LocalPath) -> Result<Option<UploadRow>, StateError> {
        let (dir, name) = split(path);
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT size, mtime_ns, ctime_ns, inode, racy, sha256, xxh3, upload_id, part_size, num_parts, part_window, sent
             FROM upload_begun WHERE folder = ?1 AND dir = ?2 AND name = ?3",
        )?;
        let unsigned = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let found = statement.query_row(params![folder.0, dir, name], |row| {
            Ok(UploadRow {
                path: path.clone(),
                signature: Signature {
                    size: unsigned(row, 0)?,
                    mtime_ns: row.get(1)?,
                    ctime_ns: row.get(2)?,
                    inode: unsigned(row, 3)?,
                },
                racy: row.get(4)?,
                digests: Digests { sha256: row.get(5)?, xxh3: u128::from_be_bytes(row.get(6)?) },
                upload_id: row.get(7)?,
                part_size: unsigned(row, 8)?,
                num_parts: unsigned(row, 9)?,
                part_window: unsigned(row, 10)?,
                sent: unsigned(row, 11)?,
            })
        });
        Ok(found.optional()?)
    }

    /// Writes down how far an upload has come, in place of what was known of the path. It survives the end of the process,
    /// and not always that of the machine: parts come often, and each wait for the disk would be longer than a part is
    /// worth.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn note_upload(&self, folder: FolderKey, row: &UploadRow) -> Result<(), StateError> {
        let (dir, name) = split(&row.path);
        let UploadRow { signature, digests, .. } = row;
        let connection = self.lock();
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let written = connection
            .prepare_cached(
                "INSERT OR REPLACE INTO upload_begun VALUES
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    folder.0,
                    dir,
                    name,
                    signature.size.cast_signed(),
                    signature.mtime_ns,
                    signature.ctime_ns,
                    signature.inode.cast_signed(),
                    row.racy,
                    digests.sha256,
                    digests.xxh3.to_be_bytes(),
                    row.upload_id,
                    row.part_size.cast_signed(),
                    row.num_parts.cast_signed(),
                    row.part_window.cast_signed(),
                    row.sent.cast_signed(),
                ])
            });
        connection.pragma_update(None, "synchronous", "FULL")?;
        written?;
        Ok(())
    }

    /// Forgets the upload of a path.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn forget_upload(&self, folder: FolderKey, path: &LocalPath) -> Result<(), StateError> {
        let (dir, name) = split(path);
        self.lock()
            .prepare_cached("DELETE FROM upload_begun WHERE folder = ?1 AND dir = ?2 AND name = ?3")?
            .execute(params![folder.0, dir, name])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_known_as_it_was_noted_last() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let path = LocalPath::new("d/large".as_ref()).unwrap();
        let row = UploadRow {
            path: path.clone(),
            signature: Signature { size: 1 << 40, mtime_ns: -1, ctime_ns: 2, inode: u64::MAX },
            digests: Digests { sha256: Some([1; 32]), xxh3: u128::MAX },
            racy: true,
            upload_id: "u".to_owned(),
            part_size: 10 << 20,
            num_parts: 104_858,
            part_window: 7,
            sent: 0,
        };
        assert_eq!(state.upload(folder, &path).unwrap(), None);
        state.note_upload(folder, &row).unwrap();
        let further = UploadRow { sent: 9, ..row };
        state.note_upload(folder, &further).unwrap();
        drop(state);
        let (state, _) = State::open(dir.path(), "").unwrap();
        assert_eq!(state.upload(folder, &path).unwrap().as_ref(), Some(&further));
        let digests = Digests { sha256: None, ..further.digests };
        let not_hashed = UploadRow { digests, ..further };
        state.note_upload(folder, &not_hashed).unwrap();
        assert_eq!(state.upload(folder, &path).unwrap(), Some(not_hashed));
        let durable: i64 = state.lock().query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!(durable, 2, "whatever else is written waits for the disk");
        state.forget_upload(folder, &path).unwrap();
        assert_eq!(state.upload(folder, &path).unwrap(), None);
    }

    #[test]
    fn an_upload_that_an_earlier_version_began_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let before =
            TABLE.replace("upload_begun", "upload").replace("sha256       BLOB", "sha256 BLOB NOT NULL");
        state.lock().execute_batch(&before).unwrap();
        let row = "INSERT INTO upload
             VALUES (?1, x'', x'61', 33, 1, 2, 3, 0, zeroblob(32), zeroblob(16), 'u', 10, 4, 2, 3)";
        state.lock().execute(row, [folder.0]).unwrap();
        drop(state);
        for _ in 0..2 {
            let (state, set_aside) = State::open(dir.path(), "").unwrap();
            assert!(set_aside.is_none());
            let row = state.upload(folder, &LocalPath::new("a".as_ref()).unwrap()).unwrap().unwrap();
            assert_eq!((row.upload_id.as_str(), row.num_parts, row.sent), ("u", 4, 3));
            assert_eq!(row.digests, Digests { sha256: Some([0; 32]), xxh3: 0 });
        }
    }
}
