//! What is asked over the socket, and answered.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Some folders of the config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Folders {
    /// Their paths as the config has them; all when none is given.
    #[serde(default)]
    pub folders: Vec<String>,
}

/// Which folders are to be paused, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pausing {
    /// Their paths as the config has them; all when none is given.
    #[serde(default)]
    pub folders: Vec<String>,
    /// In seconds; until someone resumes them when it is left out.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// Some files and directories.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Paths {
    /// Absolute; everything in every folder when none is given. A byte that is no UTF-8 is written as `%XX`, and so is `%`.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// One folder of the config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderName {
    /// The folder.
    pub path: String,
    /// Namespace and name of its repository.
    pub repo: String,
    /// The branch.
    pub branch: String,
}

/// `PATH → NAMESPACE/NAME@BRANCH`.
impl fmt::Display for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}@{}", self.path, self.repo, self.branch)
    }
}

/// What was done, for each folder that it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {
    /// The folders.
    pub folders: Vec<FolderDone>,
}

/// What was done to one folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderDone {
    /// The folder.
    pub folder: FolderName,
    /// How many files it concerned, where that is counted: those tried again, or let go.
    #[serde(default)]
    pub files: u64,
    /// Until when it is paused, RFC 3339, where it is for a time.
    #[serde(default)]
    pub until: Option<String>,
}

/// The number of something that takes its time, to ask for it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The number.
    pub ticket: u64,
}

/// How far a flush is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flushed {
    /// Whether every folder has come to its end.
    pub done: bool,
    /// The folders.
    pub folders: Vec<FolderFlushed>,
}

/// How far one folder is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderFlushed {
    /// The folder.
    pub folder: FolderName,
    /// Whether it has come to its end.
    pub done: bool,
    /// Why it cannot, where it cannot: what to do.
    #[serde(default)]
    pub failure: Option<String>,
    /// The last commit of this folder, once it is done; none where nothing of it was ever committed.
    #[serde(default)]
    pub commit: Option<String>,
    /// Files that are not on the branch, since something is wrong with them; see `failed`.
    #[serde(default)]
    pub failed: u64,
    /// Removals that the brake holds.
    #[serde(default)]
    pub held: u64,
}

impl FolderFlushed {
    /// Whether everything that was in the folder is on the branch.
    pub fn is_whole(&self) -> bool {
        self.done && self.failure.is_none() && self.failed == 0 && self.held == 0
    }
}

/// How far a comparison of branch and folder is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Whether every folder has come to its end.
    pub done: bool,
    /// The folders.
    pub folders: Vec<FolderVerified>,
}

/// How far one folder is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderVerified {
    /// The folder.
    pub folder: FolderName,
    /// Whether it has come to its end.
    pub done: bool,
    /// Why it cannot, where it cannot: what to do.
    #[serde(default)]
    pub failure: Option<String>,
    /// The commit that the folder was compared with.
    #[serde(default)]
    pub commit: Option<String>,
    /// Files of the folder that were read and hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not compared, since they are still being written, or wait for their batch.
    #[serde(default)]
    pub under_way: u64,
    /// Files that wait until their run is finished by a file of the name in `batch.marker`.
    #[serde(default)]
    pub held_back: u64,
    /// Files of the branch that the folder has no more and that the branch is to keep.
    #[serde(default)]
    pub kept: u64,
    /// Files of the branch that never were in this folder: another writer's.
    #[serde(default)]
    pub others: u64,
    /// How many files differ.
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

impl FolderVerified {
    /// Whether folder and branch were found to be the same.
    pub fn is_same(&self) -> bool {
        self.done && self.failure.is_none() && self.different == 0
    }
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Relative to the folder, printable.
    pub path: String,
    /// `missing` (the branch lacks it), `content` (the branch holds other bytes) or `extra` (the branch holds what the
    /// folder in mirror mode has no more).
    pub kind: String,
    /// What is known of it, and what to do.
    pub reason: String,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong and what to do.
    pub error: String,
}
