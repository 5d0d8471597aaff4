//! Files that are taken off after they were pushed: which may be, which just are, and which were.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::files::{FILE_COLUMNS, file_row, split};
use super::{FileRow, FolderKey, Presence, Reader, State, StateError};
use crate::content::Signature;
use crate::fault_point::{Point, passed};
use crate::path::LocalPath;

/// Made where it is missing; it changes nothing that is read.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS taken_off (
    folder     INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    path       BLOB NOT NULL,
    -- The file's, so that one which came later under its name is not taken for it.
    ctime_ns   INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    -- Below which directory it was moved; none where it was deleted.
    moved_to   TEXT,
    at_ms      INTEGER NOT NULL,
    -- Whether that is still to be done, or was broken off.
    under_way  INTEGER NOT NULL,
    PRIMARY KEY (folder, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS taken_off_under_way ON taken_off(folder, path) WHERE under_way = 1;";

/// Rows looked at with one call, and those of them that are handed over, at the most: so that no call takes long, and memory
/// holds few.
const LOOK_MAX: usize = 5_000;
const ROWS_MAX: usize = 256;

/// Files that may be taken off as far as their rows say.
#[derive(Debug, Default)]
pub struct PushedFiles {
    /// In the order of the keys.
    pub files: Vec<(LocalPath, FileRow)>,
    /// Where the next look begins; `None` where all were looked at.
    pub next: Option<LocalPath>,
}

/// A file that is to be taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Relative to the folder.
    pub path: LocalPath,
    /// As its row says.
    pub signature: Signature,
}

/// A file that was taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOff {
    /// Below which directory it was moved, printable; `None` where it was deleted.
    pub moved_to: Option<String>,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

