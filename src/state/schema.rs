use rusqlite::{Connection, OptionalExtension, Transaction};

/// Stored in SQLite's `user_version`. A database with another one is set aside.
pub(super) const VERSION: i64 = 3;

const TABLES: &str = "
CREATE TABLE folder (
    id           INTEGER PRIMARY KEY,
    key          TEXT NOT NULL UNIQUE,
    root_device  INTEGER,
    root_inode   INTEGER,
    root_born_ns INTEGER,
    -- Whether the branch was listed once, so that what it holds already is not sent again.
    seeded       INTEGER NOT NULL DEFAULT 0,
    -- The commit at which the branch is known to hold what the rows of its files say.
    head         TEXT
) STRICT;

-- What is proved to be on the branch. A row without sha256 was only listed there, never read here.
CREATE TABLE file (
    folder     INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    dir        BLOB NOT NULL,
    name       BLOB NOT NULL,
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER,
    ctime_ns   INTEGER,
    inode      INTEGER,
    racy       INTEGER NOT NULL DEFAULT 0,
    -- 0: here; 1: gone, and the branch keeps it; 2: gone, and its removal waits for the brake; 3: gone, and let go.
    gone       INTEGER NOT NULL DEFAULT 0,
    sha256     BLOB,
    xxh3       BLOB NOT NULL,
    commit_id  TEXT,
    pushed_ms  INTEGER,
    -- Whether the listing of the branch that goes on, or that was the last, has shown it.
    listed     INTEGER NOT NULL DEFAULT 0,
    -- Where it stands on the branch: a row of `place`; 0 for the folder's own directory.
    place      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (folder, dir, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX file_by_content ON file(folder, xxh3);

-- Written before a request goes out, closed when its commit is proved.
CREATE TABLE batch (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    folder      INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    phase       TEXT NOT NULL,
    transport   TEXT NOT NULL,
    workspace   TEXT NOT NULL,
    message     TEXT NOT NULL,
    created_ms  INTEGER NOT NULL
) STRICT;

CREATE TABLE batch_change (
    batch     INTEGER NOT NULL REFERENCES batch(id) ON DELETE CASCADE,
    path      BLOB NOT NULL,
    kind      INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    mtime_ns  INTEGER NOT NULL,
    ctime_ns  INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    racy      INTEGER NOT NULL,
    -- Zeros where it is not known before the file is sent.
    sha256    BLOB NOT NULL,
    xxh3      BLOB NOT NULL,
    place     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE problem (
    folder    INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    path      BLOB NOT NULL,
    kind      TEXT NOT NULL,
    reason    TEXT NOT NULL,
    since_ms  INTEGER NOT NULL,
    size      INTEGER,
    mtime_ns  INTEGER,
    ctime_ns  INTEGER,
    inode     INTEGER,
    PRIMARY KEY (folder, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE commit_made (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    folder     INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    commit_id  TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    files      INTEGER NOT NULL,
    removed    INTEGER NOT NULL,
    bytes      INTEGER NOT NULL
) STRICT;

CREATE INDEX commit_made_by_folder ON commit_made(folder, id);

CREATE TABLE retry (
    folder    INTEGER PRIMARY KEY REFERENCES folder(id) ON DELETE CASCADE,
    attempts  INTEGER NOT NULL,
    next_ms   INTEGER NOT NULL,
    stopped   INTEGER NOT NULL,
    reason    TEXT NOT NULL
) STRICT;

CREATE TABLE note (
    key    TEXT PRIMARY KEY,
    value  TEXT NOT NULL
) STRICT;
";

/// Directories of the branch before and behind those of the file, with the file's time filled in.
const PLACES: &str = "
CREATE TABLE place (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    folder  INTEGER NOT NULL REFERENCES folder(id) ON DELETE CASCADE,
    before  TEXT NOT NULL,
    behind  TEXT NOT NULL,
    UNIQUE (folder, before, behind)
) STRICT;
";

/// From version 2, which had no places, to 3.
const TO_3: &str = "
ALTER TABLE file ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch_change ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
";

/// Brings a database of an earlier version to this one, all or nothing. Says which version it has then.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    let version = version(connection)?;
    if version != 2 {
        return Ok(version);
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(PLACES)?;
    transaction.execute_batch(TO_3)?;
    transaction.pragma_update(None, "user_version", 3)?;
    transaction.commit()?;
    Ok(3)
}

/// Under which note the machine stands.
const MACHINE: &str = "machine";

/// Creates the tables in an empty database that belongs to `machine`.
pub(super) fn create(transaction: &Transaction<'_>, machine: &str) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(PLACES)?;
    set_machine(transaction, machine)?;
    transaction.pragma_update(None, "user_version", VERSION)
}

/// The machine that the database belongs to; `None` where nobody wrote that down.
pub(super) fn machine(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM note WHERE key = ?1", [MACHINE], |row| row.get(0)).optional()
}

/// Says which machine the database belongs to.
pub(super) fn set_machine(connection: &Connection, machine: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO note VALUES (?1, ?2)", [MACHINE, machine]).map(|_| ())
}

/// Removals are few, and are counted and taken out often. Made where it is missing; it changes nothing that is read.
const REMOVALS: &str =
    "CREATE INDEX IF NOT EXISTS file_removed ON file(folder, gone, dir, name) WHERE gone > 1";

/// Makes what a database of this version may lack.
pub(super) fn complete(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(REMOVALS)?;
    super::uploads::make(connection)?;
    connection.execute_batch(super::taking_off::TABLE)
}

/// The schema's version; 0 for an empty database.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
