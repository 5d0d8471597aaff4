use rusqlite::{OptionalExtension, params};

use super::files::split;
use super::{FolderKey, PlaceKey, State, StateError};
use crate::fault_point::{Point, passed};
use crate::path::LocalPath;

/// How far what is known of a branch can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Whether the branch was listed to its end.
    pub is_whole: bool,
    /// The commit at which the branch holds exactly what the rows of its files say.
    pub head: Option<String>,
    /// The last commit of ours, which every later head has in its history.
    pub last_commit: Option<String>,
}

/// A file that the branch was listed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which file of the folder it is, and at which of its places: the likeliest first, and at least one.
    pub files: Vec<(PlaceKey, LocalPath)>,
    /// Bytes.
    pub size: u64,
    /// The content, as Oxen names it.
    pub xxh3: u128,
}

impl State {
    /// How far what is known of the folder's branch can be trusted.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn listing(&self, folder: FolderKey) -> Result<Listing, StateError> {
        let connection = self.lock();
        let (is_whole, head) =
            connection.query_row("SELECT seeded, head FROM folder WHERE id = ?1", [folder.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let last_commit = connection
            .query_row(
                "SELECT commit_id FROM commit_made WHERE folder = ?1 ORDER BY id DESC LIMIT 1",
                [folder.0],
                |row| row.get(0),
            )
            .optional()?;
        Ok(Listing { is_whole, head, last_commit })
    }

    /// A listing of the branch begins. Until its end what is known counts as incomplete.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn begin_listing(&self, folder: FolderKey) -> Result<(), StateError> {
        self.write(|transaction| {
            transaction.execute("UPDATE folder SET seeded = 0, head = NULL WHERE id = ?1", [folder.0])?;
            transaction.execute("UPDATE file SET listed = 0 WHERE folder = ?1 AND listed = 1", [folder.0])?;
            Ok(())
        })?;
        passed(Point::ListingBegun);
        Ok(())
    }

