//! What the server's answers hold. Unknown fields are ignored, and missing ones tolerated where the rest is of
//! use without them.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// What `GET /api/health` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's version, if it tells.
    pub version: Option<String>,
}

/// Whether creating made something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was not there before.
    New,
    /// It was there already and is left as it was.
    Existed,
}

/// A branch and the commit it points to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Branch {
    /// The whole name, slashes included.
    pub name: String,
    /// The head commit.
    pub commit_id: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Commit {
    /// 128 bits in hex, without leading zeros.
    pub id: String,
    /// Empty for the first commit.
    #[serde(default)]
    pub parent_ids: Vec<String>,
    /// The message as it was sent.
    #[serde(default)]
    pub message: String,
    /// The author's name.
    #[serde(default)]
    pub author: String,
    /// The author's address.
    #[serde(default)]
    pub email: String,
    /// RFC 3339, by the server's clock.
    #[serde(default)]
    pub timestamp: String,
}

/// A place on the server where changes wait for their commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The id it was opened with.
    pub id: String,
    /// The commit that it was opened on; one that was there already keeps its own.
    pub commit_id: String,
}

/// A file or directory on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last segment of its path; empty for the root.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The content's length in bytes; for a directory, that of all below it.
    pub size: u64,
    /// XXH3-128 of a file's content; `None` for a directory.
    pub xxh3: Option<u128>,
    /// The commit that changed it last, if the server tells.
    pub last_commit_id: Option<String>,
}

/// One page of a directory: directories first, then files, each by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirPage {
    /// The entries of this page, one level.
    pub entries: Vec<Entry>,
    /// How many pages there are at this page size.
    pub total_pages: usize,
    /// How many entries there are on all pages.
    pub total_entries: usize,
}

#[derive(Deserialize)]
pub(super) struct BranchAnswer {
    pub branch: Branch,
}

#[derive(Deserialize)]
pub(super) struct BranchesAnswer {
    pub branches: Vec<Branch>,
}

/// Any of the places where an answer to a commit holds the commit: the guide describes a `file` that knows it.
#[derive(Deserialize)]
pub(super) struct CommitAnswer {
    commit: Option<Commit>,
    file: Option<FileAnswer>,
}

#[derive(Deserialize)]
struct FileAnswer {
    commit: Option<Commit>,
    latest_commit: Option<Commit>,
}

impl CommitAnswer {
    pub(super) fn into_commit(self) -> Option<Commit> {
        self.commit.or_else(|| self.file.and_then(|file| file.commit.or(file.latest_commit)))
    }
}

#[derive(Deserialize)]
pub(super) struct HistoryAnswer {
    pub commits: Vec<Commit>,
}

#[derive(Deserialize)]
struct CommitId {
    id: String,
}

#[derive(Deserialize)]
pub(super) struct WorkspaceBody {
    id: String,
    commit: CommitId,
}

impl From<WorkspaceBody> for Workspace {
    fn from(body: WorkspaceBody) -> Self {
        Self { id: body.id, commit_id: body.commit.id }
    }
}

#[derive(Deserialize)]
pub(super) struct WorkspaceAnswer {
    pub workspace: WorkspaceBody,
}

#[derive(Deserialize)]
pub(super) struct WorkspacesAnswer {
    pub workspaces: Vec<WorkspaceBody>,
}

