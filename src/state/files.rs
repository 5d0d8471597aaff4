use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{FolderKey, PlaceKey, State, StateError};
use crate::content::{Digests, Signature};
use crate::fault_point::{Point, passed};
use crate::path::LocalPath;

/// Reads beside the writer.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
}

/// What is known of one file, as the scan needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownFile {
    /// As it was when its content was proved; `None` where the content was only listed on the branch.
    pub signature: Option<Signature>,
    /// Whether the signature is to be distrusted once.
    pub racy: bool,
    /// Whether the folder still has it.
    pub presence: Presence,
}

impl KnownFile {
    /// Whether it would be news that the folder has it no more. A file that was only listed on the branch was never here.
    pub fn can_go(&self) -> bool {
        self.signature.is_some() && !matches!(self.presence, Presence::Kept | Presence::Waiting)
    }
}

/// What became in the folder of a file that the branch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is here, as far as is known.
    Here,
    /// It is gone, and the branch keeps it.
    Kept,
    /// It is gone, and nobody has said yet that it may go from the branch: the brake has not looked at it, or holds it.
    Waiting,
    /// It is gone, and is to go from the branch.
    Released,
}

impl ToSql for Presence {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Here => 0,
            Self::Kept => 1,
            Self::Waiting => 2,
            Self::Released => 3,
        }
        .into())
    }
}

impl FromSql for Presence {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_i64()? {
            0 => Ok(Self::Here),
            1 => Ok(Self::Kept),
            2 => Ok(Self::Waiting),
            3 => Ok(Self::Released),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}

/// A file whose content was found to be on the branch already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Its path in the folder.
    pub path: LocalPath,
    /// As it was when it was hashed.
    pub signature: Signature,
    /// The content.
    pub digests: Digests,
    /// See [`Signature::is_racy`].
    pub racy: bool,
}

/// All that is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// See [`KnownFile`].
    pub known: KnownFile,
    /// Bytes on the branch.
    pub size: u64,
    /// The content on the branch, as Oxen names it.
    pub xxh3: u128,
    /// The content on the branch, as we name it; `None` where it was only listed there.
    pub sha256: Option<[u8; 32]>,
    /// The commit that brought it; `None` where it was only listed.
    pub commit_id: Option<String>,
    /// When that commit was proved, in milliseconds since the epoch.
    pub pushed_ms: Option<i64>,
    /// Where it stands on the branch.
    pub place: PlaceKey,
}

impl FileRow {
    /// Whether the branch holds exactly this content at the path.
    pub fn holds(&self, size: u64, digests: &Digests) -> bool {
        self.size == size && Digests { sha256: self.sha256, xxh3: self.xxh3 }.agrees(digests)
    }

    /// Whether the folder has it, as far as is known.
    pub fn is_here(&self) -> bool {
        self.known.signature.is_some() && self.known.presence == Presence::Here
    }

    /// Whether we compared this content with the branch ourselves, and the folder has had it ever since.
    pub fn is_proved(&self) -> bool {
        self.sha256.is_some() && self.known.presence == Presence::Here
    }
}

pub(super) const FILE_COLUMNS: &str =
    "name, mtime_ns, ctime_ns, inode, size, racy, gone, xxh3, sha256, commit_id, pushed_ms, place";