impl State {
    /// The files behind `after` for which `may_go` holds.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn pushed_files(
        &self,
        folder: FolderKey,
        after: Option<&LocalPath>,
        may_go: impl Fn(&FileRow) -> bool,
    ) -> Result<PushedFiles, StateError> {
        let (dir, name) = after.map(split).unwrap_or_default();
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {FILE_COLUMNS}, dir, gone = 0 AND sha256 IS NOT NULL AND pushed_ms IS NOT NULL FROM file
             WHERE folder = ?1 AND (dir, name) > (?2, ?3) ORDER BY dir, name LIMIT {LOOK_MAX}"
        ))?;
        let mut rows = statement.query(params![folder.0, dir, name])?;
        let (mut found, mut looked) = (PushedFiles::default(), 0);
        let mut last = None;
        while let Some(row) = rows.next()? {
            looked += 1;
            let is_full = found.files.len() + 1 >= ROWS_MAX;
            let may_be = row.get::<_, bool>(13)?;
            if !may_be && looked < LOOK_MAX {
                continue;
            }
            let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(12)?, row.get(0)?);
            let path = if dir.is_empty() { name } else { [&dir[..], &name[..]].join(&b'/') };
            let Some(path) = LocalPath::from_bytes(&path) else { continue };
            last = Some(path.clone());
            let known = file_row(row)?;
            if may_be && may_go(&known) {
                found.files.push((path, known));
                if is_full {
                    found.next = last;
                    return Ok(found);
                }
            }
        }
        found.next = last.filter(|_| looked >= LOOK_MAX);
        Ok(found)
    }

    /// Writes down that files are about to be taken off. From here on the branch keeps them, whatever becomes of them: not
    /// even a folder that mirrors by the next start takes them for removed. Returns those whose rows are still what they
    /// were; the others must stay.
    ///
    /// # Errors
    /// SQLite says no; then nothing is written down.
    pub fn begin_taking_off(
        &self,
        folder: FolderKey,
        leaving: Vec<Leaving>,
        moved_to: Option<&str>,
        at_ms: i64,
    ) -> Result<Vec<Leaving>, StateError> {
        let begun = self.write(|transaction| {
            let mut begun = Vec::with_capacity(leaving.len());
            for file in leaving {
                if !set_presence(transaction, folder, &file, (Presence::Here, Presence::Kept))? {
                    continue;
                }
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO taken_off VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)")?
                    .execute(params![
                        folder.0,
                        file.path.as_bytes(),
                        file.signature.ctime_ns,
                        file.signature.inode.cast_signed(),
                        moved_to,
                        at_ms
                    ])?;
                begun.push(file);
            }
            Ok(begun)
        })?;
        passed(Point::TakingOffNoted);
        Ok(begun)
    }

    /// Writes down which files were taken off, and which stand in the folder as before. Of any other that was begun it stays
    /// open what became of it.
    ///
    /// # Errors
    /// SQLite says no; then all of it stays open.
    pub fn end_taking_off(
        &self,
        folder: FolderKey,
        gone: &[LocalPath],
        stayed: &[LocalPath],
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            for path in gone {
                transaction
                    .prepare_cached("UPDATE taken_off SET under_way = 0 WHERE folder = ?1 AND path = ?2")?
                    .execute(params![folder.0, path.as_bytes()])?;
            }
            for path in stayed {
                let (dir, name) = split(path);
                // The one that was marked then, not one that was proved since.
                transaction
                    .prepare_cached(
                        "UPDATE file SET gone = 0 WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND gone = 1 AND
                         (ctime_ns, inode) = (SELECT ctime_ns, inode FROM taken_off WHERE folder = ?1 AND path = ?4)",
                    )?
                    .execute(params![folder.0, dir, name, path.as_bytes()])?;
                transaction
                    .prepare_cached("DELETE FROM taken_off WHERE folder = ?1 AND path = ?2")?
                    .execute(params![folder.0, path.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// Files of which it is open whether they were taken off, in the order of their paths, behind `after`, a few hundred at
    /// the most.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn half_taken_off(
        &self,
        folder: FolderKey,
        after: Option<&LocalPath>,
    ) -> Result<Vec<LocalPath>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT path FROM taken_off WHERE folder = ?1 AND under_way = 1 AND path > ?2 ORDER BY path LIMIT {ROWS_MAX}"
        ))?;
        let after = after.map_or(&[][..], LocalPath::as_bytes);
        let paths = statement.query_map(params![folder.0, after], |row| row.get::<_, Vec<u8>>(0))?;
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        Ok(paths.iter().filter_map(|path| LocalPath::from_bytes(path)).collect())
    }

    /// Whether the file with this signature was taken off.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn was_taken_off(
        &self,
        folder: FolderKey,
        path: &LocalPath,
        signature: &Signature,
    ) -> Result<bool, StateError> {
        Ok(taken_off(&self.lock(), folder, path, signature)?.is_some())
    }

    /// Has a file read once more although its signature is as it was: its bytes are others.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn distrust(&self, folder: FolderKey, path: &LocalPath) -> Result<(), StateError> {
        let (dir, name) = split(path);
        self.lock()
            .prepare_cached(
                "UPDATE file SET racy = 1 WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND gone = 0",
            )?
            .execute(params![folder.0, dir, name])?;
        Ok(())
    }
}

impl Reader {
    /// What became of the file with this signature, if it was taken off.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn taken_off(
        &self,
        folder: FolderKey,
        path: &LocalPath,
        signature: &Signature,
    ) -> Result<Option<TakenOff>, StateError> {
        if !has_table(&self.connection)? {
            return Ok(None);
        }
        Ok(taken_off(&self.connection, folder, path, signature)?)
    }
}

fn taken_off(
    connection: &Connection,
    folder: FolderKey,
    path: &LocalPath,
    signature: &Signature,
) -> rusqlite::Result<Option<TakenOff>> {
    let mut statement = connection.prepare_cached(
        "SELECT moved_to, at_ms FROM taken_off
         WHERE folder = ?1 AND path = ?2 AND ctime_ns = ?3 AND inode = ?4 AND under_way = 0",
    )?;
    let keys = params![folder.0, path.as_bytes(), signature.ctime_ns, signature.inode.cast_signed()];
    let found = statement.query_row(keys, |row| Ok(TakenOff { moved_to: row.get(0)?, at_ms: row.get(1)? }));
    found.optional()
}

/// Whoever only reads may read a database that no service of this version has opened yet.
fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'taken_off'")?
        .exists([])
}