#[derive(Deserialize)]
pub(super) struct PathsAnswer {
    pub paths: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct EntryBody {
    filename: String,
    is_dir: bool,
    size: u64,
    hash: Hash,
    latest_commit: Option<CommitId>,
}

impl From<EntryBody> for Entry {
    fn from(body: EntryBody) -> Self {
        Self {
            name: body.filename,
            is_dir: body.is_dir,
            size: body.size,
            xxh3: (!body.is_dir).then_some(body.hash.0),
            last_commit_id: body.latest_commit.map(|commit| commit.id),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct EntryAnswer {
    pub entry: EntryBody,
}

#[derive(Deserialize)]
pub(super) struct DirAnswer {
    entries: Vec<EntryBody>,
    #[serde(default)]
    total_pages: usize,
    #[serde(default)]
    total_entries: usize,
}

impl From<DirAnswer> for DirPage {
    fn from(answer: DirAnswer) -> Self {
        Self {
            entries: answer.entries.into_iter().map(Entry::from).collect(),
            total_pages: answer.total_pages,
            total_entries: answer.total_entries,
        }
    }
}

/// Both answers to the beginning of an upload, told apart by `file`.
#[derive(Deserialize)]
#[serde(tag = "file", rename_all = "snake_case")]
pub(super) enum UploadAnswer {
    AlreadyStored,
    AwaitingParts {
        upload_id: String,
        part_size: u64,
        num_parts: u64,
        /// An answer without a window allows one part at a time.
        #[serde(default = "one")]
        part_window: u64,
    },
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
pub(super) struct PartAnswer {
    pub completed: bool,
}

/// XXH3-128 in hex, with or without leading zeros.
struct Hash(u128);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("128 bits in hex")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash, E> {
                u128::from_str_radix(text, 16)
                    .map(Hash)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// Who writes a repository's first commit.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct User<'a> {
    pub name: &'a str,
    pub email: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn an_entry_is_read_from_what_the_server_sends() {
        let sent = json!({"status": "success", "status_message": "resource_found", "entry": {
            "filename": "a.txt", "hash": "abc", "is_dir": false, "size": 3, "data_type": "text",
            "latest_commit": {"id": "c0ffee", "parent_ids": [], "message": "m"}, "later_field": {"x": 1}}});
        let entry = Entry::from(from_value::<EntryAnswer>(sent).unwrap().entry);
        let expected = Entry {
            name: "a.txt".into(),
            is_dir: false,
            size: 3,
            xxh3: Some(0xabc),
            last_commit_id: Some("c0ffee".into()),
        };
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_directorys_hash_is_not_one_of_content() {
        let sent = json!({"filename": "d", "hash": "1", "is_dir": true, "size": 0});
        let entry = Entry::from(from_value::<EntryBody>(sent).unwrap());
        assert_eq!((entry.xxh3, entry.last_commit_id), (None, None));
    }

    #[test]
    fn a_hash_that_is_not_hex_is_refused() {
        let sent = json!({"filename": "a", "hash": "xyz", "is_dir": false, "size": 0});
        assert!(from_value::<EntryBody>(sent).is_err());
    }

    #[test]
    fn a_commit_is_found_in_both_forms_of_answer() {
        let commit = json!({"id": "1", "parent_ids": ["0"], "message": "m", "author": "a", "email": "e",
            "timestamp": "2025-01-01T10:00:00Z"});
        for sent in [
            json!({"commit": commit}),
            json!({"file": {"hash": "2", "latest_commit": commit}}),
            json!({"file": {"commit": commit}}),
        ] {
            let found = from_value::<CommitAnswer>(sent).unwrap().into_commit().unwrap();
            assert_eq!((found.id.as_str(), found.parent_ids), ("1", vec!["0".to_owned()]));
        }
        assert!(from_value::<CommitAnswer>(json!({"file": {"hash": "2"}})).unwrap().into_commit().is_none());
    }

    #[test]
    fn an_upload_is_stored_or_waits_for_parts() {
        let sent = json!({"status": "success", "file": "already_stored"});
        assert!(matches!(from_value(sent).unwrap(), UploadAnswer::AlreadyStored));
        let sent = json!({"file": "awaiting_parts", "upload_id": "u", "part_size": 10, "num_parts": 2, "part_window": 4});
        let UploadAnswer::AwaitingParts { part_window: 4, num_parts: 2, .. } = from_value(sent).unwrap()
        else {
            panic!("parts are awaited");
        };
    }
}