fn known(row: &Row<'_>) -> rusqlite::Result<KnownFile> {
    let times: (Option<i64>, Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let signature = match times {
        (Some(mtime_ns), Some(ctime_ns), Some(inode)) => Some(Signature {
            size: row.get::<_, i64>(4)?.cast_unsigned(),
            mtime_ns,
            ctime_ns,
            inode: inode.cast_unsigned(),
        }),
        _ => None,
    };
    Ok(KnownFile { signature, racy: row.get(5)?, presence: row.get(6)? })
}

pub(super) fn file_row(row: &Row<'_>) -> rusqlite::Result<FileRow> {
    Ok(FileRow {
        known: known(row)?,
        size: row.get::<_, i64>(4)?.cast_unsigned(),
        xxh3: u128::from_be_bytes(row.get(7)?),
        sha256: row.get(8)?,
        commit_id: row.get(9)?,
        pushed_ms: row.get(10)?,
        place: row.get(11)?,
    })
}

pub(super) fn split(path: &LocalPath) -> (Vec<u8>, Vec<u8>) {
    let dir = path.parent().unwrap_or_default();
    let name = path.name().as_encoded_bytes().to_vec();
    (dir.as_bytes().to_vec(), name)
}

impl Reader {
    /// Hands over each file known in the directory `dir` by its name, in the order of the names' bytes. The log of the
    /// database cannot be taken in meanwhile: `each` must not wait.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn each_file_in(
        &self,
        folder: FolderKey,
        dir: &LocalPath,
        mut each: impl FnMut(&[u8], KnownFile),
    ) -> Result<(), StateError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, mtime_ns, ctime_ns, inode, size, racy, gone FROM file
             WHERE folder = ?1 AND dir = ?2 ORDER BY name",
        )?;
        let mut rows = statement.query(params![folder.0, dir.as_bytes()])?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?, known(row)?);
        }
        Ok(())
    }

    /// The directory below `dir` that holds known files and comes next after `after` in the order of the bytes.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn next_dir(
        &self,
        folder: FolderKey,
        dir: &LocalPath,
        after: Option<&LocalPath>,
    ) -> Result<Option<LocalPath>, StateError> {
        // One step down the key's tree for each directory, however many files it holds.
        let mut statement = self.connection.prepare_cached(
            "SELECT dir FROM file WHERE folder = ?1 AND dir > ?2 AND dir < ?3 ORDER BY dir LIMIT 1",
        )?;
        let (low, high) = range_below(dir);
        // No directory is called as the low end of another one's range is, but it may be called as that of the root's.
        let low = if dir.is_root() { Vec::new() } else { low };
        let mut after = after.map_or(low, |after| after.as_bytes().to_vec());
        loop {
            let next = statement.query_row(params![folder.0, after, high], |row| row.get(0)).optional()?;
            let Some(next) = next else { return Ok(None) };
            after = next;
            if let Some(next) = LocalPath::from_bytes(&after) {
                return Ok(Some(next));
            }
        }
    }

    /// Whether a directory at or below `dir` holds known files which are here, or are to go from the branch.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn has_files_below(&self, folder: FolderKey, dir: &LocalPath) -> Result<bool, StateError> {
        let mut statement = self.connection.prepare_cached(
            // Two queries, since SQLite uses the key's order for neither half of an OR.
            "SELECT 1 FROM file WHERE folder = ?1 AND dir = ?2 AND gone IN (0, 3)
             UNION ALL SELECT 1 FROM file WHERE folder = ?1 AND dir >= ?3 AND dir < ?4 AND gone IN (0, 3)
             LIMIT 1",
        )?;
        let (low, high) = range_below(dir);
        Ok(statement.exists(params![folder.0, dir.as_bytes(), low, high])?)
    }

    /// What stands under `key` of the notes.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn note(&self, key: &str) -> Result<Option<String>, StateError> {
        let value = self
            .connection
            .query_row("SELECT value FROM note WHERE key = ?1", [key], |row| row.get(0))
            .optional()?;
        Ok(value)
    }
}

/// The half-open range of byte strings that lie below `dir`.
pub(super) fn range_below(dir: &LocalPath) -> (Vec<u8>, Vec<u8>) {
    if dir.is_root() {
        // A name holds no NUL, and no byte of UTF-8 or of any other encoding exceeds 0xff.
        return (vec![1], vec![0xff; 4097]);
    }
    let below = |end: u8| [dir.as_bytes(), &[end]].concat();
    (below(b'/'), below(b'/' + 1))
}

