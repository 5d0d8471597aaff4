use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Reader, schema};
use crate::content::RootId;
use crate::fault_point::{Point, passed};
use crate::path::{printable, shell_word};

const FILE: &str = "state.db";

/// The one handle that writes. Cheap to clone; calls block for a disk's `fsync` at most, so make them where
/// blocking is allowed.
#[derive(Debug, Clone)]
pub struct State {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Mutex<Connection>,
    dir: PathBuf,
    /// Held for as long as the process lives; the kernel lets go of it with the process, however it ends.
    _lock: File,
}

/// A folder's number in this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderKey(pub(super) i64);

impl FolderKey {
    /// The bare number.
    pub fn number(self) -> i64 {
        self.0
    }
}

/// A database that could not be used and where it was put.
#[derive(Debug, Clone)]
pub struct SetAside {
    /// The file's place from here on.
    pub moved_to: PathBuf,
    /// Why it could not be used.
    pub reason: String,
}

/// Why the state cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another oxen-sync owns it.
    #[error(
        "another oxen-sync uses the state directory {}; stop it first, or give this one a state_dir of its own",
        printable(.0)
    )]
    Locked(PathBuf),
    /// The directory cannot be made or written.
    #[error("cannot use the state directory {}: {source}", printable(path))]
    Directory {
        /// The state directory or a file in it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Whoever can write into it can put another database into the place of ours.
    #[error("others can write to the state directory {}; run: chmod go-w {}", printable(.0), shell_word(.0))]
    OpenToOthers(PathBuf),
    /// The database is broken, of another version, or of another machine.
    #[error(
        "the state in {path} cannot be used: {reason}; the service and push put it aside and begin a new one",
        path = printable(path)
    )]
    Unusable {
        /// The database.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// SQLite says no.
    #[error("the state database failed: {}; {}", .0, advice(.0))]
    Database(#[from] rusqlite::Error),
}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "make room on the disk of state_dir",
        Some(rusqlite::ErrorCode::CannotOpen) => {
            "is the disk of state_dir full, or the limit of open files reached (ulimit -n)?"
        }
        _ => "is the disk of state_dir full or broken?",
    }
}

/// Whether others than its owner can write to a directory.
pub fn is_open_to_others(dir: &fs::Metadata) -> bool {
    dir.permissions().mode() & 0o022 != 0
}

impl State {
    /// Opens the state in `dir` for this process alone, making the directory (mode 0700) and the database where they
    /// are missing. A database that is broken, of another version or of another `machine` is renamed, and a new one
    /// begins: of two machines with one memory, each would take the other's work on the server for its own.
    ///
    /// # Errors
    /// The directory cannot be used, or another process has it.
    pub fn open(dir: &Path, machine: &str) -> Result<(Self, Option<SetAside>), StateError> {
        Self::open_or(dir, machine, |path, _| {
            let moved_to = set_aside(dir)
                .map_err(|source| StateError::Directory { path: path.to_path_buf(), source })?;
            passed(Point::StateSetAside);
            Ok(moved_to)
        })
    }

    /// The same, but a database that cannot be used stays where it is, and is an error.
    ///
    /// # Errors
    /// Also that the database cannot be used.
    pub fn open_as_it_is(dir: &Path, machine: &str) -> Result<Self, StateError> {
        let refuse = |path: &Path, reason: &Unusable| {
            Err(StateError::Unusable { path: path.to_path_buf(), reason: reason.to_string() })
        };
        Self::open_or(dir, machine, refuse).map(|(state, _)| state)
    }

    fn open_or(
        dir: &Path,
        machine: &str,
        make_room: impl FnOnce(&Path, &Unusable) -> Result<PathBuf, StateError>,
    ) -> Result<(Self, Option<SetAside>), StateError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StateError::Directory { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        if is_open_to_others(&fs::metadata(dir).map_err(failed(dir))?) {
            return Err(StateError::OpenToOthers(dir.to_path_buf()));
        }
        let lock_path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::Locked(dir.to_path_buf())),
            Err(fs::TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
        let path = dir.join(FILE);
        let (connection, set_aside) = match connect(&path, machine) {
            Ok(connection) => (connection, None),
            // A disk that is full or fails says nothing against the database, and may be well again.
            Err(Unusable::Database(error)) if !is_broken(&error) => return Err(error.into()),
            Err(reason) => {
                let moved_to = make_room(&path, &reason)?;
                let connection = connect(&path, machine).map_err(|again| match again {
                    Unusable::Database(error) => StateError::Database(error),
                    Unusable::OtherVersion(_) | Unusable::OtherMachine => {
                        StateError::Locked(dir.to_path_buf())
                    }
                })?;
                (connection, Some(SetAside { moved_to, reason: reason.to_string() }))
            }
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed(&path))?;
        let inner = Inner { connection: Mutex::new(connection), dir: dir.to_path_buf(), _lock: lock };
        Ok((Self { inner: Arc::new(inner) }, set_aside))
    }

