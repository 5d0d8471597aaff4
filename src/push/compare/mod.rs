//! Compares all of a folder with all of its branch, hash by hash. Changes nothing, neither here nor there.

mod branch;
mod folder;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::content::Calls;
use crate::folder::Runs;
use crate::oxen::{BranchName, Client, Error, RepoName};
use crate::path::LocalPath;
use crate::state::{FolderKey, Places, State, StateError};

/// Differences that are kept; more are only counted.
const DIFFERENCES_MAX: usize = 1_000;

/// What is compared with what.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The folder, absolute.
    pub path: PathBuf,
    /// Its number in the state.
    pub folder: FolderKey,
    /// Where its files stand on the branch.
    pub places: Arc<Places>,
    /// Patterns of what is left out, in order.
    pub exclude: Vec<String>,
    /// Patterns of what alone counts; none for everything.
    pub include: Vec<String>,
    /// The name of the file that finishes a run.
    pub marker: Option<String>,
    /// Whether what is gone from the folder goes from the branch.
    pub mirror: bool,
    /// How long a file that has changed may take until it is on the branch.
    pub patience: Duration,
    /// The server.
    pub client: Client,
    /// The repository.
    pub repo: RepoName,
    /// The branch.
    pub branch: BranchName,
    /// Requests under way at once.
    pub concurrency: usize,
    /// What is known.
    pub state: State,
    /// Counts the calls into the folder.
    pub calls: Arc<Calls>,
}

/// What was found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// The commit that is compared.
    pub commit: Option<String>,
    /// Files of the folder that were read and hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are being written, or have changed so lately that they may be on their way.
    pub under_way: u64,
    /// Files that wait until their run is finished.
    pub held_back: u64,
    /// Files of the branch that are gone from the folder and that it is to keep.
    pub kept: u64,
    /// Files of the branch that never were in the folder.
    pub others: u64,
    /// Files that differ.
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file.
    pub path: LocalPath,
    /// In what.
    pub kind: DifferenceKind,
    /// What is known of it, and what to do.
    pub reason: String,
}

/// In what a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The branch lacks it.
    Missing,
    /// The branch holds other bytes.
    Content,
    /// The branch holds what the folder in mirror mode has no more.
    Extra,
}

impl DifferenceKind {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Content => "content",
            Self::Extra => "extra",
        }
    }
}

/// Why it cannot be compared to the end.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The server does not say.
    #[error(transparent)]
    Server(#[from] Error),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The folder cannot be read.
    #[error("the folder cannot be read: {0}")]
    Folder(String),
    /// The branch is not there.
    #[error("the repository {0} has no branch {1}; a first push makes it")]
    NoBranch(RepoName, BranchName),
    /// A step inside failed.
    #[error("an internal step failed: {0}")]
    Inside(String),
}

impl Comparison {
    /// Whether a file waits for the marker of its run.
    fn is_of_unfinished_run(&self, path: &LocalPath) -> Result<bool, StateError> {
        let Some(marker) = &self.marker else { return Ok(false) };
        let is_here =
            |marker: &LocalPath| Ok(self.state.file(self.folder, marker)?.is_some_and(|row| row.is_here()));
        Runs::new(marker).holds_back(path, is_here)
    }
}

impl Compared {
    fn differs(&mut self, path: LocalPath, kind: DifferenceKind, reason: impl Into<String>) {
        self.different += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference { path, kind, reason: reason.into() });
        }
    }
}

/// Compares, and tells of the progress.
///
/// # Errors
/// See [`CompareError`].
pub async fn compare(
    comparison: &Comparison,
    progress: impl Fn(&Compared),
) -> Result<Compared, CompareError> {
    let Comparison { client, repo, branch, .. } = comparison;
    let head = client.branch(repo, branch).await?;
    let head = head.ok_or_else(|| CompareError::NoBranch(repo.clone(), branch.clone()))?.commit_id;
    let mut compared = Compared { commit: Some(head.clone()), ..Compared::default() };
    progress(&compared);
    folder::compare(comparison, &head, &mut compared, &progress).await?;
    branch::compare(comparison, &head, &mut compared, &progress).await?;
    compared.differences.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(compared)
}

/// Runs `work` where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CompareError> + Send + 'static,
) -> Result<T, CompareError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(CompareError::Inside(error.to_string())),
    }
}