impl State {
    /// All that is known of `path`.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn file(&self, folder: FolderKey, path: &LocalPath) -> Result<Option<FileRow>, StateError> {
        let (dir, name) = split(path);
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {FILE_COLUMNS} FROM file WHERE folder = ?1 AND dir = ?2 AND name = ?3"
        ))?;
        Ok(statement.query_row(params![folder.0, dir, name], file_row).optional()?)
    }

    /// Whether some file of the folder has this content on the branch.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn holds_content(&self, folder: FolderKey, xxh3: u128) -> Result<bool, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT 1 FROM file WHERE folder = ?1 AND xxh3 = ?2 LIMIT 1")?;
        Ok(statement.exists(params![folder.0, xxh3.to_be_bytes()])?)
    }

    /// Gives rows whose content is on the branch already the signatures that were seen with it; whatever was wrong with
    /// these files is over. A row that has become one of another content since then stays as it is, and no hash that is
    /// known is forgotten.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn confirm_files(&self, folder: FolderKey, seen: &[Confirmed]) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE file SET mtime_ns = ?4, ctime_ns = ?5, inode = ?6, sha256 = coalesce(?7, sha256), racy = ?8,
                     gone = 0
                 WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND size = ?9 AND xxh3 = ?10",
            )?;
            let mut settled =
                transaction.prepare_cached("DELETE FROM problem WHERE folder = ?1 AND path = ?2")?;
            for Confirmed { path, signature, digests, racy } in seen {
                let (dir, name) = split(path);
                let confirmed = statement.execute(params![
                    folder.0,
                    dir,
                    name,
                    signature.mtime_ns,
                    signature.ctime_ns,
                    signature.inode.cast_signed(),
                    digests.sha256,
                    racy,
                    signature.size.cast_signed(),
                    digests.xxh3.to_be_bytes(),
                ])?;
                if confirmed > 0 {
                    settled.execute(params![folder.0, path.as_bytes()])?;
                }
            }
            Ok(())
        })
    }

    /// Marks files that the folder no longer has. One that was only listed meanwhile was never here.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn mark_gone(
        &self,
        folder: FolderKey,
        paths: &[LocalPath],
        presence: Presence,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE file SET gone = ?4
                     WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND gone = 0 AND mtime_ns IS NOT NULL",
            )?;
            for path in paths {
                let (dir, name) = split(path);
                statement.execute(params![folder.0, dir, name, presence])?;
            }
            Ok(())
        })?;
        passed(Point::GoneMarked);
        Ok(())
    }

    /// Forgets what is known of files: the branch may not hold them any more.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn forget_files(&self, folder: FolderKey, paths: &[LocalPath]) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut statement = transaction
                .prepare_cached("DELETE FROM file WHERE folder = ?1 AND dir = ?2 AND name = ?3")?;
            for path in paths {
                let (dir, name) = split(path);
                statement.execute(params![folder.0, dir, name])?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Listed;
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    #[test]
    fn directories_below_are_found_by_whole_segments() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        let listed: Vec<_> = ["top", "a/2", "a/1", "a/b/2", "a0/3", "a/gone/4", "a-/5", "\u{1}/6"]
            .iter()
            .map(|path| Listed { files: vec![(PlaceKey::default(), local(path))], size: 1, xxh3: 1 })
            .collect();
        state.begin_listing(folder).unwrap();
        state.list_files(folder, &listed).unwrap();
        let here = Confirmed {
            path: local("a/gone/4"),
            signature: Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 },
            digests: Digests { sha256: Some([1; 32]), xxh3: 1 },
            racy: false,
        };
        state.confirm_files(folder, &[here]).unwrap();
        // What was only listed was never here.
        let gone = [local("a/gone/4"), local("a/1")];
        state.mark_gone(folder, &gone, Presence::Kept).unwrap();
        let reader = state.reader().unwrap();
        let below = |path: &str| {
            let (start, mut dirs) = (local(path), Vec::new());
            while let Some(dir) = reader.next_dir(folder, &start, dirs.last()).unwrap() {
                dirs.push(dir);
            }
            dirs.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(below(""), ["\\u{1}", "a", "a-", "a/b", "a/gone", "a0"]);
        assert_eq!(below("a"), ["a/b", "a/gone"]);
        let has = |path: &str| reader.has_files_below(folder, &local(path)).unwrap();
        assert!(has("") && has("a") && has("a/b"));
        assert!(!has("a/gone"), "what is gone, and was told to be, is not news");
        let mut names = Vec::new();
        reader.each_file_in(folder, &local("a"), |name, _| names.push(name.to_vec())).unwrap();
        assert_eq!(names, [b"1", b"2"]);
    }
}