    /// A connection that only reads, beside the writer.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn reader(&self) -> Result<Reader, StateError> {
        Reader::open(&self.inner.dir)?.ok_or(StateError::Database(rusqlite::Error::InvalidQuery))
    }

    /// The directory it lies in.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The number of the folder that `key` describes, made where it is new.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn folder(&self, key: &str) -> Result<FolderKey, StateError> {
        let connection = self.lock();
        connection.execute("INSERT INTO folder (key) VALUES (?1) ON CONFLICT DO NOTHING", [key])?;
        Ok(FolderKey(connection.query_row("SELECT id FROM folder WHERE key = ?1", [key], |row| row.get(0))?))
    }

    /// Which directory the folder was when it was last seen whole.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn root_id(&self, folder: FolderKey) -> Result<Option<RootId>, StateError> {
        let row = self.lock().query_row(
            "SELECT root_device, root_inode, root_born_ns FROM folder WHERE id = ?1",
            [folder.0],
            |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?)),
        )?;
        Ok(match row {
            (Some(device), Some(inode), born_ns) => {
                Some(RootId { device: device.cast_unsigned(), inode: inode.cast_unsigned(), born_ns })
            }
            _ => None,
        })
    }

    /// Remembers which directory the folder is.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn set_root_id(&self, folder: FolderKey, id: RootId) -> Result<(), StateError> {
        self.lock().execute(
            "UPDATE folder SET root_device = ?2, root_inode = ?3, root_born_ns = ?4 WHERE id = ?1",
            params![folder.0, id.device.cast_signed(), id.inode.cast_signed(), id.born_ns],
        )?;
        passed(Point::RootNoted);
        Ok(())
    }

    /// Keeps `value` under `key`, or forgets the key.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn set_note(&self, key: &str, value: Option<&str>) -> Result<(), StateError> {
        match value {
            Some(value) => self.lock().execute(
                "INSERT INTO note VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                [key, value],
            )?,
            None => self.lock().execute("DELETE FROM note WHERE key = ?1", [key])?,
        };
        Ok(())
    }

    /// What stands under `key`.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn note(&self, key: &str) -> Result<Option<String>, StateError> {
        let value = self
            .lock()
            .query_row("SELECT value FROM note WHERE key = ?1", [key], |row| row.get(0))
            .optional()?;
        Ok(value)
    }

    /// Copies the log into the database, so that a stopped service leaves one file.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn checkpoint(&self) -> Result<(), StateError> {
        self.lock().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a call leaves at most a transaction that SQLite rolled back.
        self.inner.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

impl Reader {
    /// Opens the state in `dir` to read beside whoever writes; `None` where there is none yet.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn open(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join(FILE);
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Directory { path, source }),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(Some(Self { connection }))
    }
}

const BUSY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is of another version of oxen-sync (its schema has the number {0}, ours {ours})", ours = schema::VERSION)]
    OtherVersion(i64),
    #[error("it was written on another machine")]
    OtherMachine,
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
}

/// Whether the file itself is no database, or not a whole one.
fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}

fn connect(path: &Path, machine: &str) -> Result<Connection, Unusable> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What a request's safety rests on must survive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    match schema::migrate(&mut connection)? {
        0 => {
            let transaction = connection.transaction()?;
            schema::create(&transaction, machine)?;
            transaction.commit()?;
            passed(Point::StateMade);
        }
        version if version != schema::VERSION => return Err(Unusable::OtherVersion(version)),
        _ => {
            match schema::machine(&connection)? {
                // A machine without an id says nothing, here or there.
                known if machine.is_empty() || known.as_deref() == Some(machine) => {}
                Some(known) if !known.is_empty() => return Err(Unusable::OtherMachine),
                _ => schema::set_machine(&connection, machine)?,
            }
            let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
                return Err(rusqlite::Error::SqliteFailure(code, Some(verdict)).into());
            }
        }
    }
    schema::complete(&connection)?;
    Ok(connection)
}

/// Renames the database with its log, so that someone can look at it later.
fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().as_millisecond();
    let target = dir.join(format!("{FILE}.unusable-{stamp}"));
    for suffix in ["", "-wal", "-shm"] {
        let mut to = target.clone().into_os_string();
        to.push(suffix);
        match fs::rename(dir.join(format!("{FILE}{suffix}")), to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests;
