//! What the server's answers hold. Unknown fields are ignored, and missing ones tolerated where the rest is of
//! use without them.
//!
//! A server may be broken or not Oxen's. So ids are held to a form that every address and terminal can carry, and
//! lists to a length: in memory an entry takes far more than the two bytes that it can have in JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// The most commits in one answer.
const COMMITS_MAX: usize = 10_000;
/// The most parents of one commit.
const PARENTS_MAX: usize = 64;
/// The most entries, paths, branches or workspaces in one answer.
const LIST_MAX: usize = 200_000;
/// The largest content there can be, in bytes.
const SIZE_MAX: u64 = 1 << 60;
/// The longest id; those of oxen-server 0.65.2 have at most 36 characters.
const ID_LEN_MAX: usize = 256;

/// What `GET /api/health` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's version, if it tells.
    pub version: Option<String>,
    /// What its clock shows, to the second, if it tells.
    pub date: Option<jiff::Timestamp>,
}

/// The version of the server whose ways were measured, and that every test is run with.
pub const MEASURED_VERSION: &str = "0.65.2";

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
    #[serde(deserialize_with = "id")]
    pub commit_id: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Commit {
    /// 128 bits in hex, without leading zeros.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// Empty for the first commit.
    #[serde(default, deserialize_with = "list::<PARENTS_MAX, _, _>")]
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
    #[serde(deserialize_with = "list::<LIST_MAX, _, _>")]
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
    #[serde(deserialize_with = "list::<COMMITS_MAX, _, _>")]
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

impl WorkspaceBody {
    /// `None` for one that whoever made it gave an id that no address can carry.
    pub(super) fn into_workspace(self) -> Option<Workspace> {
        let is_plain = is_plain_id(&self.id) && is_plain_id(&self.commit.id);
        is_plain.then_some(Workspace { id: self.id, commit_id: self.commit.id })
    }
}

#[derive(Deserialize)]
pub(super) struct WorkspaceAnswer {
    pub workspace: WorkspaceBody,
}

#[derive(Deserialize)]
pub(super) struct WorkspacesAnswer {
    #[serde(deserialize_with = "list::<LIST_MAX, _, _>")]
    pub workspaces: Vec<WorkspaceBody>,
}

#[derive(Deserialize)]
pub(super) struct PathsAnswer {
    #[serde(deserialize_with = "list::<LIST_MAX, _, _>")]
    pub paths: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct EntryBody {
    filename: String,
    is_dir: bool,
    #[serde(deserialize_with = "size")]
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
            last_commit_id: body.latest_commit.map(|commit| commit.id).filter(|id| is_plain_id(id)),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct EntryAnswer {
    pub entry: EntryBody,
}

#[derive(Deserialize)]
pub(super) struct DirAnswer {
    #[serde(deserialize_with = "list::<LIST_MAX, _, _>")]
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
        #[serde(deserialize_with = "id")]
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

/// Whether a request's address can carry it as one segment that leads nowhere else, and a line can show it.
pub(super) fn is_plain_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=ID_LEN_MAX).contains(&id.len()) && id.bytes().all(is_plain) && !id.bytes().all(|byte| byte == b'.')
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if is_plain_id(&id) { Ok(id) } else { Err(de::Error::custom("an id that is none of Oxen's")) }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if size <= SIZE_MAX { Ok(size) } else { Err(de::Error::custom("a size that no file has")) }
}

/// A list of at most `MAX`.
fn list<'de, const MAX: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<const MAX: usize, T>(PhantomData<T>);
    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(AtMost::<MAX, T>(PhantomData))
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
    fn what_no_server_of_oxens_says_is_refused() {
        let file = |size| json!({"filename": "a", "hash": "1", "is_dir": false, "size": size});
        assert!(from_value::<EntryBody>(file(json!(SIZE_MAX))).is_ok());
        for size in [json!(-1), json!(u64::MAX), json!(1.5), json!("1"), json!(null)] {
            assert!(from_value::<EntryBody>(file(size)).is_err());
        }
        for id in ["", ".", "..", "a/b", "../x", "a\nb", "a b", "a%2Fb", "\u{202e}", &"a".repeat(257)] {
            assert!(from_value::<Branch>(json!({"name": "main", "commit_id": id})).is_err(), "{id}");
            assert!(from_value::<Commit>(json!({"id": id})).is_err(), "{id}");
            let parts = json!({"file": "awaiting_parts", "upload_id": id, "part_size": 1, "num_parts": 1});
            assert!(from_value::<UploadAnswer>(parts).is_err(), "{id}");
            let workspace = json!({"id": id, "commit": {"id": "c0ffee"}});
            assert_eq!(from_value::<WorkspaceBody>(workspace).unwrap().into_workspace(), None, "{id}");
            let mut entry = file(json!(1));
            entry["latest_commit"] = json!({ "id": id });
            assert_eq!(Entry::from(from_value::<EntryBody>(entry).unwrap()).last_commit_id, None, "{id}");
        }
        let commits = |count: usize| json!({"commits": vec![json!({"id": "1"}); count]});
        assert!(from_value::<HistoryAnswer>(commits(COMMITS_MAX)).is_ok());
        assert!(from_value::<HistoryAnswer>(commits(COMMITS_MAX + 1)).is_err());
        assert!(from_value::<PathsAnswer>(json!({"paths": vec![""; LIST_MAX + 1]})).is_err());
        let parents = json!({"id": "1", "parent_ids": vec!["0"; PARENTS_MAX + 1]});
        assert!(from_value::<Commit>(parents).is_err());
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