/// Whether the row was that of the file, and has the other presence now.
fn set_presence(
    transaction: &Transaction<'_>,
    folder: FolderKey,
    Leaving { path, signature }: &Leaving,
    (from, to): (Presence, Presence),
) -> rusqlite::Result<bool> {
    let (dir, name) = split(path);
    let changed = transaction
        .prepare_cached(
            "UPDATE file SET gone = ?4 WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND gone = ?5 AND racy = 0
             AND size = ?6 AND mtime_ns = ?7 AND ctime_ns = ?8 AND inode = ?9",
        )?
        .execute(params![
            folder.0,
            dir,
            name,
            to,
            from,
            signature.size.cast_signed(),
            signature.mtime_ns,
            signature.ctime_ns,
            signature.inode.cast_signed()
        ])?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Digests;
    use crate::state::{Confirmed, Listed, PlaceKey};

    fn local(path: &str) -> LocalPath {
        LocalPath::new(path.as_ref()).unwrap()
    }

    fn signature(inode: u64) -> Signature {
        Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode }
    }

    fn pushed(paths: &[String]) -> (tempfile::TempDir, State, FolderKey) {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let files =
            |path: &String| Listed { files: vec![(PlaceKey::default(), local(path))], size: 1, xxh3: 1 };
        state.begin_listing(folder).unwrap();
        state.list_files(folder, &paths.iter().map(files).collect::<Vec<_>>()).unwrap();
        let confirmed = paths.iter().map(|path| Confirmed {
            path: local(path),
            signature: signature(1),
            digests: Digests { sha256: Some([1; 32]), xxh3: 1 },
            racy: false,
        });
        state.confirm_files(folder, &confirmed.collect::<Vec<_>>()).unwrap();
        state.lock().execute("UPDATE file SET commit_id = 'c', pushed_ms = 1", []).unwrap();
        (dir, state, folder)
    }

    #[test]
    fn every_file_is_handed_over_once_however_many_there_are() {
        let paths: Vec<String> =
            (0..1_200).map(|n| format!("d{}/{n:04}", n % 3)).chain(["top".into()]).collect();
        let (_dir, state, folder) = pushed(&paths);
        for may_go in [|_: &FileRow| true, |row: &FileRow| row.size > 1] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let found = state.pushed_files(folder, after.as_ref(), may_go).unwrap();
                assert!(found.files.len() <= ROWS_MAX);
                seen.extend(found.files.into_iter().map(|(path, _)| path.to_string()));
                after = found.next;
                if after.is_none() {
                    break;
                }
            }
            seen.sort();
            let mut wanted = if seen.is_empty() { Vec::new() } else { paths.clone() };
            wanted.sort();
            assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn the_branch_keeps_what_is_about_to_be_taken_off() {
        let (_dir, state, folder) = pushed(&["a".into(), "b".into(), "c".into()]);
        let leaving = |path: &str, inode| Leaving { path: local(path), signature: signature(inode) };
        let presence = |path: &str| state.file(folder, &local(path)).unwrap().unwrap().known.presence;
        let wanted = vec![leaving("a", 1), leaving("b", 1), leaving("c", 2)];
        let begun = state.begin_taking_off(folder, wanted, Some("/p"), 7).unwrap();
        assert_eq!(begun, [leaving("a", 1), leaving("b", 1)], "one is another file by now");
        assert_eq!(
            [presence("a"), presence("b"), presence("c")],
            [Presence::Kept, Presence::Kept, Presence::Here]
        );
        assert_eq!(state.half_taken_off(folder, None).unwrap(), [local("a"), local("b")]);
        assert_eq!(state.half_taken_off(folder, Some(&local("a"))).unwrap(), [local("b")]);
        state.end_taking_off(folder, &[local("a")], &[local("b")]).unwrap();
        assert_eq!([presence("a"), presence("b")], [Presence::Kept, Presence::Here]);
        assert!(state.half_taken_off(folder, None).unwrap().is_empty());
        let reader = state.reader().unwrap();
        let taken_off =
            |path: &str, inode| reader.taken_off(folder, &local(path), &signature(inode)).unwrap();
        assert_eq!(taken_off("a", 1), Some(TakenOff { moved_to: Some("/p".to_owned()), at_ms: 7 }));
        assert_eq!((taken_off("a", 2), taken_off("b", 1)), (None, None));
        let was = |path: &str| state.was_taken_off(folder, &local(path), &signature(1)).unwrap();
        assert_eq!((was("a"), was("b")), (true, false));
    }
}