    /// Takes in files that the branch was listed with. What is known better stays, unless the branch holds another
    /// content by now: then that is all that is known. Of a file that stands at several places, the one counts that it is
    /// known at, or else that of the latest time.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn list_files(&self, folder: FolderKey, listed: &[Listed]) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut place = transaction
                .prepare_cached("SELECT place FROM file WHERE folder = ?1 AND dir = ?2 AND name = ?3")?;
            let mut is_later = transaction.prepare_cached(
                "SELECT 1 FROM file, place AS known, place AS listed
                 WHERE file.folder = ?1 AND dir = ?2 AND name = ?3 AND sha256 IS NULL
                     AND known.id = file.place AND listed.id = ?4
                     AND (listed.before, listed.behind) > (known.before, known.behind)",
            )?;
            let mut same = transaction.prepare_cached(
                "UPDATE file SET listed = 1
                 WHERE folder = ?1 AND dir = ?2 AND name = ?3 AND size = ?4 AND xxh3 = ?5",
            )?;
            let mut other = transaction.prepare_cached(
                "INSERT OR REPLACE INTO file (folder, dir, name, size, xxh3, listed, place)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)",
            )?;
            for Listed { files, size, xxh3 } in listed {
                let mut chosen = None;
                for (key, path) in files {
                    let (dir, name) = split(path);
                    let known: Option<PlaceKey> =
                        place.query_row(params![folder.0, dir, name], |row| row.get(0)).optional()?;
                    if known == Some(*key) {
                        chosen = Some((*key, dir, name));
                        break;
                    }
                    let is_new = match known {
                        None => true,
                        Some(_) => is_later.exists(params![folder.0, dir, name, key])?,
                    };
                    if is_new && chosen.is_none() {
                        chosen = Some((*key, dir, name));
                    }
                }
                let Some((key, dir, name)) = chosen else { continue };
                let row = params![folder.0, dir, name, size.cast_signed(), xxh3.to_be_bytes(), key];
                let is_known =
                    place.query_row(params![folder.0, dir, name], |row| row.get(0)).optional()? == Some(key);
                if !is_known || same.execute(&row[..5])? == 0 {
                    other.execute(row)?;
                }
            }
            Ok(())
        })?;
        passed(Point::PageListed);
        Ok(())
    }

    /// The listing came to its end at the commit `head`. Forgets the files that it did not show, and returns how many
    /// of them had been proved before.
    ///
    /// # Errors
    /// SQLite says no.
    pub fn end_listing(&self, folder: FolderKey, head: &str) -> Result<usize, StateError> {
        let lost = self.write(|transaction| {
            let lost: i64 = transaction.query_row(
                "SELECT count(*) FROM file WHERE folder = ?1 AND listed = 0 AND commit_id IS NOT NULL",
                [folder.0],
                |row| row.get(0),
            )?;
            transaction.execute("DELETE FROM file WHERE folder = ?1 AND listed = 0", [folder.0])?;
            transaction
                .execute("UPDATE folder SET seeded = 1, head = ?2 WHERE id = ?1", params![folder.0, head])?;
            Ok(usize::try_from(lost).unwrap_or(0))
        })?;
        passed(Point::ListingEnded);
        Ok(lost)
    }

    /// The branch is known to hold at `head` what the rows say.
    ///
    /// # Errors
    /// SQLite says no; then the branch is listed once more than needed.
    pub fn set_head(&self, folder: FolderKey, head: &str) -> Result<(), StateError> {
        self.lock().execute("UPDATE folder SET head = ?2 WHERE id = ?1", params![folder.0, head])?;
        passed(Point::HeadNoted);
        Ok(())
    }

    /// A commit of ours stands on top of `parent`. Where the branch was known at `parent`, it is known at `head` now.
    ///
    /// # Errors
    /// SQLite says no; then the branch is listed once more than needed.
    pub fn advance_head(&self, folder: FolderKey, parent: &str, head: &str) -> Result<(), StateError> {
        self.lock().execute(
            "UPDATE folder SET head = ?3 WHERE id = ?1 AND head = ?2",
            params![folder.0, parent, head],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Digests, Signature};
    use crate::state::Confirmed;
    use std::path::Path;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn listed(path: &str, size: u64, xxh3: u128) -> Listed {
        Listed { files: vec![(PlaceKey::default(), local(path))], size, xxh3 }
    }

    #[test]
    fn what_the_branch_was_listed_with_is_known_by_content_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        state.begin_listing(folder).unwrap();
        state.list_files(folder, &[listed("x/y", 3, 7)]).unwrap();
        let row = state.file(folder, &local("x/y")).unwrap().unwrap();
        assert_eq!((row.known.signature, row.sha256), (None, None));
        assert!(row.holds(3, &Digests { sha256: Some([1; 32]), xxh3: 7 }));
        assert!(!row.holds(4, &Digests { sha256: Some([1; 32]), xxh3: 7 }));

        let signature = Signature { size: 3, mtime_ns: -1, ctime_ns: 5, inode: u64::MAX };
        let digests = Digests { sha256: Some([1; 32]), xxh3: 7 };
        let confirmed = Confirmed { path: local("x/y"), signature, digests, racy: true };
        let other = Digests { xxh3: 8, ..digests };
        state.confirm_files(folder, &[Confirmed { digests: other, ..confirmed.clone() }]).unwrap();
        let row = state.file(folder, &local("x/y")).unwrap().unwrap();
        assert_eq!(row.known.signature, None, "another content than the branch has by now is not confirmed");
        state.confirm_files(folder, &[confirmed]).unwrap();
        let row = state.file(folder, &local("x/y")).unwrap().unwrap();
        assert_eq!((row.known.signature, row.known.racy), (Some(signature), true));
        assert!(!row.holds(3, &Digests { sha256: Some([2; 32]), xxh3: 7 }), "from here on both hashes count");
    }

    #[test]
    fn what_a_later_listing_does_not_show_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        assert_eq!(state.listing(folder).unwrap(), Listing::default());
        let (same, other, lost) = (listed("same", 1, 1), listed("other", 1, 1), listed("lost", 1, 1));
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        state.begin_listing(folder).unwrap();
        state.list_files(folder, &[same.clone(), other.clone(), lost.clone()]).unwrap();
        assert_eq!(state.end_listing(folder, "c1").unwrap(), 0);
        for path in [&same, &other, &lost].map(|listed| listed.files[0].1.clone()) {
            let digests = Digests { sha256: Some([1; 32]), xxh3: 1 };
            state.confirm_files(folder, &[Confirmed { path, signature, digests, racy: false }]).unwrap();
        }
        state.advance_head(folder, "c0", "c2").unwrap();
        assert_eq!(
            state.listing(folder).unwrap().head.as_deref(),
            Some("c1"),
            "another's commit lies between"
        );
        state.advance_head(folder, "c1", "c2").unwrap();
        assert_eq!(state.listing(folder).unwrap().head.as_deref(), Some("c2"));

        state.begin_listing(folder).unwrap();
        assert!(!state.listing(folder).unwrap().is_whole);
        state.list_files(folder, &[same, listed("other", 1, 2)]).unwrap();
        state.end_listing(folder, "c9").unwrap();
        let signature_of = |path| state.file(folder, &local(path)).unwrap().map(|row| row.known.signature);
        assert_eq!(signature_of("same"), Some(Some(signature)));
        assert_eq!(signature_of("other"), Some(None), "known by the branch's content alone");
        assert_eq!(signature_of("lost"), None);
        assert!(state.listing(folder).unwrap().is_whole);
    }

    #[test]
    fn a_batch_that_is_closed_leaves_no_head_that_knows_less_than_the_rows() {
        use crate::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase};
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = State::open(dir.path(), "").unwrap();
        let folder = state.folder("a").unwrap();
        state.begin_listing(folder).unwrap();
        state.end_listing(folder, "c1").unwrap();
        let batch = BatchRow {
            id: 1,
            phase: Phase::Committing,
            transport: BatchTransport::Put,
            workspace: String::new(),
            message: String::new(),
        };
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        let digests = Digests { sha256: Some([1; 32]), xxh3: 1 };
        let kind = ChangeKind::Put { signature, digests, racy: false };
        let changes = [Change { path: local("x"), place: PlaceKey::default(), kind }];
        state.open_batch(folder, &batch, &changes, 0).unwrap();
        state.close_batch(folder, 1, None, &[], 0).unwrap();
        assert_eq!(state.listing(folder).unwrap().head.as_deref(), Some("c1"), "nothing came of it");
        state.open_batch(folder, &batch, &changes, 0).unwrap();
        state.close_batch(folder, 1, Some("c2"), &changes, 0).unwrap();
        assert_eq!(state.listing(folder).unwrap().head, None);
        state.set_head(folder, "c2").unwrap();
        assert_eq!(state.listing(folder).unwrap().head.as_deref(), Some("c2"));
    }
}
